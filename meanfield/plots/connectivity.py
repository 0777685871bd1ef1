"""Figures of connectivity: barriers against width, the loss along the ways, better halves.

Filled points are certified: the maximum over a path is that over its vertices. Hollow ones are the highest value
found on a curve, a lower bound. Points are means over pairs of networks with 90% Student-t intervals.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from meanfield.checks import check_choice
from meanfield.plots.dropout import WIDTH, check_columns
from meanfield.plots.path import SEGMENT_KINDS, draw_curves, shade_idle
from meanfield.plots.style import (
    GUIDE,
    PANEL_HEIGHT,
    PANEL_WIDTH,
    THEORY,
    Style,
    draw_points,
    draw_power_law,
    finished,
    mark_widths,
    panels,
    theme,
    width_styles,
)
from meanfield.plots.ticks import make_room_for_zero
from meanfield.theory.seeds import mean_over_seeds

__all__ = ["WAYS", "WAY_NAMES", "barrier_against_width", "better_halves", "check_ways", "loss_along_ways"]

_HOLLOW: Style = {"markerfacecolor": "white", "markeredgewidth": 1.0}

# Colours of Okabe and Ito; filled markers are certified maxima.
WAYS: dict[str, Style] = {
    "dropout": {"label": "dropout path, same half", "color": "#0072B2", "marker": "o", "markersize": 4.5},
    "complement": {"label": "dropout path, complements", "color": "#56B4E9", "marker": "s", "markersize": 3.5},
    "best-of": {"label": "dropout path, best of 100 halves", "color": "0.45", "marker": "h", "markersize": 4.5},
    "greedy": {"label": "dropout path, greedy halves", "color": "#009E73", "marker": "D", "markersize": 3.8},
    "line": {"label": "straight line", "color": "#E69F00", "marker": "^", "markersize": 4.5, **_HOLLOW},
    "aligned": {"label": "straight line, aligned", "color": "#D55E00", "marker": "v", "markersize": 4.5, **_HOLLOW},
    "bezier": {"label": "Bezier curve", "color": "#CC79A7", "marker": "p", "markersize": 4.8, **_HOLLOW},
    "untrained": {"label": "dropout path, untrained ends", "color": "0.7", "marker": "P", "markersize": 4.5},
}
CONTROL: Style = {"label": r"control, $1/\sqrt{N}$ scaling", "color": "black", "marker": "X", "markersize": 4.5}
WAY_NAMES = {way: str(style["label"]) for way, style in WAYS.items()}
SPLITS = {"train": "training rows", "test": "test rows"}
METHODS: dict[str, Style] = {
    "random": {**WAYS["dropout"], "label": "random"},
    "best-of": {**WAYS["best-of"], "label": "best of 100"},
    "greedy": {**WAYS["greedy"], "label": "greedy"},
    "swaps": {"label": "greedy, then swaps", "color": "#CC79A7", "marker": "s", "markersize": 3.2},
}
BARRIER, KEPT = "barrier", "neurons kept of each end, $m$"
FITTED: Style = {"linewidth": 0.9, "zorder": 1}
TALL = 1.5  # height of figures whose data span many decades, in panels
EDGE = 0.03  # height of marks for zero, in parts of the panel


@theme()
def barrier_against_width(barriers: pd.DataFrame, exponents: pd.DataFrame, *, n_hidden: int = 1) -> Figure:
    """Draw the barrier of every way against width on training and test rows, with the fitted power laws.

    Points of one width stand side by side, so that intervals can be told apart. The figure is as wide as a page.
    The black line has the theorem's first term for its slope, sqrt(log N)/sqrt(N) with one hidden layer and 1/sqrt(N)
    with several, from above the first point of the path that keeps the same half of both ends; its height says
    nothing. A 0 at the lower edge stands for pairs of which none has a barrier.

    Parameters
    ----------
    barriers : columns scaling, way, split, n_neurons, seed, barrier; one row a pair, way and split
    exponents : columns scaling, way, split, exponent, constant, x_min, x_max, NaN where there is no fit
    n_hidden : hidden layers of the networks

    Raises
    ------
    ValueError : a frame is empty, lacks or repeats something
    TypeError : a column that must hold numbers does not
    """
    keys = ["scaling", "way", "split", "n_neurons", "seed"]
    _check_rows("barriers", barriers, keys, ["n_neurons", "barrier"])
    check_columns("exponents", exponents, [*keys[:3], *_FIT], _FIT)
    splits = [split for split in SPLITS if (barriers["split"] == split).any()]
    titles, width = [SPLITS[split] for split in splits], 2 * PANEL_WIDTH / len(splits)
    figure, axes = panels(titles, WIDTH, [f"{BARRIER} (hollow: a lower bound)"], width=width)
    figure.set_figheight(TALL * PANEL_HEIGHT)
    for panel, split in zip(axes[0], splits, strict=True):
        here, fits = (frame[frame["split"] == split] for frame in (barriers, exponents))
        series = _series(here)
        places = _APART ** (np.arange(len(series)) - (len(series) - 1) / 2)
        for (scaling, way, style), place in zip(series, places, strict=True):
            rows, fit = (frame[(frame["scaling"] == scaling) & (frame["way"] == way)] for frame in (here, fits))
            _draw_series(panel, rows.assign(n_neurons=rows["n_neurons"] * place), fit, style)
        _draw_form(panel, here, n_hidden)
        mark_widths(panel, here["n_neurons"])
    _name_fits(axes[0, 0], "power laws")
    _share_range(axes[0], least=_below_means(barriers, ["scaling", "way", "split", "n_neurons"]))
    return finished(figure)


_FIT = ["exponent", "constant", "x_min", "x_max"]
_APART = 1.03  # ratio of the places of two ways at the same width


def _series(barriers: pd.DataFrame) -> list[tuple[str, str, Style]]:
    """Return scaling, way and look of what is drawn; of the control one path alone."""
    shown = [("mean-field", way, style) for way, style in WAYS.items() if (barriers["way"] == way).any()]
    return [*shown, ("control", "dropout", CONTROL)] if (barriers["scaling"] == "control").any() else shown


def _draw_series(panel: Axes, rows: pd.DataFrame, fits: pd.DataFrame, style: Style) -> None:
    _draw_barriers(panel, rows, "n_neurons", style)
    for exponent, constant, *span in fits[_FIT].dropna().to_numpy(float):
        draw_power_law(panel, span, (1, constant), exponent, color=style["color"], **FITTED)


def _draw_barriers(panel: Axes, rows: pd.DataFrame, x: str, style: Style) -> None:
    """Draw the means over pairs as points, and at the lower edge those that are zero."""
    draw_points(panel, rows, x, "barrier", **style)
    means = mean_over_seeds(rows, x, "barrier")
    zero = means.loc[means["mean"] == 0, x]
    if len(zero):
        look = {
            "color": style["color"],
            "linestyle": "none",
            "marker": "$0$",
            "label": "no barrier",
            "markeredgewidth": 0,
        }
        panel.plot(zero, np.full(len(zero), EDGE), transform=panel.get_xaxis_transform(), **look)


def _below_means(rows: pd.DataFrame, by: list[str]) -> float | None:
    """Return a lower end for the vertical axis, below all positive means: intervals may reach down to zero."""
    means = mean_over_seeds(rows, by, "barrier")["mean"]
    positive = means[means > 0]
    return float(positive.min()) / 2 if len(positive) else None


def _name_fits(panel: Axes, what: str) -> None:
    panel.plot([], [], color="0.4", label=f"fitted {what}", **FITTED)


def _draw_form(panel: Axes, barriers: pd.DataFrame, n_hidden: int) -> None:
    """Draw the theorem's first term from above the first point of the path that keeps the same half."""
    rows = barriers[(barriers["scaling"] == "mean-field") & (barriers["way"] == "dropout")]
    first = mean_over_seeds(rows, "n_neurons", "barrier").head(1)
    if first.empty:
        return
    n_neurons = np.geomspace(rows["n_neurons"].min(), rows["n_neurons"].max(), 50)
    height = np.sqrt((np.log(n_neurons) if n_hidden == 1 else 1) / n_neurons)
    label = r"slope of $\sqrt{\log N}/\sqrt{N}$" if n_hidden == 1 else r"slope of $1/\sqrt{N}$"
    panel.plot(n_neurons, 1.6 * first["mean"].item() * height / height[0], label=label, linestyle="--", **THEORY)


@theme()
def loss_along_ways(profile: pd.DataFrame) -> Figure:
    """Draw the loss, and below it the classification error, along the ways between the ends of one pair.

    Left the dropout path that keeps the same half of both ends, at every width; the function is constant on its idle
    segments, which are shaded, and the loss convex on the others, readout segments. Right all other ways at the largest
    width, dashed those without a certificate. Both share one range, which is logarithmic; errors, which are not convex,
    may be zero, at its foot.

    Parameters
    ----------
    profile : columns n_neurons, way, segment, kind, t, risk and perhaps classification_error; one pair a width.
        A way is certified if its kinds are "readout" and "idle" alone

    Raises
    ------
    ValueError, TypeError : as `barrier_against_width`
    """
    columns = ["n_neurons", "segment", "t", "risk"]
    check_columns("profile", profile, [*columns, "way", "kind"], columns)
    check_ways(profile["way"])
    measures = {"risk": "loss"}
    if "classification_error" in profile and profile["classification_error"].notna().any():
        measures["classification_error"] = "classification error"
    widest = profile[profile["n_neurons"] == profile["n_neurons"].max()]
    titles = [WAY_NAMES["dropout"], f"the other ways, $N={widest['n_neurons'].iloc[0]}$"]
    figure, axes = panels(titles, "position along the way, $t$", list(measures.values()))
    for (left, right), measure in zip(axes, measures, strict=True):
        for panel in (left, right):
            panel.set(xscale="linear", xlim=(0, 1))
        _draw_path_at_widths(left, profile[profile["way"] == "dropout"], measure)
        _draw_ways(right, widest, measure)
        if (profile[measure] == 0).any():
            make_room_for_zero((left, right), profile[measure])
        _share_range((left, right))
    return finished(figure)


def _draw_path_at_widths(panel: Axes, path: pd.DataFrame, measure: str) -> None:
    shade_idle(panel, path[path["n_neurons"] == path["n_neurons"].min()])
    looks = width_styles(path["n_neurons"])
    curves = {look["label"]: path[path["n_neurons"] == n_neurons] for n_neurons, look in looks.items()}
    draw_curves(panel, curves, {look["label"]: {"color": look["color"]} for look in looks.values()}, measure)


def _draw_ways(panel: Axes, rows: pd.DataFrame, measure: str) -> None:
    """Draw all ways but that on the left, and untrained ends; dashed those that are not certified."""
    shown = [way for way in WAYS if way not in ("dropout", "untrained") and (rows["way"] == way).any()]
    curves = {WAY_NAMES[way]: rows[rows["way"] == way] for way in shown}
    dashes = {name: "-" if curve["kind"].isin(SEGMENT_KINDS).all() else "--" for name, curve in curves.items()}
    styles = {WAY_NAMES[way]: {"color": WAYS[way]["color"], "linestyle": dashes[WAY_NAMES[way]]} for way in shown}
    draw_curves(panel, curves, styles, measure)


@theme()
def better_halves(ladder: pd.DataFrame, slopes: pd.DataFrame) -> Figure:
    """Draw how a better choice of the kept neurons lowers the barrier of the dropout path.

    Left the barrier against m at the largest width, with what was fitted, a power of m times (N - m)/(N - 1);
    right the barrier against the loss change of the halves at all widths: on the line they are equal.

    Parameters
    ----------
    ladder : columns n_neurons, seed, n_kept, method, change, barrier; one row a pair, kept number and method
    slopes : columns direction ("m" or "N"), measure, method, exponent, constant, x_min, x_max

    Raises
    ------
    ValueError, TypeError : as `barrier_against_width`
    """
    keys = ["n_neurons", "seed", "n_kept", "method"]
    _check_rows("ladder", ladder, keys, ["n_neurons", "n_kept", "change", "barrier"])
    check_columns("slopes", slopes, ["direction", "measure", "method", *_FIT], _FIT)
    for method in ladder["method"].unique():
        check_choice("method", method, METHODS)
    widest = ladder[ladder["n_neurons"] == ladder["n_neurons"].max()]
    halves = ladder[ladder["n_kept"] == ladder["n_neurons"] // 2]
    n_neurons = widest["n_neurons"].iloc[0]
    figure, axes = panels([f"kept sets of $N={n_neurons}$", "halves, all $N$"], KEPT, [BARRIER])
    figure.set_figheight(TALL * PANEL_HEIGHT)
    fits = slopes[(slopes["direction"] == "m") & (slopes["measure"] == "barrier")].set_index("method")
    for method in widest["method"].unique():
        _draw_in_kept(axes[0, 0], widest[widest["method"] == method], fits.reindex([method]), n_neurons)
    axes[0, 0].set_ylim(bottom=_below_means(widest, ["method", "n_kept"]))
    _name_fits(axes[0, 0], r"$\propto m^p\,(N-m)$")
    _draw_against_change(axes[0, 1], halves)
    return finished(figure)


def _draw_in_kept(panel: Axes, rows: pd.DataFrame, fits: pd.DataFrame, n_neurons: int) -> None:
    style = METHODS[rows["method"].iloc[0]]
    _draw_barriers(panel, rows, "n_kept", style)
    for exponent, constant, least, most in fits[_FIT].dropna().to_numpy(float):
        n_kept = np.geomspace(least, most, 60)
        barrier = constant * n_kept**exponent * (n_neurons - n_kept) / (n_neurons - 1)
        panel.plot(n_kept, barrier, color=style["color"], **FITTED)


def _draw_against_change(panel: Axes, halves: pd.DataFrame) -> None:
    positive = halves[(halves["change"] > 0) & (halves["barrier"] > 0)]
    for method, style in METHODS.items():
        rows = positive[positive["method"] == method]
        look = {key: value for key, value in style.items() if key != "label"}
        panel.plot(rows["change"], rows["barrier"], linestyle="none", markeredgewidth=0, alpha=0.8, **look)
    panel.set(xlabel="mean loss change of the halves, $L_A-L$", ylabel=BARRIER)
    if len(positive):
        draw_power_law(panel, positive["change"], (1, 1), 1, label="equal", linestyle=":", **GUIDE)


def _share_range(axes: Sequence[Axes], least: float | None = None) -> None:
    low, high = np.transpose([panel.get_ylim() for panel in axes])
    for panel in axes:
        panel.set_ylim(least or low.min(), high.max())


def check_ways(ways: pd.Series) -> None:
    """Raise if a way is not among those with a name and a look."""
    for way in ways.unique():
        check_choice("way", way, WAYS)


def _check_rows(name: str, frame: pd.DataFrame, keys: Sequence[str], numbers: Sequence[str]) -> None:
    """Refuse a frame that lacks its columns, names unknown ways, or has more than one row for ``keys``."""
    check_columns(name, frame, [*keys, *numbers], numbers)
    if "way" in keys:
        check_ways(frame["way"])
    if frame.duplicated(list(keys)).any():
        repeated = frame.loc[frame.duplicated(list(keys)), list(keys)].iloc[0].map(str).to_dict()
        raise ValueError(f"{name} has more than one row for {repeated}: select one configuration first")
