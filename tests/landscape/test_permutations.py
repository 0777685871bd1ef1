"""Random orders of the neurons: cumulative sums against kept networks, quantiles against all subsets one by one."""

from __future__ import annotations

from itertools import combinations, permutations, product
from math import comb

import numpy as np
import pytest
from oracles import forward, losses_of_samples
from random_networks import random_law
from random_networks import random_network as make_network

import meanfield.model.network as network_module
from meanfield.landscape import nested
from meanfield.landscape.dropout import dropout_curve
from meanfield.landscape.evaluation import Evaluation
from meanfield.landscape.nested import nested_changes
from meanfield.landscape.orders import random_joins
from meanfield.landscape.permutations import dropout_quantiles, quantile_intervals
from meanfield.model.laws import IsotropicGaussians
from meanfield.model.losses import LOSSES
from meanfield.model.risk import risk

ISOTROPIC = IsotropicGaussians(dim=3, delta=0.5)
N_OUTPUTS = {"square": 2, "logistic": 1, "cross-entropy": 3}
COLUMNS = [
    "n_kept",
    "quantile",
    "change",
    "change_low",
    "change_high",
    "magnitude",
    "magnitude_low",
    "magnitude_high",
    "mean_change",
    "std_change",
    "standard_error",
    "method",
    "n_neurons",
    "risk",
    "a_min",
]


def plain_change(network, law, loss, kept):
    """L_A - L from the definition, in float64."""
    smaller, networks = network.keep(kept), []
    for one in (smaller, network):
        weights = [w.astype(float) for w in one.weights]
        networks.append(forward(weights, one.biases, one.activation, one.scaling, law.x))
    kept_loss, whole_loss = (losses_of_samples(loss, law.y, y_hat).mean() for y_hat in networks)
    return kept_loss - whole_loss


def enumerated_changes(network, law, loss, counts):
    layers = [combinations(range(n), m) for n, m in zip(network.widths[1:-1], counts, strict=True)]
    return np.array([plain_change(network, law, loss, kept) for kept in product(*layers)])


def random_orders(n_neurons, n_orders, seed=0):
    rng = np.random.default_rng(seed)
    return np.array([rng.permutation(n_neurons) for _ in range(n_orders)])


def joins_of(orders, sizes):
    """Number of the first of ``sizes`` that holds neuron i when the first neurons of each order are kept."""
    joins = np.full(orders.shape, len(sizes), np.uint32)
    for row, order in zip(joins, orders, strict=True):
        for k in reversed(range(len(sizes))):
            row[order[: sizes[k]]] = k
    return joins


def changes_of_orders(network, law, loss, orders, sizes, method="exact"):
    evaluation = Evaluation(law.x, law.y, loss, method)
    return nested_changes(network, evaluation, np.array(sizes), joins_of(orders, sizes))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("scaling", ["mean-field", "standard"])
@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_cumulative_sums_are_the_kept_networks_at_every_size(loss, scaling, biases, dtype, tolerance):
    network = make_network((4, 9, N_OUTPUTS[loss]), scaling=scaling, biases=biases, dtype=dtype)
    law, orders, sizes = random_law(loss, 150, 4, seed=1), random_orders(9, 3), range(1, 10)
    found = changes_of_orders(network, law, loss, orders, sizes)
    expected = [[plain_change(network, law, loss, [order[:m]]) for m in sizes] for order in orders]
    np.testing.assert_allclose(found.changes, expected, rtol=tolerance, atol=tolerance)
    assert (found.changes[:, -1] == 0).all()
    assert (found.sampling_variance == 0).all()
    assert found.risk == pytest.approx(risk(network, law, loss=loss).value, rel=1e-12)


def test_sizes_may_be_few_and_sets_need_not_grow_to_all_neurons():
    network, law, orders = make_network((4, 9, 2)), random_law("square", 20, 4, seed=1), random_orders(9, 3)
    every = changes_of_orders(network, law, "square", orders, range(1, 10))
    some = changes_of_orders(network, law, "square", orders, [2, 3, 7])
    np.testing.assert_allclose(some.changes, every.changes[:, [1, 2, 6]], rtol=1e-13)


@pytest.mark.parametrize(("chunk", "sums_at_once"), [(7, 2**15), (1024, 1), (200, 4 * 5 * 2 * 128)])
def test_blocks_of_samples_and_chains_do_not_matter(monkeypatch, chunk, sums_at_once):
    network, law, orders = make_network((4, 9, 2)), random_law("square", 300, 4, seed=1), random_orders(9, 11)
    whole = changes_of_orders(network, law, "square", orders, [1, 2, 4, 6, 9], method="sample")
    monkeypatch.setattr(network_module, "CHUNK", chunk)
    monkeypatch.setattr(nested, "SUMS_AT_ONCE", sums_at_once)
    blocked = changes_of_orders(network, law, "square", orders, [1, 2, 4, 6, 9], method="sample")
    np.testing.assert_allclose(blocked.changes, whole.changes, rtol=1e-12)
    np.testing.assert_allclose(blocked.sampling_variance, whole.sampling_variance, rtol=1e-12)


def test_as_many_chains_at_once_as_fit_and_at_least_one():
    assert nested._chains_at_once(1) == 256
    assert nested._chains_at_once(20) == 12
    assert nested._chains_at_once(10**6) == 1


def test_the_variance_from_the_samples_is_that_of_the_mean_over_chains(monkeypatch):
    monkeypatch.setattr(network_module, "CHUNK", 7)
    network, law, orders = make_network((4, 6, 2)), random_law("square", 40, 4, seed=1), random_orders(6, 5)
    found = changes_of_orders(network, law, "square", orders, [2, 6], method="sample")
    whole = losses_of_samples("square", law.y, network.predict(law.x))
    by_sample = np.mean(
        [losses_of_samples("square", law.y, network.keep([o[:2]]).predict(law.x)) - whole for o in orders], 0
    )
    np.testing.assert_allclose(found.sampling_variance, [by_sample.var(ddof=1) / 40, 0], rtol=1e-12)


@pytest.mark.parametrize("n_threads", ["1", "3"])
def test_the_bits_do_not_depend_on_the_number_of_threads(monkeypatch, n_threads):
    monkeypatch.setattr(network_module, "CHUNK", 64)
    network = make_network((3, 40, 1), dtype=np.float32)
    monkeypatch.setenv("MEANFIELD_NUM_THREADS", "2")
    table = dropout_quantiles(network, ISOTROPIC, [1, 20], n_permutations=30, n_samples=500, rng=1)
    monkeypatch.setenv("MEANFIELD_NUM_THREADS", n_threads)
    again = dropout_quantiles(network, ISOTROPIC, [1, 20], n_permutations=30, n_samples=500, rng=1)
    assert table.equals(again)


def test_all_orders_are_equally_likely():
    joins = random_joins(4, np.arange(1, 5), 24_000, np.random.default_rng(0))
    orders, counts = np.unique(joins, axis=0, return_counts=True)
    assert sorted(map(tuple, orders)) == sorted(permutations(range(4)))
    # Chi square with 23 degrees of freedom exceeds 58 in 1 of 10,000 cases.
    assert ((counts - 1000) ** 2 / 1000).sum() < 58


def test_more_orders_begin_with_the_same_ones_and_sizes_cut_them():
    few = random_joins(9, np.arange(1, 10), 3, np.random.default_rng(5))
    many = random_joins(9, np.array([2, 5]), 6, np.random.default_rng(5))
    np.testing.assert_array_equal(many[:3], np.digitize(few + 1, [3, 6]))


def binomial_interval(n, q, level):
    """Positions 0..n + 1 of the order statistics, from sums of binomial probabilities."""
    cdf = np.cumsum([comb(n, k) * q**k * (1 - q) ** (n - k) for k in range(n + 1)])
    low = next(k for k in range(n + 1) if cdf[k] >= (1 - level) / 2)
    high = next(k for k in range(n + 1) if cdf[k] >= (1 + level) / 2) + 1
    return low, high


@pytest.mark.parametrize("n", [5, 40, 200])
@pytest.mark.parametrize("level", [0.8, 0.99])
def test_the_intervals_are_the_order_statistics_of_the_binomial_law(n, level):
    quantiles = [0.05, 0.3, 0.5, 0.95]
    values = np.random.default_rng(0).permutation(n) + 1.0
    estimate, low, high = quantile_intervals(values, quantiles, level)
    positions = np.array([binomial_interval(n, q, level) for q in quantiles])
    expected = np.where(positions == 0, -np.inf, np.where(positions == n + 1, np.inf, positions))
    np.testing.assert_array_equal(np.stack([low, high], axis=1), expected)
    np.testing.assert_array_equal(estimate, np.ceil(np.round(np.multiply(quantiles, n), 9)))


def test_72_values_have_both_ends_at_5_percent_and_71_have_not():
    assert np.isfinite(quantile_intervals(np.arange(72), [0.05, 0.95], 0.95)).all()
    estimate, low, high = quantile_intervals(np.arange(71), [0.05, 0.95], 0.95)
    assert np.isfinite(estimate).all()
    assert low[0] == -np.inf
    assert high[1] == np.inf


def coverage(q, interval_of, n_replicas=600, n=100):
    """How often the interval for quantile ``interval_of`` holds quantile q of a law with ties: 0..9 squared."""
    draws = np.random.default_rng(2).integers(0, 10, (n_replicas, n)) ** 2
    truth = np.quantile(np.arange(10) ** 2, q, method="inverted_cdf")
    intervals = np.array([quantile_intervals(row, [interval_of], 0.9)[1:, 0] for row in draws])
    return np.mean((intervals[:, 0] <= truth) & (truth <= intervals[:, 1]))


@pytest.mark.parametrize("q", [0.05, 0.5, 0.73, 0.95])
def test_intervals_cover_quantiles_as_often_as_they_say_with_ties_too(q):
    # 600 replicas know 0.9 to 0.012.
    assert coverage(q, q) > 0.9 - 4 * 0.012


def test_the_interval_of_another_quantile_does_not_cover():
    assert coverage(0.73, 0.55) < 0.5


@pytest.mark.parametrize("loss", LOSSES)
def test_quantiles_are_those_of_all_subsets(loss):
    network, law = make_network((3, 8, N_OUTPUTS[loss]), activation="tanh"), random_law(loss, 12, 3, seed=1)
    sizes, quantiles = range(1, 9), [0.05, 0.25, 0.5, 0.9]
    # 64 intervals in all, each wrong in 1 of 10,000 cases.
    table = dropout_quantiles(network, law, sizes, loss=loss, quantiles=quantiles, level=0.9999, rng=3)
    for m, rows in table.groupby("n_kept"):
        changes = enumerated_changes(network, law, loss, (m,))
        for name, values in (("change", changes), ("magnitude", np.abs(changes))):
            truth = np.quantile(values, quantiles, method="inverted_cdf")
            # An order statistic and its twin in the enumeration differ by rounding.
            assert (rows[f"{name}_low"] <= truth + 1e-12).all()
            assert (truth <= rows[f"{name}_high"] + 1e-12).all()
            assert (rows[f"{name}_low"] <= rows[name]).all()
            assert (rows[name] <= rows[f"{name}_high"]).all()
        first = rows.iloc[0]
        assert abs(first["mean_change"] - changes.mean()) <= 4 * first["standard_error"]
        # 400 orders know a standard deviation to 5% or so.
        assert first["std_change"] == pytest.approx(changes.std(), rel=0.2, abs=1e-15)


def test_quantiles_of_few_neurons_are_narrowed_down():
    network, law = make_network((3, 8, 2)), random_law("square", 12, 3, seed=1)
    changes = enumerated_changes(network, law, "square", (3,))
    row = dropout_quantiles(network, law, [3], quantiles=[0.5], n_permutations=4000, rng=0).iloc[0]
    # Between the 47% and the 53% quantile: 4000 orders know the rank to 0.8%.
    assert np.quantile(changes, 0.47) < row["change_low"] < row["change_high"] < np.quantile(changes, 0.53) + 1e-12


def test_the_table_follows_the_entries():
    network, law = make_network((4, 9, 2)), random_law("square", 20, 4, seed=1)
    table = dropout_quantiles(network, law, [5, (2,), np.int64(9), 5], quantiles=(0.9, 0.1), n_permutations=50, rng=0)
    assert list(table.columns) == COLUMNS
    assert table["n_kept"].tolist() == [5, 5, (2,), (2,), 9, 9, 5, 5]
    assert table["quantile"].tolist() == [0.9, 0.1] * 4
    assert set(table["n_neurons"]) == {9}
    assert set(table["method"]) == {"permutations"}
    np.testing.assert_array_equal(table.iloc[0, 1:], table.iloc[6, 1:])
    everything = table[table["n_kept"] == 9]
    assert (everything[["change", "magnitude", "mean_change", "std_change", "standard_error"]] == 0).all(axis=None)
    assert table["risk"].to_numpy() == pytest.approx(risk(network, law).value, rel=1e-13)


def test_the_mean_over_orders_agrees_with_the_exact_one():
    network = make_network((3, 30, 1))
    sizes = [1, 3, 10, 29]
    drawn = dropout_quantiles(network, ISOTROPIC, sizes, quantiles=[0.5], n_samples=500, rng=4)
    exact = dropout_curve(network, ISOTROPIC, sizes, n_samples=500, rng=4)
    # The same samples: only the orders differ, so that this is stricter than the standard error.
    from_orders = drawn["std_change"] / 20
    assert (np.abs(drawn["mean_change"] - exact["mean_change"]) < 4 * from_orders).all()
    np.testing.assert_allclose(drawn["std_change"], exact["std_change"], rtol=0.2)
    assert (drawn["standard_error"] > from_orders).all()


@pytest.mark.parametrize("loss", [name for name in LOSSES if name != "square"])
def test_the_curve_of_any_other_loss_is_that_of_random_orders(loss):
    network, law = make_network((3, 7, N_OUTPUTS[loss])), random_law(loss, 15, 3, seed=1)
    curve = dropout_curve(network, law, range(1, 8), loss=loss, n_subsets=300, rng=6)
    drawn = dropout_quantiles(network, law, range(1, 8), loss=loss, quantiles=[0.5], n_permutations=300, rng=6)
    for name in ("mean_change", "std_change", "standard_error", "method", "n_neurons", "risk"):
        assert curve[name].tolist() == drawn[name].tolist()
    for row in curve.itertuples():
        changes = enumerated_changes(network, law, loss, (row.n_kept,))
        assert abs(row.mean_change - changes.mean()) <= 4 * row.standard_error
        assert row.std_change == pytest.approx(changes.std(), rel=0.2, abs=1e-15)
    assert curve["method"][0] == "permutations"


def test_the_standard_error_counts_orders_and_fresh_samples():
    network, n_orders = make_network((3, 6, 1), biases=False), 40
    options = {"loss": "logistic", "n_samples": 10, "n_subsets": n_orders}
    curves = [dropout_curve(network, ISOTROPIC, [2], **options, rng=seed) for seed in range(150)]
    mean, std, error = np.array([curve.iloc[0, 1:4] for curve in curves], dtype=float).T
    observed, from_orders = mean.var(ddof=1), (std**2).mean() / n_orders
    # 150 replicas know the ratio to 12%, heavy tails included to about 20%; neither part alone would do.
    assert 0.6 < observed / (error**2).mean() < 1.5
    assert observed / from_orders > 1.5
    assert observed / ((error**2).mean() - from_orders) > 1.2


@pytest.mark.parametrize("loss", LOSSES)
def test_deeper_networks_have_subsets_drawn(loss):
    network, law = make_network((3, 4, 4, N_OUTPUTS[loss]), activation="tanh"), random_law(loss, 12, 3, seed=1)
    options = {"quantiles": [0.1, 0.5, 0.9], "n_permutations": 300, "level": 0.9999}
    table = dropout_quantiles(network, law, [2, (3, 1), (4, 4)], loss=loss, **options, rng=4)
    for entry, rows in zip([(2, 2), (3, 1)], (table[:3], table[3:6]), strict=True):
        changes = enumerated_changes(network, law, loss, entry)
        truth = np.quantile(changes, [0.1, 0.5, 0.9], method="inverted_cdf")
        assert (rows["change_low"] <= truth + 1e-12).all()
        assert (truth <= rows["change_high"] + 1e-12).all()
        assert abs(rows["mean_change"].iloc[0] - changes.mean()) < 4 * rows["standard_error"].iloc[0]
    assert table["n_kept"].tolist() == [2] * 3 + [(3, 1)] * 3 + [(4, 4)] * 3
    assert (table[6:][["change", "magnitude", "mean_change", "std_change", "standard_error"]] == 0).all(axis=None)
    assert set(table["method"]) == {"permutations"}
    assert table["a_min"].tolist() == [2] * 3 + [1] * 3 + [4] * 3
    assert table["n_neurons"].tolist() == [(4, 4)] * 9


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_kept": [10]}, ValueError, r"^n_kept must lie in 1..n_neurons=4, got 10$"),
        ({"n_kept": 2}, TypeError, r"n_kept must be a sequence of integers, got 2: pass \[2\]"),
        ({"quantiles": 1}, TypeError, r"quantiles must be a sequence of numbers, got 1: pass e\.g\. \[0\.95\]$"),
        ({"quantiles": []}, ValueError, r"quantiles must hold at least one number, got none: pass e.g. \[0.95\]"),
        ({"quantiles": 0.5}, TypeError, r"quantiles must be a sequence of numbers, got 0.5: pass \[0.5\]"),
        ({"quantiles": ["a"]}, TypeError, "quantiles must be a number, got 'a' of type str"),
        ({"quantiles": np.array(0.5)}, TypeError, r"quantiles must be a sequence of numbers, got array\(0.5\)"),
        ({"quantiles": [0.5, 1.0]}, ValueError, "quantiles must lie between 0 and 1, got 1.0"),
        ({"quantiles": [np.nan]}, ValueError, "quantiles must lie between 0 and 1, got nan"),
        ({"level": 0.0}, ValueError, "level must lie between 0 and 1, got 0.0"),
        ({"n_permutations": 1}, ValueError, "n_permutations must be at least 2, got 1"),
        ({"loss": "hinge"}, ValueError, "unknown loss 'hinge'"),
        ({"loss": "cross-entropy"}, ValueError, "'cross-entropy' does not suit the targets"),
        ({"rng": None}, TypeError, "dropout_quantiles needs rng="),
        (
            {"law": random_law("logistic", 5, 4, seed=1)},
            ValueError,
            "network has 3 inputs, but the law Empirical has 4",
        ),
    ],
)
def test_bad_input(options, error, message):
    arguments = {"law": random_law("logistic", 5, 3, seed=1), "n_kept": [2], "rng": 0} | options
    with pytest.raises(error, match=message):
        dropout_quantiles(make_network((3, 4, 1)), arguments.pop("law"), arguments.pop("n_kept"), **arguments)
