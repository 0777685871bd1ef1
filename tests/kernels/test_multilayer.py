"""The multilayer kernel by itself: against plain NumPy, and whatever its blocks, spans, panels, tiles and threads."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import plain_sgd, relative_error
from random_networks import random_network, targets_for

from meanfield import Network, PiecewiseLinear
from meanfield.dynamics import multilayer_trainer
from meanfield.dynamics.multilayer_trainer import MultilayerTrainer, span_samples
from meanfield.dynamics.rule import Rule
from meanfield.dynamics.trainer import TwoLayerTrainer

LOSSES = ["square", "logistic", "cross-entropy"]
PIECEWISE = PiecewiseLinear([(-1.0, 0.5), (0.25, -0.5), (0.5, 1.0)], 0.5, -0.25)
ACTIVATIONS = ["relu", "tanh", "erf", "sigmoid", "softplus", "linear", "quadratic", "truncated-relu", PIECEWISE]


def _names(network, *layers):
    kinds = ("weight",) if network.biases is None else ("weight", "bias")
    return frozenset(f"{kind}_{layer}" for kind in kinds for layer in layers or range(network.n_hidden + 1))


def _problem(widths, n_samples, *, seed=0, loss="square", **options):
    """A network whose outputs are of order one in either scaling, and samples for it."""
    network = random_network(widths, seed=seed, **options)
    if network.scaling == "standard":
        weights = [w / np.sqrt(w.shape[1], dtype=w.dtype) for w in network.weights]
        network = Network(weights, network.biases, activation=network.activation, scaling="standard")
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((n_samples, widths[0])) / np.sqrt(widths[0])).astype(network.dtype)
    return network, x, targets_for(loss, rng.standard_normal((n_samples, widths[-1]))).astype(network.dtype)


def _trained(network, x, y, step_sizes, rule, *, n_threads=1, trainer=MultilayerTrainer):
    with trainer(network, rule, n_threads) as training:
        losses = training.advance(x, y, np.asarray(step_sizes, float))
        return training.network(), losses


def _assert_follows_the_plain_loop(network, x, y, step_sizes, rule, rtol=1e-9, **options):
    final, losses = _trained(network, x, y, step_sizes, rule, **options)
    weights, biases, expected = plain_sgd(
        network, x, y, step_sizes, rule.batch_size, rule.trained, rule.loss, rule.weight_decay
    )
    assert relative_error(final, weights, biases) <= rtol
    assert np.abs(losses - expected).max() <= rtol * np.abs(expected).max()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data(), loss=st.sampled_from(LOSSES), scaling=st.sampled_from(["mean-field", "standard"]))
def test_equals_the_plain_loop(data, loss, scaling):
    draw = data.draw
    hidden = draw(st.lists(st.integers(1, 40), min_size=2, max_size=5), "hidden widths")
    n_outputs = {"logistic": 1, "cross-entropy": 3}.get(loss) or draw(st.integers(1, 4), "outputs")
    widths = (draw(st.integers(1, 30), "inputs"), *hidden, n_outputs)
    batch, n_steps = draw(st.integers(1, 12), "batch"), draw(st.integers(1, 90), "steps")
    network, x, y = _problem(
        widths,
        n_steps * batch,
        seed=draw(st.integers(0, 1000), "seed"),
        loss=loss,
        biases=draw(st.booleans(), "biases"),
        activation=draw(st.sampled_from(ACTIVATIONS), "activation"),
        scaling=scaling,
    )
    decay = draw(st.sampled_from([0.0, 0.1, 5.0]), "decay")
    if decay:
        trained = _names(network, *draw(st.sets(st.integers(0, len(hidden)), min_size=1), "layers"))
    else:
        trained = draw(st.sets(st.sampled_from(sorted(_names(network))), min_size=1), "arrays")
    rate = 0.01 if scaling == "mean-field" else 0.002
    sizes = rate / np.sqrt(np.arange(1, n_steps + 1))
    rule = Rule(frozenset(trained), batch, loss, decay, largest_step_size=rate)
    _assert_follows_the_plain_loop(network, x, y, sizes, rule)


@pytest.mark.parametrize("trained", [(0, 1, 2, 3), (1, 2), (2,), (0, 3), (3,)])
@pytest.mark.parametrize("batch", [1, 4])
def test_tiles_and_whole_blocks(trained, batch):
    widths, n_steps = (300, 530, 270, 300, 2), 300 // batch
    network, x, y = _problem(widths, n_steps * batch, activation="tanh")
    rule = Rule(_names(network, *trained), batch)
    _assert_follows_the_plain_loop(network, x, y, [0.02] * n_steps, rule)


@pytest.mark.parametrize(("block", "span"), [(1, 1), (2, 1), (6, 2), (12, 4), (64, 64), (96, 16)])
@pytest.mark.parametrize("panel", [1, 2, 8])
@pytest.mark.parametrize("tile", [8, 16, 512])
def test_block_span_panel_and_tile_change_nothing_but_rounding(monkeypatch, block, span, panel, tile):
    network, x, y = _problem((6, 30, 21, 40, 2), 150, activation="erf")
    monkeypatch.setattr(multilayer_trainer, "TILE", tile)
    monkeypatch.setattr(multilayer_trainer, "PANEL", panel)
    monkeypatch.setattr(multilayer_trainer, "block_samples", lambda n_inputs: block)
    monkeypatch.setattr(multilayer_trainer, "span_samples", lambda shapes: span)
    _assert_follows_the_plain_loop(network, x, y, [0.02] * 150, Rule(_names(network)))


@pytest.mark.long
@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_float32_follows_the_plain_loop(batch, decay):
    network, x, y = _problem((30, 300, 200, 100, 3), 300 * batch, activation="tanh", dtype=np.float32)
    rule = Rule(_names(network), batch, weight_decay=decay, largest_step_size=0.01)
    _assert_follows_the_plain_loop(network, x, y, [0.01] * 300, rule, rtol=5e-5)


def test_decay_that_would_drown_a_block_shortens_it():
    network, x, y = _problem((4, 30, 20, 25, 2), 150, activation="tanh")
    rule = Rule(_names(network), weight_decay=9.0, largest_step_size=0.05)
    _assert_follows_the_plain_loop(network, x, y, [0.05] * 150, rule)


@pytest.mark.parametrize("dim", [5, 300])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("trained", [(0, 1), (0,), (1,)])
def test_one_hidden_layer_is_the_two_layer_kernel(dim, batch, trained):
    network, x, y = _problem((dim, 600, 2), 140 * batch, activation="tanh")
    rule = Rule(_names(network, *trained), batch, weight_decay=0.1, largest_step_size=0.02)
    two_layer, first = _trained(network, x, y, [0.02] * 140, rule, trainer=TwoLayerTrainer)
    general, second = _trained(network, x, y, [0.02] * 140, rule)
    assert relative_error(general, two_layer.weights, two_layer.biases) <= 1e-11
    assert np.allclose(first, second, rtol=1e-11, atol=0)
    assert not np.array_equal(general.weights[trained[0]], network.weights[trained[0]])


# Another precision is another compilation, half a minute long.
@pytest.mark.parametrize("dtype", [pytest.param(np.float32, marks=pytest.mark.long), np.float64])
@pytest.mark.parametrize(("batch", "trained"), [(1, ()), (1, (1,)), (1, (2, 3)), (7, ()), (200, ())])
def test_the_bits_are_those_of_one_thread(monkeypatch, dtype, batch, trained):
    monkeypatch.setattr(multilayer_trainer, "WORK_PER_THREAD", 1)
    network, x, y = _problem((20, 700, 530, 810, 3), 150 // min(batch, 75) * batch, activation="relu", dtype=dtype)
    rule = Rule(_names(network, *trained), batch, weight_decay=0.1, largest_step_size=0.02)
    sizes = [0.02] * (len(x) // batch)
    (one, losses), *others = [_trained(network, x, y, sizes, rule, n_threads=n) for n in (1, 2, 3)]
    for final, its_losses in others:
        assert final == one
        assert np.array_equal(its_losses, losses)


def test_threads_are_as_many_as_asked_for(monkeypatch):
    monkeypatch.setattr(multilayer_trainer, "WORK_PER_THREAD", 1)
    network = random_network((20, 700, 530, 810, 3))
    for asked, used in ((1, 1), (3, 3), (9, 4)):
        with MultilayerTrainer(network, Rule(_names(network)), asked) as trainer:
            assert trainer._n_threads == used


def test_permuting_the_neurons_of_every_layer_permutes_the_result():
    network, x, y = _problem((5, 40, 30, 20, 2), 200, activation="erf")
    rng = np.random.default_rng(1)
    orders = [rng.permutation(n) for n in network.widths[1:-1]]
    rule = Rule(_names(network))
    expected = _trained(network, x, y, [0.05] * 200, rule)[0].keep(orders)
    final = _trained(network.keep(orders), x, y, [0.05] * 200, rule)[0]
    assert relative_error(final, expected.weights, expected.biases) <= 1e-11


def test_frozen_arrays_stay_bit_for_bit():
    network, x, y = _problem((4, 20, 30, 25, 2), 100, activation="tanh")
    for size in (1, 2):
        for trained in itertools.combinations(sorted(_names(network)), size):
            final, _ = _trained(network, x, y, [0.05] * 100, Rule(frozenset(trained)))
            moved = {
                name
                for name in _names(network)
                for kind, layer in [name.split("_")]
                if not np.array_equal(*(getattr(net, {"weight": "weights", "bias": "biases"}[kind])[int(layer)]
                                        for net in (final, network)))
            }  # fmt: skip
            assert moved == set(trained)


def test_samples_of_a_span_balance_corrections_and_writes():
    def cost(span, shapes):
        return sum(2 * span * (a + b) + 4 * a * b / span for a, b in shapes)

    for shapes in ([(64, 64)], [(1024, 1024)], [(4096, 4096)], [(256, 1024), (1024, 64)], [(1, 1)]):
        span = span_samples(shapes)
        best = min(2**k for k in range(12) if cost(2**k, shapes) == min(cost(2**j, shapes) for j in range(12)))
        assert span / best in (0.5, 1, 2)
