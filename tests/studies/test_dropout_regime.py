"""The study of the theorem's regime from its grid to its verdict, at small scale."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq

from meanfield import IsotropicGaussians
from meanfield.landscape.dropout import dropout_curve
from meanfield.studies.dropout_regime import (
    DIMENSIONS,
    STEP_SIZES,
    RegimeRun,
    cost,
    grid,
    initial_network,
    one_run,
    recorded_steps,
)
from meanfield.studies.dropout_regime_report import STUDY, _fate, _where_settled
from meanfield.studies.dropout_regime_tables import (
    Measured,
    changes_by_dimension,
    deviations,
    excesses_over_first,
    exponents_in_width,
    peaks,
)
from meanfield.studies.engine import run_all, run_rng
from meanfield.studies.report import run_study
from meanfield.studies.store import Store
from meanfield.theory.forms import theorem_form

SMALL = {"widths": [4, 16, 64], "n_kept": [4, 16], "n_seeds": 2, "horizon": 0.25, "n_samples": 100}


def _one(**changes: object) -> RegimeRun:
    return replace(grid(**SMALL)[0], **changes)


def test_the_runs_differ_from_the_reference_in_one_thing():
    runs = grid(**SMALL)
    n_variants = 1 + 2 + (len(STEP_SIZES) - 1) + (len(DIMENSIONS) - 1)
    assert len(runs) == len(set(runs)) == 2 * n_variants
    (reference,) = [run for run in runs if run.kept_numbers and run.seed == 0]
    assert (reference.n_neurons, reference.dim, reference.kept_numbers) == (64, 32, (4, 16))
    for run in runs:
        same_noise = run.step_size * run.dim == reference.step_size * reference.dim
        changed = [run.n_neurons != 64, run.dim != 32, run.step_size != reference.step_size and run.dim == 32]
        assert sum(changed) == (not run.kept_numbers)
        assert same_noise or run.dim == 32


def test_sweeps_span_a_factor_of_sixteen_and_have_a_finer_reference():
    finest, *others = sorted(STEP_SIZES)
    assert max(others) >= 16 * min(others)
    assert min(others) >= 8 * finest
    assert max(DIMENSIONS) >= 16 * min(DIMENSIONS)


@pytest.mark.parametrize("horizon", [0.25, 1.0, 7.3, 20.0])
def test_all_runs_are_recorded_at_the_same_times_as_far_as_they_go(horizon):
    runs = grid(**SMALL | {"horizon": horizon})
    reference = np.multiply(recorded_steps(runs[0]), runs[0].step_size)
    assert reference[0] == 0
    assert reference[-1] == runs[0].horizon == pytest.approx(horizon, abs=1 / 32)
    for run in runs:
        times = np.multiply(recorded_steps(run), run.step_size)
        assert recorded_steps(run)[-1] == run.n_steps
        assert np.isin(times, reference).all()
        assert np.isin(run.horizon, times)


def test_the_start_is_within_the_assumptions_and_shared_over_widths():
    wide = initial_network(_one(n_neurons=2000, dim=64), np.random.default_rng(0))
    assert (wide.weights[1] == 1).all()
    assert wide.weights[0].std() == pytest.approx(0.8 / 8, rel=0.02)
    small, large = (initial_network(_one(n_neurons=n), run_rng(0, 0).spawn(3)[0]) for n in (4, 8))
    assert np.array_equal(small.weights[0], large.weights[0][:4])


def test_the_changes_along_the_way_are_those_of_the_dropout_curve():
    run = _one()
    frames = one_run(run, run_rng(0, 0))
    trajectory, gaps = frames["trajectory"], frames["gaps"]
    assert trajectory["time"].tolist() == np.multiply(recorded_steps(run), run.step_size).tolist()
    joined = gaps.merge(trajectory, on="time")
    factor = (64 - joined["n_kept"]) / (joined["n_kept"] * 63)
    assert len(joined) == 2 * len(trajectory)
    assert joined["mean_change"].to_numpy() == pytest.approx((joined["c_n"] * factor).to_numpy(), rel=1e-12)
    for_weights, _, for_evaluation = run_rng(0, 0).spawn(3)
    start = initial_network(run, for_weights)
    options = {"n_samples": run.n_samples, "rng": int(for_evaluation.integers(2**62))}
    curve = dropout_curve(start, IsotropicGaussians(32, 0.8), [4, 16], **options)
    assert gaps.loc[gaps["time"] == 0, "std_change"].tolist() == curve["std_change"].tolist()
    assert frames["summary"]["c_n"].item() == trajectory["c_n"].iloc[-1]


def test_only_the_first_layer_is_trained_and_only_the_reference_keeps_its_changes():
    frames = one_run(_one(kept_numbers=()), run_rng(0, 0))
    assert frames["gaps"].empty
    assert frames["summary"]["status"].item() == "finished"
    assert frames["trajectory"]["c_n"].nunique() > 1


def test_a_shorter_run_is_the_beginning_of_a_longer_one():
    long, short = (one_run(_one(horizon=horizon), run_rng(0, 1))["trajectory"] for horizon in (0.25, 0.0625))
    both = short.merge(long, on="time", suffixes=("", "_long"))
    assert len(both) >= 3
    assert (both["c_n"] == both["c_n_long"]).all()


def _frames(**columns: object) -> tuple[RegimeRun, pd.DataFrame, pd.DataFrame]:
    """Two seeds of every sweep at times 0, T/4 and T with c_N = 10 d^0.3 (1 + alpha d) and L = 2 - t/T."""
    runs = [run for run in grid(**SMALL) if run.seed < 2]
    rows = []
    for run in runs:
        c_n = 10 * run.dim**0.3 * (1 + run.step_size * run.dim)
        values = {"n_neurons": run.n_neurons, "dim": run.dim, "step_size": run.step_size, "seed": run.seed, "c_n": c_n}
        times = [time for time in (0.0, 0.0625, 0.25) if time <= run.horizon]
        rows += [{**values, "time": time, "risk": 2 - 4 * time} for time in times]
    gaps = pd.DataFrame(
        [
            {"seed": seed, "time": time, "n_kept": 4, "mean_change": change, "std_change": 0.5}
            for seed in (0, 1)
            for time, change in ((0.0, 1.0), (0.0625, 3.0), (0.25, 2.0))
        ]
    )
    return runs[0], gaps, pd.DataFrame(rows)


def test_the_tables_hold_what_the_frames_imply():
    measured = Measured.from_frames(*_frames())
    largest = peaks(measured.gaps)
    assert (largest["time"] == 0.0625).all()
    assert set(largest["ratio"]) == {3 / 2, 3.5 / 2.5}
    changes = changes_by_dimension(measured)
    ends = changes[changes["time"] == 0.0625]
    assert ends["dim"].tolist() == 2 * list(DIMENSIONS)
    assert (ends["gained"] == 0.25).all()
    factor = (64 - 16) / (16 * 63)
    assert ends["gap"].to_numpy() == pytest.approx(factor * 10 * ends["dim"].to_numpy() ** 0.3 * (1 + 1 / 32))
    table = deviations(measured.step_sizes)
    finest = STEP_SIZES[0] * 32
    expected = (1 + table["alpha_d"]) / (1 + finest) - 1
    assert table["gap"].to_numpy() == pytest.approx(expected.to_numpy())
    assert table["risk"].to_numpy() == pytest.approx(np.zeros(len(table)))
    exponents = exponents_in_width(measured)
    assert exponents["exponent"].to_numpy() == pytest.approx(np.zeros(len(exponents)), abs=1e-12)
    assert (exponents["settled_from"] == 4).all()


@pytest.fixture(scope="module")
def small_store(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("regime"))
    run_all(STUDY.one_run, grid(**SMALL), store, root_seed=0, n_workers=1, progress=False)
    return store


def test_the_verdict_says_what_was_measured_and_what_it_cannot_say(small_store):
    result = STUDY.report(small_store, grid(**SMALL))
    words = "\n".join(result.words)
    for expected in (
        "within the theorem's assumptions",
        "90% interval",
        "is not refuted by a gap that grows more slowly",
        "sqrt(smallest alpha) over this range",
        "does not prove one",
    ):
        assert expected in words
    assert "not judged" not in words
    assert re.search(r"c_N (not shown|from N = \d+) at T = ", words)
    assert re.search(r"with the first K it (holds at all|fails at|is not decided at) \d+", words)
    tables = {"summary", "trajectory", "gaps", "peaks", "horizons", "step_sizes", "dimensions"}
    assert set(result.tables) == tables
    assert len(result.figures) == 5
    assert result.tables["dimensions"]["gap"].gt(0).all()
    assert {"T", "c_N", "change at m = 16", "c_N settled from N"} <= set(result.table.columns)


def test_a_single_seed_is_drawn_but_not_judged(small_store):
    result = STUDY.report(small_store, grid(**SMALL | {"n_seeds": 1}))
    words = "\n".join(result.words)
    assert "needs at least 2 seeds" in words
    assert re.search(r"c_N not judged at T = [\d.]+\.\.", words)
    assert "90% interval " not in words
    assert "it is not judged at longer horizons: an interval needs at least 2 seeds" in words
    assert "exponent-against-horizon" not in result.figures
    assert "change-over-time" in result.figures


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("nynnyynn", "not shown at T = 0.5, 1..1.41, 4..5.66; from N = 16 at T = 0.703, 2..2.8"),
        ("yyyyyyyy", "from N = 16 at T = 0.5..5.66"),
        ("jynnnnnj", "not judged at T = 0.5, 5.66; from N = 16 at T = 0.703; not shown at T = 1..4"),
        ("nzyyyyyy", "not shown at T = 0.5; from N = 64 at T = 0.703; from N = 16 at T = 1..5.66"),
    ],
)
def test_every_measured_time_is_in_the_runs_of_its_own_width_alone(words, expected):
    named = {"n": "not shown", "y": "16", "z": "64", "j": "not judged"}
    times = [0.5, 0.703, 1.0, 1.41, 2.0, 2.8, 4.0, 5.66]
    widths = pd.Series([named[word] for word in words], index=times)
    assert _where_settled(widths) == _where_settled(widths[::-1]) == expected


FATES = {
    "holds at all 3 longer horizons": [(-3.0, -2.9), (-3.0, -3.1), (-4.0, -3.9)],
    "fails at 1 of 3 longer horizons (T = 2)": [(-3.0, -2.9), (1.0, 1.1), (-4.0, -3.9)],
    "fails at 2 of 3 longer horizons (T = 1, 4), is not decided at 1 of 3 longer horizons (T = 2)": [
        (1.0, 1.1),
        (-1.0, 2.0),
        (3.0, 3.1),
    ],
}


@pytest.mark.parametrize("expected", FATES)
def test_the_constant_of_the_shortest_horizon_fails_where_the_interval_over_seeds_says_so(expected):
    pairs = zip((1.0, 2.0, 4.0), FATES[expected], strict=True)
    rows = [{"seed": s, "time": time, "excess": both[s]} for time, both in pairs for s in (0, 1)]
    # Two seeds that differ by 0.1 have an interval of +-0.32.
    assert _fate(pd.DataFrame(rows)) == expected


def test_the_excess_compares_each_seed_with_its_own_shortest_horizon():
    reference, gaps, trajectory = _frames()
    late = gaps.assign(mean_change=gaps["mean_change"] * (1 + 5 * gaps["seed"]), std_change=0.0)
    table = excesses_over_first(Measured.from_frames(reference, late, trajectory))
    assert table["time"].tolist() == [0.25, 0.25]
    for seed, excess in zip((0, 1), table["excess"], strict=True):
        form = theorem_form(4, 64, step_size=reference.step_size, n_parameters=32)
        at_first, at_last = (change * (1 + 5 * seed) / form for change in (3.0, 2.0))
        constant = brentq(lambda k: k * np.exp(k * 0.0625**3) - at_first, 0, 2 * at_first)  # noqa: B023
        assert 10**excess == pytest.approx(at_last / (constant * np.exp(constant * 0.25**3)), rel=1e-9)


def test_without_its_reference_an_unfinished_study_says_so(tmp_path):
    others = [run for run in grid(**SMALL) if not run.kept_numbers and run.n_neurons == 4]
    result = run_study(STUDY, others, tmp_path, n_workers=1)
    assert result.report.words == ["no reference network is finished yet"]
    assert not result.report.figures


@pytest.mark.long
def test_within_the_assumptions_the_change_is_flat_in_dimension_and_far_below_the_bound(tmp_path):
    runs = grid(widths=[16, 256], n_kept=[16, 64], n_seeds=4, horizon=8.0)
    words = "\n".join(run_study(STUDY, runs, tmp_path).report.words)
    assert re.search(r"it holds at all \d+ longer horizons", words)
    absolute = [line for line in words.splitlines() if "mean change as it is, T" in line]
    assert len(absolute) == 2
    assert all(line.endswith("inside +-0.1") for line in absolute)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"widths": []}, ValueError, "widths and kept must each hold at least one number"),
        ({"n_kept": []}, ValueError, "widths and kept must each hold at least one number"),
        ({"widths": [1]}, ValueError, "widths must be at least 2, got 1"),
        ({"n_kept": [64]}, ValueError, "kept must be in 1..63, got 64"),
        ({"n_kept": [2.5]}, TypeError, "kept must be an integer"),
        ({"n_seeds": 0}, ValueError, "seeds must be at least 1, got 0"),
        ({"horizon": -1.0}, ValueError, "horizon must be positive"),
        ({"horizon": 0.1}, ValueError, "horizon must be at least 0.25, four units of 0.0625, got 0.1"),
        ({"n_samples": 5}, ValueError, "samples must be at least 100, got 5"),
    ],
)
def test_bad_options_are_refused_before_any_work(change, error, message):
    with pytest.raises(error, match=message):
        grid(**SMALL | change)


def test_cost_grows_with_width_dimension_and_steps():
    reference, longer = _one(), _one(kept_numbers=())
    assert cost(reference) > cost(longer) > cost(_one(kept_numbers=(), n_neurons=16)) > 0
    assert cost(_one(dim=128)) > cost(reference)
    assert cost(_one(step_size=STEP_SIZES[0])) > cost(reference)
