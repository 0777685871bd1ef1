"""Partial networks: some hidden layers whole, the others restricted to kept neurons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from meanfield.checks import check_integer, check_sequence
from meanfield.model.network import Network

__all__ = ["drop_from"]


def drop_from(network: Network, kept: Sequence[ArrayLike], layer: int) -> Network:
    """Return the network with the hidden layers ``layer``..H restricted to their kept neurons, those below it whole.

    Outgoing weights of a layer with m of n neurons kept stand for the whole as in `Network.keep`. The losses of these
    networks for layer = 1..H are those that a path through the kept neurons passes.

    Parameters
    ----------
    kept : one array of distinct neuron indices a hidden layer; those of layers below ``layer`` are not used
    layer : in 1..H; 1 drops from all hidden layers, H from the last one alone

    Raises
    ------
    TypeError : indices that are not integers
    ValueError : arrays for another number of layers, one that is empty, repeated or out of range; no such ``layer``

    References
    ----------
    Kuditipudi et al. 2019, Theorem 1; Shevchenko & Mondelli 2020.

    See Also
    --------
    Network.keep : all layers at once.
    """
    check_integer("layer", layer, least=1, most=network.n_hidden)
    arrays = check_sequence("kept", kept, "index arrays, one a hidden layer", length=network.n_hidden)
    whole = [np.arange(n_neurons) for n_neurons in network.widths[1:layer]]
    return network.keep([*whole, *arrays[layer - 1 :]])
