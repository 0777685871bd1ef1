"""What the dropout study says: tables, figures and the verdict in words, from its records alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from meanfield.plots import dropout as plots
from meanfield.studies.dropout import DropoutRun, cost, one_run, setting_of
from meanfield.studies.report import Report, Study, plus_minus
from meanfield.studies.store import Store
from meanfield.theory.scaling import TOST_LEVEL, ExponentFit, fit_exponent, rejects, settled_from

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["STUDY", "report"]

BOUNDED_ACTIVATIONS = ("truncated-relu", "tanh", "erf", "sigmoid")
IDENTITY = (
    "The mean loss change over all subsets is c_N (N - m)/(m (N - 1)) on any network: an identity, not evidence. "
    "What is tested is that c_N settles as N grows, while the control's does not."
)


def report(store: Store, runs: Sequence[DropoutRun]) -> Report:
    """Read the finished ``runs`` back and conclude; diverged ones are named and left out."""
    status = dict(zip(runs, store.frames("summary", runs)["status"], strict=True))
    diverged = [f"{_title(run)}: {word}" for run, word in status.items() if word != "finished"]
    finished = [run for run, word in status.items() if word == "finished"]
    judged = {run.data for run in finished if run.scaling == "mean-field"}
    finished = [run for run in finished if run.data in judged]
    if not finished:
        return Report({}, {}, pd.DataFrame(), diverged)
    frames = {name: store.frames(name, finished) for name in ("summary", "curve", "trajectory")}
    table = _table(frames["summary"])
    words = [line for data in frames["summary"]["data"].unique() for line in _verdict(frames, finished, data)]
    return Report({**frames, "widths": table}, _figures(frames), _short(table), [*words, IDENTITY, *diverged])


STUDY = Study("dropout", one_run, cost, report)


def _title(run: DropoutRun) -> str:
    return f"{run.data}, {run.scaling}, N = {run.n_neurons}, seed {run.seed}"


def _table(summary: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds at each width, with the half width of their 90% Student interval (NaN for one seed)."""
    columns = ["risk", "c_n", "half_change", "test_error"]
    groups = summary.groupby(["data", "scaling", "n_neurons"], sort=False)[columns]
    mean, n = groups.mean(), groups.size().to_numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        quantile = np.where(n > 1, stdtrit(np.maximum(n - 1, 1), 0.5 + TOST_LEVEL / 2), np.nan)
    half_width = groups.std().mul(quantile / np.sqrt(n), axis=0)
    joined = mean.join(half_width.add_suffix("_half_width"))
    return joined.assign(n_seeds=n).reset_index()


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
    }
    return pd.DataFrame(columns).reset_index().rename(columns={"n_neurons": "N"})


def _figures(frames: dict[str, pd.DataFrame]) -> dict[str, Figure]:
    summary, mean_field = frames["summary"], frames["summary"].query("scaling == 'mean-field'")
    widest = mean_field[mean_field["n_neurons"] == mean_field.groupby("data")["n_neurons"].transform("max")]
    limits = {str(data): group["c_n"].mean() for data, group in widest.groupby("data")}
    return {
        "change-against-kept": plots.change_against_kept(frames["curve"], limits),
        "change-at-half": plots.change_at_half(summary),
        "neuron-variance": plots.neuron_variance_against_width(summary),
        "over-time": plots.over_time(frames["trajectory"]),
    }


def _verdict(frames: dict[str, pd.DataFrame], runs: Sequence[DropoutRun], data: str) -> Iterator[str]:
    run = next(run for run in runs if run.data == data)
    summary = frames["summary"].query("data == @data")
    yield f"{data}: {run.activation}, step size {run.step_size:g}, time {run.horizon:g}; {_assumptions(run)}"
    yield f"  c_N {_settling(summary[summary['scaling'] == 'mean-field'])}"
    yield f"  control, 1/sqrt(N) scaling: {_control(summary[summary['scaling'] == 'control'])}"
    yield f"  std of the change over subsets: {_std_exponent(frames['curve'].query('data == @data'))}"


def _assumptions(run: DropoutRun) -> str:
    outside = []
    if run.activation not in BOUNDED_ACTIVATIONS:
        outside.append("the activation is not bounded")
    if setting_of(run.data).train_outer:
        outside.append("initial output weights are not bounded")
    if not outside:
        return "within the theorem's assumptions"
    return f"outside the theorem's assumptions ({', '.join(outside)})"


def _settling(summary: pd.DataFrame) -> str:
    try:
        return settled_from(summary["n_neurons"], summary["c_n"], summary["seed"]).describe().replace("x in", "N in")
    except ValueError as error:
        return f"is not judged: {error}"


def _control(summary: pd.DataFrame) -> str:
    try:
        fit = fit_exponent(summary["n_neurons"], summary["c_n"], summary["seed"])
    except ValueError as error:
        return f"not judged: {error}"
    word = "rejected, as it must be" if rejects(fit) else "NOT rejected"
    return f"{word}: c_N has {fit.describe().replace('x in', 'N in')}, expected 1 as N grows"


def _std_exponent(curve: pd.DataFrame) -> str:
    """Fit the standard deviation's exponent in m at the widest network, the finite-population factor removed."""
    known = curve[(curve["scaling"] == "mean-field") & curve["std_change"].notna()]
    n_neurons = known["n_neurons"].max()
    few = known[(known["n_neurons"] == n_neurons) & known["n_kept"].between(4, n_neurons // 4)]
    correction = np.sqrt((n_neurons - few["n_kept"]) / (n_neurons - 1))
    try:
        fit: ExponentFit = fit_exponent(few["n_kept"], few["std_change"] / correction, few["seed"])
    except ValueError as error:
        return f"not judged: {error}"
    return f"{fit.describe().replace('x in', 'm in')} at N = {n_neurons}"
