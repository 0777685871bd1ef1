"""The gradient of a loss by all weights and biases of a network of any depth, by backpropagation."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from meanfield.kernels.activations import activate_with_slope
from meanfield.kernels.blas import single_threaded_blas
from meanfield.model.activations import activation_code
from meanfield.model.losses import losses_and_signals
from meanfield.model.network import Network

__all__ = ["Gradient", "loss_gradient"]

Array = NDArray[np.floating[Any]]


class Gradient(NamedTuple):
    """The mean loss over samples, and its derivatives in the shapes and dtype of a network's arrays."""

    loss: float
    weights: tuple[Array, ...]
    biases: tuple[Array, ...] | None


def loss_gradient(network: Network, x: Array, y: Array, loss: str) -> Gradient:
    """Return the mean loss over the samples and its gradient, by one pass forward and one backward.

        g^H = dl/dy_hat,    g^{l-1} = f_l (W_l^T g^l) * sigma'(z^l),
        dl/dW_l = f_l g^l (h^l)^T,    dl/db_l = g^l

    with h^0 = x, z^l the pre-activations of hidden layer l, and f_l the network's factors: it is the plain gradient,
    without the multipliers of mean-field SGD. At kinks sigma' is the left derivative.

    Parameters
    ----------
    x, y : samples (n, d) and targets (n, C); memory is 3 n times the sum of the widths
    loss : see `meanfield.model.losses`

    Raises
    ------
    ValueError : inputs of the wrong shape or not finite; an unknown loss, or targets that do not suit it

    See Also
    --------
    meanfield.dynamics.multipliers : what SGD multiplies it by.
    """
    features, slopes = _forward(network, network.check_inputs(x))
    losses, signals = losses_and_signals(loss, y, network.readout(features[-1]))
    flow = signals / network.dtype.type(-len(losses))
    weights, biases = [], []
    for layer in reversed(range(network.n_hidden + 1)):
        scale = network.dtype.type(network.factor(layer))
        with single_threaded_blas():
            weights.append(scale * (flow.T @ features[layer]))
            biases.append(flow.sum(axis=0))
            if layer > 0:
                flow = scale * (flow @ network.weights[layer]) * slopes[layer - 1]
    return Gradient(float(losses.mean()), tuple(weights[::-1]), None if network.biases is None else tuple(biases[::-1]))


def _forward(network: Network, x: Array) -> tuple[list[Array], list[Array]]:
    """Return h^0 = x, .., h^H and sigma'(z^1), .., sigma'(z^H)."""
    features, slopes, code = [x], [], activation_code(network.activation, network.dtype)
    for layer in range(network.n_hidden):
        z = network.affine(features[-1], layer)
        h, slope = np.empty(z.shape, z.dtype), np.empty(z.shape, z.dtype)
        activate_with_slope(h.reshape(-1), slope.reshape(-1), code, z.reshape(-1))
        features.append(h)
        slopes.append(slope)
    return features, slopes
