"""Times of whole tasks: an exact risk, a whole dropout curve, a path and its risk, a second thread, replicas on several
processors.

Each is measured in a process of its own: ``python simulations/benchmarks/workloads.py NAME`` prints its rows as CSV.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from contest import ours
from task import Cell, draw_task
from timing import n_processors, on_processors, seconds

from meanfield import (
    Empirical,
    IsotropicGaussians,
    Network,
    TeacherStudent,
    connect,
    dropout_curve,
    path_risk,
    risk,
    run_sgd,
)
from meanfield.model.laws import Law
from meanfield.studies.engine import run_all
from meanfield.studies.store import Store

__all__ = ["WORKLOADS"]

DIM, TEACHER_NEURONS, DELTA = 32, 8, 0.8
BYTES_PER_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Scale:
    """Sizes of the tasks and how often each is repeated."""

    risk_neurons: int
    curve: tuple[int, int]  # N = n and d
    path: tuple[tuple[int, ...], int]  # widths and samples
    threads: tuple[Cell, int]  # and its steps
    replicas: int
    replica_steps: int
    repeats: int


FULL = Scale(
    risk_neurons=800,
    curve=(10_000, 784),
    path=((784, 1024, 1024, 10), 10_000),
    threads=(Cell(10_000, 784), 1024),
    replicas=32,
    replica_steps=100_000,
    repeats=7,
)
SMOKE = Scale(
    risk_neurons=40,
    curve=(50, 8),
    path=((8, 16, 16, 2), 50),
    threads=(Cell(600, 136), 128),
    replicas=4,
    replica_steps=50,
    repeats=2,
)

Row = tuple[str, str, float]


def exact_risk(scale: Scale) -> list[Row]:
    """Milliseconds of a closed-form risk of N erf neurons, on one processor."""
    rng = np.random.default_rng(0)
    student = Network.init((DIM, scale.risk_neurons, 1), activation="erf", rng=rng)
    teacher = Network.init((DIM, TEACHER_NEURONS, 1), activation="erf", rng=rng)
    laws: dict[str, Law] = {
        f"a teacher of {TEACHER_NEURONS} neurons": TeacherStudent(teacher),
        "isotropic Gaussians": IsotropicGaussians(DIM, DELTA),
    }
    with on_processors(1):
        for law in laws.values():
            assert risk(student, law).method == "exact"
        return [
            (f"exact erf risk, N = {scale.risk_neurons}, d = {DIM}, {name}", "ms", 1e3 * elapsed)
            for _ in range(scale.repeats)
            for name, law in laws.items()
            for elapsed in [seconds(partial(risk, student, law))]
        ]


def dropout(scale: Scale) -> list[Row]:
    """Seconds and peak memory, the interpreter's included, of the exact mean loss change for every m."""
    n_neurons, dim = scale.curve
    _curve_seconds(2, 2)
    elapsed = _curve_seconds(n_neurons, dim)
    name = f"exact-mean dropout curve, every m, N = n = {n_neurons}, d = {dim}, {n_processors()} processors"
    return [(name, "s", elapsed), (f"{name}, peak memory of the process", "GB", _peak_memory() / 1e9)]


def _peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * BYTES_PER_RSS_UNIT


def _curve_seconds(n_neurons: int, dim: int) -> float:
    rng = np.random.default_rng(0)
    network = Network.init((dim, n_neurons, 1), dtype="float32", rng=rng)
    x, y = (rng.standard_normal((n_neurons, columns), dtype=np.float32) for columns in (dim, 1))
    return seconds(lambda: dropout_curve(network, Empirical(x, y), range(1, n_neurons + 1), std=False))


def path(scale: Scale) -> list[Row]:
    """Seconds of joining two networks and of the loss along the path, and of one forward pass; peak memory."""
    widths, n_samples = scale.path
    rng = np.random.default_rng(0)
    first, second = (Network.init(widths, scaling="standard", dtype="float32", rng=rng) for _ in range(2))
    x, y = (rng.standard_normal((n_samples, columns), dtype=np.float32) for columns in (widths[0], widths[-1]))
    _path_seconds(first, second, Empirical(x[:2], y[:2]))
    name = f"path and its risk, {widths}, {n_samples} samples"
    rows: list[Row] = []
    for _ in range(scale.repeats):
        rows.append((f"{name}, {n_processors()} processors", "s", _path_seconds(first, second, Empirical(x, y))))
        rows.append((f"{name}, one forward pass of one end on one", "s", seconds(partial(first.predict, x))))
    return [*rows, (f"{name}, peak memory of the process", "GB", _peak_memory() / 1e9)]


def _path_seconds(first: Network, second: Network, law: Empirical) -> float:
    return seconds(lambda: path_risk(connect(first, second), law))


def second_thread(scale: Scale) -> list[Row]:
    """How many times faster two threads take the same steps than one, repetitions in turns."""
    if n_processors() < 2:
        return []
    cell, n_steps = scale.threads
    task = draw_task(cell, n_steps)
    with ours(task, 1) as one, ours(task, 2) as two:
        for contestant in (one, two):
            contestant.advance(1)
        return [
            (f"steps on two threads over one, N = {cell.n_neurons}, d = {cell.dim}, {cell.dtype}", "times", ratio)
            for _ in range(scale.repeats)
            for ratio in [seconds(partial(one.advance, 1)) / seconds(partial(two.advance, 1))]
        ]


@dataclass(frozen=True)
class Replica:
    """A small run."""

    seed: int
    n_steps: int


def train_replica(config: Replica, rng: np.random.Generator) -> Mapping[str, pd.DataFrame]:
    """Train one small network on one thread."""
    law = IsotropicGaussians(DIM, DELTA)
    start = Network.init((DIM, 256, 1), dtype="float32", rng=rng)
    return {"training": run_sgd(start, law, step_size=1e-3, n_steps=config.n_steps, n_threads=1, rng=rng).records}


def replicas(scale: Scale) -> list[Row]:
    """Replicas a second in one process, and in two over one; each time into an empty store."""
    counts = [1, 2] if n_processors() > 1 else [1]
    for n_workers in counts:
        _replicas_a_second(scale, n_workers)
    rows: list[Row] = []
    for _ in range(scale.repeats):
        rates = [_replicas_a_second(scale, n_workers) for n_workers in counts]
        name = f"replicas of {scale.replica_steps} steps, N = 256, d = {DIM}, float32"
        rows.append((f"{name}, one process", "a second", rates[0]))
        rows += [(f"{name}, two processes over one", "times", rate / rates[0]) for rate in rates[1:]]
    return rows


def _replicas_a_second(scale: Scale, n_workers: int) -> float:
    configs = [Replica(seed, scale.replica_steps) for seed in range(scale.replicas)]
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        work = partial(run_all, train_replica, configs, store, root_seed=0, n_workers=n_workers, progress=False)
        return len(configs) / seconds(work)


WORKLOADS: dict[str, Callable[[Scale], list[Row]]] = {
    "exact-risk": exact_risk,
    "dropout": dropout,
    "path": path,
    "second-thread": second_thread,
    "replicas": replicas,
}


def main() -> None:
    """Measure one workload and print a row a repetition."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=WORKLOADS)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see that everything runs")
    options = parser.parse_args()
    rows: list[Any] = WORKLOADS[options.name](SMOKE if options.smoke else FULL)
    pd.DataFrame(rows, columns=["figure", "unit", "value"]).to_csv(sys.stdout, index=False)


if __name__ == "__main__":
    main()
