"""Figures of dropout against the dimension of the inputs: how many neurons must be kept.

Points are means over seeds with 90% Student-t intervals; lines in their colour are power laws fitted with seeds as
units, grey ones guides.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from meanfield.plots.dropout import KEPT, check_columns, check_rows
from meanfield.plots.dropout_regime import DIMENSION, draw_fit, power_label
from meanfield.plots.style import (
    CONTROL,
    GUIDE,
    MEAN_FIELD,
    add_legend,
    draw_points,
    draw_power_law,
    mark_widths,
    note_if_empty,
    panels,
    share_range,
    theme,
    width_styles,
)
from meanfield.theory.scaling import ExponentFit

__all__ = ["change_against_kept", "needed_against_dimension"]

Style = dict[str, Any]

SETTINGS: dict[str, Style] = {
    "two-layer": {**MEAN_FIELD},
    "three-layer": {**CONTROL},
    "three-layer, internal": {"color": "#009E73", "marker": "^", "markersize": 4.5},
}
OPEN: Style = {"linestyle": "none", "marker": "^", "markersize": 6, "markerfacecolor": "none", "markeredgewidth": 1.0}


@theme()
def needed_against_dimension(needed: pd.DataFrame, fitted: pd.DataFrame) -> Figure:
    """Draw the number of neurons that must be kept against the dimension: a column a layer that loses neurons.

    The dashed line is linear in d. An open triangle is a dimension at which some seed needs more, or fewer, than were
    measured: it lies at that number, and takes no part in the fit.

    Parameters
    ----------
    needed : columns setting, dropped, dim, seed, needed, limit (of censored rows), one row of each of the first four
    fitted : the rows of ``needed`` that the power laws are fitted to

    Raises
    ------
    ValueError : a frame is empty, lacks or repeats something
    TypeError : a column that must hold numbers does not
    """
    check_columns("needed", needed, ["setting", "dropped"], [])
    check_rows("needed", needed, ["setting", "dropped", "dim"], ["dim", "needed", "limit"])
    names = sorted(needed["dropped"].unique())
    figure, axes = panels([_title(name) for name in names], DIMENSION, ["neurons needed, $m$"])
    for panel, name in zip(axes[0], names, strict=True):
        here, to_fit = (frame[frame["dropped"] == name] for frame in (needed, fitted))
        for setting, style in SETTINGS.items():
            if (needed["setting"] == setting).any():
                rows = here[here["setting"] == setting]
                _draw_setting(panel, rows, to_fit[to_fit["setting"] == setting], setting, style)
        _draw_linear(panel, here)
        mark_widths(panel, needed["dim"])
    axes[0, 0].plot([], [], label="fitted power law", **GUIDE)
    share_range(axes[0])
    return _finished(figure)


@theme()
def change_against_kept(changes: pd.DataFrame, allowed: float) -> Figure:
    """Draw the relative change against the neurons kept in all layers: a column a setting, a colour a dimension.

    The horizontal line is the change that is ``allowed``; the needed number is where the points cross it.

    Parameters
    ----------
    changes : columns setting, dim, seed, n_kept, relative_change; one row of each of the first four
    allowed : positive

    Raises
    ------
    ValueError, TypeError : as `needed_against_dimension`
    """
    check_columns("changes", changes, ["setting"], [])
    check_rows("changes", changes, ["setting", "dim", "n_kept"], ["dim", "n_kept", "relative_change"])
    settings = list(changes["setting"].unique())
    figure, axes = panels(settings, KEPT, [r"mean loss change $\times \frac{N-1}{N-m}$," + "\nin units of $L(0)-L(T)$"])
    styles = width_styles(changes["dim"])
    for panel, setting in zip(axes[0], settings, strict=True):
        for dim, style in styles.items():
            rows = changes[(changes["setting"] == setting) & (changes["dim"] == dim)]
            draw_points(panel, rows, "n_kept", "relative_change", **{**style, "label": f"$d={dim}$"})
        span = changes["n_kept"]
        draw_power_law(panel, span, (1, allowed), 0, label=f"allowed, {allowed:g}", linestyle="--", **GUIDE)
    share_range(axes[0])
    return _finished(figure)


def _draw_setting(panel: Axes, rows: pd.DataFrame, to_fit: pd.DataFrame, setting: str, style: Style) -> None:
    draw_points(panel, rows[rows["dim"].isin(to_fit["dim"])], "dim", "needed", label=setting, **style)
    name = partial(_write_exponent, panel, to_fit, style["color"])
    draw_fit(panel, to_fit, "dim", "needed", name, color=style["color"])
    censored = rows[~rows["dim"].isin(to_fit["dim"])].dropna(subset="limit").drop_duplicates("dim")
    if len(censored):
        panel.plot(censored["dim"], censored["limit"], markeredgecolor=style["color"], label="beyond, censored", **OPEN)


def _write_exponent(panel: Axes, rows: pd.DataFrame, color: str, fit: ExponentFit) -> str:
    """Write the exponent, which differs from line to line, beside the line's end; return a label for no legend."""
    end = 1.2 * float(rows["dim"].max())
    place = (end, fit.constant * end**fit.exponent)
    panel.annotate(power_label("d", fit), place, (2, 0), textcoords="offset points", va="center", color=color)
    return "_nolegend_"


def _draw_linear(panel: Axes, rows: pd.DataFrame) -> None:
    known = rows["needed"].dropna()
    if len(known):
        start = (float(rows["dim"].min()), float(known.median()))
        draw_power_law(panel, rows["dim"], start, 1, label="linear in $d$", linestyle="--", **GUIDE)


def _title(dropped: str) -> str:
    return f"kept in {dropped}" if dropped == "all layers" else f"kept in {dropped} alone"


def _finished(figure: Figure) -> Figure:
    for panel in figure.axes:
        note_if_empty(panel)
    add_legend(figure)
    return figure
