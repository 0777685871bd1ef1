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
from meanfield.theory.forms import FORMS

__all__ = ["PrefactorFit", "check_prefactor", "fit_prefactor"]

COLUMNS = ("n_neurons", "n_kept", "quantile", "low", "high")

# log(1) = 0: at the very smallest m the two-layer form has lost its first term.
LEAST_KEPT = 4


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

        P = max_{m >= 4} high(m) / form(m)

    Parameters
    ----------
    quantiles : columns n_neurons, n_kept, quantile, low, high: the (1 - delta)-quantile of |L_A - L| with its
        confidence interval; one row a width, kept number (A_min of several layers) and, if several, replica
    n_neurons : the width to fit at; the smallest from which on c_N has settled
    step_size, n_parameters : alpha, and D or d, see `meanfield.theory.forms`
    delta : 1 minus the level of the quantiles
    form : "two-layer" or "multilayer"

    Raises
    ------
    ValueError : an unknown form; a missing column, numbers that are not finite or not in order, no rows with m >= 4 at
        this width

    See Also
    --------
    check_prefactor : the test in other places.
    """
    rows = _checked(quantiles)
    here = rows[rows["n_neurons"] == n_neurons]
    if here.empty:
        widths = sorted({int(n) for n in rows["n_neurons"]})
        raise ValueError(
            f"quantiles has no rows with n_kept >= {LEAST_KEPT} at n_neurons={n_neurons}, only at {widths}"
        )
    unit = PrefactorFit(1.0, int(n_neurons), 0, step_size, n_parameters, delta, form)
    ratio = here["high"].to_numpy() / unit.bound(here["n_kept"], here["n_neurons"])
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
    DataFrame with the columns of ``quantiles`` named there, bound, ratio (quantile/bound), fails

    Raises
    ------
    ValueError : as `fit_prefactor`; no rows from elsewhere
    """
    rows = _checked(quantiles)
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
    bound = here.bound(others["n_kept"], others["n_neurons"])
    return others.assign(bound=bound, ratio=others["quantile"] / bound, fails=others["low"] > bound)


def _checked(quantiles: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with m >= 4, or say what is wrong with them."""
    if missing := [column for column in COLUMNS if column not in quantiles.columns]:
        raise ValueError(f"quantiles lacks the columns {missing}: it needs {list(COLUMNS)}")
    rows = quantiles.loc[quantiles["n_kept"] >= LEAST_KEPT, list(COLUMNS)]
    low, middle, high = (rows[column].to_numpy() for column in ("low", "quantile", "high"))
    wrong = ~((low <= middle) & (middle <= high) & (low >= 0) & np.isfinite(high))
    if wrong.any():
        first = rows[wrong].iloc[0].to_dict()
        raise ValueError(f"quantiles of |L_A - L| must be finite with 0 <= low <= quantile <= high, got {first}")
    return rows
