"""The state of a network of any depth under training: arrays and scratch space."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meanfield.dynamics.base_trainer import Array, Trainer, aligned_zeros, block_samples, useful_threads
from meanfield.dynamics.rule import Rule
from meanfield.kernels.lanes import LANE_BYTES
from meanfield.kernels.multilayer import Parameters, Settings, Workspace, train
from meanfield.model.activations import activation_code
from meanfield.model.losses import loss_code
from meanfield.model.network import Network

__all__ = ["MultilayerTrainer"]

# Neurons a tile, at least (in layers that wide) and at most, and samples a panel: wide enough for the matrix products,
# enough tiles for the threads.
NARROW_TILE = 128
TILE = 256
PANEL = 8

# Below this many multiplications a step and thread, meeting at the barriers costs more than a second thread saves.
WORK_PER_THREAD = 1 << 16

# Registers in half a page of memory.
REGISTERS_APART = 2048 // LANE_BYTES


def opened_layer(n_hidden: int, trained: frozenset[str]) -> int:
    """Return the layer whose pre-activations are formed a block at a time: the first trained or the last hidden."""
    first = min(int(name.rpartition("_")[2]) for name in trained)
    return min(first, n_hidden - 1)


def span_samples(shapes: list[tuple[int, int]]) -> int:
    """Return the samples between two writes to weights of these shapes, a power of two.

    In a span of S samples a step pays 2 S (n_out + n_in) multiplications for what is not yet written, and the write
    costs about 4 n_out n_in / S: least together for S^2 = 2 sum n_out n_in / sum (n_out + n_in).
    """
    best = math.sqrt(2 * sum(n_out * n_in for n_out, n_in in shapes) / sum(n_out + n_in for n_out, n_in in shapes))
    return 2 ** round(math.log2(max(1.0, best)))


class MultilayerTrainer(Trainer[Parameters]):
    """Trains copies of the arrays of a network of any depth in place, on threads of its own.

    Parameters
    ----------
    network : with one hidden layer or more
    rule : what a step does; without noise
    n_threads : at most this many; fewer where a step is too short to share
    """

    def __init__(self, network: Network, rule: Rule, n_threads: int) -> None:
        self._network = network
        self._settings = _settings(network, rule)
        n_tiles = -(-max(network.widths[1:-1]) // self._settings.tile)
        n_useful = useful_threads(network, rule.batch_size, n_threads, n_tiles, WORK_PER_THREAD)
        super().__init__(_copied(network), rule, n_useful)
        self._workspace = _workspace(network, self._settings, self._n_threads)

    @property
    def block(self) -> int:
        """Steps a block; a run may be cut at its multiples without changing a bit."""
        return self._settings.block

    def network(self, state: Parameters | None = None) -> Network:
        """Return the present network, or the one of another `state`; it does not share memory with training."""
        arrays = self._parameters if state is None else state
        weights = [view.copy() for view in _views(arrays.weights, self._network)]
        biases = [bias[:n].copy() for bias, n in zip(arrays.biases, self._network.widths[1:], strict=True)]
        return Network(
            weights,
            None if self._network.biases is None else biases,
            activation=self._network.activation,
            scaling=self._network.scaling,
        )

    def _kernel(
        self, parameters: Parameters, losses: NDArray[np.float64], x: Array, y: Array, step_sizes: NDArray[np.float64]
    ) -> Callable[[int, int], None]:
        return partial(train, parameters, losses, self._workspace, x, y, step_sizes, self._settings)


def stride(width: int, dtype: np.dtype[Any]) -> int:
    """Return the numbers from a row of ``width`` to the next: whole registers, and no multiple of a page's half.

    Rows that lie whole pages apart would compete for the same places of the caches.
    """
    lanes = LANE_BYTES // dtype.itemsize
    registers = -(-width // lanes)
    return (registers + (registers % REGISTERS_APART == 0)) * lanes


def _strides(network: Network) -> list[int]:
    return [stride(n_in, network.dtype) for n_in in network.widths[:-1]]


def _starts(network: Network) -> list[int]:
    """Return where each layer's weights begin in one array, and where the last one's end."""
    sizes = [n_out * step for n_out, step in zip(network.widths[1:], _strides(network), strict=True)]
    return [0, *accumulate(sizes)]


def _views(flat: Array, network: Network) -> list[Array]:
    """Return the weights of each layer, (n_out, n_in), as views of one array."""
    pieces = zip(pairwise(_starts(network)), _strides(network), network.widths[:-1], strict=True)
    return [flat[start:stop].reshape(-1, step)[:, :n_in] for (start, stop), step, n_in in pieces]


def _copied(network: Network) -> Parameters:
    flat = aligned_zeros((_starts(network)[-1],), network.dtype)
    biases = np.zeros((len(network.weights), max(network.widths[1:])), network.dtype)
    for view, w in zip(_views(flat, network), network.weights, strict=True):
        view[:] = w
    for row, bias in zip(biases, network.biases or (), strict=False):
        row[: bias.size] = bias
    return Parameters(flat, biases)


def _settings(network: Network, rule: Rule) -> Settings:
    layers, widths, kind = range(network.n_hidden + 1), network.widths, network.dtype
    opened = opened_layer(network.n_hidden, rule.trained)
    deferred = [layer for layer in range(opened + 1, network.n_hidden) if f"weight_{layer}" in rule.trained]
    block, span = _block_and_span(widths[opened], [network.weights[layer].shape for layer in deferred], rule)
    forward = [network.factor(layer) for layer in layers]
    return Settings(
        activation=activation_code(network.activation, kind),
        loss=loss_code(rule.loss),
        weight_decay=rule.weight_decay,
        batch_size=rule.batch_size,
        opened=opened,
        block=block,
        span=span,
        panel=max(1, PANEL // rule.batch_size),
        tile=_tile(network),
        moves_hidden=not rule.trained.isdisjoint({f"weight_{opened}", f"bias_{opened}"}),
        defers=bool(deferred),
        widths=np.array(widths),
        weight_starts=np.array(_starts(network)[:-1]),
        weight_strides=np.array(_strides(network)),
        forward_factors=np.array(forward, kind),
        # What the multiplier of a layer's neurons leaves of the factor by which the layer above averages over them.
        backward_factors=np.array([*forward[1:], 1.0], kind),
        trains_weights=np.array([f"weight_{layer}" in rule.trained for layer in layers]),
        trains_biases=np.array([f"bias_{layer}" in rule.trained for layer in layers]),
    )


def _tile(network: Network) -> int:
    """Return the neurons a tile: half the widest layer within limits, so that two threads share it."""
    lanes, widest = LANE_BYTES // network.dtype.itemsize, max(network.widths[1:-1])
    wanted = min(TILE, widest, max(NARROW_TILE, -(-widest // 2)))
    return -(-wanted // lanes) * lanes


def _block_and_span(n_inputs: int, deferred: list[tuple[int, int]], rule: Rule) -> tuple[int, int]:
    """Return the steps of a block and of a span; a block is made of whole spans, of one where nothing is deferred."""
    block = rule.block_steps(block_samples(n_inputs))
    if not deferred:
        return block, block
    span = min(block, rule.block_steps(span_samples(deferred)))
    return block - block % span, span


def _workspace(network: Network, settings: Settings, n_threads: int) -> Workspace:
    n_hidden, n_outputs, kind = network.n_hidden, network.widths[-1], network.dtype
    batch, samples = settings.batch_size, settings.block * settings.batch_size
    width = stride(max(network.widths[1:-1]), kind)
    n_tiles = -(-network.widths[-2] // settings.tile)
    return Workspace(
        coefficients=aligned_zeros((n_hidden, samples, width), kind),
        features=aligned_zeros((n_hidden, samples, width), kind),
        slopes=aligned_zeros((n_hidden, batch, width), kind),
        gram=np.zeros((samples, samples) if settings.block > 1 else (0, 0), kind),
        overlaps=np.zeros((n_threads, batch, settings.span * batch if settings.span > 1 else 0), kind),
        partial=np.zeros((2, n_tiles, batch, n_outputs), kind),
        signal=np.zeros((n_threads, batch, n_outputs), kind),
        output_bias=np.zeros((n_threads, n_outputs), kind),
        arrivals=np.zeros(1, np.int64),
    )
