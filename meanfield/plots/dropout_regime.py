"""Figures of the theorem's regime: the loss change of dropout against time, horizon, width, step size, dimension.

Points are means over seeds with 90% Student-t intervals; black lines are theory, grey ones guides, lines in the
points' colour are power laws fitted with seeds as units.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from meanfield.plots.dropout import TIME, check_columns, check_rows
from meanfield.plots.style import (
    CONTROL,
    GUIDE,
    MEAN_FIELD,
    THEORY,
    Style,
    draw_curve,
    draw_points,
    draw_power_law,
    finished,
    mark_widths,
    panels,
    share_range,
    show_time_zero,
    theme,
    width_styles,
)
from meanfield.theory.scaling import ExponentFit, fit_exponent
from meanfield.theory.seeds import mean_over_seeds

__all__ = [
    "change_against_dimension",
    "change_against_horizon",
    "change_over_time",
    "deviation_against_step_size",
    "draw_fit",
    "exponent_against_horizon",
    "power_label",
]

CHANGE = "loss change, $L_A-L$"
HORIZON, STEP_SIZE, DIMENSION = "horizon, $T$", r"step size, $\alpha d$", "dimension, $d$"
BOUND = "form of the bound, $Ke^{KT^3}$\n$\\times$ its terms, $K$ fitted over all $m$"
GAP: Style = {**MEAN_FIELD, "label": "loss change"}
RISK: Style = {**CONTROL, "label": "risk"}
PEAK: Style = {"linestyle": "none", "marker": "o", "markersize": 6, "markerfacecolor": "none", "markeredgewidth": 1.0}
MARGIN_BAND: Style = {"color": "0.9", "zorder": 0, "label": r"settled, $\pm 0.1$"}


@theme()
def change_over_time(gaps: pd.DataFrame) -> Figure:
    """Draw the loss change along the whole training, its mean over subsets and mean + one standard deviation.

    A line a kept number m, the mean over seeds, in a band, its 90% interval; a ring marks the largest value of the
    line. The time axis is linear from 0 to the first positive time.

    Parameters
    ----------
    gaps : columns seed, time, n_kept, mean_change, mean_plus_std; one row a seed, time and kept number

    Raises
    ------
    ValueError : the frame is empty, lacks or repeats something
    TypeError : a column that must hold numbers does not

    See Also
    --------
    meanfield.dropout_curve : measures the columns.
    """
    check_rows("gaps", gaps, ["time", "n_kept"], ["time", "n_kept", "mean_change", "mean_plus_std"])
    figure, axes = panels(["mean over subsets", "mean + one standard deviation"], TIME, [CHANGE])
    styles = width_styles(gaps["n_kept"])
    for panel, column in zip(axes[0], ("mean_change", "mean_plus_std"), strict=True):
        for n_kept, style in styles.items():
            rows, color = gaps[gaps["n_kept"] == n_kept], style["color"]
            draw_curve(panel, rows, "time", column, color=color, label=f"$m={n_kept}$")
            _mark_peak(panel, rows, column, color)
        show_time_zero(panel, gaps["time"])
    axes[0, 0].plot([], [], label="largest", markeredgecolor="0.4", **PEAK)
    share_range(axes[0])
    return finished(figure)


@theme()
def change_against_horizon(gaps: pd.DataFrame, bound: pd.DataFrame) -> Figure:
    """Draw how the loss change grows with the horizon, beside the form of the theorem's bound.

    Points are the mean over subsets and mean + one standard deviation at the end of each horizon; the line through the
    former is the fitted power law, the dashed one the fitted exponential. The bound leaves the figure above. Its K is
    shared by all kept numbers m, so that only at the m which asks for the largest K does it start at what it must
    bound, Cantelli's bound of the worst seed, above mean + std; at others it lies higher above the points.

    Parameters
    ----------
    gaps : columns seed, time, n_kept (one), mean_change, mean_plus_std; one row a seed and time > 0
    bound : columns time, value: the theorem's form at this m, K e^{K T^3} times its terms in m, N and alpha

    Raises
    ------
    ValueError, TypeError : as `change_over_time`
    """
    check_rows("gaps", gaps, ["time"], ["time", "n_kept", "mean_change", "mean_plus_std"])
    check_columns("bound", bound, ["time", "value"], ["time", "value"])
    figure, axes = panels([f"$m={gaps['n_kept'].iloc[0]}$"], HORIZON, [CHANGE])
    panel = axes[0, 0]
    draw_points(panel, gaps, "time", "mean_change", **{**GAP, "label": "mean"})
    draw_points(panel, gaps, "time", "mean_plus_std", **{**CONTROL, "label": "mean + std"})
    draw_fit(panel, gaps, "time", "mean_change", partial(power_label, "T"))
    _draw_exponential(panel, gaps)
    low, high = gaps["mean_change"].min(), gaps["mean_plus_std"].max()
    panel.plot(bound["time"], bound["value"], label=BOUND, **THEORY)
    panel.set_ylim(low / 1.5, 12 * high)
    return finished(figure)


@theme()
def exponent_against_horizon(horizons: pd.DataFrame) -> Figure:
    """Draw how much c_N, and with it the loss change, and the risk depend on width, by the length of training.

    Points are the exponents of log c_N and log L in log N over the widest networks, with their 90% intervals: a
    quantity has settled where the whole bar lies in the band.

    Parameters
    ----------
    horizons : columns time, quantity ("c_n" or "risk"), exponent, low, high; one row a time and quantity

    Raises
    ------
    ValueError, TypeError : as `change_over_time`
    """
    numbers = ["time", "exponent", "low", "high"]
    check_columns("horizons", horizons, ["quantity", *numbers], numbers)
    figure, axes = panels([""], HORIZON, ["exponent in $N$"])
    panel = axes[0, 0]
    panel.set_yscale("linear")
    panel.axhspan(-0.1, 0.1, **MARGIN_BAND)
    for quantity, style in (("c_n", {**GAP, "label": "loss change, $c_N$"}), ("risk", RISK)):
        rows = horizons[(horizons["quantity"] == quantity) & (horizons["time"] > 0)]
        bars = [rows["exponent"] - rows["low"], rows["high"] - rows["exponent"]]
        look = {"linestyle": "none", "markeredgewidth": 0, "elinewidth": 0.9, **style}
        panel.errorbar(rows["time"], rows["exponent"], yerr=bars, **look)
    return finished(figure)


@theme()
def deviation_against_step_size(deviations: pd.DataFrame) -> Figure:
    """Draw how far a step size takes loss change and risk from the smallest one, at worst along the training.

    Points are sup_t |q(t; alpha)/q(t; smallest alpha) - 1| on the same initial weights, lines the fitted power laws,
    the dashed line the slope of the theorem's term sqrt(alpha), seen from the smallest step size as the points are.

    Parameters
    ----------
    deviations : columns seed, alpha_d, gap, risk, finest_alpha_d (the smallest); one row a seed and step size

    Raises
    ------
    ValueError, TypeError : as `change_over_time`
    """
    check_rows("deviations", deviations, ["alpha_d"], ["alpha_d", "gap", "risk", "finest_alpha_d"])
    figure, axes = panels([""], STEP_SIZE, ["largest relative deviation"])
    panel = axes[0, 0]
    for column, style in (("gap", GAP), ("risk", RISK)):
        draw_points(panel, deviations, "alpha_d", column, **style)
        draw_fit(panel, deviations, "alpha_d", column, partial(power_label, r"(\alpha d)"), color=style["color"])
    _draw_root(panel, deviations)
    _mark_values(panel, deviations["alpha_d"])
    return finished(figure)


@theme()
def change_against_dimension(dimensions: pd.DataFrame) -> Figure:
    """Draw the mean loss change at fixed m against dimension, in units of what training gained and as it is.

    Parameters
    ----------
    dimensions : columns seed, dim, gap, relative_gap, n_kept; one row a seed and dimension, one kept number

    Raises
    ------
    ValueError, TypeError : as `change_over_time`
    """
    check_rows("dimensions", dimensions, ["dim"], ["dim", "gap", "relative_gap", "n_kept"])
    m = dimensions["n_kept"].iloc[0]
    figure, axes = panels(["in units of $L(0)-L(T)$", "as it is"], DIMENSION, [f"mean loss change at $m={m}$"])
    for panel, column in zip(axes[0], ("relative_gap", "gap"), strict=True):
        draw_points(panel, dimensions, "dim", column, **GAP)
        draw_fit(panel, dimensions, "dim", column, partial(_note_exponent, panel))
        mean = dimensions[column].mean()
        draw_power_law(panel, dimensions["dim"], (1, mean), 0, label="no dependence", linestyle="--", **GUIDE)
        panel.set_ylim(mean / 3, 3 * mean)
        mark_widths(panel, dimensions["dim"])
    return finished(figure)


def _draw_root(panel: Axes, deviations: pd.DataFrame) -> None:
    """Draw sqrt(alpha) as it looks from the smallest step size, from above the first point."""
    finest, first = deviations["finest_alpha_d"].iloc[0], deviations["alpha_d"].min()
    start = 2 * deviations.loc[deviations["alpha_d"] == first, ["gap", "risk"]].mean().max()
    sizes = np.geomspace(first, deviations["alpha_d"].max(), 100)
    height = start * (np.sqrt(sizes) - np.sqrt(finest)) / (np.sqrt(first) - np.sqrt(finest))
    panel.plot(sizes, height, label=r"slope of $\sqrt{\alpha}-\sqrt{\alpha_{\min}}$", linestyle="--", **GUIDE)


def power_label(symbol: str, fit: ExponentFit) -> str:
    """Name a fitted power law by its base and exponent."""
    return f"${symbol}^{{{fit.exponent:z.2f}}}$"


def _note_exponent(panel: Axes, fit: ExponentFit) -> str:
    """Write the exponent, which differs from panel to panel, into this one; return what names them all."""
    text = f"exponent {fit.exponent:z.3f} ({fit.low:z.3f}..{fit.high:z.3f})"
    panel.text(0.97, 0.93, text, transform=panel.transAxes, ha="right", va="top")
    return "fitted power law"


def _mark_values(panel: Axes, values: pd.Series) -> None:
    """Put the ticks of the horizontal axis at the values."""
    ticks = sorted(values.unique())
    panel.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    panel.xaxis.set_minor_locator(NullLocator())


def _mark_peak(panel: Axes, rows: pd.DataFrame, column: str, color: str) -> None:
    """Put a ring where the mean over seeds is largest."""
    means = mean_over_seeds(rows, "time", column)
    panel.plot(*means.nlargest(1, "mean")[["time", "mean"]].to_numpy().T, markeredgecolor=color, **PEAK)


def draw_fit(panel: Axes, rows: pd.DataFrame, x: str, y: str, name: Callable[[ExponentFit], str], **style: Any) -> None:
    """Draw the power law that seeds as units give, named by its fit; nothing where they give none."""
    try:
        fit = fit_exponent(rows[x], rows[y], rows["seed"])
    except ValueError:
        return
    line = {"color": GAP["color"], "linewidth": 1.0, "label": name(fit), **style}
    draw_power_law(panel, rows[x], (1, fit.constant), fit.exponent, **line)


def _draw_exponential(panel: Axes, gaps: pd.DataFrame) -> None:
    """Draw the fitted exponential, a power law in e^T."""
    longest = gaps["time"].max()
    try:
        fit = fit_exponent(np.exp(gaps["time"] / longest), gaps["mean_change"], gaps["seed"])
    except ValueError:
        return
    times = np.geomspace(gaps["time"].min(), longest, 100)
    rate = fit.exponent / longest
    line = {"color": GAP["color"], "linewidth": 1.0, "linestyle": "--"}
    panel.plot(times, fit.constant * np.exp(rate * times), label=f"$e^{{{rate:z.3f}\\,T}}$", **line)
