"""Step-size schedules xi(t), by name or as any callable of rescaled time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from meanfield.checks import check_choice

__all__ = ["SCHEDULES", "Schedule", "step_sizes"]

Times = NDArray[np.float64]
Schedule = str | Callable[[Times], Times]


def _constant(time: Times) -> Times:
    return np.ones_like(time)


def _inverse_fourth_root(time: Times) -> Times:
    return time**-0.25


SCHEDULES: dict[str, Callable[[Times], Times]] = {"constant": _constant, "t^-1/4": _inverse_fourth_root}


def step_sizes(step_size: float, first: int, last: int, schedule: Schedule | None) -> NDArray[np.float64]:
    """Return ``s_k = alpha xi(k alpha)`` for the steps ``k = first..last``, counted from 1.

    Parameters
    ----------
    step_size : alpha
    schedule : None or "constant" (xi = 1), "t^-1/4", or a callable from an array of times to an array of xi
    """
    name = "constant" if schedule is None else schedule
    xi = name if callable(name) else SCHEDULES[check_choice("schedule", name, SCHEDULES)]
    times = step_size * np.arange(first, last + 1, dtype=np.float64)
    values = np.asarray(xi(times), dtype=np.float64)
    if values.shape not in ((), times.shape):
        raise ValueError(
            f"schedule must map an array of times to xi of the same shape {times.shape}, got {values.shape}"
        )
    if not np.isfinite(values).all() or (values < 0).any():
        bad = np.broadcast_to(values, times.shape)
        where = int(np.flatnonzero(~(np.isfinite(bad) & (bad >= 0)))[0])
        raise ValueError(f"schedule must be finite and not negative, got xi({times[where]:g}) = {bad[where]}")
    return step_size * np.broadcast_to(values, times.shape)
