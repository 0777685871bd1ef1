"""The command as a user meets it, in processes of its own."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

SMALL = ["--widths", "4,16,64", "--seeds", "2", "--samples", "100", "--horizon", "0.02", "--step-size", "0.001"]


def _meanfield(*arguments, environment=None, cwd=None):
    command = [sys.executable, "-m", "meanfield", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd, check=False)


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


def test_a_data_set_from_the_data_folder_and_a_users_file(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    images = {f"x_{split}": rng.integers(0, 256, (150, 4, 4), dtype=np.uint8) for split in ("train", "test")}
    labels = {f"y_{split}": rng.integers(0, 10, 150) for split in ("train", "test")}
    np.savez(tmp_path / "mnist.npz", **images, **labels)
    np.savez(tmp_path / "mine.npz", x=rng.standard_normal((150, 3)), y=rng.standard_normal(150))
    monkeypatch.setenv("MEANFIELD_DATA", str(tmp_path))
    data = f"mnist,{tmp_path / 'mine.npz'}"
    result = _meanfield("run", "dropout", "--data", data, *SMALL, "--output", tmp_path / "results")
    assert result.returncode == 0, result.stderr
    assert "mnist: relu" in result.stdout
    assert "mine.npz: relu" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "digit"], "error: unknown data set 'digit': did you mean 'digits'?"),
        (["--data", "mnist"], "MEANFIELD_DATA is not set"),
        (["--activation", "rellu"], "error: unknown activation 'rellu': did you mean 'relu'?"),
        (["--step-size", "-1"], "error: step size must be positive and finite, got -1"),
        (["--horizon", "0"], "error: horizon must be positive and finite, got 0"),
        (["--widths", "64,many"], "error: widths must be integers separated by commas, got 'many'"),
        (["--widths", "64,1"], "error: widths must be at least 2, got 1"),
        (["--seeds", "0"], "error: seeds must be at least 1, got 0"),
        (["--workers", "0"], "error: n_workers must be at least 1, got 0"),
        (["--output", "/dev/null/results"], "choose another folder with --output"),
    ],
)
def test_bad_options_are_one_line_without_traceback(arguments, message, tmp_path, monkeypatch):
    monkeypatch.delenv("MEANFIELD_DATA", raising=False)
    result = _meanfield("run", "dropout", *SMALL, "--output", tmp_path, *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 nothing more")
    result = _meanfield("run", "dropout", "--data", tmp_path / "bad.npz", *SMALL, "--output", tmp_path / "results")
    assert result.returncode == 2
    assert "bad.npz" in result.stderr
    assert "Traceback" not in result.stderr


def test_help_names_every_option():
    text = _meanfield("run", "dropout", "--help").stdout
    for option in ("--data", "--widths", "--activation", "--step-size", "--horizon", "--seeds", "--dtype", "--output"):
        assert option in text
