"""What may move on an idle segment, and what may not: by hand, and against outputs at many points inside."""

from __future__ import annotations

import numpy as np
import pytest
from random_networks import random_network

from meanfield import Empirical, Network, WeightPath, connect, path_risk
from meanfield.landscape.idle_segments import is_idle

# Hidden neurons 0 and 1 are identical, and no output reads neuron 3.
BELOW = np.array([[1.0, 2.0], [1.0, 2.0], [0.5, -1.0], [3.0, 1.0]])
ABOVE = np.array([[1.0, 0.25, -1.0, 0.0], [0.5, 0.0, 2.0, 0.0]])
BIASES = (np.array([0.1, 0.1, 0.0, 0.3]), np.zeros(2))


def network(below=BELOW, above=ABOVE, biases=BIASES, dtype=np.float64):
    arrays = [np.array(array, dtype) for array in (below, above)]
    return Network(arrays, [b.astype(dtype) for b in biases], activation="relu", scaling="mean-field")


def changed(array, places):
    array = array.copy()
    for place, value in places.items():
        array[place] = value
    return array


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("changes", "idle"),
    [
        ({}, True),
        ({"below": changed(BELOW, {(3, 0): 7.0})}, True),
        ({"biases": (changed(BIASES[0], {3: 2.0}), BIASES[1])}, True),
        ({"above": changed(ABOVE, {(0, 0): 0.125, (0, 1): 1.125})}, True),
        ({"above": changed(ABOVE, {(0, 0): 0.0, (0, 1): 1.25, (1, 0): -1.0, (1, 1): 1.5})}, True),
        ({"above": changed(ABOVE, {(0, 0): 0.125, (0, 1): np.nextafter(np.float32(1.125), 2)})}, False),
        ({"above": changed(ABOVE, {(0, 0): 0.0, (0, 2): 0.0})}, False),
        ({"above": changed(ABOVE, {(0, 3): 1.0})}, False),
        ({"below": changed(BELOW, {(3, 0): 7.0}), "above": changed(ABOVE, {(0, 3): 1.0})}, False),
        ({"below": changed(BELOW, {(2, 0): 0.6})}, False),
        ({"below": changed(BELOW, {(1, 0): 2.0}), "above": changed(ABOVE, {(0, 0): 1.25, (0, 1): 0.0})}, False),
        ({"biases": (changed(BIASES[0], {1: 0.2}), BIASES[1])}, False),
        ({"biases": (BIASES[0], np.array([0.0, 1.0]))}, False),
    ],
)
def test_what_may_move_and_what_may_not(changes, idle, dtype):
    start, end = network(dtype=dtype), network(**changes, dtype=dtype)
    assert is_idle(start, end) is idle
    assert is_idle(end, start) is idle


def test_neurons_of_the_same_weights_and_other_biases_are_no_copies():
    biases = (np.array([0.1, 0.2, 0.0, 0.3]), BIASES[1])
    moved = changed(ABOVE, {(0, 0): 0.0, (0, 1): 1.25})
    assert not is_idle(network(biases=biases), network(above=moved, biases=biases))


@pytest.mark.parametrize(("dtype", "large"), [(np.float32, 2.0**20), (np.float64, 2.0**49)])
def test_large_weights_that_cancel_hide_no_change(dtype, large):
    def two_copies(above):
        weights = [np.ones((2, 1)), np.array(above), np.array([[30.0, -30.0]])]
        biases = [np.zeros(2), np.array([-0.5, -1.5]), np.zeros(1)]
        arrays = [[np.asarray(a, dtype) for a in arrays] for arrays in (weights, biases)]
        return Network(*arrays, activation="relu", scaling="standard")

    start = two_copies([[large, -large]] * 2)
    end = two_copies([[large + 1, -large], [large + 2, -large]])
    reordered = two_copies([[-large, large]] * 2)
    assert not is_idle(start, end)
    assert not is_idle(end, start)
    assert is_idle(start, reordered)
    inside = WeightPath([start, end], ["idle"]).at(0.75)
    # 30 relu(3/4 - 1/2) - 30 relu(3/2 - 3/2), and 0 at both ends.
    assert inside.predict(np.ones((1, 1))).item() == pytest.approx(7.5)
    with pytest.raises(ValueError, match="segment 0 is of kind 'idle', but"):
        path_risk(WeightPath([start, end], ["idle"]), Empirical(np.ones((1, 1), dtype), np.zeros((1, 1), dtype)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_of_copies_are_summed_exactly(dtype):
    def copies(weights):
        arrays = [np.ones((3, 1), dtype), np.array([weights], dtype)]
        return Network(arrays, activation="relu", scaling="standard")

    start, half_unit = copies([1.0, 0.0, 0.0]), float(np.finfo(dtype).eps) / 2
    assert not is_idle(start, copies([1.0, half_unit, 0.0]))
    assert is_idle(start, copies([1.0, half_unit, -half_unit]))
    largest = float(np.finfo(dtype).max)
    assert is_idle(copies([largest, largest, -largest]), copies([largest, 0.0, 0.0]))


@pytest.mark.parametrize("hidden", [(8,), (8, 7), (6, 9, 8)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_idle_segments_of_paths_are_idle_and_readout_segments_are_not(hidden, dtype):
    path = connect(*(random_network((3, *hidden, 2), seed=seed, dtype=dtype) for seed in (1, 2)))
    found = [is_idle(*path.ends(segment)) for segment in range(path.n_segments)]
    assert found == [kind == "idle" for kind in path.kinds]
    back = path.reversed()
    assert [is_idle(*back.ends(segment)) for segment in range(back.n_segments)] == found[::-1]


def twins_and_idle_neurons(seed, rng):
    """A network whose first two neurons are identical, and in which nothing reads one neuron of each layer."""
    plain = random_network((3, 4, 4, 1), seed=seed)
    weights, biases = ([array.copy() for array in arrays] for arrays in (plain.weights, plain.biases))
    weights[0][1], biases[0][1] = weights[0][0], biases[0][0]
    weights[1][:, rng.integers(4)] = weights[2][:, rng.integers(4)] = 0
    return Network(weights, biases, activation="relu", scaling="mean-field")


def test_where_it_says_idle_outputs_are_constant_inside():
    x, rng = np.random.default_rng(0).standard_normal((30, 3)), np.random.default_rng(1)
    found = []
    for seed in range(60):
        start = twins_and_idle_neurons(seed, rng)
        moved = [w.copy() for w in start.weights]
        moved[rng.integers(2)][rng.integers(4), :2] += (1.0, -1.0)
        end = Network(moved, start.biases, activation="relu", scaling="mean-field")
        found.append(is_idle(start, end))
        inside = [WeightPath([start, end], ["idle"]).at(u).predict(x) for u in (0.1, 0.5, 0.9, 1.0)]
        constant = np.allclose(inside, start.predict(x), rtol=1e-9, atol=1e-12)
        assert constant or not found[-1]
    assert 0 < sum(found) < len(found)
