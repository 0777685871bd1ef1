"""How far training has moved the weights and biases of each layer, and whether it has moved any."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from meanfield.checks import MeanfieldWarning, check_nonnegative
from meanfield.landscape.parameters import form_of
from meanfield.model.network import Network, row_chunks

__all__ = ["movement"]


def movement(before: Network, after: Network, *, least_change: float = 0.01) -> pd.DataFrame:
    """Return how far the weights of each layer have moved: rms over the weights, in units of the rms they began with.

        rms_change = ( mean_ij (W_ij(after) - W_ij(before))^2 )^(1/2),      relative_change = rms_change / rms_before

    In mean-field scaling a weight moves by O(1) in rescaled time 1, whatever the width, and so does a hidden bias.
    Nothing is learnt, by the rule used here, if neither the weights of a layer nor the biases of a hidden one have a
    relative change of at least ``least_change``: a `MeanfieldWarning` then says so. The output bias, which learns a
    constant, does not count.

    Parameters
    ----------
    before, after : networks of the same widths, activation, scaling and dtype, both with biases or both without
    least_change : at least 0; 0 never warns

    Returns
    -------
    DataFrame with one row a layer of weights:

    - weights : l = 0..H, of `Network.weights` [l]
    - rms_before, rms_change, relative_change : as above; weights that were all 0 have moved by 0 or infinity
    - mean_change : mean_ij (W_ij(after) - W_ij(before)), signed; as large as rms_change if all moved alike
    - bias_rms_change, bias_relative_change : the same of the biases that are added there, in units of the rms that
      weights and biases of the layer began with, (rms(W)^2 + rms(b)^2)^(1/2); NaN without biases

    Raises
    ------
    TypeError : no Networks
    ValueError : networks that differ in more than the values of their arrays; a negative ``least_change``

    References
    ----------
    Nguyen & Pham 2020 for layers whose weights all move alike, Araújo, Oliveira & Yukimura 2019 for the time scale.

    See Also
    --------
    meanfield.model.initialisation : starts from which internal layers learn.
    """
    _check_alike(before, after)
    least = check_nonnegative("least_change", least_change)
    table = pd.DataFrame(
        [{"weights": layer, **_of_layer(before, after, layer)} for layer in range(before.n_hidden + 1)]
    )
    largest = pd.concat([table["relative_change"], table["bias_relative_change"].iloc[:-1]]).max()
    if largest < least:
        warnings.warn(
            f"nothing is learnt: no layer's weights or hidden biases moved by {least:.3g} of their size, at most by "
            f"{largest:.3g}: train longer or more layers, or start internal weights with another mean "
            "(Network.init(.., mean=..))",
            MeanfieldWarning,
            stacklevel=2,
        )
    return table


def _check_alike(before: Network, after: Network) -> None:
    for network in (before, after):
        if not isinstance(network, Network):
            raise TypeError(f"movement compares two Networks, got {type(network).__name__}")
    mine, theirs = ({"widths": network.widths, **form_of(network)} for network in (before, after))
    for name, value in mine.items():
        if theirs[name] != value:
            raise ValueError(f"before and after must have the same {name}, got {value} and {theirs[name]}")


def _of_layer(before: Network, after: Network, layer: int) -> dict[str, float]:
    weights = _moved(before.weights[layer], after.weights[layer])
    if before.biases is None or after.biases is None:
        return weights | {"bias_rms_change": math.nan, "bias_relative_change": math.nan}
    biases = _moved(before.biases[layer], after.biases[layer])
    size = math.hypot(weights["rms_before"], biases["rms_before"])
    change = biases["rms_change"]
    return weights | {"bias_rms_change": change, "bias_relative_change": _ratio(change, size)}


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
