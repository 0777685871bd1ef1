"""Multipliers of SGD: those of the trainer, and the movement of a weight does not depend on the widths."""

from __future__ import annotations

import numpy as np
import pytest
from random_networks import random_network

from meanfield import Empirical, Network, run_sgd
from meanfield.dynamics.multipliers import sgd_multipliers
from meanfield.model.gradient import loss_gradient


def one_sample(dim, n_outputs, seed=0):
    rng = np.random.default_rng(seed)
    return Empirical(rng.standard_normal((1, dim)), rng.standard_normal((1, n_outputs)))


def movements(network, law):
    """Multiplier times gradient of each array, weights first."""
    gradient, multipliers = loss_gradient(network, law.x, law.y, "square"), sgd_multipliers(network)
    slopes = (*gradient.weights, *gradient.biases)
    return [scale * slope for scale, slope in zip((*multipliers.weights, *multipliers.biases), slopes, strict=True)]


def doubled(network):
    """The same function with every hidden neuron twice."""
    last = network.n_hidden
    weights = [
        np.tile(w, (1 if layer == last else 2, 1 if layer == 0 else 2)) for layer, w in enumerate(network.weights)
    ]
    biases = [np.tile(b, 1 if layer == last else 2) for layer, b in enumerate(network.biases)]
    return Network(weights, biases, activation=network.activation, scaling=network.scaling)


def test_the_widths_that_an_array_is_averaged_over():
    multipliers = sgd_multipliers(random_network((3, 4, 5, 6, 2)))
    assert multipliers.weights == (4, 20, 30, 6)
    assert multipliers.biases == (4, 5, 6, 1)


def test_standard_scaling_has_none():
    assert set(sum(sgd_multipliers(random_network((3, 4, 5, 2), scaling="standard")), ())) == {1.0}


@pytest.mark.parametrize("scaling", ["mean-field", "standard"])
def test_one_step_of_run_sgd(scaling):
    network, law = random_network((3, 7, 2), activation="tanh", scaling=scaling), one_sample(3, 2)
    final = run_sgd(network, law, step_size=1e-3, n_steps=1, rng=0).final
    starts, ends = ((*n.weights, *n.biases) for n in (network, final))
    for start, end, movement in zip(starts, ends, movements(network, law), strict=True):
        np.testing.assert_allclose(end, start - 1e-3 * movement, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("hidden", [(3,), (3, 2), (2, 3, 4)])
def test_twice_as_many_neurons_move_as_far(hidden):
    network, law = random_network((4, *hidden, 2), activation="tanh"), one_sample(4, 2)
    twice = doubled(network)
    np.testing.assert_allclose(twice.predict(law.x), network.predict(law.x), rtol=1e-12)
    for narrow, wide in zip(movements(network, law), movements(twice, law), strict=True):
        corner = wide[tuple(slice(n) for n in narrow.shape)]
        np.testing.assert_allclose(corner, narrow, rtol=1e-11, atol=1e-14)
