"""What the study of the theorem's regime says: tables, figures and the verdict in words, from its records alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from meanfield.plots import dropout_regime as plots
from meanfield.studies.dropout_regime import DIM, STEP_SIZE, RegimeRun, cost, memory, one_run
from meanfield.studies.dropout_regime_tables import (
    BOUND_DELTA,
    FIT_FACTOR,
    Measured,
    bound_from_first,
    changes_by_dimension,
    deviations,
    excesses_over_first,
    exponents_in_width,
    needed_constants,
    peaks,
)
from meanfield.studies.report import Report, Study, diverged_runs, exponent_in_words, plus_minus
from meanfield.studies.store import Store
from meanfield.theory.horizon import log_prefactor
from meanfield.theory.scaling import ExponentFit, compare_with_margin, fit_exponent
from meanfield.theory.seeds import interval_over_seeds, mean_over_seeds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["STUDY", "report"]

MARGIN = 0.1  # of `settled_from` and `compare_with_margin`, fixed before the values were seen
NOT_REFUTABLE = (
    "A bound from above with an unknown K is not refuted by a gap that grows more slowly, only shown to be loose; it "
    "would be by one that outgrows e^{K T^3}, or exceeds the bound with the K of a shorter horizon."
)
FLAT_IS_NOT_PROOF = (
    "An exponent inside the margin over this range, for this law, start and alpha d, agrees with a dimension-free "
    "bound and does not prove one; one outside would not refute a bound from above."
)


def report(store: Store, runs: Sequence[RegimeRun]) -> Report:
    """Read the finished ``runs`` back and conclude; diverged ones are named and left out."""
    summary, diverged = store.frames("summary", runs), diverged_runs(store, runs)
    named = [f"{_title(run)}: {word}" for run, word in diverged.items()]
    finished = [run for run in runs if run not in diverged]
    references = [run for run in finished if run.kept_numbers]
    if not references:
        return Report({"summary": summary}, {}, pd.DataFrame(), ["no reference network is finished yet", *named])
    gaps, trajectory = store.frames("gaps", references), store.frames("trajectory", finished)
    measured = Measured.from_frames(references[0], gaps, trajectory)
    tables = {
        "peaks": peaks(measured.gaps),
        "horizons": exponents_in_width(measured),
        "step_sizes": deviations(measured.step_sizes),
        "dimensions": changes_by_dimension(measured),
    }
    words = [*_verdict(measured, tables), *named]
    everything = {"summary": summary, "trajectory": trajectory, "gaps": measured.gaps}
    return Report({**everything, **tables}, _figures(measured, tables), _short(measured, tables["horizons"]), words)


STUDY = Study("dropout-regime", one_run, cost, memory, report)


def _title(run: RegimeRun) -> str:
    return f"N = {run.n_neurons}, d = {run.dim}, alpha = {run.step_size:g}, seed {run.seed}"


def _figures(measured: Measured, tables: dict[str, pd.DataFrame]) -> dict[str, Figure]:
    """Draw what has rows: an interrupted study has not all of it."""
    drawn = {"change-over-time": plots.change_over_time(measured.gaps)}
    drawn["change-against-horizon"] = plots.change_against_horizon(measured.late_changes, bound_from_first(measured))
    judged = tables["horizons"].dropna(subset="exponent")
    if len(judged):
        drawn["exponent-against-horizon"] = plots.exponent_against_horizon(judged)
    if len(tables["step_sizes"]):
        drawn["deviation-against-step-size"] = plots.deviation_against_step_size(tables["step_sizes"])
    by_dimension = tables["dimensions"]
    last = by_dimension[by_dimension["time"] == by_dimension["time"].max()]
    drawn["change-against-dimension"] = plots.change_against_dimension(last)
    return drawn


def _short(measured: Measured, horizons: pd.DataFrame) -> pd.DataFrame:
    """Return the table to print: a row a late horizon, mean +- half width of the 90% interval over seeds."""
    widest = measured.widths[measured.widths["n_neurons"] == measured.reference.n_neurons]
    late, gaps = measured.late(widest), measured.late_changes

    def column(rows: pd.DataFrame, name: str) -> pd.Series:
        table = mean_over_seeds(rows, "time", name).set_index("time")
        return pd.Series([plus_minus(*pair) for pair in table.itertuples(index=False)], index=table.index, dtype=object)

    columns = {
        "risk": column(late, "risk"),
        "c_N": column(late, "c_n"),
        f"change at m = {measured.middle}": column(gaps, "mean_change"),
        "std over subsets": column(gaps, "std_change"),
    }
    table = pd.DataFrame(columns)
    for quantity, name in (("c_n", "c_N settled from N"), ("risk", "risk settled from N")):
        table[name] = _settled_widths(horizons, quantity).reindex(table.index)
    return table.rename(index="{:.3g}".format).rename_axis("T").reset_index()


def _settled_widths(horizons: pd.DataFrame, quantity: str) -> pd.Series:
    """Return by time, in words, the width that a quantity has settled from."""
    rows = horizons[horizons["quantity"] == quantity].set_index("time")
    words = rows["settled_from"].map("{:.0f}".format, na_action="ignore").astype(object).fillna("not shown")
    return words.where(rows["not_judged"].isna(), "not judged")


def _verdict(measured: Measured, tables: dict[str, pd.DataFrame]) -> Iterator[str]:
    run = measured.reference
    yield (
        f"isotropic Gaussians, d = {run.dim}, truncated ReLU, output weights 1 and frozen: within the theorem's "
        f"assumptions; reference N = {run.n_neurons}, step size {run.step_size:.3g}"
    )
    yield "along the whole training (over the recorded times, 90% intervals over seeds)"
    yield from _on_peaks(tables["peaks"])
    yield "against the horizon T"
    yield from _on_growth(measured)
    yield from _on_settling(measured, tables["horizons"])
    yield "against the step size, from the smallest one on the same weights (the theorem's term is sqrt(alpha))"
    yield from _on_step_size(tables["step_sizes"])
    yield f"against the dimension, at alpha d = {STEP_SIZE * DIM:g}"
    yield from _on_dimension(tables["dimensions"])


def _on_peaks(peaks_of_seeds: pd.DataFrame) -> Iterator[str]:
    names = {"mean_change": "mean", "mean_plus_std": "mean + std"}
    for n_kept, here in peaks_of_seeds.groupby("n_kept"):
        parts = [f"{names[str(quantity)]} {_peak(rows)}" for quantity, rows in here.groupby("quantity")]
        yield f"  m = {n_kept}: {'; '.join(parts)}"


def _peak(rows: pd.DataFrame) -> str:
    if (rows["ratio"] == 1).all():
        return "largest at the end in every seed"
    ratio = plus_minus(rows["ratio"].mean(), interval_over_seeds(rows["ratio"]))
    return f"largest at t = {_span(rows['time'])}, {ratio} times its value at the end"


def _on_growth(measured: Measured) -> Iterator[str]:
    gaps, middle = measured.late_changes, measured.reference.horizon / FIT_FACTOR**0.5
    yield f"  mean change as a power of T: {exponent_in_words(gaps, 'time', 'mean_change', 'T')}"
    yield f"    shorter half: {exponent_in_words(gaps[gaps['time'] <= middle], 'time', 'mean_change', 'T')}"
    yield f"    longer half: {exponent_in_words(gaps[gaps['time'] >= middle], 'time', 'mean_change', 'T')}"
    yield f"    (an exponential's would be {FIT_FACTOR**0.5:g} times larger in the longer half)"
    yield f"  mean change as an exponential in T: {_rate(gaps, measured.reference.horizon)}"
    yield f"  K e^(K T^3): {_on_constants(measured)}"
    yield f"  {NOT_REFUTABLE}"


def _rate(gaps: pd.DataFrame, horizon: float) -> str:
    """Fit a rate as the exponent of e^(T/horizon), which no horizon makes overflow."""
    try:
        fit = fit_exponent(np.exp(gaps["time"] / horizon), gaps["mean_change"], gaps["seed"])
    except ValueError as error:
        return f"not judged: {error}"
    rate, low, high = (value / horizon for value in (fit.exponent, fit.low, fit.high))
    return f"rate {rate:z.4f} ({100 * fit.level:g}% interval {low:z.4f}..{high:z.4f}, T in {_span(gaps['time'])})"


def _on_constants(measured: Measured) -> str:
    """Say which K the shortest horizon asks for, and how the form with this K fares at the others."""
    constants = needed_constants(measured)
    first, last = constants.iloc[0], constants.iloc[-1]
    excess = (log_prefactor(first["constant"], last["time"]) - np.log(last["prefactor"])) / np.log(10)
    return (
        f"to hold with probability {100 * (1 - BOUND_DELTA):g}% the theorem's form needs K = {first['constant']:.3g} "
        f"at T = {first['time']:.3g}, {last['constant']:.3g} at T = {last['time']:.3g}; with the first K it "
        f"{_fate(excesses_over_first(measured))}; at the last it is 10^{excess:.0f} times what is needed"
    )


def _fate(excesses: pd.DataFrame) -> str:
    """Say at how many horizons the interval over seeds is on which side of the bound, each seed with its own K."""
    table = mean_over_seeds(excesses, "time", "excess")
    if table["half_width"].isna().any():
        return "is not judged at longer horizons: an interval needs at least 2 seeds"
    low, high = table["mean"] - table["half_width"], table["mean"] + table["half_width"]
    fails, open_ = table.loc[low > 0, "time"], table.loc[(low <= 0) & (high > 0), "time"]
    words = [
        f"{word} at {len(times)} of {len(table)} longer horizons (T = {', '.join(f'{time:.3g}' for time in times)})"
        for word, times in (("fails", fails), ("is not decided", open_))
        if len(times)
    ]
    return ", ".join(words) or f"holds at all {len(table)} longer horizons"


def _on_settling(measured: Measured, horizons: pd.DataFrame) -> Iterator[str]:
    late = measured.late(horizons)
    yield f"  settled: exponent in N inside +-{MARGIN:g}, which lets a factor {16**MARGIN:.2g} over 16-fold widths pass"
    for quantity, name in (("c_n", "c_N"), ("risk", "risk")):
        yield f"    {name} {_where_settled(_settled_widths(late, quantity))}"


def _where_settled(widths: pd.Series) -> str:
    """Say of each width in words, by time, at which of the measured times it stands: as runs of neighbours."""
    in_order = widths.sort_index()
    runs = in_order.groupby((in_order != in_order.shift()).cumsum())
    spans: dict[str, list[str]] = {}
    for _, run in runs:
        spans.setdefault(run.iloc[0], []).append(_span(run.index))
    parts = [f"{'from N = ' * word.isdecimal()}{word} at T = {', '.join(times)}" for word, times in spans.items()]
    return "; ".join(parts)


def _on_step_size(deviations_of_seeds: pd.DataFrame) -> Iterator[str]:
    middle = deviations_of_seeds["step_size"].median()
    smaller = deviations_of_seeds[deviations_of_seeds["step_size"] <= middle]
    for column, name in (("gap", "loss change"), ("risk", "risk")):
        for rows, part in ((deviations_of_seeds, name), (smaller, "  smaller half")):
            yield f"  {part}: {exponent_in_words(rows, 'alpha_d', column, 'alpha d', partial(_beside_theorem, rows))}"


def _beside_theorem(rows: pd.DataFrame, fit: ExponentFit) -> str:
    """Compare with the exponent that sqrt(alpha) has over these step sizes when the smallest one's is taken off."""
    sizes, finest = np.unique(rows["alpha_d"]), rows["finest_alpha_d"].iloc[0]
    expected = float(np.polyfit(np.log(sizes), np.log(np.sqrt(sizes) - np.sqrt(finest)), 1)[0])
    if fit.low > expected:
        word = "falls faster than"
    elif fit.high < expected:
        word = "falls more slowly than"
    else:
        word = "is not told apart from"
    return f"{fit.describe()}, {word} sqrt(alpha) - sqrt(smallest alpha) over this range ({expected:.2f})"


def _on_dimension(changes: pd.DataFrame) -> Iterator[str]:
    """Judge at the end of the sweep, and at a quarter of it, whether the loss change depends on the dimension."""
    last = changes["time"].max()
    for column, name in (("relative_gap", "in units of L(0) - L(T)"), ("gap", "as it is")):
        for time in (last, last / 4):
            words = exponent_in_words(changes[changes["time"] == time], "dim", column, "d", compare_with_margin)
            yield f"  mean change {name}, T = {time:.3g}: {words}"
    yield f"  {FLAT_IS_NOT_PROOF}"


def _span(values: Iterable[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.3g}" if low == high else f"{low:.3g}..{high:.3g}"
