"""Whether a network's function is constant along a whole segment, by what moves there and for all inputs at once.

By induction over layers: if the features that a neuron reads are constant, its pre-activation is affine along the
segment, and constant if its bias is and the weights from each group of identical neurons keep their exact sum. All
other neurons are stale, and so is what reads them: with a weight that is zero at both ends none does so between.
"""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meanfield.landscape.parameters import moved_neurons
from meanfield.model.network import Network

__all__ = ["is_idle"]

Array = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Indices = NDArray[np.intp]


def is_idle(start: Network, end: Network) -> bool:
    """Return whether no output can change on the straight line from ``start`` to ``end``, a sufficient condition.

    Outputs read no neuron whose incoming weights or bias move, directly or through others, but for weights that move
    between neurons of a layer with the same incoming weights and bias, whose sum is held to be the same only if it is
    so in exact arithmetic: however large weights that cancel are, none hides a change. Functions that are constant for
    other reasons, such as rectifiers that no sample of the data switches on, are not found.
    """
    groups: list[Indices] = []
    stale = np.zeros(start.widths[0], np.bool_)
    for layer, moved in enumerate(moved_neurons(start, end)):
        if groups:
            moved = _moved_beyond_copies(start, end, layer, groups)
        # A weight from a stale neuron that is zero at the start alone is among those that moved.
        stale = moved | np.any(start.weights[layer][:, stale], axis=1)
        if layer < start.n_hidden:
            groups = _identical(start, layer, groups, stale)
    return not stale.any()


def _moved_beyond_copies(start: Network, end: Network, layer: int, groups: list[Indices]) -> Mask:
    before, after = start.weights[layer], end.weights[layer]
    changed, moved = before != after, np.zeros(len(before), np.bool_)
    for same in groups:
        moved |= _sums_differ(before[:, same], after[:, same])
        changed[:, same] = False
    if start.biases is not None and end.biases is not None:
        moved |= start.biases[layer] != end.biases[layer]
    return moved | changed.any(axis=1)


def _sums_differ(before: Array, after: Array) -> Mask:
    """Return in which rows the exact sums differ."""
    # In another order they are the same: what `connect` moves needs no slow arithmetic.
    differ = np.any(np.sort(before, axis=1) != np.sort(after, axis=1), axis=1)
    differ[differ] = [_sum(a) != _sum(b) for a, b in zip(before[differ], after[differ], strict=True)]
    return differ


def _sum(weights: Array) -> Fraction:
    return sum(map(Fraction, weights.tolist()), Fraction())


def _identical(network: Network, layer: int, groups: list[Indices], stale: Mask) -> list[Indices]:
    """Return the neurons, two or more a group, with the same bias and weights, those from a group in any order.

    So they agree in exact arithmetic. Others may too: weights from a group can have the same sum otherwise.
    """
    rows = network.weights[layer].copy()
    for same in groups:
        rows[:, same] = np.sort(rows[:, same], axis=1)
    if network.biases is not None:
        rows = np.column_stack([rows, network.biases[layer]])
    members = defaultdict(list)
    for neuron in np.flatnonzero(~stale):
        # Adding zero makes -0.0 the same bytes as 0.0.
        members[(rows[neuron] + 0.0).tobytes()].append(neuron)
    return [np.array(same) for same in members.values() if len(same) > 1]
