"""Elementary functions of one float32 or float64 scalar, for loops that the compiler turns into vector code.

Each is a fixed sequence of multiply-adds, at most one division, and selections: no branch, no table, no call.
A loop ``for i in range(n): out[i] = tanh(z[i])`` under `jit` therefore runs on packed registers, and nothing
is widened on the way. A call of the C library would keep the loop scalar.

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
    =========  =======  =======

All pass NaN on, take infinities to their limits and underflow gradually; the odd functions keep the sign of
zero and never exceed 1. Outside compiled code they are plain Python on NumPy scalars.

With n = round(x / ln 2) and r = x - n ln 2, ln 2 in two parts (Cody & Waite 1980), e^x = 2^n e^r. Here e^r is
a polynomial, or costs half of one where a division is needed anyway, r coth(r/2) being even:

    e^r = (r coth(r/2) + r) / (r coth(r/2) - r),    |r| <= ln(2) / 2.

Near zero erf(x)/x - 1 is a polynomial in x^2; further out, with a polynomial p (Hastings 1955; Abramowitz &
Stegun 1964, 7.1.28), erf(x) = 1 - p(x)^-16. Coefficients are minimax, by Remez exchange in 60 digits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import types
from numba.extending import overload, register_jitable

from meanfield.kernels._jit import CONTRACT

__all__ = ["erf", "exp", "gaussian", "log1p_exp", "sigmoid", "tanh"]

# Inlined always: a call left in a loop keeps it scalar. Only contraction, whatever the caller allows for its own sums:
# reassociation may undo the rounding to a grid. No sum below has two inexact products, so that the compiler has no
# choice of what to fuse and the bits do not depend on the place in the loop.
_OPTIONS = {"forceinline": True, "error_model": "numpy", "fastmath": CONTRACT}
_inlined = register_jitable(**_OPTIONS)


class _Constants(NamedTuple):
    """Numbers in the format of the argument: a bare literal would widen float32 to float64."""

    zero: np.floating
    half: np.floating
    one: np.floating
    log2_e: np.floating
    ln2_high: np.floating  # so few bits that n times it is exact
    ln2_low: np.floating
    # Adding and subtracting a grid rounds to multiples of its last place.
    integer_grid: np.floating  # last place 1; its low bits hold twice the exponent bias
    square_grid: np.floating  # last place such that a rounded x <= gaussian_zero has an exact square
    exp_zero: np.floating  # e^-x rounds to 0 from here on
    exp_infinity: np.floating  # e^x overflows from here on
    gaussian_zero: np.floating  # e^(-x^2/2) rounds to 0 from here on
    tanh_one: np.floating  # tanh x rounds to 1 from here on
    erf_split: np.floating
    erf_one: np.floating  # erf x rounds to 1 from here on
    exponential: tuple[np.floating, ...]  # e^r, powers of r
    coth: tuple[np.floating, ...]  # r coth(r/2), powers of r^2
    atanh: tuple[np.floating, ...]  # (atanh(w)/w - 1) / w^2, powers of w^2
    erf_near: tuple[np.floating, ...]  # erf(x)/x - 1, powers of x^2
    erf_far: tuple[np.floating, ...]  # (1 - erf(x))^(-1/16), powers of x


def _constants_in(dtype, **values):
    cast = {name: tuple(map(dtype, v)) if isinstance(v, tuple) else dtype(v) for name, v in values.items()}
    return _Constants(**cast, zero=dtype(0), half=dtype(0.5), one=dtype(1))


# fmt: off
_SINGLE = _constants_in(
    np.float32,
    log2_e=1.44269504,
    ln2_high=float.fromhex("0x1.62e4p-1"),
    ln2_low=1.4286068e-06,
    integer_grid=1.5 * 2**23 + 2 * 127,
    square_grid=1.5 * 2**15,
    exp_zero=104,
    exp_infinity=89,
    gaussian_zero=14.5,
    tanh_one=10,
    erf_split=1.3,
    erf_one=3.95,
    exponential=(1, 1, 0.49999994, 0.16666521, 0.04166839, 0.008368745, 0.001381454),
    coth=(2, 0.16666625, -0.0027667447),
    atanh=(0.33333206, 0.2001085, 0.13999571, 0.1401223),
    erf_near=(0.12837917, -0.37612623, 0.11283613, -0.026857773, 0.005204351, -0.00082945806,
              0.00010179429, -7.1725817e-06),
    erf_far=(1.0014379, 0.065018006, 0.051100593, 0.0016931948, 0.003836852, -0.00068369607, 0.0001474843),
)
_DOUBLE = _constants_in(
    np.float64,
    log2_e=1.4426950408889634,
    ln2_high=float.fromhex("0x1.62e42feep-1"),
    ln2_low=1.9082149292705877e-10,
    integer_grid=1.5 * 2**52 + 2 * 1023,
    square_grid=1.5 * 2**32,
    exp_zero=746,
    exp_infinity=710,
    gaussian_zero=39,
    tanh_one=20,
    erf_split=1.35,
    erf_one=5.95,
    exponential=(1, 1, 0.5000000000000011, 0.1666666666666641, 0.04166666666652973, 0.00833333333349498,
                 0.0013888888943759893, 0.0001984126950576604, 2.480149294966484e-05, 2.7557586811282347e-06,
                 2.7630306247961874e-07, 2.500001637788809e-08),
    coth=(2, 0.16666666666666602, -0.0027777777777012787, 6.613756320694607e-05, -1.6533901403701713e-06,
          4.1381067574813e-08),
    atanh=(0.33333333333333154, 0.20000000000078622, 0.14285714273926883, 0.11111111984870622,
           0.09090871962254893, 0.076932799663695, 0.06650486726333629, 0.06053043669341269,
           0.041700483526645814, 0.08509292129133876),
    erf_near=(0.12837916709551256, -0.3761263890318358, 0.11283791670949135, -0.026866170644305225,
              0.005223977619473314, -0.0008548326764085486, 0.00012055325652153304, -1.492550916888817e-05,
              1.64602094133413e-06, -1.6347615846567668e-07, 1.4683548119041325e-08, -1.1704790630909124e-09,
              7.547924800627376e-11, -2.8966044674341798e-12),
    erf_far=(1.0000002197430848, 0.07052180489482406, 0.04228318746421374, 0.00926849354046445,
             0.00018298436566402358, 0.00018809147915188807, 0.00015010594591100514, -6.709696869682475e-05,
             2.424417848080709e-05, -5.842551993930275e-06, 1.0931329678426307e-06, -1.4871272386594046e-07,
             1.4544908432952777e-08, -8.995414999495057e-10, 2.8598957405539634e-11),
)
# fmt: on


def _by_dtype(single, double):
    """Return the function that is ``single`` for a float32 argument and ``double`` for a float64 one."""

    def chosen(x):
        return single(x) if x.dtype == np.float32 else double(x)

    @overload(chosen, jit_options=_OPTIONS)
    def choose(x):
        return {types.float32: single, types.float64: double}.get(x)

    return chosen


_constants = _by_dtype(lambda x: _SINGLE, lambda x: _DOUBLE)


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
