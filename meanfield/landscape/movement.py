"""How far training has moved the weights of each layer, and whether it has moved any."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from meanfield.checks import MeanfieldWarning, check_nonnegative
from meanfield.model.network import Network, row_chunks

__all__ = ["movement"]


def movement(before: Network, after: Network, *, least_change: float = 0.01) -> pd.DataFrame:
    """Return how far the weights of each layer have moved: rms over the weights, in units of the rms they began with.

        rms_change = ( mean_ij (W_ij(after) - W_ij(before))^2 )^(1/2),      relative_change = rms_change / rms_before

    In mean-field scaling a weight moves by O(1) in rescaled time 1, whatever the width. Nothing is learnt, by the rule
    used here, if no layer has a relative change of at least ``least_change``: a `MeanfieldWarning` then says so.

    Parameters
    ----------
    before, after : networks of the same widths
    least_change : at least 0; 0 never warns

    Returns
    -------
    DataFrame with one row a layer of weights l = 0..H:

    - layer : l
    - rms_before, rms_change, relative_change : as above; weights that were all 0 have moved by 0 or infinity
    - mean_change : mean_ij (W_ij(after) - W_ij(before)), signed; as large as rms_change if all moved alike

    Raises
    ------
    ValueError : networks of different widths; a negative ``least_change``

    References
    ----------
    Nguyen & Pham 2020 for layers whose weights all move alike, Araújo, Oliveira & Yukimura 2019 for the time scale.

    See Also
    --------
    meanfield.model.initialisation : starts from which internal layers learn.
    """
    if before.widths != after.widths:
        raise ValueError(f"before and after must have the same widths, got {before.widths} and {after.widths}")
    least = check_nonnegative("least_change", least_change)
    pairs = zip(before.weights, after.weights, strict=True)
    table = pd.DataFrame([{"layer": layer, **_moved(*pair)} for layer, pair in enumerate(pairs)])
    largest = table["relative_change"].max()
    if largest < least:
        warnings.warn(
            f"nothing is learnt: no layer's weights moved by {least:.3g} of their size, at most by {largest:.3g}: "
            "train longer or more layers, or start internal weights with another mean (Network.init(.., mean=..))",
            MeanfieldWarning,
            stacklevel=2,
        )
    return table


def _moved(before: NDArray[Any], after: NDArray[Any]) -> dict[str, float]:
    size, square, total = 0.0, 0.0, 0.0
    for rows in row_chunks(len(before)):
        start = before[rows].astype(np.float64)
        change = after[rows] - start
        size += float(np.square(start).sum())
        square += float(np.square(change).sum())
        total += float(change.sum())
    rms_before, rms_change = math.sqrt(size / before.size), math.sqrt(square / before.size)
    return {
        "rms_before": rms_before,
        "rms_change": rms_change,
        "mean_change": total / before.size,
        "relative_change": _ratio(rms_change, rms_before),
    }


def _ratio(change: float, size: float) -> float:
    if size == 0:
        return math.inf if change > 0 else 0.0
    return change / size
