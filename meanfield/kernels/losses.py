"""Losses of one sample and their derivatives by the outputs, chosen by integer code."""

from __future__ import annotations

import math

from meanfield.kernels._jit import jit
from meanfield.kernels.elementary import exp, log1p_exp, sigmoid

__all__ = ["CROSS_ENTROPY", "LOGISTIC", "SQUARE", "loss_and_signal", "losses_and_signals"]

SQUARE, LOGISTIC, CROSS_ENTROPY = range(3)


@jit
def loss_and_signal(outputs, y, loss):
    """Return l(y, y_hat) and overwrite ``outputs``, y_hat, with minus dl/dy_hat; both (C,)."""
    if loss == SQUARE:
        return _square(outputs, y)
    if loss == LOGISTIC:
        return _logistic(outputs, y)
    return _cross_entropy(outputs, y)


@jit
def losses_and_signals(losses, outputs, y, loss):
    """Write l(y, y_hat) into ``losses`` (n,) and minus dl/dy_hat over ``outputs``, y_hat; outputs and y (n, C)."""
    for i in range(losses.size):
        losses[i] = loss_and_signal(outputs[i], y[i], loss)


@jit
def _square(outputs, y):
    two = outputs.dtype.type(2)
    total = 0.0
    for c in range(y.size):
        residual = y[c] - outputs[c]
        outputs[c] = two * residual
        total += residual * residual
    return total


@jit
def _logistic(outputs, y):
    margin = y[0] * outputs[0]
    outputs[0] = y[0] * sigmoid(-margin)
    return float(log1p_exp(-margin))


@jit
def _cross_entropy(outputs, y):
    # Relative to the largest output, so that no exponential overflows; its own, 1, is left to log1p.
    top = 0
    for c in range(1, y.size):
        top = c if outputs[c] > outputs[top] else top
    largest, others, target = outputs[top], 0.0, 0.0
    for c in range(y.size):
        target += y[c] * (outputs[c] - largest)
    for c in range(y.size):
        outputs[c] = exp(outputs[c] - largest)
    for c in range(y.size):
        others += 0.0 if c == top else outputs[c]
    for c in range(y.size):
        outputs[c] = y[c] - outputs[c] / outputs.dtype.type(1 + others)
    return math.log1p(others) - target
