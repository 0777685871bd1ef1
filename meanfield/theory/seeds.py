"""Means over independent seeds, with their Student intervals."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import stdtrit

__all__ = ["INTERVAL_LEVEL", "interval_over_seeds", "mean_over_seeds"]

INTERVAL_LEVEL = 0.9


def interval_over_seeds(values: ArrayLike, level: float = INTERVAL_LEVEL) -> float:
    """Half-width of the Student-t interval of a mean, one value a seed; NaN for a single seed.

        t_{(1 + level)/2, S - 1} std(values) / sqrt(S)          (S seeds, divisor S - 1 in std)

    See Also
    --------
    scipy.stats.t.interval : the same interval.
    """
    seeds = np.asarray(values, dtype=float)
    if seeds.size < 2:
        return math.nan
    return float(stdtrit(seeds.size - 1, (1 + level) / 2) * seeds.std(ddof=1) / math.sqrt(seeds.size))


def mean_over_seeds(frame: pd.DataFrame, by: str | list[str], column: str) -> pd.DataFrame:
    """Average ``column`` over the rows of equal ``by``: columns ``by``, mean, half_width (90% interval).

    Values that are not finite are left out of their mean.
    """
    groups = frame[np.isfinite(frame[column])].groupby(by)[column]
    return pd.DataFrame({"mean": groups.mean(), "half_width": groups.agg(interval_over_seeds)}).reset_index()
