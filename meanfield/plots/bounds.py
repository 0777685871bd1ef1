"""Figures that hold bounds on the loss change of dropout against what was measured."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from meanfield.plots.dropout import KEPT, check_columns, check_unrepeated
from meanfield.plots.style import GUIDE, THEORY, Style, finished, panels, share_range, theme, width_styles
from meanfield.theory.prefactor import PrefactorFit, rows_of_quantile

__all__ = ["bounds_against_kept"]

MOST_PANELS = 4
THEOREM = "theorem"
TITLES = {
    "cantelli": "Cantelli, exact moments",
    "exponential": "exponential tail",
    "sup": "sup form",
    THEOREM: "theorem's form on $|L_A-L|$, fitted",
}
# Every bound but the theorem's is one-sided.
MEASURED = {THEOREM: "magnitude"}
ENDS = ("", "_low", "_high")
SAME = 1.02  # less than the width of a line apart
FITTED: Style = {"linestyle": "none", "marker": "o", "markersize": 8, "markerfacecolor": "none", "color": "black"}
LIMIT: Style = {**THEORY, "linewidth": 2.2, "zorder": 2}


@theme()
def bounds_against_kept(
    quantiles: pd.DataFrame,
    bounds: pd.DataFrame,
    limits: pd.DataFrame | None = None,
    *,
    titles: Mapping[str, str] | None = None,
    fitted: PrefactorFit | None = None,
) -> Figure:
    """Draw measured quantiles of the loss change against the bounds on them, a column of panels a bound.

    Points are the (1 - delta)-quantiles with their intervals, of L_A - L, or of |L_A - L| beside the theorem's
    bound; a thin line in a width's colour is the bound at that width, a black one that at all widths, where they differ
    by less than the line is wide, the thick line its limit at N = infinity, which no width enters. A ring is where the
    theorem's prefactor was fitted. Panels share their vertical axis, so that a vacuous bound is seen to be one. Values
    that are not positive (m = N) or NaN (undefined) are left out, and so is a bound without others.

    Parameters
    ----------
    quantiles : the table of `meanfield.dropout_quantiles`, those of several widths stacked: columns n_neurons,
        n_kept, quantile, change, change_low, change_high, and magnitude, magnitude_low, magnitude_high for a bound
        "theorem"; one row a width and kept number at quantile 1 - delta
    bounds : columns n_neurons, n_kept, bound, value, delta; one row a width, kept number and bound, one delta
    limits : columns n_kept, bound, value; one row a kept number and bound
    titles : what to write above a bound's column, if not its usual name
    fitted : the fit of the bound "theorem"

    Raises
    ------
    ValueError : a frame is empty, lacks or repeats something; several delta; no bound, or more than four
    TypeError : a column that must hold numbers does not

    See Also
    --------
    meanfield.dropout_bounds, meanfield.theory.bounds.limit_bounds : compute the two kinds of lines.
    """
    _check_rows("bounds", bounds, ["n_neurons", "n_kept", "bound"], ["value", "delta"])
    quantities = {MEASURED.get(name, "change") for name in bounds["bound"]}
    numbers = [f"{quantity}{end}" for quantity in sorted(quantities) for end in ENDS]
    _check_rows("quantiles", quantiles, ["n_neurons", "n_kept", "quantile"], numbers)
    if limits is not None:
        _check_rows("limits", limits, ["n_kept", "bound"], ["value"])
    drawn, level = _drawable(bounds), 1 - _only_delta(bounds)
    measured = rows_of_quantile(quantiles, level)
    change = "$|L_A-L|$" if quantities == {"magnitude"} else "$L_A-L$"
    label = f"loss change, {change}:\n{100 * level:.6g}% quantile and bound"
    names = list(drawn["bound"].unique())
    styles = width_styles([*measured["n_neurons"], *drawn["n_neurons"]])
    headings = TITLES | dict(titles or {})
    figure, axes = panels([headings.get(name, name) for name in names], KEPT, [label])
    for name, panel in zip(names, axes[0], strict=True):
        _draw_quantiles(panel, measured, MEASURED.get(name, "change"), styles)
        _draw_bounds(panel, drawn[drawn["bound"] == name], styles)
        if limits is not None:
            _draw_limit(panel, limits[limits["bound"] == name])
        if fitted is not None and name == THEOREM:
            _mark_fit(panel, fitted)
    share_range(figure.axes)
    return finished(figure)


def _draw_quantiles(panel: Axes, measured: pd.DataFrame, quantity: str, styles: dict[int, Style]) -> None:
    for n_neurons, style in styles.items():
        rows = measured[(measured["n_neurons"] == n_neurons) & (measured[quantity] > 0)].sort_values("n_kept")
        middle, low, high = (rows[f"{quantity}{end}"] for end in ENDS)
        look = {"linestyle": "none", "marker": "o", "markeredgewidth": 0, "elinewidth": 0.9, **style}
        panel.errorbar(rows["n_kept"], middle, yerr=[middle - low, high - middle], **look)


def _draw_bounds(panel: Axes, bounds: pd.DataFrame, styles: dict[int, Style]) -> None:
    over_widths = bounds.groupby("n_kept")["value"]
    if bounds["n_neurons"].nunique() > 1 and (over_widths.max() <= SAME * over_widths.min()).all():
        middle = over_widths.mean()
        panel.plot(middle.index, middle, label=f"bound, all $N$ within {SAME - 1:.0%}", **THEORY)
        return
    panel.plot([], [], label="bound at $N$", **GUIDE)
    for n_neurons, rows in bounds.sort_values("n_kept").groupby("n_neurons"):
        color = styles[int(str(n_neurons))]["color"]
        panel.plot(rows["n_kept"], rows["value"], color=color, linewidth=0.7, zorder=3)


def _mark_fit(panel: Axes, fit: PrefactorFit) -> None:
    place = (fit.n_kept, fit.bound(fit.n_kept, fit.n_neurons))
    panel.plot(*place, label=f"fitted at $N={fit.n_neurons}$, $m={fit.n_kept}$", **FITTED)


def _draw_limit(panel: Axes, limits: pd.DataFrame) -> None:
    rows = _positive(limits).sort_values("n_kept")
    if len(rows):
        panel.plot(rows["n_kept"], rows["value"], label=r"bound at $N\to\infty$", **LIMIT)


def _positive(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[np.isfinite(rows["value"]) & (rows["value"] > 0)]


def _drawable(bounds: pd.DataFrame) -> pd.DataFrame:
    rows = _positive(bounds)
    n_bounds = rows["bound"].nunique()
    if not 1 <= n_bounds <= MOST_PANELS:
        raise ValueError(f"bounds must hold positive values of 1 to {MOST_PANELS} bounds, got {n_bounds}: select some")
    return rows


def _only_delta(bounds: pd.DataFrame) -> float:
    if bounds["delta"].nunique() != 1:
        raise ValueError(f"bounds must have one delta, got {sorted(bounds['delta'].unique().tolist())}: select one")
    return float(bounds["delta"].iloc[0])


def _check_rows(name: str, frame: pd.DataFrame, keys: list[str], numbers: list[str]) -> None:
    check_columns(name, frame, [*keys, *numbers], [*(key for key in keys if key != "bound"), *numbers])
    check_unrepeated(name, frame, keys, "network")
