"""The searches among sets of kept neurons that `meanfield.landscape.subsets` offers by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meanfield.checks import check_choice, check_rng
from meanfield.landscape.evaluation import Evaluation
from meanfield.landscape.nested import nested_changes
from meanfield.landscape.orders import random_joins
from meanfield.landscape.quadratic import (
    QuadraticForm,
    exchange_neurons,
    quadratic_form,
    select_forward,
    table_bytes,
)
from meanfield.model.network import Network

__all__ = ["MOST_TRIED", "SQUARE_ONLY", "SUBSET_METHODS", "Search", "check_table", "largest_norms"]

# What "exhaustive" may try, counted in neurons: sets times N. All sets of any one size up to N = 20.
MOST_TRIED = 4_000_000

Indices = NDArray[np.intp]


@dataclass
class Search:
    """Chooses sets of given ``sizes`` (increasing) by the loss on ``evaluation``; what methods share is kept."""

    network: Network
    evaluation: Evaluation
    sizes: Indices
    n_subsets: int
    max_sweeps: int
    max_bytes: float
    rng: np.random.Generator | None

    @property
    def n_neurons(self) -> int:
        """N."""
        return self.network.widths[1]

    @cached_property
    def joins(self) -> NDArray[np.uint32]:
        """Random orders of the neurons, as `random_joins` has them."""
        return random_joins(self.n_neurons, self.sizes, self.n_subsets, check_rng(self.rng, "random kept sets"))

    @cached_property
    def best_orders(self) -> Indices:
        """Number of the order that gives the least loss at each size."""
        return nested_changes(self.network, self.evaluation, self.sizes, self.joins).changes.argmin(axis=0)

    @cached_property
    def form(self) -> QuadraticForm:
        """The square loss of a kept set."""
        return quadratic_form(self.network, self.evaluation, self.max_bytes)

    @cached_property
    def greedy_order(self) -> Indices:
        """Neurons in the order of greedy forward selection."""
        return select_forward(self.form, int(self.sizes[-1]))

    @cached_property
    def worst_order(self) -> Indices:
        """The same with each neuron the worst one."""
        return select_forward(self.form, int(self.sizes[-1]), worst=True)

    def check(self, methods: Iterable[str]) -> None:
        """Raise if a method is unknown, or cannot be used with this loss, size, memory or without ``rng``."""
        for method in methods:
            check_choice("method", method, SUBSET_METHODS)
            if method in SQUARE_ONLY and self.evaluation.loss != "square":
                others = ", ".join(repr(name) for name in SUBSET_METHODS if name not in SQUARE_ONLY)
                raise ValueError(
                    f"method {method!r} needs the square loss, got loss={self.evaluation.loss!r}: use {others}"
                )
            if method in _CHECKS:
                _CHECKS[method](self)

    def choose(self, method: str, n_kept: int) -> Indices:
        """Return the chosen neurons in increasing order; ``n_kept`` is one of the sizes."""
        return np.sort(_METHODS[method](self, n_kept))


def largest_norms(network: Network, layer: int, n_kept: int) -> Indices:
    """Return the neurons of hidden layer ``layer`` of largest norm of incoming weights and bias times outgoing ones."""
    incoming, outgoing = network.weights[layer - 1], network.weights[layer]
    if network.biases is not None:
        incoming = np.column_stack([incoming, network.biases[layer - 1]])
    norms = np.linalg.norm(incoming, axis=1) * np.linalg.norm(outgoing, axis=0)
    return np.argsort(-norms, kind="stable")[:n_kept]


def _random(search: Search, n_kept: int, order: int = 0) -> Indices:
    return np.flatnonzero(search.joins[order] <= np.searchsorted(search.sizes, n_kept))


def _best_of(search: Search, n_kept: int) -> Indices:
    return _random(search, n_kept, int(search.best_orders[np.searchsorted(search.sizes, n_kept)]))


def _greedy(search: Search, n_kept: int) -> Indices:
    return search.greedy_order[:n_kept]


def _swaps(search: Search, n_kept: int) -> Indices:
    return exchange_neurons(search.form, search.greedy_order[:n_kept], search.max_sweeps)


def _exhaustive(search: Search, n_kept: int) -> Indices:
    members = chain.from_iterable(combinations(range(search.n_neurons), n_kept))
    sets = np.fromiter(members, np.intp).reshape(-1, n_kept)
    joins = np.ones((len(sets), search.n_neurons), np.uint32)
    np.put_along_axis(joins, sets, 0, axis=1)
    changes = nested_changes(search.network, search.evaluation, np.array([n_kept]), joins).changes
    return sets[changes[:, 0].argmin()]


def _largest_norms(search: Search, n_kept: int) -> Indices:
    return largest_norms(search.network, 1, n_kept)


def _worst(search: Search, n_kept: int) -> Indices:
    return search.worst_order[:n_kept]


_METHODS: dict[str, Callable[[Search, int], Indices]] = {
    "random": _random,
    "best-of": _best_of,
    "greedy": _greedy,
    "swaps": _swaps,
    "exhaustive": _exhaustive,
    "adversarial-norm": _largest_norms,
    "adversarial-greedy": _worst,
}
SQUARE_ONLY = ("greedy", "swaps", "adversarial-greedy")

SUBSET_METHODS = tuple(_METHODS)


def _check_random(search: Search) -> None:
    check_rng(search.rng, "random kept sets")


def _check_table(search: Search) -> None:
    check_table(search.network, search.max_bytes)


def check_table(network: Network, max_bytes: float) -> None:
    """Raise if the matrix of the square loss that "swaps" needs takes more than ``max_bytes``."""
    if (needed := table_bytes(network)) > max_bytes:
        raise ValueError(
            f"method 'swaps' needs an N x N matrix of 8 N^2 = {needed:,} bytes for N = {network.widths[-2]}, above "
            f"max_bytes={max_bytes:,}: allow more, or use 'greedy'"
        )


def _check_count(search: Search) -> None:
    n_neurons = search.n_neurons
    for m in search.sizes.tolist():
        if (count := math.comb(n_neurons, m)) * n_neurons > MOST_TRIED:
            raise ValueError(
                f"method 'exhaustive' would try {count:,} sets of {m} of {n_neurons} neurons, above the "
                f"{MOST_TRIED // n_neurons:,} allowed: use 'swaps' or 'best-of'"
            )


_CHECKS: dict[str, Callable[[Search], Any]] = {
    "random": _check_random,
    "best-of": _check_random,
    "swaps": _check_table,
    "exhaustive": _check_count,
}
