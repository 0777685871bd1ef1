"""Alignment against brute force over all permutations, and against permutations that were planted."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from random_networks import random_network

from meanfield import Empirical, MeanfieldWarning, Network, StraightLine, align, curve_risk


def perturbed(network, noise, rng):
    """Each array plus Gaussian noise of ``noise`` times the standard deviation of its entries."""
    weights = [w + noise * w.std() * rng.standard_normal(w.shape) for w in network.weights]
    return Network(weights, activation=network.activation, scaling=network.scaling)


def planted(network, rng):
    return [rng.permutation(n) for n in network.widths[1:-1]]


def recovers(widths, noise, seed, scaling="mean-field"):
    """Whether a permutation planted in a perturbed copy is undone."""
    rng = np.random.default_rng(seed)
    first = Network.init(widths, scaling=scaling, rng=rng)
    shuffles = planted(first, rng)
    found = align(first, perturbed(first, noise, rng).keep(shuffles), rng=rng).permutations
    return all((p[q] == np.arange(len(p))).all() for p, q in zip(shuffles, found, strict=True))


def plain_cost(first, second):
    """Mean over hidden neurons, layer by layer, of squared distances; sums in standard scaling."""
    total, hidden = 0.0, [1, *first.widths[1:-1], 1]
    if first.scaling == "standard":
        hidden = [1] * len(hidden)
    for layer, (a, b) in enumerate(zip(first.weights, second.weights, strict=True)):
        total += ((a - b) ** 2).sum() / (hidden[layer] * hidden[layer + 1])
    if first.biases is not None:
        for layer, (a, b) in enumerate(zip(first.biases[:-1], second.biases[:-1], strict=True)):
            total += ((a - b) ** 2).sum() / hidden[layer + 1]
    return total


def all_costs(first, second):
    orders = product(*(permutations(range(n)) for n in first.widths[1:-1]))
    return [plain_cost(first, second.keep(order)) for order in orders]


@pytest.mark.parametrize("scaling", ["mean-field", "standard"])
@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("n_neurons", [1, 2, 3, 4, 5])
def test_one_hidden_layer_is_the_least_over_all_permutations(n_neurons, biases, scaling):
    for seed in range(5):
        first, second = (
            random_network((3, n_neurons, 2), biases=biases, scaling=scaling, seed=s) for s in (seed, 100 + seed)
        )
        alignment = align(first, second)
        assert alignment.cost == pytest.approx(min(all_costs(first, second)), rel=1e-12)
        assert plain_cost(first, second.keep(alignment.permutations)) == pytest.approx(alignment.cost, rel=1e-12)
        assert (alignment.n_sweeps, alignment.n_assignments) == (1, 1)


def test_cost_is_the_squared_wasserstein_distance_of_the_neurons():
    first, second = (random_network((1, 6, 1), biases=False, seed=s) for s in (0, 1))
    cost = align(first, second).cost
    neurons = [np.column_stack([n.weights[1][0], n.weights[0][:, 0]]) for n in (first, second)]
    distances = [np.mean(np.sum((neurons[0] - neurons[1][list(p)]) ** 2, axis=1)) for p in permutations(range(6))]
    assert cost == pytest.approx(min(distances), rel=1e-12)


@pytest.mark.parametrize("scaling", ["mean-field", "standard"])
def test_several_hidden_layers_find_the_least_on_small_networks(scaling):
    for seed in range(10):
        first, second = (random_network((3, 4, 3, 2), scaling=scaling, seed=s) for s in (seed, 100 + seed))
        alignment = align(first, second, n_restarts=30, rng=seed)
        assert alignment.cost == pytest.approx(min(all_costs(first, second)), rel=1e-12)


@pytest.mark.parametrize("scaling", ["mean-field", "standard"])
def test_a_descent_ends_where_no_layer_can_be_improved(scaling):
    for seed in range(5):
        first, second = (random_network((3, 4, 5, 4, 2), scaling=scaling, seed=s) for s in (seed, 100 + seed))
        alignment = align(first, second, n_restarts=0, rng=seed)
        kept = alignment.permutations
        for layer, found in enumerate(kept):
            trials = [
                plain_cost(first, second.keep([*kept[:layer], found[list(p)], *kept[layer + 1 :]]))
                for p in permutations(range(len(found)))
            ]
            assert alignment.cost <= min(trials) + 1e-12
        assert alignment.cost <= plain_cost(first, second) + 1e-12


# Noise is in units of the standard deviation of each array; the counts are those that `align` documents.
@pytest.mark.parametrize("noise", [0.25, 0.35])
def test_a_planted_permutation_is_recovered_in_100_of_100_trials(noise):
    assert sum(recovers((50, 200, 1), noise, seed) for seed in range(100)) == 100


@pytest.mark.parametrize(("noise", "n_recovered"), [(0.4, 97), (0.5, 72), (0.75, 0)])
def test_noise_beyond_the_gaps_between_neurons_hides_it(noise, n_recovered):
    assert sum(recovers((50, 200, 1), noise, seed) for seed in range(100)) == pytest.approx(n_recovered, abs=2)


@pytest.mark.parametrize("scaling", ["mean-field", "standard"])
@pytest.mark.parametrize("widths", [(20, 50, 50, 1), (20, 40, 50, 30, 1)])
def test_a_planted_permutation_of_several_layers_is_recovered_at_noise_035(widths, scaling):
    assert sum(recovers(widths, 0.35, seed, scaling) for seed in range(20)) >= 18


@pytest.mark.long
@pytest.mark.parametrize(("noise", "n_recovered"), [(0.35, 100), (0.5, 93), (0.75, 34)])
def test_recovery_in_two_hidden_layers_is_that_documented(noise, n_recovered):
    assert sum(recovers((20, 50, 50, 1), noise, seed) for seed in range(100)) == pytest.approx(n_recovered, abs=2)


@pytest.mark.parametrize("scaling", ["mean-field", "standard"])
@pytest.mark.parametrize("hidden", [(30,), (20, 25), (10, 15, 12)])
def test_a_pure_permutation_leaves_no_barrier(hidden, scaling):
    rng = np.random.default_rng(3)
    first = random_network((6, *hidden, 2), scaling=scaling)
    alignment = align(first, first.keep(planted(first, rng)), rng=rng)
    assert alignment.network == first
    assert alignment.cost == 0.0
    law = Empirical(rng.standard_normal((40, 6)), rng.standard_normal((40, 2)))
    along = curve_risk(StraightLine(first, alignment.network), law, n_grid=7)
    assert along.attrs["barrier"] <= 1e-12 * along.attrs["maximum"]


@pytest.mark.parametrize("scaling", ["mean-field", "standard"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_function_stays_the_same(scaling, dtype):
    first, second = (random_network((4, 30, 20, 2), scaling=scaling, seed=s, dtype=dtype) for s in (0, 1))
    aligned, x = align(first, second, rng=0).network, np.random.default_rng(2).standard_normal((50, 4))
    assert aligned.dtype == dtype
    scale = np.abs(second.predict(x)).max()
    assert np.abs(aligned.predict(x) - second.predict(x)).max() <= 50 * np.finfo(dtype).eps * scale


def test_of_the_starts_the_nearest_is_kept():
    first, second = (random_network((4, 12, 12, 2), scaling="standard", seed=s) for s in (0, 1))
    alignment = align(first, second, n_restarts=5, rng=0)
    assert len(alignment.start_costs) == 6
    assert alignment.cost == min(alignment.start_costs) < alignment.start_costs[0]
    assert plain_cost(first, alignment.network) == pytest.approx(alignment.cost, rel=1e-12)
    assert alignment.n_assignments == 2 * alignment.n_sweeps >= 2 * 2 * 6


def test_the_same_seed_gives_the_same_alignment():
    first, second = (random_network((4, 12, 12, 2), seed=s) for s in (0, 1))
    once, again = (align(first, second, rng=7) for _ in range(2))
    assert once.network == again.network
    assert once.start_costs == again.start_costs


def test_a_bounded_descent_says_that_it_was_cut_short():
    first, second = (random_network((4, 12, 12, 2), seed=s) for s in (0, 1))
    with pytest.warns(MeanfieldWarning, match="still came nearer after max_sweeps=1: allow more"):
        align(first, second, n_restarts=0, max_sweeps=1, rng=0)


def test_too_wide_a_layer_must_be_allowed():
    first, second = (random_network((2, 20, 1), seed=s) for s in (0, 1))
    with pytest.raises(ValueError, match=r"8 N\^2 = 3,200 bytes for N = 20, above max_bytes=3,000: allow more"):
        align(first, second, max_bytes=3000)
    assert align(first, second, max_bytes=3200).cost > 0


def test_bad_arguments():
    deep = random_network((2, 3, 3, 1))
    with pytest.raises(TypeError, match="align with several hidden layers needs rng="):
        align(deep, deep)
    with pytest.raises(ValueError, match=r"first and second must have the same widths, got \(2, 3, 3, 1\) and \(2, 3"):
        align(deep, random_network((2, 3, 4, 1)), rng=0)
    with pytest.raises(ValueError, match="n_restarts must be at least 0, got -1"):
        align(deep, deep, n_restarts=-1, rng=0)
    with pytest.raises(ValueError, match="max_sweeps must be at least 1, got 0"):
        align(deep, deep, max_sweeps=0, rng=0)
