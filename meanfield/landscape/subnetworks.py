"""The small networks V^(0), .., V^(H) that a path replaces the upper layers of an end by.

V^(l) reads the features of the kept neurons I_l of hidden layer l alone (I_0: all inputs). Inherited ones are the
network's own weights between kept neurons, rescaled as dropout does; others are brought by the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from meanfield.checks import check_finite
from meanfield.landscape.parameters import form_of
from meanfield.model.network import Network

__all__ = ["Block", "given_blocks", "inherited_blocks"]

Array = NDArray[np.floating[Any]]
Indices = NDArray[np.intp]


class Block(NamedTuple):
    """V^(l) in the units of the whole network: weights of its layers from l on, and their biases if it has any."""

    weights: tuple[Array, ...]
    biases: tuple[Array, ...] | None

    @property
    def n_neurons(self) -> tuple[int, ...]:
        """Numbers of neurons in layers l + 1, .., H."""
        return tuple(len(w) for w in self.weights[:-1])


def inherited_blocks(whole: Network, kept: Sequence[Indices], n_neurons: Sequence[int]) -> list[Block | None]:
    """Return the sub-networks for l = 0..H that keep ``kept`` of the ``n_neurons`` of each layer from l on.

    With outgoing weights of layer l times n_l / |I_l| they say what dropping layers l..H leaves. For l = 0 there
    is none: the one for l = 1 with the neurons I_1 is one already.

    Parameters
    ----------
    n_neurons : of each hidden layer before it was embedded in ``whole``
    """
    columns = [np.arange(whole.widths[0]), *kept]
    rows = [*kept, np.arange(whole.widths[-1])]
    sizes = (whole.widths[0], *n_neurons)
    weights = tuple(
        w[np.ix_(to, of)] * whole.dtype.type(size / len(of)) if len(of) < size else w[np.ix_(to, of)]
        for w, to, of, size in zip(whole.weights, rows, columns, sizes, strict=True)
    )
    biases = None if whole.biases is None else tuple(b[to] for b, to in zip(whole.biases, rows, strict=True))
    upper = [Block(weights[l:], None if biases is None else biases[l:]) for l in range(1, len(weights))]  # noqa: E741
    return [None, *upper]


def given_blocks(whole: Network, kept: Sequence[Indices], subnetworks: Any, end: str) -> list[Block | None]:
    """Return the caller's sub-networks in the units of the whole; see `connect` for what they must be.

    Raises
    ------
    TypeError : entries of another type
    ValueError : another number of entries; widths, activation, dtype or biases that do not fit
    """
    if not isinstance(subnetworks, list | tuple):
        raise TypeError(
            f"subnetworks of the {end} end must be None or a list or tuple with one entry for each of "
            f"l = 0..{whole.n_hidden}, got {type(subnetworks).__name__}"
        )
    entries, n_hidden = list(subnetworks), whole.n_hidden
    if len(entries) != n_hidden + 1:
        raise ValueError(
            f"subnetworks of the {end} end must hold {n_hidden + 1} entries, one for each of l = 0..{n_hidden}, "
            f"got {len(entries)}"
        )
    n_read = [whole.widths[0], *map(len, kept)]
    names = [f"sub-network {layer} of the {end} end" for layer in range(n_hidden + 1)]
    below: list[Block | None] = [
        None if layer == 0 and entry is None else _network_block(whole, layer, entry, n_read[layer], names[layer])
        for layer, entry in enumerate(entries[:-1])
    ]
    return [*below, _readout_block(whole, entries[-1], n_read[-1], names[-1])]


def _network_block(whole: Network, layer: int, given: Any, n_read: int, name: str) -> Block:
    if not isinstance(given, Network):
        raise TypeError(f"{name} must be a Network, got {type(given).__name__}")
    wanted = (n_read, whole.n_hidden - layer, whole.widths[-1])
    if (given.widths[0], given.n_hidden, given.widths[-1]) != wanted:
        raise ValueError(
            f"{name} must have {wanted[0]} inputs, {wanted[1]} hidden layers and {wanted[2]} outputs, "
            f"got widths {given.widths}"
        )
    mine, theirs = form_of(given), form_of(whole)
    for part in ("activation", "dtype"):
        if mine[part] != theirs[part]:
            raise ValueError(f"{name} must have the {part} of the end, {theirs[part]}, got {mine[part]}")
    ratios = [given.factor(k) / whole.factor(layer + k) for k in range(len(given.weights))]
    weights = tuple(w * w.dtype.type(ratio) for w, ratio in zip(given.weights, ratios, strict=True))
    return Block(weights, _fitting_biases(whole, given.biases, weights, name))


def _readout_block(whole: Network, given: Any, n_read: int, name: str) -> Block:
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise TypeError(f"{name} must be a pair (weights, bias or None), got {type(given).__name__}")
    weights, bias = (
        np.asarray(given[0], whole.dtype),
        given[1] if given[1] is None else np.asarray(given[1], whole.dtype),
    )
    wanted = (whole.widths[-1], n_read)
    if weights.shape != wanted or (bias is not None and bias.shape != wanted[:1]):
        raise ValueError(
            f"{name} must have weights of shape {wanted} and a bias of shape {wanted[:1]} or None, "
            f"got {weights.shape} and {None if bias is None else bias.shape}"
        )
    for array in (weights, *([] if bias is None else [bias])):
        check_finite(name, array)
    scaled = (weights * whole.dtype.type(1 / whole.factor(whole.n_hidden)),)
    return Block(scaled, _fitting_biases(whole, None if bias is None else (bias,), scaled, name))


def _fitting_biases(
    whole: Network, biases: tuple[Array, ...] | None, weights: tuple[Array, ...], name: str
) -> tuple[Array, ...] | None:
    if whole.biases is None and biases is not None:
        raise ValueError(f"{name} has biases but its end has none: give the ends zero biases or train it without")
    if whole.biases is not None and biases is None:
        return tuple(np.zeros(len(w), w.dtype) for w in weights)
    return biases
