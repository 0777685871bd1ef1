"""Statistics by which a claim about scaling with width is judged: exponents, equivalence, settling.

Independent replicas (seeds) are the units throughout. Measurements of one seed at several widths share their
samples and are correlated, so a regression that counts every row as independent states too narrow an
interval; one slope a seed, and Student's t over seeds, does not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from meanfield.checks import check_numbers, check_positive

__all__ = [
    "ExponentFit",
    "SettledVerdict",
    "compare_with_margin",
    "equivalence_test",
    "finite_population_factor",
    "fit_exponent",
    "rejects",
    "settled_from",
]

# Two one-sided tests at 5% accept exactly when this interval lies inside the margin.
TOST_LEVEL = 0.90


@dataclass(frozen=True)
class ExponentFit:
    """A power law y = constant * x^exponent, with a Student-t interval ``low..high`` of the exponent."""

    exponent: float
    standard_error: float
    low: float
    high: float
    level: float
    n_seeds: int
    x_min: float
    x_max: float
    constant: float

    def describe(self) -> str:
        """State the fit in words: exponent, interval, number of seeds and range."""
        interval = f"{100 * self.level:g}% interval {self.low:z.3f}..{self.high:z.3f}"
        span = f"x in {self.x_min:.8g}..{self.x_max:.8g}"
        return f"exponent {self.exponent:z.3f} ({interval}, {self.n_seeds} seeds, {span})"


@dataclass(frozen=True)
class SettledVerdict:
    """Whether, and from which width on, a quantity no longer depends on width.

    ``fit`` belongs to the widest accepted range, or to the shortest admissible one where nothing is settled.
    ``table`` holds every admissible range in the order of testing: the columns of `ExponentFit` (x_min is the
    range's first width), equivalent (passes on its own) and accepted (and so do all ranges before it).
    """

    settled: bool
    from_width: int | None
    fit: ExponentFit
    margin: float
    min_factor: float
    table: pd.DataFrame = field(repr=False, compare=False)

    def describe(self) -> str:
        """State the verdict in words with its statistics, and what "settled" tolerates."""
        head = f"settled from width {self.from_width} on {self._tolerance()}" if self.settled else "not shown to settle"
        passed = f"{self.table['accepted'].sum()} of {len(self.table)} pass"
        tested = f"ranges of width up to the largest, tested from the shortest on until one fails: {passed}"
        return f"{head}: {compare_with_margin(self.fit, self.margin)}; {tested}"

    def _tolerance(self) -> str:
        """Say how far the quantity may still change within the margin, and whether it is seen to."""
        span = self.fit.x_max / self.fit.x_min
        within = f"within +-{self.margin:g}: a factor {span**self.margin:.2g} over a {span:.3g}-fold width"
        if self.fit.low <= 0 <= self.fit.high:
            return f"({within}; no drift seen, the interval holds 0)"
        return f"({within}; still drifting: exponent {self.fit.exponent:z.3f}, the interval excludes 0)"


def fit_exponent(
    x: ArrayLike, y: ArrayLike, seed: ArrayLike, *, level: float = TOST_LEVEL, x_name: str = "x"
) -> ExponentFit:
    """Fit y = C x^p with independent seeds as units, however the points of one seed are correlated.

    With u = log x - mean(log x), each of the S seeds has its least-squares slope, and these the interval::

        p_s = sum_j u_j log y_sj / sum_j u_j^2
        p = mean_s p_s -+ t_{(1 + level)/2, S - 1} std_s(p_s) / sqrt(S)

    Exact for Gaussian slopes, approximate for many seeds otherwise. What all seeds share (a data set, say)
    is conditioned on: the interval says nothing about another one.

    Parameters
    ----------
    x, y : (n,) positive, finite; one row a measurement.
    seed : (n,) labels of the independent replicas; every seed has exactly one row at each x.
    level : coverage of the interval, between 0 and 1.
    x_name : what errors call x.

    Raises
    ------
    TypeError : x or y does not hold numbers.
    ValueError : lengths differ; x or y is not positive and finite; fewer than two seeds or distinct x; a seed
        has a repeated or missing row; ``level`` is not inside (0, 1).

    See Also
    --------
    scipy.stats.linregress : the slope of one seed.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}: pass e.g. level=0.9")
    return _fit(*_seed_curves(x, y, seed, x_name, "y"), level)


def equivalence_test(fit: ExponentFit, margin: float = 0.1) -> bool:
    """Whether the exponent is zero up to ``margin``, by two one-sided tests (TOST) against |p| >= margin.

    Both reject exactly when ``-margin < low`` and ``high < margin``. False alarms: at most (1 - level)/2, 5%
    at level 0.9. Few or noisy seeds give a wide interval and fail. Source: Schuirmann 1987.
    """
    margin = check_positive("margin", margin)
    return -margin < fit.low and fit.high < margin


def rejects(fit: ExponentFit, margin: float = 0.1) -> bool:
    """Whether the exponent is significantly outside +-margin, as a control's must be: ``low..high`` is.

    False alarms: (1 - level)/2 in each direction, at most 1 - level together (approached by intervals much
    wider than the margin). Not the negation of `equivalence_test`: across an end of +-margin both are False.
    """
    margin = check_positive("margin", margin)
    return fit.low > margin or fit.high < -margin


def compare_with_margin(fit: ExponentFit, margin: float = 0.1) -> str:
    """State in words where the interval of ``fit`` lies: inside +-margin, wholly outside, or undecided."""
    if equivalence_test(fit, margin):
        return f"{fit.describe()}, inside +-{margin:g}"
    if rejects(fit, margin):
        return f"{fit.describe()}, wholly outside +-{margin:g}"
    return f"{fit.describe()}, undecided (neither inside nor wholly outside +-{margin:g})"


def settled_from(
    widths: ArrayLike, values: ArrayLike, seed: ArrayLike, *, margin: float = 0.1, min_factor: float = 16
) -> SettledVerdict:
    """Find the smallest width from which log value is flat in log width, at 5% false alarms for the search.

    On every range [w, W], W the largest width and W/w >= ``min_factor``, the slope is estimated with seeds
    as units and held against +-margin by `equivalence_test`. Reporting the smallest w that passes is a search
    over ranges, and taking any that passes would raise the false-alarm rate. Here the order is fixed
    beforehand, from the shortest range (largest w) outwards, and the first failure ends the search. A false
    claim then needs the first range in this order whose true slope is outside the margin to pass its own 5%
    test. Hence, without correction and whatever the dependence between ranges::

        P( some range [v, W], v >= from_width, has a true slope outside +-margin ) <= 5%

    The price: if the shortest range fails, nothing is claimed, though a longer one might pass on its own
    (``table`` shows it). The guarantee needs W, ``margin`` and ``min_factor`` chosen before the values are
    seen. It concerns the average slope of each range: with few widths in one, look at the values too.

    Parameters
    ----------
    widths, values, seed : (n,) integers, the quantity that should settle, and labels, as in `fit_exponent`.
    margin : the slope from which on dependence counts.
    min_factor : least W/w, above 1; short ranges show little of a trend.

    Raises
    ------
    TypeError, ValueError : as `fit_exponent`; widths not integers, or not spanning ``min_factor``.

    Source: fixed-sequence testing, Maurer, Hothorn & Lehmacher 1995; TOST, Schuirmann 1987.
    """
    margin = check_positive("margin", margin)
    neurons = check_numbers("widths", widths, "integers")
    points, log_values = _seed_curves(neurons, values, seed, "widths", "values")
    n_ranges = _count_admissible(points, min_factor)
    fits = [_fit(points[j:], log_values[:, j:], TOST_LEVEL) for j in reversed(range(n_ranges))]
    table = _range_table(fits, margin)
    n_accepted = int(table["accepted"].sum())
    fit = fits[max(n_accepted - 1, 0)]
    return SettledVerdict(
        settled=n_accepted > 0,
        from_width=int(fit.x_min) if n_accepted else None,
        fit=fit,
        margin=margin,
        min_factor=float(min_factor),
        table=table,
    )


def finite_population_factor(n_neurons: ArrayLike, n_kept: ArrayLike) -> NDArray[np.float64]:
    """Variance of the mean of m of N neurons drawn without replacement, in units of their variance.

        Var_A[ (1/m) sum_{i in A} f_i ] = (N - m) / (m (N - 1)) * Var_i f_i        (divisor N in Var_i)

    Exactly 0 at m = N, N = 1 included. Integers, 1 <= m <= N; the two arguments broadcast.
    """
    total, kept = check_numbers("n_neurons", n_neurons, "integers"), check_numbers("n_kept", n_kept, "integers")
    total, kept = np.broadcast_arrays(total, kept)
    wrong = (kept < 1) | (kept > total)
    if wrong.any():
        raise ValueError(f"n_kept must lie in 1..n_neurons={total[wrong][0]:.0f}, got {kept[wrong][0]:.0f}")
    return (total - kept) / (kept * np.maximum(total - 1, 1))


def _fit(x: NDArray[np.float64], log_y: NDArray[np.float64], level: float) -> ExponentFit:
    """Fit curves ``log_y`` (n_seeds, n_points) on their common, increasing ``x`` (n_points,)."""
    log_x = np.log(x)
    centred = log_x - log_x.mean()
    # Elementwise sums, not a matrix product: there BLAS would decide the last bits.
    slopes = (log_y * centred).sum(axis=1) / (centred * centred).sum()
    exponent, standard_error = float(slopes.mean()), float(slopes.std(ddof=1)) / math.sqrt(slopes.size)
    half_width = float(stdtrit(slopes.size - 1, (1 + level) / 2)) * standard_error
    return ExponentFit(
        exponent=exponent,
        standard_error=standard_error,
        low=exponent - half_width,
        high=exponent + half_width,
        level=float(level),
        n_seeds=slopes.size,
        x_min=float(x[0]),
        x_max=float(x[-1]),
        constant=float(np.exp(log_y.mean() - exponent * log_x.mean())),
    )


def _count_admissible(widths: NDArray[np.float64], min_factor: float) -> int:
    """Count the widths w with max/w >= min_factor: the starts of admissible ranges."""
    if not check_positive("min_factor", min_factor) > 1:
        raise ValueError(f"min_factor must be above 1, got {min_factor}: a slope needs two widths")
    smallest, largest = widths[0], widths[-1]
    if largest < min_factor * smallest:
        raise ValueError(
            f"widths must span a factor {min_factor:g}, got {smallest:.8g}..{largest:.8g}, a factor "
            f"{largest / smallest:.4g}: add a width of at least {math.ceil(smallest * min_factor)}"
        )
    return int((largest >= min_factor * widths).sum())


def _range_table(fits: list[ExponentFit], margin: float) -> pd.DataFrame:
    equivalent = np.array([equivalence_test(fit, margin) for fit in fits])
    return pd.DataFrame(fits).assign(equivalent=equivalent, accepted=np.logical_and.accumulate(equivalent))


def _seed_curves(
    x: ArrayLike, y: ArrayLike, seed: ArrayLike, x_name: str, y_name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Arrange the rows as distinct x (n_points,) and log y (n_seeds, n_points), or say what prevents it."""
    abscissa, ordinate, labels = check_numbers(x_name, x), check_numbers(y_name, y), np.asarray(seed)
    if abscissa.ndim != 1 or not abscissa.shape == ordinate.shape == labels.shape:
        raise ValueError(
            f"{x_name}, {y_name} and seed must be one-dimensional and of equal length, one row a "
            f"measurement, got shapes {abscissa.shape}, {ordinate.shape} and {labels.shape}"
        )
    _check_loggable(x_name, abscissa)
    _check_loggable(y_name, ordinate)
    codes, seeds = pd.factorize(labels)
    points, positions = np.unique(abscissa, return_inverse=True)
    _check_enough(codes, seeds, points, x_name)
    counts = np.zeros((len(seeds), points.size), dtype=int)
    np.add.at(counts, (codes, positions), 1)
    _check_coverage(counts, seeds, points, x_name)
    log_y = np.empty(counts.shape)
    log_y[codes, positions] = np.log(ordinate)
    return points, log_y


def _check_loggable(name: str, column: NDArray[np.float64]) -> None:
    wrong = np.flatnonzero(~(np.isfinite(column) & (column > 0)))
    if wrong.size:
        raise ValueError(
            f"{name} must be positive and finite, since its logarithm is taken, but row {wrong[0]} is "
            f"{column[wrong[0]]} ({wrong.size} such in all): drop that point in every seed, or that seed; "
            "if training led there, take a smaller step size"
        )


def _check_enough(codes: NDArray[Any], seeds: NDArray[Any], points: NDArray[Any], x_name: str) -> None:
    if (codes < 0).any():
        raise ValueError(f"seed must label every row, but row {codes.argmin()} has none: name its replica")
    if len(seeds) < 2:
        raise ValueError(f"an interval over seeds needs at least 2 seeds, got {len(seeds)}: add a replica")
    if points.size < 2:
        raise ValueError(f"a slope needs at least 2 distinct {x_name}, got only {points[0]:.8g}: add another")


def _check_coverage(counts: NDArray[Any], seeds: NDArray[Any], points: NDArray[Any], x_name: str) -> None:
    if (counts != 1).any():
        s, j = np.argwhere(counts != 1)[0]
        remedy = "average repeated rows" if counts[s, j] else "add a missing one or drop its point from every seed"
        raise ValueError(
            f"all seeds must cover the same {x_name}, one row at each, so that slopes compare, but seed "
            f"{seeds[s]} has {counts[s, j]} rows at {points[j]:.8g}: {remedy}"
        )
