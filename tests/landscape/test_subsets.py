"""Searches for kept neurons against brute force: every candidate, every exchange, every subset, one by one."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from oracles import forward
from random_networks import random_network as make_network

import meanfield.model.network as network_module
from meanfield.checks import MeanfieldWarning
from meanfield.landscape import dropout_moments
from meanfield.landscape.dropout import dropout_change, dropout_curve
from meanfield.landscape.dropout_moments import neuron_moments, pair_rows, pair_table
from meanfield.landscape.subsets import SUBSET_METHODS, choose_subset, ladder_exponents, subset_ladder
from meanfield.model.laws import Empirical, IsotropicGaussians
from meanfield.model.network import Network
from meanfield.model.risk import risk
from meanfield.theory.scaling import fit_exponent

ISOTROPIC = IsotropicGaussians(dim=3, delta=0.5)
SEARCHES = ("greedy", "swaps", "adversarial-greedy")


def make_data(n_samples=20, dim=3, n_outputs=2, seed=1):
    rng = np.random.default_rng(seed)
    return Empirical(rng.standard_normal((n_samples, dim)), rng.standard_normal((n_samples, n_outputs)))


def make_signs(n_samples=20, dim=3, seed=1):
    rng = np.random.default_rng(seed)
    return Empirical(rng.standard_normal((n_samples, dim)), rng.choice([-1.0, 1.0], (n_samples, 1)))


def plain_loss(network, law, loss="square"):
    y_hat = forward(network.weights, network.biases, network.activation, network.scaling, law.x)
    values = ((law.y - y_hat) ** 2).sum(axis=1) if loss == "square" else np.log1p(np.exp(-law.y * y_hat))
    return values.mean()


def plain_change(network, law, kept, loss="square"):
    return plain_loss(network.keep([np.sort(kept)]), law, loss) - plain_loss(network, law, loss)


def neuron_outputs(network, x):
    """f_i(x) with y_hat = mean_i f_i + bias, (N, n, C)."""
    n_neurons = network.widths[1]
    alone = [network.keep([[i]]).predict(x) for i in range(n_neurons)]
    return np.array(alone) - (0 if network.biases is None else network.biases[1])


def dense_pairs(network, x):
    f = neuron_outputs(network, x)
    phi = f - f.mean(axis=0)
    return np.einsum("isc,jsc->ij", phi, phi) / len(x)


@pytest.mark.parametrize("scaling", ["mean-field", "standard"])
@pytest.mark.parametrize("n_neurons", [1, 2, 3, 8])
def test_the_matrix_of_pairs_is_that_of_centred_neurons(monkeypatch, scaling, n_neurons):
    monkeypatch.setattr(network_module, "CHUNK", 7)
    monkeypatch.setattr(dropout_moments, "STRIP", 3)
    network, law = make_network((3, n_neurons, 2), scaling=scaling), make_data()
    moments, expected = neuron_moments(network, law.x, law.y), dense_pairs(network, law.x)
    rows = np.array([n_neurons - 1, 0])[: min(2, n_neurons)]
    np.testing.assert_allclose(pair_table(network, law.x, moments), expected, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(pair_rows(network, law.x, moments, rows), expected[rows], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("scaling", ["mean-field", "standard"])
@pytest.mark.parametrize("max_bytes", [2**30, 1], ids=["whole-matrix", "row-by-row"])
@pytest.mark.parametrize(("method", "extreme"), [("greedy", min), ("adversarial-greedy", max)])
def test_each_greedy_step_is_the_best_or_the_worst_there_is(scaling, max_bytes, method, extreme):
    network, law = make_network((3, 8, 2), scaling=scaling), make_data()
    kept = []
    for m in range(1, 9):
        changes = {i: plain_change(network, law, [*kept, i]) for i in range(8) if i not in kept}
        kept.append(extreme(changes, key=changes.get))
        subset = choose_subset(network, law, m, method=method, max_bytes=max_bytes)
        assert subset.kept == tuple(sorted(kept))
        assert subset.change == pytest.approx(changes[kept[-1]], rel=1e-11, abs=1e-14)
        assert (subset.standard_error, subset.method) == (0.0, method)


def exchanges(network, law, kept):
    """Changes of all sets that differ from ``kept`` by one neuron."""
    outside = set(range(network.widths[1])) - set(kept)
    return [plain_change(network, law, [*(set(kept) - {i}), j]) for i in kept for j in outside]


@pytest.mark.parametrize("n_kept", [1, 3, 6, 9])
def test_swaps_end_where_no_exchange_helps(n_kept):
    better = 0
    for seed in range(8):
        network, law = make_network((3, 10, 2), seed=seed), make_data(seed=seed)
        greedy, swaps = (choose_subset(network, law, n_kept, method=name) for name in ("greedy", "swaps"))
        assert swaps.change <= min(exchanges(network, law, swaps.kept)) + 1e-12
        assert swaps.change <= greedy.change + 1e-12
        better += swaps.change < greedy.change - 1e-9
    assert better > 0 or n_kept in (1, 9)


def test_a_bounded_search_says_that_it_was_cut_short():
    network, law = make_network((3, 30, 2)), make_data()
    greedy, swaps = (choose_subset(network, law, 8, method=name) for name in ("greedy", "swaps"))
    with pytest.warns(MeanfieldWarning, match=r"exchanges still lowered the loss after max_sweeps=1: .* allow more"):
        cut = choose_subset(network, law, 8, method="swaps", max_sweeps=1)
    assert swaps.change <= cut.change < greedy.change


@pytest.mark.parametrize(("loss", "law", "n_outputs"), [("square", make_data(), 2), ("logistic", make_signs(), 1)])
@pytest.mark.parametrize("n_kept", [1, 4, 7])
def test_exhaustive_is_the_least_of_all_subsets(loss, law, n_outputs, n_kept):
    network = make_network((3, 7, n_outputs))
    changes = {kept: plain_change(network, law, kept, loss) for kept in combinations(range(7), n_kept)}
    best = choose_subset(network, law, n_kept, method="exhaustive", loss=loss)
    assert best.kept == min(changes, key=changes.get)
    assert best.change == pytest.approx(min(changes.values()), rel=1e-11, abs=1e-15)


def test_the_rungs_are_in_order():
    for seed in range(5):
        network, law = make_network((3, 10, 2), seed=seed), make_data(seed=seed)
        ladder = subset_ladder(network, law, [2, 5], methods=SUBSET_METHODS, rng=seed)
        mean = dropout_curve(network, law, [2, 5])["mean_change"].to_numpy()
        by = {name: rows["change"].to_numpy() for name, rows in ladder.groupby("method")}
        assert (by["exhaustive"] <= np.minimum(by["swaps"], by["best-of"]) + 1e-12).all()
        assert (by["best-of"] <= by["random"] + 1e-12).all()
        assert (by["best-of"] < mean).all()
        assert (by["swaps"] <= by["greedy"] + 1e-12).all()
        assert (by["adversarial-greedy"] >= mean).all()


def test_best_of_is_the_least_of_the_random_sets():
    network, law = make_network((3, 9, 1)), make_signs()
    generator = np.random.default_rng(5)
    sets = [np.flatnonzero(generator.permutation(9) < 4) for _ in range(30)]
    changes = [plain_change(network, law, kept, "logistic") for kept in sets]
    best = choose_subset(network, law, 4, method="best-of", loss="logistic", n_subsets=30, rng=5)
    first = choose_subset(network, law, 4, method="random", loss="logistic", rng=5)
    assert best.kept == tuple(sets[np.argmin(changes)])
    assert best.change == pytest.approx(min(changes), rel=1e-11)
    assert first.kept == tuple(sets[0])


def test_random_sets_are_uniform():
    network, law, counts = make_network((3, 4, 2)), make_data(2), {}
    for seed in range(600):
        kept = choose_subset(network, law, 2, method="random", n_subsets=1, rng=seed).kept
        counts[kept] = counts.get(kept, 0) + 1
    assert len(counts) == 6
    # Chi square with 5 degrees of freedom exceeds 25 in 1 of 7,000 cases.
    assert sum((count - 100) ** 2 / 100 for count in counts.values()) < 25


def test_the_largest_norms_count_biases_and_all_outputs():
    incoming = np.array([[3.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    outgoing = np.array([[1.0, 0.0, 2.0, 1.0], [0.0, 4.0, 2.0, 0.0]])
    law = make_data(dim=2)
    without = Network([incoming, outgoing], activation="relu", scaling="standard")
    offsets = [np.array([0.0, 0.0, 0.0, 9.0]), np.array([50.0, 50.0])]
    with_biases = Network([incoming, outgoing], offsets, activation="relu", scaling="standard")
    # |w| = 3, 1, sqrt 2, 0 (or 9) and |a| = 1, 4, sqrt 8, 1: products 3, 4, 4, 0 (or 9).
    norms = [choose_subset(without, law, m, method="adversarial-norm").kept for m in (2, 3)]
    assert norms == [(1, 2), (0, 1, 2)]
    assert choose_subset(with_biases, law, 1, method="adversarial-norm").kept == (3,)


def test_large_neurons_do_worse_than_the_mean_in_networks_with_unequal_ones():
    network, law = make_network((3, 40, 2)), make_data(200)
    ladder = subset_ladder(network, law, [2, 8], methods=["adversarial-norm"], loss="square")
    assert (ladder["change"].to_numpy() > dropout_curve(network, law, [2, 8])["mean_change"].to_numpy()).all()


@pytest.mark.parametrize("method", ["greedy", "best-of"])
def test_fresh_samples_measure_that_did_not_choose(method):
    network = make_network((3, 8, 1))
    subset = choose_subset(network, ISOTROPIC, 3, method=method, n_samples=30, n_subsets=20, rng=7)
    generator = np.random.default_rng(7)
    first, second = (Empirical(*ISOTROPIC.sample(30, generator)) for _ in range(2))
    chosen = choose_subset(network, first, 3, method=method, n_subsets=20, rng=generator)
    assert subset.kept == chosen.kept
    assert subset.change == pytest.approx(plain_change(network, second, subset.kept), rel=1e-10)
    smaller = network.keep([subset.kept])
    paired = (smaller.predict(second.x) - second.y) ** 2 - (network.predict(second.x) - second.y) ** 2
    assert subset.standard_error == pytest.approx(paired.std(ddof=1) / np.sqrt(30), rel=1e-10)


def test_the_change_on_fresh_samples_is_unbiased_though_the_set_was_chosen():
    network, seeds = make_network((3, 20, 1)), range(100)
    population = Empirical(*ISOTROPIC.sample(20_000, np.random.default_rng(1000)))

    def gap(law, seed):
        subset = choose_subset(network, law, 3, method="swaps", n_samples=10, rng=seed)
        return subset.change - dropout_change(network, population, subset.kept).value

    fresh = np.array([gap(ISOTROPIC, seed) for seed in seeds])
    same = np.array([gap(Empirical(*ISOTROPIC.sample(10, np.random.default_rng(seed))), seed) for seed in seeds])
    assert abs(fresh.mean()) < 3 * fresh.std() / np.sqrt(len(seeds))
    # The control: on the samples that chose it the set looks better than it is.
    assert same.mean() < -5 * same.std() / np.sqrt(len(seeds))


def test_the_table_follows_sizes_and_methods_and_each_row_is_the_subset_chosen_alone():
    network, methods = make_network((3, 9, 1)), ["swaps", "random", "adversarial-norm", "best-of"]
    options = {"n_samples": 50, "n_subsets": 10, "rng": 3}
    ladder = subset_ladder(network, ISOTROPIC, [6, 2, 6], methods=methods, **options)
    assert list(ladder) == ["n_kept", "method", "change", "standard_error", "n_neurons", "risk"]
    assert ladder["n_kept"].tolist() == [6] * 4 + [2] * 4 + [6] * 4
    assert ladder["method"].tolist() == methods * 3
    assert set(ladder["n_neurons"]) == {9}
    for row in ladder.itertuples():
        alone = choose_subset(network, ISOTROPIC, row.n_kept, method=row.method, **options)
        assert (row.change, row.standard_error) == (alone.change, alone.standard_error)
    generator = np.random.default_rng(3)
    _, measuring = (Empirical(*ISOTROPIC.sample(50, generator)) for _ in range(2))
    assert ladder["risk"].to_numpy() == pytest.approx(risk(network, measuring).value, rel=1e-12)


def test_the_change_is_that_of_dropout_change():
    network, law = make_network((3, 9, 2)), make_data()
    subset = choose_subset(network, law, 4, method="swaps")
    assert dropout_change(network, law, subset.kept).value == subset.change


@pytest.mark.parametrize("method", SUBSET_METHODS)
def test_keeping_all_neurons_changes_nothing(method):
    subset = choose_subset(make_network((3, 6, 2)), make_data(), 6, method=method, rng=0)
    assert (subset.kept, subset.change) == (tuple(range(6)), 0.0)


def test_one_neuron_can_be_kept():
    ladder = subset_ladder(make_network((3, 1, 2)), make_data(), [1], methods=SUBSET_METHODS, rng=0)
    assert (ladder["change"] == 0).all()


@pytest.mark.parametrize("n_threads", ["1", "3"])
def test_the_bits_do_not_depend_on_the_number_of_threads(monkeypatch, n_threads):
    monkeypatch.setattr(network_module, "CHUNK", 64)
    monkeypatch.setattr(dropout_moments, "STRIP", 8)
    network, options = make_network((3, 40, 1), dtype=np.float32), {"n_samples": 300, "rng": 1}
    monkeypatch.setenv("MEANFIELD_NUM_THREADS", "2")
    ladder = subset_ladder(network, ISOTROPIC, [3, 20], **options)
    by_rows = choose_subset(network, ISOTROPIC, 5, method="greedy", max_bytes=1, **options)
    monkeypatch.setenv("MEANFIELD_NUM_THREADS", n_threads)
    assert subset_ladder(network, ISOTROPIC, [3, 20], **options).equals(ladder)
    assert choose_subset(network, ISOTROPIC, 5, method="greedy", max_bytes=1, **options) == by_rows


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "gredy"}, ValueError, "unknown method 'gredy': did you mean 'greedy'"),
        ({"n_kept": 31}, ValueError, r"n_kept must lie in 1..n_neurons=30, got 31"),
        ({"n_kept": 2.0}, TypeError, "got 2.0 of type float"),
        ({"loss": "hinge"}, ValueError, "unknown loss 'hinge'"),
        (
            {"method": "exhaustive", "n_kept": 15},
            ValueError,
            "would try 155,117,520 sets of 15 of 30 neurons, above the",
        ),
        ({"method": "exhaustive", "n_kept": 15}, ValueError, "133,333 allowed: use 'swaps' or 'best-of'"),
        (
            {"method": "swaps", "max_bytes": 7199},
            ValueError,
            r"N x N matrix of 8 N\^2 = 7,200 bytes for N = 30, above max",
        ),
        ({"method": "random"}, TypeError, "random kept sets needs rng="),
        ({"method": "best-of", "rng": -1}, TypeError, "a search for kept neurons needs rng="),
        ({"method": "best-of", "rng": 0, "n_subsets": 0}, ValueError, "n_subsets must be at least 1, got 0"),
        ({"max_sweeps": 0}, ValueError, "max_sweeps must be at least 1, got 0"),
        ({"max_bytes": 0}, ValueError, "max_bytes must be positive and finite, got 0"),
        ({"law": ISOTROPIC}, TypeError, "evaluation on fresh samples needs rng="),
        ({"law": make_data(dim=4)}, ValueError, "network has 3 inputs, but the law Empirical has 4"),
        ({"network": make_network((3, 4, 4, 1))}, ValueError, "one hidden layer here, got 2 layers"),
    ],
)
def test_bad_input(options, error, message):
    arguments = {"network": make_network((3, 30, 1)), "law": make_signs(), "n_kept": 3, "method": "greedy"} | options
    with pytest.raises(error, match=message):
        choose_subset(**arguments)


@pytest.mark.parametrize("method", SEARCHES)
def test_searches_by_the_square_loss_refuse_others(method):
    message = f"method '{method}' needs the square loss, got loss='logistic': use 'random', 'best-of', 'exhaustive'"
    with pytest.raises(ValueError, match=message):
        choose_subset(make_network((3, 6, 1)), make_signs(), 3, method=method, loss="logistic")


def test_the_ladder_names_what_it_needs_before_it_searches():
    network, law = make_network((3, 30, 1)), make_signs()
    with pytest.raises(ValueError, match=r"methods must name at least one of random, best-of, greedy, .*, got none"):
        subset_ladder(network, law, [3], methods=[])
    with pytest.raises(ValueError, match="would try 155,117,520 sets of 15"):
        subset_ladder(network, law, [2, 15], methods=["greedy", "exhaustive"])
    with pytest.raises(TypeError, match="n_kept must be a sequence of integers, got 3"):
        subset_ladder(network, law, 3, rng=0)
    assert subset_ladder(network, law, [3], methods="greedy")["method"].tolist() == ["greedy"]


def synthetic_ladders(exponents, n_neurons=100, n_seeds=4):
    """Changes 3 m^p (N - m)/(N - 1), times a factor of each seed that does not depend on m."""
    rows = [
        {"n_kept": m, "method": name, "change": (1 + seed) * 3 * m**p * (n_neurons - m) / (n_neurons - 1)}
        | {"seed": seed, "n_neurons": n_neurons}
        for seed in range(n_seeds)
        for name, p in exponents.items()
        for m in (2, 10, 50, n_neurons)
    ]
    return pd.DataFrame(rows)


def test_exponents_are_those_that_went_in_and_keeping_all_neurons_does_not_count():
    table = ladder_exponents(synthetic_ladders({"random": -1, "greedy": -2}))
    assert table["method"].tolist() == ["random", "greedy"]
    np.testing.assert_allclose(table["exponent"], [-1, -2], rtol=1e-12)
    assert (table[["n_neurons", "n_points", "n_seeds", "x_max"]] == [100, 3, 4, 50]).all(axis=None)


def test_exponents_are_fitted_where_every_seed_loses():
    ladders = synthetic_ladders({"greedy": -2})
    ladders.loc[(ladders["n_kept"] == 50) & (ladders["seed"] == 1), "change"] = -1e-3
    (fewer,) = ladder_exponents(ladders).itertuples()
    assert (fewer.n_points, fewer.x_max) == (2, 10)
    assert fewer.exponent == pytest.approx(-2, rel=1e-12)
    ladders.loc[ladders["n_kept"] == 10, "change"] = np.nan
    none = ladder_exponents(pd.concat([ladders, synthetic_ladders({"random": -1})]))
    assert none["n_points"].tolist() == [1, 3]
    assert np.isnan(none["exponent"][0])
    assert none["exponent"][1] == pytest.approx(-1)


def test_exponents_of_each_method_and_width_have_seeds_as_units():
    network, law = make_network((3, 12, 2)), make_data()
    ladders = pd.concat(
        subset_ladder(make_network((3, n, 2), seed=seed), law, [1, 2, 4], methods=["adversarial-greedy"]).assign(
            seed=seed
        )
        for n in (10, 12)
        for seed in range(3)
    )
    table = ladder_exponents(ladders, level=0.8)
    assert table["n_neurons"].tolist() == [10, 12]
    rows = ladders[ladders["n_neurons"] == network.widths[1]]
    fit = fit_exponent(rows["n_kept"], rows["change"] * 11 / (12 - rows["n_kept"]), rows["seed"], level=0.8)
    assert table.iloc[1][["exponent", "low", "high", "n_seeds"]].tolist() == pytest.approx(
        [fit.exponent, fit.low, fit.high, 3], rel=1e-12
    )


def test_exponents_need_seeds():
    with pytest.raises(ValueError, match=r"ladders must have a column seed, got .*: add it with .assign"):
        ladder_exponents(synthetic_ladders({"random": -1}).drop(columns="seed"))
    with pytest.raises(ValueError, match="at least 2 seeds, got 1"):
        ladder_exponents(synthetic_ladders({"random": -1}, n_seeds=1))
