"""How many neurons are kept: one number for every hidden layer, or a tuple with one a layer."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meanfield.checks import check_sequence
from meanfield.model.network import Network

__all__ = [
    "Counts",
    "Entry",
    "by_layer",
    "checked_entries",
    "checked_sizes",
    "draw_kept",
    "fewest_kept",
    "hidden_widths",
    "only_last_dropped",
]

Counts = tuple[int, ...]
Entry = int | Counts


def checked_entries(network: Network, n_kept: Any) -> list[Entry]:
    """Return the entries of ``n_kept`` as ints or tuples of them, each within the widths of the hidden layers.

    Raises
    ------
    TypeError : no sequence, or entries that are not integers
    ValueError : no entries, an entry out of range or for another number of layers
    """
    half = max(1, min(network.widths[1:-1]) // 2)
    given = check_sequence("n_kept", n_kept, "integers", example=[half])
    entries = [_checked_entry(network, entry) for entry in given]
    if not entries:
        raise ValueError("n_kept must hold at least one entry, got none: pass e.g. [1]")
    return entries


def checked_sizes(network: Network, n_kept: Any) -> list[int]:
    """Return the entries of ``n_kept`` for the only hidden layer of a network.

    Raises
    ------
    TypeError, ValueError : as `checked_entries`; ValueError for several hidden layers
    """
    if network.n_hidden > 1:
        raise ValueError(f"n_kept is of one hidden layer here, got {network.n_hidden} layers: use dropout_curve there")
    return [by_layer(network, entry)[0] for entry in checked_entries(network, n_kept)]


def by_layer(network: Network, entry: Entry) -> Counts:
    """Return the number of kept neurons of each hidden layer."""
    return entry if isinstance(entry, tuple) else (entry,) * network.n_hidden


def fewest_kept(network: Network, entry: Entry) -> int:
    """Return A_min, the least number of kept neurons of a hidden layer."""
    return min(by_layer(network, entry))


def only_last_dropped(network: Network, entry: Entry) -> bool:
    """Whether all hidden layers below the last one are kept whole."""
    return by_layer(network, entry)[:-1] == network.widths[1:-2]


def hidden_widths(network: Network) -> Entry:
    """Return the number of neurons N, or the tuple of widths of several hidden layers."""
    hidden = network.widths[1:-1]
    return hidden if len(hidden) > 1 else hidden[0]


def draw_kept(network: Network, entry: Entry, rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """Return a uniformly random set of ``entry`` neurons for each hidden layer, in increasing order."""
    counts = zip(network.widths[1:-1], by_layer(network, entry), strict=True)
    return [np.sort(rng.choice(n_neurons, m, replace=False)) for n_neurons, m in counts]


def _checked_entry(network: Network, entry: Any) -> Entry:
    hidden, a_number_each = network.widths[1:-1], isinstance(entry, tuple | list)
    counts = tuple(entry) if a_number_each else (entry,) * len(hidden)
    if len(counts) != len(hidden):
        raise ValueError(
            f"entries of n_kept must be integers or tuples of {len(hidden)}, one a hidden layer, got {entry}"
        )
    checked = tuple(_checked_count(m, n_neurons) for m, n_neurons in zip(counts, hidden, strict=True))
    return checked if a_number_each else checked[0]


def _checked_count(m: Any, n_neurons: int) -> int:
    if isinstance(m, bool | np.bool_) or not isinstance(m, Integral):
        raise TypeError(
            f"n_kept must hold integers or tuples of them, got {m!r} of type {type(m).__name__}: give numbers of "
            f"neurons, such as {max(1, n_neurons // 2)} of {n_neurons}"
        )
    count = int(m)
    if not 1 <= count <= n_neurons:
        raise ValueError(f"n_kept must lie in 1..n_neurons={n_neurons}, got {count}")
    return count
