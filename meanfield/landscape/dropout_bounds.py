"""Bounds on what keeping m of N neurons does to the square loss of a given network, with their constants."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from meanfield.checks import check_choice
from meanfield.kernels.blas import single_threaded_blas
from meanfield.landscape.counts import checked_sizes
from meanfield.landscape.dropout import MAX_UNASKED_WIDTH
from meanfield.landscape.dropout_moments import (
    STRIP,
    NeuronMoments,
    in_order,
    low_rank_factors,
    neuron_moments,
    pair_strength,
    scaled_readout,
    std_over_subsets,
    strip_entries,
)
from meanfield.landscape.evaluation import Evaluation, evaluation_on
from meanfield.model.activations import Activation, piecewise_linear_form
from meanfield.model.laws import Law
from meanfield.model.network import Network, row_chunks
from meanfield.model.risk import check_fit
from meanfield.theory.bounds import NeuronConstants, cantelli_bound, check_delta, exponential_bound, sup_bound
from meanfield.theory.scaling import finite_population_factor

__all__ = ["BOUNDS", "BOUND_CONSTANTS", "dropout_bounds"]

BOUNDS = ("cantelli", "exponential", "sup")
BOUND_CONSTANTS = (
    "mean_change",
    "c_n",
    "std_change",
    "gamma_range",
    "diameter",
    "largest_neuron",
    "largest_target",
    "largest_observed",
)
COLUMNS = ["n_kept", "bound", "value", "delta", "n_neurons", *BOUND_CONSTANTS, "remarks"]

# sup |sigma|; those not named here and not piecewise linear are unbounded.
LARGEST_VALUE = {"tanh": 1.0, "erf": 1.0, "sigmoid": 1.0}

Array = NDArray[np.floating[Any]]


class _Measured(NamedTuple):
    """One network on one set of samples."""

    network: Network
    evaluation: Evaluation
    moments: NeuronMoments
    strength: float  # NaN where not computed
    diameter: float
    pairs: bool  # whether the last two are exact; else the diameter is an upper bound


def dropout_bounds(
    network: Network,
    law: Law,
    n_kept: Iterable[int],
    *,
    delta: float = 0.05,
    rng: np.random.Generator | int | None = None,
    n_samples: int = 10_000,
    bounds: Sequence[str] | None = None,
    pairs: bool | None = None,
    simultaneous: bool = False,
) -> pd.DataFrame:
    """Return bounds on L_A - L that hold with probability at least 1 - delta over sets A of ``n_kept`` neurons.

    For one hidden layer, the square loss, and A uniform and independent of the weights::

        cantelli       mean + std sqrt((1 - delta)/delta)
        exponential    2 gamma_range q + (sqrt(mean) + diameter q)^2,      q = kappa sqrt(log(2/delta)/(2m))
        sup            mean + 4 F (Y + F) kappa sqrt(log(1/delta)/(2m)),   bounded activations only

    with the exact mean and standard deviation over A. Derivations: `meanfield.theory.bounds`. "cantelli" is the
    narrowest at usual delta, "exponential" at very small ones; "sup" is mostly vacuous.

    Parameters
    ----------
    law : rows of an `Empirical` are the population; of any other law ``n_samples`` fresh samples are drawn, and
        L_A and L are losses on these
    n_kept : integers in 1..n_neurons
    delta : probability with which a bound may fail
    rng : Generator or seed, needed where samples are drawn
    bounds : names among `BOUNDS`; by default all, with the value NaN where one is undefined
    pairs : whether to spend O(N^2 n) on the exact std and diameter; by default up to N = 4096. Without, the std
        is unknown, and the diameter replaced by the sum of the two largest |f_i - mean_j f_j|
    simultaneous : whether the bounds shall hold for all M distinct ``n_kept`` at once, by delta/M each

    Returns
    -------
    DataFrame with one row an entry of ``n_kept`` and bound, in order:

    - n_kept, bound, value (at most which L_A - L is), delta (of this row), n_neurons
    - mean_change, c_n, std_change, gamma_range, diameter : constants used, NaN where not
    - largest_neuron, largest_target : F = sup|sigma| max_i |a_i| for every input, and Y, the largest |y - bias| of
      the samples
    - largest_observed : the largest |f_i(x)| of the samples, at most F
    - remarks : why a bound is undefined, which constants are not those of the law, which are upper bounds; "" if
      there is nothing to say

    ``attrs`` holds the fields of a `NeuronConstants`. Keeping all neurons changes nothing: there every bound that
    is defined is exactly 0.

    Raises
    ------
    TypeError : entries of ``n_kept`` that are not integers; ``delta`` no number; ``bounds`` one string; no ``rng``
        where samples are drawn
    ValueError : several hidden layers; no entries or one out of range; ``delta`` not inside (0, 1); an unknown
        bound, or one asked for by name that is undefined; a law that does not fit the network

    References
    ----------
    Shevchenko & Mondelli 2020, dropout stability with A of size m.

    See Also
    --------
    dropout_curve : the exact mean and standard deviation.
    meanfield.theory.bounds.limit_bounds : the limit of infinitely many neurons.
    """
    check_fit(network, law)
    sizes, names = checked_sizes(network, n_kept), _checked_names(network, bounds)
    row_delta = check_delta(delta) / (len(set(sizes)) if simultaneous else 1)
    measured = _measure(network, evaluation_on(law, "square", n_samples, rng), pairs)
    common = _common(measured, np.array(sizes), row_delta)
    table = pd.concat([_VALUES[name](measured, common, row_delta).assign(bound=name) for name in names])
    table = table.sort_index(kind="stable").reindex(columns=COLUMNS).reset_index(drop=True)
    table.attrs.update(asdict(_constants(measured)))
    return table


def _measure(network: Network, evaluation: Evaluation, pairs: bool | None) -> _Measured:
    moments = neuron_moments(network, evaluation.x, evaluation.y)
    if pairs or (pairs is None and network.widths[1] <= MAX_UNASKED_WIDTH):
        strength, diameter = pair_strength(network, evaluation.x, moments), _diameter(network, evaluation.x, moments)
        return _Measured(network, evaluation, moments, strength, diameter, pairs=True)
    two_largest = np.sort(np.sqrt(np.maximum(moments.diagonal, 0)))[-2:]
    return _Measured(network, evaluation, moments, math.nan, float(two_largest.sum()), pairs=False)


def _constants(measured: _Measured) -> NeuronConstants:
    gamma, diagonal, n = measured.moments.gamma, measured.moments.diagonal, measured.moments.gamma.size
    return NeuronConstants(
        c_n=float(measured.moments.variance.mean()),
        gamma_variance=float(gamma.var()),
        gamma_covariance=float((gamma * (diagonal - diagonal.mean())).mean()),
        diagonal_variance=float(diagonal.var()),
        pair_square=measured.strength / max(n * (n - 1), 1),
        gamma_range=float(np.ptp(gamma)),
        diameter=measured.diameter,
    )


def _common(measured: _Measured, sizes: NDArray[np.int_], delta: float) -> pd.DataFrame:
    """Return the columns that all bounds share."""
    n_neurons, c_n = measured.network.widths[1], float(measured.moments.variance.mean())
    change = finite_population_factor(n_neurons, sizes) * c_n
    return pd.DataFrame({"n_kept": sizes, "n_neurons": n_neurons, "delta": delta, "mean_change": change, "c_n": c_n})


def _cantelli(measured: _Measured, frame: pd.DataFrame, delta: float) -> pd.DataFrame:
    std = [std_over_subsets(measured.moments, measured.strength, m) for m in frame["n_kept"].tolist()]
    value = cantelli_bound(frame["mean_change"], std, delta)
    return frame.assign(value=value, std_change=std, remarks=_remarks(measured, "std not computed: pass pairs=True"))


def _exponential(measured: _Measured, frame: pd.DataFrame, delta: float) -> pd.DataFrame:
    constants = {"gamma_range": float(np.ptp(measured.moments.gamma)), "diameter": measured.diameter}
    sizes = {"n_neurons": frame["n_neurons"], "n_kept": frame["n_kept"]}
    value = exponential_bound(frame["mean_change"], **sizes, **constants, delta=delta)
    remarks = _remarks(measured, "diameter is an upper bound: pass pairs=True for the exact one")
    return frame.assign(value=value, **constants, remarks=remarks)


def _sup(measured: _Measured, frame: pd.DataFrame, delta: float) -> pd.DataFrame:
    network, x, y = measured.network, measured.evaluation.x, measured.evaluation.y
    if reason := _obstacle(network):
        return frame.assign(value=np.nan, remarks=f"undefined: {reason}")
    norms = np.linalg.norm(scaled_readout(network).weights, axis=0)
    bias = 0.0 if network.biases is None else network.biases[1]
    constants = {
        "largest_neuron": _supremum(network.activation) * float(norms.max()),
        "largest_target": float(np.linalg.norm(y - bias, axis=1).max()),
    }
    sizes = {"n_neurons": frame["n_neurons"], "n_kept": frame["n_kept"]}
    value = sup_bound(frame["mean_change"], **sizes, **constants, delta=delta)
    features = np.max([np.abs(network.features(x[rows], 1)).max(axis=0) for rows in row_chunks(len(x))], axis=0)
    return frame.assign(
        value=value, **constants, largest_observed=float((norms * features).max()), remarks=_remarks(measured)
    )


_VALUES = dict(zip(BOUNDS, (_cantelli, _exponential, _sup), strict=True))


def _remarks(measured: _Measured, without_pairs: str = "") -> str:
    sampled = f"for the losses on {len(measured.evaluation.x)} samples, not for those of the law"
    remarks = [sampled if measured.evaluation.method == "sample" else "", "" if measured.pairs else without_pairs]
    return "; ".join(filter(None, remarks))


def _diameter(network: Network, x: Array, moments: NeuronMoments) -> float:
    """Return max_ij |f_i - f_j| in L2 of x, O(N^2 n) for half a symmetric matrix, a strip of rows at a time.

    E|f_i - f_j|^2 = M_ii + M_jj - 2 M_ij = -2 (M_ij - v_i - v_j) at v_i = M_ii/2.
    """
    factors = low_rank_factors(scaled_readout(network), moments, moments.diagonal / 2)
    work = partial(_least_in_strip, network, x, moments.level, *factors)
    with single_threaded_blas():
        return math.sqrt(max(0.0, -2 * min(in_order(work, range(0, moments.diagonal.size, STRIP)))))


def _least_in_strip(network: Network, x: Array, level: Array, left: Array, right: Array, start: int) -> float:
    return float(strip_entries(network, x, level, left, right, start).min())


def _supremum(activation: Activation) -> float:
    """Return sup |sigma|, infinite for an unbounded activation."""
    pieces = piecewise_linear_form(activation)
    if pieces is None:
        return LARGEST_VALUE.get(str(activation), math.inf)
    flat_ends = pieces.left_slope == pieces.right_slope == 0
    return max(abs(value) for _, value in pieces.knots) if flat_ends else math.inf


def _obstacle(network: Network) -> str | None:
    """Say why the sup form is undefined; None if it is not."""
    if _supremum(network.activation) < math.inf:
        return None
    return f"{network.activation} is unbounded, so that no F >= |f_i(x)| holds for every x"


def _checked_names(network: Network, bounds: Sequence[str] | None) -> list[str]:
    if bounds is None:
        return list(BOUNDS)
    if isinstance(bounds, str):
        raise TypeError(f"bounds must be a list of names, got {bounds!r}: pass bounds=[{bounds!r}]")
    names = [check_choice("bound", name, BOUNDS) for name in bounds]
    if not names:
        raise ValueError(f"bounds must name at least one of {', '.join(BOUNDS)}, got none")
    if "sup" in names and (reason := _obstacle(network)):
        raise ValueError(f'bound "sup" is undefined: {reason}; use "cantelli" or "exponential"')
    return names
