"""Curves between two networks that carry no certificate: the straight line and the quadratic Bezier curve."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from meanfield.landscape.parameters import check_same_form
from meanfield.model.network import Network

__all__ = ["Curve", "QuadraticBezier", "StraightLine", "checked_curve", "checked_time"]

Array = NDArray[np.floating[Any]]


@runtime_checkable
class Curve(Protocol):
    """What `curve_risk` asks of a curve of networks: ``at(t)`` for t in [0, 1]; any object that has it will do."""

    def at(self, t: float) -> Network:
        """Return the network at ``t``."""


@dataclass(frozen=True)
class StraightLine:
    """The straight line theta(t) = (1 - t) theta_0 + t theta_1 in all weights and biases.

    In mean-field scaling the weights are the parameters theta_i of the neurons themselves: neuron i moves on a
    straight line from where it is in ``first`` to where neuron i of ``second`` is.

    Parameters
    ----------
    first, second : of the same widths, activation, scaling and dtype, both with biases or both without

    See Also
    --------
    meanfield.landscape.alignment.align : permutes ``second`` to come near ``first``.
    """

    first: Network
    second: Network

    def __post_init__(self) -> None:
        check_same_form("first and second", self.first, self.second)

    def at(self, t: float) -> Network:
        """Return theta(t), t in [0, 1]; the ends are the very networks."""
        time = checked_time(t)
        return _combined((1 - time, time), (self.first, self.second))


@dataclass(frozen=True)
class QuadraticBezier:
    """The curve theta(t) = (1 - t)^2 theta_0 + 2 t (1 - t) bend + t^2 theta_1 in all weights and biases.

    Parameters
    ----------
    first, bend, second : of the same widths, activation, scaling and dtype, all with biases or all without. With
        the bend half way between the ends the curve is the straight line

    References
    ----------
    Garipov et al. 2018, section 3.

    See Also
    --------
    meanfield.landscape.bezier.train_bezier : trains the bend.
    """

    first: Network
    bend: Network
    second: Network

    def __post_init__(self) -> None:
        check_same_form("first and bend", self.first, self.bend)
        check_same_form("first and second", self.first, self.second)

    def at(self, t: float) -> Network:
        """Return theta(t), t in [0, 1]; the ends are the very networks."""
        time = checked_time(t)
        coefficients = ((1 - time) ** 2, 2 * time * (1 - time), time**2)
        return _combined(coefficients, (self.first, self.bend, self.second))


def checked_curve(curve: Any) -> Curve:
    """Return ``curve`` if it is an object with a method ``at``."""
    if isinstance(curve, type) or not isinstance(curve, Curve):
        name = curve.__name__ if isinstance(curve, type) else type(curve).__name__
        raise TypeError(f"curve must be an object with at(t), got {name}: pass e.g. StraightLine(first, second)")
    return curve


def checked_time(t: Any) -> float:
    """Return the place ``t`` on a curve or path as a float if it is a number in [0, 1]."""
    if isinstance(t, bool | np.bool_) or not isinstance(t, numbers.Real):
        raise TypeError(f"t must be a number, got {t!r} of type {type(t).__name__}")
    if not 0 <= float(t) <= 1:
        raise ValueError(f"t must lie in [0, 1], got {t}: 0 is the first network and 1 the last")
    return float(t)


def _combined(coefficients: tuple[float, ...], networks: tuple[Network, ...]) -> Network:
    """Return the sum of coefficient times network; a network of coefficient 1 as it is."""
    if 1.0 in coefficients:
        return networks[coefficients.index(1.0)]
    weights = [_sum(coefficients, arrays) for arrays in zip(*(n.weights for n in networks), strict=True)]
    offsets = [n.biases for n in networks if n.biases is not None]
    biases = [_sum(coefficients, arrays) for arrays in zip(*offsets, strict=True)] if offsets else None
    return Network(weights, biases, activation=networks[0].activation, scaling=networks[0].scaling)


def _sum(coefficients: tuple[float, ...], arrays: tuple[Array, ...]) -> Array:
    total = arrays[0] * arrays[0].dtype.type(coefficients[0])
    for coefficient, array in zip(coefficients[1:], arrays[1:], strict=True):
        total += array * array.dtype.type(coefficient)
    return total
