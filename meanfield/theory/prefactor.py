"""A theorem's own bound on dropout, known up to one prefactor: fitted in one place, required in all others.

In the form of Theorem 1 of Shevchenko & Mondelli (2020), for A independent of the weights, with probability at
least 1 - exp(-z^2) and at all times up to T,

    |L_A - L| <= P(T) ( (sqrt(log m) + z)/sqrt m + sqrt(alpha) (sqrt(D + log N) + z) ),

D the number of parameters of one neuron. P(T) = K e^{K T^3} is not given, and depends on nothing else: not on m,
N, alpha or the replica. Fitted at one width, the claim can be refuted at every other. So can that of Theorem 2 for
several hidden layers, whose K(T, L) depends on the number of layers, and at other dimensions too
(`meanfield.theory.forms`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from meanfield.checks import check_choice
from meanfield.theory.bounds import check_delta
from meanfield.theory.fitted import compare_with_bound, holds_interval, select_columns
from meanfield.theory.forms import FORMS

__all__ = ["PrefactorFit", "check_prefactor", "describe_checked", "fit_prefactor", "rows_of_quantile"]

COLUMNS = ("n_neurons", "n_kept", "quantile", "magnitude", "magnitude_low", "magnitude_high")

# log(1) = 0: at the very smallest m the two-layer form has lost its first term.
LEAST_KEPT = 4

WEAK = 10.0  # in the median, times what was measured


@dataclass(frozen=True)
class PrefactorFit:
    """The least prefactor at which the form holds at the width ``n_neurons``; ``n_kept`` is where it just does."""

    prefactor: float
    n_neurons: int
    n_kept: int
    step_size: float
    n_parameters: int
    delta: float
    form: str

    def bound(self, n_kept: ArrayLike, n_neurons: ArrayLike) -> NDArray[np.float64]:
        """Return the bound on |L_A - L| at other widths and kept numbers; the arguments broadcast."""
        form = FORMS[check_choice("form", self.form, FORMS)]
        place = {"step_size": self.step_size, "n_parameters": self.n_parameters}
        return self.prefactor * form(n_kept, n_neurons, **place, delta=self.delta)


def fit_prefactor(
    quantiles: pd.DataFrame,
    n_neurons: int,
    *,
    step_size: float,
    n_parameters: int,
    delta: float = 0.05,
    form: str = "two-layer",
) -> PrefactorFit:
    """Fit the prefactor at one width: the least at which no interval of a measured quantile exceeds the bound.

        P = max_{m >= 4} magnitude_high(m) / form(m)

    Parameters
    ----------
    quantiles : the table of `meanfield.dropout_quantiles`, several stacked: of it the columns n_neurons, n_kept
        (A_min of several layers), quantile and magnitude, magnitude_low, magnitude_high, the quantile of |L_A - L|
        with its interval; its rows of quantile 1 - delta are used
    n_neurons : the width to fit at; the smallest from which on c_N has settled
    step_size, n_parameters : alpha, and D or d, see `meanfield.theory.forms`
    delta : probability with which the bound may fail
    form : "two-layer" or "multilayer"

    Raises
    ------
    ValueError : an unknown form; a missing column, no rows of this quantile, numbers that are not finite or not in
        order, no rows with m >= 4 at this width

    See Also
    --------
    check_prefactor : the test in other places.
    """
    rows = _checked(quantiles, delta)
    here = rows[rows["n_neurons"] == n_neurons]
    if here.empty:
        widths = sorted({int(n) for n in rows["n_neurons"]})
        raise ValueError(
            f"quantiles has no rows with n_kept >= {LEAST_KEPT} at n_neurons={n_neurons}, only at {widths}"
        )
    unit = PrefactorFit(1.0, int(n_neurons), 0, step_size, n_parameters, delta, form)
    ratio = here["magnitude_high"].to_numpy() / unit.bound(here["n_kept"], here["n_neurons"])
    binding = int(ratio.argmax())
    return replace(unit, prefactor=float(ratio[binding]), n_kept=int(here["n_kept"].iloc[binding]))


def check_prefactor(
    fit: PrefactorFit, quantiles: pd.DataFrame, *, step_size: float | None = None, n_parameters: int | None = None
) -> pd.DataFrame:
    """Hold the fitted bound against quantiles from where it was not fitted, m >= 4.

    A row fails where even the lower end of its interval is above the bound: with probability at most
    (1 - level)/2 where the true quantile is not, level that of the intervals.

    Parameters
    ----------
    quantiles : as in `fit_prefactor`
    step_size, n_parameters : where these were measured, None for where the prefactor was fitted: there its own width
        is left out

    Returns
    -------
    DataFrame with the columns of ``quantiles`` named there, bound, ratio (magnitude/bound), fails

    Raises
    ------
    ValueError : as `fit_prefactor`; no rows from elsewhere
    """
    rows = _checked(quantiles, fit.delta)
    here = replace(
        fit,
        step_size=fit.step_size if step_size is None else step_size,
        n_parameters=fit.n_parameters if n_parameters is None else n_parameters,
    )
    others = (rows if here != fit else rows[rows["n_neurons"] != fit.n_neurons]).reset_index(drop=True)
    if others.empty:
        raise ValueError(
            f"quantiles has no rows with n_kept >= {LEAST_KEPT} but at n_neurons={fit.n_neurons}, where the prefactor "
            "was fitted: add another width"
        )
    return compare_with_bound(others, "magnitude", here.bound(others["n_kept"], others["n_neurons"]))


def describe_checked(checked: pd.DataFrame, measured: str = "quantiles") -> str:
    """Say whether numbers from elsewhere, ``measured`` in words, refute the bound, or how many lie above it.

    A number above the bound refutes it only with its whole interval; a bound that is not refuted need not hold, and
    one that is ten times what was measured, in the median, is a weak test.

    Parameters
    ----------
    checked : columns ratio and fails, as `check_prefactor` returns them
    """
    n_failing, n_above, n_rows = int(checked["fails"].sum()), int((checked["ratio"] > 1).sum()), len(checked)
    if n_failing:
        return f"FAILS at {n_failing} of {n_rows} {measured}, whose whole intervals are above the bound"
    above = (
        f"{n_above} of them above the bound, but with intervals too wide to tell" if n_above else "all below the bound"
    )
    return f"not refuted by {n_rows} {measured}, {above}{_looseness(checked['ratio'])}"


def _looseness(ratio: pd.Series) -> str:
    """Say how many times what was measured the bound is, and whether that leaves little of a test."""
    times = 1 / ratio[ratio > 0]
    if times.empty:
        return ""
    middle = times.median()
    least, most, half = (f"{float(f'{number:.3g}'):g}" for number in (times.min(), times.max(), middle))
    words = f"; the bound is {least} to {most} times what was measured, {half} in the median"
    weak = f": a weak test, half of them could be {WEAK:g} times as large and pass"
    return words + weak if middle >= WEAK else words


def rows_of_quantile(quantiles: pd.DataFrame, level: float) -> pd.DataFrame:
    """Return the rows of a table of `meanfield.dropout_quantiles` whose quantile is ``level``; ValueError if none."""
    rows = quantiles[np.isclose(quantiles["quantile"], level, rtol=0, atol=1e-9)]
    if rows.empty:
        known = sorted(quantiles["quantile"].unique().tolist())
        raise ValueError(
            f"quantiles must hold the {level:.6g}-quantile, got only {known}: pass quantiles=[{level:.6g}]"
        )
    return rows


def _checked(quantiles: pd.DataFrame, delta: float) -> pd.DataFrame:
    """Return the rows with quantile 1 - delta and m >= 4, or say what is wrong with them."""
    rows = rows_of_quantile(select_columns("quantiles", quantiles, COLUMNS), 1 - check_delta(delta))
    rows = rows[rows["n_kept"] >= LEAST_KEPT]
    wrong = ~holds_interval(rows, "magnitude")
    if wrong.any():
        first = rows[wrong].iloc[0].to_dict()
        raise ValueError(f"quantiles of |L_A - L| must be finite with 0 <= low <= magnitude <= high, got {first}")
    return rows
