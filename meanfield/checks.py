"""What every public boundary checks: one place for the rules, one voice for the errors.

Each message quotes the value, states the rule and gives the remedy.
"""

from __future__ import annotations

import difflib
import numbers
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "BlowUpWarning",
    "DivergenceError",
    "MeanfieldWarning",
    "check_choice",
    "check_file",
    "check_finite",
    "check_integer",
    "check_nonnegative",
    "check_number",
    "check_numbers",
    "check_positive",
    "check_rng",
    "check_sequence",
    "check_subset",
]


class MeanfieldWarning(UserWarning):
    """A result that is valid but probably not what was meant."""


class BlowUpWarning(MeanfieldWarning, RuntimeWarning):
    """Training ended far above where it began, though its numbers are finite still."""


class DivergenceError(ArithmeticError):
    """Training produced a value that is not finite; ``trajectory`` holds what was computed before."""

    def __init__(self, message: str, trajectory: Any = None) -> None:
        super().__init__(message)
        self.trajectory = trajectory


def check_choice(name: str, value: object, choices: Iterable[str], *, besides: str = "") -> str:
    """Return ``value`` if it is one of ``choices``; otherwise suggest the nearest name, and what else is allowed."""
    known = sorted(choices)
    if isinstance(value, str) and value in known:
        return value
    nearest = difflib.get_close_matches(str(value), known, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    raise ValueError(f"unknown {name} {value!r}: {hint}known: {', '.join(known)}{besides}")


def check_file(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` if a file lies there."""
    place = Path(path)
    if not place.is_file():
        start = "" if place.is_absolute() else f", which starts at {str(Path.cwd())!r}"
        raise FileNotFoundError(f"no file {str(place)!r}: check the path{start}")
    return place


def check_integer(name: str, value: Any, *, least: int, most: int | None = None) -> int:
    """Return ``value`` as int if it is a whole number in ``least..most``."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer, got {value!r} of type {type(value).__name__}")
    number = int(value)
    if number < least or (most is not None and number > most):
        rule = f"at least {least}" if most is None else f"in {least}..{most}"
        raise ValueError(f"{name} must be {rule}, got {number}")
    return number


def check_number(name: str, value: Any) -> float:
    """Return ``value`` as float if it is a real number, NaN and infinity included."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r} of type {type(value).__name__}")
    return float(value)


def check_numbers(name: str, values: ArrayLike, kind: str = "numbers") -> NDArray[np.float64]:
    """Return values of ``kind`` "numbers" or "integers" as float64, where products of widths cannot overflow."""
    array = np.asarray(values)
    if array.dtype.kind not in ("iu" if kind == "integers" else "iuf"):
        raise TypeError(f"{name} must hold {kind}, got dtype {array.dtype}: convert it with astype first")
    return array.astype(np.float64)


def check_positive(name: str, value: Any) -> float:
    """Return ``value`` as float if it is a finite number above zero."""
    number = check_number(name, value)
    if not 0 < number < np.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}")
    return number


def check_finite(name: str, array: NDArray[Any]) -> None:
    """Raise if ``array`` holds NaN or infinity, naming the first such entry."""
    if np.isfinite(array).all():
        return
    where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
    raise ValueError(f"{name} must be finite, but entry {where} is {array[where]}: remove or repair such entries first")


def check_nonnegative(name: str, value: Any) -> float:
    """Return ``value`` as float if it is a finite number, zero or above."""
    number = check_number(name, value)
    if not 0 <= number < np.inf:
        raise ValueError(f"{name} must be finite and not negative, got {value}")
    return number


def check_rng(rng: Any, purpose: str) -> np.random.Generator:
    """Return a Generator from a Generator or an integer seed; None is an error."""
    if isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, numbers.Integral) and not isinstance(rng, bool | np.bool_) and int(rng) >= 0:
        return np.random.default_rng(int(rng))
    raise TypeError(
        f"{purpose} needs rng=, a numpy Generator or a non-negative integer seed, got {rng!r}: pass e.g. rng=0"
    )


def check_sequence(
    name: str, values: Any, items: str, *, length: int | None = None, example: Sequence[Any] = ()
) -> list[Any]:
    """Return the items, ``items`` in words, of an iterable that is no string; of ``length`` of them if it is given.

    A lone item of the type of those in the ``example`` is to be put in brackets; anything else is shown the example.
    """
    is_scalar = isinstance(values, np.ndarray) and values.ndim == 0
    if is_scalar or isinstance(values, str | bytes) or not isinstance(values, Iterable):
        is_item = type(values) in map(type, example)
        remedy = f": pass [{values!r}]" if is_item else f": pass e.g. {example}" if example else ""
        raise TypeError(f"{name} must be a sequence of {items}, got {values!r}{remedy}")
    given = list(values)
    if length is not None and len(given) != length:
        raise ValueError(f"{name} must hold {length} {items}, got {len(given)}")
    return given


def check_subset(name: str, indices: Any, size: int) -> NDArray[np.intp]:
    """Return ``indices`` as an array if they are distinct integers in ``0..size-1``, at least one."""
    try:
        array = np.asarray(indices)
    except ValueError:
        raise TypeError(f"{name} must hold integer positions, got {indices!r}") from None
    if array.dtype == np.bool_ or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise TypeError(f"{name} must hold integer positions, got dtype {array.dtype}: use numpy.flatnonzero on a mask")
    if array.ndim != 1 or array.size == 0:
        remedy = ": pass positions, not their number" if array.ndim == 0 else ""
        raise ValueError(f"{name} must be a non-empty one-dimensional array, got shape {array.shape}{remedy}")
    if array.min() < 0 or array.max() >= size:
        raise ValueError(f"{name} must lie in 0..{size - 1}, got values {array.min()}..{array.max()}")
    if np.unique(array).size != array.size:
        raise ValueError(f"{name} must be distinct, got {array.size - np.unique(array).size} repeated")
    return array.astype(np.intp)
