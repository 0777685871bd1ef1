"""Searches that exchange one kept neuron after the other, sweep by sweep."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from meanfield.checks import MeanfieldWarning

__all__ = ["sweep_until_settled"]


def sweep_until_settled(sweep: Callable[[], bool], max_sweeps: int) -> None:
    """Call ``sweep`` until it reports that no exchange was made; warn where ``max_sweeps`` sweeps made one each."""
    for _ in range(max_sweeps):
        if not sweep():
            return
    warnings.warn(
        f"exchanges still lowered the loss after max_sweeps={max_sweeps}: better sets may be near: allow more",
        MeanfieldWarning,
        stacklevel=3,
    )
