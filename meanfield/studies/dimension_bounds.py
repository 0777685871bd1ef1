"""The study of the dimension against the theorems' forms: constants fitted in one place, required in all others.

Both are fitted at the smallest dimension, so that checking them asks whether the constant must grow with d or N.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from meanfield.studies.dimension import DimensionRun
from meanfield.studies.dropped_layers import DELTA
from meanfield.theory.discrepancy import check_discrepancy, fit_discrepancy
from meanfield.theory.prefactor import PrefactorFit, check_prefactor, fit_prefactor
from meanfield.theory.seeds import mean_over_seeds

__all__ = ["HeldForm", "discrepancies", "held_discrepancy", "held_form"]

PLACES = ["setting", "dim", "step_size", "n_parameters"]


class HeldForm(NamedTuple):
    """A form whose constant is fitted at one dimension and width, ``place`` in words, and how it fares at the others.

    ``checked`` is the table of `check_prefactor` or `check_discrepancy`, with a column dim.
    """

    constant: float
    place: str
    checked: pd.DataFrame


def _n_parameters(run: DimensionRun) -> int:
    """Return D of one neuron, its inputs, bias and output; of several layers d of the first one's, inputs and bias."""
    return run.dim + (2 if run.n_hidden == 1 else 1)


def held_form(runs: Sequence[DimensionRun], curve: pd.DataFrame) -> HeldForm:
    """Fit the prefactor at the smallest dimension and largest width; check all other dimensions and widths.

    The widest networks are nearest to the limit, and their sets of few neurons lose least by being drawn without
    replacement. A set that loses neurons in one layer alone has A_min = m too: the bound must hold for all of them.

    Parameters
    ----------
    runs : of one setting
    curve : theirs, of the study

    Raises
    ------
    ValueError : quantiles without upper ends; a single dimension and width
    """
    first = min(runs, key=lambda run: (run.dim, -run.n_neurons))
    fitted = (curve["dim"] == first.dim) & (curve["n_neurons"] == first.n_neurons)
    if fitted.all():
        raise ValueError("a single dimension and width, where the prefactor was fitted: add a dimension")
    fit = fit_prefactor(
        curve[fitted],
        first.n_neurons,
        step_size=first.step_size,
        n_parameters=_n_parameters(first),
        delta=DELTA,
        form="two-layer" if first.n_hidden == 1 else "multilayer",
    )
    at_dim = {run.dim: run for run in runs}
    checked = [_checked_at(at_dim[int(str(dim))], fit, rows) for dim, rows in curve[~fitted].groupby("dim")]
    place = f"d = {first.dim}, N = {first.n_neurons}, A_min = {fit.n_kept}"
    return HeldForm(fit.prefactor, place, pd.concat(checked, ignore_index=True))


def _checked_at(run: DimensionRun, fit: PrefactorFit, curve: pd.DataFrame) -> pd.DataFrame:
    """Hold the fitted form against the quantiles at the dimension of ``run``."""
    checked = check_prefactor(fit, curve, step_size=run.step_size, n_parameters=_n_parameters(run))
    return checked.assign(dim=run.dim)


def discrepancies(runs: Sequence[DimensionRun], summary: pd.DataFrame) -> pd.DataFrame:
    """Return how far the loss of each narrower network is from that of the widest, N', which stands for the limit.

        gap = mean over seeds of |L_N - L_N'|, both losses on the same samples

    Returns
    -------
    DataFrame with columns setting, dim, and those that `fit_discrepancy` needs, the interval that of 90% over seeds
    """
    keys, widest = ["setting", "dim", "n_neurons"], int(summary["n_neurons"].max())
    reference = summary.loc[summary["n_neurons"] == widest, ["setting", "dim", "seed", "risk"]]
    narrower = summary[summary["n_neurons"] < widest]
    pairs = narrower.merge(reference, on=["setting", "dim", "seed"], suffixes=("", "_reference"))
    means = mean_over_seeds(pairs.assign(gap=(pairs["risk"] - pairs["risk_reference"]).abs()), keys, "gap")
    gap, half = means.pop("mean"), means.pop("half_width")
    interval = {"gap": gap, "gap_low": (gap - half).clip(lower=0), "gap_high": gap + half}
    places = pd.DataFrame([(run.setting, run.dim, run.step_size, _n_parameters(run)) for run in runs], columns=PLACES)
    return means.assign(n_reference=widest, **interval).merge(places.drop_duplicates(), on=PLACES[:2])


def held_discrepancy(gaps: pd.DataFrame) -> HeldForm:
    """Fit the constant at the smallest dimension and width of one setting's `discrepancies`; check all others.

    Raises
    ------
    ValueError : a single seed, or a single place
    """
    if gaps.empty:
        raise ValueError("a single width: a wider one must stand for the limit")
    if gaps["gap_high"].isna().any():
        raise ValueError("an interval over seeds needs at least 2 seeds: add a replica")
    first = gaps.sort_values(["dim", "n_neurons"]).iloc[0]
    fit = fit_discrepancy(gaps, n_neurons=first["n_neurons"], n_parameters=first["n_parameters"])
    dims = gaps[["n_parameters", "dim"]].drop_duplicates()
    where = f"d = {first['dim']}, N = {first['n_neurons']}"
    return HeldForm(fit.constant, where, check_discrepancy(fit, gaps).merge(dims, on="n_parameters"))
