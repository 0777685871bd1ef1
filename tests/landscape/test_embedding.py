"""Embedding keeps the function; permutations of neurons are recognised."""

from __future__ import annotations

import numpy as np
import pytest
from random_networks import random_network as make_network

from meanfield import Network
from meanfield.landscape.embedding import are_permuted, embed


@pytest.mark.parametrize("scaling", ["mean-field", "standard"])
@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("activation", ["tanh", "softplus", "truncated-relu"])
@pytest.mark.parametrize("n_neurons", [(4, 9), (7, 3), (5, 5), (40, 30)])
def test_embedded_networks_are_the_same_function(scaling, biases, activation, n_neurons):
    network = make_network((2, 4, 3, 2), scaling=scaling, biases=biases, activation=activation)
    wide = embed(network, n_neurons)
    assert wide.widths == (2, *n_neurons, 2)
    x = np.random.default_rng(1).standard_normal((30, 2))
    np.testing.assert_allclose(wide.predict(x), network.predict(x), rtol=1e-11, atol=1e-12)
    assert not wide.weights[-1][:, 3:].any()
    assert not wide.weights[1][:, 4:].any()


def test_a_network_of_these_widths_is_itself_and_single_precision_stays():
    network = make_network((2, 4, 3, 2), dtype=np.float32)
    assert embed(network, (4, 3)) is network
    assert embed(network, (6, 7)).dtype == np.float32


def test_networks_only_grow():
    network = make_network((2, 4, 3, 2))
    with pytest.raises(ValueError, match="one number a hidden layer, 2, got 1"):
        embed(network, (4,))
    with pytest.raises(ValueError, match=r"n_neurons\[1\] must be at least 3, got 2"):
        embed(network, (4, 2))
    with pytest.raises(TypeError, match=r"n_neurons\[0\] must be an integer, got 4.0"):
        embed(network, (4.0, 3))


def permuted(network, seed):
    rng = np.random.default_rng(seed)
    weights, biases = list(network.weights), None if network.biases is None else list(network.biases)
    for layer in range(network.n_hidden):
        order = rng.permutation(network.widths[layer + 1])
        weights[layer], weights[layer + 1] = weights[layer][order], weights[layer + 1][:, order]
        if biases:
            biases[layer] = biases[layer][order]
    return Network(weights, biases, activation=network.activation, scaling=network.scaling)


@pytest.mark.parametrize("widths", [(2, 6, 1), (3, 5, 4, 2), (2, 4, 4, 4, 3)])
@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_permutations_are_recognised(widths, biases, seed):
    network = make_network(widths, biases=biases, seed=seed)
    twin = permuted(network, seed)
    assert are_permuted(network, twin)
    for layer in range(len(network.weights)):
        weights = [w.copy() for w in twin.weights]
        weights[layer][0, 0] = np.nextafter(weights[layer][0, 0], np.inf)
        nudged = Network(weights, twin.biases, activation=twin.activation, scaling=twin.scaling)
        assert not are_permuted(network, nudged)


def test_biases_count():
    network = make_network((2, 4, 1))
    nudged = Network(
        network.weights, [network.biases[0] + 1, network.biases[1]], activation="relu", scaling="mean-field"
    )
    assert not are_permuted(network, nudged)


@pytest.mark.parametrize("widths", [(2, 6, 1), (3, 5, 4, 2)])
def test_neurons_with_equal_incoming_weights_are_told_apart_by_their_outgoing_ones(widths):
    network = make_network(widths)
    weights, biases = [w.copy() for w in network.weights], [b.copy() for b in network.biases]
    weights[0][1], biases[0][1] = weights[0][0], biases[0][0]
    twins = Network(weights, biases, activation="relu", scaling="mean-field")
    assert all(are_permuted(twins, permuted(twins, seed)) for seed in range(10))


def test_signs_of_zeros_do_not_count():
    network = make_network((2, 4, 1), biases=False)
    zeros = [np.zeros((4, 2)), network.weights[1]]
    options = {"activation": "relu", "scaling": "mean-field"}
    assert are_permuted(Network(zeros, **options), Network([-zeros[0], zeros[1]], **options))


@pytest.mark.parametrize(
    ("widths", "options"), [((2, 5, 1), {}), ((2, 4, 1), {"scaling": "standard"}), ((2, 4, 1), {"biases": False})]
)
def test_networks_of_another_form_are_no_permutation(widths, options):
    assert not are_permuted(make_network((2, 4, 1)), make_network(widths, **options))
