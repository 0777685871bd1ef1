"""The loss of sets of one hidden layer under those kept above it, and the searches among them.

phi_l is the loss after dropping layers l..H, one of the vertices of a path. With v_i the weights from neuron i of
layer l to the kept neurons of the next one, or to the outputs, a set A of m neurons gives

    z_A = (1/m) sum_{i in A} v_i h_i + b,      phi_l(A) = loss of what the layers above make of z_A:

one neuron more, or another in its place, adds an outer product to the sum. That holds for any loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meanfield.checks import check_rng
from meanfield.kernels.blas import single_threaded_blas
from meanfield.landscape.dropout_moments import in_order
from meanfield.landscape.evaluation import Evaluation, check_no_overflow
from meanfield.landscape.sweeps import sweep_until_settled
from meanfield.model.losses import per_sample_loss
from meanfield.model.network import Network, row_chunks

__all__ = ["Candidates", "KeptLayer", "check_held", "exchange_in_layer", "select_in_layer"]

# Gains below this many units in the last place of the loss are rounding: a search that took them could go in circles.
ROUNDING_UNITS = 100

Array = NDArray[np.floating[Any]]
Indices = NDArray[np.intp]


class KeptLayer:
    """phi_l of sets of hidden layer ``layer``, given those kept ``above`` it.

    Holds the features of the layer on the n samples, (n, n_l), and sums of v_i h_i over a set, (n, K), where K is the
    number of neurons kept in the next layer, or of outputs; all else is a chunk of samples a thread.

    See Also
    --------
    check_held : refuses what takes too much memory.
    """

    def __init__(self, network: Network, evaluation: Evaluation, layer: int, above: Sequence[Indices]) -> None:
        whole = [np.arange(n) for n in network.widths[1 : layer + 1]]
        self._kept, self._layer, self._evaluation = network.keep([*whole, *above]), layer, evaluation
        self._features = np.empty((len(evaluation.x), self.n_neurons), network.dtype)
        for rows in row_chunks(len(evaluation.x)):
            self._features[rows] = network.features(evaluation.x[rows], layer)
        scale = self.n_neurons * self._kept.factor(layer)
        self._weights = self._kept.weights[layer] * network.dtype.type(scale)

    @property
    def n_neurons(self) -> int:
        """n_l."""
        return self._kept.widths[self._layer]

    def sums(self, neurons: Indices) -> Array:
        """Return the sums of v_i h_i over ``neurons``, (n, K)."""
        sums = np.empty((len(self._features), len(self._weights)), self._weights.dtype)
        with single_threaded_blas():
            for rows in row_chunks(len(sums)):
                np.matmul(self._features[rows, neurons], self._weights[:, neurons].T, out=sums[rows])
        return sums

    def update(self, sums: Array, joining: int, leaving: int | None = None) -> None:
        """Add v_i h_i of the neuron ``joining`` to ``sums`` (n, K), in place of that ``leaving``."""
        for rows in row_chunks(len(sums)):
            if leaving is not None:
                sums[rows] -= self._part(rows, leaving)
            sums[rows] += self._part(rows, joining)

    def losses(self, sums: Array, n_kept: int, joining: Indices, leaving: int | None = None) -> NDArray[np.float64]:
        """Return phi_l for each of ``joining``: of the set with these ``sums`` and that neuron, ``n_kept`` together.

        Where a neuron is ``leaving``, it is in the sums and not in the set. ArithmeticError where outputs overflow.
        """
        work = partial(self._chunk_losses, sums, n_kept, joining, leaving)
        totals = np.sum(list(in_order(work, row_chunks(len(sums)))), axis=0)
        check_no_overflow("the loss of a kept set", totals)
        return totals / len(sums)

    @property
    def rounding(self) -> float:
        """Part of a loss that is rounding."""
        return ROUNDING_UNITS * float(np.finfo(self._weights.dtype).eps)

    def _part(self, rows: slice, neuron: int) -> Array:
        """Return v_i h_i of one neuron on one chunk of samples."""
        return np.outer(self._features[rows, neuron], self._weights[:, neuron])

    @np.errstate(over="ignore", invalid="ignore")
    def _chunk_losses(
        self, sums: Array, n_kept: int, joining: Indices, leaving: int | None, rows: slice
    ) -> NDArray[np.float64]:
        y, features = self._evaluation.y[rows], self._features[rows]
        without = (sums[rows] if leaving is None else sums[rows] - self._part(rows, leaving)) / n_kept
        if self._kept.biases is not None:
            without += self._kept.biases[self._layer]
        totals, z = np.empty(joining.size), np.empty_like(without)
        for place, neuron in enumerate(joining):
            np.multiply.outer(features[:, neuron], self._weights[:, neuron] / n_kept, out=z)
            z += without
            totals[place] = per_sample_loss(self._evaluation.loss, y, self._outputs(z)).sum()
        return totals

    def _outputs(self, z: Array) -> Array:
        """Return y_hat for z_A."""
        for layer in range(self._layer + 1, self._kept.n_hidden + 1):
            z = self._kept.affine(self._kept.activate(z), layer)
        return z


def check_held(network: Network, layer: int, n_above: int, n_samples: int, max_bytes: float) -> None:
    """Raise if what a `KeptLayer` holds, with ``n_above`` neurons kept in the next layer, is above ``max_bytes``."""
    held = network.widths[layer] + n_above
    if (needed := network.dtype.itemsize * n_samples * held) > max_bytes:
        raise ValueError(
            f"a search in hidden layer {layer} holds features of {n_samples:,} samples, {needed:,} bytes, "
            f"above max_bytes={max_bytes:,.0f}: allow more, or pass fewer samples"
        )


class Candidates:
    """Draws the neurons that a step of a search tries: ``n_candidates`` of those free, or all where there are fewer."""

    def __init__(self, n_candidates: int, rng: np.random.Generator | None) -> None:
        self._n_candidates, self._rng = n_candidates, rng

    def among(self, free: NDArray[np.bool_]) -> Indices:
        """Return distinct neurons of the mask ``free``, in increasing order.

        Raises
        ------
        TypeError : no generator where neurons are drawn
        """
        pool = np.flatnonzero(free)
        if pool.size <= self._n_candidates:
            return pool
        rng = check_rng(self._rng, "a search among drawn candidates")
        return np.sort(rng.choice(pool, self._n_candidates, replace=False))


def select_in_layer(layer: KeptLayer, n_kept: int, candidates: Candidates, *, worst: bool = False) -> Indices:
    """Return ``n_kept`` neurons in the order in which each gives the least phi_l, of its candidates, with those before.

    With ``worst`` each gives the largest. The first of equals.
    """
    sign, free, order = (-1.0 if worst else 1.0), np.ones(layer.n_neurons, np.bool_), np.empty(n_kept, np.intp)
    sums = layer.sums(order[:0])
    # Pinned once: each small product would do it anew.
    with single_threaded_blas():
        for m in range(1, n_kept + 1):
            pool = candidates.among(free)
            best = pool[(sign * layer.losses(sums, m, pool)).argmin()]
            layer.update(sums, best)
            free[best], order[m - 1] = False, best
    return order


def exchange_in_layer(layer: KeptLayer, kept: Indices, candidates: Candidates, max_sweeps: int) -> Indices:
    """Return a set reached from ``kept`` by exchanges of one neuron that lower phi_l, until a sweep finds none.

    A sweep offers each kept neuron the best of its candidates in its place. After ``max_sweeps`` sweeps with an
    exchange each the search ends with a warning.
    """
    chosen = kept.copy()
    free = np.ones(layer.n_neurons, np.bool_)
    free[chosen] = False
    if not free.any():
        return chosen
    with single_threaded_blas():
        sweep_until_settled(partial(_sweep, layer, chosen, free, candidates), max_sweeps)
    return chosen


def _sweep(layer: KeptLayer, chosen: Indices, free: NDArray[np.bool_], candidates: Candidates) -> bool:
    """Exchange where it lowers phi_l, updating ``chosen`` and ``free``; return whether any exchange was made."""
    improved, sums = False, layer.sums(chosen)
    for place, neuron in enumerate(chosen):
        pool = np.concatenate([[neuron], candidates.among(free)])
        losses = layer.losses(sums, chosen.size, pool, leaving=neuron)
        best = pool[losses.argmin()]
        if losses[0] - losses.min() > layer.rounding * losses[0]:
            layer.update(sums, best, leaving=neuron)
            chosen[place], free[neuron], free[best] = best, True, False
            improved = True
    return improved
