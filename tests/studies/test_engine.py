"""The engine runs what is missing, to the same bits however it is spread, and loses nothing when stopped."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import threadpoolctl
from interruption import interrupt, interrupt_in_a_finaliser

from meanfield.checks import MeanfieldWarning
from meanfield.studies import engine
from meanfield.studies import provenance as provenance_module
from meanfield.studies import store as store_module
from meanfield.studies.engine import RunSummary, run_all, run_rng
from meanfield.studies.store import Store, config_hash

ROOT_SEED = 2020


@dataclass(frozen=True)
class ToyRun:
    marks: str  # a folder where each execution leaves a file
    n_neurons: int = 4
    seed: int = 0
    fault: str = ""


def toy_run(config: ToyRun, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    (Path(config.marks) / f"{config_hash(config)}.{os.getpid()}").touch()
    if (Path(config.marks) / "slow").exists():
        time.sleep(0.25)
    if config.fault == "raise" and not (Path(config.marks) / "repaired").exists():
        raise ArithmeticError("the risk left all bounds")
    if config.fault == "die":
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)
    draws = rng.normal(size=config.n_neurons)
    return {
        "draws": pd.DataFrame({"neuron": np.arange(config.n_neurons), "value": draws}),
        "process": pd.DataFrame(
            {
                "own_threads": [os.environ.get("MEANFIELD_NUM_THREADS")],
                "openblas": [os.environ.get("OPENBLAS_NUM_THREADS")],
                "blas_threads": [max(pool["num_threads"] for pool in threadpoolctl.threadpool_info())],
            }
        ),
    }


def run_toys(folder: str, configs: list[ToyRun], n_workers: int) -> None:
    """Be the body of a process that the tests interrupt: print what the engine returned."""
    summary = run_all(toy_run, configs, Store(folder), root_seed=ROOT_SEED, n_workers=n_workers)
    sys.stdout.write(json.dumps({"interrupted": summary.interrupted, "text": str(summary)}))


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    (tmp_path / "marks").mkdir()
    return tmp_path / "marks"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "toy")


@pytest.fixture
def grid(marks: Path) -> list[ToyRun]:
    return [ToyRun(str(marks), n_neurons, seed) for n_neurons in (4, 8) for seed in range(2)]


def run(configs: list, store: Store, n_workers: int = 1, **options) -> RunSummary:
    return run_all(toy_run, configs, store, root_seed=ROOT_SEED, n_workers=n_workers, **options)


def executions(marks: Path) -> list[int]:
    """List the process of each execution."""
    return [int(path.suffix[1:]) for path in marks.glob("*.*")]


def draws_hash(store: Store, config: ToyRun) -> str:
    path = store.folder / "records" / config_hash(config) / "run.json"
    return json.loads(path.read_text())["frames"]["draws"]


# --- what is run ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_second_call_executes_nothing(grid, store, marks, n_workers):
    first = run(grid, store, n_workers)
    assert first == RunSummary(4, n_finished_before=0, n_finished_now=4, failures=(), interrupted=False)
    assert str(first) == "4 of 4 runs are finished (0 before, 4 now), 0 failed"
    second = run(grid, store, n_workers)
    assert second == RunSummary(4, n_finished_before=4, n_finished_now=0, failures=(), interrupted=False)
    assert len(executions(marks)) == 4


def test_repeated_configurations_are_run_once(grid, store, marks):
    summary = run([*grid, grid[0]], store)
    assert summary.n_runs == summary.n_finished_now == len(executions(marks)) == 4


def test_an_empty_grid_is_no_error(store):
    assert run([], store) == RunSummary(0, 0, 0, failures=(), interrupted=False)


def test_results_are_the_same_bits_with_one_and_two_workers(grid, tmp_path):
    stores = [Store(tmp_path / name) for name in ("one", "two")]
    for n_workers, store in enumerate(stores, start=1):
        run(grid, store, n_workers)
    for config in grid:
        assert draws_hash(stores[0], config) == draws_hash(stores[1], config)


def test_the_record_names_the_study(grid, store):
    run(grid[:1], store)
    path = store.folder / "records" / config_hash(grid[0]) / "run.json"
    assert json.loads(path.read_text())["study"] == "test_engine"


def test_a_damaged_record_is_run_again(grid, store, marks):
    run(grid, store)
    (store.folder / "records" / config_hash(grid[2]) / "draws.parquet").write_bytes(b"PAR1")
    with pytest.warns(MeanfieldWarning, match="damaged record"):
        summary = run(grid, store)
    assert (summary.n_finished_before, summary.n_finished_now) == (3, 1)
    assert len(store.frames("draws", grid)) == 2 * (4 + 8)


def test_results_of_other_sources_are_run_again(grid, store, monkeypatch):
    with monkeypatch.context() as patch:
        for module in (provenance_module, store_module):
            patch.setattr(module, "source_hash", lambda: "0" * 16)
        run(grid[:3], store)
    with pytest.warns(MeanfieldWarning, match="made by other sources") as said:
        summary = run(grid, store)
    assert len(said) == 1
    assert (summary.n_finished_before, summary.n_finished_now) == (0, 4)


def test_results_from_another_root_seed_are_run_again(grid, store):
    run_all(toy_run, grid, store, root_seed=1, n_workers=1)
    before = draws_hash(store, grid[0])
    with pytest.warns(MeanfieldWarning, match="made from root seed 1, not 2020"):
        assert run(grid, store).n_finished_now == 4
    assert draws_hash(store, grid[0]) != before


def test_the_longest_runs_start_first(grid, store):
    started = []

    def one_run(config, rng):
        started.append(config)
        return toy_run(config, rng)

    run_all(one_run, grid, store, root_seed=0, n_workers=1, cost=lambda config: config.n_neurons)
    assert started == [grid[2], grid[3], grid[0], grid[1]]


# --- randomness and threads -----------------------------------------------------------------------------


def test_a_replica_sees_the_same_stream_at_every_width(grid, store):
    run(grid, store)
    draws = store.frames("draws", grid).pivot_table(index="neuron", columns=["n_neurons", "seed"], values="value")
    for seed in range(2):
        assert draws[4, seed].dropna().tolist() == draws[8, seed].tolist()[:4]
    assert not np.isin(draws[8, 0], draws[8, 1]).any()


def test_replicas_are_the_spawned_children_of_the_root_seed():
    for seed, child in enumerate(np.random.SeedSequence(ROOT_SEED).spawn(3)):
        expected = np.random.default_rng(child).integers(2**63, size=5)
        assert run_rng(ROOT_SEED, seed).integers(2**63, size=5).tolist() == expected.tolist()


def test_workers_use_one_thread_and_leave_this_process_as_it_is(grid, store, monkeypatch):
    monkeypatch.setenv("MEANFIELD_NUM_THREADS", "3")
    run(grid, store, n_workers=2)
    process = store.frames("process", grid)
    assert set(process["own_threads"]) == set(process["openblas"]) == {"1"}
    assert set(process["blas_threads"]) == {1}
    assert os.environ["MEANFIELD_NUM_THREADS"] == "3"


@pytest.mark.parametrize(("n_usable", "in_this_process"), [(1, True), (2, False)])
def test_by_default_there_is_a_worker_for_each_usable_cpu(grid, store, marks, monkeypatch, n_usable, in_this_process):
    monkeypatch.setattr(engine.joblib, "cpu_count", lambda: n_usable)
    run_all(toy_run, grid, store, root_seed=0)
    assert (os.getpid() in executions(marks)) == in_this_process


def test_two_grids_at_once_leave_each_other_alone(grid, store, marks, tmp_path):
    others = [ToyRun(str(marks), n_neurons=2, seed=seed) for seed in range(9)]
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(run, [grid, others], [store, Store(tmp_path / "other")], [2, 2]))
    assert [summary.n_finished_now for summary in both] == [4, 9]
    assert not any(summary.failures for summary in both)


# --- failures -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_run_that_raises_is_reported_and_the_others_go_on(grid, store, marks, n_workers):
    bad = replace(grid[0], fault="raise")
    summary = run([bad, *grid], store, n_workers)
    (failure,) = summary.failures
    assert (failure.config, failure.kind, failure.message) == (
        bad,
        "ArithmeticError",
        "the risk left all bounds",
    )
    assert "in toy_run" in failure.traceback
    assert str(failure).startswith("ArithmeticError: the risk left all bounds in ToyRun(marks=")
    assert (summary.n_finished_now, summary.interrupted) == (4, False)
    assert not store.has(bad)
    (marks / "repaired").touch()
    assert run([bad, *grid], store, n_workers).n_finished_now == 1


def test_a_run_that_returns_no_frames_is_a_failure(grid, store):
    summary = run_all(lambda config, rng: None, grid[:1], store, root_seed=0, n_workers=1)
    assert "must return its DataFrames" in summary.failures[0].message
    assert summary.n_finished_now == 0


def test_a_worker_that_dies_is_said_and_what_was_finished_is_kept(grid, store):
    fatal = replace(grid[0], fault="die")
    with pytest.raises(ChildProcessError, match=r"a worker process died.* try fewer workers than 2"):
        run([*grid, fatal], store, n_workers=2)
    assert all(store.has(config) for config in grid)
    assert not store.has(fatal)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"root_seed": -1}, ValueError, "root_seed must be at least 0, got -1"),
        ({"n_workers": 0}, ValueError, "n_workers must be at least 1, got 0"),
        ({"cost": lambda config: 0}, ValueError, r"cost of ToyRun\(.* must be positive and finite, got 0"),
    ],
)
def test_bad_arguments_are_refused_before_any_work(grid, store, marks, options, error, message):
    with pytest.raises(error, match=message):
        run_all(toy_run, grid, store, **{"root_seed": 0, "n_workers": 1, **options})
    assert executions(marks) == []


@pytest.mark.parametrize(("seed", "error"), [(-1, ValueError), (0.5, TypeError)])
def test_a_seed_that_names_no_replica_is_refused_before_any_work(grid, store, marks, seed, error):
    with pytest.raises(error, match=r"seed of ToyRun\(.* must be"):
        run([*grid, replace(grid[0], seed=seed)], store)
    assert executions(marks) == []


# --- progress -------------------------------------------------------------------------------------------


def test_progress_counts_runs_and_weighs_them_by_cost(grid, store, capsys):
    run([grid[0], grid[2]], store, progress=True, cost=lambda config: config.n_neurons - 2)
    said = capsys.readouterr().err
    assert "2 of 2 runs" in said
    assert "100% of the estimated work" in said


def test_progress_without_costs_speaks_of_runs(grid, store, capsys):
    run(grid, store, progress=True)
    assert "100% of the runs" in capsys.readouterr().err


def test_no_bar_where_nothing_is_left_to_run(grid, store, capsys):
    run(grid, store)
    run(grid, store, progress=True)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("progress", [None, False])
def test_no_bar_unless_asked_for_or_on_a_terminal(grid, store, capsys, progress):
    run(grid, store, progress=progress)
    assert capsys.readouterr() == ("", "")


# --- interruption ---------------------------------------------------------------------------------------


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")  # a zombie, where nobody collects orphans, is not alive
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[list[ToyRun], int], subprocess.Popen]]:
    """Return a function that runs toys in a process group of their own, as a terminal would."""
    started = []

    def begin(configs: list[ToyRun], n_workers: int) -> subprocess.Popen:
        command = (
            f"import sys; sys.path = {sys.path!r}\n"
            f"from {__name__} import ToyRun, run_toys\n"
            f"run_toys({str(tmp_path / 'toy')!r}, {configs!r}, {n_workers})"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", command],
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def slow_grid(marks: Path) -> list[ToyRun]:
    """Return runs that take their time until the file ``slow`` goes, unseen in their records."""
    (marks / "slow").touch()
    return [ToyRun(str(marks), seed=seed) for seed in range(12)]


def n_records(folder: Path) -> int:
    return len([path for path in (folder / "records").glob("*") if not path.name.startswith(".")])


def check_resumed(configs: list[ToyRun], tmp_path: Path, n_kept: int) -> None:
    resumed, whole = Store(tmp_path / "toy"), Store(tmp_path / "whole")
    summary = run(configs, resumed, n_workers=2)
    assert (summary.n_finished_before, summary.n_finished_now) == (n_kept, len(configs) - n_kept)
    run(configs, whole)
    assert [draws_hash(resumed, config) for config in configs] == [draws_hash(whole, c) for c in configs]
    pd.testing.assert_frame_equal(resumed.frames("draws", configs), whole.frames("draws", configs), check_exact=True)


def test_an_interrupt_while_workers_start_is_not_lost(grid, store, monkeypatch):
    submit = engine._submit

    def interrupted(*arguments) -> None:
        interrupt_in_a_finaliser()
        submit(*arguments)

    monkeypatch.setattr(engine, "_submit", interrupted)
    summary = run(grid, store, n_workers=2)
    assert summary.interrupted
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_at_the_very_end_is_not_lost(grid, store, monkeypatch):
    outcome, numbers = engine._outcome, itertools.count(1)

    def interrupted(arrival):
        if next(numbers) == len(grid):
            interrupt_in_a_finaliser()
        return outcome(arrival)

    monkeypatch.setattr(engine, "_outcome", interrupted)
    summary = run(grid, store, n_workers=2)
    assert summary == RunSummary(4, n_finished_before=0, n_finished_now=4, failures=(), interrupted=True)
    assert str(summary) == "interrupted: all 4 runs are finished and kept; the same command draws their report"


@pytest.mark.parametrize("n_workers", [1, 2])
def test_an_ignored_interrupt_stays_ignored(grid, store, monkeypatch, n_workers):
    progress = engine.tqdm.update

    def interrupted(bar, share) -> None:
        interrupt()
        progress(bar, share)

    monkeypatch.setattr(engine.tqdm, "update", interrupted)
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert run(grid, store, n_workers) == RunSummary(4, 0, 4, failures=(), interrupted=False)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, handler)


@pytest.mark.parametrize(("interrupted", "n_kept"), [(interrupt, 1), (interrupt_in_a_finaliser, 2)])
def test_an_interrupt_of_this_process_ends_the_run_or_else_the_study(grid, store, interrupted, n_kept):
    def one_run(config, rng):
        if config == grid[1]:
            interrupted()
        return toy_run(config, rng)

    summary = run_all(one_run, grid, store, root_seed=0, n_workers=1)
    assert (summary.n_kept, summary.interrupted) == (n_kept, True)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("n_workers", [pytest.param(1, marks=pytest.mark.long), 2])
def test_ctrl_c_keeps_what_is_finished_and_the_same_call_resumes(marks, tmp_path, start, n_workers):
    configs = slow_grid(marks)
    process = start(configs, n_workers)
    wait_for(lambda: n_records(tmp_path / "toy") >= 2)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    n_kept = n_records(tmp_path / "toy")
    assert 2 <= n_kept < len(configs)
    assert json.loads(output) == {
        "interrupted": True,
        "text": f"interrupted: {n_kept} of 12 runs are finished and kept; "
        f"the same command resumes with the other {12 - n_kept}",
    }
    assert not any(is_alive(process) for process in executions(marks))
    (marks / "slow").unlink()
    check_resumed(configs, tmp_path, n_kept)


@pytest.mark.long
def test_a_killed_process_takes_its_workers_along_and_the_same_call_resumes(marks, tmp_path, start):
    configs = slow_grid(marks)
    process = start(configs, 2)
    wait_for(lambda: n_records(tmp_path / "toy") >= 2)
    process.kill()
    process.wait()
    wait_for(lambda: not any(is_alive(process) for process in executions(marks)), seconds=10)
    n_kept = n_records(tmp_path / "toy")
    assert 2 <= n_kept < len(configs)
    (marks / "slow").unlink()
    check_resumed(configs, tmp_path, n_kept)
