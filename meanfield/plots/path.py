"""The loss along paths, their segments marked by kind, beside curves without a certificate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import ndtri

from meanfield.plots.dropout import check_columns
from meanfield.plots.style import (
    MEAN_FIELD,
    PANEL_HEIGHT,
    PANEL_WIDTH,
    Style,
    ThemedFigure,
    add_legend,
    theme,
)
from meanfield.theory.seeds import INTERVAL_LEVEL

__all__ = ["SEGMENT_KINDS", "draw_curves", "loss_along_path", "shade_idle"]

# Of paths; only they have a certified maximum.
SEGMENT_KINDS = ("readout", "idle")

# Colours of Okabe and Ito; the dashes tell lines apart in grey.
BASELINES: Sequence[Style] = (
    {"color": "#D55E00", "linestyle": (0, (4, 1.5))},
    {"color": "#009E73", "linestyle": (0, (4, 1.5, 1, 1.5))},
    {"color": "#CC79A7", "linestyle": (0, (1, 1))},
    {"color": "#E69F00", "linestyle": (0, (7, 1.5))},
)
IDLE: Style = {"color": "0.92", "linewidth": 0, "zorder": 0}

# Linear axes show less than this ratio of the losses well.
LARGEST_LINEAR_RATIO = 10


@theme()
def loss_along_path(path: pd.DataFrame, baselines: Mapping[str, pd.DataFrame] | None = None) -> Figure:
    """Draw the loss along a piecewise linear path, and along curves between the same ends, against t.

    Points are the vertices, which hold the path's maximum, with 90% intervals where the loss was sampled; idle
    segments, where the function does not change, are shaded. A dotted horizontal line is the larger end, above
    which the barrier counts. Of the ``baselines`` the highest point drawn is a lower bound of the maximum. The
    vertical axis is logarithmic if the losses are positive and more than a factor 10 apart.

    Parameters
    ----------
    path : columns segment, kind, t, risk, standard_error, as `meanfield.path_risk` returns them
    baselines : by name, with the columns t and risk, as `meanfield.curve_risk` returns them

    Raises
    ------
    ValueError : a frame is empty or lacks a column; a kind that is neither "readout" nor "idle"
    TypeError : a column that must hold numbers does not
    """
    figure = ThemedFigure(figsize=(PANEL_WIDTH, PANEL_HEIGHT), layout="constrained")
    axes, curves = figure.subplots(), dict(baselines or {})
    _check_path(path)
    for name, curve in curves.items():
        check_columns(name, curve, ["t", "risk"], ["t", "risk"])
    shade_idle(axes, path)
    draw_curves(axes, curves, dict(zip(curves, cycle(BASELINES), strict=False)))
    _draw_path(axes, path)
    _set_axes(axes, [path["risk"], *(curve["risk"] for curve in curves.values())])
    add_legend(figure)
    return figure


def shade_idle(axes: Axes, path: pd.DataFrame) -> None:
    """Shade the idle segments of a path with columns segment, kind and t, named once for a legend."""
    label = "idle: function unchanged"
    for _, rows in path[path["kind"] == "idle"].groupby("segment"):
        axes.axvspan(rows["t"].min(), rows["t"].max(), label=label, **IDLE)
        label = "_repeated"


def draw_curves(
    axes: Axes, curves: Mapping[str, pd.DataFrame], styles: Mapping[str, Style], measure: str = "risk"
) -> None:
    """Draw a column of curves and paths, by the name in a legend, against t: lines that mark nothing."""
    for name, curve in curves.items():
        ordered = curve.sort_values("t", kind="stable")
        axes.plot(ordered["t"], ordered[measure], label=name, **styles[name])


def _check_path(path: pd.DataFrame) -> None:
    numbers = ["segment", "t", "risk", "standard_error"]
    check_columns("path", path, [*numbers, "kind"], numbers)
    if unknown := set(path["kind"]) - set(SEGMENT_KINDS):
        raise ValueError(f"kinds of segments are 'readout' and 'idle', got {sorted(map(str, unknown))}")


def _draw_path(axes: Axes, path: pd.DataFrame) -> None:
    vertices = pd.concat(_vertices(path))
    interval = vertices["standard_error"] * ndtri((1 + INTERVAL_LEVEL) / 2)
    bars = interval if (interval > 0).any() else None
    look = {"linestyle": "none", "markeredgewidth": 0, "elinewidth": 0.9, "zorder": 4, **MEAN_FIELD, "markersize": 3.5}
    axes.plot(path["t"], path["risk"], color=MEAN_FIELD["color"], zorder=3)
    axes.errorbar(vertices["t"], vertices["risk"], yerr=bars, label="path", **look)
    larger_end = vertices["risk"].iloc[[0, -1]].max()
    axes.axhline(larger_end, color="0.4", linewidth=0.8, linestyle=(0, (1, 1.5)), zorder=1, label="larger end")


def _vertices(path: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield the first row of each segment and the last row of all."""
    for _, rows in path.groupby("segment"):
        yield rows.iloc[:1]
    yield path.iloc[-1:]


def _set_axes(axes: Axes, risks: Sequence[pd.Series]) -> None:
    axes.set(xlabel="along the path, $t$", ylabel="loss, $L$", xlim=(-0.01, 1.01))
    values = np.concatenate(risks)
    if values.min() > 0 and values.max() > LARGEST_LINEAR_RATIO * values.min():
        axes.set_yscale("log")
