"""The study of the dimension from its grid to its verdict, at small scale."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from meanfield import IsotropicGaussians
from meanfield.studies import dimension, dimension_report
from meanfield.studies.dimension import SETTINGS, DimensionRun, cost, grid, initial_network, kept_numbers, one_run
from meanfield.studies.dimension_bounds import discrepancies, held_discrepancy, held_form
from meanfield.studies.dimension_report import STUDY
from meanfield.studies.dimension_tables import (
    exponent_in_dimension,
    mean_ratios,
    needed_number,
    needed_numbers,
    needed_ratios,
    relative_changes,
    uncensored,
    where_all_seeds_are,
)
from meanfield.studies.dropped_layers import dropped_curve
from meanfield.studies.engine import run_all, run_rng
from meanfield.studies.evaluation import FixedSamples
from meanfield.studies.store import Store

SMALL = {"dimensions": [2, 8, 32], "n_neurons": 64, "n_seeds": 2, "horizon": 0.5, "n_samples": 100, "n_orders": 36}


def run_of(setting="three-layer", dim=8, **changes: object) -> DimensionRun:
    return replace(grid(**SMALL)[0], setting=setting, dim=dim, **changes)


# --- runs -----------------------------------------------------------------------------------------------


def test_the_grid_is_every_setting_dimension_and_replica_at_one_noise_and_horizon():
    runs = grid(**SMALL)
    assert len(runs) == len(set(runs)) == 3 * 3 * 2 * 2
    assert {run.setting for run in runs} == set(SETTINGS)
    assert len({run.step_size * run.dim for run in runs}) == 1
    assert {run.n_steps * run.step_size for run in runs} == {0.5}
    assert {(run.n_neurons, run.horizon) for run in runs} == {(16, 0.5), (64, 0.5)}


@pytest.mark.parametrize(("n_neurons", "widths"), [(16, [16]), (100, [25, 100]), (512, [32, 128, 512])])
def test_bounds_are_checked_at_a_sixteenth_and_a_quarter_of_the_width(n_neurons, widths):
    assert sorted({run.n_neurons for run in grid(n_neurons=n_neurons)}) == widths


def test_the_default_dimensions_span_a_factor_of_sixteen():
    dimensions = {run.dim for run in grid()}
    assert max(dimensions) >= 16 * min(dimensions)


@pytest.mark.parametrize("n_neurons", [16, 100, 512])
def test_kept_numbers_reach_from_four_to_the_half(n_neurons):
    numbers = kept_numbers(n_neurons)
    assert (numbers[0], numbers[-1]) == (4, n_neurons // 2)
    assert numbers == sorted(set(numbers))
    assert all(after <= 2 * before for before, after in pairwise(numbers))


@pytest.mark.parametrize("dim", [4, 64])
@pytest.mark.parametrize("setting", SETTINGS)
def test_starts_have_first_weights_of_length_one_on_average_in_every_dimension(setting, dim):
    network = initial_network(run_of(setting, dim, n_neurons=1000), np.random.default_rng(0))
    assert np.square(network.weights[0]).sum(axis=1).mean() == pytest.approx(1, rel=0.1)
    assert [w.mean() for w in network.weights[1:-1]] == pytest.approx([1.0] * (network.n_hidden - 1), abs=0.01)
    assert network.weights[-1].std() == pytest.approx(1, rel=0.1)
    assert all(not bias.any() for bias in network.biases)


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_curve_is_that_of_the_trained_network(setting, monkeypatch):
    trained = []
    whole = dimension.run_sgd

    def spy(start, *given, **options):
        trained.append((start, whole(start, *given, **options)))
        return trained[-1][1]

    monkeypatch.setattr(dimension, "run_sgd", spy)
    run = run_of(setting)
    frames = one_run(run, run_rng(0, 0))
    ((start, trajectory),) = trained
    for_evaluation, for_orders = run_rng(0, 0).spawn(4)[2:]
    samples = FixedSamples(IsotropicGaussians(run.dim, 0.8), 100, for_evaluation)
    expected = dropped_curve(trajectory.final, samples, kept_numbers(run.n_neurons), 36, for_orders)
    pd.testing.assert_frame_equal(frames["curve"], expected)
    assert frames["summary"]["risk"].item() == samples.snapshot(trajectory.final)["risk"]
    assert frames["summary"]["initial_risk"].item() == samples.snapshot(start)["risk"]
    n_hidden = start.n_hidden
    moved = [not np.array_equal(*pair) for pair in zip(start.weights, trajectory.final.weights, strict=True)]
    assert moved == ([False, True, False] if setting == "three-layer, internal" else [True] * (n_hidden + 1))
    assert set(frames["curve"]["dropped"]) == (
        {"all hidden layers"} | ({"hidden layer 1", "hidden layer 2"} if n_hidden == 2 else set())
    )


def test_cost_grows_with_dimension_and_depth():
    small = cost(run_of("two-layer"))
    assert all(cost(one) > small > 0 for one in (run_of("two-layer", 16), run_of("three-layer")))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"dimensions": []}, ValueError, "dimensions must hold at least one number, got none"),
        ({"dimensions": [0]}, ValueError, "dimensions must be at least 1, got 0"),
        ({"dimensions": [2.5]}, TypeError, "dimensions must be an integer"),
        ({"n_neurons": 15}, ValueError, "neurons must be at least 16, got 15"),
        ({"n_seeds": 0}, ValueError, "seeds must be at least 1, got 0"),
        ({"horizon": 0.0}, ValueError, "horizon must be positive"),
        ({"horizon": 1e-6}, ValueError, "horizon must be at least one step of 0.015625, got 1e-06"),
        ({"n_samples": 99}, ValueError, "samples must be at least 100, got 99"),
        ({"n_orders": 1}, ValueError, "orders must be at least 2, got 1"),
    ],
)
def test_bad_options_are_refused_before_any_work(change, error, message):
    with pytest.raises(error, match=message):
        grid(**SMALL | change)


# --- the needed number ----------------------------------------------------------------------------------

SIZES = np.array([4, 8, 16, 32])


@pytest.mark.parametrize("exponent", [-1.0, -0.5, -2.0])
def test_between_measured_numbers_a_power_law_is_followed_exactly(exponent):
    wanted = 13.7
    changes = (SIZES / wanted) ** exponent
    assert needed_number(SIZES, changes, 1.0) == pytest.approx(wanted, rel=1e-12)


def test_the_last_crossing_counts():
    assert needed_number(SIZES, [0.5, 2.0, 2.0, 0.5], 1.0) == pytest.approx(16 * 2**0.5)
    assert needed_number(SIZES, [2.0, 0.5, 2.0, 0.5], 1.0) == pytest.approx(16 * 2**0.5)


def test_censoring():
    assert needed_number(SIZES, 1.01 / SIZES, 1.0 / 32) == math.inf
    assert needed_number(SIZES, 1 / SIZES, 0.25) == 0
    assert needed_number(SIZES, [3.0, 2.0, 2.0, -0.1], 1.0) == 32
    assert needed_number(SIZES, [math.inf] * 3 + [0.5], 1.0) == 32
    with pytest.raises(ValueError, match="must not hold NaN"):
        needed_number(SIZES, [1.0, math.nan, 1.0, 1.0], 1.0)


def made_up(needed_at, dims=(8, 32, 128), seeds=(0, 1, 2), settings=("two-layer",)):
    """Frames of networks with c_N/m the relative change, c_N such that ``needed_at(setting, d)`` are needed at 0.1."""
    rng, n = np.random.default_rng(0), 512
    summary, curve = [], []
    for setting in settings:
        for dim in dims:
            for seed in seeds:
                place = {"setting": setting, "dim": dim, "n_neurons": n, "seed": seed}
                summary.append({**place, "initial_risk": 3.0, "risk": 1.0})
                c = 0.1 * 2.0 * needed_at(setting, dim) * np.exp(0.001 * rng.standard_normal())
                for m in kept_numbers(n):
                    change = c * (n - m) / (m * (n - 1))
                    curve.append({**place, "dropped": "all hidden layers", "n_kept": m, "mean_change": change})
    return pd.DataFrame(summary), pd.DataFrame(curve)


def test_a_two_layer_curve_gives_its_constant_without_the_finite_population():
    needed = needed_numbers(relative_changes(*made_up(lambda setting, dim: 200.0)), 0.1)
    assert needed["needed"].to_numpy() == pytest.approx(np.full(9, 200.0), rel=0.01)
    assert (needed["censored"] == "").all()


@pytest.mark.parametrize("sign", [1, 0, -1])
@pytest.mark.parametrize("risk", [3.0, 3.5, math.nan])
def test_nothing_gained_needs_more_than_was_measured(sign, risk):
    summary, curve = made_up(lambda setting, dim: 20.0)
    changes = relative_changes(summary.assign(risk=risk), curve.assign(mean_change=sign * curve["mean_change"]))
    assert (changes["relative_change"] == math.inf).all()
    assert (needed_numbers(changes, 0.1)["censored"] == "more than 256").all()


@pytest.mark.parametrize(
    ("exponent", "word"),
    [
        (0.0, "does not depend on d within +-0.1"),
        (-0.3, "falls as d grows"),
        (0.1, "undecided, neither within nor wholly outside +-0.1"),
        (0.5, "grows, more slowly than d"),
        (1.0, "grows, linear in d not excluded"),
        (1.3, "grows faster than d"),
    ],
)
def test_the_exponent_in_the_dimension_is_judged_in_every_direction(exponent, word):
    scale = 20.0 if exponent < 0 else 6.0
    needed = needed_numbers(relative_changes(*made_up(lambda setting, dim: scale * (dim / 8) ** exponent)), 0.1)
    fit = exponent_in_dimension(needed)
    assert fit.exponent == pytest.approx(exponent, abs=0.01)
    assert dimension_report._exponent(needed).startswith(f"{word}: exponent")


def test_a_dimension_with_a_censored_seed_is_left_out_and_named():
    summary, curve = made_up(lambda setting, dim: 5.0 * dim / 8)
    beyond = (curve["dim"] == 128) & (curve["seed"] == 1)
    curve.loc[beyond, "mean_change"] *= 100
    needed = needed_numbers(relative_changes(summary, curve), 0.1)
    assert uncensored(needed)["dim"].unique().tolist() == [8, 32]
    words = dimension_report._exponent(needed)
    assert words.startswith("not judged over less than a factor 16 in d: exponent")
    assert words.endswith("left out of the fit: 1 of 3 seeds need more than 256 at d = 128")
    few = needed[needed["dim"] != 32]
    assert dimension_report._exponent(few).startswith("not judged: a slope needs at least 2 dimensions")


def test_the_ratio_of_settings_is_judged():
    settings = ("two-layer", "three-layer")
    summary, curve = made_up(
        lambda setting, dim: 20.0 * (dim / 8) ** (0.8 * (setting != "two-layer")), settings=settings
    )
    needed = needed_numbers(relative_changes(summary, curve), 0.1)
    ratios = needed_ratios(needed, "two-layer")
    assert dimension_report._ratio_in_dimension(ratios).startswith("grows, more slowly than d")
    assert dimension_report._ratio_in_dimension(ratios[ratios["seed"] == 0]).startswith("not judged: an interval")


def test_ratios_are_geometric_means_over_seeds_with_student_intervals():
    ratio = pd.Series([1.0, 2.0, 4.0, 8.0])
    ratios = pd.DataFrame({"setting": "three-layer", "dim": [8, 8, 32, 32], "seed": [0, 1, 0, 1], "ratio": ratio})
    by_dim, over_dims = mean_ratios(ratios, ["setting", "dim"]), mean_ratios(ratios, ["setting"])
    assert by_dim["ratio"].tolist() == pytest.approx([2**0.5, 32**0.5])
    (whole,) = over_dims.to_dict("records")
    half = 6.313752 * np.std(np.log([2, 4]), ddof=1) / 2**0.5
    assert (whole["ratio"], whole["low"], whole["high"]) == pytest.approx(
        (8**0.5, 8**0.5 * np.exp(-half), 8**0.5 * np.exp(half)), rel=1e-6
    )
    assert mean_ratios(ratios[ratios["seed"] == 0], ["setting"])[["low", "high"]].isna().all(axis=None)


def test_dimensions_that_lack_a_seed_are_left_out_of_the_mean_over_dimensions():
    ratios = pd.DataFrame({"dim": [8, 8, 32, 128, 128], "seed": [0, 1, 1, 1, 0], "ratio": [1.0, 2, 3, 4, 5]})
    assert where_all_seeds_are(ratios)["ratio"].tolist() == [1, 2, 4, 5]


def test_a_censored_dimension_has_no_ratio():
    summary, curve = made_up(lambda setting, dim: 5.0 * dim / 8, settings=("two-layer", "three-layer"))
    beyond = (curve["dim"] == 128) & (curve["seed"] == 1) & (curve["setting"] == "two-layer")
    curve.loc[beyond, "mean_change"] *= 100
    ratios = needed_ratios(needed_numbers(relative_changes(summary, curve), 0.1), "two-layer")
    assert ratios["dim"].tolist() == [8] * 3 + [32] * 3
    assert ratios["setting"].unique().tolist() == ["three-layer"]
    assert ratios["ratio"].to_numpy() == pytest.approx(np.ones(6), rel=0.01)


@pytest.mark.parametrize(
    ("ratio", "each", "together"),
    [(0.3, "FEWER", "FEWER"), (0.6, "FEWER", "MORE"), (1.0, "NOT shown to be more or fewer", "MORE")],
)
def test_whether_depth_costs_neurons_is_said_of_one_layer_and_of_all(ratio, each, together):
    frame = product_of_ratios(ratio)
    words = dimension_report._compared(frame, 2)
    assert words.startswith(f"{each} in each hidden layer, {ratio:.3f} (")
    assert f"; {together} in its 2 hidden layers together, {2 * ratio:.3f} (" in words
    assert words.endswith("times as many (mean over d = 8, 32)")
    for few in (frame[frame["seed"] == 0], frame[:0]):
        lines = list(dimension_report._on_depth(few))
        assert len(lines) == 4
        assert all(line.startswith("  not judged: it needs 2 seeds") for line in lines[1::2])


def product_of_ratios(ratio):
    """Ratios of two dimensions and three seeds around ``ratio``, their geometric mean."""
    index = pd.MultiIndex.from_product([["three-layer"], [8, 32], [0, 1, 2]], names=["setting", "dim", "seed"])
    frame = index.to_frame(index=False)
    return frame.assign(ratio=ratio * 1.01 ** (frame["seed"] - 1.0))


# --- the forms, on frames made up for them ----------------------------------------------------------------


def networks(setting, **options):
    return [run for run in grid(n_neurons=512, n_seeds=3, **options) if run.setting == setting]


def made_up_quantiles(runs, rate):
    """Quantiles of |L_A - L| that go as d^rate / sqrt m, with intervals of 20%, the loss 0.1 d^rate / N above 1."""
    rows, summary = [], []
    for run in runs:
        place = {"setting": run.setting, "dim": run.dim, "n_neurons": run.n_neurons, "seed": run.seed}
        # Replicas differ in how far they are from the widest network, or there is no interval.
        summary.append({**place, "risk": 1 + run.dim**rate * (1 + 0.01 * run.seed) / run.n_neurons})
        for m in kept_numbers(run.n_neurons):
            top = run.dim**rate / m**0.5
            ends = {"magnitude_low": 0.8 * top, "magnitude": top, "magnitude_high": 1.2 * top}
            rows.append({**place, "dropped": "all hidden layers", "n_kept": m, "quantile": 0.9, **ends})
    return pd.DataFrame(rows), pd.DataFrame(summary)


@pytest.mark.parametrize(
    ("setting", "rate", "refuted"),
    [
        ("two-layer", 0.0, False),
        ("two-layer", 0.5, True),
        ("three-layer", 0.0, False),
        ("three-layer", 0.4, False),
        ("three-layer", 1.0, True),
        ("three-layer, internal", 1.0, True),
    ],
)
def test_a_form_fitted_in_the_smallest_dimension_is_refuted_by_faster_growth_with_it(setting, rate, refuted):
    runs = networks(setting)
    held = held_form(runs, made_up_quantiles(runs, rate)[0])
    assert held.place.startswith("d = 8, N = 512, A_min = ")
    assert len(held.checked) == sum(len(kept_numbers(run.n_neurons)) for run in runs) - 3 * len(kept_numbers(512))
    failing = held.checked.groupby("dim")["fails"].any()
    assert failing[256] == refuted
    assert not failing[8]
    words = dimension_report._on_form(held)
    assert words.startswith("FAILS at" if refuted else "not refuted by")
    assert "(8), " in words


def test_the_form_is_that_of_the_theorem_with_its_own_dimension():
    z = math.sqrt(math.log(10))
    for setting in SETTINGS:
        runs = networks(setting, dimensions=[8, 32])
        held = held_form(runs, made_up_quantiles(runs, 0.0)[0])
        row = held.checked.query("dim == 32 and n_neurons == 128 and n_kept == 16").iloc[0]
        d = 34 if setting == "two-layer" else 33
        first = math.sqrt(math.log(16)) if setting == "two-layer" else math.sqrt(d)
        noise = math.sqrt(2.0**-5 / 32) * (math.sqrt(d + math.log(128)) + z)
        assert row["bound"] == pytest.approx(held.constant * ((first + z) / 4 + noise), rel=1e-12)


def test_the_distance_to_the_widest_is_the_mean_over_seeds_with_its_interval():
    runs = networks("three-layer", dimensions=[8, 32])
    gaps = discrepancies(runs, made_up_quantiles(runs, 0.0)[1])
    assert gaps[["dim", "n_neurons"]].to_numpy().tolist() == [[8, 32], [8, 128], [32, 32], [32, 128]]
    assert gaps["n_parameters"].tolist() == [9, 9, 33, 33]
    each = np.array([1.0, 1.01, 1.02]) * (1 / 32 - 1 / 512)
    half = 2.919986 * each.std(ddof=1) / 3**0.5
    first = gaps.iloc[0]
    assert first["gap"] == pytest.approx(each.mean(), rel=1e-9)
    assert (first["gap_low"], first["gap_high"]) == pytest.approx((each.mean() - half, each.mean() + half), rel=1e-6)
    assert (gaps["n_reference"] == 512).all()


@pytest.mark.parametrize(("rate", "refuted"), [(0.0, False), (1.0, True)])
def test_the_distance_is_refuted_by_faster_growth_with_the_dimension(rate, refuted):
    runs = networks("three-layer")
    held = held_discrepancy(discrepancies(runs, made_up_quantiles(runs, rate)[1]))
    assert held.place == "d = 8, N = 32"
    assert held.checked.groupby("dim")["fails"].any()[256] == refuted
    assert len(held.checked) == 2 * 6 - 1


def test_what_cannot_be_held_says_why():
    runs = networks("three-layer", dimensions=[8])
    curve, summary = made_up_quantiles(runs, 0.0)
    widest = curve["n_neurons"] == 512
    with pytest.raises(
        ValueError, match="a single dimension and width, where the prefactor was fitted: add a dimension"
    ):
        held_form([run for run in runs if run.n_neurons == 512], curve[widest])
    with pytest.raises(ValueError, match="a single width: a wider one must stand for the limit"):
        held_discrepancy(discrepancies(runs, summary[summary["n_neurons"] == 512]))
    with pytest.raises(ValueError, match="an interval over seeds needs at least 2 seeds"):
        held_discrepancy(discrepancies(runs, summary[summary["seed"] == 0]))


# --- the report -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_study(tmp_path_factory):
    store, runs = Store(tmp_path_factory.mktemp("dimension")), grid(**SMALL)
    run_all(one_run, runs, store, root_seed=0, n_workers=1)
    return store, STUDY.report(store, runs)


def test_the_verdict_speaks_of_every_setting_and_of_what_it_cannot_say(small_study):
    _, report = small_study
    words = "\n".join(report.words)
    for expected in (
        "isotropic Gaussians, relu with biases, N = 64",
        "two layers of weights, all trained",
        "three layers of weights, the internal one trained",
        "does depth cost neurons? three-layer over two-layer, needed for the same relative change:",
        "does depth cost neurons? three-layer, internal over two-layer",
        "would refute neither",
        "form of Theorem 1 on |L_A - L|: ",
        "form of Theorem 5.4 of Araújo, Oliveira & Yukimura on |L_N - L_64|: ",
        "this could refute the term sqrt(d/N), but none in alpha",
    ):
        assert expected in words
    assert words.count("needed in hidden layer 2: ") == 2
    assert words.count("form of Theorem 2 on |L_A - L|: ") == 2
    assert words.count("largest ratio to it (d): ") == 3 + 2


def test_tables_and_figures(small_study):
    _, report = small_study
    assert set(report.figures) == {"needed-against-dimension", "change-against-kept"}
    assert len(report.tables["needed"]) == 3 * 2 * (1 + 3 + 3)
    assert report.table["d"].tolist() == [2, 8, 32]
    assert len(report.tables["discrepancy"]) == 2 * (3 - 1)
    assert set(report.tables["theorem"]["setting"]) == set(SETTINGS)
    assert "risk, three-layer, internal" in report.table.columns


def test_a_finished_study_is_not_run_again(small_study):
    store, _ = small_study
    again = run_all(one_run, grid(**SMALL), store, root_seed=0, n_workers=1)
    assert (again.n_finished_before, again.n_finished_now) == (36, 0)


def test_diverged_networks_are_named_and_left_out(small_study):
    (store, _), runs = small_study, grid(**SMALL)
    frames = store.read(runs[0])
    frames["summary"]["status"] = "diverged: at step 3"
    lost = replace(runs[0], seed=5)
    store.write(lost, frames, root_seed=0)
    report = STUDY.report(store, [*runs, lost])
    assert report.words[-1] == "two-layer, d = 2, N = 16, seed 5: diverged: at step 3"
    assert set(report.tables["needed"]["seed"]) == {0, 1}
    assert STUDY.report(store, [lost]).table.empty
