"""Bounds on the change in square loss when m of N neurons are kept: formulas that a measurement could refute.

A is a uniformly random set of m of the N neurons, drawn independently of the weights; y_hat = mean_i f_i + b,
r = y - y_hat, e_A = mean_{i in A} f_i - mean_i f_i, and |.| is Euclidean over outputs. Then

    L_A - L = -(2/m) sum_{i in A} gamma_i + E|e_A|^2,        gamma_i = E[r . f_i] - mean_j E[r . f_j],
    mean := E_A[L_A] - L = E_A E|e_A|^2 = (N - m)/(m (N - 1)) c_N.

*(a) Cantelli.* P(X - E X > t) <= Var X / (Var X + t^2) = delta at t = std X sqrt((1 - delta)/delta), for any X.

*Exchange inequality.* Let exchanging one kept neuron for a dropped one move G(A) by at most beta. Draw the kept
neurons one by one. Given the first i - 1, two outcomes of draw i are coupled by swapping these two neurons: the
set changes only if the other one is not kept later on, with probability (N - m)/(N - i). So the i-th increment of
the martingale E[G | draws] ranges over at most beta (N - m)/(N - i), and by Hoeffding's and Azuma's inequality

    P( G - E G > beta kappa sqrt(m log(1/delta)/2) ) <= delta      if      m kappa^2 >= sum_{i<=m} ((N-m)/(N-i))^2.

As 1/s^2 is convex, sum_{j=N-m}^{N-1} 1/j^2 <= 1/(N - m - 1/2) - 1/(N - 1/2). Drawing the dropped neurons instead
exchanges the roles of m and N - m; and no term exceeds 1. The best of the three is

    kappa^2 = min( 1, (N - m)/(N - 1/2) / (1 - 1/(2 max(m, N - m))) ).

*(b) Exponential tail.* An exchange moves the linear part, of mean 0, by at most 2 range(gamma)/m, and the norm
E[|e_A|^2]^(1/2), of mean at most sqrt(mean), by at most diameter/m. Each exceeds its bound with probability at
most delta/2.

*(c) Sup form.* With |f_i(x)| <= F and |y - b| <= Y, an exchange of i for j changes the loss of a sample by
((f_i - f_j)/m) . (2 (y - b) - y_A - y_A'), y_A and y_A' the two means of f: at most (2F/m) 2 (Y + F).

References
----------
Shevchenko & Mondelli 2020, Theorem 1; McDiarmid 1989 and El-Yaniv & Pechyony 2009 for exchanges without replacement.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv

from meanfield.checks import check_number

__all__ = [
    "BoundVerdict",
    "NeuronConstants",
    "cantelli_bound",
    "check_delta",
    "exchange_factor",
    "exponential_bound",
    "judge_bound",
    "limit_bounds",
    "limit_std",
    "sup_bound",
]

Array = NDArray[np.float64]


def check_delta(delta: float) -> float:
    """Return ``delta``, the probability with which a bound may fail, if it lies between 0 and 1."""
    number = check_number("delta", delta)
    if not 0 < number < 1:
        raise ValueError(f"delta must lie between 0 and 1, got {delta}: pass e.g. delta=0.05")
    return number


def cantelli_bound(mean: ArrayLike, std: ArrayLike, delta: float) -> Array:
    """Bound L_A - L by its first two moments over A, with probability at least 1 - delta.

        L_A - L <= mean + std sqrt((1 - delta)/delta)

    Sharp: equality for two values, the larger taken with probability delta. A NaN stays one.

    Raises
    ------
    ValueError : a negative ``std``; ``delta`` not inside (0, 1)

    Source: Cantelli 1928.
    """
    spread = _not_negative("std", std)
    return np.asarray(mean, dtype=np.float64) + spread * math.sqrt((1 - check_delta(delta)) / delta)


def exchange_factor(n_neurons: ArrayLike, n_kept: ArrayLike) -> Array:
    """Return kappa, by which drawing m of N without replacement narrows McDiarmid's bound; 0 at m = N.

        kappa^2 = min( 1, (N - m)/(N - 1/2) / (1 - 1/(2 max(m, N - m))) )

    ``n_neurons`` may be `math.inf`, where kappa = 1; the arguments broadcast.

    Raises
    ------
    ValueError : ``n_kept`` outside 1..n_neurons

    Source: El-Yaniv & Pechyony 2009, Lemma 2, but for the 1.
    """
    total, kept = np.broadcast_arrays(np.asarray(n_neurons, np.float64), np.asarray(n_kept, np.float64))
    wrong = ~((kept >= 1) & (kept <= total) & (kept < np.inf))
    if wrong.any():
        raise ValueError(f"n_kept must lie in 1..n_neurons={total[wrong][0]:.15g}, got {kept[wrong][0]:.15g}")
    # (N - m)/(N - 1/2), written so that it has its limit at N = infinity.
    dropped = 1 - (kept - 0.5) / (total - 0.5)
    return np.sqrt(np.minimum(1.0, dropped / (1 - 0.5 / np.maximum(kept, total - kept))))


def exponential_bound(
    mean: ArrayLike,
    *,
    gamma_range: ArrayLike,
    diameter: ArrayLike,
    n_neurons: ArrayLike,
    n_kept: ArrayLike,
    delta: float,
) -> Array:
    """Bound L_A - L with a logarithmic price for small delta, with probability at least 1 - delta.

        L_A - L <= 2 gamma_range q + ( sqrt(mean) + diameter q )^2,      q = kappa sqrt(log(2/delta)/(2m))

    Parameters
    ----------
    mean : E_A[L_A] - L
    gamma_range : max_i gamma_i - min_i gamma_i, or more
    diameter : max_ij |f_i - f_j| in L2 of x, or more
    n_neurons : N, or `math.inf`
    n_kept : m

    Raises
    ------
    ValueError : a negative ``gamma_range`` or ``diameter``; as `exchange_factor` and `check_delta`

    Source: McDiarmid 1989, without replacement; derived above.
    """
    tail = _tail(n_neurons, n_kept, check_delta(delta) / 2)
    # Equal neurons have mean 0, or by rounding a little less.
    root = np.sqrt(np.maximum(np.asarray(mean, dtype=np.float64), 0.0))
    quadratic = (root + _not_negative("diameter", diameter) * tail) ** 2
    return 2 * _not_negative("gamma_range", gamma_range) * tail + quadratic


def sup_bound(
    mean: ArrayLike,
    *,
    largest_neuron: ArrayLike,
    largest_target: ArrayLike,
    n_neurons: ArrayLike,
    n_kept: ArrayLike,
    delta: float,
) -> Array:
    """Bound L_A - L for bounded neurons from their largest value alone, with probability at least 1 - delta.

        L_A - L <= mean + 4 F (Y + F) kappa sqrt(log(1/delta)/(2m))

    Parameters
    ----------
    mean : E_A[L_A] - L
    largest_neuron : F >= |f_i(x)| for all neurons and inputs
    largest_target : Y >= |y - b|, b the output bias
    n_neurons : N, or `math.inf`
    n_kept : m

    Raises
    ------
    ValueError : a negative ``largest_neuron`` or ``largest_target``; as `exchange_factor` and `check_delta`

    Source: McDiarmid 1989, without replacement; derived above.
    """
    neuron = _not_negative("largest_neuron", largest_neuron)
    exchange = 4 * neuron * (_not_negative("largest_target", largest_target) + neuron)
    return np.asarray(mean, dtype=np.float64) + exchange * _tail(n_neurons, n_kept, check_delta(delta))


@dataclass(frozen=True)
class NeuronConstants:
    """What decides bounds (a) and (b): averages over neurons, or pairs of them, that may settle as N grows.

    With phi_i = f_i - mean_j f_j, variances with divisor N, and M_ij = E[phi_i . phi_j]:
    """

    c_n: float  # mean_i M_ii
    gamma_variance: float  # Var_i gamma_i
    gamma_covariance: float  # Cov_i(gamma_i, M_ii)
    diagonal_variance: float  # Var_i M_ii
    pair_square: float  # mean of M_ij^2 over pairs i != j, less what the M_ii decide
    gamma_range: float  # max_i gamma_i - min_i gamma_i
    diameter: float  # max_ij |f_i - f_j| in L2 of x


def limit_std(constants: NeuronConstants, n_kept: ArrayLike) -> Array:
    """Return the standard deviation of L_A as N grows at fixed m: that of m independent neurons.

        std^2 = (1/m) Var_i(2 gamma_i - M_ii/m) + 2 (m - 1)/m^3 mean_ij M_ij^2

    Drawing without replacement from infinitely many neurons is drawing with replacement. Of the exact variance
    of m of N, the factors m(N - m)/(N(N - 1)) and (N - 2m)/(N - 2) tend to m/N and 1, and the probability weights
    of the pairs to 2 m (m - 1)/(m^4 N^2).

    See Also
    --------
    meanfield.landscape.dropout_moments.std_over_subsets : the exact one at finite N.
    """
    m, of = np.asarray(n_kept, dtype=np.float64), constants
    single = 4 * of.gamma_variance - 4 * of.gamma_covariance / m + of.diagonal_variance / m**2
    return np.sqrt(np.maximum(single, 0.0) / m + 2 * (m - 1) / m**3 * of.pair_square)


def limit_bounds(constants: NeuronConstants, n_kept: ArrayLike, *, delta: float = 0.05) -> pd.DataFrame:
    """Return bounds (a) and (b) at N = infinity: the width-independent ones, if the constants have settled.

        mean -> c/m,      std -> `limit_std`,      kappa -> 1

    At the same constants (b) is never below its value at finite N, since (N - m)/(N - 1) <= 1 and kappa <= 1.
    The averages settle with the law of the neurons. ``gamma_range`` and ``diameter`` settle only if this law has
    bounded support: of Gaussian weights the largest grows with N, if slowly.

    Returns
    -------
    DataFrame with columns n_kept, bound ("cantelli" or "exponential"), value (of L_A - L), delta

    Raises
    ------
    ValueError : ``n_kept`` below 1; ``delta`` not inside (0, 1)

    See Also
    --------
    meanfield.dropout_bounds : the same at finite N; its ``attrs`` are the constants of one network.
    """
    m = np.atleast_1d(np.asarray(n_kept))
    if (m < 1).any():
        raise ValueError(f"n_kept must be at least 1, got {m.min()}")
    ranges = {"gamma_range": constants.gamma_range, "diameter": constants.diameter}
    mean, std = constants.c_n / m, limit_std(constants, m)
    values = {
        "cantelli": cantelli_bound(mean, std, delta),
        "exponential": exponential_bound(mean, **ranges, n_neurons=math.inf, n_kept=m, delta=delta),
    }
    frames = [pd.DataFrame({"n_kept": m, "bound": name, "value": row, "delta": delta}) for name, row in values.items()]
    return pd.concat(frames).sort_index(kind="stable").reset_index(drop=True)


@dataclass(frozen=True)
class BoundVerdict:
    """How often independent draws of L_A - L were above a bound that allows it with probability ``delta``.

    ``low..high`` is the exact binomial interval of the exceedance; ``ratio`` the measured (1 - delta)-quantile in
    units of the bound.
    """

    exceedance: float
    low: float
    high: float
    ratio: float
    delta: float
    n_draws: int

    @property
    def refuted(self) -> bool:
        """Whether the bound is exceeded significantly more often than it allows."""
        return self.low > self.delta


def judge_bound(changes: ArrayLike, value: float, delta: float, *, level: float = 0.95) -> BoundVerdict:
    """Hold a bound ``value`` against independent draws ``changes`` (n,) of L_A - L.

    False alarms: at most (1 - level)/2 if the bound holds. Source: Clopper & Pearson 1934.

    Raises
    ------
    ValueError : no draws, or draws that are not finite; a ``value`` that is not positive and finite
    """
    draws = np.asarray(changes, dtype=np.float64)
    if draws.ndim != 1 or draws.size == 0 or not np.isfinite(draws).all():
        raise ValueError(f"changes must be a non-empty row of finite numbers, got shape {draws.shape}")
    if not 0 < value < math.inf:
        raise ValueError(f"value must be positive and finite, got {value}: a bound of 0 at m = N needs no test")
    above, n = int((draws > value).sum()), draws.size
    tail = (1 - level) / 2
    return BoundVerdict(
        exceedance=above / n,
        low=float(betaincinv(above, n - above + 1, tail)) if above else 0.0,
        high=float(betaincinv(above + 1, n - above, 1 - tail)) if above < n else 1.0,
        ratio=float(np.quantile(draws, 1 - check_delta(delta), method="inverted_cdf")) / value,
        delta=float(delta),
        n_draws=n,
    )


def _tail(n_neurons: ArrayLike, n_kept: ArrayLike, delta: float) -> Array:
    """Return kappa sqrt(log(1/delta)/(2m)), in units of m times what one exchange does."""
    return exchange_factor(n_neurons, n_kept) * np.sqrt(math.log(1 / delta) / (2 * np.asarray(n_kept)))


def _not_negative(name: str, values: ArrayLike) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if (array < 0).any():
        raise ValueError(f"{name} must not be negative, got {array[array < 0].flat[0]}")
    return array
