"""What the connectivity study says: tables, figures and the verdict in words, from its records alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from meanfield.landscape.curves import QuadraticBezier
from meanfield.plots import connectivity as plots
from meanfield.plots.planes import loss_on_plane
from meanfield.studies.connectivity import ConnectivityRun, cost, memory, one_run
from meanfield.studies.connectivity_tables import (
    FIT_FACTOR,
    costs,
    exponent_of,
    exponents_in_width,
    form_exponent,
    form_terms,
    ladder_slopes,
    means,
)
from meanfield.studies.connectivity_ways import CERTIFIED, N_CANDIDATES, UNTRAINED, WAYS
from meanfield.studies.report import Report, Study, plus_minus
from meanfield.studies.store import Store
from meanfield.theory.seeds import mean_over_seeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["STUDY", "report"]

MARGIN = 0.1  # of `settled_from`, fixed before the values were seen
LEGEND = (
    "barrier: maximum along the way less the larger end; 90% Student intervals over pairs. The rows measured on "
    "are the population: on dropout paths the maximum over the path is that over its vertices, exactly; on lines and "
    "curves it is the highest value found, a lower bound."
)
WITHOUT_BEND = "training the bend diverged at every step size: what is called its Bezier curve is the straight line"
WITHOUT_PLANE = "both ends and the bend are on one line, as of neurons without a gradient: no plane is drawn"
# With one hidden layer (Theorem 1) and with more (Theorem 2).
FORMS = {
    1: "K (sqrt(log N)/sqrt(N) + sqrt(alpha (D + log N)))",
    2: "K (sqrt(d)/sqrt(N) + sqrt(alpha (d + log N)))",
}
ABOUT_THE_BOUND = (
    "A bound from above with unknown K is not refuted by a barrier that falls faster, or that lies below other ways. "
    "Nor does one that falls more slowly over this range refute it: its second term does not fall with N."
)
# By direction.
ON_CONTROL = {
    "falls": "FALLS, as it must not",
    "GROWS": "does not fall, as it must not",
    "is flat": "does not fall, as it must not",
    "is not shown to fall": "not shown not to fall",
}
AVERAGING = (
    "It falls between untrained ends too, and not in the control: that neurons average is enough for it to fall, no "
    "minimum that SGD found is needed. What training adds is that the ends are worth connecting."
)
COST = (
    "cost at the largest width: networks evaluated on the training rows along the way, gradients of samples, "
    "assignment problems, and seconds, which alone hold the searches for halves"
)
NO_CAUSE_FOUND = (
    "Whether averaging over neurons is enough for it to fall is not shown: that takes a barrier that falls between "
    "trained and untrained ends, and a control whose barrier is shown not to."
)


def report(store: Store, runs: Sequence[ConnectivityRun]) -> Report:
    """Read the finished ``runs`` back and conclude; pairs of which one diverged are named and left out."""
    status = dict(zip(runs, store.frames("summary", runs)["status"], strict=True))
    named = [f"{_title(run)}: {word}" for run, word in status.items() if word != "finished"]
    finished = [run for run, word in status.items() if word == "finished"]
    mean_field = [run for run in finished if run.scaling == "mean-field"]
    if not mean_field:
        return Report({}, {}, pd.DataFrame(), ["no pair in mean-field scaling is finished yet", *named])
    frames = {name: store.frames(name, finished) for name in ("summary", "barriers", "cost")}
    frames["profile"] = store.frames("profile", mean_field)
    tables = {
        "means": means(frames["barriers"]),
        "exponents": exponents_in_width(frames["barriers"]),
        "costs": costs(frames["cost"]),
    }
    if mean_field[0].n_hidden == 1:
        frames["ladder"] = store.frames("ladder", mean_field)
        tables["slopes"] = ladder_slopes(frames["ladder"])
    straight = [run for run in mean_field if not _has_bend(store, run)]
    named += [f"{_title(run)}: {WITHOUT_BEND}" for run in straight]
    bent = [run for run in mean_field if run.plane_points and run not in straight]
    on_plane = [run for run in bent if "plane" in store.read(run)]
    named += [f"{_title(run)}: {WITHOUT_PLANE}" for run in bent if run not in on_plane]
    planes = {name: store.frames(name, on_plane[:1]) for name in ("plane", "projection") if on_plane}
    words = [*_verdict(mean_field[0], frames, tables), LEGEND, *named]
    figures = _figures(mean_field[0].n_hidden, frames, tables, planes)
    return Report({**frames, **planes, **tables}, figures, _short(frames), words)


STUDY = Study("connectivity", one_run, cost, memory, report)


def _has_bend(store: Store, run: ConnectivityRun) -> bool:
    """Return whether training the Bezier curve of a pair succeeded at one of the step sizes."""
    cost_of = store.frames("cost", [run]).set_index("way")
    return bool(cost_of.loc["bezier", "curve"] == QuadraticBezier.__name__)


def _title(run: ConnectivityRun) -> str:
    return f"{run.data}, {run.scaling}, N = {run.n_neurons}, pair {run.seed}"


def _figures(
    n_hidden: int, frames: dict[str, pd.DataFrame], tables: dict[str, pd.DataFrame], planes: dict[str, pd.DataFrame]
) -> dict[str, Figure]:
    profile = frames["profile"]
    exponents = tables["exponents"]
    drawn = {
        "barrier-against-width": plots.barrier_against_width(
            frames["barriers"], exponents[exponents["measure"] == "barrier"], n_hidden=n_hidden
        ),
        "loss-along-ways": plots.loss_along_ways(profile[profile["seed"] == profile["seed"].min()]),
    }
    if "ladder" in frames:
        drawn["better-halves"] = plots.better_halves(frames["ladder"], tables["slopes"])
    if planes:
        drawn["loss-on-plane"] = loss_on_plane(planes["plane"], planes["projection"])
    return drawn


# Headings of the printed table.
SHORT = {
    "dropout": "same half",
    "greedy": "greedy",
    "line": "line",
    "aligned": "aligned",
    "bezier": "Bezier",
}


def _short(frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the table to print: a row a width, what the ends are worth, the barrier on the training rows by way."""
    train = frames["barriers"][frames["barriers"]["split"] == "train"]
    by_way = dict(tuple(train[train["scaling"] == "mean-field"].groupby("way")))
    ends = frames["summary"][frames["summary"]["scaling"] == "mean-field"]
    columns = {"risk": _column(ends, "risk"), "test error": _column(ends, "test_error")}
    columns |= {heading: _column(by_way[way], "barrier") for way, heading in SHORT.items()}
    columns["control"] = _column(train[(train["scaling"] == "control") & (train["way"] == "dropout")], "barrier")
    return pd.DataFrame(columns).rename_axis("N").reset_index()


def _column(rows: pd.DataFrame, name: str) -> pd.Series:
    table = mean_over_seeds(rows, "n_neurons", name).set_index("n_neurons")
    words = [plus_minus(mean, half) for mean, half in zip(table["mean"], table["half_width"], strict=True)]
    return pd.Series(words, index=table.index, dtype=object)


def _verdict(run: ConnectivityRun, frames: dict[str, pd.DataFrame], tables: dict[str, pd.DataFrame]) -> Iterator[str]:
    exponents = tables["exponents"]
    yield (
        f"{run.data}: {run.n_hidden} hidden layer{'s' * (run.n_hidden > 1)}, {run.activation}, step size "
        f"{run.step_size:g}, time {run.horizon:g} ({run.n_steps} samples an end); pairs differ in their seeds alone"
    )
    yield f"does the barrier fall with N? exponents on training rows; flat: inside +-{MARGIN:g}"
    for way in WAYS:
        yield f"  {plots.WAY_NAMES[way]} ({_certainty(way)}): {_on_exponent(_row(exponents, way))}"
    if run.n_hidden > 1:
        yield f"  greedy halves: below the last hidden layer each step tries {N_CANDIDATES} neurons drawn of those left"
    yield f"the dropout path that keeps the same half of both ends, {4 * run.n_hidden + 3} segments"
    yield from _on_path(run, frames, exponents)
    yield f"  control, 1/sqrt(N) scaling: {_on_control(_row(exponents, 'dropout', scaling='control'))}"
    yield f"  {_on_cause(exponents)}"
    yield f"beside the form of the theorem, {FORMS[min(run.n_hidden, 2)]} at z = 0"
    yield from _on_form(run, frames, _row(exponents, "dropout"))
    if "ladder" in frames:
        yield f"a better half is a lower barrier: N at m = N/2, m at N = {frames['ladder']['n_neurons'].max()}"
        yield from _on_ladder(tables["slopes"])
    yield COST
    yield from _on_costs(tables["costs"])


def _certainty(way: str) -> str:
    return "certified" if way in CERTIFIED else "a lower bound"


def _row(
    exponents: pd.DataFrame,
    way: str,
    *,
    scaling: str = "mean-field",
    split: str = "train",
    measure: str = "barrier",
) -> pd.Series | None:
    """Return the one row of the table of exponents; None where there are no such pairs."""
    wanted = {"scaling": scaling, "way": way, "split": split, "measure": measure}
    rows = exponents[(exponents[list(wanted)] == pd.Series(wanted)).all(axis=1)]
    return rows.iloc[0] if len(rows) else None


def _on_exponent(row: pd.Series | None, symbol: str = "N") -> str:
    """Say whether a barrier falls, with its interval, and where there is none at all."""
    if row is None:
        return "not measured"
    zero = f"none in {row['n_zero']:.0f} pairs of N = {row['zero_widths']}" if row["n_zero"] > 0 else ""
    return "; ".join(filter(None, (_trend(row, symbol), zero)))


def _trend(row: pd.Series, symbol: str = "N") -> str:
    if not np.isfinite(row["exponent"]):
        return f"not judged: {row['not_judged']}"
    interval = f"{100 * row['level']:g}% interval {row['low']:z.2f}..{row['high']:z.2f}"
    narrow = ", less than a factor 16" if row["x_max"] < FIT_FACTOR * row["x_min"] else ""
    span = f"{symbol} in {row['x_min']:.0f}..{row['x_max']:.0f}{narrow}"
    last = f", {row['last_exponent']:z.2f} between the last two" if np.isfinite(row["last_exponent"]) else ""
    return f"{_direction(row)}, exponent {row['exponent']:z.2f} ({interval}, {span}{last})"


def _direction(row: pd.Series) -> str:
    if row["high"] < -MARGIN:
        return "falls"
    if row["low"] > MARGIN:
        return "GROWS"
    return "is flat" if row["low"] > -MARGIN and row["high"] < MARGIN else "is not shown to fall"


def _on_path(run: ConnectivityRun, frames: dict[str, pd.DataFrame], exponents: pd.DataFrame) -> Iterator[str]:
    """Explain the exponent by that of c_N, and hold others beside it."""
    ends = frames["summary"][frames["summary"]["scaling"] == "mean-field"]
    expected = exponent_of(ends.assign(change=ends["c_n"] / (ends["n_neurons"] - 1)), "change")
    layer = "" if run.n_hidden == 1 else " of the last hidden layer"
    yield f"  c_N/(N - 1), the mean loss change of a random half{layer}, {_trend(expected)}: -1 once c_N has settled"
    yield f"  above the line between both losses: {_on_exponent(_row(exponents, 'dropout', measure='above_chord'))}"
    yield f"  on test rows: {_on_exponent(_row(exponents, 'dropout', split='test'))}"
    yield f"  classification error: {_on_errors(frames['barriers'])}"
    yield f"  between untrained ends: {_on_exponent(_row(exponents, UNTRAINED))}"


def _on_errors(barriers: pd.DataFrame) -> str:
    """Say by how much the classification error on training rows exceeds the larger end's, as far as found."""
    rows = barriers[(barriers["way"] == "dropout") & (barriers["split"] == "train")]
    rises = mean_over_seeds(rows[rows["scaling"] == "mean-field"], "n_neurons", "error_barrier")
    if rises.empty:
        return "the targets are no classes"
    parts = [f"{row.mean:.3f} at N = {row.n_neurons}" for row in rises.iloc[[0, -1]].itertuples()]
    return f"rises by {' and '.join(parts)}, as far as found"


def _on_control(row: pd.Series | None) -> str:
    if row is None or not np.isfinite(row["exponent"]):
        return _on_exponent(row)
    return f"{ON_CONTROL[_direction(row)]}: {_trend(row)}"


def _on_cause(exponents: pd.DataFrame) -> str:
    """Say what makes the barrier fall, as far as untrained ends and the control show it."""
    rows = _row(exponents, "dropout"), _row(exponents, UNTRAINED), _row(exponents, "dropout", scaling="control")
    trained, untrained, control = ("not measured" if row is None else _direction(row) for row in rows)
    averages = trained == untrained == "falls" and control in ("is flat", "GROWS")
    return AVERAGING if averages else NO_CAUSE_FOUND


def _on_form(run: ConnectivityRun, frames: dict[str, pd.DataFrame], row: pd.Series | None) -> Iterator[str]:
    """Hold the barrier's exponent beside that of the theorem's first term, and its size beside both terms."""
    summary, barriers = frames["summary"], frames["barriers"]
    if row is not None and np.isfinite(row["exponent"]):
        widths = [n for n in summary["n_neurons"].unique() if row["x_min"] <= n <= row["x_max"]]
        expected = form_exponent(widths, run.n_hidden)
        yield f"  the barrier {_beside(row, expected)} the first term, of exponent {expected:.2f} here"
    n_neurons = int(summary["n_neurons"].max())
    n_parameters = int(summary["n_parameters"].iloc[0])
    first, second = form_terms(n_neurons, run.step_size, n_parameters, run.n_hidden)
    rows = barriers.query("scaling == 'mean-field' and way == 'dropout' and split == 'train'")
    barrier = rows.loc[rows["n_neurons"] == n_neurons, "barrier"].mean()
    at = f"N = {n_neurons}, {'D' if run.n_hidden == 1 else 'd'} = {n_parameters} and K = 1"
    yield f"  at {at} the terms are {first:.3g} and {second:.3g}, the barrier {barrier:.3g}"
    yield f"  {ABOUT_THE_BOUND}"


def _beside(row: pd.Series, expected: float) -> str:
    if row["high"] < expected:
        return "falls faster than"
    return "falls more slowly than" if row["low"] > expected else "is not told apart from"


def _on_ladder(slopes: pd.DataFrame) -> Iterator[str]:
    for method, rows in slopes[slopes["measure"] == "barrier"].groupby("method", sort=False):
        for direction, here in rows.groupby("direction"):
            yield f"  {method}, in {direction}: {_on_exponent(here.iloc[0], str(direction))}"


def _on_costs(table: pd.DataFrame) -> Iterator[str]:
    for row in table.itertuples():
        work = f"{row.n_passes:.0f}, {row.n_gradients:.0f}, {row.n_assignments:.0f}, {row.seconds:.2g}"
        yield f"  {plots.WAY_NAMES[str(row.way)]}: {work}"
