"""Sums over the neurons that join a kept set between one size and the next, for many chains of nested sets at once.

Walking along a random order of the neurons would fetch their features from all over memory. Here the neurons are
read once, in their own order, and each is added in every chain to the sum of the step at which it joins; these sums
stay in the cache, and their cumulative sums are those over the kept sets.
"""

from __future__ import annotations

from meanfield.kernels._jit import jit

__all__ = ["TILE", "joining_sums"]

# Samples along the vector lanes. A compile-time constant: the innermost loop is unrolled.
TILE = 128


@jit
def joining_sums(sums, features, weights, joins):
    """Overwrite sums[p, k, c] with the sum of a_ci h_i over the neurons i with joins[p, i] = k.

    ``sums`` is (chains, sizes, outputs, TILE), ``features`` (neurons, TILE), ``weights`` (outputs, neurons) and
    ``joins`` (chains, neurons); neurons that join at no size have a number of at least ``sums.shape[1]``.
    """
    n_chains, n_sizes, n_outputs = sums.shape[0], sums.shape[1], sums.shape[2]
    sums[:] = 0
    for i in range(features.shape[0]):
        for p in range(n_chains):
            k = joins[p, i]
            if k < n_sizes:
                for c in range(n_outputs):
                    a = weights[c, i]
                    for j in range(TILE):
                        sums[p, k, c, j] += a * features[i, j]
