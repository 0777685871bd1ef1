"""Dropout: closed forms against all subsets one by one, sampling against its own standard error."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from oracles import activation_value, kept_forward, losses_of_samples
from random_networks import random_network as make_network

import meanfield.model.network as network_module
from meanfield.landscape import dropout, dropout_moments
from meanfield.landscape.dropout import dropout_change, dropout_curve, neuron_variance
from meanfield.model.laws import Empirical, IsotropicGaussians
from meanfield.model.network import Network
from meanfield.model.risk import risk

ACTIVATIONS = ["relu", "tanh", "sigmoid", "quadratic", "truncated-relu"]
COLUMNS = ["n_kept", "mean_change", "std_change", "standard_error", "method", "n_neurons", "risk", "a_min"]
ISOTROPIC = IsotropicGaussians(dim=3, delta=0.5)


def make_data(n_samples, dim, n_outputs, seed=1):
    rng = np.random.default_rng(seed)
    return Empirical(rng.standard_normal((n_samples, dim)), rng.standard_normal((n_samples, n_outputs)))


def plain_losses(network, x, y, kept=None):
    """Square loss of each sample, averages over the kept neurons written as averages."""
    whole = [range(n) for n in network.widths[1:-1]]
    return losses_of_samples("square", y, kept_forward(network, x, whole if kept is None else kept))


def enumerated_changes(network, law, counts):
    """L_A - L for every choice of ``counts[l]`` neurons in hidden layer l."""
    whole = plain_losses(network, law.x, law.y)
    layers = [combinations(range(n), m) for n, m in zip(network.widths[1:-1], counts, strict=True)]
    return np.array([(plain_losses(network, law.x, law.y, kept) - whole).mean() for kept in product(*layers)])


def assert_curve_is_enumeration(network, law, rtol=1e-9):
    n_neurons = network.widths[1]
    curve = dropout_curve(network, law, range(1, n_neurons + 1))
    for row in curve.itertuples():
        changes = enumerated_changes(network, law, (row.n_kept,))
        assert row.mean_change == pytest.approx(changes.mean(), rel=rtol, abs=1e-13)
        assert row.std_change == pytest.approx(changes.std(), rel=rtol, abs=1e-12)
    assert tuple(curve.iloc[-1][["mean_change", "std_change", "standard_error"]]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("scaling", ["mean-field", "standard"])
@pytest.mark.parametrize(("n_outputs", "biases"), [(1, False), (1, True), (3, True)])
def test_mean_and_std_are_those_of_all_subsets(activation, scaling, n_outputs, biases):
    network = make_network((4, 6, n_outputs), activation=activation, scaling=scaling, biases=biases)
    assert_curve_is_enumeration(network, make_data(20, 4, n_outputs))


@pytest.mark.parametrize("n_neurons", [1, 2, 3, 4, 5, 10])
def test_every_number_of_neurons(n_neurons):
    assert_curve_is_enumeration(make_network((3, n_neurons, 2)), make_data(15, 3, 2))


def test_chunks_of_samples_and_strips_of_neurons_do_not_matter(monkeypatch):
    monkeypatch.setattr(network_module, "CHUNK", 7)
    monkeypatch.setattr(dropout_moments, "STRIP", 3)
    assert_curve_is_enumeration(make_network((3, 8, 2)), make_data(20, 3, 2))


@pytest.mark.parametrize("shared", [1e3, 1e6])
def test_what_all_output_weights_share_is_not_lost(shared):
    network = make_network((3, 7, 2))
    weights = [network.weights[0], network.weights[1] + shared]
    assert_curve_is_enumeration(
        Network(weights, network.biases, activation="relu", scaling="mean-field"), make_data(20, 3, 2)
    )


def test_what_all_features_share_cancels_before_it_is_squared():
    # Uncentred second moments are 1e10 times the variances here: six digits would be left.
    level, rng = 1e5, np.random.default_rng(0)
    weights = [rng.standard_normal((7, 3)), np.ones((1, 7))]
    biases = [np.full(7, level), np.array([-level])]
    network = Network(weights, biases, activation="linear", scaling="mean-field")
    assert_curve_is_enumeration(network, make_data(20, 3, 1), rtol=1e-8)


def test_equal_neurons_can_be_dropped_at_no_cost():
    network = make_network((3, 1, 2))
    copies = [np.repeat(network.weights[0], 6, axis=0), np.repeat(network.weights[1], 6, axis=1)]
    curve = dropout_curve(Network(copies, activation="relu", scaling="mean-field"), make_data(20, 3, 2), [1, 3])
    np.testing.assert_allclose(curve[["mean_change", "std_change"]], 0, atol=1e-14)


def dense_std(network, law, n_kept):
    """The standard deviation from the whole matrix M."""
    x, y, n, m = law.x, law.y, network.widths[1], n_kept
    h = activation_value(network.activation, x @ network.weights[0].T + network.biases[0])
    f = h[:, np.newaxis] * network.weights[1]
    phi = f - f.mean(axis=2, keepdims=True)
    gamma = np.einsum("sci,sc->i", phi, y - f.mean(axis=2) - network.biases[1]) / len(x)
    flat = phi.reshape(-1, n)
    pairs = flat.T @ flat / len(x)
    own = np.diag(pairs)
    v = -(own - own.sum() / (2 * n - 2)) / (n - 2)
    rest = pairs - v - v[:, np.newaxis]
    np.fill_diagonal(rest, 0)
    np.testing.assert_allclose(rest.sum(axis=1), 0, atol=1e-9)
    alpha = -2 / m * gamma + (n - 2 * m) / (m**2 * (n - 2)) * (own - own.mean())
    inclusion = np.cumprod([(m - k) / (n - k) for k in range(4)])
    quadratic = 2 * (inclusion[1] - 2 * inclusion[2] + inclusion[3]) * (rest**2).sum() / m**4
    return np.sqrt((inclusion[0] - inclusion[1]) * (alpha**2).sum() + quadratic)


def test_several_chunks_and_strips_agree_with_the_dense_matrix():
    network, law = make_network((5, 1100, 2)), make_data(1030, 5, 2)
    assert network.widths[1] > 2 * dropout_moments.STRIP
    assert law.n_samples > network_module.CHUNK
    sizes = [1, 2, 400, 550, 1099]
    expected = [dense_std(network, law, m) for m in sizes]
    np.testing.assert_allclose(dropout_curve(network, law, sizes)["std_change"], expected, rtol=1e-9)


def test_the_number_of_threads_does_not_change_the_bits(monkeypatch):
    network, law = make_network((5, 1100, 2)), make_data(1500, 5, 2)
    curves = []
    for threads in ("1", "3"):
        monkeypatch.setenv("MEANFIELD_NUM_THREADS", threads)
        curves.append(dropout_curve(network, law, [1, 300, 1000]))
    np.testing.assert_array_equal(*(curve[["mean_change", "std_change", "risk"]] for curve in curves))


def test_single_precision_agrees_with_double():
    law = make_data(1500, 6, 2)
    single = make_network((6, 700, 2), dtype=np.float32)
    double = Network(
        [w.astype(np.float64) for w in single.weights],
        [b.astype(np.float64) for b in single.biases],
        activation="relu",
        scaling="mean-field",
    )
    columns = ["mean_change", "std_change", "risk"]
    curves = [dropout_curve(network, law, [1, 20, 350, 699])[columns] for network in (single, double)]
    np.testing.assert_allclose(*curves, rtol=2e-5)


def test_the_order_of_the_neurons_does_not_matter():
    network, law = make_network((4, 30, 2)), make_data(50, 4, 2)
    order = np.random.default_rng(5).permutation(30)
    columns = ["mean_change", "std_change", "risk"]
    curves = [dropout_curve(one, law, range(1, 31))[columns] for one in (network, network.keep([order]))]
    np.testing.assert_allclose(*curves, rtol=1e-12)


def test_the_table_follows_the_entries():
    network, law = make_network((4, 9, 2)), make_data(20, 4, 2)
    curve = dropout_curve(network, law, [5, (2,), np.int64(9), 5])
    assert list(curve.columns) == COLUMNS
    assert curve["n_kept"].tolist() == [5, (2,), 9, 5]
    assert curve["n_neurons"].tolist() == [9] * 4
    assert curve["method"].tolist() == ["exact"] * 4
    assert curve["standard_error"].tolist() == [0.0] * 4
    assert curve["risk"].to_numpy() == pytest.approx(risk(network, law).value, rel=1e-14)
    np.testing.assert_array_equal(curve.iloc[0, 1:], curve.iloc[3, 1:])
    direct = dropout_curve(network, law, [2])
    assert curve["mean_change"][1] == direct["mean_change"][0]
    assert direct["n_kept"].dtype == np.int64


def test_the_constant_of_the_curve_is_the_variance_over_neurons():
    network, law = make_network((4, 9, 2)), make_data(20, 4, 2)
    curve, c_n = dropout_curve(network, law, [3]), neuron_variance(network, law)
    h = np.maximum(law.x @ network.weights[0].T + network.biases[0], 0)
    expected = (h[:, np.newaxis] * network.weights[1]).var(axis=2).sum(axis=1).mean()
    assert c_n.value == pytest.approx(expected, rel=1e-12)
    assert (c_n.standard_error, c_n.method) == (0.0, "exact")
    assert curve.attrs == {"c_n": c_n.value, "c_n_standard_error": 0.0}


@pytest.mark.parametrize(("std", "computed"), [(None, False), (True, True), (False, False)])
def test_wide_layers_have_their_std_only_on_request(monkeypatch, std, computed):
    network, law = make_network((4, 9, 2)), make_data(20, 4, 2)
    unasked = dropout_curve(network, law, [3])
    monkeypatch.setattr(dropout, "MAX_UNASKED_WIDTH", 8)
    curve = dropout_curve(network, law, [3], std=std)
    assert curve["std_change"].notna().tolist() == [computed]
    assert unasked["std_change"].notna().all()
    assert curve["mean_change"][0] == unasked["mean_change"][0]
    assert np.isnan(dropout_curve(network, law, [3], std=False)["std_change"][0])


def variance_ratio(estimates, standard_errors):
    """Observed variance of repeated estimates in units of the claimed one."""
    return np.var(estimates, ddof=1) / np.mean(np.square(standard_errors))


def test_the_standard_error_of_fresh_samples_is_calibrated():
    network = make_network((3, 12, 1))
    truth = neuron_variance(network, ISOTROPIC, n_samples=200_000, rng=7)
    estimates = [neuron_variance(network, ISOTROPIC, n_samples=300, rng=seed) for seed in range(200)]
    values, errors = np.array([(e.value, e.standard_error) for e in estimates]).T
    # 200 replicas know the ratio to 10%, heavy tails included to about 15%.
    assert 0.6 < variance_ratio(values, errors) < 1.5
    expected_gap = np.sqrt(values.var() / 200 + truth.standard_error**2)
    assert abs(values.mean() - truth.value) < 4 * expected_gap
    assert {e.method for e in estimates} == {"sample"}


def test_fresh_samples_scale_like_the_identity():
    network = make_network((3, 12, 1))
    curve = dropout_curve(network, ISOTROPIC, [1, 4, 12], n_samples=500, rng=3)
    c_n = neuron_variance(network, ISOTROPIC, n_samples=500, rng=3)
    factors = np.array([11 / 11, 8 / (4 * 11), 0.0])
    np.testing.assert_allclose(curve["mean_change"], factors * c_n.value, rtol=1e-14)
    np.testing.assert_allclose(curve["standard_error"], factors * c_n.standard_error, rtol=1e-14)
    assert curve["method"].tolist() == ["sample"] * 3
    same_samples = risk(network, ISOTROPIC, method="sample", n_samples=500, rng=3)
    assert curve["risk"].to_numpy() == pytest.approx(same_samples.value, rel=1e-12)
    assert curve.attrs["c_n_standard_error"] == c_n.standard_error > 0


@pytest.mark.parametrize("scaling", ["mean-field", "standard"])
def test_a_given_subset_changes_the_loss_by_what_brute_force_says(scaling):
    network, law = make_network((4, 9, 2), scaling=scaling), make_data(20, 4, 2)
    kept = [7, 0, 3]
    expected = (plain_losses(network, law.x, law.y, [kept]) - plain_losses(network, law.x, law.y)).mean()
    for form in (kept, np.array(kept), tuple(kept), [np.array(kept)], [kept]):
        change = dropout_change(network, law, form)
        assert change.value == pytest.approx(expected, rel=1e-11)
        assert (change.standard_error, change.method) == (0.0, "exact")


def test_a_given_subset_of_each_of_two_layers():
    network, law = make_network((4, 5, 6, 2), activation="tanh"), make_data(20, 4, 2)
    kept = [[4, 1], [0, 2, 5]]
    expected = (plain_losses(network, law.x, law.y, kept) - plain_losses(network, law.x, law.y)).mean()
    assert dropout_change(network, law, kept).value == pytest.approx(expected, rel=1e-11)


def test_a_given_subset_on_fresh_samples_has_the_error_of_the_paired_difference():
    network, kept = make_network((3, 9, 1)), [2, 4]
    change = dropout_change(network, ISOTROPIC, kept, n_samples=400, rng=11)
    x, y = ISOTROPIC.sample(400, np.random.default_rng(11))
    differences = plain_losses(network, x, y, [kept]) - plain_losses(network, x, y)
    assert change.value == pytest.approx(differences.mean(), rel=1e-11)
    assert change.standard_error == pytest.approx(differences.std(ddof=1) / 20, rel=1e-11)
    assert change.method == "sample"


def test_keeping_all_neurons_in_any_order_changes_nothing():
    network = make_network((3, 50, 1), scaling="standard")
    backwards = dropout_change(network, ISOTROPIC, np.arange(50)[::-1], n_samples=40, rng=0)
    assert (backwards.value, backwards.standard_error) == (0.0, 0.0)


@pytest.mark.parametrize("entry", [2, (3, 1), (2, 4)])
def test_drawn_subsets_of_a_deeper_network_agree_with_all_of_them(entry):
    network, law = make_network((3, 4, 4, 2), activation="tanh"), make_data(12, 3, 2)
    changes = enumerated_changes(network, law, entry if isinstance(entry, tuple) else (entry, entry))
    row = dropout_curve(network, law, [entry], n_subsets=500, rng=4).iloc[0]
    assert row["standard_error"] == pytest.approx(changes.std() / np.sqrt(500), rel=0.15)
    assert abs(row["mean_change"] - changes.mean()) < 4 * row["standard_error"]
    assert row["std_change"] == pytest.approx(changes.std(), rel=0.15)
    assert (row["n_kept"], row["method"], row["n_neurons"]) == (entry, "permutations", (4, 4))
    assert row["risk"] == pytest.approx(plain_losses(network, law.x, law.y).mean(), rel=1e-12)


def test_a_deeper_network_with_all_neurons_kept_is_unchanged():
    network, law = make_network((3, 4, 5, 2)), make_data(12, 3, 2)
    row = dropout_curve(network, law, [(4, 5)], rng=0).iloc[0]
    assert (row["mean_change"], row["std_change"], row["standard_error"]) == (0.0, 0.0, 0.0)


def test_the_standard_error_counts_subsets_and_fresh_samples():
    network = make_network((3, 6, 6, 1), biases=False)
    options = {"n_samples": 10, "n_subsets": 40}
    curves = [dropout_curve(network, ISOTROPIC, [3], **options, rng=seed) for seed in range(300)]
    mean, std, error = np.array([curve.iloc[0, 1:4] for curve in curves], dtype=float).T
    from_subsets = std / np.sqrt(40)
    # 300 replicas know the ratio to about 12%; neither part alone would do.
    assert 0.6 < variance_ratio(mean, error) < 1.4
    assert variance_ratio(mean, from_subsets) > 1.5
    assert variance_ratio(mean, np.sqrt(error**2 - from_subsets**2)) > 1.2


@pytest.mark.parametrize(
    ("n_kept", "error", "message"),
    [
        ([10, 401], ValueError, r"^n_kept must lie in 1..n_neurons=400, got 401$"),
        ([0], ValueError, r"^n_kept must lie in 1..n_neurons=400, got 0$"),
        (
            [2.0],
            TypeError,
            r"n_kept must hold integers or tuples .* 2\.0 of type float: give numbers of neurons",
        ),
        (None, TypeError, r"n_kept must be a sequence of integers, got None: pass e\.g\. \[(\d+)\]$"),
        (0.5, TypeError, r"n_kept must be a sequence of integers, got 0\.5: pass e\.g\. \[(\d+)\]$"),
        ([True], TypeError, "n_kept must hold integers or tuples of them, got True of type bool"),
        (["3"], TypeError, "got '3' of type str"),
        ([(3, 4)], ValueError, r"integers or tuples of 1, one a hidden layer, got \(3, 4\)"),
        ([], ValueError, "n_kept must hold at least one entry, got none"),
        (7, TypeError, r"n_kept must be a sequence of integers, got 7: pass \[7\]"),
        (np.array(3), TypeError, r"n_kept must be a sequence of integers, got array\(3\)"),
        ("12", TypeError, "n_kept must be a sequence of integers, got '12'"),
    ],
)
def test_bad_numbers_of_kept_neurons(n_kept, error, message):
    with pytest.raises(error, match=message):
        dropout_curve(make_network((4, 400, 1)), make_data(5, 4, 1), n_kept)


def test_bad_entries_for_two_hidden_layers():
    network, law = make_network((4, 5, 6, 1)), make_data(5, 4, 1)
    with pytest.raises(ValueError, match=r"^n_kept must lie in 1..n_neurons=5, got 6$"):
        dropout_curve(network, law, [6], rng=0)
    with pytest.raises(ValueError, match=r"integers or tuples of 2, one a hidden layer, got \(3, 3, 3\)"):
        dropout_curve(network, law, [(3, 3, 3)], rng=0)
    with pytest.raises(ValueError, match="n_subsets must be at least 2, got 1"):
        dropout_curve(network, law, [3], n_subsets=1, rng=0)
    with pytest.raises(TypeError, match="dropout_curve with drawn subsets needs rng="):
        dropout_curve(network, law, [3])


@pytest.mark.parametrize(
    "ask",
    [
        lambda network, law, **options: dropout_curve(network, law, [2], **options),
        lambda network, law, **options: dropout_change(network, law, [0, 2], **options),
        neuron_variance,
    ],
)
def test_what_every_question_needs(ask):
    network = make_network((3, 4, 1))
    with pytest.raises(TypeError, match="evaluation on fresh samples needs rng="):
        ask(network, ISOTROPIC)
    with pytest.raises(ValueError, match="n_samples must be at least 2, got 1"):
        ask(network, ISOTROPIC, n_samples=1, rng=0)
    with pytest.raises(ValueError, match="network has 3 inputs, but the law Empirical has 5"):
        ask(network, make_data(5, 5, 1))


def test_unknown_losses():
    network, law = make_network((3, 4, 1)), make_data(5, 3, 1)
    with pytest.raises(ValueError, match="unknown loss 'sqare': did you mean 'square'"):
        dropout_curve(network, law, [2], loss="sqare")
    with pytest.raises(ValueError, match="unknown loss 'hinge'"):
        dropout_change(network, law, [2], loss="hinge")


@pytest.mark.parametrize(
    ("kept", "error", "message"),
    [
        ([], ValueError, "kept.0. must be a non-empty"),
        ([0, 4], ValueError, r"kept.0. must lie in 0..3, got values 0..4"),
        ([1, 1], ValueError, "kept.0. must be distinct"),
        ([0.5], TypeError, "kept.0. must hold integer positions"),
        (3, ValueError, "kept.0. must be a non-empty one-dimensional array"),
        ([[0], [1]], ValueError, "kept must hold 1 index arrays, one a hidden layer, got 2"),
        (None, TypeError, "kept.0. must hold integer positions"),
        ([0, [1]], ValueError, "kept must hold 1 index arrays, one a hidden layer, got 2"),
        ([[0, [1]]], TypeError, "kept.0. must hold integer positions"),
    ],
)
def test_bad_sets_of_kept_neurons(kept, error, message):
    with pytest.raises(error, match=message):
        dropout_change(make_network((3, 4, 1)), make_data(5, 3, 1), kept)


@pytest.mark.parametrize("large", [1.0, 1e6, 1e10])
def test_dead_neurons_with_large_output_weights_cost_no_digits(large):
    rng = np.random.default_rng(0)
    inner = rng.standard_normal((60, 4))
    inner[:8] = -np.abs(inner[:8])
    outer = rng.standard_normal((1, 60))
    outer[:, :8] *= large
    network = Network([np.abs(inner) * np.sign(inner), outer], activation="relu", scaling="mean-field")
    x = np.abs(rng.standard_normal((200, 4)))
    f = outer * np.maximum(x @ inner.T, 0)
    curve = dropout_curve(network, Empirical(x, np.ones(200)), [30])
    assert curve.attrs["c_n"] == pytest.approx(f.var(axis=1).mean(), rel=1e-9)
    gamma = ((1 - f.mean(axis=1))[:, np.newaxis] * (f - f.mean(axis=1, keepdims=True))).mean(axis=0)
    phi = f - f.mean(axis=1, keepdims=True)
    pairs = phi.T @ phi / 200
    changes = []
    for _ in range(4000):
        kept = rng.choice(60, 30, replace=False)
        changes.append(-2 / 30 * gamma[kept].sum() + pairs[np.ix_(kept, kept)].sum() / 30**2)
    assert curve["std_change"].item() == pytest.approx(np.std(changes), rel=0.06)
