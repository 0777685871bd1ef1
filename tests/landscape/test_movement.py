"""Movement of weights: the definition, and when it says that nothing is learnt."""

from __future__ import annotations

import math

import numpy as np
import pytest
from random_networks import random_network

import meanfield.model.network as network_module
from meanfield import IsotropicGaussians, MeanfieldWarning, Network, movement, run_sgd

WIDTHS = (3, 6, 5, 2)


def moved(network, changes):
    """The network with ``changes[l]`` added to the weights of layer l."""
    weights = [w + change.astype(w.dtype) for w, change in zip(network.weights, changes, strict=True)]
    return Network(weights, network.biases, activation=network.activation, scaling=network.scaling)


def random_changes(network, size=1.0, seed=1):
    rng = np.random.default_rng(seed)
    return [size * rng.standard_normal(w.shape) for w in network.weights]


@pytest.mark.parametrize("chunk", [2, 1024])
def test_the_table_is_the_definition(monkeypatch, chunk):
    monkeypatch.setattr(network_module, "CHUNK", chunk)
    before = random_network(WIDTHS)
    changes = random_changes(before)
    table = movement(before, moved(before, changes))
    of_biases = ["bias_rms_change", "bias_relative_change"]
    assert list(table.columns) == ["weights", "rms_before", "rms_change", "mean_change", "relative_change", *of_biases]
    assert table["weights"].tolist() == [0, 1, 2]
    for row, w, change in zip(table.itertuples(), before.weights, changes, strict=True):
        assert row.rms_before == pytest.approx(np.sqrt(np.mean(w**2)), rel=1e-12)
        assert row.rms_change == pytest.approx(np.sqrt(np.mean(change**2)), rel=1e-12)
        assert row.mean_change == pytest.approx(change.mean(), rel=1e-9)
        assert row.relative_change == pytest.approx(np.sqrt(np.mean(change**2) / np.mean(w**2)), rel=1e-12)


def test_weights_that_move_alike_have_equal_mean_and_rms():
    before = random_network(WIDTHS)
    table = movement(before, moved(before, [np.full(w.shape, -0.5) for w in before.weights]))
    np.testing.assert_allclose(table["rms_change"], 0.5, rtol=1e-12)
    np.testing.assert_allclose(table["mean_change"], -0.5, rtol=1e-12)


def test_single_precision_is_added_up_in_double():
    before = random_network((3, 300, 400, 2), dtype=np.float32)
    after = moved(before, random_changes(before, 0.1))
    difference = after.weights[1].astype(float) - before.weights[1]
    assert movement(before, after)["rms_change"][1] == pytest.approx(np.sqrt(np.mean(difference**2)), rel=1e-12)


def test_frozen_layers_have_not_moved():
    before = random_network(WIDTHS)
    changes = [change * (layer == 1) for layer, change in enumerate(random_changes(before))]
    assert movement(before, moved(before, changes))["rms_change"].gt(0).tolist() == [False, True, False]


@pytest.mark.parametrize(("layer", "size"), [(0, 0.0), (0, 0.005), (2, 0.009)])
def test_a_warning_says_that_nothing_is_learnt(layer, size):
    before = random_network(WIDTHS)
    changes = [size * w * (at == layer) for at, w in enumerate(before.weights)]
    with pytest.warns(MeanfieldWarning, match=rf"moved by 0.01 of their size, at most by {size:.3g}: train longer"):
        movement(before, moved(before, changes))
    movement(before, moved(before, changes), least_change=0.0)


def test_one_moved_layer_is_enough():
    before = random_network(WIDTHS)
    after = moved(before, [0.011 * w * (layer == 1) for layer, w in enumerate(before.weights)])
    movement(before, after)
    with pytest.warns(MeanfieldWarning, match=r"moved by 0\.02 of their size, at most by 0\.011"):
        movement(before, after, least_change=0.02)


def test_layers_that_began_at_zero_move_by_nothing_or_infinitely():
    before = Network([np.ones((4, 3)), np.zeros((1, 4))], activation="relu", scaling="mean-field")
    with pytest.warns(MeanfieldWarning, match="nothing is learnt"):
        assert movement(before, before)["relative_change"].tolist() == [0.0, 0.0]
    after = Network([np.ones((4, 3)), np.ones((1, 4))], activation="relu", scaling="mean-field")
    assert movement(before, after)["relative_change"].tolist() == [0.0, math.inf]


def with_biases(network, changes):
    biases = [b + change for b, change in zip(network.biases, changes, strict=True)]
    return Network(network.weights, biases, activation=network.activation, scaling=network.scaling)


def test_biases_are_measured_in_units_of_what_their_layer_began_with():
    before = random_network(WIDTHS)
    changes = [np.random.default_rng(2).standard_normal(b.shape) for b in before.biases]
    table = movement(before, with_biases(before, changes))
    assert (table["rms_change"] == 0).all()
    for row, w, b, change in zip(table.itertuples(), before.weights, before.biases, changes, strict=True):
        rms = np.sqrt(np.mean(change**2))
        assert row.bias_rms_change == pytest.approx(rms, rel=1e-12)
        assert row.bias_relative_change == pytest.approx(rms / np.sqrt(np.mean(w**2) + np.mean(b**2)), rel=1e-12)
    without = random_network(WIDTHS, biases=False)
    assert movement(without, without, least_change=0)[["bias_rms_change", "bias_relative_change"]].isna().all(axis=None)


def test_training_hidden_biases_alone_is_learning_and_the_output_bias_alone_is_not():
    before = Network.init((8, 50, 50, 1), biases=True, rng=0)
    options = {"step_size": 0.05, "n_steps": 40, "rng": 1}
    after = run_sgd(before, IsotropicGaussians(8, 0.5), trained=["bias_0", "bias_1"], **options).final
    assert (movement(before, after)["bias_rms_change"][:2] > 0.01).all()
    only_output = run_sgd(before, IsotropicGaussians(8, 0.5), trained=["bias_2"], **options).final
    with pytest.warns(
        MeanfieldWarning, match="no layer's weights or hidden biases moved by 0.01 of their size, at most"
    ):
        assert movement(before, only_output)["bias_rms_change"][2] > 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scaling": "standard"}, "the same scaling, got mean-field and standard"),
        ({"activation": "tanh"}, "the same activation, got relu and tanh"),
        ({"biases": False}, "the same presence of biases, got True and False"),
        ({"dtype": np.float32}, "the same dtype, got float64 and float32"),
    ],
)
def test_networks_of_another_kind_are_not_compared(change, message):
    with pytest.raises(ValueError, match=message):
        movement(random_network(WIDTHS), random_network(WIDTHS, **change))


def test_bad_input():
    with pytest.raises(TypeError, match="movement compares two Networks, got NoneType"):
        movement(random_network(WIDTHS), None)
    with pytest.raises(ValueError, match=r"the same widths, got \(3, 6, 5, 2\) and \(3, 6, 4, 2\)"):
        movement(random_network(WIDTHS), random_network((3, 6, 4, 2)))
    network = random_network(WIDTHS)
    with pytest.raises(ValueError, match="least_change must be finite and not negative, got -1"):
        movement(network, network, least_change=-1)


def movement_of_internal_layers(n_neurons, n_hidden=3, trained="internal", **start):
    """Relative change of the layers of weights between hidden ones over a time of 1."""
    before = Network.init((8, *[n_neurons] * n_hidden, 1), activation="relu", rng=0, **start)
    options = {"step_size": 0.05, "n_steps": 20, "batch_size": 5, "trained": trained, "rng": 1}
    after = run_sgd(before, IsotropicGaussians(8, 0.5), **options).final
    return movement(before, after, least_change=0.0)["relative_change"][1:n_hidden].to_numpy()


def test_wide_networks_of_zero_mean_internal_weights_learn_less_and_others_do_not():
    zero_mean = [movement_of_internal_layers(n) for n in (30, 480)]
    # Averages of zero-mean weights: a factor of 4 for 16-fold widths, more where it enters twice.
    assert (zero_mean[0] > 3 * zero_mean[1]).all()
    large_mean = {"mean": (None, 1.0, 1.0, 1.0), "std": (None, 0.1, 0.1, 0.1)}
    narrow, wide = (movement_of_internal_layers(n, **large_mean) for n in (30, 480))
    np.testing.assert_allclose(narrow, wide, rtol=0.3)
    assert (wide > 10 * zero_mean[1]).all()


@pytest.mark.parametrize("trained", ["all", "internal"])
def test_with_two_hidden_layers_zero_mean_internal_weights_learn_at_every_width(trained):
    narrow, wide = (movement_of_internal_layers(n, n_hidden=2, trained=trained) for n in (30, 480))
    np.testing.assert_allclose(narrow, wide, rtol=0.3)
    assert (wide > 0.1).all()


def test_frozen_ends_and_a_zero_mean_start_are_warned_of():
    before = Network.init((8, 480, 480, 480, 1), activation="relu", rng=0)
    options = {"step_size": 0.01, "n_steps": 20, "trained": "internal", "rng": 1}
    after = run_sgd(before, IsotropicGaussians(8, 0.5), **options).final
    with pytest.warns(MeanfieldWarning, match="nothing is learnt"):
        table = movement(before, after)
    assert table["rms_change"].gt(0).tolist() == [False, True, True, False]
