"""The parameters of a network as one flat tuple of arrays, to change a few of them and share the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meanfield.model.network import Network

__all__ = ["bias_position", "form_of", "parameters", "replaced", "with_parameters"]

Array = NDArray[np.floating[Any]]


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
