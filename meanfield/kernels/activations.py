"""Activation functions over contiguous rows of pre-activations: one loop a function, chosen by integer code."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from meanfield.kernels._jit import jit
from meanfield.kernels.elementary import erf, gaussian, log1p_exp, sigmoid, tanh

__all__ = [
    "ERF",
    "LINEAR",
    "PIECEWISE_LINEAR",
    "QUADRATIC",
    "RELU",
    "SIGMOID",
    "SOFTPLUS",
    "TANH",
    "ActivationCode",
    "activate",
    "activate_with_slope",
]

RELU, TANH, ERF, SIGMOID, SOFTPLUS, LINEAR, QUADRATIC, PIECEWISE_LINEAR = range(8)

SQRT_HALF = float(np.sqrt(0.5))
SQRT_TWO_OVER_PI = float(np.sqrt(2 / np.pi))


class ActivationCode(NamedTuple):
    """What a kernel knows of an activation; the last three fields mean something where it is piecewise linear."""

    code: int
    knots: NDArray[np.floating]  # (K,), increasing
    slopes: NDArray[np.floating]  # (K + 1,): left of the first knot, between knots, right of the last
    level: NDArray[np.floating]  # (1,): value at the first knot


@jit
def activate(h, activation, z):
    """Write sigma(z) into ``h``; both (n,)."""
    code = activation.code
    kind = h.dtype.type
    zero, root = kind(0), kind(SQRT_HALF)
    n = z.size
    if code == RELU:
        for i in range(n):
            h[i] = zero if z[i] < zero else z[i]
    elif code == TANH:
        for i in range(n):
            h[i] = tanh(z[i])
    elif code == ERF:
        for i in range(n):
            h[i] = erf(root * z[i])
    elif code == SIGMOID:
        for i in range(n):
            h[i] = sigmoid(z[i])
    elif code == SOFTPLUS:
        for i in range(n):
            h[i] = log1p_exp(z[i])
    elif code == LINEAR:
        for i in range(n):
            h[i] = z[i]
    elif code == QUADRATIC:
        for i in range(n):
            h[i] = z[i] * z[i]
    else:
        _piecewise_linear(h, activation, z)


@jit
def activate_with_slope(h, slope, activation, z):
    """Write sigma(z) into ``h`` and sigma'(z) into ``slope``, left derivatives at kinks; all (n,)."""
    code = activation.code
    kind = h.dtype.type
    zero, one, two = kind(0), kind(1), kind(2)
    root, density = kind(SQRT_HALF), kind(SQRT_TWO_OVER_PI)
    n = z.size
    if code == RELU:
        for i in range(n):
            h[i] = zero if z[i] < zero else z[i]
            slope[i] = one if z[i] > zero else zero
    elif code == TANH:
        for i in range(n):
            h[i] = tanh(z[i])
            slope[i] = (one - h[i]) * (one + h[i])
    elif code == ERF:
        for i in range(n):
            h[i] = erf(root * z[i])
            slope[i] = density * gaussian(z[i])
    elif code == SIGMOID:
        for i in range(n):
            h[i] = sigmoid(z[i])
            slope[i] = h[i] * (one - h[i])
    elif code == SOFTPLUS:
        for i in range(n):
            h[i] = log1p_exp(z[i])
            slope[i] = sigmoid(z[i])
    elif code == LINEAR:
        for i in range(n):
            h[i] = z[i]
            slope[i] = one
    elif code == QUADRATIC:
        for i in range(n):
            h[i] = z[i] * z[i]
            slope[i] = two * z[i]
    else:
        _piecewise_linear(h, activation, z)
        _piecewise_slope(slope, activation, z)


@jit
def _piecewise_linear(h, activation, z):
    # Sums of clipped pieces, not of (z - knot)_+: beyond the last knot nothing large has to cancel.
    # The comparisons leave a NaN in place.
    zero = h.dtype.type(0)
    knots, slopes, level = activation.knots, activation.slopes, activation.level[0]
    first, last = knots[0], knots[knots.size - 1]
    left, right = slopes[0], slopes[knots.size]
    for i in range(z.size):
        below, above = z[i] - first, z[i] - last
        h[i] = level + left * (zero if below > zero else below) + right * (zero if above < zero else above)
    for k in range(1, knots.size):
        low, high, rise = knots[k - 1], knots[k], slopes[k]
        for i in range(z.size):
            capped = high if z[i] > high else z[i]
            h[i] += rise * ((low if capped < low else capped) - low)


@jit
def _piecewise_slope(slope, activation, z):
    knots, slopes = activation.knots, activation.slopes
    for i in range(z.size):
        slope[i] = slopes[0]
    for k in range(knots.size):
        knot, value = knots[k], slopes[k + 1]
        for i in range(z.size):
            slope[i] = value if z[i] > knot else slope[i]
