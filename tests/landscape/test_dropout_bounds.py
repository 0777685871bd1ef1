"""Bounds of networks: constants against plain NumPy, exceedance against all subsets, wrong constants noticed."""

from __future__ import annotations

import math
from functools import cache, partial
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from oracles import activation_value, plain_sgd
from random_networks import random_network

import meanfield.model.network as network_module
from meanfield.landscape import dropout_bounds as module
from meanfield.landscape import dropout_moments
from meanfield.landscape.dropout import dropout_curve
from meanfield.landscape.dropout_bounds import BOUNDS, dropout_bounds
from meanfield.model.activations import PiecewiseLinear
from meanfield.model.laws import Empirical, IsotropicGaussians
from meanfield.model.network import Network
from meanfield.theory import bounds
from meanfield.theory.bounds import NeuronConstants, judge_bound, limit_bounds

DELTAS = (0.001, 0.05, 0.5, 0.9, 0.95)
ISOTROPIC = IsotropicGaussians(dim=3, delta=0.5)
CLIP = PiecewiseLinear([(-1.0, -1.0), (1.0, 1.0)])
SUPREMA = {"tanh": 1.0, "erf": 1.0, "sigmoid": 1.0, "truncated-relu": 7.5, CLIP: 1.0}
UNBOUNDED = ["relu", "softplus", "linear", "quadratic", PiecewiseLinear([(0.0, 1.0)], right_slope=-0.5)]


make_network = partial(random_network, activation="tanh")


def make_data(n_samples, dim, n_outputs, seed=1):
    rng = np.random.default_rng(seed)
    return Empirical(rng.standard_normal((n_samples, dim)), rng.standard_normal((n_samples, n_outputs)))


def neurons(network, x):
    """f (N, n, C), with y_hat = mean_i f_i + bias."""
    offsets = (0, 0) if network.biases is None else network.biases
    h = activation_value(network.activation, x @ network.weights[0].T + offsets[0])
    scale = network.widths[1] if network.scaling == "standard" else 1
    return scale * np.einsum("si,ci->isc", h, network.weights[1])


def targets(network, y):
    return y - (0 if network.biases is None else network.biases[1])


def changes(network, law, masks):
    """L_A - L for the sets of ones in ``masks`` (n_sets, N), all of one size."""
    f, y = neurons(network, law.x), targets(network, law.y)
    kept = np.einsum("ki,isc->ksc", masks / masks.sum(axis=1, keepdims=True), f)
    losses = ((y - kept) ** 2).sum(axis=2).mean(axis=1)
    return losses - ((y - f.mean(axis=0)) ** 2).sum(axis=1).mean()


def all_masks(n_neurons, m):
    kept = np.array(list(combinations(range(n_neurons), m)))
    masks = np.zeros((len(kept), n_neurons))
    np.put_along_axis(masks, kept, 1, axis=1)
    return masks


def drawn_masks(n_neurons, m, n_sets, rng):
    return (rng.random((n_sets, n_neurons)).argsort(axis=1) < m).astype(float)


def plain_bounds(network, law, m, delta):
    """Constants and values of the three bounds from the dense arrays and all subsets."""
    f, y, n = neurons(network, law.x), targets(network, law.y), network.widths[1]
    residual = y - f.mean(axis=0)
    g = (f * residual).sum(axis=2).mean(axis=1)
    c_n = f.var(axis=0).sum(axis=1).mean()
    mean, std = c_n * (n - m) / (m * (n - 1)), changes(network, law, all_masks(n, m)).std()
    distances = ((f[:, np.newaxis] - f) ** 2).sum(axis=3).mean(axis=2)
    kappa = np.sqrt(min(1, (n - m) / (n - 0.5) / (1 - 0.5 / max(m, n - m))))
    q = kappa * np.sqrt(np.log(2 / delta) / (2 * m))
    found = {
        "mean_change": mean,
        "c_n": c_n,
        "std_change": std,
        "gamma_range": g.max() - g.min(),
        "diameter": np.sqrt(distances.max()),
        "largest_neuron": SUPREMA[network.activation] * np.linalg.norm(f_scale(network), axis=0).max(),
        "largest_target": np.linalg.norm(y, axis=1).max(),
        "largest_observed": np.linalg.norm(f, axis=2).max(),
    }
    exchange = 4 * found["largest_neuron"] * (found["largest_target"] + found["largest_neuron"])
    values = {
        "cantelli": mean + std * np.sqrt((1 - delta) / delta),
        "exponential": 2 * found["gamma_range"] * q + (np.sqrt(mean) + found["diameter"] * q) ** 2,
        "sup": mean + exchange * kappa * np.sqrt(np.log(1 / delta) / (2 * m)),
    }
    return found, values


def f_scale(network):
    return network.weights[1] * (network.widths[1] if network.scaling == "standard" else 1)


def assert_is_plain(network, law, sizes, rtol=1e-9):
    for row in dropout_bounds(network, law, sizes, delta=0.07).to_dict("records"):
        found, values = plain_bounds(network, law, row["n_kept"], 0.07)
        assert row["value"] == pytest.approx(values[row["bound"]], rel=rtol)
        used = {name: row[name] for name in found if not math.isnan(row[name])}
        assert used == pytest.approx({name: found[name] for name in used}, rel=rtol, abs=1e-12)
        assert {"cantelli": "std_change", "exponential": "diameter", "sup": "largest_target"}[row["bound"]] in used


@pytest.mark.parametrize("activation", SUPREMA, ids=str)
@pytest.mark.parametrize("scaling", ["mean-field", "standard"])
@pytest.mark.parametrize(("n_outputs", "biases"), [(1, False), (3, True)])
def test_constants_and_values_are_those_of_the_dense_arrays(activation, scaling, n_outputs, biases):
    network = make_network((4, 7, n_outputs), activation=activation, scaling=scaling, biases=biases)
    assert_is_plain(network, make_data(20, 4, n_outputs), range(1, 7))


def test_chunks_of_samples_and_strips_of_neurons_do_not_matter(monkeypatch):
    monkeypatch.setattr(network_module, "CHUNK", 7)
    monkeypatch.setattr(dropout_moments, "STRIP", 3)
    monkeypatch.setattr(module, "STRIP", 3)
    assert_is_plain(make_network((3, 8, 2)), make_data(20, 3, 2), [1, 4])


def test_several_strips_agree_with_the_dense_distances():
    network, law = make_network((5, 1100, 2)), make_data(60, 5, 2)
    assert network.widths[1] > 2 * dropout_moments.STRIP
    f = neurons(network, law.x).reshape(1100, -1)
    squares = (f**2).sum(axis=1)
    distances = squares + squares[:, np.newaxis] - 2 * f @ f.T
    table = dropout_bounds(network, law, [3], bounds=["exponential"])
    assert table["diameter"].item() == pytest.approx(np.sqrt(distances.max() / 60), rel=1e-9)


def test_what_all_neurons_share_is_not_lost():
    network = make_network((3, 7, 2), activation="linear")
    weights, offsets = network.weights, network.biases
    shifted = Network([weights[0], weights[1] + 1e5], offsets, activation="linear", scaling="mean-field")
    law = make_data(20, 3, 2)
    f = neurons(shifted, law.x)
    farthest = np.sqrt(((f[:, np.newaxis] - f) ** 2).sum(axis=3).mean(axis=2).max())
    assert dropout_bounds(shifted, law, [3])["diameter"][1] == pytest.approx(farthest, rel=1e-9)


# --- exceedance -----------------------------------------------------------------------------------------


def network_saying(f, target):
    """A network and a law under which neuron i says f[i, k] in [-1, 1] of sample k."""
    f = np.asarray(f, dtype=float)
    weights = [f, np.ones((1, len(f)))]
    law = Empirical(np.eye(f.shape[1]), np.full(f.shape[1], float(target)))
    return Network(weights, activation=CLIP, scaling="mean-field"), law


def trained_network(seed, n_neurons):
    """Plain SGD of tanh neurons until the loss has fallen."""
    law, start = make_data(12, 3, 2, seed=seed), make_network((3, n_neurons, 2), seed=seed)
    rows = np.random.default_rng(seed).integers(12, size=400)
    weights, biases, losses = plain_sgd(start, law.x[rows], law.y[rows], np.full(400, 0.05), 1)
    assert losses[-100:].mean() < 0.8 * losses[:100].mean()
    return Network(weights, biases, activation="tanh", scaling="mean-field"), law


@cache
def small_networks():
    """Networks of at most 12 neurons: extremes, random and trained ones; each with L_A - L for all sets, by m."""
    camps = np.repeat([[1.0], [-1.0]], 6, axis=0)
    cases = {
        # Two values of L_A, the case in which Cantelli's bound is sharp.
        "one against all": network_saying(np.eye(10)[:, :1], -1e3),
        "camps, linear part alone": network_saying(camps, 1e3),
        "camps, quadratic part alone": network_saying(camps, 0),
        # Orthogonal, equally long neurons: L_A depends on m alone.
        "orthogonal": network_saying(np.eye(8), 0),
        **{f"random {seed}": (make_network((3, 9, 2), seed=seed), make_data(12, 3, 2, seed)) for seed in range(6)},
        **{f"trained {seed}": trained_network(seed, 10) for seed in range(3)},
    }
    sizes = {name: range(1, network.widths[1]) for name, (network, _) in cases.items()}
    return {
        name: (network, law, {m: changes(network, law, all_masks(network.widths[1], m)) for m in sizes[name]})
        for name, (network, law) in cases.items()
    }


def exceedances(bound):
    """All (network, m, delta, probability of exceeding) in which the bound is exceeded too often: exact."""
    found = []
    for name, (network, law, by_size) in small_networks().items():
        # The last deltas are just below the probabilities of drawing one given neuron.
        for delta in (*DELTAS, *(0.99 * m / network.widths[1] for m in (1, 2))):
            table = dropout_bounds(network, law, by_size, delta=delta, bounds=[bound])
            for m, value in zip(table["n_kept"], table["value"], strict=True):
                above = float((by_size[m] > value + 1e-9 * np.abs(by_size[m]).max()).mean())
                if not above <= delta:
                    found.append((name, m, delta, above))
    return found


@pytest.mark.parametrize("bound", BOUNDS)
def test_no_bound_is_exceeded_more_often_than_it_allows(bound):
    assert exceedances(bound) == []


def scaled(function, factor):
    return lambda *arguments: factor * function(*arguments)


@pytest.mark.parametrize(
    ("bound", "home", "name", "factor"),
    [
        ("cantelli", module, "std_over_subsets", 0.5),
        ("cantelli", module, "std_over_subsets", 0.95),
        ("cantelli", module, "finite_population_factor", 0.0),
        ("exponential", bounds, "exchange_factor", 0.5),
        ("exponential", module, "_diameter", 0.5),
        ("exponential", module, "finite_population_factor", 0.0),
        ("sup", bounds, "exchange_factor", 0.5),
        ("sup", module, "_supremum", 0.25),
    ],
)
def test_a_wrong_constant_is_noticed(monkeypatch, bound, home, name, factor):
    monkeypatch.setattr(home, name, scaled(getattr(home, name), factor))
    assert exceedances(bound)


def verdicts(n_sets=2000):
    """Every bound of networks of 100 neurons against drawn sets."""
    rng = np.random.default_rng(0)
    camps = network_saying(np.repeat([[1.0], [-1.0]], 50, axis=0), 1e3)
    networks = [network_saying(np.eye(100)[:, :1], -1e3), camps, *(trained_network(seed, 100) for seed in range(3))]
    found = []
    for network, law in networks:
        # 0.095 is just below the probability with which one given neuron is among 10 of 100.
        for delta in (0.01, 0.05, 0.095):
            table = dropout_bounds(network, law, [5, 10, 50], delta=delta)
            for m, rows in table.groupby("n_kept"):
                drawn = changes(network, law, drawn_masks(100, m, n_sets, rng))
                found += [(row.bound, judge_bound(drawn, row.value, delta)) for row in rows.itertuples()]
    return found


def refuted(found):
    return {bound for bound, verdict in found if verdict.refuted}


def test_no_bound_of_larger_networks_is_refuted_by_drawn_sets():
    found = verdicts()
    assert len(found) == 5 * 3 * 3 * 3
    assert refuted(found) == set()
    # Sharp where it should be: the measured quantile reaches the bound to a few percent.
    assert max(verdict.ratio for bound, verdict in found if bound == "cantelli") > 0.95


@pytest.mark.parametrize(
    ("home", "name", "caught"),
    [(module, "std_over_subsets", {"cantelli"}), (bounds, "exchange_factor", {"exponential", "sup"})],
)
def test_drawn_sets_refute_a_halved_constant(monkeypatch, home, name, caught):
    monkeypatch.setattr(home, name, scaled(getattr(home, name), 0.5))
    assert refuted(verdicts()) == caught


# --- the table ------------------------------------------------------------------------------------------


def test_the_table_follows_the_entries():
    network, law = make_network((4, 9, 2)), make_data(20, 4, 2)
    table = dropout_bounds(network, law, (5, np.int64(2), 5))
    assert list(table.columns) == module.COLUMNS
    assert table["n_kept"].tolist() == [5, 5, 5, 2, 2, 2, 5, 5, 5]
    assert table["bound"].tolist() == [*BOUNDS] * 3
    assert (table["n_neurons"] == 9).all()
    assert (table["delta"] == 0.05).all()
    assert (table["remarks"] == "").all()
    pd.testing.assert_frame_equal(table[:3], table[6:].reset_index(drop=True))
    chosen = dropout_bounds(network, law, [2], bounds=["sup", "cantelli"])
    assert chosen["bound"].tolist() == ["sup", "cantelli"]
    assert chosen["value"].tolist() == table["value"][[5, 3]].tolist()


def test_moments_are_those_of_the_dropout_curve():
    network = make_network((3, 9, 1))
    table = dropout_bounds(network, ISOTROPIC, [2, 5], n_samples=300, rng=3)
    curve = dropout_curve(network, ISOTROPIC, [2, 5], n_samples=300, rng=3)
    rows = table[table["bound"] == "cantelli"]
    np.testing.assert_array_equal(rows[["mean_change", "std_change"]], curve[["mean_change", "std_change"]])
    assert table.attrs["c_n"] == curve.attrs["c_n"]
    assert (table["remarks"] == "for the losses on 300 samples, not for those of the law").all()


@pytest.mark.parametrize("n_neurons", [1, 2, 3, 4, 9])
def test_keeping_all_neurons_is_bounded_by_exactly_zero(n_neurons):
    table = dropout_bounds(make_network((4, n_neurons, 2)), make_data(20, 4, 2), [n_neurons])
    assert table["value"].tolist() == [0.0, 0.0, 0.0]


def test_equal_neurons_can_be_dropped_at_no_cost():
    network = make_network((3, 1, 2))
    copies = [np.repeat(network.weights[0], 6, axis=0), np.repeat(network.weights[1], 6, axis=1)]
    table = dropout_bounds(Network(copies, activation="tanh", scaling="mean-field"), make_data(20, 3, 2), [1, 3])
    np.testing.assert_allclose(table.loc[table["bound"] != "sup", "value"], 0, atol=1e-7)


def test_bounds_fall_with_m_and_delta():
    network, law = make_network((4, 30, 2)), make_data(20, 4, 2)
    tables = [dropout_bounds(network, law, range(1, 31), delta=delta) for delta in DELTAS]
    values = np.array([table["value"].to_numpy().reshape(30, 3) for table in tables])
    assert (np.diff(values, axis=1) < 0).all()
    assert (np.diff(values[:, :-1], axis=0) < 0).all()


def test_several_kept_numbers_at_once_share_delta():
    network, law = make_network((4, 9, 2)), make_data(20, 4, 2)
    together = dropout_bounds(network, law, [2, 5, 5, 7], delta=0.06, simultaneous=True)
    alone = dropout_bounds(network, law, [2, 5, 5, 7], delta=0.02)
    assert together["delta"].to_numpy() == pytest.approx(0.02, rel=1e-15)
    np.testing.assert_allclose(together["value"], alone["value"], rtol=1e-14)


def test_the_number_of_threads_does_not_change_the_bits(monkeypatch):
    network, law = make_network((5, 1100, 2)), make_data(1500, 5, 2)
    tables = []
    for threads in ("1", "3"):
        monkeypatch.setenv("MEANFIELD_NUM_THREADS", threads)
        tables.append(dropout_bounds(network, law, [1, 300]))
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_single_precision_agrees_with_double():
    law, single = make_data(200, 6, 2), make_network((6, 300, 2), dtype=np.float32)
    arrays = [[a.astype(np.float64) for a in of] for of in (single.weights, single.biases)]
    double = Network(*arrays, activation="tanh", scaling="mean-field")
    tables = [dropout_bounds(network, law, [1, 20, 299]) for network in (single, double)]
    pd.testing.assert_frame_equal(*tables, rtol=2e-5)


@pytest.mark.parametrize(("pairs", "computed"), [(None, False), (True, True), (False, False)])
def test_wide_layers_have_their_pairs_only_on_request(monkeypatch, pairs, computed):
    network, law = make_network((4, 9, 2)), make_data(20, 4, 2)
    exact = dropout_bounds(network, law, [3]).set_index("bound")
    monkeypatch.setattr(module, "MAX_UNASKED_WIDTH", 8)
    table = dropout_bounds(network, law, [3], pairs=pairs).set_index("bound")
    assert table["value"].notna().tolist() == [computed, True, True]
    if computed:
        pd.testing.assert_frame_equal(table, exact)
        return
    f = neurons(network, law.x)
    lengths = np.sort(np.sqrt(((f - f.mean(axis=0)) ** 2).sum(axis=2).mean(axis=1)))
    assert table["diameter"]["exponential"] == pytest.approx(lengths[-2:].sum(), rel=1e-10)
    assert table["diameter"]["exponential"] > exact["diameter"]["exponential"]
    assert table["value"]["exponential"] > exact["value"]["exponential"]
    assert table["value"]["sup"] == exact["value"]["sup"]
    assert table["remarks"]["cantelli"] == "std not computed: pass pairs=True"
    assert table["remarks"]["exponential"] == "diameter is an upper bound: pass pairs=True for the exact one"


def test_remarks_add_up():
    table = dropout_bounds(make_network((3, 9, 1)), ISOTROPIC, [3], n_samples=50, rng=0, pairs=False)
    samples = "for the losses on 50 samples, not for those of the law"
    assert table["remarks"][0] == f"{samples}; std not computed: pass pairs=True"
    assert table["remarks"][2] == samples


@pytest.mark.parametrize("activation", UNBOUNDED, ids=str)
def test_the_sup_form_is_undefined_for_an_unbounded_activation(activation):
    network, law = make_network((4, 9, 2), activation=activation), make_data(20, 4, 2)
    row = dropout_bounds(network, law, [3]).iloc[2]
    assert row["bound"] == "sup"
    assert row[["value", "largest_neuron", "largest_target", "largest_observed"]].isna().all()
    assert row["remarks"].startswith("undefined: ")
    assert row["remarks"].endswith(" is unbounded, so that no F >= |f_i(x)| holds for every x")
    with pytest.raises(ValueError, match=r'bound "sup" is undefined: .* is unbounded.*; use "cantelli" or "expon'):
        dropout_bounds(network, law, [3], bounds=["sup"])


@pytest.mark.parametrize("activation", SUPREMA, ids=str)
def test_no_neuron_says_more_than_its_proven_bound(activation):
    network = make_network((3, 20, 2), activation=activation, seed=4)
    far = Empirical(20 * np.random.default_rng(0).standard_normal((500, 3)), np.zeros((500, 2)))
    row = dropout_bounds(network, far, [3]).iloc[2]
    assert 0.9 * row["largest_neuron"] < row["largest_observed"] <= row["largest_neuron"] * (1 + 1e-14)


def test_attributes_are_the_constants_of_the_limit():
    """Copies of a few neurons, more and more of them: the bounds approach their limits from the same constants."""
    few, law = make_network((3, 5, 2)), make_data(30, 3, 2)
    gaps = []
    for n_copies in (20, 80):
        order = np.repeat(np.arange(5), n_copies)
        weights = [few.weights[0][order], few.weights[1][:, order]]
        wide = Network(weights, [few.biases[0][order], few.biases[1]], activation="tanh", scaling="mean-field")
        table = dropout_bounds(wide, law, [1, 2, 6], bounds=["cantelli", "exponential"])
        limit = limit_bounds(NeuronConstants(**table.attrs), [1, 2, 6])
        assert table["bound"].tolist() == limit["bound"].tolist()
        gaps.append((table["value"] / limit["value"] - 1).abs().max())
    assert gaps[1] < 0.02
    assert gaps[1] == pytest.approx(gaps[0] / 4, rel=0.1)


@pytest.mark.parametrize(
    ("n_kept", "options", "error", "message"),
    [
        ([10, 401], {}, ValueError, r"^n_kept must lie in 1..n_neurons=400, got 401$"),
        ([0], {}, ValueError, r"^n_kept must lie in 1..n_neurons=400, got 0$"),
        ([2.0], {}, TypeError, r"n_kept must hold integers or tuples of them, got 2\.0 of type float"),
        ([True], {}, TypeError, "n_kept must hold integers or tuples of them, got True of type bool"),
        ([], {}, ValueError, "n_kept must hold at least one entry, got none"),
        (7, {}, TypeError, r"n_kept must be a sequence of integers, got 7: pass \[7\]"),
        ([3], {"delta": 0.0}, ValueError, r"delta must lie between 0 and 1, got 0\.0"),
        ([3], {"bounds": ["cantely"]}, ValueError, "unknown bound 'cantely': did you mean 'cantelli'"),
        ([3], {"delta": "0.1"}, TypeError, "delta must be a number, got '0.1' of type str"),
        ([3], {"bounds": "cantelli"}, TypeError, r"got 'cantelli': pass bounds=\['cantelli'\]"),
        ([3], {"bounds": []}, ValueError, "bounds must name at least one of cantelli, exponential, sup, got none"),
    ],
)
def test_bad_arguments(n_kept, options, error, message):
    with pytest.raises(error, match=message):
        dropout_bounds(make_network((4, 400, 1)), make_data(5, 4, 1), n_kept, **options)


def test_several_hidden_layers():
    with pytest.raises(ValueError, match="one hidden layer here, got 2 layers: use dropout_curve there"):
        dropout_bounds(make_network((4, 5, 6, 1)), make_data(5, 4, 1), [2])


def test_fresh_samples_need_a_generator():
    with pytest.raises(TypeError, match="needs rng="):
        dropout_bounds(make_network((3, 5, 1)), ISOTROPIC, [2])


def test_a_law_that_does_not_fit():
    with pytest.raises(ValueError, match=r"network has 4 inputs, but the law IsotropicGaussians has 3"):
        dropout_bounds(make_network((4, 5, 1)), ISOTROPIC, [2], rng=0)
