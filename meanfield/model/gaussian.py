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

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erf, ndtr

from meanfield.kernels import gaussian as kernels
from meanfield.model.activations import Activation, piecewise_linear_form
from meanfield.model.network import Network
from meanfield.model.orthants import conditional, density, hinge_overlap, nonzero, orthant, standardised

__all__ = [
    "GaussianNeurons",
    "GaussianPair",
    "activation_family",
    "first_layer",
    "mean_activation",
    "needs_orthants",
    "pair_overlap",
]

Array = NDArray[np.float64]


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
    meanfield.model.overlaps.overlap_tiles : all pairs of neurons
    """
    if activation_family(first) != activation_family(second):
        raise ValueError(f"no closed form for the pair of {first!r} and {second!r}: estimate from samples")
    if first == "erf":
        return _erf_overlap(pair)
    if first == "quadratic":
        return _quadratic_overlap(pair)
    return _hinges_overlap(_hinges(first), _hinges(second), pair)


def _erf_overlap(pair: GaussianPair) -> Array:
    """E[erf(u / sqrt 2) erf(v / sqrt 2)]: the first is P(g < u) - P(g > u) for an independent g ~ N(0, 1)."""
    spread_u, spread_v = np.sqrt(1 + pair.variance_u), np.sqrt(1 + pair.variance_v)
    correlation = np.clip(pair.covariance / (spread_u * spread_v), -1, 1)
    if not (pair.mean_u.any() or pair.mean_v.any()):
        overlap = correlation.ravel()
        kernels.arcsine_law(overlap)
        return overlap.reshape(correlation.shape)
    h, k = nonzero(-pair.mean_u / spread_u), nonzero(-pair.mean_v / spread_v)
    both = orthant(h, k, *conditional(h, k, correlation)[:2])
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
        h = standardised(knot - mean, std)
        total += bend * (std * density(h) + (mean - knot) * ndtr(-h))
    return total


def _hinges_slope(hinges: _Hinges, mean: Array, std: Array) -> Array:
    """E[sigma'(u)], which is Cov(u, sigma(u)) / Var(u) by Stein's lemma."""
    total = hinges.slope + np.zeros_like(mean + std)
    for bend, knot in zip(hinges.bends, hinges.knots, strict=True):
        total += bend * ndtr(-standardised(knot - mean, std))
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
            total += (bend_u * bend_v) * hinge_overlap(*knots, std_u, std_v, pair.covariance)
    return total
