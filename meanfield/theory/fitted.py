"""What bounds that are known up to one fitted constant share: the measurements they take, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["compare_with_bound", "holds_interval", "select_columns"]


def select_columns(name: str, frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return these columns of ``frame``, called ``name``, or raise ValueError naming those it lacks."""
    if missing := [column for column in columns if column not in frame.columns]:
        raise ValueError(f"{name} lacks the columns {missing}: it needs {list(columns)}")
    return frame[list(columns)]


def holds_interval(rows: pd.DataFrame, column: str) -> pd.Series:
    """Say of each row whether 0 <= low <= value <= high < infinity, the ends in columns named after ``column``."""
    low, value, high = (rows[f"{column}{end}"] for end in ("_low", "", "_high"))
    return (low >= 0) & (low <= value) & (value <= high) & np.isfinite(high)


def compare_with_bound(rows: pd.DataFrame, column: str, bound: NDArray[np.float64]) -> pd.DataFrame:
    """Add bound, ratio (value/bound) and fails: even the interval's lower end is above the bound."""
    # Written so that a bound which is NaN fails.
    fails = ~(rows[f"{column}_low"] <= bound)
    return rows.assign(bound=bound, ratio=rows[column] / bound, fails=fails)
