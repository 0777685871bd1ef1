"""A network as a part of a wider one, and networks that differ in the order of their neurons alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meanfield.checks import check_integer
from meanfield.landscape.parameters import bias_position, form_of, replaced
from meanfield.model.network import Network

__all__ = ["are_permuted", "embed"]

Array = NDArray[np.floating[Any]]


def embed(network: Network, n_neurons: Sequence[int]) -> Network:
    """Return the same function as a network with ``n_neurons`` in its hidden layers; added ones say nothing.

    Added neurons have zero incoming and outgoing weights and biases and come after the others. In mean-field
    scaling the outgoing weights of a layer widened from n to N neurons are multiplied by N / n, since the factor
    1 / n becomes 1 / N: outputs agree to rounding, in standard scaling too.

    Parameters
    ----------
    n_neurons : one number a hidden layer, none below the network's own

    Raises
    ------
    TypeError : numbers that are not integers
    ValueError : another number of layers, or a layer that would become narrower
    """
    hidden = network.widths[1:-1]
    if len(n_neurons) != len(hidden):
        raise ValueError(f"n_neurons must hold one number a hidden layer, {len(hidden)}, got {len(n_neurons)}")
    wide = [check_integer(f"n_neurons[{k}]", n, least=hidden[k]) for k, n in enumerate(n_neurons)]
    if tuple(wide) == hidden:
        return network
    widths = (network.widths[0], *wide, network.widths[-1])
    changes = {layer: _padded(_widened(network, layer, widths), widths[layer + 1]) for layer in range(len(wide) + 1)}
    for layer, bias in enumerate(network.biases or ()):
        changes[bias_position(network, layer)] = _padded(bias, widths[layer + 1])
    return replaced(network, changes)


def are_permuted(first: Network, second: Network) -> bool:
    """Return whether two networks are equal up to the order of the neurons in each hidden layer.

    Neurons are put in the order of their incoming weights, layer by layer. Neurons with equal ones, in a layer
    below the last hidden one, are told apart by the values of their outgoing weights; where these agree too, a
    permutation may be missed.
    """
    if first.widths != second.widths or form_of(first) != form_of(second):
        return False
    pairs = zip(_in_canonical_order(first), _in_canonical_order(second), strict=True)
    return all(np.array_equal(mine, theirs) for mine, theirs in pairs)


def _widened(network: Network, layer: int, widths: Sequence[int]) -> Array:
    """Return weights[layer] with columns for ``widths[layer]`` neurons."""
    weights, n_own, n_wide = network.weights[layer], network.widths[layer], widths[layer]
    if n_wide == n_own:
        return weights
    if network.scaling == "mean-field":
        weights = weights * network.dtype.type(n_wide / n_own)
    return np.pad(weights, ((0, 0), (0, n_wide - n_own)))


def _padded(array: Array, n_rows: int) -> Array:
    if n_rows == len(array):
        return array
    return np.pad(array, [(0, n_rows - len(array)), *[(0, 0)] * (array.ndim - 1)])


def _in_canonical_order(network: Network) -> Iterator[Array]:
    """Yield for each layer its weights, with a column of biases, in an order that the function decides."""
    order = np.arange(network.widths[0])
    for layer in range(network.n_hidden):
        rows = _incoming(network, layer, order)
        order = _order_of(rows, network.weights[layer + 1], layer + 1 == network.n_hidden)
        yield rows[order]
    yield _incoming(network, network.n_hidden, order)


def _incoming(network: Network, layer: int, order: NDArray[np.intp]) -> Array:
    rows = network.weights[layer][:, order]
    if network.biases is not None:
        rows = np.column_stack([rows, network.biases[layer]])
    # Negative zeros become zeros, whose bytes differ.
    return rows + 0.0


def _order_of(rows: Array, outgoing: Array, is_last: bool) -> NDArray[np.intp]:
    keys = [row.tobytes() for row in rows]
    if len(set(keys)) < len(keys):
        columns = (outgoing + 0.0).T if is_last else np.sort(outgoing + 0.0, axis=0).T
        keys = [key + column.tobytes() for key, column in zip(keys, columns, strict=True)]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.intp)
