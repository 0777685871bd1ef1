"""Elementary functions of one float32 or float64 scalar, for loops that the compiler turns into vector code.

Each is a fixed sequence of multiply-adds, at most one division or square root, and selections: no branch, no
table, no call. A loop ``for i in range(n): out[i] = tanh(z[i])`` under `jit` therefore runs on packed registers,
and nothing is widened on the way. A call of the C library would keep the loop scalar.

Largest error over the whole range, in units in the last place, with or without fused multiply-adds:

    =========  =======  =======
    function   float32  float64
    =========  =======  =======
    exp        1.2      1.2
    gaussian   1.3      1.4
    sigmoid    2.5      2.4
    tanh       2.8      3.1
    log1p_exp  2.9      3.0
    erf        2.5      2.6
    arcsin     2.5      2.5
    =========  =======  =======

All pass NaN on, take infinities to their limits and underflow gradually; the odd functions keep the sign of
zero and never exceed 1. Outside compiled code they are plain Python on NumPy scalars.

With n = round(x / ln 2) and r = x - n ln 2, ln 2 in two parts (Cody & Waite 1980), e^x = 2^n e^r. Here e^r is
a polynomial, or costs half of one where a division is needed anyway, r coth(r/2) being even:

    e^r = (r coth(r/2) + r) / (r coth(r/2) - r),    |r| <= ln(2) / 2.

Near zero erf(x)/x - 1 is a polynomial in x^2; further out, with a polynomial p (Hastings 1955; Abramowitz &
Stegun 1964, 7.1.28), erf(x) = 1 - p(x)^-16. Beyond 1/2, arcsin(x) = pi/2 - 2 arcsin(sqrt((1 - x)/2)).
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload, register_jitable

from meanfield.kernels._jit import CONTRACT
from meanfield.kernels.coefficients import DOUBLE, SINGLE

__all__ = ["arcsin", "erf", "exp", "gaussian", "log1p_exp", "sigmoid", "tanh"]

# Inlined always: a call left in a loop keeps it scalar. Only contraction, whatever the caller allows for its own sums:
# reassociation may undo the rounding to a grid. No sum below has two inexact products, so that the compiler has no
# choice of what to fuse and the bits do not depend on the place in the loop.
_OPTIONS = {"forceinline": True, "error_model": "numpy", "fastmath": CONTRACT}
_inlined = register_jitable(**_OPTIONS)


def _by_dtype(single, double):
    """Return the function that is ``single`` for a float32 argument and ``double`` for a float64 one."""

    def chosen(x):
        return single(x) if x.dtype == np.float32 else double(x)

    @overload(chosen, jit_options=_OPTIONS)
    def choose(x):
        return {types.float32: single, types.float64: double}.get(x)

    return chosen


_constants = _by_dtype(lambda x: SINGLE, lambda x: DOUBLE)


def _power_factors_in(real, unsigned, n_mantissa_bits):
    one, shift = unsigned(1), unsigned(n_mantissa_bits)

    def power_factors(x):
        bits = real(x).view(unsigned)
        lesser = unsigned(bits >> one)
        greater = unsigned(bits - lesser)
        return unsigned(lesser << shift).view(real), unsigned(greater << shift).view(real)

    return power_factors


# Two normal powers of two whose product is 2^n, from n + integer_grid: its low bits, n + 2 bias, are halved
# and moved to the exponent. One factor could reach neither subnormal results nor those next to overflow.
_power_factors = _by_dtype(_power_factors_in(np.float32, np.uint32, 23), _power_factors_in(np.float64, np.uint64, 52))


@_inlined
def _at_most(x, bound):
    # NaN stays, here and below.
    return bound if x > bound else x


@_inlined
def _at_least(x, bound):
    return bound if x < bound else x


@_inlined
def _polynomial(x, coefficients):
    value = coefficients[-1]
    for i in range(len(coefficients) - 2, -1, -1):
        value = value * x + coefficients[i]
    return value


@_inlined
def _reduce(x, c):
    """Return r and the two factors of 2^n, x = n ln 2 + r."""
    shifted = x * c.log2_e + c.integer_grid
    n = shifted - c.integer_grid
    return (x - n * c.ln2_high) - n * c.ln2_low, _power_factors(shifted)


@_inlined
def _exp_of_sum(x, tail, c):
    """Return e^(x + tail) for a tail far below ln 2."""
    r, (first, second) = _reduce(x, c)
    return _polynomial(r + tail, c.exponential) * first * second


@_inlined
def _exp_parts(x, c):
    """Return power, r and even with e^x = power (even + r) / (even - r)."""
    r, (first, second) = _reduce(x, c)
    return first * second, r, _polynomial(r * r, c.coth)


@_inlined
def exp(x):
    """Return e^x in the format of ``x``.

    See Also
    --------
    numpy.exp : the same for arrays.
    """
    c = _constants(x)
    return _exp_of_sum(_at_least(_at_most(x, c.exp_infinity), -c.exp_zero), c.zero, c)


@_inlined
def gaussian(x):
    """Return e^(-x^2/2) in the format of ``x``.

    A rounded square would spoil the tail: x^2 = h^2 + (x - h)(x + h), x rounded to h so that h^2 is exact.
    """
    c = _constants(x)
    a = _at_most(abs(x), c.gaussian_zero)
    h = (a + c.square_grid) - c.square_grid
    return _exp_of_sum(-c.half * h * h, -c.half * (a - h) * (a + h), c)


@_inlined
def sigmoid(x):
    """Return 1 / (1 + e^-x) in the format of ``x``.

    See Also
    --------
    scipy.special.expit : the same for arrays.
    """
    c = _constants(x)
    power, r, even = _exp_parts(_at_least(_at_most(x, c.tanh_one + c.tanh_one), -c.exp_zero), c)
    scaled = power * (even + r)
    return scaled / (scaled + (even - r))


@_inlined
def tanh(x):
    """Return tanh x = (e^2x - 1) / (e^2x + 1) in the format of ``x``.

    With e^2x = p (even + r) / (even - r) both sides of the fraction contain q = (p - 1)(even + r), so that
    tanh x = (q + 2 r) / (q + 2 even): for small x, where p = 1 and q = 0, nothing cancels.

    See Also
    --------
    numpy.tanh : the same for arrays.
    """
    c = _constants(x)
    a = _at_most(abs(x), c.tanh_one)
    power, r, even = _exp_parts(a + a, c)
    q = (power - c.one) * (even + r)
    return np.copysign((q + (r + r)) / (q + (even + even)), x)


@_inlined
def log1p_exp(x):
    """Return log(1 + e^x) = max(x, 0) + log(1 + e^-|x|), the softplus function, in the format of ``x``.

    log(1 + E) = 2 atanh(w) with w = E / (2 + E) <= 1/3.

    See Also
    --------
    numpy.logaddexp : log(e^x + e^y), the same for arrays at y = 0.
    """
    c = _constants(x)
    power, r, even = _exp_parts(-_at_most(abs(x), c.exp_zero), c)
    scaled, rest = power * (even + r), even - r
    w = scaled / (scaled + (rest + rest))
    square = w * w
    half = w + w * (square * _polynomial(square, c.atanh))
    return _at_least(x, c.zero) + (half + half)


@_inlined
def erf(x):
    """Return erf x = 2/sqrt(pi) int_0^x e^(-t^2) dt in the format of ``x``.

    See Also
    --------
    scipy.special.erf : the same for arrays.
    """
    c = _constants(x)
    a = _at_most(abs(x), c.erf_one)
    near = x + x * _polynomial(a * a, c.erf_near)
    far = np.copysign(c.one - c.one / _polynomial(a, c.erf_far) ** 16, x)
    return near if a < c.erf_split else far


@_inlined
def arcsin(x):
    """Return arcsin x in the format of ``x``, NaN outside -1..1.

    See Also
    --------
    numpy.arcsin : the same for arrays.
    """
    c = _constants(x)
    a = abs(x)
    outer = c.half * (c.one - a)
    square = a * a if a < c.half else outer
    root = a if a < c.half else np.sqrt(outer)
    inner = root + root * (square * _polynomial(square, c.arcsin))
    value = inner if a < c.half else c.half_pi_high - ((inner + inner) - c.half_pi_low)
    return np.copysign(value, x)
