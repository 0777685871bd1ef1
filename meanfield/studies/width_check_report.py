"""What the width check says: slopes held against the expected ones, figures and the verdict, from its records alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from meanfield.plots.width_check import coordinates_against_width
from meanfield.studies.report import LAYERS, Report, Study, diverged_runs, plus_minus
from meanfield.studies.store import Store
from meanfield.studies.width_check import (
    ACTIVATION,
    BATCH_SIZE,
    DIM,
    LARGE_MEAN,
    SETTINGS,
    SMALL_STD,
    WidthCheckRun,
    cost,
    expected_slope,
    memory,
    one_run,
)
from meanfield.theory.scaling import ExponentFit, equivalence_test, fit_exponent, rejects

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["STUDY", "report", "slopes_against_expected"]

MARGIN = 0.1  # fixed before the values were seen
NAMES = {
    "mean-field": f"mean-field scaling, weights above the first layer N({LARGE_MEAN:g}, {SMALL_STD:g}^2)",
    "zero-mean": "mean-field scaling, zero-mean weights, one step",
    "control": "control, standard scaling at the same step size",
}
WHY_ZERO_MEAN = (
    "    expected are pre-activations of order N^(-l/2) at the start, and layers that wait for others to move: that is "
    "what averages of zero-mean weights give, and no failure of the scaling"
)
LEGEND = (
    f"+- is half the 90% Student interval over seeds; {LAYERS}; in brackets the expected slope, for the control that "
    f"of mean-field scaling, which it lacks; a slope is as expected if its interval lies within +-{MARGIN:g} of that, "
    "not as expected if wholly outside, else undecided."
)


def report(store: Store, runs: Sequence[WidthCheckRun]) -> Report:
    """Read the finished ``runs`` back and conclude; diverged ones are counted and left out."""
    diverged = diverged_runs(store, runs)
    finished = [run for run in runs if run not in diverged]
    lost = [f"{NAMES[run.setting]}, N = {run.n_neurons}, seed {run.seed}: {word}" for run, word in diverged.items()]
    if not finished:
        return Report({}, {}, pd.DataFrame(), lost)
    coordinates = store.frames("coordinates", finished)
    slopes = slopes_against_expected(coordinates)
    figures: dict[str, Figure] = {}
    words: list[str] = []
    for depth in sorted({run.n_hidden for run in runs}):
        words += _verdict(slopes, runs, diverged, depth)
        if (shown := coordinates[coordinates["n_hidden"] == depth]).size:
            here = slopes[slopes["n_hidden"] == depth]
            figures[f"width-check-{depth + 1}-weight-layers"] = coordinates_against_width(shown, here)
    return Report({"coordinates": coordinates, "slopes": slopes}, figures, _short(slopes), [*words, LEGEND, *lost])


STUDY = Study("width-check", one_run, cost, memory, report)


def slopes_against_expected(coordinates: pd.DataFrame) -> pd.DataFrame:
    """Fit the exponent in N of every quantity and weights[l], and hold it against the expected one, seeds as units.

    A slope is "as expected" if its 90% interval lies within +-0.1 of the expected one (two one-sided tests at 5%),
    "not as expected" if wholly outside, else "undecided"; "" where nothing is expected.

    Parameters
    ----------
    coordinates : columns n_hidden, setting, quantity, weights, n_neurons, seed, value

    Returns
    -------
    DataFrame with one row a setting, quantity and weights[l]: n_hidden, setting, quantity, weights, expected, exponent,
    low, high, verdict; the reason in place of a verdict where there is no fit
    """
    keys = ["setting", "n_hidden", "quantity", "weights"]
    rows = []
    for _, group in coordinates.groupby(keys, sort=False):
        place = {str(name): value for name, value in group.iloc[0][keys].items()}
        rows.append({**place, **_held_against(expected_slope(**place), group)})
    numbers = ["expected", "exponent", "low", "high"]
    return pd.DataFrame(rows, columns=[*keys, *numbers, "verdict"]).astype(dict.fromkeys(numbers, float))


def _held_against(expected: float | None, rows: pd.DataFrame) -> dict[str, Any]:
    slope = 0.0 if expected is None else expected
    try:
        fit = fit_exponent(rows["n_neurons"], rows["value"] / rows["n_neurons"] ** slope, rows["seed"], x_name="widths")
    except ValueError as error:
        return {"expected": expected, "verdict": f"not judged: {error}"}
    numbers = {name: slope + getattr(fit, name) for name in ("exponent", "low", "high")}
    return {"expected": expected, **numbers, "verdict": "" if expected is None else _judged(fit)}


def _judged(fit: ExponentFit) -> str:
    """Say where the interval of a slope, less what is expected, lies."""
    if equivalence_test(fit, MARGIN):
        return "as expected"
    return "not as expected" if rejects(fit, MARGIN) else "undecided"


def _short(slopes: pd.DataFrame) -> pd.DataFrame:
    """Return the table to print: a row a quantity, a column a layer of weights, measured and expected slope."""
    names = {"weights": slopes["weights"].map("weights[{}]".format), "weight layers": slopes["n_hidden"] + 1}
    named = slopes.assign(**names, cell=[_cell(row) for row in slopes.to_dict("records")])
    keys = ["setting", "weight layers", "quantity"]
    cells = named.set_index([*keys, "weights"])["cell"].unstack("weights")
    ordered = cells.reindex(pd.MultiIndex.from_frame(named[keys].drop_duplicates()))
    return ordered.fillna("-").rename_axis(columns=None).reset_index()


def _cell(row: dict[Any, Any]) -> str:
    if not np.isfinite(row["exponent"]):
        return "-"
    measured = plus_minus(row["exponent"], (row["high"] - row["low"]) / 2)
    return measured if pd.isna(row["expected"]) else f"{measured} ({row['expected']:zg})"


def _verdict(
    slopes: pd.DataFrame, runs: Sequence[WidthCheckRun], diverged: dict[WidthCheckRun, str], n_hidden: int
) -> Iterator[str]:
    run = max((run for run in runs if run.n_hidden == n_hidden), key=lambda run: run.n_steps)
    steps = f"{run.n_steps} steps of {BATCH_SIZE} samples at step size {run.step_size:g}"
    yield f"{n_hidden + 1} layers of weights, d = {DIM}, {ACTIVATION}, square loss, all trained: {steps}"
    for setting in SETTINGS:
        here = [one for one in runs if (one.n_hidden, one.setting) == (n_hidden, setting)]
        rows = slopes[(slopes["n_hidden"] == n_hidden) & (slopes["setting"] == setting) & slopes["expected"].notna()]
        n_lost = sum(one in diverged for one in here)
        judge = _of_control if setting == "control" else _of_scaling
        yield f"  {NAMES[setting]}: {judge(rows, n_lost, len(here))}"
        if setting == "zero-mean":
            yield WHY_ZERO_MEAN


def _of_scaling(rows: pd.DataFrame, n_lost: int, n_runs: int) -> str:
    if n_lost:
        return f"FAILS: {n_lost} of {n_runs} networks diverged"
    others = rows[rows["verdict"] != "as expected"]
    if others.empty:
        return f"passes: all {len(rows)} slopes within +-{MARGIN:g} of the expected ones"
    word = "FAILS" if (others["verdict"] == "not as expected").any() else "not shown to pass"
    return f"{word}: {_listed(others)}"


def _of_control(rows: pd.DataFrame, n_lost: int, n_runs: int) -> str:
    if n_lost:
        return f"fails, as it must: {n_lost} of {n_runs} networks diverged"
    wrong = rows[rows["verdict"] == "not as expected"]
    if rows["exponent"].isna().all():
        return f"NOT shown to fail: {_listed(rows)}"
    if wrong.empty:
        return "NOT shown to fail: the check has no power here, take more seeds, a larger step size or wider networks"
    worst = wrong.loc[[(wrong["exponent"] - wrong["expected"]).abs().idxmax()]]
    return f"fails, as it must: {len(wrong)} of {len(rows)} slopes are not as expected, most of all {_listed(worst)}"


def _listed(rows: pd.DataFrame) -> str:
    judged = rows["exponent"].notna()
    reasons = rows.loc[~judged, "verdict"].unique()
    return "; ".join([*map(_in_words, rows[judged].to_dict("records")), *reasons])


def _in_words(row: dict[Any, Any]) -> str:
    interval = f"{row['low']:z.2f}..{row['high']:z.2f}"
    slope = f"slope {row['exponent']:z.2f} ({interval}), {row['verdict']} ({row['expected']:zg})"
    return f"{row['quantity']} at weights[{row['weights']}] has {slope}"
