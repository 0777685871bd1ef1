"""What SGD multiplies the gradient of each array by, so that every weight moves by O(step_size)."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from meanfield.model.network import Network

__all__ = ["Multipliers", "sgd_multipliers"]


class Multipliers(NamedTuple):
    """One number a layer 0..H, for its weights and for its biases."""

    weights: tuple[float, ...]
    biases: tuple[float, ...]


def sgd_multipliers(network: Network) -> Multipliers:
    """Return by how much SGD multiplies the gradient of each layer: the widths that the array is averaged over.

    In mean-field scaling weights of layer l, which join n_l neurons to n_{l+1}, have the product of the widths of
    those of the two layers that are hidden, and hidden biases n_{l+1}; the output bias has 1. For one hidden layer
    that is N for a, w and b. In standard scaling all are 1.

    Their inverses are the metric of the flow: with multipliers M_l, mean-field SGD descends the gradient in

        |d theta|^2 = sum_l |dW_l|^2 / M_l + sum_l |db_l|^2 / M'_l,

    for one hidden layer (1/N) sum_i |d theta_i|^2 and the output bias's square.

    References
    ----------
    Shevchenko & Mondelli 2020, equation of SGD; Araújo, Oliveira & Yukimura 2019 for several layers.
    """
    last = network.n_hidden
    if network.scaling == "standard":
        return Multipliers((1.0,) * (last + 1), (1.0,) * (last + 1))
    # The inputs and the outputs are not averaged over.
    sizes = (1.0, *map(float, network.widths[1:-1]), 1.0)
    weights = tuple(below * above for below, above in pairwise(sizes))
    return Multipliers(weights, sizes[1:])
