"""Backpropagation against finite differences of the plain forward pass."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import forward, losses_of_samples
from random_networks import random_network, random_samples

from meanfield import PiecewiseLinear
from meanfield.model.gradient import loss_gradient
from meanfield.model.losses import LOSSES

ACTIVATIONS = ["relu", "tanh", "erf", "sigmoid", "softplus", "linear", "quadratic", "truncated-relu"]
KINKED = PiecewiseLinear([(0.0, -2.5), (0.5, -4.0), (1.5, 7.5)], left_slope=0.5, right_slope=-0.25)


def plain_mean_loss(weights, biases, network, x, y, loss):
    y_hat = forward(weights, biases, network.activation, network.scaling, x)
    return losses_of_samples(loss, y, y_hat).mean()


def finite_differences(value, array, step=1e-6):
    """Derivatives of ``value()`` by the entries of ``array``, which it reads."""
    slopes = np.empty_like(array)
    for index in np.ndindex(array.shape):
        middle, ends = array[index], []
        for sign in (1, -1):
            array[index] = middle + sign * step
            ends.append(value())
        array[index] = middle
        slopes[index] = (ends[0] - ends[1]) / (2 * step)
    return slopes


def assert_gradient(network, x, y, loss):
    weights = [w.copy() for w in network.weights]
    biases = None if network.biases is None else [b.copy() for b in network.biases]
    gradient = loss_gradient(network, x, y, loss)

    def value():
        return plain_mean_loss(weights, biases, network, x, y, loss)

    assert gradient.loss == pytest.approx(value(), rel=1e-12)
    assert (gradient.biases is None) == (biases is None)
    pairs = [*zip(weights, gradient.weights, strict=True), *zip(biases or (), gradient.biases or (), strict=True)]
    for array, slopes in pairs:
        expected = finite_differences(value, array)
        assert slopes.shape == array.shape
        assert np.abs(slopes - expected).max() <= 1e-6 * max(1.0, np.abs(expected).max())


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    hidden=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    loss=st.sampled_from(LOSSES),
    scaling=st.sampled_from(["mean-field", "standard"]),
    biases=st.booleans(),
    seed=st.integers(0, 100),
)
def test_any_depth_loss_and_scaling(hidden, loss, scaling, biases, seed):
    x, y = random_samples(loss, 4, 3, seed=seed)
    network = random_network((3, *hidden, y.shape[1]), activation="tanh", scaling=scaling, biases=biases, seed=seed)
    assert_gradient(network, x, y, loss)


@pytest.mark.parametrize("activation", [*ACTIVATIONS, KINKED], ids=str)
def test_every_activation(activation):
    x, y = random_samples("square", 5, 3, seed=0)
    assert_gradient(random_network((3, 4, 3, 2), activation=activation), x, y, "square")


@pytest.mark.parametrize("loss", LOSSES)
def test_float32_is_kept_and_near_float64(loss):
    x, y = random_samples(loss, 5, 3, seed=1)
    single, double = (random_network((3, 6, 4, y.shape[1]), dtype=dtype) for dtype in (np.float32, np.float64))
    gradients = [loss_gradient(network, x, y, loss) for network in (single, double)]
    for mine, exact in zip(gradients[0].weights, gradients[1].weights, strict=True):
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine, exact, rtol=1e-3, atol=1e-5)


def test_targets_must_suit_the_loss():
    network = random_network((3, 4, 1))
    with pytest.raises(ValueError, match=r"'logistic' does not suit the targets: it needs y = \+1 or -1, got 0.5"):
        loss_gradient(network, np.zeros((2, 3)), np.full((2, 1), 0.5), "logistic")
    with pytest.raises(ValueError, match=r"x must have shape \(n, 3\), got \(2, 4\)"):
        loss_gradient(network, np.zeros((2, 4)), np.ones((2, 1)), "square")
