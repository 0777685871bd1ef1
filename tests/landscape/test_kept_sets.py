"""Kept sets by name: those of the ladder with one hidden layer, and best-of draws compared by hand with several."""

from __future__ import annotations

import numpy as np
import pytest
from oracles import losses_of_samples
from random_networks import random_network as make_network
from random_networks import random_samples

from meanfield import Network
from meanfield.landscape.kept_sets import choose_kept
from meanfield.landscape.path_risk import path_risk
from meanfield.landscape.paths import connect
from meanfield.landscape.subsets import SUBSET_METHODS, choose_subset
from meanfield.model.laws import Empirical, IsotropicGaussians

ISOTROPIC = IsotropicGaussians(dim=2, delta=0.5)


def make_law(n_outputs=2, seed=0):
    rng = np.random.default_rng(seed)
    return Empirical(rng.standard_normal((15, 2)), rng.standard_normal((15, n_outputs)))


@pytest.mark.parametrize("method", ["random", "best-of", "greedy", "swaps", "exhaustive", "adversarial-norm"])
def test_one_hidden_layer_takes_the_sets_of_the_ladder(method):
    network, law = make_network((2, 9, 2)), make_law()
    (kept,) = choose_kept(network, law, method=method, rng=3)
    assert tuple(kept.tolist()) == choose_subset(network, law, 4, method=method, rng=3).kept
    (other,) = choose_kept(network, law, 6, method=method, rng=3)
    assert other.size == 6


@pytest.mark.parametrize("method", ["random", "best-of"])
def test_several_layers(method):
    network, law = make_network((2, 7, 4, 2)), make_law()
    assert [kept.size for kept in choose_kept(network, law, method=method, rng=0)] == [3, 2]
    kept = choose_kept(network, law, (5, 1), method=method, rng=0)
    assert [(indices.size, set(np.diff(indices) > 0)) for indices in kept] == [(5, {True}), (1, set())]
    again = choose_kept(network, law, (5, 1), method=method, rng=0)
    assert all(np.array_equal(a, b) for a, b in zip(kept, again, strict=True))


def largest_phi(network, law, kept):
    sets = [[np.arange(n) if layer < below else kept[layer] for layer, n in enumerate(network.widths[1:-1])]
            for below in range(network.n_hidden)]  # fmt: skip
    predictions = [network.keep(chosen).predict(law.x) for chosen in sets]
    return max(losses_of_samples("square", law.y, outputs).mean() for outputs in predictions)


def test_best_of_is_the_draw_whose_worst_vertex_is_best():
    network, law = make_network((2, 6, 5, 2)), make_law()
    rng = np.random.default_rng(5)
    draws = [[np.sort(rng.choice(n, n // 2, replace=False)) for n in (6, 5)] for _ in range(12)]
    best = min(draws, key=lambda kept: largest_phi(network, law, kept))
    chosen = choose_kept(network, law, method="best-of", n_subsets=12, rng=5)
    assert all(np.array_equal(a, b) for a, b in zip(chosen, best, strict=True))


def test_better_sets_are_lower_vertices():
    ends, law = [make_network((2, 12, 2), seed=seed) for seed in (1, 2)], make_law()
    halves = {}
    for method in ("exhaustive", "greedy", "random", "adversarial-greedy"):
        path = connect(*ends, kept=tuple(choose_kept(end, law, method=method, rng=0) for end in ends))
        halves[method] = np.take(path_risk(path, law).attrs["vertex_risks"], [1, -2])
    assert (halves["exhaustive"] <= halves["greedy"]).all()
    assert (halves["greedy"] < halves["random"]).all()
    assert (halves["random"] < halves["adversarial-greedy"]).all()


def test_fresh_samples_come_before_the_draws():
    network = make_network((2, 4, 4, 1))
    rng = np.random.default_rng(2)
    law = Empirical(*ISOTROPIC.sample(50, rng))
    draws = [[np.sort(rng.choice(4, 2, replace=False)) for _ in range(2)] for _ in range(6)]
    best = min(draws, key=lambda kept: largest_phi(network, law, kept))
    chosen = choose_kept(network, ISOTROPIC, method="best-of", n_samples=50, n_subsets=6, rng=2)
    assert all(np.array_equal(a, b) for a, b in zip(chosen, best, strict=True))


def scaled(network, factor):
    """The network with its first and last weights times ``factor``."""
    first, *between, last = network.weights
    factor = network.dtype.type(factor)
    weights = [first * factor, *between, last * factor]
    return Network(weights, network.biases, activation=network.activation, scaling=network.scaling)


@pytest.mark.parametrize("method", SUBSET_METHODS)
@pytest.mark.parametrize("widths", [(3, 6, 2), (3, 6, 5, 2)])
def test_outputs_that_overflow_are_refused(method, widths):
    law = Empirical(*random_samples("square", 50, 3))
    with pytest.raises(ArithmeticError, match="the loss of a sample is inf, which no search can compare"):
        choose_kept(scaled(make_network(widths, dtype=np.float32, activation="relu"), 1e30), law, method=method, rng=0)


@pytest.mark.filterwarnings("ignore:overflow encountered|invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("method", ["greedy", "swaps", "adversarial-greedy"])
@pytest.mark.parametrize("widths", [(3, 6, 2), (3, 6, 5, 2)])
def test_moments_that_overflow_are_refused(method, widths):
    law = Empirical(*random_samples("square", 50, 3))
    with pytest.raises(ArithmeticError, match=r"a second moment of a neuron is .* scale inputs or weights down"):
        choose_kept(scaled(make_network(widths, dtype=np.float32, activation="relu"), 1e18), law, method=method, rng=0)


def test_sets_whose_outputs_overflow_are_refused_where_all_neurons_together_do_not():
    # Twins that cancel: of one of them alone the outputs overflow.
    weights = [np.ones((2, 1)), np.array([[1e298, -1e298], [0.0, 0.0]])]
    network = Network(weights, activation="relu", scaling="standard")
    law = Empirical(np.full((5, 1), 1e10), np.tile([1.0, 0.0], (5, 1)))
    with pytest.raises(ArithmeticError, match=r"the loss of a kept set is (inf|nan), which no search can compare"):
        choose_kept(network, law, method="greedy", loss="cross-entropy")


def test_bad_input_is_refused():
    deep, law = make_network((2, 4, 4, 2)), make_law()
    with pytest.raises(ValueError, match="unknown method 'greedi': did you mean 'greedy'"):
        choose_kept(deep, law, method="greedi", rng=0)
    with pytest.raises(TypeError, match="random kept sets needs rng="):
        choose_kept(deep, law, method="random")
    with pytest.raises(ValueError, match=r"n_kept must lie in 1\.\.n_neurons=4, got 5"):
        choose_kept(deep, law, (2, 5), method="random", rng=0)
    with pytest.raises(ValueError, match="n_subsets must be at least 1, got 0"):
        choose_kept(deep, law, method="best-of", n_subsets=0, rng=0)
    with pytest.raises(ValueError, match="unknown loss"):
        choose_kept(deep, law, method="best-of", loss="cube", rng=0)
    with pytest.raises(ValueError, match="network has 2 inputs, but the law"):
        choose_kept(deep, Empirical(np.ones((3, 3)), np.ones((3, 2))), method="random", rng=0)
    with pytest.raises(ValueError, match=r"n_kept must lie in 1\.\.n_neurons=1, got 0"):
        choose_kept(make_network((2, 1, 2)), law, method="random", rng=0)
