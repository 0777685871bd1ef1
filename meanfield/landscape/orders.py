"""What keeping random sets of neurons does to the loss: any loss, any depth, all sizes from the same random orders.

The first m neurons of a uniformly random order are a uniformly random set of m. One order of the neurons of each
hidden layer thus gives kept sets of every size, nested as m grows: sets of different sizes in one order are dependent,
which makes a curve in m smooth, while different orders are independent, so that at each size the orders are the units.
Sets of the last hidden layer alone take one walk over its neurons an order (`meanfield.landscape.nested`); where
neurons of a lower layer are dropped, each order and entry takes a forward pass of the kept network.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from meanfield.kernels.blas import single_threaded_blas
from meanfield.landscape.counts import Counts, Entry, by_layer, only_last_dropped
from meanfield.landscape.dropout_moments import in_order
from meanfield.landscape.evaluation import Evaluation
from meanfield.landscape.nested import nested_changes
from meanfield.model.network import Network

__all__ = ["DrawnChanges", "drawn_changes", "random_joins", "random_ranks"]

Array = NDArray[np.floating[Any]]
Ranks = list[NDArray[np.uint32]]


class DrawnChanges(NamedTuple):
    """L_A - L of P random sets for each of M entries of n_kept."""

    changes: Array  # (P, M): means over the samples; rows are independent, entries of a row need not be
    sampling_variance: Array  # (M,): of the mean over rows, from the samples; 0 for a whole population
    risk: float  # L

    @property
    def standard_error(self) -> Array:
        """Standard error of the mean over rows, (M,): rows crossed with samples, the two variances add up."""
        return np.sqrt(self.changes.var(axis=0, ddof=1) / len(self.changes) + self.sampling_variance)


def drawn_changes(
    network: Network, evaluation: Evaluation, entries: Sequence[Entry], n_draws: int, rng: np.random.Generator
) -> DrawnChanges:
    """Return L_A - L for ``n_draws`` uniformly random sets of each entry's size, nested over the entries.

    Keeping all neurons changes nothing, exactly.
    """
    ranks = random_ranks(network.widths[1:-1], n_draws, rng)
    counts = [by_layer(network, entry) for entry in entries]
    walked = np.array([only_last_dropped(network, entry) for entry in entries])
    changes, variance, risk = np.empty((n_draws, len(counts)), order="F"), np.empty(len(counts)), 0.0
    for measure, columns in ((_of_last_layer, walked), (_of_all_layers, ~walked)):
        if columns.any():
            chosen = [counts[column] for column in np.flatnonzero(columns)]
            changes[:, columns], variance[columns], risk = measure(network, evaluation, chosen, ranks)
    return DrawnChanges(changes, variance, risk)


def random_ranks(hidden: Sequence[int], n_orders: int, rng: np.random.Generator) -> Ranks:
    """Return the place of each neuron in random orders, (n_orders, n_l) for each of the ``hidden`` widths n_l.

    Order k is the same however many are drawn.
    """
    ranks = [np.empty((n_orders, n), np.uint32) for n in hidden]
    for order in zip(*ranks, strict=True):
        for of_layer in order:
            of_layer[:] = rng.permutation(of_layer.size)
    return ranks


def random_joins(
    n_neurons: int, sizes: NDArray[np.intp], n_orders: int, rng: np.random.Generator
) -> NDArray[np.uint32]:
    """Return for each of ``n_orders`` random orders the number of the first of ``sizes`` that holds neuron i.

    Shape (n_orders, n_neurons), for `nested_changes`; order k is the same however many are drawn.
    """
    return _joins(sizes, *random_ranks([n_neurons], n_orders, rng))


def _joins(sizes: NDArray[np.intp], ranks: NDArray[np.uint32]) -> NDArray[np.uint32]:
    size_of_rank = np.searchsorted(sizes, np.arange(ranks.shape[1]), side="right").astype(np.uint32)
    return size_of_rank[ranks]


def _of_last_layer(network: Network, evaluation: Evaluation, counts: list[Counts], ranks: Ranks) -> DrawnChanges:
    sizes, columns = np.unique([of_layer[-1] for of_layer in counts], return_inverse=True)
    nested = nested_changes(network, evaluation, sizes, _joins(sizes, ranks[-1]))
    return DrawnChanges(nested.changes[:, columns], nested.sampling_variance[columns], nested.risk)


def _of_all_layers(network: Network, evaluation: Evaluation, counts: list[Counts], ranks: Ranks) -> DrawnChanges:
    n_draws = len(ranks[0])
    changes, by_sample = np.empty((n_draws, len(counts))), np.zeros((len(counts), len(evaluation.x)))
    # Pinned once: each small forward pass would do it anew.
    with single_threaded_blas():
        losses = evaluation.losses(network)
        work = partial(_changes_of_order, network, evaluation, losses, counts)
        for row, change in zip(changes, in_order(work, zip(*ranks, strict=True)), strict=True):
            row[:] = change.mean(axis=1)
            by_sample += change / n_draws
    variance = np.array([evaluation.variance_of_mean(row) for row in by_sample])
    return DrawnChanges(changes, variance, float(losses.mean()))


def _changes_of_order(
    network: Network, evaluation: Evaluation, losses: Array, counts: list[Counts], order: tuple[NDArray[np.uint32], ...]
) -> Array:
    """Return L_A - L of each sample (M, n), where the first neurons of one order of each layer are kept."""
    changes = np.empty((len(counts), losses.size))
    for row, sizes in zip(changes, counts, strict=True):
        kept = [np.flatnonzero(rank < m) for rank, m in zip(order, sizes, strict=True)]
        row[:] = evaluation.losses(network.keep(kept)) - losses
    return changes
