"""The study of several hidden layers from its grid to its verdict, at small scale."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from meanfield.landscape.dropout import dropout_curve
from meanfield.model.laws import Empirical
from meanfield.studies import dropout_multilayer, dropout_multilayer_report
from meanfield.studies.dropout_multilayer import (
    SETTINGS,
    MultilayerRun,
    cost,
    grid,
    initial_network,
    measured_numbers,
    one_run,
    recipe_of,
    unmet_assumptions,
)
from meanfield.studies.dropout_multilayer_report import STUDY
from meanfield.studies.dropout_multilayer_tables import exponents_at_half, gaps_at_half, held_theorem
from meanfield.studies.engine import run_all, run_rng
from meanfield.studies.store import Store

WIDTHS = (8, 32, 128)
SMALL = {"widths": WIDTHS, "n_seeds": 2, "n_steps": 20, "n_samples": 100}
STUDIED = SMALL | {"n_hidden": [3]}
ENDS = ("", "_low", "_high")


def run_of(setting="all", n_hidden=2, n_neurons=8, **changes: object) -> MultilayerRun:
    first = grid(**SMALL | {"settings": [setting]})[0]
    return replace(first, n_hidden=n_hidden, n_neurons=n_neurons, **changes)


# --- runs -----------------------------------------------------------------------------------------------


def test_the_grid_is_every_setting_depth_width_and_replica():
    runs = grid(**SMALL)
    assert len(runs) == len(set(runs)) == 3 * 2 * 3 * 2
    assert [run.setting for run in runs[::12]] == list(SETTINGS)
    assert {run.n_hidden for run in runs} == {2, 3}
    assert {(run.step_size, run.batch_size) for run in runs} == {(0.05, 10)}


def test_images_have_a_recipe_of_their_own_and_files_that_of_the_digits():
    images = recipe_of("mnist")
    assert max(images.widths) >= 16 * min(images.widths)
    assert recipe_of("mine.npz") == recipe_of("digits") != images == recipe_of("cifar10")


def test_an_asked_step_size_is_that_of_the_control_too(monkeypatch):
    recipe = replace(dropout_multilayer.SMALL_DATA, control_step_size=0.01)
    monkeypatch.setattr(dropout_multilayer, "SMALL_DATA", recipe)
    for asked, expected in ((None, {("all", 0.05), ("control", 0.01)}), (0.2, {("all", 0.2), ("control", 0.2)})):
        runs = grid(**SMALL, step_size=asked, settings=["all", "control"])
        assert {(run.setting, run.step_size) for run in runs} == expected


@pytest.mark.parametrize("n_neurons", [4, 9, 64, 100])
def test_kept_numbers_reach_from_four_to_the_half(n_neurons):
    numbers = measured_numbers(n_neurons)
    assert numbers[-1] == n_neurons // 2
    assert all(m >= 4 or m == n_neurons // 2 for m in numbers)
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("n_hidden", [2, 3])
def test_starts(n_hidden):
    trained, control = (initial_network(run_of(name, n_hidden, 100), np.random.default_rng(0)) for name in SETTINGS[1:])
    assert trained.scaling == "mean-field"
    means = [w.mean() for w in trained.weights]
    assert means == pytest.approx([0.0, *[1.0] * (n_hidden - 1), 0.0], abs=0.1)
    assert [w.std() for w in trained.weights] == pytest.approx([1.0] * (n_hidden + 1), rel=0.1)
    assert control.scaling == "standard"
    assert control.weights[1].std() == pytest.approx((2 / 100) ** 0.5, rel=0.1)
    assert trained.dtype == np.float32


@pytest.mark.parametrize("setting", SETTINGS)
def test_what_is_trained_moves_and_nothing_else(setting):
    moved = one_run(run_of(setting, n_hidden=3), run_rng(0, 0))["movement"]["relative_change"]
    assert (moved[[1, 2]] > 0).all()
    assert (moved[[0, 3]] > 0).all() == (setting != "internal")
    assert (moved[[0, 3]] == 0).all() == (setting == "internal")


def test_the_curve_is_that_of_the_trained_network(monkeypatch):
    finals = []
    whole = dropout_multilayer.run_sgd
    monkeypatch.setattr(
        dropout_multilayer, "run_sgd", lambda *given, **options: finals.append(whole(*given, **options)) or finals[-1]
    )
    run = run_of(n_samples=2000, n_orders=60)
    frames = one_run(run, run_rng(0, 0))
    (final,) = (trajectory.final for trajectory in finals)
    curve = frames["curve"].set_index(["dropped", "n_kept"])
    exact = dropout_curve(final, run.law, [(8, 4)])
    assert curve.loc[("hidden layer 2", 4), "mean_change"] == exact["mean_change"].item()
    assert curve.loc[("hidden layer 2", 4), "std_change"] == exact["std_change"].item()
    assert curve.loc[("hidden layer 2", 4), "method"] == "exact"
    other = dropout_curve(final, run.law, [(4, 8), (4, 4)], n_subsets=400, rng=5)
    for name, row in zip(("hidden layer 1", "all hidden layers"), other.to_dict("records"), strict=True):
        error = np.hypot(row["standard_error"], curve.loc[(name, 4), "standard_error"])
        assert abs(curve.loc[(name, 4), "mean_change"] - row["mean_change"]) < 4 * error
    assert frames["summary"]["risk"].item() == pytest.approx(exact["risk"].item(), rel=1e-12)
    assert 0 < frames["summary"]["test_error"].item() < 1


def test_a_run_that_diverges_says_so():
    summary = one_run(run_of("control", step_size=50.0, activation="linear"), run_rng(0, 0))["summary"]
    assert "diverged" in summary["status"].item()
    assert "try a step size below 50" in summary["status"].item()


def test_unmet_assumptions():
    assert unmet_assumptions(run_of("internal", activation="tanh")) == ["initial weights are not bounded"]
    assert len(unmet_assumptions(run_of("all"))) == 3


def test_cost_grows_with_width_depth_and_steps():
    small = cost(run_of())
    assert all(cost(run_of(**more)) > small > 0 for more in ({"n_neurons": 16}, {"n_hidden": 3}, {"n_steps": 40}))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"data": "gaussians"}, ValueError, "data must name a data set or file, got 'gaussians'"),
        ({"data": "digit"}, ValueError, "unknown data set 'digit': did you mean 'digits'"),
        ({"widths": []}, ValueError, "widths must hold at least one number"),
        ({"widths": [3]}, ValueError, "widths must be at least 4, got 3"),
        ({"n_hidden": [1]}, ValueError, "hidden layers must be at least 2, got 1"),
        ({"settings": ["al"]}, ValueError, "unknown setting 'al': did you mean 'all'"),
        ({"settings": []}, ValueError, "settings must hold at least one of all, internal, control"),
        ({"n_seeds": 0}, ValueError, "seeds must be at least 1, got 0"),
        ({"step_size": 0.0}, ValueError, "step size must be positive"),
        ({"n_steps": 0}, ValueError, "steps must be at least 1, got 0"),
        ({"batch_size": 0}, ValueError, "batch size must be at least 1, got 0"),
        ({"n_orders": 1}, ValueError, "orders must be at least 2, got 1"),
        ({"n_samples": 99}, ValueError, "samples must be at least 100, got 99"),
        ({"activation": "rellu"}, ValueError, "unknown activation 'rellu': did you mean 'relu'"),
        ({"dtype": "float16"}, ValueError, "unknown dtype 'float16'"),
    ],
)
def test_bad_options_are_refused_before_any_work(change, error, message):
    with pytest.raises(error, match=message):
        grid(**SMALL | change)


# --- tables, on frames made up for them -----------------------------------------------------------------

SIZES = (4, 8)


def made_up_curve(exponent, seeds=(0, 1, 2), widths=(16, 64, 256), grow=1.0):
    """Changes n^exponent at m = N/2, of |L_A - L| quantiles grow^(log4 N) / sqrt(m) at others."""
    rng, rows = np.random.default_rng(0), []
    for n in widths:
        for seed in seeds:
            for m in (*SIZES, n // 2):
                change = n**exponent * (1 + 0.001 * rng.standard_normal())
                top = grow ** np.log2(n) / m**0.5
                quantiles = {"magnitude_low": 0.9 * top, "magnitude": top, "magnitude_high": 1.1 * top}
                place = {
                    "n_neurons": n,
                    "seed": seed,
                    "n_kept": m,
                    "dropped": "all hidden layers",
                    "mean_change": change,
                }
                rows.append({**place, "quantile": 0.9, **quantiles})
    return pd.DataFrame(rows).drop_duplicates(["n_neurons", "seed", "n_kept"]).assign(n_hidden=2, setting="internal")


def test_gaps_are_those_at_half_and_their_exponent_is_fitted_over_seeds():
    gaps = gaps_at_half(made_up_curve(-1.0))
    assert len(gaps) == 3 * 3
    assert gaps["scaled_gap"].to_numpy() == pytest.approx(gaps["half_change"] * (gaps["n_neurons"] - 1), rel=1e-12)
    (row,) = exponents_at_half(gaps).to_dict("records")
    assert row["exponent"] == pytest.approx(-1, abs=0.01)
    assert row["low"] < row["exponent"] < row["high"]
    (single,) = exponents_at_half(gaps[gaps["seed"] == 0]).to_dict("records")
    assert np.isnan(single["exponent"])
    assert "needs at least 2 seeds" in single["not_judged"]


@pytest.mark.parametrize(("exponent", "word"), [(-1.0, "falls with N"), (0.0, "NOT shown to fall"), (0.5, "NOT shown")])
def test_a_gap_falls_or_not(exponent, word):
    gaps = gaps_at_half(made_up_curve(exponent))
    words = dropout_multilayer_report.exponent_in_words(
        gaps, "n_neurons", "half_change", "N", dropout_multilayer_report._fall
    )
    assert words.startswith(word)
    assert words.endswith("wholly below -0.1" if exponent == -1 else "not wholly below -0.1")


def test_settling_and_growing_are_told_apart():
    settled, grown, fallen = (gaps_at_half(made_up_curve(exponent)) for exponent in (-1.0, -0.5, -1.5))
    assert dropout_multilayer_report._settling(settled).startswith("settled from width 16 on")
    assert "faster" not in dropout_multilayer_report._settling(settled)
    assert dropout_multilayer_report._settling(grown).startswith("not shown to settle")
    assert dropout_multilayer_report._settling(fallen).endswith("the gap falls faster than 1/N")
    control = [
        dropout_multilayer_report.exponent_in_words(
            gaps, "n_neurons", "scaled_gap", "N", dropout_multilayer_report._growth
        )
        for gaps in (grown, settled, fallen)
    ]
    assert control[0].startswith("grows, as it must")
    assert control[1].startswith("NOT shown to grow")
    assert control[2].startswith("NOT shown to grow")


def test_the_form_is_fitted_where_the_gap_has_settled_and_refuted_by_growth():
    run = run_of("internal")
    holding, growing = (made_up_curve(-1.0, grow=grow) for grow in (1.0, 2.0))
    held = held_theorem(run, holding, gaps_at_half(holding))
    assert held.theorem.fit.n_neurons == 16
    assert held.theorem.fit.form == "multilayer"
    assert held.theorem.fit.n_parameters == 65
    assert "has settled" in held.theorem.reason
    assert not held.checked["fails"].any()
    assert (held.checked["n_neurons"] > 16).all()
    refuted = held_theorem(run, growing, gaps_at_half(growing))
    assert refuted.checked["fails"].any()
    assert dropout_multilayer_report._on_theorem(refuted).startswith("FAILS at")
    assert dropout_multilayer_report._on_theorem(held).startswith("not refuted by 18 quantiles, all below the bound")
    unsettled = made_up_curve(0.0)
    reason = held_theorem(run, unsettled, gaps_at_half(unsettled)).theorem.reason
    assert "refutes this prefactor, not the theorem" in reason


def test_a_quantile_above_the_bound_is_named_where_its_interval_is_too_wide_to_refute():
    curve = made_up_curve(-1.0)
    above = (curve["n_neurons"] == 256) & (curve["n_kept"] == 8) & (curve["seed"] == 1)
    curve.loc[above, ["magnitude", "magnitude_high"]] *= 3
    words = dropout_multilayer_report._on_theorem(held_theorem(run_of("internal"), curve, gaps_at_half(curve)))
    assert words.startswith(
        "not refuted by 18 quantiles, 1 of them above the bound, but with intervals too wide to tell"
    )
    assert "holds" not in words


def test_a_single_width_is_not_held_against_the_form():
    curve = made_up_curve(-1.0, widths=(16,))
    with pytest.raises(ValueError, match="add another width"):
        held_theorem(run_of(), curve, gaps_at_half(curve))


# --- the report -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_study(tmp_path_factory):
    store, runs = Store(tmp_path_factory.mktemp("multilayer")), grid(**STUDIED)
    run_all(one_run, runs, store, root_seed=0, n_workers=1)
    return store, STUDY.report(store, runs)


def test_the_verdict_speaks_of_every_setting(small_study):
    _, report = small_study
    words = "\n".join(report.words)
    for expected in (
        "digits, 3 hidden layers, all layers trained: relu, step size 0.05, 20 steps of 10",
        "digits, 3 hidden layers, internal layers trained, ends frozen",
        "digits, 3 hidden layers, control, standard scaling",
        "gap, hidden layer 3",
        "of the bound at N =",
        "unmet of its setting: the activation is not bounded",
        "moved, in units of their size: weights[0] by 0, weights[1] by ",
        "weights[l], l = 0, 1, .., lead to hidden layer l + 1",
        "test error after 20 steps: ",
        "the fraction of held-out samples put in the wrong class",
    ):
        assert expected in words
    assert words.count("theorem's form on |L_A - L|: ") == 2
    assert words.count("N times the gap, all hidden layers: ") == 3
    assert words.count("test error after") == 3


def test_the_verdict_says_the_mean_test_error_of_every_width(small_study):
    (store, report), runs = small_study, grid(**STUDIED | {"settings": ["all"]})
    expected = store.frames("summary", runs).groupby("n_neurons")["test_error"].mean()
    (line,) = [line for line in STUDY.report(store, runs).words if "test error after" in line]
    said = re.findall(r"([\d.]+)(?: \+- [\d.]+)? at N = (\d+)", line)
    assert {int(n): float(error) for error, n in said} == pytest.approx(expected.to_dict(), abs=0.01)
    assert line in report.words


def test_tables_and_figures(small_study):
    _, report = small_study
    tables = report.tables
    assert len(tables["exponents"]) == 3 * 4
    assert set(tables["theorem"]["setting"]) == {"all", "internal"}
    assert len(tables["gaps"]) == len(WIDTHS) * 2 * 3 * 4
    assert len(report.table) == 3 * len(WIDTHS)
    assert report.table["setting"].iloc[[0, 3, 6]].tolist() == list(SETTINGS)
    assert list(report.table.columns)[-3:] == ["gap, hidden layer 3", "gap, all hidden layers", "N x gap"]
    expected = {"change-at-half", "change-against-kept-3-hidden", "bound-3-hidden-all", "bound-3-hidden-internal"}
    assert set(report.figures) == expected


def test_the_bounds_figure_names_its_depth_and_setting_and_marks_the_fit(small_study):
    _, report = small_study
    for setting, words in (("all", "all layers trained"), ("internal", "internal layers trained, ends frozen")):
        figure = report.figures[f"bound-3-hidden-{setting}"]
        assert figure.axes[0].get_title() == f"theorem's form, 3 hidden layers,\n{words}"
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert any(label.startswith("fitted at $N=8$") for label in labels)


def test_a_finished_study_is_not_run_again(small_study):
    store, _ = small_study
    again = run_all(one_run, grid(**STUDIED), store, root_seed=0, n_workers=1)
    assert (again.n_finished_before, again.n_finished_now) == (18, 0)


def test_both_depths_are_reported(tmp_path):
    runs = grid(**SMALL | {"widths": [8, 16], "settings": ["all"]})
    store = Store(tmp_path)
    run_all(one_run, runs, store, root_seed=0, n_workers=1)
    result = STUDY.report(store, runs)
    assert {"change-against-kept-2-hidden", "change-against-kept-3-hidden"} <= set(result.figures)
    two_layers = result.table["hidden layers"] == 2
    assert result.table["gap, hidden layer 3"].eq("-").tolist() == two_layers.tolist()
    assert two_layers.tolist() == [True, True, False, False]


def test_a_single_seed_is_not_judged_and_nothing_learnt_is_said(small_study):
    store, _ = small_study
    words = "\n".join(STUDY.report(store, grid(**STUDIED | {"n_seeds": 1})).words)
    assert words.count("not judged: an interval over seeds needs at least 2 seeds") >= 12
    assert "NOTHING IS LEARNT" not in words


def test_nothing_learnt_and_divergence_are_said(tmp_path):
    options = {"widths": [8], "n_seeds": 1, "n_hidden": [2], "n_samples": 100}
    still = grid(**options, settings=["all"], step_size=1e-9, n_steps=1)
    wild = grid(**options, settings=["control"], step_size=50.0, n_steps=20, activation="linear")
    store = Store(tmp_path)
    run_all(one_run, [*still, *wild], store, root_seed=0, n_workers=1)
    words = "\n".join(STUDY.report(store, [*still, *wild]).words)
    assert "NOTHING IS LEARNT: at N = 8" in words
    assert "digits, 2 hidden layers, control, standard scaling, N = 8, seed 0: diverged" in words
    assert STUDY.report(store, wild).table.empty


def test_where_no_loss_changes_the_form_is_not_judged_and_no_bound_is_drawn(small_study, tmp_path):
    (store, _), runs = small_study, grid(**STUDIED | {"settings": ["all"]})
    dead = Store(tmp_path)
    for run in runs:
        frames = store.read(run)
        frames["curve"][["mean_change", *(f"{name}{end}" for name in ("change", "magnitude") for end in ENDS)]] = 0.0
        dead.write(run, frames, root_seed=0)
    lost = replace(runs[0], seed=5)
    dead.write(lost, {"summary": pd.DataFrame([{"status": "diverged: at step 3"}])}, root_seed=0)
    assert set(STUDY.report(dead, [*runs, lost]).figures) == {"change-at-half", "change-against-kept-3-hidden"}
    assert "seed 5: diverged: at step 3" in STUDY.report(dead, [*runs, lost]).words[-1]
    report = STUDY.report(dead, runs)
    assert len(report.table) == len(WIDTHS)
    expected = "theorem's form on |L_A - L|: not judged: every quantile at N = 8 is zero"
    assert any(expected in line for line in report.words)


def test_where_networks_were_lost_the_gap_is_not_judged(small_study):
    (store, _), runs = small_study, grid(**STUDIED | {"settings": ["all"]})
    frames = store.read(runs[0])
    frames["summary"]["status"] = "diverged: at step 3"
    lost = replace(runs[0], seed=5)
    store.write(lost, frames, root_seed=0)
    words = STUDY.report(store, [*runs, lost]).words
    assert "  the gap is not judged: 1 networks diverged, see below" in words


def test_a_users_file_is_taken(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "mine.npz", x=rng.standard_normal((150, 3)), y=rng.standard_normal(150))
    run = grid(**SMALL, data=str(tmp_path / "mine.npz"))[0]
    frames = one_run(run, run_rng(0, 0))
    assert isinstance(run.law, Empirical)
    assert np.isnan(frames["summary"]["test_error"].item())
    assert run.widths == (run.law.dim, 8, 8, 1)
    store = Store(tmp_path / "results")
    run_all(one_run, [run], store, root_seed=0, n_workers=1)
    assert not any("test error after" in line for line in STUDY.report(store, [run]).words)


@pytest.mark.long
def test_three_trained_layers_learn_the_digits_and_the_gap_falls_with_the_width(tmp_path):
    options = {"widths": [16, 64, 256], "n_seeds": 3, "n_hidden": [2], "n_orders": 20}
    runs = grid(**options, settings=["all"], step_size=0.2, n_steps=2000)
    store = Store(tmp_path)
    run_all(one_run, runs, store, root_seed=0, n_workers=1)
    tables = STUDY.report(store, runs).tables
    test_error = tables["summary"].groupby("n_neurons")["test_error"].mean()
    assert test_error[256] < 0.07
    assert test_error[256] < test_error[16] < 0.13
    assert set(tables["exponents"]["dropped"]) == {"hidden layer 1", "hidden layer 2", "all hidden layers"}
    assert (tables["exponents"]["high"] < -0.5).all()
