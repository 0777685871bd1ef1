"""What the dropout study says: tables, figures and the verdict in words, from its records alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from meanfield.model.datasets import TABLE_TYPES, find_data
from meanfield.plots import dropout as plots
from meanfield.studies.dropout import SCALINGS, DropoutRun, cost, memory, one_run, unmet_assumptions
from meanfield.studies.report import Report, Study, diverged_runs, exponent_in_words, plus_minus
from meanfield.studies.store import Store
from meanfield.theory.scaling import ExponentFit, fit_exponent, rejects, settled_from
from meanfield.theory.seeds import interval_over_seeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["STUDY", "report"]

IDENTITY = (
    "The mean loss change over all subsets is c_N (N - m)/(m (N - 1)) on any network: an identity, not evidence. "
    "What is tested is that c_N settles as N grows, while the control's does not."
)


LEGEND = (
    "+- is half the 90% Student interval over seeds; risk and c_N of data sets are on rows of the training split. "
    "That c_N is one number for all N says nothing of its change in time: see the figure over-time."
)


# Orders in m of the terms of Var_A(L_A): see meanfield.landscape.dropout_moments.
STD_ORDERS = (
    "-1/2 where the part linear in the subset leads; of the quadratic part, -1 where its pairs of neurons do and -3/2 "
    "where its single neurons do, both steeper once m is not small beside N"
)


def report(store: Store, runs: Sequence[DropoutRun]) -> Report:
    """Read the finished ``runs`` back and conclude; diverged ones are named and left out."""
    diverged = diverged_runs(store, runs)
    finished = [run for run in runs if run not in diverged]
    judged = {run.data for run in finished if run.scaling == "mean-field"}
    finished = [run for run in finished if run.data in judged]
    named = [f"{_title(run)}: {word}" for run, word in diverged.items()]
    if not finished:
        return Report({}, {}, pd.DataFrame(), named)
    frames = {name: store.frames(name, finished) for name in ("summary", "curve", "trajectory")}
    table = _table(frames["summary"])
    lost = Counter((run.data, run.scaling) for run in diverged)
    words = [line for data in frames["summary"]["data"].unique() for line in _verdict(frames, finished, lost, data)]
    return Report({**frames, "widths": table}, _figures(frames), _short(table), [*words, LEGEND, IDENTITY, *named])


STUDY = Study("dropout", one_run, cost, memory, report)


def _title(run: DropoutRun) -> str:
    return f"{run.data}, {run.scaling}, N = {run.n_neurons}, seed {run.seed}"


def _table(summary: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds at each width, with the half width of their 90% Student interval (NaN for one seed)."""
    columns = ["risk", "c_n", "half_change", "test_error"]
    groups = summary.groupby(["data", "scaling", "n_neurons"], sort=False)[columns]
    joined = groups.mean().join(groups.agg(interval_over_seeds).add_suffix("_half_width"))
    return joined.assign(n_seeds=groups.size()).reset_index()


def _short(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table to print: a row a width, mean +- half width, the control's c_N beside."""

    def column(name: str, scaling: str = "mean-field") -> pd.Series:
        rows = table[table["scaling"] == scaling].set_index(["data", "n_neurons"])
        pairs = zip(rows[name], rows[f"{name}_half_width"], strict=True)
        return pd.Series([plus_minus(mean, half) for mean, half in pairs], index=rows.index, dtype=object)

    columns = {
        "risk": column("risk"),
        "test error": column("test_error"),
        "change at m = N/2": column("half_change"),
        "c_N": column("c_n"),
        "c_N, control": column("c_n", "control"),
        "risk, control": column("risk", "control"),
    }
    short = pd.DataFrame(columns).reset_index().rename(columns={"n_neurons": "N"})
    return short.assign(data=short["data"].map(_short_name)).replace("nan", "-")


def _figures(frames: dict[str, pd.DataFrame]) -> dict[str, Figure]:
    summary, mean_field = frames["summary"], frames["summary"].query("scaling == 'mean-field'")
    widest = mean_field[mean_field["n_neurons"] == mean_field.groupby("data")["n_neurons"].transform("max")]
    limits = {str(data): group["c_n"].mean() for data, group in widest.groupby("data")}
    titles = {str(data): _short_name(data).replace("$", r"\$") for data in summary["data"].unique()}
    return {
        "change-against-kept": plots.change_against_kept(frames["curve"], limits, titles=titles),
        "change-at-half": plots.change_at_half(summary, titles=titles),
        "neuron-variance": plots.neuron_variance_against_width(summary, titles=titles),
        "over-time": plots.over_time(frames["trajectory"], titles=titles),
    }


def _verdict(
    frames: dict[str, pd.DataFrame], runs: Sequence[DropoutRun], lost: Counter[tuple[str, str]], data: str
) -> Iterator[str]:
    run = next(run for run in runs if run.data == data)
    summary, curve = frames["summary"].query("data == @data"), frames["curve"].query("data == @data")
    mean_field, control = (summary[summary["scaling"] == scaling] for scaling in SCALINGS)
    in_words = f"{run.activation}, step size {run.step_size:g}, time {run.horizon:g} ({run.n_steps} samples)"
    yield f"{_short_name(data)}: {in_words}; {_assumptions(run)}"
    if lost[data, "mean-field"]:
        yield f"  c_N is not judged: {lost[data, 'mean-field']} networks diverged, see below"
    else:
        yield f"  c_N {_settling(mean_field)}"
        yield f"  std of the change over subsets: {_std_exponent(curve)}"
    if lost[data, "control"]:
        yield f"  control is not judged: {lost[data, 'control']} networks diverged, see below"
    else:
        yield f"  control, 1/sqrt(N) scaling: {_control(control)}"
    if _holds_labels(run):
        yield "  the targets are whole numbers, learnt as such: --target one-hot takes them as classes"


def _short_name(data: str) -> str:
    return Path(data).name


def _holds_labels(run: DropoutRun) -> bool:
    """Whether a user's file, taken as it is, looks as if it held class labels."""
    if Path(run.data).suffix.lower() not in TABLE_TYPES or run.target is not None:
        return False
    y = find_data(run.data).y
    return y.shape[1] == 1 and 2 < np.unique(y).size <= 20 and bool((y == np.rint(y)).all())


def _assumptions(run: DropoutRun) -> str:
    unmet = unmet_assumptions(run)
    if not unmet:
        return "within the theorem's assumptions"
    return f"outside the theorem's assumptions ({', '.join(unmet)})"


def _settling(summary: pd.DataFrame) -> str:
    """State the average slope that was tested, what it allows, and how far c_N is from its last value."""
    try:
        verdict = settled_from(summary["n_neurons"], summary["c_n"], summary["seed"])
    except ValueError as error:
        return f"is not judged: {error}"
    means = summary.groupby("n_neurons")["c_n"].mean()
    first, last = int(verdict.fit.x_min), means.index[-1]
    ratio = f"c_{first}/c_{last} = {means[first] / means[last]:.2f}"
    return f"{verdict.describe().replace('x in', 'N in')}; the slope is an average over this range, where {ratio}"


def _control(summary: pd.DataFrame) -> str:
    return exponent_in_words(summary, "n_neurons", "c_n", "N", _growth)


def _growth(fit: ExponentFit) -> str:
    grown = f"c_N has {fit.describe()}, expected 1 as N grows, as before training"
    if rejects(fit):
        return f"rejected, as it must be: {grown}: this shows the power of the test"
    return f"NOT rejected: {grown}: no power of the test is shown, add wider networks or replicas"


def _std_exponent(curve: pd.DataFrame) -> str:
    """Fit the standard deviation's exponent in m at the widest network, the finite-population factor removed."""
    known = curve[(curve["scaling"] == "mean-field") & curve["std_change"].notna()]
    n_neurons = known["n_neurons"].max()
    few = known[(known["n_neurons"] == n_neurons) & known["n_kept"].between(4, n_neurons // 4)]
    if few["n_kept"].nunique() < 2:
        return "not judged: a slope needs at least 2 kept numbers m in 4..N/4: add a width of at least 32"
    correction = np.sqrt((n_neurons - few["n_kept"]) / (n_neurons - 1))
    try:
        fit: ExponentFit = fit_exponent(few["n_kept"], few["std_change"] / correction, few["seed"])
    except ValueError as error:
        return f"not judged: {error}"
    last = few[few["n_kept"].isin(np.sort(few["n_kept"].unique())[-2:])]
    local = fit_exponent(last["n_kept"], (last["std_change"] / correction[last.index]), last["seed"]).exponent
    return (
        f"{fit.describe().replace('x in', 'm in')} at N = {n_neurons}, an average: {local:.2f} between the last two m "
        f"({STD_ORDERS})"
    )
