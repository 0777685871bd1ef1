"""Coefficients of the elementary functions, in the format of their argument.

Minimax polynomials, by Remez exchange in 60 digits; see `meanfield.kernels.elementary` for where they stand.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["DOUBLE", "SINGLE", "Constants"]


class Constants(NamedTuple):
    """Numbers in the format of the argument: a bare literal would widen float32 to float64."""

    zero: np.floating
    half: np.floating
    one: np.floating
    log2_e: np.floating
    ln2_high: np.floating  # so few bits that n times it is exact
    ln2_low: np.floating
    half_pi_high: np.floating  # pi/2 to the format's precision
    half_pi_low: np.floating  # and the rest
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
    arcsin: tuple[np.floating, ...]  # (arcsin(x)/x - 1) / x^2, powers of x^2
    erf_near: tuple[np.floating, ...]  # erf(x)/x - 1, powers of x^2
    erf_far: tuple[np.floating, ...]  # (1 - erf(x))^(-1/16), powers of x


def _in_format(dtype, **values):
    cast = {name: tuple(map(dtype, v)) if isinstance(v, tuple) else dtype(v) for name, v in values.items()}
    return Constants(**cast, zero=dtype(0), half=dtype(0.5), one=dtype(1))


# fmt: off
SINGLE = _in_format(
    np.float32,
    log2_e=1.44269504,
    ln2_high=float.fromhex("0x1.62e4p-1"),
    ln2_low=1.4286068e-06,
    half_pi_high=1.5707963705062866,
    half_pi_low=-4.371138828673793e-08,
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
    arcsin=(0.16666752, 0.07495298, 0.045470383, 0.02417948, 0.04216636),
    erf_near=(0.12837917, -0.37612623, 0.11283613, -0.026857773, 0.005204351, -0.00082945806,
              0.00010179429, -7.1725817e-06),
    erf_far=(1.0014379, 0.065018006, 0.051100593, 0.0016931948, 0.003836852, -0.00068369607, 0.0001474843),
)
DOUBLE = _in_format(
    np.float64,
    log2_e=1.4426950408889634,
    ln2_high=float.fromhex("0x1.62e42feep-1"),
    ln2_low=1.9082149292705877e-10,
    half_pi_high=1.5707963267948966,
    half_pi_low=6.123233995736766e-17,
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
    arcsin=(0.16666666666665408, 0.07500000000337016, 0.044642856828324154, 0.030381959137136975,
            0.0223717580472809, 0.017359704792070017, 0.013885235382386393, 0.012169210913642512,
            0.006527983367247777, 0.019528231481863462, -0.016224184792946114, 0.03191221471806354),
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
