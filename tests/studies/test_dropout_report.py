"""What the report says follows from the records, on frames made up for it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from meanfield.studies import dropout, dropout_report, training_data
from meanfield.studies.dropout import grid, one_run
from meanfield.studies.engine import run_rng
from meanfield.studies.evaluation import FixedSamples

WIDTHS = (64, 256, 1024)


def _summary(exponent: float) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        {"n_neurons": n, "seed": seed, "c_n": 5 * n**exponent * np.exp(0.01 * rng.standard_normal())}
        for n in WIDTHS
        for seed in range(4)
    ]
    return pd.DataFrame(rows)


def test_the_control_is_rejected_only_if_it_grows():
    assert dropout_report._control(_summary(1.0)).startswith("rejected, as it must be: c_N has exponent 0.997")
    assert dropout_report._control(_summary(0.0)).startswith("NOT rejected")


def test_settling_is_stated_with_its_range_and_ratio():
    words = dropout_report._settling(_summary(0.0))
    assert "settled from width 64 on" in words
    assert "c_64/c_1024 = 1.0" in words or "c_64/c_1024 = 0.99" in words
    assert "not shown to settle" in dropout_report._settling(_summary(0.5))


def test_intervals_of_the_table_are_students():
    frame = _summary(0.0).assign(data="a", scaling="mean-field", risk=1.0, half_change=2.0, test_error=0.1)
    table = dropout_report._table(frame).set_index("n_neurons")
    for n, group in frame.groupby("n_neurons"):
        half_width = stats.t.ppf(0.95, 3) * group["c_n"].std(ddof=1) / 2
        assert table.loc[n, "c_n_half_width"] == pytest.approx(half_width)
        assert table.loc[n, "c_n"] == pytest.approx(group["c_n"].mean())


def test_the_exponent_of_the_std_belongs_to_the_widest_network_without_the_finite_population_factor():
    rows = [
        {"scaling": "mean-field", "n_neurons": n, "seed": seed, "n_kept": m}
        for n in (64, 512)
        for seed in range(3)
        for m in (1, 2, 4, 8, 16, 32, 64, 128)
        if m < n
    ]
    curve = pd.DataFrame(rows)
    n, m = curve["n_neurons"], curve["n_kept"]
    exponent = np.where(n == 512, -0.5, -2.0)
    curve["std_change"] = np.sqrt((n - m) / (n - 1)) * m**exponent * (1 + 1e-9 * curve["seed"])
    words = dropout_report._std_exponent(curve)
    assert words.startswith("exponent -0.500")
    assert "at N = 512" in words
    assert "-0.50 between the last two m" in words


@pytest.mark.parametrize(
    ("data", "activation", "words"),
    [
        ("gaussians", None, "within the theorem's assumptions"),
        ("gaussians", "relu", "outside the theorem's assumptions (the activation is not bounded)"),
        ("digits", "tanh", "outside the theorem's assumptions (initial output weights are not bounded)"),
    ],
)
def test_unmet_assumptions_are_named(data, activation, words):
    run = grid(data=[data], widths=[4], n_seeds=1, activation=activation)[0]
    assert dropout_report._assumptions(run) == words


def test_output_weights_of_the_gaussians_stay_at_one_and_those_of_data_sets_move(monkeypatch):
    finals = {}
    whole = dropout.run_sgd

    def spy(start, *arguments, **options):
        trajectory = whole(start, *arguments, **options)
        finals[tuple(start.widths)] = (start, trajectory.final)
        return trajectory

    monkeypatch.setattr(dropout, "run_sgd", spy)
    for data in ("gaussians", "digits"):
        run = grid(data=[data], widths=[6], n_seeds=1, step_size=0.01, horizon=0.1, n_samples=100)[0]
        one_run(run, run_rng(0, 0))
    (first, last), (start, final) = finals.values()
    assert (last.weights[1] == 1).all()
    assert not np.array_equal(first.weights[0], last.weights[0])
    assert not np.array_equal(start.weights[1], final.weights[1])


def test_every_width_is_measured_on_the_same_samples(monkeypatch):
    seen = []
    monkeypatch.setattr(
        dropout,
        "FixedSamples",
        lambda law, n, rng: seen.append(rng.bit_generator.state) or FixedSamples(law, n, run_rng(0, 0)),
    )
    for run in grid(data=["gaussians"], widths=[4, 8], n_seeds=1, step_size=0.01, horizon=0.05, n_samples=100):
        one_run(run, run_rng(0, run.seed))
    assert len(seen) == 4
    assert all(state == seen[0] for state in seen)


def test_the_test_split_is_standardised_by_the_training_split(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 3))
    arrays = {"x_train": x[:200], "y_train": np.sign(x[:200, 0]), "x_test": x[200:] + 50, "y_test": np.sign(x[200:, 0])}
    np.savez(tmp_path / "mine.npz", **arrays)
    test = training_data.held_out_law(str(tmp_path / "mine.npz"), None, None)
    train = training_data.training_law(str(tmp_path / "mine.npz"), None, None)
    assert abs(train.x[:, :3].mean()) < 1e-12
    assert test.x[:, :3].mean() > 10
