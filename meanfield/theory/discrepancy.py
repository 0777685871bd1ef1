"""The bound on how far SGD is from its mean-field limit, known up to one constant: fitted once, required elsewhere.

In the form of Theorem 5.4 of Araújo, Oliveira & Yukimura (2019), at each step up to time T,

    E |L_N - L_inf| <= C(T, H) ( sqrt(d/N) + alpha + sqrt(alpha d) ),

L_N the loss of a network of H hidden layers of N neurons. C is not given, and depends on nothing else. Where the limit
is not known, a network of N' > N neurons may stand for it: by the triangle inequality

    E |L_N - L_N'| <= C ( form(N) + form(N') ).

Trained with the same step size on the same samples, both carry what finite steps add, which then cancels: such a
difference can refute how the bound goes with N and d, not its terms in alpha.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from meanfield.theory.fitted import compare_with_bound, holds_interval, select_columns
from meanfield.theory.forms import discrepancy_form

__all__ = ["DiscrepancyFit", "check_discrepancy", "fit_discrepancy"]

COLUMNS = ("n_neurons", "n_reference", "step_size", "n_parameters", "gap", "gap_low", "gap_high")


@dataclass(frozen=True)
class DiscrepancyFit:
    """The least constant C at which the form holds for networks of ``n_neurons`` in the dimension ``n_parameters``."""

    constant: float
    n_neurons: int
    n_parameters: int


def fit_discrepancy(gaps: pd.DataFrame, *, n_neurons: int, n_parameters: int) -> DiscrepancyFit:
    """Fit the constant in one place: the least at which no interval of a measured difference exceeds the bound.

        C = max gap_high / (form(N) + form(N'))

    Parameters
    ----------
    gaps : a row a measurement: n_neurons, n_reference (N and N' > N), step_size, n_parameters (alpha and d, see
        `meanfield.theory.forms.discrepancy_form`), gap, gap_low and gap_high (E |L_N - L_N'| with its interval)
    n_neurons, n_parameters : N and d of the rows to fit at

    Raises
    ------
    ValueError : a missing column, numbers that are not finite or not in order, no rows in this place

    See Also
    --------
    check_discrepancy : the test in other places.
    """
    rows = _checked(gaps)
    here = rows[(rows["n_neurons"] == n_neurons) & (rows["n_parameters"] == n_parameters)]
    if here.empty:
        known = sorted({(int(n), int(d)) for n, d in rows[["n_neurons", "n_parameters"]].to_numpy()})
        raise ValueError(f"gaps has no rows at n_neurons={n_neurons}, n_parameters={n_parameters}, only at {known}")
    return DiscrepancyFit(float((here["gap_high"] / _forms(here)).max()), int(n_neurons), int(n_parameters))


def check_discrepancy(fit: DiscrepancyFit, gaps: pd.DataFrame) -> pd.DataFrame:
    """Hold the fitted bound against differences from where it was not fitted.

    A row fails where even the lower end of its interval is above the bound.

    Parameters
    ----------
    gaps : as in `fit_discrepancy`

    Returns
    -------
    DataFrame with the columns of ``gaps`` named there, bound, ratio (gap/bound), fails

    Raises
    ------
    ValueError : as `fit_discrepancy`; no rows from elsewhere

    See Also
    --------
    meanfield.theory.prefactor.describe_checked : the result in words.
    """
    rows = _checked(gaps)
    fitted = (rows["n_neurons"] == fit.n_neurons) & (rows["n_parameters"] == fit.n_parameters)
    others = rows[~fitted].reset_index(drop=True)
    if others.empty:
        raise ValueError(
            f"gaps has no rows but at n_neurons={fit.n_neurons}, n_parameters={fit.n_parameters}, where the constant "
            "was fitted: add another width or dimension"
        )
    return compare_with_bound(others, "gap", fit.constant * _forms(others))


def _forms(rows: pd.DataFrame) -> NDArray[np.float64]:
    """Return form(N) + form(N') of each row."""
    return np.array([_form_of_pair(row) for row in rows.to_dict("records")])


def _form_of_pair(row: dict[Any, Any]) -> float:
    pair = [row["n_neurons"], row["n_reference"]]
    return float(discrepancy_form(pair, step_size=row["step_size"], n_parameters=row["n_parameters"]).sum())


def _checked(gaps: pd.DataFrame) -> pd.DataFrame:
    rows = select_columns("gaps", gaps, COLUMNS)
    wrong = ~(holds_interval(rows, "gap") & (rows["n_reference"] > rows["n_neurons"]))
    if wrong.any():
        raise ValueError(
            "gaps must be finite with 0 <= gap_low <= gap <= gap_high and n_reference > n_neurons, got "
            f"{rows[wrong].iloc[0].to_dict()}"
        )
    return rows
