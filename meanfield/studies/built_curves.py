"""Curves between two networks with the work that building them took."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from meanfield.landscape.alignment import align
from meanfield.landscape.curves import Curve, StraightLine
from meanfield.model.network import Network

__all__ = ["BuiltCurve", "aligned_line"]


class BuiltCurve(NamedTuple):
    """A curve, the gradients of samples that trained it, and the assignment problems that aligned its ends."""

    curve: Curve
    n_gradients: int = 0
    n_assignments: int = 0


def aligned_line(first: Network, second: Network, rng: np.random.Generator) -> BuiltCurve:
    """Return the straight line from ``first`` to ``second`` with its neurons permuted to come near."""
    alignment = align(first, second, rng=rng)
    return BuiltCurve(StraightLine(first, alignment.network), n_assignments=alignment.n_assignments)
