"""Runs the grid of a study: finished runs are skipped, the others spread over processes and kept."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import resource_tracker
from queue import SimpleQueue
from typing import Any, NamedTuple

import joblib
import numpy as np
import pandas as pd
from joblib.externals.loky import ProcessPoolExecutor, get_reusable_executor
from tqdm import tqdm

from meanfield.checks import check_integer, check_positive
from meanfield.studies.interrupts import hidden_interrupts, interrupts_to, lasting_interrupts
from meanfield.studies.provenance import source_hash
from meanfield.studies.store import Store, config_hash

__all__ = ["Failure", "OneRun", "RunSummary", "run_all", "run_rng"]

OneRun = Callable[[Any, np.random.Generator], Mapping[str, pd.DataFrame]]

IDLE_SECONDS = 60

THREAD_NUMBERS = (
    "MEANFIELD_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)


@dataclass(frozen=True)
class Failure:
    """A run that raised: its configuration, the exception's type and message, and the traceback as text."""

    config: Any
    kind: str
    message: str
    traceback: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.message} in {self.config}"


@dataclass(frozen=True)
class RunSummary:
    """What `run_all` did with the ``n_runs`` distinct configurations that it was given."""

    n_runs: int
    n_finished_before: int
    n_finished_now: int
    failures: tuple[Failure, ...]
    interrupted: bool

    @property
    def n_kept(self) -> int:
        """Number of runs whose records are finished, by now or before."""
        return self.n_finished_before + self.n_finished_now

    def __str__(self) -> str:
        if self.interrupted and self.n_kept == self.n_runs:
            return f"interrupted: all {self.n_runs} runs are finished and kept; the same command draws their report"
        if self.interrupted:
            return (
                f"interrupted: {self.n_kept} of {self.n_runs} runs are finished and kept; "
                f"the same command resumes with the other {self.n_runs - self.n_kept}"
            )
        return (
            f"{self.n_kept} of {self.n_runs} runs are finished "
            f"({self.n_finished_before} before, {self.n_finished_now} now), {len(self.failures)} failed"
        )


def run_rng(root_seed: int, seed: int) -> np.random.Generator:
    """Return the generator of replica ``seed``: child ``seed`` of ``SeedSequence(root_seed)``.

    It depends on nothing else, so that a replica sees the same stream at every width and step size (common
    random numbers); streams of different replicas are independent.
    """
    return np.random.default_rng(np.random.SeedSequence(root_seed, spawn_key=(seed,)))


def run_all(
    one_run: OneRun,
    configs: Iterable[Any],
    store: Store,
    *,
    root_seed: int,
    n_workers: int | None = None,
    cost: Callable[[Any], float] | None = None,
    progress: bool | None = None,
    before: Callable[[list[Any], int], None] | None = None,
) -> RunSummary:
    """Run ``one_run(config, rng)`` for each configuration without a finished record, and keep each result.

    Parameters
    ----------
    one_run : module-level function that returns DataFrames by name.
    configs : frozen dataclasses of plain values with an int field ``seed`` >= 0, the replica; see `run_rng`.
    root_seed : integer >= 0; records made from another one are made anew.
    n_workers : processes, by default one a usable CPU; 1 runs in this process. Workers use one thread each.
    cost : estimated work of a run, in any unit: the longest runs start first, and progress is weighted.
    progress : whether to show a bar on stderr; by default only on a terminal.
    before : called with the configurations to run, if any, and the number of processes, before the first one starts.

    A run that raises becomes a `Failure` and the others go on. Ctrl-C ends the workers and returns the
    summary of what is kept. ChildProcessError if a worker process dies.
    """
    check_integer("root_seed", root_seed, least=0)
    n_workers = check_integer("n_workers", joblib.cpu_count() if n_workers is None else n_workers, least=1)
    distinct = list({config_hash(config): config for config in configs}.values())
    for config in distinct:
        check_integer(f"seed of {config}", config.seed, least=0)
    pending = [config for config in distinct if not store.has(config, root_seed=root_seed)]
    if pending and before is not None:
        before(pending, min(n_workers, len(pending)))
    execute = partial(_execute, one_run, store, root_seed)
    with _progress_bar(progress if pending else False, unit="runs" if cost is None else "estimated work") as bar:
        failures, interrupted = _run_pending(execute, _jobs(pending, cost), n_workers, bar)
    return RunSummary(
        n_runs=len(distinct),
        n_finished_before=len(distinct) - len(pending),
        n_finished_now=sum(store.has(config, root_seed=root_seed) for config in pending),
        failures=failures,
        interrupted=interrupted,
    )


class _Job(NamedTuple):
    config: Any
    share: float


_Outcome = tuple[_Job, Failure | None]
_Execute = Callable[[_Job], _Outcome]
_Arrivals = SimpleQueue[Future[_Outcome] | None]  # what this process waits for: a finished job, or None, an interrupt


def _jobs(configs: list[Any], cost: Callable[[Any], float] | None) -> list[_Job]:
    """Pair each configuration with its share of all work; the longest come first, lest they end alone."""
    costs = [1.0 if cost is None else check_positive(f"cost of {config}", cost(config)) for config in configs]
    jobs = [_Job(config, one / sum(costs)) for config, one in zip(configs, costs, strict=True)]
    return sorted(jobs, key=lambda job: job.share, reverse=True)


def _run_pending(execute: _Execute, jobs: list[_Job], n_workers: int, bar: tqdm) -> tuple[tuple[Failure, ...], bool]:
    failures: list[Failure] = []
    try:
        with _outcomes(execute, jobs, min(n_workers, len(jobs))) as outcomes:
            for n_done, (job, failure) in enumerate(outcomes, start=1):
                failures += [failure] if failure else []
                bar.set_description_str(f"{n_done} of {len(jobs)} runs", refresh=False)
                bar.update(min(job.share, 1.0 - bar.n))
    except KeyboardInterrupt:
        return tuple(failures), True
    except BrokenProcessPool as error:
        raise ChildProcessError(
            "a worker process died, perhaps for want of memory: the runs finished so far are kept, and the "
            f"same command resumes; try fewer workers than {n_workers}"
        ) from error
    return tuple(failures), False


def _progress_bar(progress: bool | None, unit: str) -> tqdm:
    return tqdm(
        total=1.0,
        disable=None if progress is None else not progress,
        bar_format="{desc} |{bar}| {percentage:3.0f}% of the {unit}, {elapsed} gone, {remaining} left",
        unit=unit,
        smoothing=0,
        dynamic_ncols=True,
    )


@contextmanager
def _outcomes(execute: _Execute, jobs: list[_Job], n_workers: int) -> Iterator[Iterator[_Outcome]]:
    """Yield an iterator over finished jobs, which Ctrl-C ends; worker processes are ended unless all is done.

    They stay for the next call as long as `IDLE_SECONDS`: to start them takes as long as many a small run.
    """
    if n_workers <= 1:
        with lasting_interrupts() as raise_lost:
            yield _one_by_one(execute, jobs, raise_lost)
        return
    arrivals: _Arrivals = SimpleQueue()
    with interrupts_to(lambda: arrivals.put(None)):
        executor = get_reusable_executor(n_workers, env=dict.fromkeys(THREAD_NUMBERS, "1"), timeout=IDLE_SECONDS)
        try:
            _submit(executor, execute, jobs, arrivals)
            yield (_outcome(arrivals.get()) for _ in jobs)
        except BaseException:
            _end(executor)
            raise
    if not arrivals.empty():
        raise KeyboardInterrupt


def _one_by_one(execute: _Execute, jobs: list[_Job], raise_lost: Callable[[], None]) -> Iterator[_Outcome]:
    for job in jobs:
        yield execute(job)
        raise_lost()


def _submit(executor: ProcessPoolExecutor, execute: _Execute, jobs: list[_Job], arrivals: _Arrivals) -> None:
    resource_tracker.ensure_running()  # started later, it would let interrupts through again
    with hidden_interrupts():  # from the processes, which this one ends
        for job in jobs:
            executor.submit(_in_worker, os.getpid(), execute, job).add_done_callback(arrivals.put)


def _end(executor: ProcessPoolExecutor) -> None:
    # Asked to kill them itself, the executor's thread raises KeyError over a job that it has not handed out yet.
    for process in list(executor._processes.values()):
        process.terminate()
    executor.shutdown()


def _outcome(arrival: Future[_Outcome] | None) -> _Outcome:
    if arrival is None:
        raise KeyboardInterrupt
    return arrival.result()


def _execute(one_run: OneRun, store: Store, root_seed: int, job: _Job) -> _Outcome:
    source_hash()  # the sources as they are now: an edit while the run goes on must not pass for what made it
    started = time.perf_counter()
    try:
        frames = one_run(job.config, run_rng(root_seed, job.config.seed))
        facts = {
            "study": one_run.__module__.rpartition(".")[2],
            "wall_seconds": time.perf_counter() - started,
        }
        store.write(job.config, frames, root_seed=root_seed, **facts)
    except Exception as error:
        return job, Failure(job.config, type(error).__name__, str(error), traceback.format_exc())
    return job, None


def _in_worker(parent: int, execute: _Execute, job: _Job) -> _Outcome:
    tqdm.set_lock(threading.RLock())  # that of all processes is a semaphore, left behind by one that is ended
    _end_with(parent)
    return execute(job)


@cache
def _end_with(parent: int) -> None:
    """End this worker soon after its parent: a parent killed outright cannot end its workers itself."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
