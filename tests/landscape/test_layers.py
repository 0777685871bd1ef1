"""Dropout in several hidden layers: last layer exactly, others by nested random sets, against all subsets."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from oracles import kept_forward, losses_of_samples
from random_networks import random_law
from random_networks import random_network as make_network

import meanfield.model.network as network_module
from meanfield.landscape import dropout_moments
from meanfield.landscape.dropout import dropout_change, dropout_curve, neuron_variance
from meanfield.landscape.layers import drop_from
from meanfield.landscape.orders import random_ranks
from meanfield.landscape.permutations import dropout_quantiles
from meanfield.model.laws import IsotropicGaussians
from meanfield.model.losses import LOSSES
from meanfield.theory.prefactor import check_prefactor, fit_prefactor

N_OUTPUTS = {"square": 2, "logistic": 1, "cross-entropy": 3}
NUMBERS = ["mean_change", "std_change", "standard_error"]


def make_data(loss="square", n_samples=8, dim=3, seed=1):
    return random_law(loss, n_samples, dim, seed)


def plain_loss(network, law, loss, kept):
    """L_A by averages over the kept neurons, layer by layer."""
    return losses_of_samples(loss, law.y, kept_forward(network, law.x, kept)).mean()


def enumerated_changes(network, law, counts, loss="square"):
    """L_A - L for every choice of ``counts[l]`` neurons in hidden layer l."""
    hidden = network.widths[1:-1]
    whole = plain_loss(network, law, loss, [range(n) for n in hidden])
    sets = product(*(combinations(range(n), m) for n, m in zip(hidden, counts, strict=True)))
    return np.array([plain_loss(network, law, loss, kept) for kept in sets]) - whole


@pytest.mark.parametrize("scaling", ["mean-field", "standard"])
@pytest.mark.parametrize(("widths", "biases"), [((3, 5, 6, 2), True), ((3, 4, 3, 6, 2), True), ((3, 2, 4, 2), False)])
def test_dropping_from_the_last_hidden_layer_is_exact_at_any_depth(widths, scaling, biases):
    network, law = make_network(widths, activation="tanh", scaling=scaling, biases=biases), make_data()
    *below, n_last = widths[1:-1]
    curve = dropout_curve(network, law, [(*below, m) for m in range(1, n_last + 1)])
    for m, row in enumerate(curve.itertuples(), start=1):
        changes = enumerated_changes(network, law, (*below, m))
        assert row.mean_change == pytest.approx(changes.mean(), rel=1e-9, abs=1e-13)
        assert row.std_change == pytest.approx(changes.std(), rel=1e-9, abs=1e-12)
        assert (row.standard_error, row.method) == (0.0, "exact")
    assert curve[NUMBERS].iloc[-1].tolist() == [0.0, 0.0, 0.0]


def test_the_constant_of_the_last_layer_is_the_variance_over_its_neurons():
    network, law = make_network((3, 5, 7, 2)), make_data()
    f = network.features(law.x, 2)[:, np.newaxis] * network.weights[2]
    expected = f.var(axis=2).sum(axis=1).mean()
    assert neuron_variance(network, law).value == pytest.approx(expected, rel=1e-12)
    curve = dropout_curve(network, law, [(5, 3), (5, 7)])
    assert curve.attrs == {"c_n": pytest.approx(expected, rel=1e-12), "c_n_standard_error": 0.0}
    assert curve["mean_change"][0] == pytest.approx((7 - 3) / (3 * 6) * expected, rel=1e-12)


def test_strips_of_neurons_and_chunks_of_samples_do_not_matter(monkeypatch):
    network, law = make_network((3, 5, 9, 2)), make_data(n_samples=20)
    whole = dropout_curve(network, law, [(5, 4)])
    monkeypatch.setattr(network_module, "CHUNK", 7)
    monkeypatch.setattr(dropout_moments, "STRIP", 2)
    np.testing.assert_allclose(dropout_curve(network, law, [(5, 4)])[NUMBERS], whole[NUMBERS], rtol=1e-11)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("scaling", ["mean-field", "standard"])
def test_sampled_means_agree_with_all_subsets(loss, scaling):
    network = make_network((3, 4, 4, N_OUTPUTS[loss]), activation="tanh", scaling=scaling)
    law, entries = make_data(loss), [1, 3, (2, 4), (4, 2), (3, 2), (4, 4)]
    curve = dropout_curve(network, law, entries, loss=loss, n_subsets=600, rng=5)
    for entry, row in zip(entries, curve.itertuples(), strict=True):
        changes = enumerated_changes(network, law, entry if isinstance(entry, tuple) else (entry, entry), loss)
        assert row.a_min == min(entry if isinstance(entry, tuple) else (entry,))
        if row.method == "exact":
            assert row.mean_change == pytest.approx(changes.mean(), rel=1e-9, abs=1e-13)
            continue
        # 600 sets, heavy tails included, know a standard deviation to 10% or so.
        assert row.std_change == pytest.approx(changes.std(), rel=0.2, abs=1e-15)
        assert abs(row.mean_change - changes.mean()) <= 4 * row.standard_error
        assert row.standard_error <= 1.2 * changes.std() / np.sqrt(600)
    expected = {"exact", "permutations"} if loss == "square" else {"permutations"}
    assert set(curve["method"]) == expected
    assert curve[NUMBERS].iloc[-1].tolist() == [0.0, 0.0, 0.0]


def test_three_hidden_layers_with_one_of_them_dropped():
    network, law = make_network((3, 4, 4, 4, 2), activation="tanh"), make_data()
    entries = [(2, 4, 4), (4, 2, 4), (4, 4, 2)]
    curve = dropout_curve(network, law, entries, n_subsets=300, rng=2)
    for entry, row in zip(entries, curve.itertuples(), strict=True):
        changes = enumerated_changes(network, law, entry)
        assert abs(row.mean_change - changes.mean()) <= 4 * row.standard_error + 1e-12
    assert curve["method"].tolist() == ["permutations", "permutations", "exact"]


def changes_along(network, law, n_subsets, seed, entries):
    """L_A - L of the sets that the orders of one seed hold, (P, M), by `dropout_change`."""
    ranks = random_ranks(network.widths[1:-1], n_subsets, np.random.default_rng(seed))
    kept = [
        [[np.flatnonzero(rank < m) for rank, m in zip(order, entry, strict=True)] for entry in entries]
        for order in zip(*ranks, strict=True)
    ]
    return np.array([[dropout_change(network, law, sets).value for sets in row] for row in kept])


def test_all_entries_keep_the_first_neurons_of_the_same_orders():
    network, law = make_network((3, 6, 5, 2)), make_data()
    entries = [(2, 2), (3, 3), (4, 3), (6, 3), (5, 5)]
    curve = dropout_curve(network, law, entries, n_subsets=7, rng=3)
    expected = changes_along(network, law, 7, 3, entries)
    drawn = curve["method"] == "permutations"
    assert drawn.tolist() == [True, True, True, False, True]
    np.testing.assert_allclose(curve["mean_change"][drawn], expected.mean(axis=0)[drawn], rtol=1e-11)
    np.testing.assert_allclose(curve["std_change"][drawn], expected.std(axis=0, ddof=1)[drawn], rtol=1e-11)
    # An entry's sets do not depend on which others are asked for.
    alone = dropout_curve(network, law, [(4, 3)], n_subsets=7, rng=3)
    assert alone[NUMBERS].iloc[0].tolist() == curve[NUMBERS].iloc[2].tolist()


def test_quantiles_of_one_walk_and_of_forward_passes_share_their_orders():
    network, law = make_network((3, 6, 5, 2)), make_data()
    entries = [(6, 2), (5, 2), (6, 5)]
    table = dropout_quantiles(network, law, entries, quantiles=[0.5], n_permutations=9, rng=3)
    expected = changes_along(network, law, 9, 3, entries)
    np.testing.assert_allclose(table["mean_change"], expected.mean(axis=0), rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(table["change"], np.sort(expected, axis=0)[4], rtol=1e-11, atol=1e-14)
    assert table["a_min"].tolist() == [2, 2, 5]


def test_a_grid_along_nested_sets_is_smoother_than_one_of_independent_sets():
    network, law = make_network((3, 60, 60, 1), biases=False), make_data("logistic", n_samples=40)
    grid = range(20, 41)
    nested = dropout_curve(network, law, grid, n_subsets=20, rng=0)["mean_change"]
    apart = [dropout_curve(network, law, [m], n_subsets=20, rng=m)["mean_change"].item() for m in grid]
    assert np.abs(np.diff(nested, 2)).max() < np.abs(np.diff(apart, 2)).max() / 2


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_permuting_a_layers_neurons_changes_nothing(layer):
    network, law = make_network((3, 5, 6, 4, 2)), make_data()
    orders = [np.arange(n) for n in network.widths[1:-1]]
    orders[layer - 1] = np.random.default_rng(0).permutation(orders[layer - 1])
    permuted = network.keep(orders)
    exact = [dropout_curve(one, law, [(5, 6, 2)]) for one in (network, permuted)]
    np.testing.assert_allclose(*(curve[NUMBERS] for curve in exact), rtol=1e-11)
    kept = [[0, 3], [1, 2, 5], [0, 2]]
    places = [np.argsort(order)[indices] for order, indices in zip(orders, kept, strict=True)]
    values = [dropout_change(one, law, sets).value for one, sets in ((network, kept), (permuted, places))]
    assert values[1] == pytest.approx(values[0], rel=1e-11)
    drawn = [
        dropout_curve(one, law, [2], n_subsets=400, rng=seed).iloc[0] for seed, one in enumerate((network, permuted))
    ]
    gap = drawn[0]["mean_change"] - drawn[1]["mean_change"]
    assert abs(gap) < 4 * np.hypot(drawn[0]["standard_error"], drawn[1]["standard_error"])


@pytest.mark.parametrize("n_threads", ["1", "3"])
def test_the_number_of_threads_does_not_change_the_bits(monkeypatch, n_threads):
    network, law = make_network((3, 40, 30, 2), dtype=np.float32), make_data(n_samples=30)
    monkeypatch.setenv("MEANFIELD_NUM_THREADS", "2")
    curve = dropout_curve(network, law, [4, (40, 7), 20], n_subsets=30, rng=1)
    monkeypatch.setenv("MEANFIELD_NUM_THREADS", n_threads)
    assert curve.equals(dropout_curve(network, law, [4, (40, 7), 20], n_subsets=30, rng=1))


@pytest.mark.parametrize("scaling", ["mean-field", "standard"])
@pytest.mark.parametrize("layer", [1, 2, 3])
def test_dropping_from_a_layer_on_keeps_those_below_whole(layer, scaling):
    network, kept = make_network((3, 5, 6, 4, 2), scaling=scaling), [[4, 1], [0, 2, 5], [3]]
    expected = [
        indices if at >= layer else np.arange(n) for at, (n, indices) in enumerate(zip((5, 6, 4), kept, strict=True), 1)
    ]
    partial = drop_from(network, kept, layer)
    assert partial == network.keep(expected)
    law = make_data()
    assert np.mean(((law.y - partial.predict(law.x)) ** 2).sum(axis=1)) == pytest.approx(
        plain_loss(network, law, "square", expected), rel=1e-12
    )


def test_dropping_nothing_is_exactly_nothing():
    network, law = make_network((3, 5, 6, 2), dtype=np.float32), make_data()
    everything = [np.arange(5), np.arange(6)]
    assert drop_from(network, everything, 1) == network
    assert dropout_change(network, law, [np.arange(5)[::-1], np.arange(6)]).value == 0.0
    assert dropout_curve(network, law, [(5, 6)])[NUMBERS].iloc[0].tolist() == [0.0, 0.0, 0.0]


KEPT = [[0], [1, 2]]


@pytest.mark.parametrize(
    ("kept", "layer", "error", "message"),
    [
        (KEPT, 0, ValueError, "layer must be in 1..2, got 0"),
        (KEPT, 3, ValueError, "layer must be in 1..2, got 3"),
        (KEPT, 1.0, TypeError, "layer must be an integer, got 1.0"),
        ([[0]], 2, ValueError, "kept must hold 2 index arrays, one a hidden layer, got 1"),
        ([*KEPT, [0]], 1, ValueError, "kept must hold 2 index arrays, one a hidden layer, got 3"),
        ([[], [1]], 1, ValueError, r"kept\[0\] must be a non-empty one-dimensional array, got shape \(0,\)"),
        ([[0], []], 2, ValueError, r"kept\[1\] must be a non-empty one-dimensional array, got shape \(0,\)"),
        ([[0], [6]], 2, ValueError, r"kept\[1\] must lie in 0..5, got values 6..6"),
        ([[0], [1, 1]], 2, ValueError, r"kept\[1\] must be distinct, got 1 repeated"),
        ([[0], [0.5]], 2, TypeError, r"kept\[1\] must hold integer positions"),
        (None, 1, TypeError, "kept must be a sequence of index arrays, one a hidden layer, got None"),
        (3, 1, TypeError, "kept must be a sequence of index arrays, one a hidden layer, got 3"),
    ],
)
def test_kept_sets_that_do_not_fit(kept, layer, error, message):
    with pytest.raises(error, match=message):
        drop_from(make_network((3, 5, 6, 2)), kept, layer)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ((3,), r"integers or tuples of 2, one a hidden layer, got \(3,\)"),
        ((3, 3, 3), r"integers or tuples of 2, one a hidden layer, got \(3, 3, 3\)"),
        ((0, 3), "n_kept must lie in 1..n_neurons=5, got 0"),
        ((5, 7), "n_kept must lie in 1..n_neurons=6, got 7"),
        (6, "n_kept must lie in 1..n_neurons=5, got 6"),
    ],
)
def test_counts_that_do_not_fit(entry, message):
    with pytest.raises(ValueError, match=message):
        dropout_curve(make_network((3, 5, 6, 2)), make_data(), [entry], rng=0)


def test_only_drawn_entries_need_a_generator():
    network, law = make_network((3, 5, 6, 2)), make_data()
    assert dropout_curve(network, law, [(5, 2)])["method"].tolist() == ["exact"]
    with pytest.raises(TypeError, match="dropout_curve with drawn subsets needs rng="):
        dropout_curve(network, law, [(5, 2), (4, 6)])
    with pytest.raises(TypeError, match="evaluation on fresh samples needs rng="):
        dropout_curve(make_network((3, 5, 6, 1)), IsotropicGaussians(3, 0.5), [(5, 2)])


def magnitudes(n_neurons):
    """The 95% quantile of |L_A - L| with its interval, of a network of two hidden layers, a row an A_min."""
    network, entries = make_network((3, n_neurons, n_neurons, 2), biases=False), [4, 8, 16]
    table = dropout_quantiles(network, make_data(), entries, quantiles=[0.95], n_permutations=200, rng=0)
    return table.drop(columns="n_kept").rename(columns={"a_min": "n_kept"}).assign(n_neurons=n_neurons)


def test_the_theorems_form_fitted_at_one_width_holds_at_others_unless_its_constant_is_wrong():
    measured = pd.concat([magnitudes(n) for n in (32, 64, 128)], ignore_index=True)
    fit = fit_prefactor(measured, 32, step_size=1e-4, n_parameters=3, form="multilayer")
    assert not check_prefactor(fit, measured)["fails"].any()
    assert check_prefactor(replace(fit, prefactor=fit.prefactor / 20), measured)["fails"].all()
