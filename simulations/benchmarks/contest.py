"""This package and its peers on the same steps, in turns, beside the limit of the method.

All take the same steps, from the same weights on the same samples in memory, on as many threads; their weights are
compared before anything is timed. Then they run in turns (limit, ours, peer, peer, .., limit, ours, ..), so that what
disturbs the machine disturbs them alike.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from peers import formulations, missing_peers
from task import Contestant, Task, Weights
from timing import seconds

from meanfield import Network
from meanfield.dynamics.base_trainer import Trainer
from meanfield.dynamics.multilayer_trainer import MultilayerTrainer
from meanfield.dynamics.rule import Rule, trained_arrays
from meanfield.dynamics.trainer import TwoLayerTrainer

__all__ = ["LIMIT", "OURS", "check_weights", "ours", "run_script", "time_task"]

OURS, LIMIT = "meanfield", "limit"

# Of the change of the weights. In float32 every step is rounded, and now and then a sample meets a kink of relu from
# the other side; the same formulas in float64 have no such excuse.
TOLERANCES = {"float32": 1e-2, "float64": 1e-10}


class _Ours:
    """The contestant of this package."""

    def __init__(self, trainer: Trainer[Any], task: Task) -> None:
        self._trainer, self._task = trainer, task
        self._step_sizes = np.full(task.n_steps, task.step_size)

    def advance(self, n_passes: int) -> None:
        for _ in range(n_passes):
            self._trainer.advance(self._task.x, self._task.y, self._step_sizes)

    def weights(self) -> Weights:
        return self._trainer.network().weights


@contextmanager
def ours(task: Task, n_threads: int) -> Iterator[Contestant]:
    """Yield the contestant of this package, which has threads of its own."""
    network = Network(task.start, activation=task.cell.activation, scaling="mean-field")
    rule = Rule(trained_arrays("all", network), batch_size=task.cell.batch_size)
    trainers = TwoLayerTrainer if network.n_hidden == 1 else MultilayerTrainer
    with trainers(network, rule, n_threads) as trainer:
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
    for formulation, build in formulations(peer, task.cell).items():
        contestant = build(task)
        contestant.advance(1)
        error = check_weights(task, f"{peer} ({formulation})", contestant.weights(), expected)
        elapsed = seconds(partial(contestant.advance, 1))
        entries.append(_Entry(peer, formulation, contestant, error, elapsed))
    return min(entries, key=lambda entry: entry.pass_seconds)


def _entries(task: Task, our: Contestant, peers: tuple[str, ...]) -> list[_Entry]:
    our.advance(1)
    expected = our.weights()
    elapsed = min(seconds(partial(our.advance, 1)) for _ in range(2))
    installed = [peer for peer in peers if peer not in missing_peers()]
    return [_Entry(OURS, "", our, 0.0, elapsed), *(_best(peer, task, expected) for peer in installed)]


def time_task(
    task: Task, limit: Callable[[], float], peers: tuple[str, ...], *, n_threads: int, budget: float, repeats: int
) -> pd.DataFrame:
    """Return the microseconds of a step, a row a contestant and repetition.

    Parameters
    ----------
    task : what is to be done
    limit : returns the seconds that a step takes at the limit of the method, measured at every call
    peers : names in `PEERS`; those that are not installed are left out
    budget : seconds that a repetition takes at least
    """
    rows = []
    with ours(task, n_threads) as our:
        entries = _entries(task, our, peers)
        for repetition in range(repeats):
            rows.append((repetition, LIMIT, "", math.nan, 1e6 * limit()))
            for name, formulation, contestant, error, pass_seconds in entries:
                n_passes = math.ceil(budget / pass_seconds)
                elapsed = seconds(partial(contestant.advance, n_passes))
                rows.append((repetition, name, formulation, error, 1e6 * elapsed / (n_passes * task.n_steps)))
    measured = pd.DataFrame(rows, columns=["repetition", "contestant", "formulation", "error", "us"])
    return measured.assign(cell=task.cell.label, **asdict(task.cell), n_threads=n_threads)


def run_script(description: str | None, name: str, measure: Callable[[bool, int], pd.DataFrame]) -> None:
    """Call ``measure(smoke, n_threads)`` as the command line asks, write all repetitions and print their medians."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="threads, and processors to run on (default: 1)")
    parser.add_argument("--smoke", action="store_true", help="tiny networks, to see that everything runs")
    parser.add_argument("--output", type=Path, default=f"results/benchmarks/{name}.csv", help="file of repetitions")
    options = parser.parse_args()
    for peer, library in missing_peers().items():
        print(f'{peer} is not compared: {library} is not installed (python -m pip install ".[peers]")')
    measured = measure(options.smoke, options.threads)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    measured.to_csv(options.output, index=False)
    keys = ["cell", "dtype", "n_threads", "contestant", "formulation"]
    medians = measured.groupby(keys, sort=False)["us"].agg(["median", "min", "max"])
    print(medians.reset_index().to_string(index=False, float_format="{:.3g}".format))
