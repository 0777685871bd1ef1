"""The size of terms bounds what rounding is in proportion to."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from meanfield import Network, PiecewiseLinear
from meanfield.landscape.rounding import size_of_terms

ACTIVATIONS = ["relu", "tanh", "softplus", "quadratic", "truncated-relu", PiecewiseLinear([(1.0, 4.0), (2.0, -9.0)])]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("widths", [(3, 7, 2), (4, 6, 5, 1)])
@pytest.mark.parametrize("scaling", ["mean-field", "standard"])
def test_it_bounds_the_sums_of_absolute_terms(activation, widths, scaling):
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((after, before)) for before, after in pairwise(widths)]
    network = Network(weights, [rng.standard_normal(n) for n in widths[1:]], activation=activation, scaling=scaling)
    x = 3 * rng.standard_normal((40, widths[0]))
    last = network.n_hidden
    terms = network.factor(last) * np.abs(network.features(x, last)) @ np.abs(weights[-1]).T + np.abs(
        network.biases[-1]
    )
    size = size_of_terms(network, x)
    assert size.shape == (40,)
    assert np.all(size >= terms.max(axis=1))


def test_it_sees_terms_that_cancel_in_a_pre_activation():
    network = Network([np.array([[1e6, -1e6]]), np.array([[2.0]])], activation="relu", scaling="standard")
    assert network.predict([[1.0, 1.0]]) == 0
    np.testing.assert_allclose(size_of_terms(network, np.array([[1.0, 1.0]])), 2 * np.sqrt(2) * 1e6 * np.sqrt(2))


def test_it_is_exact_for_one_neuron_and_one_input():
    network = Network(
        [np.array([[-3.0]]), np.array([[2.0]])],
        [np.array([0.5]), np.array([-1.0])],
        activation="relu",
        scaling="mean-field",
    )
    np.testing.assert_allclose(size_of_terms(network, np.array([[4.0], [0.0]])), [2 * 12.5 + 1, 2 * 0.5 + 1])
