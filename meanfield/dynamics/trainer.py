"""The state of a two-layer network under training: arrays, scratch space, threads."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Barrier
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from meanfield.kernels.blas import single_threaded_blas
from meanfield.kernels.fused import FUSED_SAMPLES, LANE_BYTES
from meanfield.kernels.threads import spread_out
from meanfield.kernels.two_layer import Parameters, Settings, Workspace, train
from meanfield.model.activations import activation_code
from meanfield.model.losses import loss_code
from meanfield.model.network import Network

__all__ = ["Rule", "TwoLayerTrainer", "block_samples", "is_finite"]

# Neurons a tile, at most, and samples a panel: wide enough for the matrix products, small enough for the second-level
# cache. Tiles hold whole runs of four vectors, so that no compiled loop ends in single numbers.
TILE = 512
PANEL = 4
VECTORS_PER_RUN = 4
CACHE_LINE_BYTES = 64

# Up to this many bytes of weights a neuron, the fused pass beats the two matrix products of a block.
FUSED_ROW_BYTES = 512

# Below this many multiplications a step and thread, meeting at the barrier costs more than a second thread saves.
WORK_PER_THREAD = 1 << 14

# A block whose weights decay by more than exp(-20) would drown in rounding.
LARGEST_DECAY = 20.0

Array = NDArray[np.floating[Any]]


def is_fused(dim: int, dtype: np.dtype[Any]) -> bool:
    """Whether a neuron's weights are so few that blocks are closed and opened in one fused pass."""
    return dim * dtype.itemsize <= FUSED_ROW_BYTES


def tile_neurons(n_neurons: int, dtype: np.dtype[Any]) -> int:
    """Return the neurons of a tile: as few tiles as may be, of equal size but for filling up."""
    run = VECTORS_PER_RUN * LANE_BYTES // dtype.itemsize
    n_tiles = -(-n_neurons // TILE)
    return -(-n_neurons // (n_tiles * run)) * run


def block_samples(dim: int, dtype: np.dtype[Any]) -> int:
    """Return the samples between two passes over the inner weights, a rule of shape and dtype alone.

    A block of S samples passes over the N d inner weights once instead of S times and pays S / 2 multiplications a
    neuron and sample for the correction: worth it as long as S is well below the 2 d of the products themselves.
    """
    if is_fused(dim, dtype):
        return FUSED_SAMPLES
    return 64 if dim < 256 else 128


@dataclass(frozen=True)
class Rule:
    """What a step does, besides its size.

    ``trained`` holds names among weight_0, bias_0, weight_1, bias_1. ``largest_step_size`` is the largest s_k of the
    run, which decides how long a block may be under weight decay.
    """

    trained: frozenset[str]
    batch_size: int = 1
    loss: str = "square"
    weight_decay: float = 0.0
    temperature: float = 0.0
    largest_step_size: float = 0.0

    def block_steps(self, dim: int, dtype: np.dtype[Any]) -> int:
        """Return the steps of a block, at least one; noise, drawn for every step, leaves no longer ones."""
        if self.temperature > 0:
            return 1
        steps = max(1, block_samples(dim, dtype) // self.batch_size)
        decay = -math.log1p(-2 * self.weight_decay * self.largest_step_size)
        return steps if decay == 0 else max(1, min(steps, int(LARGEST_DECAY / decay)))


class TwoLayerTrainer:
    """Trains copies of a two-layer network's arrays in place, on threads of its own.

    Parameters
    ----------
    network : with one hidden layer
    rule : what a step does
    n_threads : at most this many; fewer where a step is too short to share
    noise : stream of the Langevin noise, drawn from if ``rule.temperature`` is positive
    """

    def __init__(self, network: Network, rule: Rule, n_threads: int, noise: np.random.Generator | None = None) -> None:
        self._network, self._rule, self._noise = network, rule, noise
        self._parameters = _copied(network)
        self._settings = _settings(network, rule)
        n_neurons, dim = network.weights[0].shape
        n_tiles = -(-n_neurons // self._settings.tile)
        useful = max(1, rule.batch_size * n_neurons * (dim + network.widths[-1]) // WORK_PER_THREAD)
        self._n_threads = min(n_threads, n_tiles, useful)
        self._workspace = _workspace(network, self._settings, n_tiles, self._n_threads)
        self._pool = ThreadPoolExecutor(self._n_threads, thread_name_prefix="meanfield")

    @property
    def block(self) -> int:
        """Steps a block; a run may be cut at its multiples without changing a bit."""
        return self._settings.block

    def advance(self, x: Array, y: Array, step_sizes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take one step a step size on the samples in order; return the mean loss of each before its step."""
        if self._rule.temperature == 0:
            return self._train(self._parameters, x, y, step_sizes)
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

    def after(self, x: Array, y: Array, step_sizes: NDArray[np.float64]) -> Parameters:
        """Return the arrays as they would be after these further steps, leaving the present ones alone."""
        scratch = self.state()
        self._train(scratch, x, y, step_sizes)
        return scratch

    def state(self) -> Parameters:
        """Return a copy of the present arrays."""
        return Parameters(*(array.copy() for array in self._parameters))

    def is_finite(self) -> bool:
        """Whether the present arrays hold finite numbers only."""
        return is_finite(self._parameters)

    def network(self, state: Parameters | None = None) -> Network:
        """Return the present network, or the one of another `state`; it does not share memory with training."""
        arrays = self.state() if state is None else state
        biases = None if self._network.biases is None else (arrays.inner_bias, arrays.outer_bias)
        return Network(
            (arrays.inner, arrays.outer), biases, activation=self._network.activation, scaling=self._network.scaling
        )

    def _train(
        self, parameters: Parameters, x: Array, y: Array, step_sizes: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        losses = np.empty(step_sizes.size)
        work = partial(train, parameters, losses, self._workspace, x, y, step_sizes, self._settings)
        with single_threaded_blas():
            if self._n_threads == 1:
                work(0, 1)
            else:
                self._on_all_threads(work)
        return losses

    def _on_all_threads(self, work: Callable[[int, int], None]) -> None:
        """Run ``work`` on every thread, or on none: an interrupt must not leave some waiting for the others."""
        gate = Barrier(self._n_threads)

        def enter(thread: int) -> None:
            gate.wait()
            spread_out(thread, self._n_threads)
            work(thread, self._n_threads)

        try:
            futures = [self._pool.submit(enter, thread) for thread in range(self._n_threads)]
        except BaseException:
            gate.abort()
            raise
        for future in futures:
            future.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()


def is_finite(state: Parameters) -> bool:
    """Whether every array of the state holds finite numbers only."""
    return all(bool(np.isfinite(array).all()) for array in state)


def _copied(network: Network) -> Parameters:
    inner, outer = (np.array(w, order="C") for w in network.weights)
    zeros = (np.zeros(len(inner), network.dtype), np.zeros(len(outer), network.dtype))
    inner_bias, outer_bias = (b.copy() for b in network.biases or zeros)
    return Parameters(inner, inner_bias, outer, outer_bias)


def _settings(network: Network, rule: Rule) -> Settings:
    n_neurons, dim = network.weights[0].shape
    block = rule.block_steps(dim, network.dtype)
    return Settings(
        activation=activation_code(network.activation, network.dtype),
        loss=loss_code(rule.loss),
        factor=network.factor(1),
        weight_decay=rule.weight_decay,
        batch_size=rule.batch_size,
        block=block,
        panel=max(1, PANEL // rule.batch_size),
        tile=tile_neurons(n_neurons, network.dtype),
        fused="weight_0" in rule.trained and is_fused(dim, network.dtype) and block * rule.batch_size == FUSED_SAMPLES,
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
        coefficients=_aligned_zeros((n_tiles, samples, tile), kind),
        outer=_aligned_zeros((n_tiles, n_outputs, tile), kind),
        features=_aligned_zeros((n_tiles, batch, tile), kind),
        slopes=_aligned_zeros((n_tiles, batch, tile), kind),
        gram=np.zeros((2, samples, samples), kind),
        partial=_zeros_apart((2, n_tiles, batch, n_outputs), kind),
        signal=_zeros_apart((n_threads, batch, n_outputs), kind),
        output_bias=_zeros_apart((n_threads, n_outputs), kind),
        columns=_aligned_zeros((n_tiles if fused else 0, tile // lanes, rows, lanes), kind),
        samples=np.zeros((n_threads if fused else 0, 2, rows, samples), kind),
        arrivals=np.zeros(1, np.int64),
    )


def _zeros_apart(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return zeros of which no two rows share a cache line, lest threads that write to them wait for each other."""
    line = CACHE_LINE_BYTES // dtype.itemsize
    *outer, columns = shape
    return _aligned_zeros((*outer, -(-columns // line) * line), dtype)[..., :columns]


def _aligned_zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return zeros that begin where a vector register's load does not straddle two cache lines."""
    n_bytes = math.prod(shape) * dtype.itemsize
    raw = np.zeros(n_bytes + LANE_BYTES, np.uint8)
    start = -raw.ctypes.data % LANE_BYTES
    return raw[start : start + n_bytes].view(dtype).reshape(shape)
