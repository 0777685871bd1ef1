"""Figures of dropout in several hidden layers: what losing neurons of one of them, or of all, does to the loss.

Points are means over seeds with 90% Student-t intervals; grey lines are guides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from meanfield.plots.dropout import KEPT, WIDTH, check_columns, check_rows
from meanfield.plots.style import (
    GUIDE,
    add_legend,
    draw_points,
    draw_power_law,
    mark_widths,
    mean_over_seeds,
    note_if_empty,
    panels,
    share_range,
    theme,
    width_styles,
)

__all__ = ["change_against_kept", "change_at_half"]

Style = dict[str, Any]

# Okabe and Ito, apart in every form of colour blindness; all layers at once is what theorems speak of.
DROPPED: dict[str, Style] = {
    "layer 1": {"color": "#0072B2", "marker": "o", "markersize": 4.5},
    "layer 2": {"color": "#D55E00", "marker": "s", "markersize": 4.0},
    "layer 3": {"color": "#009E73", "marker": "^", "markersize": 4.5},
    "layer 4": {"color": "#CC79A7", "marker": "v", "markersize": 4.5},
    "all layers": {"color": "black", "marker": "D", "markersize": 3.5},
}


@theme()
def change_against_kept(curves: pd.DataFrame, *, titles: Mapping[str, str] | None = None) -> Figure:
    """Draw the mean loss change against the neurons kept: a column a setting, a row a layer that loses neurons.

    The dashed line has the slope -1 of a change that does not depend on the width; panels of a row share their range.

    Parameters
    ----------
    curves : columns setting, dropped, n_neurons, seed, n_kept, mean_change; one row of each
    titles : what to write above a setting's column, if not its name

    Raises
    ------
    ValueError : the frame is empty, lacks or repeats something
    TypeError : a column that must hold numbers does not

    See Also
    --------
    meanfield.dropout_curve : measures the columns.
    """
    check_columns("curves", curves, ["setting", "dropped"], [])
    check_rows("curves", curves, ["setting", "dropped", "n_neurons", "n_kept"], ["n_neurons", "n_kept", "mean_change"])
    settings, names = (list(curves[column].unique()) for column in ("setting", "dropped"))
    labels = [
        f"mean loss change,\nof {name}" if name == "all layers" else f"mean loss change,\nof {name} alone"
        for name in names
    ]
    figure, axes = panels([(titles or {}).get(name, name) for name in settings], KEPT, labels)
    styles = width_styles(curves["n_neurons"])
    for row, name in zip(axes, names, strict=True):
        here = curves[curves["dropped"] == name]
        for panel, setting in zip(row, settings, strict=True):
            rows = here[here["setting"] == setting]
            for n_neurons, style in styles.items():
                draw_points(panel, rows[rows["n_neurons"] == n_neurons], "n_kept", "mean_change", **style)
            _draw_slope(panel, rows, "n_kept", "mean_change")
        share_range(row)
    return _finished(figure)


@theme()
def change_at_half(gaps: pd.DataFrame, *, titles: Mapping[str, str] | None = None) -> Figure:
    """Draw what losing half of the neurons costs against the width: a column a setting, a row a number of layers.

    The dashed line has slope -1: a change that falls as 1/N.

    Parameters
    ----------
    gaps : columns n_hidden, setting, dropped, n_neurons, seed, half_change; one row of each
    titles : what to write above a setting's column, if not its name

    Raises
    ------
    ValueError, TypeError : as `change_against_kept`
    """
    check_columns("gaps", gaps, ["n_hidden", "setting", "dropped"], ["n_hidden"])
    check_rows("gaps", gaps, ["n_hidden", "setting", "dropped", "n_neurons"], ["n_neurons", "half_change"])
    settings, depths = (list(gaps[column].unique()) for column in ("setting", "n_hidden"))
    labels = [f"{depth} hidden layers:\nmean loss change at $m=N/2$" for depth in depths]
    figure, axes = panels([(titles or {}).get(name, name) for name in settings], WIDTH, labels)
    for row, depth in zip(axes, depths, strict=True):
        for panel, setting in zip(row, settings, strict=True):
            rows = gaps[(gaps["n_hidden"] == depth) & (gaps["setting"] == setting)]
            for name, style in DROPPED.items():
                if (gaps["dropped"] == name).any():
                    label = name if name == "all layers" else f"{name} alone"
                    draw_points(panel, rows[rows["dropped"] == name], "n_neurons", "half_change", label=label, **style)
            _draw_slope(panel, rows[rows["dropped"] == "all layers"], "n_neurons", "half_change")
            mark_widths(panel, gaps["n_neurons"])
        share_range(row)
    return _finished(figure)


def _draw_slope(panel: Axes, rows: pd.DataFrame, x: str, y: str) -> None:
    """Draw slope -1 from above the first point."""
    means = mean_over_seeds(rows, x, y)
    means = means[means["mean"] > 0]
    if len(means):
        start = (float(means[x].iloc[0]), 1.5 * float(means["mean"].iloc[0]))
        draw_power_law(panel, means[x], start, -1, label="slope $-1$", linestyle="--", **GUIDE)


def _finished(figure: Figure) -> Figure:
    for panel in figure.axes:
        note_if_empty(panel)
    add_legend(figure)
    return figure
