"""One look for every figure: theory as lines, measurements as points with intervals over seeds.

Figures are made without pyplot and carry their theme: no global setting is read or changed, nothing is left
open, and a notebook shows a figure that is the last expression of a cell.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from numpy.typing import ArrayLike, NDArray

from meanfield.plots.ticks import ShortFormatter, put_ticks
from meanfield.theory.seeds import mean_over_seeds

__all__ = [
    "CONTROL",
    "GUIDE",
    "MEAN_FIELD",
    "THEORY",
    "Style",
    "ThemedFigure",
    "add_legend",
    "clip_bands",
    "draw_curve",
    "draw_geometric_means",
    "draw_points",
    "draw_power_law",
    "finished",
    "mark_widths",
    "note_if_empty",
    "panel_width",
    "panels",
    "share_range",
    "show_time_zero",
    "theme",
    "width_styles",
]

Style = dict[str, Any]

MILLIMETRE = 1 / 25.4
PANEL_WIDTH = 85 * MILLIMETRE
PANEL_HEIGHT = 60 * MILLIMETRE
LOW_PANEL_HEIGHT = 48 * MILLIMETRE

THEME: Style = {
    "figure.dpi": 150,
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "legend.handlelength": 1.5,
    "legend.columnspacing": 1.2,
    "legend.handletextpad": 0.4,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.minor.width": 0.5,
    "ytick.minor.width": 0.5,
    "lines.linewidth": 1.2,
    "pdf.fonttype": 42,
}

# Blue and vermilion of Okabe and Ito stay apart in every form of colour blindness.
MEAN_FIELD: Style = {"color": "#0072B2", "marker": "o", "markersize": 4.5}
CONTROL: Style = {"color": "#D55E00", "marker": "s", "markersize": 4.0}
THEORY: Style = {"color": "black", "linewidth": 1.0, "zorder": 3}
GUIDE: Style = {"color": "0.4", "linewidth": 0.8, "zorder": 1}


@contextmanager
def theme() -> Iterator[None]:
    """Apply the look to what is made inside, as a context or a decorator; the settings before come back."""
    with matplotlib.style.context(THEME, after_reset=True):
        yield


class ThemedFigure(Figure):
    """A figure that is drawn in its own theme, whatever the settings around it, and shown by notebooks."""

    @theme()
    def draw(self, renderer: RendererBase) -> None:
        """Draw in the theme: matplotlib makes ticks, and reads their settings, only while it draws."""
        super().draw(renderer)

    def _repr_png_(self) -> bytes:
        """Show the figure in a notebook where no pyplot has registered how to."""
        image = io.BytesIO()
        self.savefig(image, format="png", dpi="figure")
        return image.getvalue()


def panel_width(n_columns: int) -> float:
    """Return the width in inches, at most 85 mm, at which so many panels beside each other fit a page, of 170 mm."""
    return PANEL_WIDTH * min(1.0, 2 / n_columns)


def panels(
    titles: Sequence[str], x_label: str, y_labels: Sequence[str], *, width: float = PANEL_WIDTH
) -> tuple[Figure, NDArray[np.object_]]:
    """Lay out panels with logarithmic axes: a column a title, a row a y label.

    Panels are 85 mm wide, or ``width`` inches and then lower. The panels of a column share the horizontal axis.
    Returns the figure and its axes, of shape (len(y_labels), len(titles)).
    """
    height = PANEL_HEIGHT if width >= PANEL_WIDTH else LOW_PANEL_HEIGHT
    figure = ThemedFigure(figsize=(width * len(titles), height * len(y_labels)), layout="constrained")
    axes = figure.subplots(len(y_labels), len(titles), sharex="col", squeeze=False)
    for panel in axes.flat:
        panel.set(xscale="log", yscale="log")
        for axis in (panel.xaxis, panel.yaxis):
            put_ticks(axis)
    for panel, title in zip(axes[0], titles, strict=True):
        panel.set_title(title)
    for panel, label in zip(axes[:, 0], y_labels, strict=True):
        panel.set_ylabel(label)
    for panel in axes[-1]:
        panel.set_xlabel(x_label)
    return figure, axes


def width_styles(widths: Iterable[int]) -> dict[int, Style]:
    """Give each width its label, a colour from light to dark and a marker from large to small as it grows.

    Points that coincide then show as rings. The colours are viridis without the third that is too light to
    read on white.
    """
    ordered = sorted({int(width) for width in widths})
    ranks = np.linspace(0, 1, len(ordered)) if len(ordered) > 1 else [1.0]
    return {
        width: {
            "label": f"$N={width}$",
            "color": to_hex(colormaps["viridis"](0.7 * (1 - rank))),
            "markersize": 6 - 3 * rank,
        }
        for width, rank in zip(ordered, ranks, strict=True)
    }


POINTS: Style = {"linestyle": "none", "marker": "o", "markeredgewidth": 0, "elinewidth": 0.9}


def draw_points(axes: Axes, rows: pd.DataFrame, x: str, y: str, **style: Any) -> None:
    """Draw the means over seeds of ``y`` against ``x`` as points, with their 90% intervals as bars.

    Means that are not positive have no place on a logarithmic axis and are left out; a bar that would reach
    zero ends at the edge.
    """
    table = mean_over_seeds(rows, x, y)
    shown = table[table["mean"] > 0]
    axes.errorbar(shown[x], shown["mean"], yerr=shown["half_width"], **{**POINTS, **style})


def draw_geometric_means(axes: Axes, rows: pd.DataFrame, x: str, y: str, **style: Any) -> None:
    """Draw as `draw_points` does, but exp of mean and interval of log ``y`` > 0: no bar reaches 0."""
    table = mean_over_seeds(rows.assign(**{y: np.log(rows[y])}), x, y)
    mean = np.exp(table["mean"])
    bars = [mean * -np.expm1(-table["half_width"]), mean * np.expm1(table["half_width"])]
    axes.errorbar(table[x], mean, yerr=bars, **{**POINTS, **style})


def draw_curve(axes: Axes, rows: pd.DataFrame, x: str, y: str, **style: Any) -> None:
    """Draw the means over seeds of ``y`` against ``x`` as a line in a band, their 90% intervals.

    The line is interrupted where the mean is not positive. `clip_bands` ends bands that reach zero at the axis.
    """
    table = mean_over_seeds(rows, x, y)
    mean, half_width = table["mean"].where(table["mean"] > 0), table["half_width"]
    (line,) = axes.plot(table[x], mean, **style)
    axes.fill_between(table[x], mean - half_width, mean + half_width, color=line.get_color(), alpha=0.2, linewidth=0)


def clip_bands(axes: Axes) -> None:
    """End bands that reach zero, which has no place on a logarithmic axis, at the axis: half the lowest line."""
    edges = [np.asarray(path.vertices) for band in axes.collections for path in band.get_paths()]
    lines = np.concatenate([[np.inf], *(np.ravel(line.get_ydata()) for line in axes.get_lines())]).astype(float)
    lowest = np.min(lines, where=lines > 0, initial=np.inf) / 2
    if np.isinf(lowest) or not any((edge[:, 1] <= 0).any() for edge in edges):
        return
    for edge in edges:
        edge[:, 1] = np.maximum(edge[:, 1], lowest)
    axes.set_ylim(bottom=lowest)


def draw_power_law(axes: Axes, span: ArrayLike, through: tuple[float, float], exponent: float, **style: Any) -> None:
    """Draw y = y_0 (x / x_0)^exponent, ``through`` = (x_0, y_0), a little beyond the range of ``span``.

    Logarithmic axes have no place for y_0 = 0, where all neurons have died and nothing changes: nothing is drawn.
    """
    if through[1] == 0:
        return
    values = np.asarray(span, dtype=float)
    x = np.array([values.min() / 1.2, values.max() * 1.2])
    axes.plot(x, through[1] * (x / through[0]) ** exponent, **style)


def mark_widths(axes: Axes, widths: Iterable[int]) -> None:
    """Put the ticks of the horizontal axis at the widths, as many as can be read."""
    ordered = sorted({int(width) for width in widths})
    apart = (ordered[-1] / ordered[0]) ** (1 / 6.5)
    ticks = ordered[:1]
    for width in ordered[1:]:
        if width >= apart * ticks[-1]:
            ticks.append(width)
    axes.set_xticks(ticks, [str(width) for width in ticks])
    axes.xaxis.set_minor_locator(NullLocator())


def show_time_zero(axes: Axes, times: pd.Series) -> None:
    """Make room for t = 0, if present, on the horizontal axis: linear up to the first positive time only."""
    positive = times[times > 0]
    if len(positive) == len(times) or positive.empty:
        return
    first, last = np.log10([positive.min(), positive.max()])
    axes.set_xscale("symlog", linthresh=positive.min(), linscale=0.1 * max(last - first, 1))
    decades = np.arange(np.ceil(first), np.floor(last) + 1)
    axes.set_xticks([0, *10.0 ** decades[:: 1 + len(decades) // 8]])
    between = np.outer(10.0 ** np.arange(np.floor(first), last), np.arange(2, 10)).ravel()
    axes.set_xticks(between[(between > positive.min()) & (between < positive.max())], minor=True)
    axes.xaxis.set_major_formatter(ShortFormatter())


def share_range(row: Iterable[Axes]) -> None:
    """Give panels one vertical range, that of all which show points or lines."""
    drawn = [panel for panel in row if np.isfinite(panel.dataLim.get_points()).all()]
    for panel in drawn:
        panel.set_ylim(min(one.get_ylim()[0] for one in drawn), max(one.get_ylim()[1] for one in drawn))


def note_if_empty(axes: Axes) -> None:
    """Say so where a panel has nothing to show."""
    if not np.isfinite(axes.dataLim.get_points()).all():
        axes.text(0.5, 0.5, "no positive values", transform=axes.transAxes, ha="center", color="0.4")
        axes.yaxis.set_major_locator(NullLocator())
        axes.yaxis.set_minor_locator(NullLocator())


def add_legend(figure: Figure) -> None:
    """Name every artist once, points before lines, below all panels and in as few rows as fit."""
    entries: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    handles = sorted(entries.values(), key=lambda handle: isinstance(handle, Line2D))
    for n_rows in range(1, len(handles) + 1):
        n_columns = math.ceil(len(handles) / n_rows)
        legend = figure.legend(handles=handles, loc="outside lower center", ncols=n_columns)
        if n_columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def finished(figure: Figure) -> Figure:
    """Return the figure with a note in panels that have nothing to show, and one legend for all."""
    for panel in figure.axes:
        note_if_empty(panel)
    add_legend(figure)
    return figure
