"""How the theorem's bound grows with time: its prefactor, and the constant that a measured one asks for.

In the form of Theorem 1 of Shevchenko & Mondelli (2020) the prefactor of the bound up to time T is

    P(T) = K e^{K T^3},

with one constant K for all T that the theorem does not give. So a single measurement asks for some K and refutes
nothing; but the K that one horizon asks for must do at all the others. A gap that grows more slowly asks for less and
less, which leaves the bound standing and shows how loose it is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import lambertw

from meanfield.checks import check_positive

__all__ = ["log_prefactor", "needed_constant"]


def log_prefactor(constant: float, horizon: ArrayLike) -> NDArray[np.float64]:
    """Return log P(T) = log K + K T^3 at times T >= 0; its logarithm, since P overflows soon.

    See Also
    --------
    meanfield.theory.forms.theorem_form : what P(T) multiplies.
    """
    return np.log(check_positive("constant", constant)) + constant * _times(horizon) ** 3


def needed_constant(prefactor: ArrayLike, horizon: ArrayLike) -> NDArray[np.float64]:
    """Return the K at which K e^{K T^3} is a given P > 0; the arguments broadcast.

        K T^3 e^{K T^3} = P T^3,      hence      K = W(P T^3) / T^3,      K = P at T = 0

    with W the principal branch of Lambert's function. ValueError for P that is not positive and finite.
    """
    size, cubes = np.broadcast_arrays(np.asarray(prefactor, dtype=np.float64), _times(horizon) ** 3)
    if not (np.isfinite(size) & (size > 0)).all():
        raise ValueError(f"prefactor must be positive and finite, got {prefactor!r}: a gap of 0 needs no bound")
    exponent = lambertw(size * cubes).real
    return np.divide(exponent, cubes, out=size.copy(), where=cubes > 0)


def _times(horizon: ArrayLike) -> NDArray[np.float64]:
    times = np.asarray(horizon, dtype=np.float64)
    if not (np.isfinite(times) & (times >= 0)).all():
        raise ValueError(f"horizon must be finite and not negative, got {horizon!r}")
    return times
