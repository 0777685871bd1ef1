"""Two jointly Gaussian variables above two thresholds: orthant probabilities and products of hinges.

References
----------
Owen 1956 (the orthant probability); Cho & Saul 2009 (hinges at the means).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, owens_t

__all__ = ["conditional", "density", "hinge_overlap", "nonzero", "orthant", "standardised"]

Array = NDArray[np.float64]

# Beyond this many standard deviations density and tail of a Gaussian are exactly 0 or 1 in double precision.
FAR = 40.0

# Owen's function is wanted at h / h with h -> 0, and at x / 0: these stand for the zeros without underflow.
NEARLY_ZERO, NO_SPREAD = 1e-100, 1e-150


def hinge_overlap(knot_u: Array, knot_v: Array, std_u: Array, std_v: Array, covariance: Array) -> Array:
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
    h, k = nonzero(standardised(knot_u, std_u)), nonzero(standardised(knot_v, std_v))
    y, x, spread = conditional(h, k, rho)
    density_h = density(h)
    return (
        (rho * scale + knot_u * knot_v) * orthant(h, k, y, x)
        - (std_u * knot_v * density_h) * ndtr(-y)
        - (std_v * knot_u * density(k)) * ndtr(-x)
        + (scale * density_h) * spread * density(y)
    )


def conditional(h: Array, k: Array, rho: Array) -> tuple[Array, Array, Array]:
    """(k - rho h) / s, (h - rho k) / s and s: k standardised given X = h, h given Y = k.

    Near rho = +-1 these are differences of nearly equal numbers: k -+ h and 1 - |rho| are formed first.
    """
    sign, spread = np.copysign(1.0, rho), _spread(rho)
    short = sign * (1 - np.abs(rho))
    floor = np.maximum(spread, NO_SPREAD)
    return ((k - sign * h) + short * h) / floor, ((h - sign * k) + short * k) / floor, spread


def orthant(h: Array, k: Array, y: Array, x: Array) -> Array:
    """P(X > h, Y > k) by Owen's function T, from the results y and x of `conditional`; h and k are not 0."""
    opposite = (h < 0) != (k < 0)
    return 0.5 * (ndtr(-h) + ndtr(-k) - opposite) - owens_t(h, y / h) - owens_t(k, x / k)


def standardised(knot: Array, std: Array) -> Array:
    """knot / std within +-`FAR`, and 0 / 0 = 0: a constant u lies on one side of every other knot."""
    shape = np.broadcast_shapes(np.shape(knot), np.shape(std))
    with np.errstate(divide="ignore", over="ignore"):
        return np.divide(knot, std, out=np.zeros(shape), where=np.not_equal(knot, 0)).clip(-FAR, FAR)


def nonzero(h: Array) -> Array:
    """Return h, zeros replaced by a number too small to matter, as `orthant` needs it."""
    return np.where(np.abs(h) < NEARLY_ZERO, NEARLY_ZERO, h)


def _inverse(std: Array) -> Array:
    """1 / std, and 0 for a constant, which is correlated with nothing."""
    return np.divide(1.0, std, out=np.zeros(np.shape(std)), where=std > 0)


def _spread(rho: Array) -> Array:
    return np.sqrt((1 - rho) * (1 + rho))


def density(z: Array) -> Array:
    """Return the density of N(0, 1) at z."""
    return np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
