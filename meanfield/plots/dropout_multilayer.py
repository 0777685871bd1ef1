"""Figures of dropout in several hidden layers: what losing neurons of one of them, or of all, does to the loss.

Points are means over seeds with 90% Student-t intervals; lines are guides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from meanfield.plots.dropout import KEPT, WIDTH, check_columns, check_rows
from meanfield.plots.style import (
    GUIDE,
    Style,
    draw_points,
    draw_power_law,
    finished,
    mark_widths,
    panel_width,
    panels,
    share_range,
    theme,
    width_styles,
)
from meanfield.theory.scaling import finite_population_factor
from meanfield.theory.seeds import mean_over_seeds

__all__ = ["ALL_LAYERS", "change_against_kept", "change_at_half", "where_dropped"]

ALL_LAYERS = "all hidden layers"
TITLE_CHARACTERS = 12  # an inch

# Okabe and Ito, apart in every form of colour blindness; all layers at once is what theorems speak of.
DROPPED: dict[str, Style] = {
    "hidden layer 1": {"color": "#0072B2", "marker": "o", "markersize": 4.5},
    "hidden layer 2": {"color": "#D55E00", "marker": "s", "markersize": 4.0},
    "hidden layer 3": {"color": "#009E73", "marker": "^", "markersize": 4.5},
    "hidden layer 4": {"color": "#CC79A7", "marker": "v", "markersize": 4.5},
    ALL_LAYERS: {"color": "black", "marker": "D", "markersize": 3.5},
}


@theme()
def change_against_kept(curves: pd.DataFrame, *, titles: Mapping[str, str] | None = None) -> Figure:
    """Draw the mean loss change against the neurons kept: a column a setting, a row a layer that loses neurons.

    Through each width's point at the largest m goes the line

        constant * (N - m)/(m (N - 1))

    which the last hidden layer alone follows identically, with the square loss: no power of m. Panels of a row share
    their range.

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
    labels = [f"mean loss change,\nof {where_dropped(name)}" for name in names]
    figure, axes = _panels(settings, titles, KEPT, labels)
    styles = width_styles(curves["n_neurons"])
    for row, name in zip(axes, names, strict=True):
        here = curves[curves["dropped"] == name]
        for panel, setting in zip(row, settings, strict=True):
            rows = here[here["setting"] == setting]
            for n_neurons, style in styles.items():
                of_width = rows[rows["n_neurons"] == n_neurons]
                draw_points(panel, of_width, "n_kept", "mean_change", **style)
                _draw_finite_population(panel, of_width, style["color"])
        share_range(row)
    axes[0, 0].plot([], [], label=r"$\propto(N-m)/m$", **GUIDE)
    return finished(figure)


@theme()
def change_at_half(gaps: pd.DataFrame, *, titles: Mapping[str, str] | None = None) -> Figure:
    """Draw what losing half of the neurons costs against the width: a column a setting, a row a number of layers.

    The dashed line falls as 1/N.

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
    labels = [f"{depth} hidden layers:\nloss change at $m=N/2$" for depth in depths]
    figure, axes = _panels(settings, titles, WIDTH, labels)
    for row, depth in zip(axes, depths, strict=True):
        for panel, setting in zip(row, settings, strict=True):
            rows = gaps[(gaps["n_hidden"] == depth) & (gaps["setting"] == setting)]
            for name, style in DROPPED.items():
                if (gaps["dropped"] == name).any():
                    here = rows[rows["dropped"] == name]
                    draw_points(panel, here, "n_neurons", "half_change", label=where_dropped(name), **style)
            _draw_fall(panel, rows[rows["dropped"] == ALL_LAYERS])
            mark_widths(panel, gaps["n_neurons"])
        share_range(row)
    return finished(figure)


def where_dropped(name: str) -> str:
    """Return in words which hidden layers lose neurons."""
    return name if name == ALL_LAYERS else f"{name} alone"


def _panels(
    settings: Sequence[str], titles: Mapping[str, str] | None, x_label: str, y_labels: Sequence[str]
) -> tuple[Figure, NDArray[np.object_]]:
    width = panel_width(len(settings))
    wrapped = [fill((titles or {}).get(name, name), round(TITLE_CHARACTERS * width)) for name in settings]
    return panels(wrapped, x_label, y_labels, width=width)


def _draw_finite_population(panel: Axes, rows: pd.DataFrame, color: str) -> None:
    """Draw the change of a last hidden layer of this width, through the mean at the largest m."""
    means = mean_over_seeds(rows, "n_kept", "mean_change")
    if means.empty or not means["mean"].iloc[-1] > 0:
        return
    factor = finite_population_factor(rows["n_neurons"].iloc[0], means["n_kept"])
    change = means["mean"].iloc[-1] / factor[-1] * factor
    panel.plot(means["n_kept"], change, color=color, linewidth=0.6, zorder=1)


def _draw_fall(panel: Axes, rows: pd.DataFrame) -> None:
    """Draw slope -1 from above the first point."""
    means = mean_over_seeds(rows, "n_neurons", "half_change")
    means = means[means["mean"] > 0]
    if len(means):
        start = (float(means["n_neurons"].iloc[0]), 1.5 * float(means["mean"].iloc[0]))
        draw_power_law(panel, means["n_neurons"], start, -1, label="falling as $1/N$", linestyle="--", **GUIDE)
