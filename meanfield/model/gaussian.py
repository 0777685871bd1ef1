"""Expectations of neurons over Gaussian inputs, in closed form.

Pre-activations u = <w, x> + b of Gaussian inputs are jointly Gaussian, so that E[sigma(u)] needs a mean and a
variance, and E[sigma(u) sigma'(v)] two of each and a covariance.

| family | activations | a pair takes |
| --- | --- | --- |
| erf | erf | the arcsine law; with biases an orthant probability P(u > s, v > t) |
| quadratic | quadratic | moments |
| piecewise-linear | relu, linear, truncated-relu, `PiecewiseLinear` | P(u > s, v > t) at all kinks (s, t) |

Kinks that lie at the means of u and v take the arc-cosine law instead.

References
----------
Saad & Solla 1995 (erf); Cho & Saul 2009 (the arc-cosine law); Owen 1956 (the orthant probability);
Mei, Montanari & Nguyen 2018 (piecewise linear neurons).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erf, ndtr, owens_t

from meanfield.kernels.blas import single_threaded_blas
from meanfield.model.activations import Activation, piecewise_linear_form
from meanfield.model.network import Network

__all__ = [
    "GaussianNeurons",
    "GaussianPair",
    "activation_family",
    "first_layer",
    "mean_activation",
    "needs_orthants",
    "overlap_tiles",
    "pair_overlap",
]

Array = NDArray[np.float64]
Tile = tuple[slice, slice, Array]

# Neurons on a side of a tile of the pair matrix: a tile and its temporaries stay in a core's cache.
TILE = 128

# Beyond this many standard deviations density and tail of a Gaussian are exactly 0 or 1 in double precision.
FAR = 40.0

# Owen's function is wanted at h / h with h -> 0, and at x / 0: these stand for the zeros without underflow.
NEARLY_ZERO, NO_SPREAD = 1e-100, 1e-150


class GaussianNeurons(NamedTuple):
    """Neurons sigma(u_i), u_i = <w_i, z> + b_i, under z ~ N(0, I): u ~ N(biases, weights weights^T)."""

    activation: Activation
    weights: Array  # (N, d)
    biases: Array  # (N,)
    variances: Array  # (N,): |w_i|^2


class GaussianPair(NamedTuple):
    """Jointly Gaussian (u, v): arrays that broadcast to the shape of ``covariance``."""

    mean_u: Array
    mean_v: Array
    variance_u: Array
    variance_v: Array
    covariance: Array


class _Hinges(NamedTuple):
    """A piecewise linear function as sigma(u) = level + slope u + sum_j bends_j (u - knots_j)_+."""

    level: float
    slope: float
    bends: Array  # (K,), none zero
    knots: Array  # (K,)


def activation_family(activation: Activation) -> str | None:
    """Return "erf", "quadratic" or "piecewise-linear"; None where pairs have no closed form."""
    if activation in ("erf", "quadratic"):
        return str(activation)
    return None if piecewise_linear_form(activation) is None else "piecewise-linear"


def first_layer(network: Network, input_std: ArrayLike = 1.0) -> GaussianNeurons:
    """Return the first hidden layer of ``network`` under x_j ~ N(0, input_std_j^2), independent, in float64."""
    weights = np.asarray(input_std) * network.weights[0].astype(np.float64)
    biases = np.zeros(len(weights)) if network.biases is None else network.biases[0].astype(np.float64)
    return GaussianNeurons(network.activation, weights, biases, np.einsum("ij,ij->i", weights, weights))


def needs_orthants(neurons: GaussianNeurons) -> bool:
    """Say whether pairs take orthant probabilities: kinks away from the mean of u, or erf with biases."""
    if neurons.activation == "erf":
        return bool(neurons.biases.any())
    if neurons.activation == "quadratic":
        return False
    return any((knot - neurons.biases).any() for knot in _hinges(neurons.activation).knots)


def mean_activation(activation: Activation, mean: ArrayLike, variance: ArrayLike) -> Array:
    """Return E[sigma(u)] for u ~ N(mean, variance), elementwise.

        erf:               erf(mean / sqrt(2 (1 + variance)))
        quadratic:         mean^2 + variance
        (u - knot)_+:      std phi(h) + (mean - knot) Q(h),    h = (knot - mean) / std

    Parameters
    ----------
    activation : of a known family, see `activation_family`
    mean, variance : arrays that broadcast together; a variance of 0 gives sigma(mean)
    """
    center, spread = np.asarray(mean, np.float64), np.asarray(variance, np.float64)
    if activation == "erf":
        return erf(center / np.sqrt(2 * (1 + spread)))
    if activation == "quadratic":
        return center**2 + spread
    return _hinges_mean(_hinges(activation), center, np.sqrt(spread))


def pair_overlap(first: Activation, second: Activation, pair: GaussianPair) -> Array:
    """Return E[first(u) second(v)] for a jointly Gaussian ``pair``, elementwise.

    Holds at any correlation, u = v and u = -v included, and for variances of 0. Piecewise linear functions
    are an affine part plus hinges; errors are a few roundings of the largest products of such parts.

    Raises
    ------
    ValueError : ``first`` and ``second`` are not of one family, see `activation_family`

    See Also
    --------
    overlap_tiles : all pairs of neurons
    """
    if activation_family(first) != activation_family(second):
        raise ValueError(f"no closed form for the pair of {first!r} and {second!r}: estimate from samples")
    if first == "erf":
        return _erf_overlap(pair)
    if first == "quadratic":
        return _quadratic_overlap(pair)
    return _hinges_overlap(_hinges(first), _hinges(second), pair)


def overlap_tiles(first: GaussianNeurons, second: GaussianNeurons | None = None) -> Iterator[Tile]:
    """Yield (rows, columns, tile), tile = E[sigma(u_rows) sigma'(v_columns)], for all pairs of neurons.

    Without ``second`` the pairs are those of ``first`` with itself, and of the symmetric matrix only tiles on
    and above the diagonal come. Memory is a few tiles of `TILE` x `TILE`.
    """
    other = first if second is None else second
    for rows in _blocks(len(first.weights)):
        start = rows.start if second is None else 0
        for columns in _blocks(len(other.weights), start):
            with single_threaded_blas():
                covariance = first.weights[rows] @ other.weights[columns].T
            pair = GaussianPair(
                first.biases[rows, None], other.biases[columns],
                first.variances[rows, None], other.variances[columns], covariance,
            )  # fmt: skip
            yield rows, columns, pair_overlap(first.activation, other.activation, pair)


def _blocks(n: int, start: int = 0) -> Iterator[slice]:
    for low in range(start, n, TILE):
        yield slice(low, min(low + TILE, n))


def _erf_overlap(pair: GaussianPair) -> Array:
    """E[erf(u / sqrt 2) erf(v / sqrt 2)]: the first is P(g < u) - P(g > u) for an independent g ~ N(0, 1)."""
    spread_u, spread_v = np.sqrt(1 + pair.variance_u), np.sqrt(1 + pair.variance_v)
    correlation = np.clip(pair.covariance / (spread_u * spread_v), -1, 1)
    if not (pair.mean_u.any() or pair.mean_v.any()):
        return (2 / np.pi) * np.arcsin(correlation)
    h, k = _nonzero(-pair.mean_u / spread_u), _nonzero(-pair.mean_v / spread_v)
    both = _orthant(h, k, *_conditional(h, k, correlation)[:2])
    return 4 * both - 2 * ndtr(-h) - 2 * ndtr(-k) + 1


def _quadratic_overlap(pair: GaussianPair) -> Array:
    """E[u^2 v^2] by Isserlis' theorem."""
    squares = (pair.mean_u**2 + pair.variance_u) * (pair.mean_v**2 + pair.variance_v)
    return squares + 2 * pair.covariance * (pair.covariance + 2 * pair.mean_u * pair.mean_v)


@cache
def _hinges(activation: Activation) -> _Hinges:
    form = piecewise_linear_form(activation)
    if form is None:
        raise ValueError(f"no closed form for activation {activation!r}: estimate from samples")
    slopes, knots = form.slopes, np.array(form.knots)
    bends = np.diff(slopes)
    bent = bends != 0
    return _Hinges(knots[0, 1] - slopes[0] * knots[0, 0], slopes[0], bends[bent], knots[bent, 0])


def _hinges_mean(hinges: _Hinges, mean: Array, std: Array) -> Array:
    total = hinges.level + hinges.slope * mean + np.zeros_like(std)
    for bend, knot in zip(hinges.bends, hinges.knots, strict=True):
        h = _standardised(knot - mean, std)
        total += bend * (std * _density(h) + (mean - knot) * ndtr(-h))
    return total


def _hinges_slope(hinges: _Hinges, mean: Array, std: Array) -> Array:
    """E[sigma'(u)], which is Cov(u, sigma(u)) / Var(u) by Stein's lemma."""
    total = hinges.slope + np.zeros_like(mean + std)
    for bend, knot in zip(hinges.bends, hinges.knots, strict=True):
        total += bend * ndtr(-_standardised(knot - mean, std))
    return total


def _hinges_overlap(first: _Hinges, second: _Hinges, pair: GaussianPair) -> Array:
    """Sum over affine part and hinges of u, times those of v; affine parts leave means and mean slopes."""
    std_u, std_v = np.sqrt(pair.variance_u), np.sqrt(pair.variance_v)
    affine_u = first.level + first.slope * pair.mean_u
    affine_v = second.level + second.slope * pair.mean_v
    mean_u, mean_v = _hinges_mean(first, pair.mean_u, std_u), _hinges_mean(second, pair.mean_v, std_v)
    slopes = first.slope * _hinges_slope(second, pair.mean_v, std_v) - first.slope * second.slope
    slopes = slopes + second.slope * _hinges_slope(first, pair.mean_u, std_u)
    total = affine_u * mean_v + affine_v * (mean_u - affine_u) + slopes * pair.covariance
    for bend_u, knot_u in zip(first.bends, first.knots, strict=True):
        for bend_v, knot_v in zip(second.bends, second.knots, strict=True):
            knots = (knot_u - pair.mean_u, knot_v - pair.mean_v)
            total += (bend_u * bend_v) * _hinge_overlap(*knots, std_u, std_v, pair.covariance)
    return total


def _hinge_overlap(knot_u: Array, knot_v: Array, std_u: Array, std_v: Array, covariance: Array) -> Array:
    """E[(u - knot_u)_+ (v - knot_v)_+] for centred u and v.

    With (X, Y) = (u / std_u, v / std_v) of correlation rho, h and k the knots in these units,
    s^2 = 1 - rho^2, phi the density and Q the upper tail of a Gaussian,

        E[(X - h)_+ (Y - k)_+] = (rho + h k) P(X > h, Y > k) + s phi(h) phi((k - rho h) / s)
                                 - k phi(h) Q((k - rho h) / s) - h phi(k) Q((h - rho k) / s).
    """
    scale = std_u * std_v
    rho = np.clip(covariance * _inverse(std_u) * _inverse(std_v), -1, 1)
    if not (knot_u.any() or knot_v.any()):
        return scale / (2 * np.pi) * (_spread(rho) + rho * (np.pi / 2 + np.arcsin(rho)))
    h, k = _nonzero(_standardised(knot_u, std_u)), _nonzero(_standardised(knot_v, std_v))
    y, x, spread = _conditional(h, k, rho)
    density_h = _density(h)
    return (
        (rho * scale + knot_u * knot_v) * _orthant(h, k, y, x)
        - (std_u * knot_v * density_h) * ndtr(-y)
        - (std_v * knot_u * _density(k)) * ndtr(-x)
        + (scale * density_h) * spread * _density(y)
    )


def _conditional(h: Array, k: Array, rho: Array) -> tuple[Array, Array, Array]:
    """(k - rho h) / s, (h - rho k) / s and s: k standardised given X = h, h given Y = k.

    Near rho = +-1 these are differences of nearly equal numbers: k -+ h and 1 - |rho| are formed first.
    """
    sign, spread = np.copysign(1.0, rho), _spread(rho)
    short = sign * (1 - np.abs(rho))
    floor = np.maximum(spread, NO_SPREAD)
    return ((k - sign * h) + short * h) / floor, ((h - sign * k) + short * k) / floor, spread


def _orthant(h: Array, k: Array, y: Array, x: Array) -> Array:
    """P(X > h, Y > k) by Owen's function T, from the results y and x of `_conditional`; h and k are not 0."""
    opposite = (h < 0) != (k < 0)
    return 0.5 * (ndtr(-h) + ndtr(-k) - opposite) - owens_t(h, y / h) - owens_t(k, x / k)


def _standardised(knot: Array, std: Array) -> Array:
    """knot / std within +-`FAR`, and 0 / 0 = 0: a constant u lies on one side of every other knot."""
    shape = np.broadcast_shapes(np.shape(knot), np.shape(std))
    with np.errstate(divide="ignore", over="ignore"):
        return np.divide(knot, std, out=np.zeros(shape), where=np.not_equal(knot, 0)).clip(-FAR, FAR)


def _nonzero(h: Array) -> Array:
    return np.where(np.abs(h) < NEARLY_ZERO, NEARLY_ZERO, h)


def _inverse(std: Array) -> Array:
    """1 / std, and 0 for a constant, which is correlated with nothing."""
    return np.divide(1.0, std, out=np.zeros(np.shape(std)), where=std > 0)


def _spread(rho: Array) -> Array:
    return np.sqrt((1 - rho) * (1 + rho))


def _density(z: Array) -> Array:
    return np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
