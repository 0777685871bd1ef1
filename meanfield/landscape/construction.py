"""The moves that paths between networks are made of.

A neuron that the output does not depend on is idle: its incoming weights are free. To replace what lies above the
kept neurons I_l of layer l by a small network V, write V into idle neurons (nothing changes: an idle segment), then
move the output weights to it (a readout segment). From l = H down to 0 this makes a network a small one among idle
neurons. Two small ones find room side by side; the output weights move from one to the other, and if the second
has to stand where the first one stood, it is copied there (idle) and the outgoing weights follow (idle: a neuron
and its copy say the same).

References
----------
Kuditipudi et al. 2019, Theorem 1; Shevchenko & Mondelli 2020, Theorem 1; Nguyen, Bréchet & Mondelli 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from meanfield.landscape.parameters import bias_position, replaced
from meanfield.landscape.subnetworks import Block
from meanfield.model.network import Network

__all__ = ["End", "contract", "join"]

Array = NDArray[np.floating[Any]]
Indices = NDArray[np.intp]


class End(NamedTuple):
    """One end of a path: its network, the sets I_1..I_H, V^(0)..V^(H) in its units, and "first" or "second"."""

    network: Network
    kept: list[Indices]
    blocks: list[Block | None]
    name: str


class Walk(NamedTuple):
    """Vertices, kinds of the segments between them, and the neurons of each hidden layer not idle at the last."""

    vertices: list[Network]
    kinds: list[str]
    active: list[Indices]


def contract(end: End) -> Walk:
    """Walk from a network to a small one among idle neurons, layer by layer from the top.

    The losses at the vertices are those of the end and phi_l, l = H..0, the loss of the layers up to l with V^(l)
    on the features of I_l.

    Raises
    ------
    ValueError : too few idle neurons in a layer
    """
    walk = Walk([end.network], [], list(end.kept))
    inputs = np.arange(end.network.widths[0])
    for layer in range(end.network.n_hidden, -1, -1):
        block = end.blocks[layer]
        if block is None:
            continue
        reads = walk.active[layer - 1] if layer else inputs
        upper = range(layer + 1, end.network.n_hidden + 1)
        places = [
            _idle_neurons(end, above, walk.active[above - 1], n, layer)
            for above, n in zip(upper, block.n_neurons, strict=True)
        ]
        _install(walk, block, layer, reads, places)
        walk.active[layer:] = places
    return walk


def join(first: Walk, second: Walk) -> Walk:
    """Walk from the last vertex of ``first`` to that of ``second``, in three segments or five.

    Raises
    ------
    ValueError : a layer that cannot hold both small networks side by side
    """
    target = second.vertices[-1]
    walk = Walk([first.vertices[-1]], [], list(second.active))
    places = [_apart(first.active[k], second.active[k], target.widths[k + 1], k + 1) for k in range(len(second.active))]
    _install(walk, _small_network(target, second.active), 0, np.arange(target.widths[0]), places)
    if any((here != there).any() for here, there in zip(places, second.active, strict=True)):
        walk.vertices.append(_copied(walk.vertices[-1], places, second.active))
        walk.vertices.append(_transferred(walk.vertices[-1], target, second.active))
        walk.kinds.extend(["idle", "idle"])
    walk.vertices.append(target)
    walk.kinds.append("idle")
    return walk


def _idle_neurons(end: End, layer: int, active: Indices, n_needed: int, reader: int) -> Indices:
    n_neurons = end.network.widths[layer]
    idle = np.setdiff1d(np.arange(n_neurons), active)
    if idle.size < n_needed:
        raise ValueError(
            f"hidden layer {layer} of the {end.name} end has {n_neurons} neurons, {active.size} in use, and no room "
            f"for the {n_needed} of sub-network {reader}: |I_l| + m_l <= n_l and 2 m_l <= n_l always suffice; keep at "
            "most half of each layer"
        )
    return idle[:n_needed]


def _apart(taken: Indices, wanted: Indices, n_neurons: int, layer: int) -> Indices:
    """Return ``wanted`` with those that are ``taken`` moved to neurons that are neither."""
    clash = np.isin(wanted, taken)
    spare = np.setdiff1d(np.arange(n_neurons), np.union1d(taken, wanted))
    if spare.size < clash.sum():
        raise ValueError(
            f"hidden layer {layer} has {n_neurons} neurons, too few for the small networks of both ends side by side, "
            f"of {taken.size} and {wanted.size}: keep at most {n_neurons} of it in both ends together"
        )
    places = wanted.copy()
    places[clash] = spare[: clash.sum()]
    return places


def _install(walk: Walk, block: Block, layer: int, reads: Indices, places: Sequence[Indices]) -> None:
    """Write ``block``, which reads ``reads`` of ``layer``, into idle ``places``; then let the output read it."""
    columns = [reads, *places]
    if places:
        changes: dict[int, Array] = {}
        for k, rows in enumerate(places):
            changes |= _rows_written(walk.vertices[-1], layer + k, rows, columns[k], block, k)
        walk.vertices.append(replaced(walk.vertices[-1], changes))
        walk.kinds.append("idle")
    network, top = walk.vertices[-1], len(places)
    outputs = np.arange(network.widths[-1])
    walk.vertices.append(replaced(network, _rows_written(network, layer + top, outputs, columns[top], block, top)))
    walk.kinds.append("readout")


def _rows_written(
    network: Network, layer: int, rows: Indices, columns: Indices, block: Block, k: int
) -> dict[int, Array]:
    """Return layer ``layer`` with ``rows`` that read ``columns`` alone, as layer ``k`` of ``block`` does."""
    weights = network.weights[layer].copy()
    weights[rows] = 0
    weights[np.ix_(rows, columns)] = block.weights[k]
    if network.biases is None or block.biases is None:
        return {layer: weights}
    bias = network.biases[layer].copy()
    bias[rows] = block.biases[k]
    return {layer: weights, bias_position(network, layer): bias}


def _small_network(network: Network, active: Sequence[Indices]) -> Block:
    columns = [np.arange(network.widths[0]), *active]
    rows = [*active, np.arange(network.widths[-1])]
    weights = tuple(w[np.ix_(to, of)] for w, to, of in zip(network.weights, rows, columns, strict=True))
    biases = network.biases and tuple(b[to] for b, to in zip(network.biases, rows, strict=True))
    return Block(weights, biases)


def _copied(network: Network, places: Sequence[Indices], targets: Sequence[Indices]) -> Network:
    """Give the neurons ``targets`` the incoming weights and biases of ``places``."""
    changes: dict[int, Array] = {}
    for layer, (here, there) in enumerate(zip(places, targets, strict=True)):
        if (here != there).any():
            changes[layer] = _with_rows(network.weights[layer], there, network.weights[layer][here])
            if network.biases is not None:
                bias = network.biases[layer]
                changes[bias_position(network, layer)] = _with_rows(bias, there, bias[here])
    return replaced(network, changes)


def _transferred(network: Network, target: Network, active: Sequence[Indices]) -> Network:
    """Let the ``active`` neurons above the first layer, and the output, read what they read in ``target``."""
    changes = {
        layer: _with_rows(network.weights[layer], active[layer], target.weights[layer][active[layer]])
        for layer in range(1, network.n_hidden)
    }
    return replaced(network, {**changes, network.n_hidden: target.weights[-1]})


def _with_rows(array: Array, rows: Indices, values: Array) -> Array:
    changed = array.copy()
    changed[rows] = values
    return changed
