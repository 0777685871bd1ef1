"""The loss of every set in chains A_1 c A_2 c .. of kept neurons, from one walk over the neurons a chain.

With f_i scaled so that y_hat = mean_i f_i + bias, keeping the m neurons of A gives

    y_hat_A(x) = (1/m) sum_{i in A} f_i(x) + bias.

The neurons are those of the last hidden layer, all below it whole. The sums over A_1, A_2, .. are the cumulative sums
of those over the neurons that join at each size: O(N n) for all sizes of a chain together, any loss. Memory is that of
a forward pass, one chunk of samples a thread, and the sums over a tile of samples: N n numbers are never held.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from meanfield.kernels.blas import single_threaded_blas
from meanfield.kernels.nested import TILE, joining_sums
from meanfield.landscape.dropout_moments import in_order
from meanfield.landscape.evaluation import Evaluation, Spread
from meanfield.model.losses import per_sample_loss
from meanfield.model.network import Network, row_chunks

__all__ = ["NestedChanges", "nested_changes"]

# Sums of as many chains at once as stay in a core's second-level cache.
SUMS_AT_ONCE = 2**15

Array = NDArray[np.floating[Any]]


class NestedChanges(NamedTuple):
    """L_A - L for P chains of sets of S sizes."""

    changes: Array  # (P, S): means over the samples
    sampling_variance: Array  # (S,): of the mean over chains, from the samples; 0 for a whole population
    risk: float  # L


class _ChunkChanges(NamedTuple):
    """Of one chunk of s samples."""

    total: Array  # (P, S): sums over the samples
    by_sample: Array  # (S, s): means over the chains
    whole: Array  # (s,): losses of the whole network


def nested_changes(
    network: Network, evaluation: Evaluation, sizes: NDArray[np.intp], joins: NDArray[np.uint32]
) -> NestedChanges:
    """Return what keeping the sets of P chains does to the loss, sets of the last hidden layer.

    Keeping all neurons changes nothing, exactly.

    Parameters
    ----------
    sizes : (S,), increasing
    joins : (P, N), in C order: neuron i is in the sets from size number joins[p, i] on; S means in none
    """
    work = partial(_chunk_changes, network, evaluation, sizes, joins)
    total, spread, risk = np.zeros((len(joins), sizes.size)), Spread(), 0.0
    n_samples = len(evaluation.x)
    with single_threaded_blas():
        for chunk in in_order(work, row_chunks(n_samples)):
            total += chunk.total
            spread.add(chunk.by_sample)
            risk += float(chunk.whole.sum())
    variance = spread.squares / (n_samples * max(n_samples - 1, 1))
    variance = np.zeros(sizes.size) if evaluation.method == "exact" else variance
    return NestedChanges(total / n_samples, variance, risk / n_samples)


def _chunk_changes(
    network: Network, evaluation: Evaluation, sizes: NDArray[np.intp], joins: NDArray[np.uint32], rows: slice
) -> _ChunkChanges:
    x, y, loss = evaluation.x[rows], evaluation.y[rows], evaluation.loss
    features = network.features(x, network.n_hidden)
    whole = per_sample_loss(loss, y, network.readout(features))
    total, by_sample = np.zeros((len(joins), sizes.size)), np.zeros((sizes.size, len(x)))
    for tile in _slices(len(x), TILE):
        for chains, outputs in _kept_outputs(network, features[tile], sizes, joins):
            change = _losses(loss, y[tile], outputs) - whole[tile]
            # In another order the neurons would add up to other bits.
            change[:, sizes == network.widths[-2]] = 0.0
            total[chains] += change.sum(axis=2)
            by_sample[:, tile] += change.sum(axis=0) / len(joins)
    return _ChunkChanges(total, by_sample, whole)


def _kept_outputs(
    network: Network, features: Array, sizes: NDArray[np.intp], joins: NDArray[np.uint32]
) -> Iterator[tuple[slice, Array]]:
    """Yield slices of the chains and y_hat_A of their sets on a tile of samples, (chains, S, samples, C)."""
    n_samples, n_neurons = features.shape
    padded = np.zeros((n_neurons, TILE), features.dtype)
    padded[:, :n_samples] = features.T
    weights = network.weights[-1] * network.dtype.type(n_neurons * network.factor(network.n_hidden))
    bias = 0.0 if network.biases is None else network.biases[-1].astype(np.float64)
    for chains in _slices(len(joins), _chains_at_once(sizes.size * len(weights))):
        sums = np.empty((chains.stop - chains.start, sizes.size, len(weights), TILE), features.dtype)
        joining_sums(sums, padded, weights, joins[chains])
        means = sums[..., :n_samples].cumsum(axis=1, dtype=np.float64)
        means /= sizes[:, np.newaxis, np.newaxis]
        yield chains, means.swapaxes(2, 3) + bias


def _losses(loss: str, y: Array, outputs: Array) -> Array:
    """Return the loss of each sample (chains, S, samples) for outputs (chains, S, samples, C)."""
    targets = np.broadcast_to(y, outputs.shape).reshape(-1, y.shape[1])
    return per_sample_loss(loss, targets, outputs.reshape(targets.shape)).reshape(outputs.shape[:-1])


def _chains_at_once(sums_a_sample: int) -> int:
    """Return how many chains with ``sums_a_sample`` sums for each sample are worked on together, at least one."""
    return max(1, SUMS_AT_ONCE // (sums_a_sample * TILE))


def _slices(n: int, step: int) -> Iterator[slice]:
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))
