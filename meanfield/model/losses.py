"""Losses by name.

| name | l(y, y_hat) | targets y |
| --- | --- | --- |
| square | sum over outputs of (y - y_hat)^2, without a factor 1/2 | any |
| logistic | log(1 + exp(-y y_hat)) | one output, +1 or -1 |
| cross-entropy | -sum over outputs of y log softmax(y_hat) | two outputs or more, one-hot |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from meanfield.checks import check_choice
from meanfield.kernels import losses as kernels

__all__ = [
    "LOSSES",
    "check_loss",
    "check_targets",
    "hold_classes",
    "loss_code",
    "losses_and_signals",
    "per_sample_loss",
]

Array = NDArray[np.float64]
Targets = NDArray[np.floating[Any]]


def _any_target(y: Targets) -> str | None:
    return None


def _not_signs(y: Targets) -> str | None:
    if y.shape[1] != 1:
        return f"it needs one output with y = +1 or -1, got {y.shape[1]} outputs: use cross-entropy"
    strange = y[np.abs(y) != 1]
    if not strange.size:
        return None
    remedy = "pass 2 y - 1 for labels y = 0 and 1, or target='sign' where a data set is loaded"
    return f"it needs y = +1 or -1, got {strange[0]:g}: {remedy}"


def _not_one_hot(y: Targets) -> str | None:
    if y.shape[1] < 2:
        return "it needs one-hot rows of two outputs or more, got one output: use logistic or target='one-hot'"
    wrong = ((y != 0) & (y != 1)).any(axis=1) | (y.sum(axis=1) != 1)
    return f"it needs one-hot rows, got {y[wrong][0].tolist()}: use target='one-hot'" if wrong.any() else None


class _Loss(NamedTuple):
    """A loss's code in the kernels, and what is wrong with targets (None if nothing)."""

    code: int
    complaint: Callable[[Targets], str | None]


_LOSSES = {
    "square": _Loss(kernels.SQUARE, _any_target),
    "logistic": _Loss(kernels.LOGISTIC, _not_signs),
    "cross-entropy": _Loss(kernels.CROSS_ENTROPY, _not_one_hot),
}

LOSSES: tuple[str, ...] = tuple(_LOSSES)


def check_loss(loss: str) -> str:
    """Return ``loss`` if it is a known name; raise with the nearest name otherwise."""
    return check_choice("loss", loss, LOSSES)


def check_targets(loss: str, y: Targets) -> None:
    """Raise unless the targets y (n, C) are of the kind that ``loss`` is defined for."""
    complaint = _LOSSES[check_loss(loss)].complaint(y)
    if complaint:
        raise ValueError(f"loss {loss!r} does not suit the targets: {complaint}")


def hold_classes(y: Targets) -> bool:
    """Whether targets y (n, C) name classes: +1 or -1 of one output, or one-hot rows of several."""
    return _not_signs(y) is None or _not_one_hot(y) is None


def loss_code(loss: str) -> int:
    """Return the integer by which the kernels know ``loss``."""
    return _LOSSES[check_loss(loss)].code


def per_sample_loss(loss: str, y: Targets, y_hat: NDArray[np.floating[Any]]) -> Array:
    """Return l(y, y_hat) of each sample, shape (n,), in float64; y and y_hat have shape (n, C).

    Raises
    ------
    ValueError : an unknown loss, shapes that differ, or targets of the wrong kind

    See Also
    --------
    meanfield.kernels.losses.loss_and_signal : the formulas, those of training too.
    """
    if y.shape != y_hat.shape or y.ndim != 2:
        raise ValueError(f"y and y_hat must have the same shape (n, C), got {y.shape} and {y_hat.shape}")
    return losses_and_signals(loss, y, y_hat.astype(np.float64, order="C"))[0]


def losses_and_signals(loss: str, y: Targets, y_hat: Targets) -> tuple[Array, Targets]:
    """Return l(y, y_hat) of each sample, (n,), and minus dl/dy_hat, (n, C), in the dtype of y_hat (n, C).

    Raises
    ------
    ValueError : an unknown loss, or targets of the wrong kind
    """
    check_targets(loss, y)
    losses, signals = np.empty(len(y_hat)), y_hat.copy(order="C")
    kernels.losses_and_signals(losses, signals, y.astype(y_hat.dtype, order="C", copy=False), loss_code(loss))
    return losses, signals
