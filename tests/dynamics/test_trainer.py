"""The rules by which a two-layer run is cut into blocks, tiles and passes."""

from __future__ import annotations

import numpy as np
import pytest

from meanfield import Network, PiecewiseLinear
from meanfield.dynamics import trainer
from meanfield.dynamics.rule import Rule

ALL = frozenset({"weight_0", "weight_1"})


def _settings(n_neurons, dim, dtype, **rule):
    return trainer._settings(Network.init((dim, n_neurons, 1), dtype=dtype, rng=0), Rule(**({"trained": ALL} | rule)))


@pytest.mark.parametrize(
    ("n_neurons", "dim", "dtype", "rule", "fused", "block", "panel", "tile"),
    [
        (1000, 32, "float32", {}, True, 8, 4, 512),  # 128 bytes a neuron
        (1000, 784, "float64", {}, True, 8, 4, 512),  # 5.98 MiB in all
        (1004, 784, "float64", {}, False, 128, 4, 512),  # 6.01 MiB in all, 6 KiB a neuron
        (7000, 256, "float32", {}, True, 8, 4, 512),  # 6.8 MiB in all, but 1 KiB a neuron
        (7000, 257, "float32", {}, False, 128, 4, 512),
        (13_000, 129, "float64", {}, False, 64, 4, 512),
        (1000, 32, "float32", {"batch_size": 2}, True, 4, 2, 512),
        (1000, 32, "float32", {"batch_size": 8}, True, 1, 1, 512),
        (1000, 32, "float32", {"batch_size": 3}, False, 21, 1, 512),
        (1000, 784, "float32", {"batch_size": 100}, False, 1, 1, 512),
        (1000, 32, "float32", {"trained": frozenset({"weight_1"})}, False, 64, 4, 512),
        (1000, 32, "float32", {"temperature": 0.1}, False, 1, 4, 512),
        (1000, 32, "float32", {"weight_decay": 1.0, "largest_step_size": 0.1}, True, 8, 4, 512),
        (1000, 32, "float32", {"weight_decay": 1.0, "largest_step_size": 0.499}, False, 3, 4, 512),
        (1, 3, "float32", {}, True, 8, 4, 64),
        (1, 3, "float64", {}, True, 8, 4, 32),
        (512, 3, "float32", {}, True, 8, 4, 512),
        (520, 3, "float32", {}, True, 8, 4, 320),  # two tiles of 320, not one of 512 and one of 64
        (520, 3, "float64", {}, True, 8, 4, 288),
        (10_000, 784, "float32", {}, False, 128, 4, 512),
    ],
)
def test_passes_blocks_panels_and_tiles(n_neurons, dim, dtype, rule, fused, block, panel, tile):
    settings = _settings(n_neurons, dim, dtype, **rule)
    assert (settings.fused, settings.block, settings.panel, settings.tile) == (fused, block, panel, tile)


@pytest.mark.parametrize(
    ("n_outputs", "activation", "rule", "merged"),
    [
        (1, "relu", {}, True),
        (1, "linear", {}, True),
        (1, "truncated-relu", {}, True),
        (1, PiecewiseLinear([(0.0, 0.0)], left_slope=0.1, right_slope=1.0), {}, True),
        (1, "relu", {"loss": "logistic"}, True),
        (1, "relu", {"trained": ALL | {"bias_0", "bias_1"}}, True),
        (2, "relu", {}, False),
        (1, "tanh", {}, False),
        (1, "quadratic", {}, False),
        (1, "relu", {"batch_size": 2}, False),
        (1, "relu", {"weight_decay": 1.0, "largest_step_size": 0.1}, False),
        (1, "relu", {"temperature": 0.1}, False),
        (1, "relu", {"trained": frozenset({"weight_0"})}, False),
        (1, "relu", {"trained": frozenset({"weight_1"})}, False),
    ],
)
def test_one_pass_a_step_where_a_neuron_does_little(n_outputs, activation, rule, merged):
    network = Network.init((32, 1000, n_outputs), activation=activation, rng=0)
    assert trainer._settings(network, Rule(**({"trained": ALL} | rule))).merged == merged


def test_one_pass_a_step_is_for_fused_runs():
    settings = _settings(10_000, 784, "float32")
    assert not settings.fused
    assert not settings.merged


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_neurons", [1, 31, 64, 500, 513, 1000, 4097])
def test_tiles_hold_all_neurons_in_whole_runs_of_vectors_and_waste_less_than_one_a_tile(n_neurons, dtype):
    tile = trainer.tile_neurons(n_neurons, np.dtype(dtype))
    run = 4 * 64 // np.dtype(dtype).itemsize
    n_tiles = -(-n_neurons // tile)
    assert tile % run == 0
    assert tile <= trainer.TILE
    assert 0 <= n_tiles * tile - n_neurons < n_tiles * run


@pytest.mark.parametrize("dim", [3, 40])
def test_a_batch_takes_memory_for_itself_and_no_square_of_its_size(dim):
    network, n = Network.init((dim, 10, 1), rng=0), 2000
    with trainer.TwoLayerTrainer(network, Rule(ALL, batch_size=n), 1) as training:
        held = sum(array.nbytes for array in training._workspace)
    assert held < 8 * n * 200 < 8 * n * n / 5
