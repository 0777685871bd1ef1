"""Seconds of work, this machine's matrix-product rate and memory bandwidth, and who may use which processor."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numba
import numpy as np

from meanfield.kernels.blas import add_product, single_threaded_blas
from meanfield.kernels.vectors import dot

__all__ = ["MatrixProduct", "MemoryReads", "n_processors", "on_processors", "seconds"]

BYTES_READ = 1 << 30  # by a thread, in a measurement of the bandwidth
CAN_PIN = hasattr(os, "sched_setaffinity")


def seconds(work: Callable[[], object]) -> float:
    """Return the wall time of ``work()``."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def n_processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if CAN_PIN else os.cpu_count() or 1


@contextmanager
def on_processors(n: int) -> Iterator[None]:
    """Keep this thread, and threads and processes that it starts meanwhile, to ``n`` of its processors.

    JAX has no other limit: it starts a thread for each processor that it may use.
    """
    if n > n_processors():
        raise SystemExit(f"{n} threads need {n} processors, and this process may use {n_processors()}")
    if not CAN_PIN:
        raise SystemExit(
            "benchmarks keep to some of the processors, which takes os.sched_setaffinity: run them on Linux"
        )
    before = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, before[:n])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class MatrixProduct:
    """Square products, one a thread and all at once, by the BLAS that training uses."""

    def __init__(self, dtype: str, size: int, n_threads: int) -> None:
        factor = np.random.default_rng(0).standard_normal((size, size)).astype(dtype)
        self._factor, self._outs = factor, [np.zeros_like(factor) for _ in range(n_threads)]
        self._operations = 2 * size**3 * n_threads
        self.rate()  # the first one starts BLAS

    def rate(self) -> float:
        """Return the operations a second of all threads together, measured now."""
        with single_threaded_blas(), ThreadPoolExecutor(len(self._outs)) as pool:
            return self._operations / seconds(lambda: list(pool.map(self._multiply, self._outs)))

    def _multiply(self, out: np.ndarray) -> None:
        add_product(out, self._factor, self._factor, False, True, *out.shape, len(out))


class MemoryReads:
    """Passes that read ``n_numbers`` numbers, each thread its share of them again and again and all at once."""

    def __init__(self, dtype: str, n_numbers: int, n_threads: int) -> None:
        self._shares = np.array_split(np.ones(n_numbers, dtype), n_threads)
        self._n_passes = math.ceil(BYTES_READ / self._shares[0].nbytes)
        self.seconds()  # the first one compiles

    def seconds(self) -> float:
        """Return the time of a pass of all threads together, measured now."""
        with ThreadPoolExecutor(len(self._shares)) as pool:
            return seconds(lambda: list(pool.map(self._read, self._shares))) / self._n_passes

    def _read(self, share: np.ndarray) -> float:
        return _read(share, self._n_passes)


@numba.njit(nogil=True)
def _read(numbers, n_passes):
    total = 0.0
    for _ in range(n_passes):
        total += dot(numbers, numbers)
    return total
