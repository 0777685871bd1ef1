"""The figures show the frames' means, the theory's lines and every label, and leave no trace around them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import cache, partial
from io import BytesIO

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from IPython.core.formatters import DisplayFormatter
from matplotlib.colors import to_rgb
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text
from scipy import stats

from meanfield.plots import dropout, style
from meanfield.plots.dropout import (
    change_against_kept,
    change_at_half,
    neuron_variance_against_width,
    over_time,
)
from meanfield.plots.files import save_figure

WIDTHS = (16, 64, 256)
DATA = {"digits": 90.0, "gaussians": 15.0}
SEEDS = range(3)
LIMITS = dict(DATA)


def runs(data: tuple, widths: tuple, seeds: range) -> pd.DataFrame:
    """One row a run: c_N = c (1 - 1/sqrt N) in mean-field scaling, c N/16 in the control, and noise."""
    grid = pd.MultiIndex.from_product(
        [data, ["mean-field", "control"], widths, seeds], names=["data", "scaling", "n_neurons", "seed"]
    ).to_frame(index=False)
    n_neurons = grid["n_neurons"].to_numpy()
    growth = np.where(grid["scaling"] == "control", n_neurons / 16, 1 - n_neurons**-0.5)
    noise = np.exp(0.1 * np.random.default_rng(1).standard_normal(len(grid)))
    return grid.assign(c_n=grid["data"].map(DATA) * growth * noise)


def summary_frame(data=tuple(DATA), widths=WIDTHS, seeds=SEEDS) -> pd.DataFrame:
    frame = runs(data, widths, seeds)
    return frame.assign(half_change=frame["c_n"] / (frame["n_neurons"] - 1))


def curves_frame(data=tuple(DATA), widths=WIDTHS, seeds=SEEDS) -> pd.DataFrame:
    frame = runs(data, widths, seeds).merge(pd.DataFrame({"n_kept": 2 ** np.arange(9)}), how="cross")
    frame = frame[frame["n_kept"] <= frame["n_neurons"]]
    n_neurons, n_kept = frame["n_neurons"], frame["n_kept"]
    factor = (n_neurons - n_kept) / (n_kept * (n_neurons - 1))
    return frame.assign(
        mean_change=frame["c_n"] * factor, std_change=np.sqrt(0.1 * factor + (frame["c_n"] * factor) ** 2)
    )


def trajectory_frame(data=tuple(DATA), widths=WIDTHS, seeds=SEEDS) -> pd.DataFrame:
    time = pd.DataFrame({"time": [0.0, 0.01, 0.1, 1.0, 10.0]})
    frame = runs(data, widths, seeds).rename(columns={"c_n": "c_end"}).merge(time, how="cross")
    c_n = 10 + (frame["c_end"] - 10) * frame["time"] / (1 + frame["time"])
    return frame.assign(c_n=c_n, risk=0.05 + frame["c_end"] / (100 * (1 + frame["time"])))


FIGURES: dict[str, tuple[Callable, Callable]] = {
    "change_against_kept": (partial(change_against_kept, limits=LIMITS), curves_frame),
    "change_at_half": (change_at_half, summary_frame),
    "neuron_variance_against_width": (neuron_variance_against_width, summary_frame),
    "over_time": (over_time, trajectory_frame),
}
each_figure = pytest.mark.parametrize(("draw", "make_frame"), FIGURES.values(), ids=FIGURES)


@cache
def default_figure(draw: Callable, make_frame: Callable) -> Figure:
    return draw(make_frame())


def select(frame: pd.DataFrame, **values: object) -> pd.DataFrame:
    for column, value in values.items():
        frame = frame[frame[column] == value]
    return frame


def expected(frame: pd.DataFrame, x: str, y: str) -> np.ndarray:
    """Columns x, mean, low and high of the 90% Student-t interval over seeds, by scipy."""
    rows = []
    for value, group in frame.groupby(x)[y]:
        half_width = stats.t.ppf(0.95, len(group) - 1) * stats.sem(group)
        rows.append((value, group.mean(), group.mean() - half_width, group.mean() + half_width))
    return np.array(rows)


def drawn_points(axes) -> dict[str, np.ndarray]:
    """By label: columns x, mean, low and high of every series of points; NaN where there is no bar."""
    points = {}
    for container in axes.containers:
        assert isinstance(container, ErrorbarContainer)
        line, _, (bars,) = container.lines
        centres = np.column_stack(line.get_data(orig=False))
        ends = np.full_like(centres, np.nan)
        for segment in filter(len, bars.get_segments()):
            ends[centres[:, 0] == segment[0, 0]] = segment[:, 1]
        points[container.get_label()] = np.hstack([centres, ends])
    return points


def drawn_lines(axes) -> dict[str, np.ndarray]:
    """By label: columns x, y of every line that is not a series of points."""
    lines = [line for line in axes.lines if not line.get_label().startswith("_")]
    return {line.get_label(): np.column_stack(line.get_data()) for line in lines}


def rendered(figure) -> bytes:
    image = BytesIO()
    figure.savefig(image, format="png")
    return image.getvalue()


def legend_labels(figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


# --- what every figure keeps to -------------------------------------------------------------------------


@each_figure
def test_one_column_of_85_mm_a_data_set_all_axes_named(draw, make_frame):
    figure = default_figure(draw, make_frame)
    assert figure.get_figwidth() * 25.4 == pytest.approx(85 * 2)
    rows = 1 if make_frame is summary_frame else 2
    assert [axes.get_title() for axes in figure.axes] == [*DATA, "", ""][: 2 * rows]
    assert all("$" in axes.get_ylabel() for axes in figure.axes[::2])
    assert all("$" in axes.get_xlabel() for axes in figure.axes[-2:])


@each_figure
def test_nothing_is_clipped_covered_too_small_or_left_behind(draw, make_frame):
    settings = dict(matplotlib.rcParams)
    figure = draw(make_frame())
    rendered(figure)
    assert dict(matplotlib.rcParams) == settings
    assert plt.get_fignums() == []
    page, content = figure.bbox_inches, figure.get_tightbbox()
    assert content.x0 >= 0
    assert content.y0 >= 0
    assert content.x1 <= page.x1
    assert content.y1 <= page.y1
    legend = figure.legends[0].get_window_extent()
    assert not any(legend.overlaps(axes.get_tightbbox()) for axes in figure.axes)
    assert all(axes.get_legend() is None for axes in figure.axes)
    written = [text for text in figure.findobj(Text) if text.get_text()]
    assert min(text.get_fontsize() for text in written) >= 7


@each_figure
def test_legend_names_everything_once(draw, make_frame):
    figure = default_figure(draw, make_frame)
    shown = {label for axes in figure.axes for label in axes.get_legend_handles_labels()[1]}
    labels = legend_labels(figure)
    assert len(labels) == len(set(labels))
    assert set(labels) == shown


@each_figure
def test_titles_replace_names(draw, make_frame):
    figure = draw(make_frame(widths=(16,)), titles={"gaussians": "Gaussians, $d=32$"})
    assert [axes.get_title() for axes in figure.axes[:2]] == ["digits", "Gaussians, $d=32$"]


@each_figure
def test_columns_follow_the_order_of_appearance(draw, make_frame):
    figure = draw(make_frame(widths=(16,)).iloc[::-1])
    assert [axes.get_title() for axes in figure.axes[:2]] == ["gaussians", "digits"]


def test_surrounding_settings_do_not_change_the_figure():
    frame = summary_frame(data=("digits",))
    image = rendered(change_at_half(frame))
    loud = {"font.size": 30, "lines.linewidth": 9, "xtick.major.size": 20, "axes.facecolor": "red"}
    with matplotlib.rc_context(loud):
        assert rendered(change_at_half(frame)) == image


@each_figure
def test_the_frame_is_left_as_it_was(draw, make_frame):
    frame = make_frame(widths=(16,))
    before = frame.copy(deep=True)
    draw(frame)
    pd.testing.assert_frame_equal(frame, before)


def test_notebook_shows_a_returned_figure():
    figure = change_at_half(summary_frame(data=("digits",)))
    shown, _ = DisplayFormatter().format(figure)
    assert shown["image/png"].startswith(b"\x89PNG")


def test_pyplot_is_never_imported_and_matplotlib_not_with_the_package():
    code = (
        "import sys, pandas, meanfield.plots\n"
        "assert 'matplotlib' not in sys.modules\n"
        "from meanfield.plots.dropout import change_at_half\n"
        "row = dict(data='a', scaling='mean-field', n_neurons=4, seed=0, c_n=1., half_change=1.)\n"
        "change_at_half(pandas.DataFrame([row]))._repr_png_()\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- files ----------------------------------------------------------------------------------------------


def test_saved_files_are_a_dateless_pdf_and_a_200_dpi_png_of_the_same_bytes_every_time(tmp_path):
    figure = change_at_half(summary_frame(data=("digits",)))
    folders = [tmp_path / "new" / name for name in "ab"]
    saved = [save_figure(figure, folder, "half.v1") for folder in folders]
    assert saved == [[folder / "half.v1.pdf", folder / "half.v1.png"] for folder in folders]
    assert all(first.read_bytes() == second.read_bytes() for first, second in zip(*saved, strict=True))
    pdf, png = saved[0]
    assert pdf.read_bytes().startswith(b"%PDF")
    assert b"CreationDate" not in pdf.read_bytes()
    height, width = imread(png).shape[:2]
    assert (width, height) == pytest.approx(200 * figure.get_size_inches(), abs=1)


# --- change_against_kept --------------------------------------------------------------------------------


def test_kept_points_are_means_and_intervals_of_the_mean_field_rows():
    frame = curves_frame()
    figure = change_against_kept(frame, LIMITS)
    for column, data in enumerate(DATA):
        for axes, y in ((figure.axes[column], "mean_change"), (figure.axes[2 + column], "std_change")):
            points = drawn_points(axes)
            assert list(points) == [f"$N={width}$" for width in WIDTHS]
            for width in WIDTHS:
                rows = select(frame, data=data, scaling="mean-field", n_neurons=width)
                wanted = expected(rows[rows["n_kept"] < width], "n_kept", y)
                np.testing.assert_allclose(points[f"$N={width}$"], wanted, rtol=1e-10)


def test_kept_line_is_limit_over_m():
    figure = default_figure(*FIGURES["change_against_kept"])
    for axes, limit in zip(figure.axes[:2], LIMITS.values(), strict=True):
        m, change = drawn_lines(axes)["$c/m$"].T
        np.testing.assert_allclose(change, limit / m, rtol=1e-12)
        assert m[0] < 1
        assert m[-1] > 256


def test_kept_slopes_are_minus_a_half_and_minus_one_above_the_points():
    figure = default_figure(*FIGURES["change_against_kept"])
    for axes in figure.axes[2:]:
        highest = max(points[:, 3].max() for points in drawn_points(axes).values())
        lines = drawn_lines(axes)
        assert list(lines) == ["slope $-1/2$", "slope $-1$"]
        for line, slope in zip(lines.values(), (-0.5, -1), strict=True):
            assert np.diff(np.log(line[:, 1])) / np.diff(np.log(line[:, 0])) == pytest.approx(slope)
            assert line[0, 1] > highest


def test_kept_legend_has_widths_then_lines():
    widths = [f"$N={width}$" for width in WIDTHS]
    figure = default_figure(*FIGURES["change_against_kept"])
    assert legend_labels(figure) == [*widths, "$c/m$", "slope $-1/2$", "slope $-1$"]


def test_kept_std_that_is_nan_is_skipped():
    frame = curves_frame(data=("digits",))
    frame.loc[frame["n_neurons"] == 256, "std_change"] = np.nan
    above, below = change_against_kept(frame, LIMITS).axes
    assert len(drawn_points(above)["$N=256$"]) == 8
    assert len(drawn_points(below)["$N=256$"]) == 0
    assert len(drawn_points(below)["$N=64$"]) == 6


def test_kept_panel_without_values_says_so():
    frame = curves_frame().assign(std_change=np.nan)
    figure = change_against_kept(frame, LIMITS)
    notes = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert notes == [[], [], ["no positive values"], ["no positive values"]]
    assert "slope $-1$" not in legend_labels(figure)


def test_kept_changes_that_are_negative_are_left_out():
    frame = curves_frame(data=("digits",))
    frame.loc[frame["n_kept"] == 4, "mean_change"] *= -1
    above, _ = change_against_kept(frame, LIMITS).axes
    assert drawn_points(above)["$N=16$"][:, 0].tolist() == [1, 2, 8]


def test_kept_one_width_may_be_missing_from_a_data_set():
    frame = curves_frame()
    frame = frame[(frame["data"] != "digits") | (frame["n_neurons"] != 16)]
    figure = change_against_kept(frame, LIMITS)
    assert len(drawn_points(figure.axes[0])["$N=16$"]) == 0
    assert legend_labels(figure)[:3] == [f"$N={width}$" for width in WIDTHS]


# --- against width --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draw", "y", "line", "power"),
    [(change_at_half, "half_change", "$c/N$", -1), (neuron_variance_against_width, "c_n", "$c$", 0)],
)
def test_width_points_and_line(draw, y, line, power):
    frame = summary_frame()
    for axes, data in zip(draw(frame).axes, DATA, strict=True):
        points = drawn_points(axes)
        for label, scaling in zip(points, ("mean-field", "control"), strict=True):
            assert scaling in label
            wanted = expected(select(frame, data=data, scaling=scaling), "n_neurons", y)
            np.testing.assert_allclose(points[label], wanted, rtol=1e-10)
        widest = select(frame, data=data, scaling="mean-field", n_neurons=256)["c_n"].mean()
        n_neurons, theory = drawn_lines(axes)[line].T
        np.testing.assert_allclose(theory, widest * n_neurons**power, rtol=1e-12)


def test_control_has_slope_one_through_its_narrowest_mean():
    frame = summary_frame(data=("digits",))
    (axes,) = neuron_variance_against_width(frame).axes
    n_neurons, guide = drawn_lines(axes)["slope 1"].T
    narrowest = select(frame, scaling="control", n_neurons=16)["c_n"].mean()
    np.testing.assert_allclose(guide, narrowest * n_neurons / 16, rtol=1e-12)


@pytest.mark.parametrize("draw", [change_at_half, neuron_variance_against_width])
def test_control_may_be_absent(draw):
    frame = summary_frame()
    figure = draw(select(frame, scaling="mean-field"))
    assert [len(axes.containers) for axes in figure.axes] == [1, 1]
    assert not any("control" in label or "slope" in label for label in legend_labels(figure))


@pytest.mark.parametrize("draw", [change_at_half, neuron_variance_against_width])
def test_control_may_be_absent_from_one_data_set(draw):
    frame = summary_frame()
    figure = draw(frame[(frame["data"] == "gaussians") | (frame["scaling"] == "mean-field")])
    digits, gaussians = (list(map(len, drawn_points(axes).values())) for axes in figure.axes)
    assert (digits, gaussians) == ([3, 0], [3, 3])


def test_ticks_stand_at_the_widths_thinned_to_what_can_be_read():
    figure = change_at_half(summary_frame(data=("digits",), widths=tuple(2**k for k in range(4, 15))))
    assert figure.axes[0].get_xticks().tolist() == [16, 64, 256, 1024, 4096, 16384]


# --- over time ------------------------------------------------------------------------------------------


def test_time_lines_and_bands_are_means_and_intervals():
    frame = trajectory_frame()
    figure = over_time(frame)
    for column, data in enumerate(DATA):
        for axes, y in ((figure.axes[column], "c_n"), (figure.axes[2 + column], "risk")):
            assert list(drawn_lines(axes)) == [f"$N={width}$" for width in WIDTHS]
            for (_, line), band, width in zip(drawn_lines(axes).items(), axes.collections, WIDTHS, strict=True):
                wanted = expected(select(frame, data=data, scaling="mean-field", n_neurons=width), "time", y)
                np.testing.assert_allclose(line, wanted[:, :2], rtol=1e-10)
                corners = band.get_paths()[0].vertices
                assert corners[:, 1].min() == pytest.approx(wanted[:, 2].min())
                assert corners[:, 1].max() == pytest.approx(wanted[:, 3].max())


def test_time_zero_has_its_place_and_else_the_axis_is_logarithmic():
    frame = trajectory_frame(data=("digits",))
    with_zero, without = over_time(frame).axes[1], over_time(frame[frame["time"] > 0]).axes[1]
    assert with_zero.get_xscale() == "symlog"
    assert with_zero.get_xticks().tolist() == [0, 0.01, 0.1, 1, 10]
    assert with_zero.get_xlim()[0] < 0
    assert without.get_xscale() == "log"


def test_bands_that_reach_zero_end_at_the_axis():
    frame = trajectory_frame(data=("digits",))
    at_one = frame["time"] == 1
    frame.loc[at_one, "risk"] = np.where(frame.loc[at_one, "seed"] == frame["seed"].min(), 5.0, 0.01)
    panel = over_time(frame).axes[1]
    low = panel.get_ylim()[0]
    assert low == min(np.nanmin(line[:, 1]) for line in drawn_lines(panel).values()) / 2
    assert all(band.get_paths()[0].vertices[:, 1].min() == low for band in panel.collections)


def test_short_axes_have_labels_on_both_sides_of_ten_and_all_axes_one_style():
    frame = trajectory_frame(data=("digits",))
    figure = over_time(frame.assign(c_n=np.where(frame["time"] > 0, 14.0, 7.5)))
    figure.canvas.draw()
    panel = figure.axes[0]
    labels = [label.get_text() for label in panel.get_yticklabels() if label.get_text()]
    assert len(labels) >= 4
    assert any(float(label) < 10 for label in labels)
    assert any(float(label) > 10 for label in labels)
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["0", "0.01", "0.1", "1", "10"]


def test_time_line_breaks_where_the_mean_is_not_positive():
    frame = trajectory_frame(data=("digits",))
    frame.loc[frame["time"] == 0, "c_n"] = 0.0
    figure = over_time(frame)
    for line in drawn_lines(figure.axes[0]).values():
        assert np.isnan(line[:, 1]).tolist() == [True, False, False, False, False]


# --- few or missing runs --------------------------------------------------------------------------------


@each_figure
def test_single_seed_has_no_interval_and_single_width_is_shown(draw, make_frame):
    figure = draw(make_frame(data=("digits",), widths=(64,), seeds=range(1)))
    for axes in figure.axes:
        points, lines = drawn_points(axes).values(), drawn_lines(axes).values()
        assert all(len(series) > 0 and np.isnan(series[:, 2:]).all() for series in points)
        assert lines
        assert all(np.isfinite(line).all() and line[-1, 0] > line[0, 0] for line in lines)


@pytest.mark.parametrize("values", ["missing", "nan", "inf"])
def test_a_diverged_run_leaves_the_others(values):
    frame = summary_frame(data=("digits",))
    lost = (frame["n_neurons"] == 64) & (frame["seed"] == 1)
    diverged = frame[~lost] if values == "missing" else frame.assign(c_n=frame["c_n"].mask(lost, float(values)))
    (axes,) = neuron_variance_against_width(diverged).axes
    wanted = expected(select(frame[~lost], scaling="mean-field"), "n_neurons", "c_n")
    np.testing.assert_allclose(drawn_points(axes)["mean-field scaling"], wanted, rtol=1e-10)


def test_width_colours_darken_in_order_and_are_read_on_white():
    ordered = style.width_styles([1024, 64, 256, 64])
    assert list(ordered) == [64, 256, 1024]
    channels = np.array([to_rgb(look["color"]) for look in style.width_styles(range(1, 8)).values()])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    contrast_with_white = 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05)
    assert (np.diff(contrast_with_white) > 0.3).all()
    assert contrast_with_white[0] > 2.3


# --- errors ---------------------------------------------------------------------------------------------


@each_figure
def test_missing_columns_are_named(draw, make_frame):
    frame = make_frame().drop(columns=["seed", "c_n" if make_frame is not curves_frame else "n_kept"])
    with pytest.raises(ValueError, match=r"lacks the columns \['seed', '(c_n|n_kept)'\]: it needs \['data'"):
        draw(frame)


@each_figure
def test_empty_frame(draw, make_frame):
    with pytest.raises(ValueError, match=r"(curves|summary|trajectory) has no rows: there is nothing to draw"):
        draw(make_frame().iloc[:0])


@each_figure
def test_words_where_numbers_belong(draw, make_frame):
    frame = make_frame()
    with pytest.raises(TypeError, match=r"\['n_neurons'\] must hold numbers, got dtype"):
        draw(frame.assign(n_neurons=frame["n_neurons"].map(str)))


@each_figure
def test_repeated_rows_are_an_error(draw, make_frame):
    frame = make_frame()
    with pytest.raises(ValueError, match=r"more than one row for \{'data': 'digits', .*'seed': '0'"):
        draw(pd.concat([frame, frame.iloc[:1]]))


@each_figure
def test_unknown_scaling(draw, make_frame):
    with pytest.raises(ValueError, match=r"unknown scaling 'meanfield': did you mean 'mean-field'\?"):
        draw(make_frame().assign(scaling="meanfield"))


@each_figure
def test_data_set_without_mean_field_rows(draw, make_frame):
    frame = make_frame()
    frame = frame[(frame["data"] == "digits") | (frame["scaling"] == "control")]
    with pytest.raises(ValueError, match=r"no rows of the mean-field scaling for \['gaussians'\]: add them"):
        draw(frame)


@each_figure
def test_at_most_three_data_sets(draw, make_frame):
    frame = make_frame(data=("digits",))
    many = pd.concat([frame.assign(data=name) for name in "abcd"])
    with pytest.raises(ValueError, match=r"at most 3 data sets, got 4 in (curves|summary|trajectory)"):
        draw(many)


def test_limits_must_be_given_and_positive():
    with pytest.raises(ValueError, match=r"limits holds no c for 'gaussians', only for \['digits'\]"):
        change_against_kept(curves_frame(), {"digits": 1.0})
    with pytest.raises(ValueError, match=r"limits\['digits'\] must be positive and finite, got nan"):
        change_against_kept(curves_frame(), {"digits": np.nan, "gaussians": 1.0})


@pytest.mark.parametrize("draw", [change_at_half, neuron_variance_against_width])
def test_a_limit_needs_one_finite_value(draw):
    with pytest.raises(ValueError, match=r"no finite c_n of the mean-field scaling for 'digits': add a run"):
        draw(summary_frame().assign(c_n=np.nan))


def test_public_names_exist():
    assert all(hasattr(style, name) for name in style.__all__)
    assert all(hasattr(dropout, name) for name in dropout.__all__)
