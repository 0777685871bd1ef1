"""The dropout study from its grid to its verdict, at small scale."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from meanfield import Empirical, IsotropicGaussians
from meanfield.studies import dropout
from meanfield.studies.dropout import DropoutRun, grid, initial_network, kept_numbers, one_run
from meanfield.studies.dropout_report import STUDY
from meanfield.studies.engine import run_rng
from meanfield.studies.report import run_study

SMALL = {"widths": [4, 16, 64], "n_seeds": 2, "n_samples": 100}
QUICK = SMALL | {"data": ["gaussians"], "step_size": 1e-3, "horizon": 0.02}


def _frames(run: DropoutRun) -> dict[str, pd.DataFrame]:
    return one_run(run, run_rng(0, run.seed))


def test_the_grid_is_every_data_set_scaling_width_and_replica():
    runs = grid(widths=[8, 4], n_seeds=3)
    assert len(runs) == len(set(runs)) == 2 * 2 * 2 * 3
    assert {run.data for run in runs} == {"gaussians", "digits"}
    assert {(run.data, run.activation, run.step_size, run.horizon) for run in runs} == {
        ("gaussians", "truncated-relu", 1e-3, 4.0),
        ("digits", "relu", 0.02, 20.0),
    }


def test_kept_numbers_are_below_the_width_and_hold_the_half():
    for n_neurons in (2, 3, 5, 64, 100):
        numbers = kept_numbers(n_neurons)
        assert n_neurons // 2 in numbers
        assert all(1 <= m < n_neurons for m in numbers)
        assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("data", ["gaussians", "digits"])
def test_the_change_at_half_is_the_identity_on_the_same_network(data):
    run = grid(data=[data], widths=[16], n_seeds=1, horizon=0.1, step_size=0.01, n_samples=100)[0]
    frames = _frames(run)
    summary, curve = frames["summary"].iloc[0], frames["curve"]
    assert summary["half_change"] == pytest.approx(summary["c_n"] * (16 - 8) / (8 * 15), rel=1e-12)
    assert summary["half_change"] == curve.loc[curve["n_kept"] == 8, "mean_change"].item()
    trajectory = frames["trajectory"]
    assert trajectory["time"].iloc[-1] == pytest.approx(0.1)
    assert trajectory["c_n"].iloc[-1] == pytest.approx(summary["c_n"], rel=1e-12)
    assert trajectory["risk"].iloc[-1] == pytest.approx(summary["risk"], rel=1e-12)


def test_only_inner_weights_of_the_gaussians_are_trained_and_start_as_the_theorem_has_them():
    run = grid(data=["gaussians"], widths=[2000], n_seeds=1)[0]
    law = IsotropicGaussians(32, 0.8)
    network = initial_network(run, law, np.random.default_rng(0))
    assert (network.weights[1] == 1).all()
    assert network.weights[0].std() == pytest.approx(0.8 / 32**0.5, rel=0.02)


def test_the_control_starts_with_output_weights_of_variance_one_over_n():
    run = next(run for run in grid(data=["digits"], widths=[5000], n_seeds=1) if run.scaling == "control")
    network = initial_network(run, Empirical(np.ones((2, 65)), np.ones((2, 10))), np.random.default_rng(0))
    assert network.scaling == "standard"
    assert network.weights[1].var() == pytest.approx(1 / 5000, rel=0.05)


def test_widths_share_their_samples_and_first_neurons():
    runs = grid(data=["gaussians"], widths=[4, 8], n_seeds=1)[:2]
    law = IsotropicGaussians(32, 0.8)
    small, large = (initial_network(run, law, run_rng(0, 0).spawn(3)[0]) for run in runs)
    assert np.array_equal(small.weights[0], large.weights[0][:4])


def test_the_verdict_accepts_the_claim_and_rejects_the_control(tmp_path):
    result = run_study(STUDY, grid(**QUICK), tmp_path, n_workers=1)
    words = "\n".join(result.report.words)
    assert "within the theorem's assumptions" in words
    assert "rejected, as it must be" in words
    assert "an identity, not evidence" in words
    assert "exponent" in words
    assert "90% interval" in words
    names = {path.name for path in result.files}
    assert {"summary.csv", "curve.csv", "trajectory.csv", "widths.csv", "manifest.json"} <= names
    assert sum(name.endswith(".pdf") for name in names) == sum(name.endswith(".png") for name in names) == 4
    assert all(path.stat().st_size > 0 for path in result.files)
    table = pd.read_csv(tmp_path / "tables" / "widths.csv")
    assert len(table) == 6
    assert np.isfinite(table[["risk", "c_n", "half_change", "c_n_half_width"]]).all(axis=None)


def test_a_narrow_grid_is_not_judged_and_says_why(tmp_path):
    result = run_study(STUDY, grid(**QUICK | {"widths": [4, 8], "n_seeds": 1}), tmp_path, n_workers=1)
    words = "\n".join(result.report.words)
    assert "c_N is not judged" in words
    assert "settled" not in words


@pytest.mark.long
def test_divergence_is_recorded_and_the_study_goes_on(tmp_path):
    runs = grid(**QUICK | {"data": ["digits"], "step_size": 50.0, "horizon": 20_000.0})
    result = run_study(STUDY, runs, tmp_path, n_workers=1)
    assert result.summary.n_finished_now == len(runs)
    diverged = [line for line in result.report.words if "diverged at step" in line]
    assert diverged
    assert all("try a step size below 50" in line for line in diverged)
    again = run_study(STUDY, runs, tmp_path, n_workers=1)
    assert again.summary.n_finished_now == 0
    assert again.report.words == result.report.words


def test_a_users_table_is_standardised_and_its_content_is_part_of_the_run(tmp_path):
    path = tmp_path / "mine.npz"
    rng = np.random.default_rng(0)
    x = 100 + 7 * rng.standard_normal((300, 5))
    np.savez(path, x_train=x[:200], y_train=np.sign(x[:200, 0] - 100), x_test=x[200:], y_test=np.sign(x[200:, 0] - 100))
    run = grid(data=[str(path)], widths=[64], n_seeds=1, horizon=4.0, n_samples=100)[0]
    summary = _frames(run)["summary"].iloc[0]
    assert summary["test_error"] < 0.2
    np.savez(path, x=x, y=x[:, 0])
    assert grid(data=[str(path)], widths=[64], n_seeds=1)[0].digest != run.digest


def test_a_table_without_test_split_or_classes_has_no_test_error(tmp_path):
    path = tmp_path / "mine.csv"
    rng = np.random.default_rng(0)
    pd.DataFrame(rng.standard_normal((200, 3)), columns=["a", "b", "y"]).to_csv(path, index=False)
    run = grid(data=[str(path)], widths=[8], n_seeds=1, horizon=0.2, n_samples=100)[0]
    summary = _frames(run)["summary"].iloc[0]
    assert np.isnan(summary["test_error"])
    assert summary["status"] == "finished"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"data": ["gausians"]}, ValueError, "unknown data set 'gausians'.*did you mean"),
        ({"data": ["digit"]}, ValueError, "unknown data set 'digit': did you mean 'digits'"),
        ({"data": ["nowhere.npz"]}, FileNotFoundError, "nowhere.npz"),
        ({"data": []}, ValueError, "data must name 1 to 3 data sets or files, got"),
        ({"data": ["digits", "gaussians", "mnist", "cifar10"]}, ValueError, "data must name 1 to 3 data sets"),
        ({"widths": []}, ValueError, "widths must hold at least one"),
        ({"widths": [1]}, ValueError, "widths must be at least 2, got 1"),
        ({"widths": [8.5]}, TypeError, "widths must be an integer"),
        ({"n_seeds": 0}, ValueError, "seeds must be at least 1, got 0"),
        ({"activation": "rellu"}, ValueError, "unknown activation 'rellu': did you mean 'relu'"),
        ({"step_size": 0.0}, ValueError, "step size must be positive"),
        ({"horizon": -1.0}, ValueError, "horizon must be positive"),
        ({"horizon": 1e-9}, ValueError, "horizon must be at least one step"),
        ({"dtype": "float16"}, ValueError, "unknown dtype 'float16'"),
        ({"n_samples": 5}, ValueError, "samples must be at least 100, got 5"),
        ({"target": "one-hot"}, ValueError, "target 'one-hot' is for data sets"),
    ],
)
def test_bad_options_are_refused_before_any_work(change, error, message):
    with pytest.raises(error, match=message):
        grid(**QUICK | change)


def test_cost_grows_with_width():
    runs = grid(**QUICK)
    costs = {run.n_neurons: dropout.cost(run) for run in runs if run.scaling == "mean-field"}
    assert costs[4] < costs[16] < costs[64]
