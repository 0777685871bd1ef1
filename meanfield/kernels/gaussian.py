"""Gaussian expectations of pairs of neurons, elementwise."""

from __future__ import annotations

import math

from meanfield.kernels._jit import jit
from meanfield.kernels.elementary import arcsin

__all__ = ["arcsine_law"]


@jit
def arcsine_law(overlap):
    """Overwrite correlations rho (n,), first clipped to -1..1, with (2/pi) arcsin(rho)."""
    one, scale = overlap.dtype.type(1), overlap.dtype.type(2 / math.pi)
    for i in range(overlap.size):
        rho = one if overlap[i] > one else overlap[i]
        overlap[i] = scale * arcsin(-one if rho < -one else rho)
