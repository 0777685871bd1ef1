"""Hidden features of a network from those of another one that shares most of its neurons.

Neuron i of layer l + 1 has the same features on all inputs in two networks if its bias and its incoming weights are
the same in both, and the latter are zero wherever the features of layer l may differ. All other neurons are stale and
are evaluated anew. This compares the arrays themselves and holds whatever has moved between the networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meanfield.landscape.parameters import moved_neurons
from meanfield.model.network import Network

__all__ = ["hidden_features", "live_neurons", "stale_neurons", "updated_features"]

Array = NDArray[np.floating[Any]]
Masks = list[NDArray[np.bool_]]


def stale_neurons(known: Network, network: Network) -> Masks:
    """Return for each hidden layer which neurons of ``network`` may have other features than in ``known``."""
    stale: Masks = []
    reads = np.zeros(network.widths[1], np.bool_)
    for moved, above in zip(moved_neurons(known, network)[:-1], network.weights[1:], strict=True):
        stale.append(moved | reads)
        reads = np.any(above[:, stale[-1]], axis=1)
    return stale


def live_neurons(network: Network) -> Masks:
    """Return for each hidden layer the neurons that the outputs depend on: through weights that are not zero."""
    live: Masks = []
    above = np.ones(network.widths[-1], np.bool_)
    for weights in network.weights[:0:-1]:
        above = np.any(weights[above], axis=0)
        live.append(above)
    return live[::-1]


def hidden_features(network: Network, x: Array) -> list[Array]:
    """Return h^1, .., h^H for inputs x (n, d) in the network's dtype."""
    features, below = [], x
    for layer in range(network.n_hidden):
        below = network.activate(network.affine(below, layer))
        features.append(below)
    return features


def updated_features(
    network: Network, x: Array, known: Sequence[Array], anew: Sequence[NDArray[np.intp]]
) -> list[Array]:
    """Return h^1, .., h^H of ``network`` for inputs x (n, d): as ``known`` but for the neurons ``anew`` of each layer.

    Layers without such neurons are the very arrays of ``known``.
    """
    features, below = [], x
    for layer, (h, neurons) in enumerate(zip(known, anew, strict=True)):
        if neurons.size:
            h = h.copy()
            h[:, neurons] = network.activate(network.affine(below, layer, neurons))
        features.append(h)
        below = h
    return features
