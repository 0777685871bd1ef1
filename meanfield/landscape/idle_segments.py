"""Whether a network's function is constant along a whole segment, by what moves there and for all inputs at once.

By induction over layers: if the features that a neuron reads are constant, its pre-activation is affine along the
segment, and constant if its bias is and the weights from each group of identical neurons keep their sum. All other
neurons are stale, and so is what reads them: with a weight that is zero at both ends none does so between.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meanfield.landscape.parameters import moved_neurons
from meanfield.model.network import Network

__all__ = ["is_idle"]

# The sums of weights from identical neurons may differ by this many units in the last place of their terms.
ROUNDING_UNITS = 8

Array = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Indices = NDArray[np.intp]


def is_idle(start: Network, end: Network) -> bool:
    """Return whether no output can change on the straight line from ``start`` to ``end``, a sufficient condition.

    Outputs read no neuron whose incoming weights or bias move, directly or through others, but for weights that move
    between neurons of a layer with the same incoming weights and bias. Functions that are constant for other reasons,
    such as rectifiers that no sample of the data switches on, are not found.
    """
    groups: list[Indices] = []
    stale = np.zeros(start.widths[0], np.bool_)
    for layer, moved in enumerate(moved_neurons(start, end)):
        if groups:
            moved = _moved_beyond_copies(start, end, layer, groups)
        stale = moved | _reads(start, layer, stale) | _reads(end, layer, stale)
        if layer < start.n_hidden:
            groups = _identical(start, layer, groups, stale)
    return not stale.any()


def _reads(network: Network, layer: int, neurons: Mask) -> Mask:
    return np.any(network.weights[layer][:, neurons], axis=1)


def _moved_beyond_copies(start: Network, end: Network, layer: int, groups: list[Indices]) -> Mask:
    before, after = start.weights[layer], end.weights[layer]
    size = _summed(np.abs(before), groups) + _summed(np.abs(after), groups)
    change = np.abs(_summed(before, groups) - _summed(after, groups))
    moved = np.any(change > ROUNDING_UNITS * np.finfo(start.dtype).eps * size, axis=1)
    if start.biases is not None and end.biases is not None:
        moved |= start.biases[layer] != end.biases[layer]
    return moved


def _identical(network: Network, layer: int, groups: list[Indices], stale: Mask) -> list[Indices]:
    """Return the neurons, two or more a group, with the same bias and the same weights from what is not identical."""
    rows = _summed(network.weights[layer], groups)
    if network.biases is not None:
        rows = np.column_stack([rows, network.biases[layer]])
    members = defaultdict(list)
    for neuron in np.flatnonzero(~stale):
        # Adding zero makes -0.0 the same bytes as 0.0.
        members[(rows[neuron] + 0.0).tobytes()].append(neuron)
    return [np.array(same) for same in members.values() if len(same) > 1]


def _summed(weights: Array, groups: list[Indices]) -> Array:
    """Return the weights with the sum over each group in its first column and zeros in its others, in float64.

    Sums are taken one by one in order of size, so that they are the same bits in any order of the neurons.
    """
    summed = weights.astype(np.float64)
    for same in groups:
        summed[:, same] = 0
        summed[:, same[0]] = np.cumsum(np.sort(weights[:, same].astype(np.float64), axis=1), axis=1)[:, -1]
    return summed
