"""What the report says follows from the records, on frames made up for it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from meanfield.studies import dropout, dropout_report
from meanfield.studies.data import held_out, law_of
from meanfield.studies.dropout import grid, one_run
from meanfield.studies.engine import run_rng
from meanfield.studies.evaluation import FixedSamples
from meanfield.studies.report import plus_minus

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
    undecided = dropout_report._control(_summary(0.0))
    assert undecided.startswith("NOT rejected")
    assert "no power of the test is shown" in undecided
    assert "this shows the power" not in undecided
    assert "at least 2 distinct N, got only 64" in dropout_report._control(_summary(1.0).query("n_neurons == 64"))


def test_settling_is_stated_with_its_range_and_ratio():
    words = dropout_report._settling(_summary(0.0))
    assert "settled from width 64 on" in words
    assert "c_64/c_1024 = 1.0" in words or "c_64/c_1024 = 0.99" in words
    drifting = dropout_report._settling(_summary(0.05))
    assert "settled from width 64 on (within +-0.1: a factor 1.3 over a 16-fold width; still drifting: " in drifting
    assert "the interval excludes 0)" in drifting
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
    assert "-3/2 where its single neurons do" in words
    narrow = curve[(curve["n_neurons"] == 64) & (curve["n_kept"] < 8)]
    assert "add a width of at least 32" in dropout_report._std_exponent(narrow)


@pytest.mark.parametrize(
    ("mean", "half_width", "words"),
    [
        (2e-31, 1.1e-31, "(2.0 +- 1.1)e-31"),
        (-3.21e9, 4e7, "(-3.210 +- 0.040)e+09"),
        (12.9432, 0.17, "12.94 +- 0.17"),
        (3259.4, 528.2, "3259 +- 528"),
        (1.0, 1.23e-17, "1.00000 +- 1.2e-17"),
        (0.25, float("nan"), "0.25"),
        (0.0, 0.0, "0"),
    ],
)
def test_numbers_of_the_table_are_short(mean, half_width, words):
    assert plus_minus(mean, half_width) == words


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
    test = held_out(str(tmp_path / "mine.npz"), None, None)
    train = law_of(str(tmp_path / "mine.npz"), None, None)
    assert abs(train.x[:, :3].mean()) < 1e-12
    assert test.x[:, :3].mean() > 10
