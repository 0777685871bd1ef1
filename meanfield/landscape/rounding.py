"""How large the terms are whose sums are a network's outputs: what rounding is to be measured by."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from meanfield.model.activations import Activation, piecewise_linear_form
from meanfield.model.network import Network

__all__ = ["size_of_terms"]

Array = NDArray[np.floating[Any]]


def size_of_terms(network: Network, x: Array) -> Array:
    """Return for each sample a bound on the largest sum of absolute terms behind its outputs, (s,), in float64.

    Pre-activations may cancel: the rounding of z = <w, x> + b is in proportion to |w| |x| + |b|, and not to |z|. With
    |z_i| <= u_i |x| + v_i and |sigma(z)| <= K |z| + |sigma(0)|, K the steepest slope, the same holds of the next layer
    for u <- f |W| K u and v <- f |W| (K v + |sigma(0)|) + |b|. For sigma(z) = z^2, whose slope has no bound, the square
    of a sum is at most twice the sum of squares. Costs O(N^2), nothing a sample.

    Parameters
    ----------
    x : (s, d)
    """
    powers = np.linalg.norm(x.astype(np.float64), axis=1)
    u, v = np.linalg.norm(network.weights[0], axis=1), _bias(network, 0)
    slope, at_zero = _growth(network.activation)
    for layer in range(1, network.n_hidden + 1):
        if network.activation == "quadratic":
            powers, u, v = powers**2, 2 * u**2, 2 * v**2
        factors = network.factor(layer) * np.abs(network.weights[layer])
        u, v = factors @ (slope * u), factors @ (slope * v + at_zero) + _bias(network, layer)
    return powers * u.max() + v.max()


def _bias(network: Network, layer: int) -> Array:
    if network.biases is None:
        return np.zeros(network.widths[layer + 1])
    return np.abs(network.biases[layer]).astype(np.float64)


def _growth(activation: Activation) -> tuple[float, float]:
    """Return the steepest slope K and a bound of |sigma(0)|; no smooth one but z^2 is steeper or higher than 1."""
    form = piecewise_linear_form(activation)
    if form is None:
        return 1.0, 1.0
    slope = float(np.abs(form.slopes).max())
    place, value = form.knots[0]
    return slope, abs(value) + slope * abs(place)
