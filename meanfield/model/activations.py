"""Activation functions by name, and piecewise linear ones by their knots.

| name | sigma(z) |
| --- | --- |
| relu | max(z, 0) |
| tanh | tanh(z) |
| erf | erf(z / sqrt 2) |
| sigmoid | 1 / (1 + exp(-z)) |
| softplus | log(1 + exp(z)) |
| linear | z |
| quadratic | z^2 |
| truncated-relu | -2.5 up to z = 0.5, 7.5 from z = 1.5, linear between (Mei, Montanari & Nguyen 2018) |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from meanfield.checks import check_choice
from meanfield.kernels import activations as kernels
from meanfield.kernels.activations import ActivationCode

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "PiecewiseLinear",
    "activation_arrays",
    "activation_code",
    "check_activation",
    "piecewise_linear_form",
    "stored_activation",
]


@dataclass(frozen=True, init=False)
class PiecewiseLinear:
    """The continuous function through ``knots``, linear between them.

    Parameters
    ----------
    knots : sequence of (z, sigma(z)), z strictly increasing, at least one
    left_slope, right_slope : slope before the first and after the last knot; 0 makes sigma constant there

    Examples
    --------
    >>> PiecewiseLinear([(0.5, -2.5), (1.5, 7.5)])                 # truncated ReLU
    >>> PiecewiseLinear([(0.0, 0.0)], right_slope=1.0)             # ReLU
    """

    knots: tuple[tuple[float, float], ...]
    left_slope: float
    right_slope: float

    def __init__(self, knots: Sequence[tuple[float, float]], left_slope: float = 0.0, right_slope: float = 0.0):
        points = np.asarray(knots, dtype=np.float64)
        if points.ndim != 2 or points.shape[0] == 0 or points.shape[1] != 2:
            raise ValueError(f"knots must be pairs (z, sigma(z)), at least one, got shape {points.shape}")
        if not (np.isfinite(points).all() and np.isfinite([left_slope, right_slope]).all()):
            raise ValueError(f"knots and slopes must be finite, got {knots!r}, {left_slope}, {right_slope}")
        if not (np.diff(points[:, 0]) > 0).all():
            raise ValueError(f"knots must have strictly increasing z, got {points[:, 0].tolist()}: sort them")
        object.__setattr__(self, "knots", tuple((float(z), float(value)) for z, value in points))
        object.__setattr__(self, "left_slope", float(left_slope))
        object.__setattr__(self, "right_slope", float(right_slope))

    @property
    def slopes(self) -> NDArray[np.float64]:
        """Slopes of the K + 1 pieces, from left to right; shape (K + 1,)."""
        points = np.array(self.knots)
        inner = np.diff(points[:, 1]) / np.diff(points[:, 0])
        return np.concatenate([[self.left_slope], inner, [self.right_slope]])


Activation = str | PiecewiseLinear

_CODES = {
    "relu": kernels.RELU,
    "tanh": kernels.TANH,
    "erf": kernels.ERF,
    "sigmoid": kernels.SIGMOID,
    "softplus": kernels.SOFTPLUS,
    "linear": kernels.LINEAR,
    "quadratic": kernels.QUADRATIC,
}
_NAMED_KNOTS = {"truncated-relu": PiecewiseLinear([(0.5, -2.5), (1.5, 7.5)])}

ACTIVATIONS: tuple[str, ...] = (*_CODES, *_NAMED_KNOTS)


def check_activation(activation: Activation) -> Activation:
    """Return ``activation`` if it is a known name or a `PiecewiseLinear`; raise with the nearest name otherwise."""
    if isinstance(activation, PiecewiseLinear):
        return activation
    return check_choice("activation", activation, ACTIVATIONS)


def piecewise_linear_form(activation: Activation) -> PiecewiseLinear | None:
    """Return the activation as a `PiecewiseLinear`, or None if it is not one (relu and linear are)."""
    if activation == "relu":
        return PiecewiseLinear([(0.0, 0.0)], right_slope=1.0)
    if activation == "linear":
        return PiecewiseLinear([(0.0, 0.0)], left_slope=1.0, right_slope=1.0)
    if isinstance(activation, PiecewiseLinear):
        return activation
    return _NAMED_KNOTS.get(activation)


def activation_arrays(activation: Activation) -> dict[str, NDArray[Any]]:
    """Return the arrays, by name, that stand for an activation in a file."""
    if isinstance(activation, PiecewiseLinear):
        slopes = np.array([activation.left_slope, activation.right_slope])
        return {"activation_knots": np.array(activation.knots), "activation_slopes": slopes}
    return {"activation": np.array(activation)}


def stored_activation(arrays: Mapping[str, NDArray[Any]]) -> Activation:
    """Return the activation of which `activation_arrays` are among these; its name is not checked."""
    if "activation_knots" not in arrays:
        return str(arrays["activation"])
    slopes = arrays["activation_slopes"]
    if slopes.shape != (2,):
        raise ValueError(f"activation_slopes must hold the left and the right slope, got shape {slopes.shape}")
    return PiecewiseLinear(arrays["activation_knots"].tolist(), *slopes)


def activation_code(activation: Activation, dtype: DTypeLike) -> ActivationCode:
    """Translate an activation for the kernels, its knots in the network's ``dtype``."""
    kind = np.dtype(dtype)
    code = _CODES.get(activation, kernels.PIECEWISE_LINEAR) if isinstance(activation, str) else kernels.PIECEWISE_LINEAR
    pieces = piecewise_linear_form(activation)
    if pieces is None:
        nothing = np.zeros(1, kind)
        return ActivationCode(code, nothing, np.zeros(2, kind), nothing)
    points = np.array(pieces.knots)
    return ActivationCode(
        code,
        points[:, 0].astype(kind),
        pieces.slopes.astype(kind),
        points[:1, 1].astype(kind),
    )
