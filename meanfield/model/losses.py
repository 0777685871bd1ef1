"""Losses by name.

| name | l(y, y_hat) | targets y |
| --- | --- | --- |
| square | sum over outputs of (y - y_hat)^2, without a factor 1/2 | any |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meanfield.checks import check_choice

__all__ = ["LOSSES", "check_loss", "per_sample_loss"]

Array = NDArray[np.float64]


def _square(y: Array, y_hat: Array) -> Array:
    residual = y - y_hat
    return np.einsum("ij,ij->i", residual, residual)


_PER_SAMPLE: dict[str, Callable[[Array, Array], Array]] = {"square": _square}

LOSSES: tuple[str, ...] = tuple(_PER_SAMPLE)


def check_loss(loss: str) -> str:
    """Return ``loss`` if it is a known name; raise with the nearest name otherwise."""
    return check_choice("loss", loss, LOSSES)


def per_sample_loss(loss: str, y: NDArray[np.floating[Any]], y_hat: NDArray[np.floating[Any]]) -> Array:
    """Return l(y, y_hat) of each sample, shape (n,), in float64; y and y_hat have shape (n, C).

    Raises
    ------
    ValueError : an unknown loss, or shapes that differ
    """
    check_loss(loss)
    if y.shape != y_hat.shape or y.ndim != 2:
        raise ValueError(f"y and y_hat must have the same shape (n, C), got {y.shape} and {y_hat.shape}")
    return _PER_SAMPLE[loss](y.astype(np.float64), y_hat.astype(np.float64))
