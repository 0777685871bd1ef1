"""Microseconds a step of exact SGD of several layers, one sample or a batch at a time, beside JAX and PyTorch.

The networks are (784, N, N, 10), all weights trained. The limit of a step on one sample is that of the method: two
reads of the weights between the hidden layers, at the bandwidth measured on an array of their size, and, at the rate of
matrix products, the 4 N d operations of the first layer, whose weights are met a block of samples at a time, and the
2 N^2 of the deferred writes to the second. The limit of a step on a batch is its 4 N d + 6 N^2 operations a sample at
that rate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pandas as pd
from contest import run_script, time_task
from peers import MULTILAYER_PEERS, limit_threads
from task import Cell, draw_task
from timing import MatrixProduct, MemoryReads, on_processors

__all__ = ["speed_by_thread"]

# Samples differ by little where many neurons are averaged: large steps move the weights well above their rounding.
STEP_SIZE = 0.1


@dataclass(frozen=True)
class Scale:
    """How much is measured: of each cell so many steps a pass, a repetition at least ``budget`` seconds.

    Cells in float64 are measured on one thread only.
    """

    n_steps: dict[Cell, int]
    budget: float
    repeats: int
    product_size: int


def _three_layers(n_neurons: int, batch_size: int = 1, dtype: str = "float32") -> Cell:
    return Cell(n_neurons, 784, n_outputs=10, dtype=dtype, n_hidden=2, batch_size=batch_size)


FULL = Scale(
    n_steps={
        _three_layers(256): 1024,
        _three_layers(1024): 512,
        _three_layers(4096): 64,
        _three_layers(256, 100): 60,
        _three_layers(1024, 100): 12,
        _three_layers(4096, 100): 3,
        _three_layers(256, dtype="float64"): 1024,
        _three_layers(1024, dtype="float64"): 256,
        _three_layers(256, 100, "float64"): 60,
        _three_layers(1024, 100, "float64"): 6,
    },
    budget=0.2,
    repeats=3,
    product_size=2048,
)
SMOKE = Scale(
    n_steps={
        replace(_three_layers(32, batch_size, dtype), dim=24): 6
        for batch_size in (1, 4)
        for dtype in ("float32", "float64")
    },
    budget=1e-3,
    repeats=2,
    product_size=128,
)


def _limit(cell: Cell, product_size: int, n_threads: int) -> Callable[[], float]:
    product = MatrixProduct(cell.dtype, product_size, n_threads)
    if cell.batch_size > 1:
        return lambda: cell.operations / product.rate()
    reads = MemoryReads(cell.dtype, cell.later_weights, n_threads)
    return lambda: 2 * reads.seconds() + cell.blocked_operations / product.rate()


def _time_cell(cell: Cell, scale: Scale, n_threads: int) -> pd.DataFrame:
    task = draw_task(cell, scale.n_steps[cell], STEP_SIZE)
    limit = _limit(cell, scale.product_size, n_threads)
    return time_task(task, limit, MULTILAYER_PEERS, n_threads=n_threads, budget=scale.budget, repeats=scale.repeats)


def speed_by_thread(scale: Scale, n_threads: int) -> pd.DataFrame:
    """Time the cells of ``scale`` on ``n_threads`` processors; one row a repetition."""
    with on_processors(n_threads):
        limit_threads(n_threads)
        cells = [cell for cell in scale.n_steps if n_threads == 1 or cell.dtype == "float32"]
        return pd.concat([_time_cell(cell, scale, n_threads) for cell in cells], ignore_index=True)


if __name__ == "__main__":
    run_script(
        __doc__, "multilayer_speed", lambda smoke, n_threads: speed_by_thread(SMOKE if smoke else FULL, n_threads)
    )
