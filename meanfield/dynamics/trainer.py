"""The state of a two-layer network under training: arrays, scratch space, threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from meanfield.kernels.blas import single_threaded_blas
from meanfield.kernels.two_layer import Parameters, Settings, Workspace, train
from meanfield.model.activations import activation_code
from meanfield.model.network import Network

__all__ = ["TwoLayerTrainer", "block_steps", "is_finite"]

# Neurons a tile and samples a panel: wide enough for the matrix products, small enough for the second-level cache.
TILE = 512
PANEL = 8

# Below this many multiplications a step and thread, meeting at the barrier costs more than a second thread saves.
WORK_PER_THREAD = 1 << 16

Array = NDArray[np.floating[Any]]


def block_steps(dim: int, batch_size: int) -> int:
    """Return the steps between two products with the inner weights, at least one.

    A block of S samples passes over the N d inner weights once instead of S times and pays S / 2 multiplications a
    neuron and sample for the correction: worth it as long as S is well below the 2 d of the products themselves.
    """
    samples = 32 if dim < 128 else 128
    return max(1, samples // batch_size)


class TwoLayerTrainer:
    """Trains copies of a two-layer network's arrays in place, on threads of its own.

    Parameters
    ----------
    network : with one hidden layer
    trained : names among weight_0, bias_0, weight_1, bias_1
    batch_size : samples a step
    n_threads : at most this many; fewer where a step is too short to share
    """

    def __init__(self, network: Network, trained: frozenset[str], batch_size: int, n_threads: int) -> None:
        self._network = network
        self._parameters = _copied(network)
        self._settings = _settings(network, trained, batch_size)
        n_neurons, dim = network.weights[0].shape
        n_tiles = -(-n_neurons // TILE)
        useful = max(1, n_neurons * (dim + network.widths[-1]) // WORK_PER_THREAD)
        self._n_threads = min(n_threads, n_tiles, useful)
        self._workspace = _workspace(network, self._settings, n_tiles, self._n_threads)
        self._pool = ThreadPoolExecutor(max(1, self._n_threads - 1), thread_name_prefix="meanfield")

    @property
    def block(self) -> int:
        """Steps a block; a run may be cut at its multiples without changing a bit."""
        return self._settings.block

    def advance(self, x: Array, y: Array, step_sizes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take one step a step size on the samples in order; return the mean loss of each before its step."""
        return self._train(self._parameters, x, y, step_sizes)

    def after(self, x: Array, y: Array, step_sizes: NDArray[np.float64]) -> Parameters:
        """Return the arrays as they would be after these further steps, leaving the present ones alone."""
        scratch = self.state()
        self._train(scratch, x, y, step_sizes)
        return scratch

    def state(self) -> Parameters:
        """Return a copy of the present arrays."""
        return Parameters(*(array.copy() for array in self._parameters))

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
            others = [self._pool.submit(work, thread, self._n_threads) for thread in range(1, self._n_threads)]
            work(0, self._n_threads)
            for other in others:
                other.result()
        return losses

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


def _settings(network: Network, trained: frozenset[str], batch_size: int) -> Settings:
    return Settings(
        activation=activation_code(network.activation, network.dtype),
        factor=network.factor(1),
        batch_size=batch_size,
        block=block_steps(network.widths[0], batch_size),
        panel=max(1, PANEL // batch_size),
        tile=TILE,
        train_inner="weight_0" in trained,
        train_inner_bias="bias_0" in trained,
        train_outer="weight_1" in trained,
        train_outer_bias="bias_1" in trained,
    )


def _workspace(network: Network, settings: Settings, n_tiles: int, n_threads: int) -> Workspace:
    batch, samples = settings.batch_size, settings.block * settings.batch_size
    n_outputs, kind = network.widths[-1], network.dtype
    return Workspace(
        coefficients=np.zeros((n_tiles, samples, TILE), kind),
        features=np.zeros((n_tiles, batch, TILE), kind),
        slopes=np.zeros((n_tiles, batch, TILE), kind),
        gram=np.zeros((2, samples, samples), kind),
        partial=np.zeros((2, n_tiles, batch, n_outputs), kind),
        signal=np.zeros((n_threads, batch, n_outputs), kind),
        output_bias=np.zeros((n_threads, n_outputs), kind),
        arrivals=np.zeros(1, np.int64),
    )
