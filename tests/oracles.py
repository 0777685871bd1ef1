"""Plain NumPy twins of the package's arithmetic, written from the formulas and sharing no code with it."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.special import erf, expit, logsumexp, softmax

SQRT2 = np.sqrt(2)


def relu(z):
    return np.maximum(z, 0)


def softplus(z):
    return np.logaddexp(0, z)


# name: (sigma, sigma'), the left derivative at kinks
NAMED = {
    "relu": (relu, lambda z: np.where(z > 0, 1.0, 0.0)),
    "tanh": (np.tanh, lambda z: 1 / np.cosh(np.clip(z, -300, 300)) ** 2),
    "erf": (lambda z: erf(z / SQRT2), lambda z: np.sqrt(2 / np.pi) * np.exp(-(z**2) / 2)),
    "sigmoid": (expit, lambda z: expit(z) * expit(-z)),
    "softplus": (softplus, expit),
    "linear": (lambda z: z, np.ones_like),
    "quadratic": (np.square, lambda z: 2 * z),
}


def knots_of(activation):
    """Knots (K, 2), left and right slope of a piecewise linear activation."""
    if activation == "truncated-relu":
        return np.array([[0.5, -2.5], [1.5, 7.5]]), 0.0, 0.0
    return np.array(activation.knots), activation.left_slope, activation.right_slope


def activation_value(activation, z):
    """sigma(z), of the shape of z."""
    if activation in NAMED:
        return NAMED[activation][0](z)
    knots, left, right = knots_of(activation)
    inside = np.interp(z, knots[:, 0], knots[:, 1])
    return inside + left * np.minimum(z - knots[0, 0], 0) + right * np.maximum(z - knots[-1, 0], 0)


def activation_slope(activation, z):
    """sigma'(z), the left derivative at kinks."""
    if activation in NAMED:
        return NAMED[activation][1](z)
    knots, left, right = knots_of(activation)
    slopes = np.concatenate([[left], np.diff(knots[:, 1]) / np.diff(knots[:, 0]), [right]])
    return slopes[np.searchsorted(knots[:, 0], z, side="left")]


def layer_factor(weights, layer, scaling):
    """1 / n_l above the first layer in mean-field scaling, else 1."""
    return 1 / weights[layer].shape[1] if scaling == "mean-field" and layer > 0 else 1.0


def forward(weights, biases, activation, scaling, x):
    """Outputs (n, C) of a network with weights[l] (n_{l+1}, n_l) on inputs (n, d)."""
    h = x
    for layer, w in enumerate(weights):
        z = layer_factor(weights, layer, scaling) * (h @ w.T) + (0 if biases is None else biases[layer])
        h = z if layer == len(weights) - 1 else activation_value(activation, z)
    return h


def kept_forward(network, x, kept):
    """Outputs (n, C) with averages over the kept neurons of each hidden layer in place of all."""
    h, columns, factor = x, slice(None), 1.0
    biases = network.biases or [np.zeros(n) for n in network.widths[1:]]
    for layer, (w, b) in enumerate(zip(network.weights, biases, strict=True)):
        z = factor * h[:, columns] @ w[:, columns].T + b
        if layer < network.n_hidden:
            h, columns = activation_value(network.activation, z), list(kept[layer])
            factor = (1 if network.scaling == "mean-field" else z.shape[1]) / len(columns)
    return z


def loss_of_sample(loss, y, y_hat):
    """l(y, y_hat) of one sample, y and y_hat (C,)."""
    if loss == "square":
        return ((y - y_hat) ** 2).sum()
    if loss == "logistic":
        return np.logaddexp(0, -y[0] * y_hat[0])
    return logsumexp(y_hat) - y @ y_hat


def losses_of_samples(loss, y, y_hat):
    """l(y, y_hat) of each sample, (n,); y and y_hat (n, C)."""
    return np.array([loss_of_sample(loss, *pair) for pair in zip(y, y_hat, strict=True)])


def loss_slope(loss, y, y_hat):
    """dl/dy_hat of one sample, (C,)."""
    if loss == "square":
        return 2 * (y_hat - y)
    if loss == "logistic":
        return -y * expit(-y * y_hat)
    return softmax(y_hat) - y


def sgd_multipliers(network):
    """Multipliers of the gradients of weights and biases, layer by layer: the widths that an array is averaged over."""
    hidden = network.widths[1:-1]
    if network.scaling == "standard":
        return [1] * (len(hidden) + 1), [1] * (len(hidden) + 1)
    internal = [n_in * n_out for n_in, n_out in itertools.pairwise(hidden)]
    return [hidden[0], *internal, hidden[-1]], [*hidden, 1]


def gradients_of_sample(weights, biases, activation, scaling, x, y, loss):
    """Loss and its plain derivatives by weights and biases at one sample x (d,), y (C,)."""
    n_layers = len(weights)
    factors = [layer_factor(weights, layer, scaling) for layer in range(n_layers)]
    inputs, pre_activations = [x], []
    for w, b, factor in zip(weights, biases, factors, strict=True):
        pre_activations.append(factor * w @ inputs[-1] + b)
        inputs.append(activation_value(activation, pre_activations[-1]))
    y_hat = pre_activations[-1]
    by_z = loss_slope(loss, y, y_hat)
    by_weights, by_biases = [], []
    for layer in reversed(range(n_layers)):
        by_weights.insert(0, factors[layer] * np.outer(by_z, inputs[layer]))
        by_biases.insert(0, by_z)
        if layer > 0:
            slope = activation_slope(activation, pre_activations[layer - 1])
            by_z = factors[layer] * (by_z @ weights[layer]) * slope
    return loss_of_sample(loss, y, y_hat), by_weights, by_biases


def plain_sgd(network, x, y, step_sizes, batch_size, trained=None, loss="square", weight_decay=0.0):
    """SGD as it is defined: step by step, sample by sample, all arrays (or those named) moved from the same values.

    Returns weights, biases (None if the network has none) and the mean loss of each step's samples before it.
    """
    weights = [w.astype(float) for w in network.weights]
    biases = [b.astype(float) for b in network.biases or [np.zeros(n) for n in network.widths[1:]]]
    names = [f"weight_{layer}" for layer in range(len(weights))] + [f"bias_{layer}" for layer in range(len(weights))]
    of_weights, of_biases = sgd_multipliers(network)
    losses = []
    for step, size in enumerate(step_sizes):
        moves = [np.zeros_like(array) for array in weights + biases]
        mean_loss = 0.0
        for k in range(step * batch_size, (step + 1) * batch_size):
            value, by_weights, by_biases = gradients_of_sample(
                weights, biases, network.activation, network.scaling, x[k], y[k], loss
            )
            mean_loss += value / batch_size
            for move, gradient, multiplier in zip(moves, by_weights + by_biases, of_weights + of_biases, strict=True):
                move -= size / batch_size * multiplier * gradient
        for name, array, move in zip(names, weights + biases, moves, strict=True):
            if trained is None or name in trained:
                array *= 1.0 if name == names[-1] else 1 - 2 * weight_decay * size
                array += move
        losses.append(mean_loss)
    return tuple(weights), None if network.biases is None else tuple(biases), np.array(losses)


def relative_error(network, weights, biases):
    """The largest error of an array, relative to its largest entry; NaN if any is."""
    pairs = zip((*network.weights, *(network.biases or ())), (*weights, *(biases or ())), strict=True)
    return np.max([np.abs(a - b).max() / np.abs(b).max() for a, b in pairs])
