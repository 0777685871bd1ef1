"""Ticks of logarithmic axes that can be read: enough of them on short axes, plain numbers where none is long."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, MaxNLocator, NullFormatter

__all__ = ["ReadableLocator", "ShortFormatter", "make_room_for_zero", "put_ticks"]


class ShortFormatter(LogFormatterSciNotation):
    """Write 0.02 instead of 2 x 10^-2 unless the axis has numbers beyond 10^-5 and 10^5."""

    def __init__(self) -> None:
        super().__init__(minor_thresholds=(np.inf, np.inf))

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Write one tick."""
        low, high = self.axis.get_view_interval()  # type: ignore[union-attr]  # set by the axis that uses it
        if 0 < low < 1e-5 or high > 1e5:
            return super().__call__(x, pos)
        return np.format_float_positional(x, precision=6, fractional=False, trim="-")


# Multiples of decades at which an axis that spans less than this factor has ticks.
FACTORS = {4: (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8), 16: (1, 1.5, 2, 3, 5, 7), 100: (1, 2, 5)}


class ReadableLocator(LogLocator):
    """Put ticks at the decades, and between them, too, on an axis so short that few decades are on it."""

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        """Return the ticks of an axis from ``vmin`` to ``vmax``."""
        span = vmax / vmin if vmin > 0 else np.inf
        if span < 2:
            return list(MaxNLocator(5).tick_values(vmin, vmax))
        return _between_decades(vmin, vmax) if span < 100 else list(super().tick_values(vmin, vmax))


def put_ticks(axis: Axis) -> None:
    """Give a logarithmic axis ticks that can be read; minor ones are not labelled."""
    axis.set_major_locator(ReadableLocator())
    axis.set_major_formatter(ShortFormatter())
    axis.set_minor_formatter(NullFormatter())


def make_room_for_zero(panels: Sequence[Axes], values: pd.Series) -> None:
    """Put zero at the foot of vertical axes that are logarithmic from the least positive one of the ``values`` on."""
    least = values[values > 0].min() if (values > 0).any() else 0.1
    most = max(values.max(), 10 * least)
    ticks = [tick for tick in ReadableLocator().tick_values(least, most) if least <= tick <= most]
    for panel in panels:
        panel.set_yscale("symlog", linthresh=least, linscale=0.3)
        panel.set_yticks([0, *ticks])
        panel.yaxis.set_major_formatter(ShortFormatter())
        panel.set_ylim(bottom=-least / 5)


def _between_decades(low: float, high: float) -> list[float]:
    factors = next(factors for span, factors in FACTORS.items() if high / low < span)
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    return list(np.outer(decades, factors).ravel())
