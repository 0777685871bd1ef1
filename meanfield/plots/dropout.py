"""Figures of dropout stability: how much the loss changes when neurons are dropped, and what decides it.

Every figure draws one column a data set, in order of appearance. Points are means over seeds with 90%
Student-t intervals, lines are theory. With m of N neurons kept and the neuron variance c_N = E_x Var_i f_i(x),

    E_A[L_A] - L = (N - m) / (m (N - 1)) c_N  ->  c / m          (square loss, A uniform, c_N -> c)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from meanfield.checks import check_choice, check_positive
from meanfield.plots.style import (
    CONTROL,
    GUIDE,
    MEAN_FIELD,
    THEORY,
    Style,
    clip_bands,
    draw_curve,
    draw_points,
    draw_power_law,
    finished,
    mark_widths,
    panels,
    show_time_zero,
    theme,
    width_styles,
)
from meanfield.theory.scaling import finite_population_factor
from meanfield.theory.seeds import mean_over_seeds

__all__ = [
    "change_against_kept",
    "change_at_half",
    "check_columns",
    "check_rows",
    "check_unrepeated",
    "draw_slopes",
    "neuron_variance_against_width",
    "over_time",
]

Titles = Mapping[str, str]

MOST_COLUMNS = 3
SCALINGS: dict[str, Style] = {
    "mean-field": {**MEAN_FIELD, "label": "mean-field scaling"},
    "control": {**CONTROL, "label": r"control, $1/\sqrt{N}$ scaling"},
}
KEPT, WIDTH, TIME = "neurons kept, $m$", "neurons, $N$", r"time, $t=k\alpha$"
MEAN_CHANGE = "mean loss change, $E_A[L_A]-L$"
NEURON_VARIANCE = "neuron variance, $c_N$"


@theme()
def change_against_kept(curves: pd.DataFrame, limits: Mapping[str, float], *, titles: Titles | None = None) -> Figure:
    """Draw the loss change from keeping m neurons, all widths beside the one line c/m that theory has for them.

    Above, the exact mean over subsets; it leaves the line as m approaches N, by (N - m)/(N - 1), along the thin
    lines: these are what the widths would follow if all had c_N = c. Below, the standard deviation over subsets,
    beside the slope -1/2 (of the part of L_A - L that is linear in the subset; it vanishes where the output weights
    are stationary) and -1 (of the pairs in the quadratic part; its single neurons fall as m^(-3/2)). Mean-field
    scaling only; m = N, where both are 0, is left out.

    Parameters
    ----------
    curves : columns data, scaling, n_neurons, seed, n_kept, mean_change, std_change (NaN where unknown); one row of
        each of the first five.
    limits : the limit c of the neuron variance, for every data set.
    titles : what to write above a data set's column, if not its name.

    Raises
    ------
    ValueError : the frame is empty, lacks or repeats something; more than three data sets; no limit.
    TypeError : a column that must hold numbers does not.

    See Also
    --------
    meanfield.dropout_curve : measures the columns.
    """
    rows = _mean_field(_checked("curves", curves, ["n_kept", "mean_change", "std_change"], each=["n_kept"]))
    constants = {name: _limit_of(name, limits) for name in rows["data"].unique()}
    styles = width_styles(rows["n_neurons"])
    y_labels = [MEAN_CHANGE, r"standard deviation, $\mathrm{std}_A(L_A)$"]
    figure, columns = _columns(rows, titles, KEPT, y_labels)
    for name, here, (above, below) in columns:
        _draw_widths(draw_points, above, here, "n_kept", "mean_change", styles)
        _draw_widths(draw_points, below, here, "n_kept", "std_change", styles)
        draw_power_law(above, here["n_kept"], (1, constants[name]), -1, label="$c/m$", **THEORY)
        _draw_finite_widths(above, constants[name], styles)
        _draw_slopes_of_std(below, here)
    return finished(figure)


@theme()
def change_at_half(summary: pd.DataFrame, *, titles: Titles | None = None) -> Figure:
    """Draw what dropping half of the neurons costs: about c/N if c_N settles, a constant if it grows as N.

    The line is c/N, c the mean of c_N over the seeds of the widest mean-field networks.

    Parameters
    ----------
    summary : columns data, scaling, n_neurons, seed, c_n, half_change (E_A[L_A] - L at m = N/2); one row of each of
        the first four.
    titles : what to write above a data set's column, if not its name.

    Raises
    ------
    ValueError, TypeError : as `change_against_kept`.
    """
    summary = _checked("summary", summary, ["c_n", "half_change"])
    figure, columns = _columns(summary, titles, WIDTH, ["mean loss change,\n$E_A[L_A]-L$ at $m=N/2$"])
    for name, here, (panel,) in columns:
        _draw_scalings(panel, here, "half_change", summary["scaling"])
        draw_power_law(panel, here["n_neurons"], (1, _widest_mean(name, here)), -1, label="$c/N$", **THEORY)
    return finished(figure)


@theme()
def neuron_variance_against_width(summary: pd.DataFrame, *, titles: Titles | None = None) -> Figure:
    """Draw whether the neuron variance c_N settles as width grows, beside a control in which it cannot.

    The horizontal line is c, the mean of c_N over the seeds of the widest mean-field networks; the thin line
    has slope 1, as the control (1/sqrt(N) scaling) must.

    Parameters
    ----------
    summary : columns data, scaling, n_neurons, seed, c_n; one row of each of the first four.
    titles : what to write above a data set's column, if not its name.

    Raises
    ------
    ValueError, TypeError : as `change_against_kept`.
    """
    summary = _checked("summary", summary, ["c_n"])
    figure, columns = _columns(summary, titles, WIDTH, [NEURON_VARIANCE])
    for name, here, (panel,) in columns:
        _draw_scalings(panel, here, "c_n", summary["scaling"])
        draw_power_law(panel, here["n_neurons"], (1, _widest_mean(name, here)), 0, label="$c$", **THEORY)
        _draw_linear_growth(panel, here[here["scaling"] == "control"])
    return finished(figure)


@theme()
def over_time(trajectory: pd.DataFrame, *, titles: Titles | None = None) -> Figure:
    """Draw the neuron variance, and with it the loss change of dropout, along the whole training.

    c_N above and the risk L below, against time t = k alpha; a line a width, the mean over seeds, in a band, its 90%
    interval, which ends at the axis where it reaches zero. Mean-field scaling only. The time axis is linear from 0 to
    the first positive time.

    Parameters
    ----------
    trajectory : columns data, scaling, n_neurons, seed, time, risk, c_n; one row of each of the first five.
    titles : what to write above a data set's column, if not its name.

    Raises
    ------
    ValueError, TypeError : as `change_against_kept`.
    """
    rows = _mean_field(_checked("trajectory", trajectory, ["time", "risk", "c_n"], each=["time"]))
    styles = width_styles(rows["n_neurons"])
    figure, columns = _columns(rows, titles, TIME, [NEURON_VARIANCE, "risk, $L$"])
    for _, here, (above, below) in columns:
        _draw_widths(draw_curve, above, here, "time", "c_n", styles)
        _draw_widths(draw_curve, below, here, "time", "risk", styles)
        show_time_zero(above, here["time"])
        clip_bands(above)
        clip_bands(below)
    return finished(figure)


def _draw_widths(
    draw: Callable[..., None], panel: Axes, rows: pd.DataFrame, x: str, y: str, styles: dict[int, Style]
) -> None:
    """Draw every width, those without rows too: all panels then agree on the order of the legend."""
    for n_neurons, style in styles.items():
        draw(panel, rows[rows["n_neurons"] == n_neurons], x, y, **style)


def _draw_scalings(panel: Axes, rows: pd.DataFrame, y: str, present: pd.Series) -> None:
    for scaling, style in SCALINGS.items():
        if (present == scaling).any():
            draw_points(panel, rows[rows["scaling"] == scaling], "n_neurons", y, **style)
    mark_widths(panel, rows["n_neurons"])


def _draw_finite_widths(panel: Axes, constant: float, styles: dict[int, Style]) -> None:
    """Draw c (N - m)/(m (N - 1)) for every width N."""
    for n_neurons, style in styles.items():
        n_kept = np.unique(np.geomspace(1, max(1, 0.9 * n_neurons), 60).astype(int))
        change = constant * finite_population_factor(n_neurons, n_kept)
        if constant > 0:
            panel.plot(n_kept, change, color=style["color"], linewidth=0.6, zorder=1)


def _draw_slopes_of_std(panel: Axes, rows: pd.DataFrame) -> None:
    """Draw slopes from a point above the largest value at the smallest m."""
    means = mean_over_seeds(rows, ["n_neurons", "n_kept"], "std_change")
    means = means[means["mean"] > 0]
    if means.empty:
        return
    first = means["n_kept"].min()
    draw_slopes(panel, means["n_kept"], (first, 2 * means.loc[means["n_kept"] == first, "mean"].max()))


def draw_slopes(panel: Axes, span: pd.Series, start: tuple[float, float]) -> None:
    """Draw the slopes -1/2 and -1 from ``start`` on, over the range of ``span``."""
    draw_power_law(panel, span, start, -1 / 2, label="slope $-1/2$", linestyle=":", **GUIDE)
    draw_power_law(panel, span, start, -1, label="slope $-1$", linestyle="--", **GUIDE)


def _draw_linear_growth(panel: Axes, rows: pd.DataFrame) -> None:
    """Draw slope 1 through the narrowest network of the control."""
    means = mean_over_seeds(rows, "n_neurons", "c_n")
    if len(means):
        narrowest = (means["n_neurons"].iloc[0], means["mean"].iloc[0])
        draw_power_law(panel, means["n_neurons"], narrowest, 1, label="slope 1", linestyle="--", **GUIDE)


def _widest_mean(name: str, rows: pd.DataFrame) -> float:
    means = mean_over_seeds(_mean_field(rows), "n_neurons", "c_n")["mean"]
    if means.empty:
        raise ValueError(f"summary has no finite c_n of the mean-field scaling for {name!r}: add a run")
    return float(means.iloc[-1])


def _mean_field(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["scaling"] == "mean-field"]


def _columns(
    rows: pd.DataFrame, titles: Titles | None, x_label: str, y_labels: Sequence[str]
) -> tuple[Figure, list[tuple[str, pd.DataFrame, NDArray[np.object_]]]]:
    """Make a figure and pair every data set, with its rows, with its column of panels."""
    names = list(rows["data"].unique())
    figure, axes = panels([(titles or {}).get(name, name) for name in names], x_label, y_labels)
    here = [rows[rows["data"] == name] for name in names]
    return figure, list(zip(names, here, axes.T, strict=True))


def _limit_of(name: str, limits: Mapping[str, float]) -> float:
    if name not in limits:
        raise ValueError(f"limits holds no c for {name!r}, only for {sorted(limits)}: add limits[{name!r}]")
    return 0.0 if limits[name] == 0 else check_positive(f"limits[{name!r}]", limits[name])


def _checked(frame_name: str, frame: pd.DataFrame, numbers: Sequence[str], each: Sequence[str] = ()) -> pd.DataFrame:
    """Return ``frame`` if it has its columns and one row a data set, scaling, width, seed and ``each``."""
    keys = ["data", "scaling", "n_neurons", "seed", *each]
    check_columns(frame_name, frame, [*dict.fromkeys([*keys, *numbers])], ["n_neurons", *numbers])
    for scaling in frame["scaling"].unique():
        check_choice("scaling", scaling, SCALINGS)
    check_unrepeated(frame_name, frame, keys)
    _check_data_sets(frame_name, frame)
    return frame


def check_columns(frame_name: str, frame: pd.DataFrame, needed: Sequence[str], numbers: Sequence[str]) -> None:
    """Raise unless ``frame`` has rows and the columns ``needed``, those of ``numbers`` numeric."""
    missing = [column for column in needed if column not in frame.columns]
    if missing:
        raise ValueError(f"{frame_name} lacks the columns {missing}: it needs {list(needed)}")
    if frame.empty:
        raise ValueError(f"{frame_name} has no rows: there is nothing to draw")
    for column in numbers:
        if not pd.api.types.is_numeric_dtype(frame[column]):
            raise TypeError(f"{frame_name}[{column!r}] must hold numbers, got dtype {frame[column].dtype}")


def check_rows(name: str, frame: pd.DataFrame, keys: Sequence[str], numbers: Sequence[str]) -> None:
    """Refuse a frame that lacks its columns or has more than one row a seed and ``keys``; ``numbers`` are numeric."""
    check_columns(name, frame, ["seed", *keys, *numbers], numbers)
    check_unrepeated(name, frame, ["seed", *keys])


def check_unrepeated(name: str, frame: pd.DataFrame, keys: list[str], select: str = "configuration") -> None:
    """Refuse a frame with more than one row of equal ``keys``; the remedy is to ``select`` one of what it names."""
    if frame.duplicated(keys).any():
        repeated = frame.loc[frame.duplicated(keys), keys].astype(str).iloc[0].to_dict()
        raise ValueError(f"{name} has more than one row for {repeated}: select one {select} first")


def _check_data_sets(frame_name: str, frame: pd.DataFrame) -> None:
    names = list(frame["data"].unique())
    if len(names) > MOST_COLUMNS:
        raise ValueError(
            f"a figure shows at most {MOST_COLUMNS} data sets, got {len(names)} in {frame_name}: select some"
        )
    missing = sorted(set(names) - set(_mean_field(frame)["data"]))
    if missing:
        raise ValueError(f"{frame_name} has no rows of the mean-field scaling for {missing}: add them")
