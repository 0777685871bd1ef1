"""The study of the bounds in tables: each bound's value beside the measured quantile and how often it is exceeded."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from meanfield.landscape.dropout_bounds import BOUND_CONSTANTS
from meanfield.landscape.permutations import quantile_intervals
from meanfield.studies.dropout import unmet_assumptions
from meanfield.studies.dropout_bounds import INTERVAL_LEVEL, BoundsRun
from meanfield.theory.bounds import BoundVerdict, NeuronConstants, judge_bound, limit_bounds, sup_bound
from meanfield.theory.prefactor import LEAST_KEPT, PrefactorFit, check_prefactor, fit_prefactor
from meanfield.theory.scaling import finite_population_factor, settled_from

__all__ = [
    "THEOREM",
    "FittedTheorem",
    "Measured",
    "fitted_theorem",
    "limits",
    "over_seeds",
    "width_of_fit",
    "with_theorem",
]

THEOREM = "theorem"
UNSETTLED = "a failure elsewhere refutes this prefactor, not the theorem"
NETWORK = ["seed", "n_neurons"]
MAGNITUDES = ["magnitude", "magnitude_low", "magnitude_high"]
FIT_PART = 16  # the prefactor is fitted at m <= N/16
JUDGED = ["measured", "ratio", "exceedance", "exceedance_low", "exceedance_high", "refuted", "n_sets"]
CONSTANTS = [*BOUND_CONSTANTS, "prefactor", "n_parameters"]

Draws = dict[tuple[int, int, int], NDArray[np.float64]]


class Measured(NamedTuple):
    """The finished runs on one data set, and their frames."""

    run: BoundsRun
    summary: pd.DataFrame
    bounds: pd.DataFrame
    quantiles: pd.DataFrame
    changes: pd.DataFrame

    @property
    def draws(self) -> Draws:
        """L_A - L over the orders of each seed, N and m."""
        groups = self.changes.groupby([*NETWORK, "n_kept"])["change"]
        return {key: values.to_numpy() for key, values in groups}  # type: ignore[misc]  # keys are tuples of integers


class FittedTheorem(NamedTuple):
    """The form of the theorem with its prefactor, and why it was fitted at this width."""

    fit: PrefactorFit
    reason: str


def fitted_theorem(measured: Measured) -> FittedTheorem:
    """Fit the prefactor at the smallest width from which c_N has settled, at the smallest of all if it has not.

    Sets of nearly all neurons change the loss less than sets as large of a wider network, which no constant knows of.
    With f = (N - m)/(N - 1) and e_A the change of the prediction,

        L_A - L = linear part, of standard deviation sqrt(f) g/sqrt m, plus E|e_A|^2, of mean f c_N/m,

    so that |L_A - L| at N = infinity lies between |L_A - L|/sqrt f and |L_A - L|/f. The upper one is fitted, at
    m <= N/16, or at the smallest m >= 4 where there is none: where it is too large it is so by 1/sqrt f, up to 1.033
    at m <= N/16. Elsewhere |L_A - L| is judged as it is measured.
    """
    width, reason = width_of_fit(measured.summary, "c_n", "c_N")
    fit = fit_prefactor(
        _as_of_infinitely_many(measured.quantiles),
        width,
        step_size=measured.run.step_size,
        n_parameters=int(measured.summary["n_parameters"].iloc[0]),
        delta=measured.run.delta,
    )
    return FittedTheorem(fit, reason)


def _as_of_infinitely_many(quantiles: pd.DataFrame) -> pd.DataFrame:
    """Return the rows to fit, magnitudes divided by (N - m)/(N - 1)."""
    rows = quantiles[quantiles["n_kept"] >= LEAST_KEPT]
    fewest = rows.groupby("n_neurons")["n_kept"].transform("min")
    few = rows[rows["n_kept"] <= np.maximum(rows["n_neurons"] // FIT_PART, fewest)]
    few = few[few["n_kept"] < few["n_neurons"]]
    depletion = few["n_kept"] * finite_population_factor(few["n_neurons"], few["n_kept"])
    return few.assign(**{name: few[name] / depletion for name in MAGNITUDES})


def width_of_fit(rows: pd.DataFrame, column: str, symbol: str) -> tuple[int, str]:
    """Return the smallest width from which a column, ``symbol`` in words, has settled, or the smallest; and why.

    ``rows`` has the columns n_neurons, seed and ``column``, one row a network.
    """
    smallest = int(rows.loc[rows["n_neurons"] > LEAST_KEPT, "n_neurons"].min())
    try:
        verdict = settled_from(rows["n_neurons"], rows[column], rows["seed"])
    except ValueError as error:
        return smallest, f"the smallest width; {UNSETTLED}, as it is not judged whether {symbol} has settled: {error}"
    if verdict.from_width is None:
        return smallest, f"the smallest width; {UNSETTLED}, as {symbol} is not shown to settle"
    return max(verdict.from_width, smallest), f"the smallest width from which {symbol} has settled"


def with_theorem(measured: Measured, theorem: FittedTheorem) -> pd.DataFrame:
    """Return every bound of every network beside what was measured, a row a seed, N, m and bound.

    Columns: data, bound, seed, n_neurons, n_kept, value, delta; measured, the (1 - delta)-quantile of L_A - L, or of
    |L_A - L| for the theorem's; ratio, measured/value; exceedance with its 95% interval, the part of the sets above
    the bound of n_sets drawn; refuted, whether the interval is above delta, for the theorem's what `check_prefactor`
    says, False at the width of the fit; then constants and remarks: what a bound leaves unmet.
    """
    rows = pd.concat([measured.bounds, _theorem_rows(measured, theorem)], ignore_index=True)
    draws = measured.draws
    judged = [_judged(row, draws[row["seed"], row["n_neurons"], row["n_kept"]]) for row in rows.to_dict("records")]
    table = _with_verdict(rows.join(pd.DataFrame(judged, columns=JUDGED)), theorem.fit, measured.quantiles)
    return table[["data", "bound", *NETWORK, "n_kept", "value", "delta", *JUDGED, *CONSTANTS, "remarks"]]


def over_seeds(measured: Measured, theorem: FittedTheorem, table: pd.DataFrame) -> pd.DataFrame:
    """Judge each bound at each N and m over the networks of all seeds, each set against its own network's bound.

    Columns: data, bound, n_neurons, n_kept; value and measured, means over seeds; delta; ratio, exceedance,
    exceedance_low, exceedance_high, refuted as in `with_theorem`, of n_sets sets; limit, the bound at N = infinity,
    and limit_ratio, the largest measured of a seed in its units; remarks. Undefined bounds have a row of NaN.
    """
    draws, rows = measured.draws, []
    keys = ["bound", "n_neurons", "n_kept"]
    for key, group in table.groupby(keys, sort=False):
        named = dict(zip(keys, key, strict=True))
        row = {
            "data": measured.run.data,
            **named,
            "value": group["value"].mean(),
            "measured": group["measured"].mean(),
            "delta": measured.run.delta,
        }
        if (group["value"] > 0).all():
            sets = [_in_units(one, draws) for one in group.to_dict("records")]
            row |= _found(judge_bound(np.concatenate(sets), 1.0, measured.run.delta))
        rows.append({**row, "largest": group["measured"].max(), "remarks": group["remarks"].iloc[0]})
    judged = _with_verdict(pd.DataFrame(rows), theorem.fit, _pooled_quantiles(measured))
    joined = judged.merge(limits(measured), how="left", on=["bound", "n_kept"])
    joined["limit_ratio"] = joined.pop("largest") / joined["limit"]
    return joined[[*(name for name in joined if name != "remarks"), "remarks"]]


def limits(measured: Measured) -> pd.DataFrame:
    """Return the bounds at N = infinity by m, columns n_kept, bound, limit: the constants of the widest networks.

    Means over seeds, but for the sup form's F and Y the largest of a seed.

    The theorem's form has none: it grows with log N.
    """
    widest = measured.summary[measured.summary["n_neurons"] == measured.summary["n_neurons"].max()]
    constants = NeuronConstants(**{field.name: float(widest[field.name].mean()) for field in fields(NeuronConstants)})
    n_kept, delta = np.unique(measured.bounds["n_kept"]), measured.run.delta
    table = limit_bounds(constants, n_kept, delta=delta)
    of_widest = measured.bounds[measured.bounds["n_neurons"] == measured.bounds["n_neurons"].max()]
    sup = of_widest[of_widest["largest_neuron"].notna()]
    if len(sup):
        value = sup_bound(
            constants.c_n / n_kept,
            largest_neuron=sup["largest_neuron"].max(),
            largest_target=sup["largest_target"].max(),
            n_neurons=math.inf,
            n_kept=n_kept,
            delta=delta,
        )
        table = pd.concat([table, pd.DataFrame({"n_kept": n_kept, "bound": "sup", "value": value})])
    return table[["n_kept", "bound", "value"]].rename(columns={"value": "limit"})


def _theorem_rows(measured: Measured, theorem: FittedTheorem) -> pd.DataFrame:
    fit, networks = theorem.fit, measured.bounds.drop_duplicates([*NETWORK, "n_kept"])
    rows = networks.loc[networks["n_kept"] >= LEAST_KEPT, ["data", *NETWORK, "n_kept", "delta", "mean_change", "c_n"]]
    fitted = f"prefactor fitted at N = {fit.n_neurons}, not given"
    return rows.assign(
        bound=THEOREM,
        value=fit.bound(rows["n_kept"], rows["n_neurons"]),
        prefactor=fit.prefactor,
        n_parameters=fit.n_parameters,
        remarks="; ".join([fitted, *unmet_assumptions(measured.run)]),
    )


def _with_verdict(table: pd.DataFrame, fit: PrefactorFit, quantiles: pd.DataFrame) -> pd.DataFrame:
    """Enter what `check_prefactor` says of ``quantiles`` into the theorem's rows of ``table``."""
    keys = [*(name for name in ("seed",) if name in table), "n_neurons", "n_kept"]
    others = quantiles[(quantiles["n_neurons"] != fit.n_neurons) & (quantiles["n_kept"] >= LEAST_KEPT)]
    failed = others[check_prefactor(fit, others)["fails"].to_numpy()] if len(others) else others
    fails = pd.MultiIndex.from_frame(table[keys]).isin(pd.MultiIndex.from_frame(failed[keys]))
    return table.assign(refuted=table["refuted"].mask(table["bound"] == THEOREM, fails))


def _pooled_quantiles(measured: Measured) -> pd.DataFrame:
    """Return the quantile of |L_A - L| over the sets of all seeds with its interval, a row an N and m."""
    level, rows = 1 - measured.run.delta, []
    for (n_neurons, n_kept), changes in measured.changes.groupby(["n_neurons", "n_kept"])["change"]:
        estimate = quantile_intervals(changes.abs(), [level], INTERVAL_LEVEL)[:, 0]
        place = {"n_neurons": n_neurons, "n_kept": n_kept, "quantile": level}
        rows.append(place | dict(zip(MAGNITUDES, estimate, strict=True)))
    return pd.DataFrame(rows)


def _in_units(row: dict[Any, Any], draws: Draws) -> NDArray[np.float64]:
    """Return the changes of a network in units of its bound."""
    return _quantity(row["bound"], draws[row["seed"], row["n_neurons"], row["n_kept"]]) / row["value"]


def _judged(row: dict[Any, Any], changes: NDArray[np.float64]) -> dict[str, Any]:
    draws = _quantity(row["bound"], changes)
    measured = {"measured": float(np.quantile(draws, 1 - row["delta"], method="inverted_cdf"))}
    defined = row["value"] > 0
    return {**measured, **_found(judge_bound(draws, row["value"], row["delta"]))} if defined else measured


def _found(verdict: BoundVerdict) -> dict[str, Any]:
    return {
        "ratio": verdict.ratio,
        "exceedance": verdict.exceedance,
        "exceedance_low": verdict.low,
        "exceedance_high": verdict.high,
        "refuted": verdict.refuted,
        "n_sets": verdict.n_draws,
    }


def _quantity(bound: Any, changes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what a bound is about: L_A - L, or its magnitude."""
    return np.abs(changes) if bound == THEOREM else changes
