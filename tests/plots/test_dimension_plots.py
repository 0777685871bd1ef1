"""The figures of the dimension show means over seeds, fitted laws, and what is censored."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from meanfield.plots.dimension import change_against_kept, needed_against_dimension

DIMS, SEEDS = (8, 32, 128), (0, 1, 2)
SETTINGS = {"two-layer": 0.0, "three-layer": 1.0}


def product(**columns):
    return pd.MultiIndex.from_product(columns.values(), names=columns.keys()).to_frame(index=False)


def needed():
    frame = product(setting=list(SETTINGS), dropped=("all hidden layers", "hidden layer 1"), dim=DIMS, seed=SEEDS)
    frame = frame[(frame["setting"] != "two-layer") | (frame["dropped"] == "all hidden layers")]
    number = (1 + 0.01 * frame["seed"]) * frame["dim"] ** frame["setting"].map(SETTINGS)
    return frame.assign(needed=number, limit=np.nan).reset_index(drop=True)


def test_points_laws_and_the_linear_guide():
    figure = needed_against_dimension(needed(), needed())
    assert [panel.get_title() for panel in figure.axes] == ["kept in all hidden layers", "kept in hidden layer 1 alone"]
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("dimension, $d$", "neurons needed, $m$")
    names = {text.get_text() for text in figure.legends[0].get_texts()}
    assert names == {"two-layer", "three-layer", "fitted power law", "linear in $d$"}
    assert [text.get_text() for text in figure.axes[0].texts] == ["$d^{0.00}$", "$d^{1.00}$"]
    np.testing.assert_allclose(figure.axes[0].containers[1].lines[0].get_xydata(), [(d, 1.01 * d) for d in DIMS])
    (guide,) = [line for line in figure.axes[0].get_lines() if line.get_label() == "linear in $d$"]
    assert np.diff(np.log(guide.get_ydata())) / np.diff(np.log(guide.get_xdata())) == pytest.approx(1)


def test_a_censored_dimension_is_an_open_triangle_at_what_was_measured():
    frame = needed()
    lost = (frame["dim"] == 128) & (frame["setting"] == "three-layer") & (frame["seed"] == 0)
    frame = frame.assign(needed=frame["needed"].mask(lost), limit=np.where(lost, 256.0, np.nan))
    fitted = frame[~((frame["dim"] == 128) & (frame["setting"] == "three-layer"))]
    panel = needed_against_dimension(frame, fitted).axes[0]
    (mark,) = [line for line in panel.get_lines() if line.get_label() == "beyond, censored"]
    assert mark.get_xydata().tolist() == [[128.0, 256.0]]
    assert panel.containers[1].lines[0].get_xdata().tolist() == [8, 32]


def test_changes_are_drawn_beside_what_is_allowed():
    frame = product(setting=list(SETTINGS), dim=DIMS, seed=SEEDS, n_kept=(4, 8))
    figure = change_against_kept(frame.assign(relative_change=frame["dim"] / frame["n_kept"]), 0.1)
    assert [panel.get_title() for panel in figure.axes] == list(SETTINGS)
    names = {text.get_text() for text in figure.legends[0].get_texts()}
    assert names == {"$d=8$", "$d=32$", "$d=128$", r"allowed, $0.1\,m$"}
    (line,) = [line for line in figure.axes[0].get_lines() if line.get_label() == r"allowed, $0.1\,m$"]
    np.testing.assert_allclose(line.get_ydata(), 0.1 * np.array(line.get_xdata()))
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim() == pytest.approx((8 / 1.6, 128 * 1.6))


def test_dimensions_stand_apart_around_their_m_and_a_change_as_one_over_m_is_level():
    frame = product(setting=["two-layer"], dim=DIMS, seed=SEEDS, n_kept=(4, 5, 8))
    (panel,) = change_against_kept(frame.assign(relative_change=frame["dim"] / frame["n_kept"]), 0.1).axes
    points = np.array([container.lines[0].get_xydata() for container in panel.containers])
    np.testing.assert_allclose(points[..., 1], np.tile(DIMS, (3, 1)).T)
    np.testing.assert_allclose(points[1, :, 0], [4, 5, 8])
    assert (np.diff(points[..., 0].T.ravel()) > 0).all()


def test_figures_fit_a_page():
    frame = product(setting=[*SETTINGS, "three-layer, internal"], dim=DIMS, seed=SEEDS, n_kept=(4, 8))
    three = pd.concat([needed(), needed().query("dropped != 'all hidden layers'").assign(dropped="hidden layer 2")])
    figures = needed_against_dimension(three, three), change_against_kept(frame.assign(relative_change=1.0), 0.1)
    assert len(figures[0].axes) == 3
    assert all(figure.get_figwidth() * 25.4 <= 170.01 for figure in figures)


def test_bad_frames():
    with pytest.raises(ValueError, match=r"needed lacks the columns \['dropped'\]"):
        needed_against_dimension(needed().drop(columns="dropped"), needed())
    with pytest.raises(ValueError, match="needed has more than one row for"):
        needed_against_dimension(pd.concat([needed(), needed()]), needed())
    with pytest.raises(ValueError, match="changes has no rows"):
        change_against_kept(pd.DataFrame(columns=["setting"]), 0.1)
