"""The width check from its grid to its verdict, at small scale."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from oracles import activation_value

from meanfield.dynamics.sgd import run_sgd
from meanfield.studies import width_check
from meanfield.studies.engine import run_rng
from meanfield.studies.report import run_study
from meanfield.studies.store import Store
from meanfield.studies.width_check import (
    BATCH_SIZE,
    N_SAMPLES,
    QUANTITIES,
    SETTINGS,
    WidthCheckRun,
    cost,
    expected_slope,
    grid,
    initial_network,
    one_run,
)
from meanfield.studies.width_check_report import STUDY, slopes_against_expected

WIDTHS = (32, 128, 512)
SMALL = {"widths": WIDTHS, "n_seeds": 3}


def run_of(setting, n_hidden=2, n_neurons=20, **changes):
    return replace(WidthCheckRun(setting, n_hidden, n_neurons, seed=0, step_size=0.01, n_steps=3), **changes)


def test_the_grid_holds_every_setting_depth_width_and_seed():
    runs = grid(**SMALL, n_steps=4, step_size=0.02)
    replicas = {"mean-field": 3, "zero-mean": 9, "control": 3}
    assert len(runs) == len(set(runs)) == 2 * 3 * sum(replicas.values())
    assert all(len({run.seed for run in runs if run.setting == name}) == n for name, n in replicas.items())
    assert {run.step_size for run in runs} == {0.02}
    assert {(run.setting, run.n_steps) for run in runs} == {("mean-field", 4), ("zero-mean", 1), ("control", 4)}
    assert {run.n_hidden for run in runs} == {1, 2}


@pytest.mark.parametrize("n_hidden", [1, 2, 3])
def test_starts(n_hidden):
    large, zero, control = (initial_network(run_of(name, n_hidden, 200), np.random.default_rng(0)) for name in SETTINGS)
    assert [one.scaling for one in (large, zero, control)] == ["mean-field", "mean-field", "standard"]
    for layer in range(1, n_hidden + 1):
        assert large.weights[layer].mean() == pytest.approx(1, abs=0.01)
        assert large.weights[layer].std() == pytest.approx(0.1, rel=0.1)
        assert zero.weights[layer].std() == pytest.approx(1, rel=0.1)
        assert control.weights[layer].std() == pytest.approx((2 / 200) ** 0.5, rel=0.1)
    assert np.array_equal(large.weights[0], zero.weights[0])


def plain_coordinates(start, final, x):
    """Rms of weight change, and of pre-activations before, after and their change, a row a layer."""

    def pre_activations(network):
        h, all_z = x, []
        for layer, w in enumerate(network.weights):
            factor = 1 / w.shape[1] if network.scaling == "mean-field" and layer else 1
            all_z.append(factor * h @ w.T)
            h = activation_value("relu", all_z[-1])
        return all_z

    before, after = pre_activations(start), pre_activations(final)
    triples = zip(start.weights, final.weights, before, after, strict=True)
    return np.array([[np.sqrt(np.mean(v**2)) for v in (w1 - w0, z0, z1, z1 - z0)] for w0, w1, z0, z1 in triples])


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("n_hidden", [1, 2])
def test_the_coordinates_are_those_of_the_networks(setting, n_hidden):
    run = run_of(setting, n_hidden)
    frames = one_run(run, run_rng(0, 0))
    for_weights, for_training, for_evaluation = run_rng(0, 0).spawn(3)
    law = width_check._law()
    start = initial_network(run, for_weights)
    options = {"step_size": 0.01, "n_steps": 3, "batch_size": BATCH_SIZE, "rng": for_training}
    final = run_sgd(start, law, **options).final
    expected = plain_coordinates(start, final, law.sample(N_SAMPLES, for_evaluation)[0])
    table = frames["coordinates"].pivot(index="weights", columns="quantity", values="value")
    np.testing.assert_allclose(table[list(QUANTITIES)], expected, rtol=1e-9)
    assert frames["summary"]["status"].tolist() == ["finished"]


def test_expected_slopes():
    assert {expected_slope("mean-field", 2, name, 1) for name in QUANTITIES} == {0.0}
    assert [expected_slope("zero-mean", 1, "weight change", layer) for layer in range(2)] == [0, 0]
    assert [expected_slope("zero-mean", 2, "weight change", layer) for layer in range(3)] == [-0.5, 0, -0.5]
    assert [expected_slope("zero-mean", 3, "weight change", layer) for layer in range(4)] == [-1, -0.5, -0.5, -1]
    assert [expected_slope("zero-mean", 2, QUANTITIES[1], layer) for layer in range(3)] == [0, -0.5, -1]
    assert expected_slope("zero-mean", 2, "pre-activation", 1) is None


def coordinates_frame(exponent, noise=0.001, setting="zero-mean", quantity="pre-activation at start", weights=1):
    rng = np.random.default_rng(0)
    rows = [(n, seed, n**exponent * (1 + noise * rng.standard_normal())) for n in WIDTHS for seed in range(3)]
    frame = pd.DataFrame(rows, columns=["n_neurons", "seed", "value"])
    return frame.assign(n_hidden=2, setting=setting, quantity=quantity, weights=weights)


@pytest.mark.parametrize(
    ("exponent", "noise", "verdict"),
    [
        (-0.5, 0.001, "as expected"),
        (-0.45, 0.001, "as expected"),
        (-0.3, 0.001, "not as expected"),
        (0.0, 0.001, "not as expected"),
        (-0.5, 0.5, "undecided"),
    ],
)
def test_slopes_are_held_against_the_expected_one(exponent, noise, verdict):
    (row,) = slopes_against_expected(coordinates_frame(exponent, noise)).to_dict("records")
    assert (row["expected"], row["verdict"]) == (-0.5, verdict)
    assert row["low"] < row["exponent"] < row["high"]
    if noise < 0.1:
        assert row["exponent"] == pytest.approx(exponent, abs=0.01)


def test_where_nothing_is_expected_nothing_is_judged():
    (row,) = slopes_against_expected(coordinates_frame(-0.3, quantity="pre-activation")).to_dict("records")
    assert np.isnan(row["expected"])
    assert row["verdict"] == ""


@pytest.fixture(scope="module")
def small_study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("width-check")
    return folder, run_study(STUDY, grid(**SMALL), folder, n_workers=1)


def test_the_verdict_passes_mean_field_scaling_and_fails_the_control(small_study):
    _, result = small_study
    words = "\n".join(result.report.words)
    assert words.count("weights above the first layer N(1, 0.1^2): passes: all") == 2
    assert words.count("zero-mean weights, one step: passes: all") == 2
    assert words.count("standard scaling at the same step size: fails, as it must") == 2
    assert words.startswith("2 layers of weights, d = 32, relu, square loss, all trained: 4 steps of 32 samples")
    assert "3 layers of weights" in words
    assert "FAILS" not in words
    assert "no failure of the scaling" in words


def test_tables_and_figures(small_study):
    folder, result = small_study
    slopes = result.report.tables["slopes"]
    assert len(slopes) == 3 * (2 + 3) * 4
    assert set(result.report.figures) == {"width-check-2-weight-layers", "width-check-3-weight-layers"}
    table = result.report.table
    assert list(table.columns) == ["setting", "weight layers", "quantity", "weights[0]", "weights[1]", "weights[2]"]
    assert len(table) == 3 * 2 * 4
    assert table.loc[table["weight layers"] == 2, "weights[2]"].eq("-").all()
    assert (folder / "figures" / "width-check-3-weight-layers.pdf").is_file()
    row = slopes[
        (slopes["setting"] == "zero-mean") & (slopes["quantity"] == "weight change") & (slopes["weights"] == 0)
    ]
    assert row["expected"].tolist() == [0, -0.5]


def test_a_step_size_that_diverges_is_said_of_each_scaling(tmp_path):
    runs = grid(widths=[16, 64], n_hidden=[1], n_seeds=2, step_size=30.0, n_steps=12)
    words = "\n".join(run_study(STUDY, runs, tmp_path, n_workers=1).report.words)
    assert "standard scaling at the same step size: fails, as it must: 4 of 4 networks diverged" in words
    assert "N(1, 0.1^2): FAILS: 4 of 4 networks diverged" in words
    assert "zero-mean weights, one step: " in words
    assert "diverged at step" in words


def test_a_step_size_that_blows_up_to_finite_numbers_is_no_evidence_of_a_slope(tmp_path):
    runs = grid(widths=[16, 64], n_hidden=[1], n_seeds=2, step_size=1.0)
    words = "\n".join(run_study(STUDY, runs, tmp_path, n_workers=1).report.words)
    assert "N(1, 0.1^2): FAILS: 4 of 4 networks diverged" in words
    assert "standard scaling at the same step size: fails, as it must: 4 of 4 networks diverged" in words
    assert "diverged: its risk went from" in words
    assert "try a step size below 1\n" in words


def test_no_power_is_said(tmp_path):
    runs = grid(widths=[16, 18], n_hidden=[1], n_seeds=2, step_size=1e-9)
    words = "\n".join(run_study(STUDY, runs, tmp_path, n_workers=1).report.words)
    assert "NOT shown to fail: the check has no power here" in words


def test_a_single_width_is_not_judged_and_the_remedy_is_another(tmp_path):
    runs = grid(widths=[16], n_hidden=[1], n_seeds=2)
    words = "\n".join(run_study(STUDY, runs, tmp_path, n_workers=1).report.words)
    reason = "not judged: a slope needs at least 2 distinct widths, got only 16: add another"
    assert f"standard scaling at the same step size: NOT shown to fail: {reason}" in words
    assert "larger step size" not in words


def test_a_single_seed_is_not_judged(small_study):
    folder, _ = small_study
    result = STUDY.report(Store(folder), grid(**SMALL | {"n_seeds": 1}))
    words = "\n".join(result.words)
    assert words.count("not shown to pass: not judged: an interval over seeds needs at least 2 seeds") == 2
    single = result.table[result.table["setting"] != "zero-mean"]
    assert single[["weights[0]", "weights[1]", "weights[2]"]].eq("-").all(axis=None)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"widths": []}, ValueError, "widths and hidden layers must each hold at least one number"),
        ({"n_hidden": []}, ValueError, "widths and hidden layers must each hold at least one number"),
        ({"widths": [1]}, ValueError, "widths must be at least 2, got 1"),
        ({"n_hidden": [0]}, ValueError, "hidden layers must be at least 1, got 0"),
        ({"n_hidden": [1.5]}, TypeError, "hidden layers must be an integer"),
        ({"n_seeds": 0}, ValueError, "seeds must be at least 1, got 0"),
        ({"step_size": 0.0}, ValueError, "step size must be positive"),
        ({"n_steps": 0}, ValueError, "steps must be at least 1, got 0"),
    ],
)
def test_bad_options_are_refused_before_any_work(change, error, message):
    with pytest.raises(error, match=message):
        grid(**SMALL | change)


def test_cost_grows_with_width_depth_and_steps():
    small = cost(run_of("control"))
    assert all(cost(run_of("control", **more)) > small for more in ({"n_neurons": 40}, {"n_hidden": 3}, {"n_steps": 9}))
    assert small > 0
