"""The benchmarks run at smoke scale, and all contestants take the steps that the plain loop takes."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from oracles import plain_sgd

from meanfield import Network

BENCHMARKS = Path(__file__).parents[1] / "simulations" / "benchmarks"
PEERS = ("JAX lax.scan", "PyTorch by hand", "PyTorch autograd")
FIGURES = ("exact erf risk", "dropout curve", "path and its risk", "peak memory", "replicas of")


@pytest.fixture
def benchmark_module(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def run(script, *arguments):
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def after_plain_loop(task):
    """Weights after one pass of the loop as it is defined, in float64."""
    network = Network(task.start, activation=task.cell.activation, scaling="mean-field")
    trained = {f"weight_{layer}" for layer in range(len(task.start))}
    step_sizes = [task.step_size] * task.n_steps
    weights, _, _ = plain_sgd(network, task.x, task.y, step_sizes, task.cell.batch_size, trained)
    return weights


CELLS = {
    "relu-1": {},
    "relu-3": {"n_outputs": 3},
    "erf-1": {"activation": "erf"},
    "erf-3": {"activation": "erf", "n_outputs": 3},
    "three layers": {"n_outputs": 3, "n_hidden": 2},
    "four layers, batches": {"n_outputs": 3, "n_hidden": 3, "batch_size": 4},
}


@pytest.fixture(params=CELLS.values(), ids=CELLS)
def task(benchmark_module, request):
    module = benchmark_module("task")
    cell = module.Cell(24, 7, dtype="float64", **request.param)
    return module.draw_task(cell, n_steps=40, step_size=0.05)


def test_our_contestant_takes_the_steps_of_the_plain_loop(benchmark_module, task):
    contest = benchmark_module("contest")
    with contest.ours(task, 1) as contestant:
        contestant.advance(1)
        assert contest.check_weights(task, "meanfield", contestant.weights(), after_plain_loop(task)) <= 1e-12


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # of the peers and their own dependencies
@pytest.mark.parametrize("peer", PEERS)
def test_every_formulation_of_a_peer_takes_the_steps_of_the_plain_loop(benchmark_module, task, peer):
    peers, contest = benchmark_module("peers"), benchmark_module("contest")
    if peer in peers.missing_peers():
        pytest.skip(f"{peer} is not installed")
    if task.cell.n_hidden > 1 and peer not in peers.MULTILAYER_PEERS:
        pytest.skip(f"{peer} is compared on one hidden layer only")
    expected = after_plain_loop(task)
    for name, build in peers.formulations(peer, task.cell).items():
        contestant = build(task)
        contestant.advance(1)
        assert contest.check_weights(task, name, contestant.weights(), expected) <= 1e-12


def test_a_contestant_that_takes_other_steps_is_not_timed(benchmark_module, task):
    contest = benchmark_module("contest")
    expected = after_plain_loop(task)
    halfway = [(array + start) / 2 for array, start in zip(expected, task.start, strict=True)]
    with pytest.raises(SystemExit, match=r"slow twin ends with other weights in Cell\(n_neurons=24.*5\.0e-01"):
        contest.check_weights(task, "slow twin", halfway, expected)
    undefined = [np.full_like(array, np.nan) for array in expected]
    with pytest.raises(SystemExit, match="other weights"):
        contest.check_weights(task, "slow twin", undefined, expected)


def repetitions(**us):
    cell = {"cell": "(1000, 32) relu", "dtype": "float32", "n_threads": 1}
    rows = [{"repetition": k, "contestant": name, "us": t} for name, times in us.items() for k, t in enumerate(times)]
    return pd.DataFrame(rows).assign(**cell)


def test_table_holds_medians_ranges_and_paired_ratios(benchmark_module):
    times = {"limit": [1, 2, 1], "meanfield": [2, 4, 2.5], "JAX lax.scan": [20, 20, 20]}
    table = benchmark_module("report").speed_table(repetitions(**times, **{"PyTorch by hand": [50, 10, 60]}), PEERS)
    assert table.splitlines()[-1].split(" | ") == [
        "| (1000, 32) relu", "float32", "1", "2.5 [2, 4]", "50%", "20 [20, 20]", "50 [10, 60]", "-", "8 [5, 10] |"
    ]  # fmt: skip


def test_table_without_peers_says_so(benchmark_module):
    table = benchmark_module("report").speed_table(repetitions(limit=[1], meanfield=[2]), PEERS)
    assert table.splitlines()[-1].endswith("| 2 | 50% | - | - | - | - |")
    assert "PyTorch by hand is not installed" in benchmark_module("report").machine(["PyTorch by hand"])


@pytest.mark.parametrize("text", ["", "{0}\n", "{1}\n{0}\n", "{0}\n{0}\n{1}\n"])
def test_a_file_without_the_two_markers_is_refused_and_left_alone(benchmark_module, tmp_path, text):
    report, file = benchmark_module("report"), tmp_path / "README.md"
    written = text.format(report.BEGIN, report.END)
    file.write_text(written, encoding="utf-8")
    with pytest.raises(SystemExit, match="must hold the lines"):
        report.replace_table(file, "new")
    assert file.read_text(encoding="utf-8") == written


@pytest.mark.long
def test_everything_runs_at_smoke_scale_and_the_table_is_written(benchmark_module, tmp_path):
    report, peers = benchmark_module("report"), benchmark_module("peers")
    file, folder = tmp_path / "README.md", tmp_path / "results"
    file.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n", encoding="utf-8")
    done = run("run_all.py", "--smoke", "--update", str(file), "--output", str(folder))
    assert done.returncode == 0, done.stderr
    text = file.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    for missing in peers.missing_peers():
        assert f"{missing} is not installed" in text
    assert all(figure in text for figure in FIGURES)
    for name, contestants in {"sgd_speed": PEERS, "multilayer_speed": peers.MULTILAYER_PEERS}.items():
        measured = pd.read_csv(folder / f"{name}_1.csv")
        assert set(measured["contestant"]) == {"limit", "meanfield", *contestants} - peers.missing_peers().keys()
        assert (measured["us"] > 0).all()
    assert text.count("| float32 | 1 |") == text.count("| float64 | 1 |") == 5
    (folder / "workloads.csv").unlink()
    kept = {path: path.read_bytes() for path in folder.glob("*.csv")}
    assert kept
    done = run("run_all.py", "--smoke", "--resume", "--update", str(file), "--output", str(folder))
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in kept} == kept
    speed = text.partition("| figure |")[0]
    assert speed in file.read_text(encoding="utf-8")
    assert (folder / "workloads.csv").is_file()


@pytest.mark.long
def test_roofline_is_drawn_at_smoke_scale(tmp_path):
    sizes = ("--neurons", "40", "--dims", "4", "9", "--operations", "1e5", "--product-size", "64", "--repeats", "2")
    done = run("roofline.py", *sizes, "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"sgd-roofline.pdf", "sgd-roofline.png"}
