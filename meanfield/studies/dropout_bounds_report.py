"""What the study of the bounds says: tables, figures and the verdict in words, from its records alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from meanfield.plots.bounds import bounds_against_kept
from meanfield.studies.dropout import memory, unmet_assumptions
from meanfield.studies.dropout_bounds import BoundsRun, cost, one_run
from meanfield.studies.dropout_bounds_tables import (
    THEOREM,
    FittedTheorem,
    Measured,
    fitted_theorem,
    limits,
    over_seeds,
    with_theorem,
)
from meanfield.studies.report import Report, Study
from meanfield.studies.store import Store
from meanfield.theory.prefactor import LEAST_KEPT, describe_checked

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["STUDY", "report"]

LEGEND = (
    "Bounds are for the losses on the samples that measure, and for sets drawn independently of the weights. The ratio "
    "is the measured (1 - delta)-quantile in units of the bound, the exceedance the part of the drawn sets above it, "
    "with its 95% interval; both at worst over N and m. Figures show the first replica."
)
FRAMES = ("summary", "bounds", "quantiles", "changes")


def report(store: Store, runs: Sequence[BoundsRun]) -> Report:
    """Read the finished ``runs`` back and conclude; diverged ones are named and left out."""
    status = dict(zip(runs, store.frames("summary", runs)["status"], strict=True))
    named = [f"{_title(run)}: {word}" for run, word in status.items() if word != "finished"]
    finished = [run for run in runs if status[run] == "finished"]
    by_data: dict[str, list[BoundsRun]] = {}
    for run in finished:
        by_data.setdefault(run.data, []).append(run)
    if not finished:
        return Report({}, {}, pd.DataFrame(), named)
    parts = [_Conclusion(_measured(store, here)) for here in by_data.values()]
    pooled = pd.concat([part.pooled for part in parts], ignore_index=True)
    tables = {"bounds": pooled, "bounds_by_network": pd.concat([part.by_network for part in parts], ignore_index=True)}
    figures = {f"bounds-{_short_name(part.measured.run.data)}": part.figure() for part in parts}
    words = [line for part in parts for line in part.verdict()]
    short = pd.concat([part.short() for part in parts], ignore_index=True)
    return Report(tables, figures, short, [*words, LEGEND, *named])


STUDY = Study("dropout-bounds", one_run, cost, memory, report)


class _Conclusion:
    """What is said of one data set."""

    def __init__(self, measured: Measured) -> None:
        self.measured = measured
        self.theorem: FittedTheorem = fitted_theorem(measured)
        self.by_network = with_theorem(measured, self.theorem)
        self.pooled = over_seeds(measured, self.theorem, self.by_network)

    def figure(self) -> Figure:
        """Draw the first replica, one network a width."""
        first = self.by_network["seed"].min()
        quantiles = self.measured.quantiles
        return bounds_against_kept(
            quantiles[quantiles["seed"] == first],
            self.by_network[self.by_network["seed"] == first],
            limits(self.measured).rename(columns={"limit": "value"}),
            fitted=self.theorem.fit,
        )

    def tested(self, bound: str) -> pd.DataFrame:
        """Return the rows of a bound that could fail: the theorem's not where its prefactor was fitted."""
        rows = self.pooled[(self.pooled["bound"] == bound) & self.pooled["ratio"].notna()]
        return rows[rows["n_neurons"] != self.theorem.fit.n_neurons] if bound == THEOREM else rows

    def short(self) -> pd.DataFrame:
        """Return the table to print, a row a bound."""
        rows = [self._short_row(bound) for bound in self.pooled["bound"].unique()]
        return pd.DataFrame([{"data": _short_name(self.measured.run.data), **row} for row in rows])

    def _short_row(self, bound: str) -> dict[str, str]:
        rows = self.tested(bound)
        if rows.empty:
            return {"bound": bound}
        worst, most, at_infinity = _worst(rows)
        return {
            "bound": bound,
            "delta": f"{self.measured.run.delta:g}",
            "worst ratio": f"{worst['ratio']:.2g}",
            "at N, m": f"{worst['n_neurons']}, {worst['n_kept']}",
            "largest exceedance": _interval(most),
            "worst ratio, N = inf": "-" if pd.isna(at_infinity) else f"{at_infinity:.2g}",
            "fails": f"{rows['refuted'].sum()} of {len(rows)}",
        }

    def verdict(self) -> Iterator[str]:
        """Say of each bound whether it holds, how tight it is, and what it leaves unmet."""
        run, fit = self.measured.run, self.theorem.fit
        in_words = f"{run.activation}, step size {run.step_size:g}, time {run.horizon:g}"
        n_seeds = self.measured.summary["seed"].nunique()
        yield (
            f"{_short_name(run.data)}: {in_words}; each bound may be exceeded with probability {run.delta:g}; at every "
            f"N and m {run.n_orders} sets of each of {n_seeds} networks"
        )
        for bound in self.pooled["bound"].unique():
            yield f"  {bound}: {self._on_bound(bound)}"
            if bound == THEOREM:
                yield (
                    f"    prefactor {fit.prefactor:.3g}, fitted at N = {fit.n_neurons}, m = {fit.n_kept}: "
                    f"{self.theorem.reason}; to |L_A - L| divided by (N - m)/(N - 1), judged elsewhere as it is"
                )
                yield f"    {self._which_judged()}"
        unmet = unmet_assumptions(run)
        yield f"  assumptions of the theorem: {'unmet: ' + ', '.join(unmet) if unmet else 'all met'}"

    def _on_bound(self, bound: str) -> str:
        rows = self.tested(bound)
        if rows.empty:
            remarks = self.pooled.loc[self.pooled["bound"] == bound, "remarks"].iloc[0]
            return "not judged at another width" if bound == THEOREM else str(remarks)
        worst, most, at_infinity = _worst(rows)
        fate = describe_checked(rows.rename(columns={"refuted": "fails"})) if bound == THEOREM else _fate(rows)
        words = (
            f"{fate}; worst ratio {worst['ratio']:.2g} at {_place(worst)}; exceeded by at most {_interval(most)} of "
            f"the sets{f', at {_place(most)}' if most['exceedance'] else ''}"
        )
        return words if pd.isna(at_infinity) else f"{words}; worst ratio to its value at N = infinity {at_infinity:.2g}"

    def _which_judged(self) -> str:
        """Say at how many of the measured N and m the theorem's bound is judged, and why not at the others."""
        n_judged, n_measured = len(self.tested(THEOREM)), len(self.pooled[["n_neurons", "n_kept"]].drop_duplicates())
        return (
            f"judged at {n_judged} of {n_measured} (N, m) measured: not at the width of the fit, nor at "
            f"m < {LEAST_KEPT}, left out of fit and check alike, as the form's sqrt(log m) is 0 at m = 1"
        )


def _measured(store: Store, runs: Sequence[BoundsRun]) -> Measured:
    return Measured(runs[0], *(store.frames(name, runs) for name in FRAMES))


def _fate(rows: pd.DataFrame) -> str:
    """Say whether a bound that has all its constants holds at every N and m, or where it fails."""
    refuted = rows[rows["refuted"]]
    where = ", ".join(f"({row.n_neurons}, {row.n_kept})" for row in refuted.head(3).itertuples())
    return f"FAILS at {len(refuted)} of {len(rows)} (N, m), e.g. {where}" if len(refuted) else "holds"


def _worst(rows: pd.DataFrame) -> tuple[pd.Series, pd.Series, float]:
    """Return the rows of the largest ratio and exceedance, and the largest ratio to the bound at N = infinity."""
    ratio, exceedance = (rows.sort_values(name, kind="stable").iloc[-1] for name in ("ratio", "exceedance"))
    return ratio, exceedance, float(rows["limit_ratio"].max())


def _place(row: pd.Series) -> str:
    return f"N = {row['n_neurons']}, m = {row['n_kept']}"


def _interval(row: pd.Series) -> str:
    low, high = 100 * row["exceedance_low"], 100 * row["exceedance_high"]
    return f"{100 * row['exceedance']:.2g}% ({low:.2g}..{high:.2g}%)"


def _short_name(data: str) -> str:
    return Path(data).name


def _title(run: BoundsRun) -> str:
    return f"{run.data}, N = {run.n_neurons}, seed {run.seed}"
