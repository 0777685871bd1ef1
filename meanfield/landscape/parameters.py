"""The parameters of a network as one flat tuple of arrays, to change a few of them and share the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meanfield.model.network import Network

__all__ = [
    "bias_position",
    "check_same_form",
    "form_of",
    "is_shared",
    "memory_of",
    "moved_neurons",
    "parameters",
    "replaced",
    "with_parameters",
]

Array = NDArray[np.floating[Any]]

_REMEDY = {
    "dtype": ": convert the weights with .astype",
    "presence of biases": ": give the one without biases zeros",
}


def parameters(network: Network) -> tuple[Array, ...]:
    """Return the H + 1 weight arrays and, if there are any, the H + 1 biases after them."""
    return (*network.weights, *(network.biases or ()))


def bias_position(network: Network, layer: int) -> int:
    """Return where in `parameters` the biases added to the weighted sums of ``weights[layer]`` are."""
    return len(network.weights) + layer


def with_parameters(network: Network, arrays: Sequence[Array]) -> Network:
    """Return a network of the activation and scaling of ``network`` with `parameters` ``arrays``."""
    n_layers = len(network.weights)
    biases = None if network.biases is None else arrays[n_layers:]
    return Network(arrays[:n_layers], biases, activation=network.activation, scaling=network.scaling)


def replaced(network: Network, changes: Mapping[int, Array]) -> Network:
    """Return ``network`` with the `parameters` at the positions of ``changes`` replaced, all others shared."""
    return with_parameters(network, [changes.get(k, array) for k, array in enumerate(parameters(network))])


def form_of(network: Network) -> dict[str, object]:
    """Return what two networks must agree in, besides widths, for their parameters to be mixed."""
    return {
        "activation": network.activation,
        "scaling": network.scaling,
        "dtype": network.dtype,
        "presence of biases": network.biases is not None,
    }


def check_same_form(
    names: str, first: Any, second: Any, *, sizes: Callable[[Network], Mapping[str, object]] | None = None
) -> None:
    """Raise unless two objects are networks that agree in `form_of` and, without ``sizes``, in all widths.

    Parameters
    ----------
    names : what they are called in the error, such as "first and second"
    sizes : what they must agree in instead of all widths, by name

    Raises
    ------
    TypeError : not a Network
    ValueError : networks that differ
    """
    for network in (first, second):
        if not isinstance(network, Network):
            raise TypeError(f"{names} must be Networks, got {type(network).__name__}")
    mine, theirs = ({**({"widths": n.widths} if sizes is None else sizes(n)), **form_of(n)} for n in (first, second))
    for name, value in mine.items():
        if theirs[name] != value:
            raise ValueError(
                f"{names} must have the same {name}, got {value} and {theirs[name]}{_REMEDY.get(name, '')}"
            )


def moved_neurons(start: Network, end: Network) -> list[NDArray[np.bool_]]:
    """Return for each layer, the output last, which neurons' incoming weights or bias differ, masks (n_{l+1},)."""
    n_layers = len(start.weights)
    moved = [np.zeros(len(w), np.bool_) for w in start.weights]
    for k, (a, b) in enumerate(zip(parameters(start), parameters(end), strict=True)):
        if not is_shared(a, b):
            moved[k % n_layers] |= (a != b).reshape(len(a), -1).any(axis=1)
    return moved


def is_shared(a: Array, b: Array) -> bool:
    """Return whether arrays of the same shape and dtype are the same memory."""
    return memory_of(a) == memory_of(b)


def memory_of(array: Array) -> tuple[int, tuple[int, ...]]:
    """Return what tells the memory of an array from that of others of its shape and dtype: address and strides."""
    return array.__array_interface__["data"][0], array.strides
