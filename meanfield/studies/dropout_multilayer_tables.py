"""The study of several hidden layers in tables: the loss change at half, its exponents, and the theorem's form."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd

from meanfield.studies.dropout_bounds_tables import FittedTheorem, width_of_fit
from meanfield.studies.dropout_multilayer import MultilayerRun
from meanfield.studies.dropped_layers import ALL_LAYERS, DELTA
from meanfield.theory.prefactor import check_prefactor, fit_prefactor
from meanfield.theory.scaling import finite_population_factor, fit_exponent

__all__ = ["HeldTheorem", "exponents_at_half", "gaps_at_half", "held_theorem"]


def gaps_at_half(curve: pd.DataFrame) -> pd.DataFrame:
    """Return the mean change when half of the neurons are kept, a row a network and layer that loses them.

        scaled_gap = (E_A[L_A] - L) m (N - 1)/(N - m),      m = floor(N/2)

    Of one hidden layer, or the last one alone, with the square loss it is c_N. Constant in N, it leaves a change of
    order 1/N.

    Returns
    -------
    DataFrame with columns n_hidden, setting, n_neurons, seed, dropped, half_change, scaled_gap
    """
    half = curve[curve["n_kept"] == curve["n_neurons"] // 2].rename(columns={"mean_change": "half_change"})
    scaled = half["half_change"] / finite_population_factor(half["n_neurons"], half["n_kept"])
    columns = ["n_hidden", "setting", "n_neurons", "seed", "dropped", "half_change"]
    return half[columns].assign(scaled_gap=scaled).reset_index(drop=True)


def exponents_at_half(gaps: pd.DataFrame) -> pd.DataFrame:
    """Return the exponent in N of the change at half, a row a depth, setting and layer; seeds are the units.

    Columns: n_hidden, setting, dropped, exponent, low, high (90% interval), and not_judged: why there is none.
    """
    keys = ["n_hidden", "setting", "dropped"]
    rows = []
    for place, group in gaps.groupby(keys, sort=False):
        rows.append({**dict(zip(keys, place, strict=True)), **_exponent(group)})
    return pd.DataFrame(rows, columns=[*keys, "exponent", "low", "high", "not_judged"])


def _exponent(rows: pd.DataFrame) -> dict[str, Any]:
    try:
        fit = fit_exponent(rows["n_neurons"], rows["half_change"], rows["seed"])
    except ValueError as error:
        return {"not_judged": str(error)}
    return {"exponent": fit.exponent, "low": fit.low, "high": fit.high}


class HeldTheorem(NamedTuple):
    """The theorem's form, its prefactor fitted at one width, and how it fares at the others: `check_prefactor`."""

    theorem: FittedTheorem
    checked: pd.DataFrame


def held_theorem(run: MultilayerRun, curve: pd.DataFrame, gaps: pd.DataFrame) -> HeldTheorem:
    """Fit the prefactor where the scaled gap of all layers has settled, else at the smallest width; check the others.

    A set that loses neurons in one layer alone has A_min = m too: the bound must hold for all of them.

    Parameters
    ----------
    run : one of those that are judged together: their step size and dimension
    curve, gaps : of one number of hidden layers and one setting

    Raises
    ------
    ValueError : quantiles without upper ends; a single width; quantiles that are all zero where it is fitted
    """
    whole = gaps[gaps["dropped"] == ALL_LAYERS]
    width, reason = width_of_fit(whole, "scaled_gap", "N times the gap")
    fit = fit_prefactor(curve, width, step_size=run.step_size, n_parameters=run.law.dim, delta=DELTA, form="multilayer")
    if fit.prefactor == 0:
        raise ValueError(f"every quantile at N = {width} is zero, to which no prefactor can be fitted")
    return HeldTheorem(FittedTheorem(fit, reason), check_prefactor(fit, curve))
