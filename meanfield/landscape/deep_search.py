"""The searches for kept neurons of several hidden layers that `meanfield.landscape.kept_sets` offers by name.

The vertices of a path have the losses phi_H, .., phi_1, phi_l that of dropping layers l..H, which depends on the sets
I_l, .., I_H alone. So layers are searched from the last one down: I_H by phi_H, then I_{H-1} by phi_{H-1} with that
I_H, and so on; what is chosen later changes none of the losses before it. In the last layer the square loss is the
quadratic form of `meanfield.landscape.quadratic`, and all neurons are tried; elsewhere those drawn as candidates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from meanfield.checks import check_choice, check_rng
from meanfield.landscape.counts import Counts, draw_kept
from meanfield.landscape.evaluation import Evaluation
from meanfield.landscape.kept_layer import Candidates, KeptLayer, check_held, exchange_in_layer, select_in_layer
from meanfield.landscape.quadratic import exchange_neurons, quadratic_form, select_forward
from meanfield.landscape.search import MOST_TRIED, SUBSET_METHODS, check_table, largest_norms
from meanfield.model.network import Network

__all__ = ["DeepSearch"]

Indices = NDArray[np.intp]
Kept = list[Indices]


@dataclass
class DeepSearch:
    """Chooses ``counts`` neurons, one number a hidden layer, by the loss on ``evaluation``."""

    network: Network
    evaluation: Evaluation
    counts: Counts
    n_subsets: int
    n_candidates: int
    max_sweeps: int
    max_bytes: float
    rng: np.random.Generator | None

    def choose(self, method: str) -> Kept:
        """Return the chosen neurons of each hidden layer, in increasing order.

        Raises
        ------
        ValueError : an unknown method; too many sets or too much memory
        TypeError : no ``rng`` where sets or candidates are drawn
        """
        return [np.sort(neurons) for neurons in _METHODS[check_choice("method", method, SUBSET_METHODS)](self)]

    @property
    def is_quadratic(self) -> bool:
        """Whether the loss is a quadratic form of the set kept in the last layer."""
        return self.evaluation.loss == "square"

    def draw(self) -> Kept:
        """Return uniformly random sets."""
        return draw_kept(self.network, self.counts, check_rng(self.rng, "random kept sets"))

    def best(self, sets: Iterable[Kept]) -> Kept:
        """Return the first of those with the least max_l phi_l."""
        return min(sets, key=self.largest_phi)

    def largest_phi(self, kept: Kept) -> float:
        """Return max_l phi_l."""
        everything = [np.arange(n) for n in self.network.widths[1:-1]]
        dropped = (self.network.keep([*everything[:below], *kept[below:]]) for below in range(len(kept)))
        return max(float(self.evaluation.losses(smaller).mean()) for smaller in dropped)


def _best_of(search: DeepSearch) -> Kept:
    return search.best([search.draw() for _ in range(search.n_subsets)])


def _exhaustive(search: DeepSearch) -> Kept:
    hidden = search.network.widths[1:-1]
    count = math.prod(math.comb(n, m) for n, m in zip(hidden, search.counts, strict=True))
    if count * sum(hidden) > MOST_TRIED:
        raise ValueError(
            f"method 'exhaustive' would try {count:,} sets of {sum(hidden)} hidden neurons, above the "
            f"{MOST_TRIED // sum(hidden):,} allowed: use 'swaps' or 'best-of'"
        )
    members = [combinations(range(n), m) for n, m in zip(hidden, search.counts, strict=True)]
    return search.best([np.array(neurons, np.intp) for neurons in sets] for sets in product(*members))


def _largest_norms(search: DeepSearch) -> Kept:
    return [largest_norms(search.network, layer, m) for layer, m in enumerate(search.counts, start=1)]


def _swaps(search: DeepSearch) -> Kept:
    if search.is_quadratic:
        check_table(search.network, search.max_bytes)
    return _downwards(search, exchanges=True)


def _downwards(search: DeepSearch, *, worst: bool = False, exchanges: bool = False) -> Kept:
    """Return sets built up neuron by neuron, layer by layer from the last one, and improved by ``exchanges``."""
    _check_memory(search)
    n_hidden = search.network.n_hidden
    kept: Kept = []
    for layer in range(n_hidden, 0, -1):
        quadratic = search.is_quadratic and layer == n_hidden
        built = (
            _in_last_layer(search, worst, exchanges) if quadratic else _in_layer(search, layer, kept, worst, exchanges)
        )
        kept = [np.sort(built), *kept]
    return kept


def _check_memory(search: DeepSearch) -> None:
    """Raise before any layer is searched if one of them takes too much memory."""
    above = [*search.counts[1:], search.network.widths[-1]]
    for layer, n_above in enumerate(above[:-1] if search.is_quadratic else above, start=1):
        check_held(search.network, layer, n_above, len(search.evaluation.x), search.max_bytes)


def _in_last_layer(search: DeepSearch, worst: bool, exchanges: bool) -> Indices:
    form = quadratic_form(search.network, search.evaluation, search.max_bytes)
    order = select_forward(form, search.counts[-1], worst=worst)
    return exchange_neurons(form, order, search.max_sweeps) if exchanges else order


def _in_layer(search: DeepSearch, layer: int, above: Kept, worst: bool, exchanges: bool) -> Indices:
    sets = KeptLayer(search.network, search.evaluation, layer, above)
    candidates = Candidates(search.n_candidates, search.rng)
    order = select_in_layer(sets, search.counts[layer - 1], candidates, worst=worst)
    return exchange_in_layer(sets, order, candidates, search.max_sweeps) if exchanges else order


_METHODS: dict[str, Callable[[DeepSearch], Kept]] = {
    "random": DeepSearch.draw,
    "best-of": _best_of,
    "greedy": _downwards,
    "swaps": _swaps,
    "exhaustive": _exhaustive,
    "adversarial-norm": _largest_norms,
    "adversarial-greedy": partial(_downwards, worst=True),
}
