"""What trainers of every depth share: the arrays in training, and the threads."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from meanfield.dynamics.rule import Rule
from meanfield.kernels.blas import single_threaded_blas
from meanfield.kernels.lanes import LANE_BYTES
from meanfield.kernels.threads import spread_out
from meanfield.model.network import Network

__all__ = ["Array", "State", "Trainer", "aligned_zeros", "block_samples", "is_finite", "useful_threads", "zeros_apart"]

CACHE_LINE_BYTES = 64

Array = NDArray[np.floating[Any]]
State = TypeVar("State", bound=tuple[Array, ...])


class Trainer(ABC, Generic[State]):
    """Trains copies of a network's arrays in place, on threads of its own.

    Parameters
    ----------
    parameters : the copies, a named tuple of arrays
    rule : what a step does
    n_threads : as many as are worth it
    """

    def __init__(self, parameters: State, rule: Rule, n_threads: int) -> None:
        self._parameters, self._rule, self._n_threads = parameters, rule, n_threads
        self._pool = ThreadPoolExecutor(n_threads, thread_name_prefix="meanfield")

    @property
    @abstractmethod
    def block(self) -> int:
        """Steps a block; a run may be cut at its multiples without changing a bit."""

    @abstractmethod
    def network(self, state: State | None = None) -> Network:
        """Return the present network, or the one of another `state`; it does not share memory with training."""

    @abstractmethod
    def _kernel(
        self, parameters: State, losses: NDArray[np.float64], x: Array, y: Array, step_sizes: NDArray[np.float64]
    ) -> Callable[[int, int], None]:
        """Return the work of one thread, a function of its number and of the number of threads."""

    def advance(self, x: Array, y: Array, step_sizes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take one step a step size on the samples in order; return the mean loss of each before its step."""
        return self._train(self._parameters, x, y, step_sizes)

    def after(self, x: Array, y: Array, step_sizes: NDArray[np.float64]) -> tuple[State, NDArray[np.float64]]:
        """Return the arrays and losses that these further steps would give, leaving the present arrays alone."""
        scratch = self.state()
        return scratch, self._train(scratch, x, y, step_sizes)

    def state(self) -> State:
        """Return a copy of the present arrays."""
        return type(self._parameters)(*(array.copy() for array in self._parameters))

    def is_finite(self) -> bool:
        """Whether the present arrays hold finite numbers only."""
        return is_finite(self._parameters)

    def _train(self, parameters: State, x: Array, y: Array, step_sizes: NDArray[np.float64]) -> NDArray[np.float64]:
        losses = np.empty(step_sizes.size)
        work = self._kernel(parameters, losses, x, y, step_sizes)
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


def is_finite(state: tuple[Array, ...]) -> bool:
    """Whether every array of the state holds finite numbers only."""
    return all(bool(np.isfinite(array).all()) for array in state)


def aligned_zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return zeros that begin where a vector register's load does not straddle two cache lines."""
    n_bytes = math.prod(shape) * dtype.itemsize
    raw = np.zeros(n_bytes + LANE_BYTES, np.uint8)
    start = -raw.ctypes.data % LANE_BYTES
    return raw[start : start + n_bytes].view(dtype).reshape(shape)


def zeros_apart(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return zeros, the last axis filled up so that no two rows share a cache line: threads write to them in turns."""
    line = CACHE_LINE_BYTES // dtype.itemsize
    *outer, columns = shape
    return aligned_zeros((*outer, -(-columns // line) * line), dtype)


def useful_threads(network: Network, batch_size: int, n_threads: int, n_tiles: int, work_per_thread: int) -> int:
    """Return at most ``n_threads``: no more than tiles, nor than a step's multiplications give work for."""
    work = batch_size * sum(w.size for w in network.weights)
    return min(n_threads, n_tiles, max(1, work // work_per_thread))


def block_samples(n_inputs: int) -> int:
    """Return the samples between two passes over the weights that a block opens, a rule of the shape alone.

    A block of S samples passes over weights of ``n_inputs`` columns once instead of S times and pays S / 2
    multiplications a neuron and sample for the correction: worth it as long as S is well below the 2 ``n_inputs`` of
    the products themselves.
    """
    return 64 if n_inputs < 256 else 128
