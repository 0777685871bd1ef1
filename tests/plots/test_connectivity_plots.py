"""The figures of connectivity show the frames' means, certified ways filled, and what has no barrier at the edge."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from meanfield.plots.connectivity import (
    CONTROL,
    METHODS,
    WAYS,
    barrier_against_width,
    better_halves,
    loss_along_ways,
)
from meanfield.plots.files import save_figure
from meanfield.plots.planes import loss_on_plane
from meanfield.studies.connectivity_tables import exponents_in_width, ladder_slopes
from meanfield.studies.connectivity_ways import CERTIFIED, UNTRAINED
from meanfield.studies.connectivity_ways import WAYS as STUDIED

SEEDS, WIDTHS = (0, 1, 2), (32, 128, 512)
NOISE = {0: 0.97, 1: 1.0, 2: 1.05}


def barriers_frame() -> pd.DataFrame:
    ways = [("mean-field", way) for way in WAYS] + [("control", "dropout")]
    index = pd.MultiIndex.from_product([SEEDS, WIDTHS, ("train", "test")], names=["seed", "n_neurons", "split"])
    frames = [index.to_frame(index=False).assign(scaling=scaling, way=way) for scaling, way in ways]
    frame = pd.concat(frames, ignore_index=True)
    exponent = np.where(frame["scaling"] == "control", 0.5, -0.5)
    frame["barrier"] = frame["n_neurons"] ** exponent * frame["seed"].map(NOISE)
    frame.loc[(frame["way"] == "greedy") & (frame["n_neurons"] == 512), "barrier"] = 0.0
    return frame.assign(above_chord=frame["barrier"])


def draw_barriers(barriers: pd.DataFrame):
    table = exponents_in_width(barriers_frame())
    return barrier_against_width(barriers, table[table["measure"] == "barrier"])


def profile_frame() -> pd.DataFrame:
    kinds = ("readout", "idle", "readout", "idle", "idle", "idle", "readout")
    rows = [
        {"n_neurons": n, "way": "dropout", "segment": k, "kind": kind, "t": (k + u) / 7, "risk": 1 / n + k / 100}
        for n in WIDTHS
        for k, kind in enumerate(kinds)
        for u in (0.0, 0.5, 1.0)
    ]
    rows += [
        {"n_neurons": n, "way": way, "segment": 0, "kind": "curve", "t": t, "risk": 0.1 + t * (1 - t)}
        for n in WIDTHS
        for way in ("line", "aligned", "bezier", "untrained")
        for t in np.linspace(0, 1, 5)
    ]
    return pd.DataFrame(rows).assign(classification_error=0.25)


def plane_frame() -> pd.DataFrame:
    u, v = np.meshgrid(np.linspace(-1, 11, 7), np.linspace(-3, 4, 5))
    return pd.DataFrame(
        {"n_neurons": 128, "u": u.ravel(), "v": v.ravel(), "risk": 0.1 + u.ravel() ** 2 + v.ravel() ** 2}
    )


def projection_frame() -> pd.DataFrame:
    t = np.linspace(0, 1, 8)
    return pd.concat(
        [
            pd.DataFrame({"way": way, "t": t, "vertex": t >= 0, "u": 10 * t, "v": 0.0, "off_plane": off, "risk": 0.3})
            for way, off in (("dropout", 7.0), ("line", 0.0), ("bezier", 0.0))
        ],
        ignore_index=True,
    )


def ladder_frame() -> pd.DataFrame:
    rows = [
        {"n_neurons": n, "seed": seed, "n_kept": m, "method": method, "barrier": height * NOISE[seed] / m}
        for n in WIDTHS
        for seed in SEEDS
        for m in (2**k for k in range((n // 2).bit_length()))
        for method, height in (("random", 2.0), ("greedy", 0.5), ("swaps", 0.25))
    ]
    frame = pd.DataFrame(rows)
    return frame.assign(change=0.9 * frame["barrier"])


def draw_ladder(ladder: pd.DataFrame):
    return better_halves(ladder, ladder_slopes(ladder_frame()))


FIGURES = {
    "barrier_against_width": (draw_barriers, barriers_frame, "barrier"),
    "loss_along_ways": (loss_along_ways, profile_frame, "risk"),
    "better_halves": (draw_ladder, ladder_frame, "barrier"),
    "loss_on_plane": (lambda frame: loss_on_plane(plane_frame(), frame), projection_frame, "off_plane"),
}
each_figure = pytest.mark.parametrize(("draw", "make_frame", "column"), FIGURES.values(), ids=FIGURES)


def lines(axes) -> dict[str, np.ndarray]:
    return {line.get_label(): np.column_stack(line.get_data()) for line in axes.lines}


def points(axes, label: str):
    (container,) = [one for one in axes.containers if one.get_label() == label]
    return container.lines[0]


@each_figure
def test_every_axis_and_series_is_named(draw, make_frame, column):
    figure = draw(make_frame())
    figure.canvas.draw()
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(legend) == len(set(legend)) >= 4
    assert all(axes.get_xlabel() for axes in figure.axes[-2:])
    assert figure.axes[0].get_ylabel()


@each_figure
def test_a_missing_or_wordy_column_is_named(draw, make_frame, column):
    frame = make_frame()
    with pytest.raises(ValueError, match=column):
        draw(frame.drop(columns=column))
    with pytest.raises(TypeError, match=column):
        draw(frame.assign(**{column: "much"}))
    with pytest.raises(ValueError, match="has no rows"):
        draw(frame.iloc[:0])


def test_unknown_names_and_repeated_rows_are_refused():
    barriers, ladder = barriers_frame(), ladder_frame()
    with pytest.raises(ValueError, match="more than one row for"):
        draw_barriers(pd.concat([barriers, barriers.iloc[:1]]))
    with pytest.raises(ValueError, match="unknown way 'dropot': did you mean 'dropout'"):
        draw_barriers(barriers.assign(way="dropot"))
    with pytest.raises(ValueError, match="unknown way 'dropot'"):
        loss_along_ways(profile_frame().assign(way="dropot"))
    with pytest.raises(ValueError, match="unknown method 'greedi'"):
        draw_ladder(ladder.assign(method=ladder["method"].replace("greedy", "greedi")))
    with pytest.raises(ValueError, match="more than one row for"):
        draw_ladder(pd.concat([ladder, ladder.iloc[:1]]))


def test_every_way_of_the_study_has_a_look_and_the_certified_ones_are_filled():
    assert set(WAYS) == {*STUDIED, UNTRAINED}
    axes = draw_barriers(barriers_frame()).axes[0]
    for way, style in WAYS.items():
        filled = points(axes, style["label"]).get_markerfacecolor() != "white"
        assert filled == (way in CERTIFIED)


def test_points_are_means_over_pairs_and_fits_those_of_the_table():
    frame = barriers_frame()
    axes = draw_barriers(frame).axes[0]
    drawn = np.column_stack(points(axes, WAYS["line"]["label"]).get_data())
    here = frame[(frame["way"] == "line") & (frame["split"] == "train")]
    assert drawn[:, 1] == pytest.approx(here.groupby("n_neurons")["barrier"].mean().to_numpy())
    fits = [line for line in axes.lines if line.get_color() == WAYS["line"]["color"] and len(line.get_xdata()) == 2]
    slopes = [np.polyfit(*np.log(np.column_stack(line.get_data())).T, 1)[0] for line in fits]
    assert slopes == pytest.approx([-0.5])


def test_no_barrier_is_marked_at_the_edge():
    axes = draw_barriers(barriers_frame()).axes[0]
    (mark,) = [line for line in axes.lines if line.get_label() == "no barrier"]
    assert mark.get_xdata() == pytest.approx([512], rel=0.15)
    assert mark.get_color() == WAYS["greedy"]["color"]
    assert 0 < mark.get_ydata()[0] < 0.1


def test_the_slope_of_the_form_is_that_of_the_theorem():
    form = lines(draw_barriers(barriers_frame()).axes[0])[r"slope of $\sqrt{\log N}/\sqrt{N}$"]
    ratio = form[:, 1] / np.sqrt(np.log(form[:, 0]) / form[:, 0])
    assert ratio == pytest.approx(np.full(len(ratio), ratio[0]))


def test_one_split_and_no_control_make_one_panel_as_wide_as_two():
    frame = barriers_frame()
    figure = draw_barriers(frame[(frame["split"] == "train") & (frame["scaling"] == "mean-field")])
    assert [axes.get_title() for axes in figure.axes] == ["training rows"]
    assert figure.get_figwidth() == pytest.approx(draw_barriers(frame).get_figwidth())


def test_points_of_one_width_stand_side_by_side_about_it():
    axes = draw_barriers(barriers_frame()).axes[0]
    styles = [*WAYS.values(), CONTROL]
    places = np.array([points(axes, style["label"]).get_xdata()[0] for style in styles])
    assert np.diff(np.log(places)) == pytest.approx(np.full(len(styles) - 1, np.log(1.03)))
    assert np.exp(np.log(places).mean()) == pytest.approx(32)


@pytest.mark.parametrize("errors", [(0.0, 0.004, 0.4), (0.01, 0.004, 0.4), (0.0, 0.0, 0.0)])
def test_panels_of_a_row_share_one_range_that_shows_zero_errors(errors):
    frame = profile_frame()
    frame["classification_error"] = frame["n_neurons"].map(dict(zip(WIDTHS, errors, strict=True)))
    figure = loss_along_ways(frame)
    figure.canvas.draw()
    for left, right in (figure.axes[:2], figure.axes[2:]):
        assert left.get_ylim() == right.get_ylim()
        assert left.get_yscale() == right.get_yscale()
        assert list(left.get_yticks()) == list(right.get_yticks())
    below = figure.axes[2]
    low, high = below.transData.inverted().transform(below.transAxes.transform([(0, 0.01), (0, 0.99)]))[:, 1]
    assert low < min(errors)
    assert max(errors) < high
    assert (0.0 in below.get_yticks()) == (min(errors) == 0)


def test_idle_segments_are_shaded_where_they_are():
    axes = loss_along_ways(profile_frame()).axes[0]
    shaded = sorted((patch.get_x(), patch.get_x() + patch.get_width()) for patch in axes.patches)
    assert np.array(shaded) == pytest.approx(np.array([(1, 2), (3, 4), (4, 5), (5, 6)]) / 7)
    widths = [line for line in axes.lines if line.get_label().startswith("$N=")]
    assert len(widths) == len(WIDTHS)


def test_the_other_ways_are_those_of_the_widest_and_uncertified_ones_dashed():
    right = loss_along_ways(profile_frame()).axes[1]
    assert "512" in right.get_title()
    styles = {line.get_label(): line.get_linestyle() for line in right.lines}
    assert styles == {WAYS[way]["label"]: "--" for way in ("line", "aligned", "bezier")}


def test_a_way_is_drawn_as_certified_by_its_kinds_and_not_by_its_looks():
    frame = profile_frame()
    path = frame[frame["way"] == "dropout"]
    right = loss_along_ways(pd.concat([frame, path.assign(way="best-of"), path.assign(way="complement")])).axes[1]
    styles = {line.get_label(): line.get_linestyle() for line in right.lines}
    assert {styles[WAYS[way]["label"]] for way in ("best-of", "complement")} == {"-"}
    mislabelled = frame.assign(kind=frame["kind"].where(frame["way"] != "line", "idle"))
    styles = {line.get_label(): line.get_linestyle() for line in loss_along_ways(mislabelled).axes[1].lines}
    assert styles[WAYS["line"]["label"]] == "-"


def test_without_classes_the_losses_stand_alone():
    frame = profile_frame()
    for classless in (frame.drop(columns="classification_error"), frame.assign(classification_error=np.nan)):
        assert len(loss_along_ways(classless).axes) == 2


def test_marks_on_the_plane_have_the_loss_of_the_vertices():
    left, right = loss_on_plane(plane_frame(), projection_frame()).axes[:2]
    marks = [c for c in left.collections if c.get_offsets().shape == (8, 2)]
    assert len(marks) == 3
    for mark in marks:
        assert np.asarray(mark.get_array()) == pytest.approx(np.full(8, 0.3))
    drawn = lines(right)
    assert (drawn[WAYS["dropout"]["label"]][:, 1] == 7).all()
    assert drawn["distance of the ends"][:, 1] == pytest.approx([10, 10])
    assert "N=128" in left.get_title()


def test_dashes_of_line_and_curve_fill_each_others_gaps_where_they_coincide():
    right = loss_on_plane(plane_frame(), projection_frame()).axes[1]
    looks = [
        line._unscaled_dash_pattern
        for line in right.lines
        if line.get_label() in {WAYS["line"]["label"], WAYS["bezier"]["label"]}
    ]
    (first, dashes), (second, others) = looks
    assert tuple(dashes) == tuple(others)
    assert dashes[0] == dashes[1] == second - first


@pytest.mark.parametrize("stretch", [0.1, 1.0, 10.0])
def test_the_figure_is_no_higher_than_the_plane_needs(stretch):
    plane = plane_frame()
    figure = loss_on_plane(plane.assign(v=stretch * plane["v"]), projection_frame())
    figure.canvas.draw()
    left, right = (axes.get_window_extent() for axes in figure.axes[:2])
    assert left.height <= right.height * 1.02
    assert left.height > 0.5 * right.height


def test_the_ladder_figure_draws_fits_and_the_line_of_equals():
    left, right = draw_ladder(ladder_frame()).axes
    drawn = np.column_stack(points(left, "greedy").get_data())
    assert drawn[:, 1] == pytest.approx(0.5 * np.mean(list(NOISE.values())) / drawn[:, 0])
    fitted = [
        line for line in left.lines if line.get_color() == METHODS["greedy"]["color"] and len(line.get_xdata()) == 60
    ]
    m, barrier = fitted[0].get_data()
    power = np.polyfit(np.log(m), np.log(barrier / (512 - m)), 1)
    assert np.exp(np.polyval(power, np.log(m))) * (512 - m) == pytest.approx(barrier)
    assert r"fitted $\propto m^p\,(N-m)$" in lines(left)
    assert right.get_ylabel() == "barrier"
    equal = lines(right)["equal"]
    assert equal[:, 0] == pytest.approx(equal[:, 1])


def test_a_ladder_without_any_barrier_is_drawn(tmp_path):
    flat = ladder_frame().assign(barrier=0.0, change=-0.1)
    save_figure(better_halves(flat, ladder_slopes(flat)), tmp_path, "flat")
    assert (tmp_path / "flat.png").is_file()
