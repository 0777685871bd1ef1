"""The rules by which a run of several layers is cut into blocks, spans and tiles, and what it holds in memory."""

from __future__ import annotations

import numpy as np
import pytest

from meanfield import Network
from meanfield.dynamics import multilayer_trainer
from meanfield.dynamics.multilayer_trainer import MultilayerTrainer
from meanfield.dynamics.rule import Rule, trained_arrays


def _settings(widths, dtype="float32", trained="all", **rule):
    network = Network.init(widths, dtype=dtype, rng=0)
    return multilayer_trainer._settings(network, Rule(trained_arrays(trained, network), **rule))


@pytest.mark.parametrize(
    ("widths", "dtype", "tile"),
    [
        ((5, 3, 9, 1), "float32", 16),  # one vector
        ((5, 3, 9, 1), "float64", 16),
        ((5, 100, 90, 1), "float32", 112),  # whole vectors, one tile
        ((5, 128, 90, 1), "float32", 128),
        ((5, 90, 256, 1), "float32", 128),  # two tiles for two threads
        ((5, 300, 90, 1), "float64", 152),
        ((5, 600, 90, 1), "float32", 256),
    ],
)
def test_tiles_are_half_the_widest_layer_within_limits(widths, dtype, tile):
    assert _settings(widths, dtype).tile == tile


@pytest.mark.parametrize(
    ("widths", "trained", "rule", "opened", "block", "span"),
    [
        ((784, 256, 256, 10), "all", {}, 0, 128, 16),
        ((784, 1024, 1024, 10), "all", {}, 0, 128, 32),
        ((64, 256, 256, 10), "all", {}, 0, 64, 16),
        ((784, 256, 256, 10), "all", {"batch_size": 4}, 0, 32, 4),
        ((784, 256, 256, 10), "all", {"batch_size": 100}, 0, 1, 1),
        ((784, 256, 256, 10), "internal", {}, 1, 128, 128),
        ((784, 256, 256, 10), [2], {}, 1, 128, 128),
        ((784, 256, 256, 10), "all", {"weight_decay": 1.0, "largest_step_size": 0.49}, 0, 5, 5),
    ],
)
def test_blocks_and_spans(widths, trained, rule, opened, block, span):
    settings = _settings(widths, trained=trained, **rule)
    assert (settings.opened, settings.block, settings.span) == (opened, block, span)
    assert settings.block % settings.span == 0


def test_a_batch_takes_memory_for_itself_and_no_square_of_its_size():
    network = Network.init((20, 10, 10, 1), rng=0)
    n = 2000
    with MultilayerTrainer(network, Rule(trained_arrays("all", network), batch_size=n), 1) as trainer:
        held = sum(array.nbytes for array in trainer._workspace)
    assert held < 8 * n * 200 < 8 * n * n / 5


def test_a_large_batch_takes_one_step_down_its_mean_gradient():
    network = Network.init((3, 5, 4, 2), activation="tanh", scaling="standard", rng=0)
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((700, 3)), rng.standard_normal((700, 2))
    rule = Rule(trained_arrays("all", network), batch_size=700)
    with MultilayerTrainer(network, rule, 1) as together:
        together.advance(x, y, np.array([1e-3]))
    moves = []
    for k in range(700):
        with MultilayerTrainer(network, Rule(trained_arrays("all", network)), 1) as alone:
            alone.advance(x[k : k + 1], y[k : k + 1], np.array([1e-3]))
            moves.append(_moves(alone, network))
    for layer, move in enumerate(_moves(together, network)):
        mean = np.mean([single[layer] for single in moves], axis=0)
        np.testing.assert_allclose(move, mean, rtol=1e-9, atol=1e-15)


def _moves(trainer, network):
    return [after - before for after, before in zip(trainer.network().weights, network.weights, strict=True)]
