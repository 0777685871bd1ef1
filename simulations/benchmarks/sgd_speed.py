"""Microseconds a step of exact one-sample SGD, beside JAX, PyTorch and this machine's matrix products.

A step needs 4 N d operations in its two products with the inner weights: its limit is the time that a large matrix
product takes for as many.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pandas as pd
from contest import run_script, time_task
from peers import PEERS, limit_threads
from task import Cell, draw_task
from timing import MatrixProduct, on_processors

__all__ = ["speed_by_thread"]


@dataclass(frozen=True)
class Scale:
    """How much is measured: a pass takes about ``operations``, a repetition at least ``budget`` seconds."""

    cells: tuple[Cell, ...]
    operations: float
    most_steps: int
    budget: float
    repeats: int
    product_size: int


WIDE = Cell(1000, 784)
FULL = Scale(
    cells=(
        Cell(1000, 32),
        WIDE,
        Cell(10_000, 32),
        Cell(10_000, 784),
        replace(WIDE, n_outputs=10),
        replace(WIDE, activation="erf"),
    ),
    operations=2e9,
    most_steps=4096,
    budget=0.2,
    repeats=3,
    product_size=2048,
)
SMOKE = Scale(
    cells=(Cell(48, 8), Cell(48, 136, n_outputs=3), Cell(48, 8, activation="erf")),
    operations=1e6,
    most_steps=128,
    budget=1e-3,
    repeats=2,
    product_size=128,
)


def _time_cell(cell: Cell, scale: Scale, n_threads: int) -> pd.DataFrame:
    n_steps = min(scale.most_steps, 128 * math.ceil(scale.operations / cell.operations / 128))
    task, product = draw_task(cell, n_steps), MatrixProduct(cell.dtype, scale.product_size, n_threads)

    def limit() -> float:
        return cell.operations / product.rate()

    return time_task(task, limit, tuple(PEERS), n_threads=n_threads, budget=scale.budget, repeats=scale.repeats)


def speed_by_thread(scale: Scale, n_threads: int) -> pd.DataFrame:
    """Time every cell of ``scale`` in both precisions on ``n_threads`` processors; one row a repetition."""
    with on_processors(n_threads):
        limit_threads(n_threads)
        cells = [replace(cell, dtype=dtype) for cell in scale.cells for dtype in ("float32", "float64")]
        return pd.concat([_time_cell(cell, scale, n_threads) for cell in cells], ignore_index=True)


if __name__ == "__main__":
    run_script(__doc__, "sgd_speed", lambda smoke, n_threads: speed_by_thread(SMOKE if smoke else FULL, n_threads))
