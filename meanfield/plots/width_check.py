"""Figures of the width check: sizes and movements of weights and pre-activations against width."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from meanfield.plots.dropout import check_columns, check_rows
from meanfield.plots.style import (
    GUIDE,
    add_legend,
    draw_geometric_means,
    draw_power_law,
    mark_widths,
    note_if_empty,
    panel_width,
    panels,
    theme,
    width_styles,
)

__all__ = ["coordinates_against_width"]

TITLES = {
    "mean-field": "mean-field scaling",
    "zero-mean": "mean-field scaling,\nzero-mean start, one step",
    "control": "control: standard scaling",
}
EXPECTED = "expected slope (control: that of mean-field scaling)"
WIDTH = "neurons of a layer, $N$"


@theme()
def coordinates_against_width(coordinates: pd.DataFrame, slopes: pd.DataFrame) -> Figure:
    """Draw the rms of each quantity against width: columns are settings, rows quantities, colours weights[l].

    Points are geometric means over seeds with their 90% intervals, of the logarithms; dashed lines have the expected
    slope, in the column of the control that of mean-field scaling. Values that are not positive and finite are left
    out.

    Parameters
    ----------
    coordinates : columns seed, setting, quantity, weights (l of weights[l]), n_neurons, value; one row of each
    slopes : columns setting, quantity, weights, expected (NaN where none is)

    Raises
    ------
    ValueError : a frame is empty, lacks or repeats something
    TypeError : a column that must hold numbers does not

    See Also
    --------
    meanfield.studies.width_check : measures the columns.
    """
    check_columns("coordinates", coordinates, ["setting", "quantity"], [])
    check_rows("coordinates", coordinates, ["setting", "quantity", "weights", "n_neurons"], ["value"])
    check_columns("slopes", slopes, ["setting", "quantity", "weights", "expected"], ["weights", "expected"])
    settings, quantities = (list(coordinates[name].unique()) for name in ("setting", "quantity"))
    labels = [f"{quantity}, rms" for quantity in quantities]
    titles = [TITLES.get(name, name) for name in settings]
    figure, axes = panels(titles, WIDTH, labels, width=panel_width(len(titles)))
    styles = _layer_styles(coordinates["weights"])
    for row, quantity in zip(axes, quantities, strict=True):
        for panel, setting in zip(row, settings, strict=True):
            _draw_layers(panel, _of(coordinates, setting, quantity), _of(slopes, setting, quantity), styles)
            mark_widths(panel, coordinates["n_neurons"])
            note_if_empty(panel)
            _note_if_nothing_is_predicted(panel, _of(slopes, setting, quantity))
            _show_a_decade(panel)
    axes[0, 0].plot([], [], label=EXPECTED, linestyle="--", **GUIDE)
    add_legend(figure)
    return figure


def _show_a_decade(panel: Axes) -> None:
    """Widen a narrow range, in which noise would look like a slope."""
    low, high = panel.get_ylim()
    wider = max(1.0, (10 * low / high) ** 0.5)
    panel.set_ylim(low / wider, high * wider)


def _note_if_nothing_is_predicted(panel: Axes, slopes: pd.DataFrame) -> None:
    if slopes["expected"].isna().all():
        panel.set_title("no prediction", loc="right", color="0.4", fontsize="medium")


def _of(frame: pd.DataFrame, setting: str, quantity: str) -> pd.DataFrame:
    return frame[(frame["setting"] == setting) & (frame["quantity"] == quantity)]


def _layer_styles(layers: pd.Series) -> dict[int, dict[str, Any]]:
    last = int(layers.max())
    styles = width_styles(layers)
    return {layer: {**style, "label": _name(layer, last)} for layer, style in styles.items()}


def _name(layer: int, last: int) -> str:
    return f"weights[{layer}]" + (", output" if layer == last else "")


def _draw_layers(
    panel: Axes, coordinates: pd.DataFrame, slopes: pd.DataFrame, styles: dict[int, dict[str, Any]]
) -> None:
    for layer, style in styles.items():
        rows = coordinates[coordinates["weights"] == layer]
        shown = rows[np.isfinite(rows["value"]) & (rows["value"] > 0)]
        if shown.empty:
            continue
        draw_geometric_means(panel, shown, "n_neurons", "value", **style)
        centre = tuple(float(np.exp(np.log(shown[name]).mean())) for name in ("n_neurons", "value"))
        for expected in slopes.loc[slopes["weights"] == layer, "expected"].dropna():
            line = {"color": style["color"], "linestyle": "--", "linewidth": 0.8}
            draw_power_law(panel, shown["n_neurons"], (centre[0], centre[1]), expected, **line)
