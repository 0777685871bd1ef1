"""The study of the dimension in tables: the number of neurons needed, and its exponents in d."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from meanfield.studies.dropped_layers import ALL_LAYERS
from meanfield.theory.scaling import ExponentFit, finite_population_factor, fit_exponent
from meanfield.theory.seeds import mean_over_seeds

__all__ = [
    "exponent_in_dimension",
    "mean_ratios",
    "needed_number",
    "needed_numbers",
    "needed_ratios",
    "relative_changes",
    "uncensored",
    "where_all_seeds_are",
]


def relative_changes(summary: pd.DataFrame, curve: pd.DataFrame) -> pd.DataFrame:
    """Return the mean change in units of what training gained, as it would be in a wider network.

        relative_change = (E_A[L_A] - L) (N - 1)/(N - m) / (L(0) - L(T))

    With one hidden layer and the square loss this is c_N/m in those units: without the factor, keeping all of few
    neurons would look like needing few.

    Parameters
    ----------
    summary : columns setting, dim, n_neurons, seed, initial_risk and risk, L(0) and L(T)
    curve : the first four of these columns, dropped, n_kept below n_neurons, mean_change

    Returns
    -------
    DataFrame with columns setting, dim, n_neurons, seed, dropped, n_kept, relative_change (infinite if nothing gained)
    """
    keys = ["setting", "dim", "n_neurons", "seed"]
    of_network = summary[keys].assign(gained=summary["initial_risk"] - summary["risk"])
    table = curve[[*keys, "dropped", "n_kept", "mean_change"]].merge(of_network, on=keys)
    factor = finite_population_factor(table["n_neurons"], table["n_kept"]) * table["n_kept"]
    change, gained = table.pop("mean_change") / factor, table.pop("gained")
    # Falls of the loss too: in units of nothing they would look like needing few.
    return table.assign(relative_change=(change / gained).where(gained > 0, math.inf))


def needed_number(n_kept: ArrayLike, changes: ArrayLike, allowed: float) -> float:
    """Return the least m from which on the change is at most ``allowed``, between measured ones by a power law.

    Infinite if even the largest measured m does not do; 0 if the smallest does.

    Parameters
    ----------
    n_kept : (K,) increasing
    changes : (K,)

    Raises
    ------
    ValueError : NaN among the changes
    """
    m, change = np.asarray(n_kept, np.float64), np.asarray(changes, np.float64)
    if np.isnan(change).any():
        raise ValueError("changes must not hold NaN: leave out networks that were not measured")
    above = np.flatnonzero(change > allowed)
    if not above.size:
        return 0.0
    last = int(above[-1])
    if last == m.size - 1:
        return math.inf
    return _crossing(m[last : last + 2], change[last : last + 2], allowed)


def _crossing(m: NDArray[np.float64], change: NDArray[np.float64], allowed: float) -> float:
    """Return where the power law through two points has the value ``allowed``; the second point if it has none."""
    if not (change[1] > 0 and change[0] < math.inf):
        return float(m[1])
    part = math.log(change[0] / allowed) / math.log(change[0] / change[1])
    return float(m[0] * (m[1] / m[0]) ** part)


def needed_numbers(changes: pd.DataFrame, allowed: float) -> pd.DataFrame:
    """Return the number of neurons needed, a row a network and layer that loses them.

    Returns
    -------
    DataFrame with columns setting, dropped, dim, n_neurons, seed, needed (NaN where censored), censored ("", or what
    is known: "more than 256", "at most 4") and limit, that number (NaN where not censored)
    """
    keys = ["setting", "dropped", "dim", "n_neurons", "seed"]
    rows = []
    for place, group in changes.sort_values("n_kept").groupby(keys, sort=False):
        named = dict(zip(keys, place, strict=True))
        rows.append(named | _needed(group["n_kept"].to_numpy(), group["relative_change"].to_numpy(), allowed))
    return pd.DataFrame(rows).sort_values(keys, ignore_index=True)


def _needed(n_kept: NDArray[Any], changes: NDArray[Any], allowed: float) -> dict[str, Any]:
    needed = needed_number(n_kept, changes, allowed)
    if needed == math.inf:
        return {"needed": math.nan, "censored": f"more than {n_kept[-1]}", "limit": float(n_kept[-1])}
    if needed == 0:
        return {"needed": math.nan, "censored": f"at most {n_kept[0]}", "limit": float(n_kept[0])}
    return {"needed": needed, "censored": "", "limit": math.nan}


def uncensored(needed: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the dimensions at which no seed is censored."""
    places = ["setting", "dropped", "dim"]
    known = needed.groupby(places)["needed"].transform(lambda column: column.notna().all())
    return needed[known.astype(bool)]


def needed_ratios(needed: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Return how many times as many neurons each hidden layer needs, all of them dropped at once, as a setting's do.

    Parameters
    ----------
    needed : as `needed_numbers` returns it
    reference : the setting in the denominator, at the same dimension and seed

    Returns
    -------
    DataFrame with columns setting, dim, seed, ratio, where nothing is censored
    """
    rows = uncensored(needed[needed["dropped"] == ALL_LAYERS])
    below = rows.loc[rows["setting"] == reference, ["dim", "seed", "needed"]]
    pairs = rows[rows["setting"] != reference].merge(below, on=["dim", "seed"], suffixes=("", "_reference"))
    return pairs[["setting", "dim", "seed"]].assign(ratio=pairs["needed"] / pairs["needed_reference"])


def where_all_seeds_are(ratios: pd.DataFrame) -> pd.DataFrame:
    """Return the `needed_ratios` of the dimensions at which every seed has one: their means are over the same ones."""
    n_seeds = ratios.groupby("dim")["seed"].transform("nunique")
    return ratios[n_seeds == ratios["seed"].nunique()]


def mean_ratios(ratios: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Return the geometric means of `needed_ratios` with their 90% Student intervals, of the logarithms over seeds.

    Parameters
    ----------
    by : ["setting", "dim"], or ["setting"] for the mean over dimensions

    Returns
    -------
    DataFrame with columns ``by``, ratio, low and high (NaN for a single seed)
    """
    logs = ratios.assign(ratio=np.log(ratios["ratio"])).groupby([*by, "seed"])["ratio"].mean().reset_index()
    means = mean_over_seeds(logs, by, "ratio")
    mean, half = means.pop("mean"), means.pop("half_width")
    return means.assign(ratio=np.exp(mean), low=np.exp(mean - half), high=np.exp(mean + half))


def exponent_in_dimension(needed: pd.DataFrame) -> ExponentFit:
    """Fit the exponent in d of the number needed, of one setting and layer, seeds as units, where nothing is censored.

    Raises
    ------
    ValueError : fewer than two such dimensions, or two seeds
    """
    rows = uncensored(needed)
    if rows["dim"].nunique() < 2:
        raise ValueError(
            f"a slope needs at least 2 dimensions at which no seed is censored, got {rows['dim'].nunique()}: change "
            "the width or the allowed change"
        )
    return fit_exponent(rows["dim"], rows["needed"], rows["seed"])
