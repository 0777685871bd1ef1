"""The command as a user meets it, in processes of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from meanfield.cli import app, main
from meanfield.studies import dropout_report
from meanfield.studies.dropout_report import STUDY

SIMULATIONS = Path(__file__).parents[1] / "simulations"
SMALL = ["--widths", "4,16,64", "--seeds", "2", "--samples", "100", "--horizon", "0.02", "--step-size", "0.001"]


def _meanfield(*arguments, environment=None, cwd=None):
    command = [sys.executable, "-m", "meanfield", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd, check=False)


@pytest.fixture
def refused(monkeypatch, capsys):
    """Run the command in this process, where it exits at once; return its exit status and what it wrote to stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["meanfield", *map(str, arguments)])
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, capsys.readouterr().err

    return run


def test_dropout_prints_table_and_verdict_and_a_second_call_runs_nothing(tmp_path):
    output = tmp_path / "results"
    first = _meanfield("run", "dropout", "--data", "gaussians", *SMALL, "--output", output)
    assert first.returncode == 0, first.stderr
    for expected in ("c_N, control", "rejected, as it must be", "12 of 12 runs are finished (0 before, 12 now)"):
        assert expected in first.stdout
    assert str(output) in first.stdout
    assert (output / "figures" / "change-against-kept.pdf").is_file()
    second = _meanfield("run", "dropout", "--data", "gaussians", *SMALL, "--output", output)
    assert "12 of 12 runs are finished (12 before, 0 now)" in second.stdout
    assert second.stdout.split("\n\n")[0] == first.stdout.split("\n\n")[0]


@pytest.mark.long
def test_a_data_set_from_the_data_folder_and_a_users_file(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    images = {f"x_{split}": rng.integers(0, 256, (150, 4, 4), dtype=np.uint8) for split in ("train", "test")}
    labels = {f"y_{split}": rng.integers(0, 10, 150) for split in ("train", "test")}
    np.savez(tmp_path / "cifar10_subset.npz", **images, **labels)
    np.savez(tmp_path / "mine.npz", x=rng.standard_normal((150, 3)), y=rng.standard_normal(150))
    monkeypatch.setenv("MEANFIELD_DATA", str(tmp_path))
    data = f"cifar10-subset,{tmp_path / 'mine.npz'}"
    result = _meanfield("run", "dropout", "--data", data, *SMALL, "--output", tmp_path / "results")
    assert result.returncode == 0, result.stderr
    assert "cifar10-subset: relu" in result.stdout
    assert "mine.npz: relu" in result.stdout
    assert "cifar-10" not in (result.stdout + result.stderr).lower()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "digit"], "error: unknown data set 'digit': did you mean 'digits'?"),
        (["--data", "cifar10-subset"], "MEANFIELD_DATA is not set"),
        (["--activation", "rellu"], "error: unknown activation 'rellu': did you mean 'relu'?"),
        (["--step-size", "-1"], "error: step size must be positive and finite, got -1"),
        (["--horizon", "0"], "error: horizon must be positive and finite, got 0"),
        (["--widths", "64,many"], "error: widths must be integers separated by commas, got 'many'"),
        (["--widths", "64,1"], "error: widths must be at least 2, got 1"),
        (["--seeds", "0"], "error: seeds must be at least 1, got 0"),
        (["--workers", "0"], "error: --workers must be at least 1, got 0"),
        (["--root-seed", "-1"], "error: --root-seed must be at least 0, got -1"),
        (["--data", "nothere.csv"], "error: no file 'nothere.csv': check the path, which starts at "),
        (["--output", "/dev/null/results"], "choose another folder with --output"),
    ],
)
def test_bad_options_are_one_line_without_traceback(arguments, message, tmp_path, monkeypatch, refused):
    monkeypatch.delenv("MEANFIELD_DATA", raising=False)
    status, words = refused("run", "dropout", *SMALL, "--output", tmp_path, *arguments)
    assert status == 2
    assert message in words
    assert "Traceback" not in words
    assert len(words.strip().splitlines()) == 1


def test_without_a_network_a_missing_data_set_is_one_line(tmp_path):
    nobody_listens = "http://127.0.0.1:9"
    environment = {name: value for name, value in os.environ.items() if name.lower() not in ("no_proxy", "all_proxy")}
    environment |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), nobody_listens)
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "MPLCONFIGDIR": matplotlib.get_configdir()}
    environment.pop("MEANFIELD_DATA", None)
    output = tmp_path / "results"
    result = _meanfield("run", "dropout", "--data", "mnist", *SMALL, "--output", output, environment=environment)
    assert result.returncode == 2
    assert "error: data set 'mnist' could not be fetched (https://ossci-datasets.s3" in result.stderr
    assert "set MEANFIELD_DATA to a folder with mnist.npz" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_file_that_is_not_the_data_set_it_is_named_after_is_one_line(tmp_path):
    images = {f"x_{split}": np.arange(784 * 3, dtype=np.uint8).reshape(3, 28, 28) for split in ("train", "test")}
    np.savez(tmp_path / "mnist.npz", **images, y_train=np.arange(3), y_test=np.arange(3))
    environment, output = {**os.environ, "MEANFIELD_DATA": str(tmp_path)}, tmp_path / "results"
    result = _meanfield("run", "dropout", "--data", "mnist", *SMALL, "--output", output, environment=environment)
    assert result.returncode == 2
    assert "mnist.npz' is not data set 'mnist': the md5 of train-images" in result.stderr
    assert "must be 6bbc9ace898e44ae57da46a324031adb, got " in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 nothing more")
    result = _meanfield("run", "dropout", "--data", tmp_path / "bad.npz", *SMALL, "--output", tmp_path / "results")
    assert result.returncode == 2
    assert "bad.npz" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("dropout_width.py", ["--data", "foo"], "error: unknown data set 'foo'"),
        ("dropout_bounds.py", ["--delta", "0"], "error: delta must lie between 0 and 1, got 0.0"),
        ("dropout_regime.py", ["--horizon", "0"], "error: horizon must be "),
    ],
)
def test_bad_options_of_a_script_are_one_line_without_traceback(script, arguments, message, tmp_path):
    command = [sys.executable, SIMULATIONS / script, *arguments, "--output", tmp_path]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith(message)
    assert len(result.stderr.strip().splitlines()) == 1


def test_help_names_every_option():
    text = _meanfield("run", "dropout", "--help").stdout
    assert "last column" in text
    for option in ("--data", "--widths", "--activation", "--step-size", "--horizon", "--seeds", "--dtype", "--output"):
        assert option in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kept", "4,some"], "error: kept must be integers separated by commas, got 'some'"),
        (["--widths", "16", "--kept", "16"], "error: kept must be in 1..15, got 16"),
        (["--horizon", "0.1"], "error: horizon must be at least 0.25"),
        (["--samples", "5"], "error: samples must be at least 100, got 5"),
    ],
)
def test_bad_options_of_the_regime_are_one_line_without_traceback(arguments, message, tmp_path, refused):
    status, words = refused("run", "dropout-regime", "--output", tmp_path, *arguments)
    assert status == 2
    assert message in words
    assert len(words.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hidden-layers", "1,two"], "error: hidden layers must be integers separated by commas, got 'two'"),
        (["--widths", "64,1"], "error: widths must be at least 2, got 1"),
        (["--step-size", "0"], "error: step size must be positive and finite, got 0"),
        (["--steps", "0"], "error: steps must be at least 1, got 0"),
    ],
)
def test_bad_options_of_the_width_check_are_one_line_without_traceback(arguments, message, tmp_path, refused):
    status, words = refused("run", "width-check", "--output", tmp_path, *arguments)
    assert status == 2
    assert message in words
    assert len(words.strip().splitlines()) == 1


@pytest.mark.long
def test_the_width_check_prints_table_and_verdict_and_a_second_call_runs_nothing(tmp_path):
    small = ["--widths", "16,64,256", "--hidden-layers", "1", "--seeds", "2", "--output", tmp_path]
    first = _meanfield("run", "width-check", *small)
    assert first.returncode == 0, first.stderr
    for expected in ("weight change", "fails, as it must", "30 of 30 runs are finished (0 before, 30 now)"):
        assert expected in first.stdout
    assert (tmp_path / "figures" / "width-check-2-weight-layers.pdf").is_file()
    second = _meanfield("run", "width-check", *small)
    assert "30 of 30 runs are finished (30 before, 0 now)" in second.stdout
    assert second.stdout.split("\n\n")[0] == first.stdout.split("\n\n")[0]


@pytest.mark.long
def test_the_regime_prints_table_and_verdict_and_a_second_call_runs_nothing(tmp_path):
    small = ["--widths", "4,16,64", "--kept", "4,16", "--seeds", "2", "--horizon", "0.25", "--output", tmp_path]
    first = _meanfield("run", "dropout-regime", *small)
    assert first.returncode == 0, first.stderr
    for expected in ("c_N settled from N", "against the dimension", "28 of 28 runs are finished (0 before, 28 now)"):
        assert expected in first.stdout
    assert (tmp_path / "figures" / "change-against-horizon.pdf").is_file()
    second = _meanfield("run", "dropout-regime", *small)
    assert "28 of 28 runs are finished (28 before, 0 now)" in second.stdout
    assert second.stdout.split("\n\n")[0] == first.stdout.split("\n\n")[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--delta", "1"], "error: delta must lie between 0 and 1, got 1.0: pass e.g. delta=0.05"),
        (["--orders", "1"], "error: orders must be at least 2, got 1"),
    ],
)
def test_bad_options_of_the_bounds_are_one_line_without_traceback(arguments, message, tmp_path, refused):
    status, words = refused("run", "dropout-bounds", "--output", tmp_path, *arguments)
    assert status == 2
    assert message in words
    assert len(words.strip().splitlines()) == 1


@pytest.mark.long
def test_the_bounds_print_table_and_verdict_and_a_second_call_runs_nothing(tmp_path):
    small = ["--widths", "8,16", "--seeds", "2", "--samples", "100", "--orders", "80", "--horizon", "0.1"]
    first = _meanfield("run", "dropout-bounds", *small, "--output", tmp_path)
    assert first.returncode == 0, first.stderr
    for expected in ("worst ratio, N = inf", "cantelli: holds", "8 of 8 runs are finished (0 before, 8 now)"):
        assert expected in first.stdout
    assert "expected memory: " in first.stderr
    assert (tmp_path / "figures" / "bounds-gaussians.pdf").is_file()
    second = _meanfield("run", "dropout-bounds", *small, "--output", tmp_path)
    assert "8 of 8 runs are finished (8 before, 0 now)" in second.stdout
    assert "expected memory: " not in second.stderr
    assert second.stdout.split("\n\n")[0] == first.stdout.split("\n\n")[0]


@pytest.mark.parametrize(
    ("study", "arguments", "message"),
    [
        (
            "dropout-multilayer",
            ["--widths", "64,many"],
            "error: widths must be integers separated by commas, got 'many'",
        ),
        ("dropout-multilayer", ["--hidden-layers", "1"], "error: hidden layers must be at least 2, got 1"),
        ("dropout-multilayer", ["--settings", "al"], "error: unknown setting 'al': did you mean 'all'?"),
        ("dropout-multilayer", ["--data", "gaussians"], "error: data must name a data set or file, got 'gaussians'"),
        ("dropout-multilayer", ["--steps", "0"], "error: steps must be at least 1, got 0"),
        ("dimension", ["--dimensions", "8,x"], "error: dimensions must be integers separated by commas, got 'x'"),
        ("dimension", ["--neurons", "8"], "error: neurons must be at least 16, got 8"),
    ],
)
def test_bad_options_of_the_deeper_studies_are_one_line_without_traceback(study, arguments, message, tmp_path):
    result = _meanfield("run", study, "--output", tmp_path, *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.long
@pytest.mark.parametrize(
    ("study", "options", "n_runs", "table", "figure"),
    [
        (
            "dropout-multilayer",
            ["--widths", "8,16", "--hidden-layers", "2", "--seeds", "2", "--steps", "20", "--samples", "100"],
            12,
            "gap, all hidden layers",
            "change-at-half.pdf",
        ),
        (
            "dimension",
            ["--dimensions", "2,8", "--neurons", "32", "--seeds", "2", "--horizon", "0.2", "--samples", "100"],
            12,
            "needed, two-layer",
            "needed-against-dimension.pdf",
        ),
    ],
)
def test_the_deeper_studies_print_table_and_verdict_and_a_second_call_runs_nothing(
    study, options, n_runs, table, figure, tmp_path
):
    first = _meanfield("run", study, *options, "--output", tmp_path)
    assert first.returncode == 0, first.stderr
    assert table in first.stdout
    assert f"{n_runs} of {n_runs} runs are finished (0 before, {n_runs} now)" in first.stdout
    assert "expected memory: " in first.stderr
    assert (tmp_path / "figures" / figure).is_file()
    second = _meanfield("run", study, *options, "--output", tmp_path)
    assert f"{n_runs} of {n_runs} runs are finished ({n_runs} before, 0 now)" in second.stdout
    assert second.stdout.split("\n\n")[0] == first.stdout.split("\n\n")[0]


def test_an_interrupted_study_exits_130_and_says_how_to_go_on(tmp_path):
    endless = ["--data", "gaussians", "--widths", "4", "--seeds", "1", "--horizon", "1e6", "--workers", "1"]
    command = [sys.executable, "-m", "meanfield", "run", "dropout", *endless, "--output", str(tmp_path)]
    # A shell's background jobs ignore interrupts, and so would the command under test.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, preexec_fn=heed, **pipes) as process:
        while "expected memory: " not in process.stderr.readline():
            assert process.poll() is None
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        words = process.communicate(timeout=60)[0]
    assert process.returncode == 130
    assert "interrupted: 0 of 2 runs are finished and kept; the same command resumes with the other 2" in words


def test_a_failed_run_exits_1_and_is_named_and_the_others_are_reported(tmp_path, monkeypatch):
    def one_run(run, rng):
        if run.n_neurons == 16:
            raise MemoryError("no room")
        return STUDY.one_run(run, rng)

    monkeypatch.setattr(dropout_report, "STUDY", replace(STUDY, one_run=one_run))
    options = ["run", "dropout", "--data", "gaussians", *SMALL, "--workers", "1", "--output", str(tmp_path)]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 1
    assert "failed: MemoryError: no room (4 runs)" in result.stderr
    assert "8 of 12 runs are finished (0 before, 8 now), 4 failed" in result.stdout
    assert "c_N, control" in result.stdout


def test_a_study_of_which_every_network_diverged_exits_1(tmp_path):
    wild = ["--data", "digits", "--widths", "4", "--seeds", "1", "--activation", "quadratic", "--step-size", "5"]
    result = CliRunner().invoke(app, ["run", "dropout", *wild, "--workers", "1", "--output", str(tmp_path)])
    assert result.exit_code == 1
    assert "digits, mean-field, N = 4, seed 0: diverged" in result.stdout


def test_the_last_column_of_a_table_is_its_target(tmp_path):
    table = np.random.default_rng(0).standard_normal((120, 3))
    table[:, 2] += 100
    path = tmp_path / "mine.csv"
    np.savetxt(path, table, delimiter=",", header="a,b,target", comments="")
    options = ["run", "dropout", "--data", str(path), *SMALL, "--workers", "1", "--output", str(tmp_path)]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.output
    assert "mine.csv: relu" in result.stdout
    assert pd.read_csv(tmp_path / "tables" / "widths.csv")["risk"].gt(100).all()


@pytest.mark.long
def test_connectivity_prints_table_and_verdict_and_a_second_call_runs_nothing(tmp_path):
    small = ["--widths", "4,16", "--pairs", "2", "--horizon", "0.2", "--samples", "200", "--output", tmp_path]
    first = _meanfield("run", "connectivity", *small)
    assert first.returncode == 0, first.stderr
    for expected in ("same half", "does the barrier fall with N?", "8 of 8 runs are finished (0 before, 8 now)"):
        assert expected in first.stdout
    assert (tmp_path / "figures" / "barrier-against-width.pdf").is_file()
    second = _meanfield("run", "connectivity", *small)
    assert "8 of 8 runs are finished (8 before, 0 now)" in second.stdout
    assert second.stdout.split("\n\n")[0] == first.stdout.split("\n\n")[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "digit"], "error: unknown data set 'digit': did you mean 'digits'?"),
        (["--widths", "2"], "error: widths must be at least 4, two neurons in each half, got 2"),
        (["--widths", "64,many"], "error: widths must be integers separated by commas, got 'many'"),
        (["--hidden-layers", "0"], "error: hidden layers must be at least 1, got 0"),
        (["--hidden-layers", "2", "--data", "gaussians"], "error: hidden layers of gaussians must be 1, where only"),
    ],
)
def test_bad_options_of_connectivity_are_one_line_without_traceback(arguments, message, tmp_path, refused):
    status, words = refused("run", "connectivity", "--output", tmp_path, *arguments)
    assert status == 2
    assert message in words
    assert len(words.strip().splitlines()) == 1
