"""Features taken over from another network, against plain forward passes: nothing that differs may be taken over."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import random_network as make_network

from meanfield import Network, connect
from meanfield.landscape.reused_features import hidden_features, live_neurons, stale_neurons, updated_features

X = np.random.default_rng(0).standard_normal((20, 3))


def thinned(network, rng, zeros):
    """The network with a part ``zeros`` of its weights above the first layer zero."""
    first, *above = network.weights
    masked = [w * (rng.random(w.shape) >= zeros) for w in above]
    return Network([first, *masked], network.biases, activation=network.activation, scaling=network.scaling)


def nudged(network, rng, n_moved):
    """The network with random entries of random arrays moved."""
    weights = [w.copy() for w in network.weights]
    biases = None if network.biases is None else [b.copy() for b in network.biases]
    for _ in range(n_moved):
        arrays = [*weights, *(biases or [])]
        array = arrays[rng.integers(len(arrays))]
        array.flat[rng.integers(array.size)] += 1
    return Network(weights, biases, activation=network.activation, scaling=network.scaling)


def indices(masks):
    return [np.flatnonzero(mask) for mask in masks]


networks = st.fixed_dictionaries(
    {
        "hidden": st.lists(st.integers(1, 6), min_size=1, max_size=4),
        "scaling": st.sampled_from(["mean-field", "standard"]),
        "biases": st.booleans(),
        "seed": st.integers(0, 1000),
        "zeros": st.sampled_from([0.0, 0.5, 0.9]),
        "n_moved": st.integers(0, 4),
    }
)


def make_pair(hidden, scaling, biases, seed, zeros, n_moved):
    rng = np.random.default_rng(seed)
    whole = make_network((3, *hidden, 2), activation="tanh", scaling=scaling, biases=biases, seed=seed)
    known = thinned(whole, rng, zeros)
    return known, nudged(known, rng, n_moved)


@settings(max_examples=150, deadline=None)
@given(networks)
def test_features_and_outputs_are_those_of_a_forward_pass(options):
    known, network = make_pair(**options)
    stale, live = stale_neurons(known, network), live_neurons(network)
    before = hidden_features(known, X)
    after = updated_features(network, X, before, indices(stale))
    for layer, (mine, old, anew) in enumerate(zip(after, before, stale, strict=True), start=1):
        np.testing.assert_allclose(mine, network.features(X, layer), rtol=1e-12, atol=1e-14)
        assert (mine is old) == (not anew.any())
        np.testing.assert_array_equal(mine[:, ~anew], old[:, ~anew])
    needed = indices([a & b for a, b in zip(stale, live, strict=True)])
    outputs = network.readout(updated_features(network, X, before, needed)[-1])
    np.testing.assert_allclose(outputs, network.predict(X), rtol=1e-12, atol=1e-13)


@settings(max_examples=50, deadline=None)
@given(networks)
def test_live_neurons_are_those_that_move_the_outputs(options):
    _, network = make_pair(**options)
    features, live = hidden_features(network, X), live_neurons(network)
    for layer in range(network.n_hidden):
        for neuron in range(network.widths[layer + 1]):
            moved = features[layer].copy()
            moved[:, neuron] += 1
            for above in range(layer + 1, network.n_hidden):
                moved = network.activate(network.affine(moved, above))
            assert (network.readout(moved) != network.predict(X)).any() == live[layer][neuron]


def test_hidden_features_are_those_of_the_network():
    network = make_network((3, 5, 4, 2))
    for layer, features in enumerate(hidden_features(network, X), start=1):
        np.testing.assert_array_equal(features, network.features(X, layer))


def test_a_neuron_is_stale_if_it_moves_or_reads_one_that_is():
    weights = [np.eye(3), np.array([[1.0, 0, 0], [0, 1, 1]]), np.ones((1, 2))]
    network = Network(weights, [np.zeros(3), np.zeros(2), np.zeros(1)], activation="relu", scaling="standard")
    assert all(not mask.any() for mask in stale_neurons(network, network))
    moved = Network([weights[0] + [[0], [0], [1]], *weights[1:]], network.biases, activation="relu", scaling="standard")
    assert [mask.tolist() for mask in stale_neurons(network, moved)] == [[False, False, True], [False, True]]
    shifted = Network(weights, [np.zeros(3), np.array([1.0, 0]), np.zeros(1)], activation="relu", scaling="standard")
    assert [mask.tolist() for mask in stale_neurons(network, shifted)] == [[False] * 3, [True, False]]


@pytest.mark.parametrize("hidden", [(8,), (8, 6), (8, 6, 7)])
def test_idle_segments_of_a_path_leave_live_neurons_as_they_are_but_where_a_copy_takes_over(hidden):
    path = connect(*(make_network((3, *hidden, 2), seed=seed) for seed in (1, 2)))
    anew = []
    for segment in np.flatnonzero(np.array(path.kinds) == "idle"):
        start, _ = path.ends(segment)
        inside = path.at((segment + 0.4) / path.n_segments)
        masks = zip(stale_neurons(start, inside), live_neurons(inside), strict=True)
        anew.append(sum(int((stale & live).sum()) for stale, live in masks))
    # Where the copies take over, the neurons above the first layer read both.
    assert np.count_nonzero(anew) == (len(hidden) > 1)
