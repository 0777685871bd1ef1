"""The state of a two-layer network under training: arrays and scratch space."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meanfield.dynamics.base_trainer import Array, Trainer, aligned_zeros, block_samples, useful_threads, zeros_apart
from meanfield.dynamics.rule import Rule
from meanfield.kernels.fused import FUSED_SAMPLES
from meanfield.kernels.lanes import LANE_BYTES, VECTORS_PER_RUN
from meanfield.kernels.two_layer import Parameters, Settings, Workspace, train
from meanfield.model.activations import activation_code, piecewise_linear_form
from meanfield.model.losses import loss_code
from meanfield.model.network import Network

__all__ = ["TwoLayerTrainer"]

# Neurons a tile, at most, and samples a panel: wide enough for the matrix products, small enough for the second-level
# cache.
TILE = 512
PANEL = 4

# Up to this many bytes of inner weights in all, or of one neuron, the fused pass beats the two matrix products of a
# block: it reads and writes the weights every eight samples, from the caches or at least not for long.
FUSED_BYTES = 6 << 20
FUSED_ROW_BYTES = 1 << 10

# Below this many multiplications a step and thread, meeting at the barrier costs more than a second thread saves.
WORK_PER_THREAD = 1 << 14


def is_fused(n_neurons: int, dim: int, dtype: np.dtype[Any], rule: Rule) -> bool:
    """Whether blocks are closed and opened in one pass: where the inner weights are small and eight samples fit."""
    row = dim * dtype.itemsize
    small = row <= FUSED_ROW_BYTES or n_neurons * row <= FUSED_BYTES
    whole = rule.temperature == 0 and rule.block_steps(FUSED_SAMPLES) * rule.batch_size == FUSED_SAMPLES
    return "weight_0" in rule.trained and small and whole


def is_merged(network: Network, rule: Rule) -> bool:
    """Whether one pass goes back through a sample and on to the next: where a neuron's part is a few operations."""
    n_neurons, dim = network.weights[0].shape
    one_by_one = rule.batch_size == 1 and network.widths[-1] == 1 and rule.weight_decay == 0
    cheap = piecewise_linear_form(network.activation) is not None
    return one_by_one and cheap and "weight_1" in rule.trained and is_fused(n_neurons, dim, network.dtype, rule)


def tile_neurons(n_neurons: int, dtype: np.dtype[Any]) -> int:
    """Return the neurons of a tile: as few tiles as may be, of equal size but for filling up."""
    run = VECTORS_PER_RUN * LANE_BYTES // dtype.itemsize
    n_tiles = -(-n_neurons // TILE)
    return -(-n_neurons // (n_tiles * run)) * run


class TwoLayerTrainer(Trainer[Parameters]):
    """Trains copies of a two-layer network's arrays in place, on threads of its own.

    Parameters
    ----------
    network : with one hidden layer
    rule : what a step does
    n_threads : at most this many; fewer where a step is too short to share
    noise : stream of the Langevin noise, drawn from if ``rule.temperature`` is positive
    """

    def __init__(self, network: Network, rule: Rule, n_threads: int, noise: np.random.Generator | None = None) -> None:
        self._network, self._noise = network, noise
        self._settings = _settings(network, rule)
        n_tiles = -(-network.widths[1] // self._settings.tile)
        n_useful = useful_threads(network, rule.batch_size, n_threads, n_tiles, WORK_PER_THREAD)
        super().__init__(_copied(network), rule, n_useful)
        self._workspace = _workspace(network, self._settings, n_tiles, self._n_threads)

    @property
    def block(self) -> int:
        """Steps a block; a run may be cut at its multiples without changing a bit."""
        return self._settings.block

    def advance(self, x: Array, y: Array, step_sizes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take one step a step size on the samples in order; return the mean loss of each before its step."""
        if self._rule.temperature == 0:
            return super().advance(x, y, step_sizes)
        losses = np.empty(step_sizes.size)
        for step, size in enumerate(step_sizes):
            rows = slice(step * self._rule.batch_size, (step + 1) * self._rule.batch_size)
            losses[step] = self._train(self._parameters, x[rows], y[rows], step_sizes[step : step + 1])[0]
            self._add_noise(size)
        return losses

    def _add_noise(self, step_size: float) -> None:
        """Add sqrt(2 s tau) g, g one (N, D) array with the columns a, w [, b] of each neuron."""
        assert self._noise is not None
        inner, inner_bias, outer, _ = self._parameters
        n_outputs, dim = outer.shape[0], inner.shape[1]
        columns = n_outputs + dim + (self._network.biases is not None)
        noise = self._noise.standard_normal((len(inner), columns), dtype=inner.dtype)
        noise *= inner.dtype.type(math.sqrt(2 * step_size * self._rule.temperature))
        if "weight_1" in self._rule.trained:
            outer += noise[:, :n_outputs].T
        if "weight_0" in self._rule.trained:
            inner += noise[:, n_outputs : n_outputs + dim]
        if "bias_0" in self._rule.trained:
            inner_bias += noise[:, -1]

    def network(self, state: Parameters | None = None) -> Network:
        """Return the present network, or the one of another `state`; it does not share memory with training."""
        arrays = self.state() if state is None else state
        biases = None if self._network.biases is None else (arrays.inner_bias, arrays.outer_bias)
        return Network(
            (arrays.inner, arrays.outer), biases, activation=self._network.activation, scaling=self._network.scaling
        )

    def _kernel(
        self, parameters: Parameters, losses: NDArray[np.float64], x: Array, y: Array, step_sizes: NDArray[np.float64]
    ) -> Callable[[int, int], None]:
        return partial(train, parameters, losses, self._workspace, x, y, step_sizes, self._settings)


def _copied(network: Network) -> Parameters:
    inner, outer = (np.array(w, order="C") for w in network.weights)
    zeros = (np.zeros(len(inner), network.dtype), np.zeros(len(outer), network.dtype))
    inner_bias, outer_bias = (b.copy() for b in network.biases or zeros)
    return Parameters(inner, inner_bias, outer, outer_bias)


def _settings(network: Network, rule: Rule) -> Settings:
    n_neurons, dim = network.weights[0].shape
    fused = is_fused(n_neurons, dim, network.dtype, rule)
    return Settings(
        activation=activation_code(network.activation, network.dtype),
        loss=loss_code(rule.loss),
        factor=network.factor(1),
        weight_decay=rule.weight_decay,
        batch_size=rule.batch_size,
        block=rule.block_steps(FUSED_SAMPLES if fused else block_samples(dim)),
        panel=max(1, PANEL // rule.batch_size),
        tile=tile_neurons(n_neurons, network.dtype),
        fused=fused,
        merged=is_merged(network, rule),
        train_inner="weight_0" in rule.trained,
        train_inner_bias="bias_0" in rule.trained,
        train_outer="weight_1" in rule.trained,
        train_outer_bias="bias_1" in rule.trained,
    )


def _workspace(network: Network, settings: Settings, n_tiles: int, n_threads: int) -> Workspace:
    batch, samples, tile = settings.batch_size, settings.block * settings.batch_size, settings.tile
    dim, n_outputs, kind = network.widths[0], network.widths[-1], network.dtype
    fused, lanes = settings.fused, LANE_BYTES // kind.itemsize
    rows = dim + (network.biases is not None)
    return Workspace(
        coefficients=aligned_zeros((n_tiles, samples, tile), kind),
        outer=aligned_zeros((n_tiles, n_outputs, tile), kind),
        features=aligned_zeros((n_tiles, batch, tile), kind),
        slopes=aligned_zeros((n_tiles, batch, tile), kind),
        gram=np.zeros((2, samples, samples) if settings.block > 1 else (2, 0, 0), kind),
        partial=zeros_apart((2, n_tiles, batch, n_outputs), kind),
        signal=zeros_apart((n_threads, batch, n_outputs), kind),
        output_bias=zeros_apart((n_threads, n_outputs), kind),
        columns=aligned_zeros((n_tiles if fused else 0, tile // lanes, rows, lanes), kind),
        samples=np.zeros((n_threads if fused else 0, 2, rows, samples), kind),
        arrivals=np.zeros(1, np.int64),
    )
