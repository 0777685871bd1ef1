"""Seconds of work, this machine's matrix-product rate, and who may use which processor."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from meanfield.kernels.blas import add_product, single_threaded_blas

__all__ = ["MatrixProduct", "n_processors", "on_processors", "seconds"]

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
