"""The connectivity study in tables: means over pairs, exponents in N and m, and how they bend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from meanfield.landscape.subsets import ladder_exponents
from meanfield.theory.scaling import ExponentFit, fit_exponent
from meanfield.theory.seeds import mean_over_seeds

__all__ = [
    "FIT_FACTOR",
    "MEASURES",
    "costs",
    "exponent_of",
    "exponents_in_width",
    "form_exponent",
    "form_terms",
    "ladder_slopes",
    "means",
]

# max_t L - max(L(0), L(1)), and max_t [L - (1 - t) L(0) - t L(1)].
MEASURES = ("barrier", "above_chord")

# Few kept neurons follow no power law: exponents in m are of this range, where there is one.
FIT_FACTOR = 16
FEW_KEPT = "above zero in every pair at fewer than two m"


def means(barriers: pd.DataFrame) -> pd.DataFrame:
    """Return mean and half width of the 90% interval over pairs, a row a scaling, way, split, width and measure."""
    by = ["scaling", "way", "split", "n_neurons"]
    parts = [mean_over_seeds(barriers, by, measure).assign(measure=measure) for measure in (*MEASURES, "error_barrier")]
    return pd.concat(parts, ignore_index=True)


def exponents_in_width(barriers: pd.DataFrame) -> pd.DataFrame:
    """Fit barrier = C N^p for every scaling, way, split and measure, with pairs as units.

    A barrier of zero has no logarithm: the fit is over the widths at which no pair has one, which are the narrower
    ones where barriers vanish as N grows. It takes all of these, two or more, however near: where x_max is less than
    16 x_min the exponent is that of this range, and no evidence of a power law.

    Returns
    -------
    DataFrame with columns scaling, way, split, measure, n_zero and zero_widths (pairs without a barrier, and their
    widths), the fields of `meanfield.theory.scaling.ExponentFit`, last_exponent (between the last two widths fitted)
    and not_judged (why there is no fit)
    """
    groups = barriers.groupby(["scaling", "way", "split"], sort=False)
    rows = [
        {"scaling": scaling, "way": way, "split": split, "measure": measure, **_exponent(group, measure)}
        for (scaling, way, split), group in groups
        for measure in MEASURES
    ]
    return pd.DataFrame(rows).reindex(columns=[*_KEYS, *_FITTED])


_KEYS = ("scaling", "way", "split", "measure", "n_zero", "zero_widths")
_FITTED = (*(field.name for field in fields(ExponentFit)), "last_exponent", "not_judged")


def exponent_of(rows: pd.DataFrame, measure: str) -> pd.Series:
    """Return the fit of one measure against n_neurons, with the columns of `exponents_in_width`."""
    return pd.Series(_exponent(rows, measure)).reindex(_FITTED)


def _exponent(rows: pd.DataFrame, measure: str) -> dict[str, Any]:
    zero = rows[~(rows[measure] > 0)]
    widths = sorted(int(n) for n in zero["n_neurons"].unique())
    counts = {"n_zero": len(zero), "zero_widths": ", ".join(map(str, widths))}
    positive = rows[~rows["n_neurons"].isin(widths)]
    if widths and positive["n_neurons"].nunique() < 2:
        return counts | {
            "not_judged": f"zero at N = {counts['zero_widths']}, which leaves fewer than two widths to fit"
        }
    return counts | _fitted(positive, "n_neurons", measure)


def _fitted(rows: pd.DataFrame, x: str, y: str) -> dict[str, Any]:
    """Return the fields of the fit and the exponent between its last two points; why, where it fails."""
    try:
        fit = fit_exponent(rows[x], rows[y], rows["seed"])
    except ValueError as error:
        return {"not_judged": str(error)}
    last = rows[rows[x].isin(np.sort(rows[x].unique())[-2:])]
    return {**asdict(fit), "last_exponent": fit_exponent(last[x], last[y], last["seed"]).exponent}


def form_exponent(widths: Sequence[int], n_hidden: int = 1) -> float:
    """Return the least-squares exponent in N of the theorem's first term, see `form_terms`, over these widths."""
    n_neurons = np.unique(widths).astype(float)
    return float(np.polyfit(np.log(n_neurons), np.log(_first_term(n_neurons, 1, n_hidden)), 1)[0])


def form_terms(n_neurons: int, step_size: float, n_parameters: int, n_hidden: int = 1) -> tuple[float, float]:
    """Return the terms of the theorem's form at z = 0 without K.

        sqrt(log N)/sqrt(N)     and sqrt(alpha (D + log N))     with one hidden layer
        sqrt(d)/sqrt(N)         and sqrt(alpha (d + log N))     with several

    Source: forms of Shevchenko & Mondelli 2020, Theorems 1 and 2.

    See Also
    --------
    meanfield.theory.forms : with z.
    """
    second = np.sqrt(step_size * (n_parameters + np.log(n_neurons)))
    return float(_first_term(n_neurons, n_parameters, n_hidden)), float(second)


def _first_term(n_neurons: ArrayLike, n_parameters: int, n_hidden: int) -> NDArray[np.float64]:
    widths = np.asarray(n_neurons, dtype=np.float64)
    return np.sqrt((np.log(widths) if n_hidden == 1 else n_parameters) / widths)


def ladder_slopes(ladder: pd.DataFrame) -> pd.DataFrame:
    """Return how the barrier, and the loss change of the kept sets, go with m and, at m = N/2, with N.

    Returns
    -------
    DataFrame with one row a direction ("m" or "N"), measure and method: the exponents with their intervals. Those in
    m are of the widest networks over m in [N/32, N/2], a factor 16, with (N - m)/(N - 1) removed: see
    `meanfield.ladder_exponents`. For N below 32 that is all m up to N/2, less than a factor 16
    """
    widest = ladder[ladder["n_neurons"] == ladder["n_neurons"].max()]
    widest = widest[widest["n_kept"] >= widest["n_neurons"] // (2 * FIT_FACTOR)]
    halves = ladder[ladder["n_kept"] == ladder["n_neurons"] // 2]
    rows = []
    for measure in ("barrier", "change"):
        rows += _slopes_in_kept(widest, measure)
        rows += [
            {"direction": "N", "measure": measure, "method": method, **_exponent(group, measure)}
            for method, group in halves.groupby("method", sort=False)
        ]
    return pd.DataFrame(rows).reindex(columns=["direction", "method", *_KEYS[3:], *_FITTED])


def _slopes_in_kept(widest: pd.DataFrame, measure: str) -> list[dict[str, Any]]:
    about: dict[str, Any] = {"direction": "m", "measure": measure}
    try:
        fits = ladder_exponents(widest.assign(change=widest[measure]))
    except ValueError as error:
        return [{**about, "method": method, "not_judged": str(error)} for method in widest["method"].unique()]
    fits = fits.reindex(columns=["method", *_FITTED])
    fits["not_judged"] = fits["exponent"].isna().map({True: FEW_KEPT, False: np.nan})
    return [about | {str(name): value for name, value in row.items()} for row in fits.to_dict("records")]


def costs(cost: pd.DataFrame) -> pd.DataFrame:
    """Return the mean work of each way at the widest networks: networks evaluated, gradients, assignments, time."""
    widest = cost[(cost["scaling"] == "mean-field") & (cost["n_neurons"] == cost["n_neurons"].max())]
    work = ["n_passes", "n_gradients", "n_assignments", "seconds"]
    return widest.groupby("way", sort=False)[work].mean().reset_index()
