"""Figures of dropout against the dimension of the inputs: how many neurons must be kept.

Points are means over seeds with 90% Student-t intervals; lines in their colour are power laws fitted with seeds as
units, grey ones guides.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from meanfield.plots.dropout import KEPT, check_columns, check_rows
from meanfield.plots.dropout_multilayer import where_dropped
from meanfield.plots.dropout_regime import DIMENSION, draw_fit, power_label
from meanfield.plots.style import (
    CONTROL,
    GUIDE,
    MEAN_FIELD,
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
from meanfield.theory.scaling import ExponentFit
from meanfield.theory.seeds import mean_over_seeds

__all__ = ["change_against_kept", "needed_against_dimension"]

SETTINGS: dict[str, Style] = {
    "two-layer": {**MEAN_FIELD},
    "three-layer": {**CONTROL},
    "three-layer, internal": {"color": "#009E73", "marker": "^", "markersize": 4.5},
}
ASIDE = 1.08  # less than half the way to the next m
CENSORED_ASIDE = 1.07  # two settings whose limits are the same are both seen
ROOM = 1.6  # above the highest mean and below the lowest
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
    titles = [f"kept in {where_dropped(name)}" for name in names]
    figure, axes = panels(titles, DIMENSION, ["neurons needed, $m$"], width=panel_width(len(titles)))
    for panel, name in zip(axes[0], names, strict=True):
        here, to_fit = (frame[frame["dropped"] == name] for frame in (needed, fitted))
        for setting, style in SETTINGS.items():
            if (needed["setting"] == setting).any():
                rows = here[here["setting"] == setting]
                _draw_setting(panel, rows, to_fit[to_fit["setting"] == setting], setting, style)
        mark_widths(panel, needed["dim"])
    axes[0, 0].plot([], [], label="fitted power law", **GUIDE)
    share_range(axes[0])
    for panel, name in zip(axes[0], names, strict=True):
        _draw_linear(panel, needed[needed["dropped"] == name])
    return finished(figure)


@theme()
def change_against_kept(changes: pd.DataFrame, allowed: float) -> Figure:
    """Draw m times the relative change against the m neurons kept in all layers: a row a setting, a colour a dimension.

    A change that falls as 1/m is level. The dashed line is the change that is ``allowed``; the needed number is where
    the points cross it. Dimensions are set side by side around their common m; panels share a range, that of the means,
    and longer intervals end at its edge.

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
    quantity = r"$m\times$ mean loss change $\times\frac{N-1}{N-m}$," + "\nin units of $L(0)-L(T)$"
    figure, axes = panels(
        [""], f"{KEPT} (dimensions side by side)", [quantity] * len(settings), width=panel_width(1) * 2
    )
    styles = width_styles(changes["dim"])
    aside = dict(zip(styles, ASIDE ** np.linspace(-1, 1, len(styles)), strict=True))
    drawn = changes.assign(
        scaled=changes["n_kept"] * changes["relative_change"], beside=changes["n_kept"] * changes["dim"].map(aside)
    )
    for panel, setting in zip(axes[:, 0], settings, strict=True):
        panel.set_title(setting)
        for dim, style in styles.items():
            rows = drawn[(drawn["setting"] == setting) & (drawn["dim"] == dim)]
            draw_points(panel, rows, "beside", "scaled", **{**style, "markersize": 4, "label": f"$d={dim}$"})
        mark_widths(panel, changes["n_kept"])
    _show_means(axes[:, 0], mean_over_seeds(drawn, ["setting", "dim", "n_kept"], "scaled")["mean"])
    for panel in axes[:, 0]:
        _draw_guide(panel, changes["n_kept"], (1, allowed), label=f"allowed, ${allowed:g}\\,m$")
    return finished(figure)


def _show_means(shown: Iterable[Axes], means: pd.Series) -> None:
    positive = means[means > 0]
    if len(positive):
        for panel in shown:
            panel.set_ylim(positive.min() / ROOM, positive.max() * ROOM)


def _draw_guide(panel: Axes, span: pd.Series, through: tuple[float, float], label: str) -> None:
    """Draw slope 1 where the panel shows points."""
    low, high = panel.get_ylim()
    draw_power_law(panel, span, through, 1, label=label, linestyle="--", **GUIDE)
    panel.set_ylim(low, high)


def _draw_setting(panel: Axes, rows: pd.DataFrame, to_fit: pd.DataFrame, setting: str, style: Style) -> None:
    draw_points(panel, rows[rows["dim"].isin(to_fit["dim"])], "dim", "needed", label=setting, **style)
    name = partial(_write_exponent, panel, to_fit, style["color"])
    draw_fit(panel, to_fit, "dim", "needed", name, color=style["color"])
    censored = rows[~rows["dim"].isin(to_fit["dim"])].dropna(subset="limit").drop_duplicates("dim")
    if len(censored):
        aside = CENSORED_ASIDE ** (list(SETTINGS).index(setting) - 1)
        look = {"markeredgecolor": style["color"], "label": "beyond, censored", **OPEN}
        panel.plot(censored["dim"] * aside, censored["limit"], **look)


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
        _draw_guide(panel, rows["dim"], start, label="linear in $d$")
