"""Microseconds a step of exact one-sample SGD, beside JAX, PyTorch and this machine's matrix products.

All take the same steps, from the same weights on the same samples in memory, on as many threads; their weights are
compared before anything is timed. Then they run in turns (product, ours, peer, peer, .., product, ours, ..), so that
what disturbs the machine disturbs them alike. A step needs 4 N d operations in its two products with the inner
weights: "matrix product" is the time that a large matrix product takes for as many.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from peers import PEERS, formulations, limit_threads, missing_peers
from task import Cell, Contestant, Task, Weights, draw_task
from timing import MatrixProduct, on_processors, seconds

from meanfield import Network
from meanfield.dynamics.rule import Rule
from meanfield.dynamics.trainer import TwoLayerTrainer

__all__ = ["OURS", "PRODUCT", "check_weights", "ours", "speed_by_thread"]

OURS, PRODUCT = "meanfield", "matrix product"

# Of the change of the weights. In float32 every step is rounded, and now and then a sample meets a kink of relu from
# the other side; the same formulas in float64 have no such excuse.
TOLERANCES = {"float32": 1e-2, "float64": 1e-10}


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
    repeats=5,
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


class _Ours:
    """The contestant of this package."""

    def __init__(self, trainer: TwoLayerTrainer, task: Task) -> None:
        self._trainer, self._task = trainer, task
        self._step_sizes = np.full(len(task.x), task.step_size)

    def advance(self, n_passes: int) -> None:
        for _ in range(n_passes):
            self._trainer.advance(self._task.x, self._task.y, self._step_sizes)

    def weights(self) -> Weights:
        return Weights(*self._trainer.network().weights)


@contextmanager
def ours(task: Task, n_threads: int) -> Iterator[Contestant]:
    """Yield the contestant of this package, which has threads of its own."""
    network = Network(task.start, activation=task.cell.activation, scaling="mean-field")
    with TwoLayerTrainer(network, Rule(frozenset({"weight_0", "weight_1"})), n_threads) as trainer:
        yield _Ours(trainer, task)


def check_weights(task: Task, name: str, found: Weights, expected: Weights) -> float:
    """Return how far two results of ``task`` differ, relative to the change of the weights; SystemExit if too far."""
    pairs = zip(found, expected, task.start, strict=True)
    error = max(float(np.linalg.norm(a - b) / np.linalg.norm(b - start)) for a, b, start in pairs)
    if not error <= TOLERANCES[task.cell.dtype]:
        raise SystemExit(f"{name} ends with other weights in {task.cell}: they differ by {error:.1e} of the change")
    return error


class _Entry(NamedTuple):
    """A contestant that has shown that it takes the same steps."""

    name: str
    formulation: str
    contestant: Contestant
    error: float
    pass_seconds: float


def _best(peer: str, task: Task, expected: Weights) -> _Entry:
    """Check every formulation of ``peer`` and return the fastest."""
    entries = []
    for formulation, build in formulations(peer).items():
        contestant = build(task)
        contestant.advance(1)
        error = check_weights(task, f"{peer} ({formulation})", contestant.weights(), expected)
        elapsed = seconds(partial(contestant.advance, 1))
        entries.append(_Entry(peer, formulation, contestant, error, elapsed))
    return min(entries, key=lambda entry: entry.pass_seconds)


def _entries(task: Task, our: Contestant) -> list[_Entry]:
    our.advance(1)
    expected = our.weights()
    elapsed = min(seconds(partial(our.advance, 1)) for _ in range(2))
    installed = [peer for peer in PEERS if peer not in missing_peers()]
    return [_Entry(OURS, "", our, 0.0, elapsed), *(_best(peer, task, expected) for peer in installed)]


def _time_cell(cell: Cell, scale: Scale, n_threads: int) -> pd.DataFrame:
    """One row a contestant and repetition."""
    n_steps = min(scale.most_steps, 128 * math.ceil(scale.operations / cell.operations / 128))
    task, product = draw_task(cell, n_steps), MatrixProduct(cell.dtype, scale.product_size, n_threads)
    rows = []
    with ours(task, n_threads) as our:
        entries = _entries(task, our)
        for repetition in range(scale.repeats):
            rows.append((repetition, PRODUCT, "", math.nan, 1e6 * cell.operations / product.rate()))
            for name, formulation, contestant, error, pass_seconds in entries:
                n_passes = math.ceil(scale.budget / pass_seconds)
                elapsed = seconds(partial(contestant.advance, n_passes))
                rows.append((repetition, name, formulation, error, 1e6 * elapsed / (n_passes * n_steps)))
    measured = pd.DataFrame(rows, columns=["repetition", "contestant", "formulation", "error", "us"])
    return measured.assign(**asdict(cell), n_threads=n_threads)


def speed_by_thread(scale: Scale, n_threads: int) -> pd.DataFrame:
    """Time every cell of ``scale`` in both precisions on ``n_threads`` processors; one row a repetition."""
    with on_processors(n_threads):
        limit_threads(n_threads)
        cells = [replace(cell, dtype=dtype) for cell in scale.cells for dtype in ("float32", "float64")]
        return pd.concat([_time_cell(cell, scale, n_threads) for cell in cells], ignore_index=True)


def main() -> None:
    """Time every cell, write all repetitions and print their medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="threads, and processors to run on (default: 1)")
    parser.add_argument("--smoke", action="store_true", help="tiny networks, to see that everything runs")
    parser.add_argument("--output", type=Path, default="results/benchmarks/sgd_speed.csv", help="file of repetitions")
    options = parser.parse_args()
    for peer, library in missing_peers().items():
        print(f'{peer} is not compared: {library} is not installed (python -m pip install ".[peers]")')
    measured = speed_by_thread(SMOKE if options.smoke else FULL, options.threads)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    measured.to_csv(options.output, index=False)
    keys = [*asdict(WIDE), "n_threads", "contestant", "formulation"]
    medians = measured.groupby(keys, sort=False)["us"].agg(["median", "min", "max"])
    print(medians.reset_index().to_string(index=False, float_format="{:.3g}".format))


if __name__ == "__main__":
    main()
