"""The figure shows the losses along the path, its vertices, its idle segments and the baselines, and nothing else."""

from __future__ import annotations

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from meanfield.plots.path import loss_along_path

KINDS = ["readout", "idle", "idle", "readout"]
T = [0, 0.125, 0.25, 0.25, 0.375, 0.5, 0.5, 0.625, 0.75, 0.75, 0.875, 1]
RISK = [1, 2, 5, 5, 5, 5, 5, 5, 5, 5, 1.5, 2]
AT_VERTICES = [0, 3, 6, 9, 11]


def path_frame(**columns):
    segment = np.repeat(range(4), 3)
    frame = pd.DataFrame({"segment": segment, "kind": np.repeat(KINDS, 3), "t": T, "risk": RISK})
    return frame.assign(**{"standard_error": 0.0, **columns})


def baseline(height):
    t = np.linspace(0, 1, 5)
    return pd.DataFrame({"t": t, "risk": 1 + t + height * t * (1 - t)})


def labelled(axes):
    return dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))


def test_lines_points_and_shades_are_those_of_the_frames():
    curves = {"straight line": baseline(3), "aligned line": baseline(1)}
    (axes,) = loss_along_path(path_frame(), curves).axes
    artists = labelled(axes)
    assert list(artists) == ["idle: function unchanged", "straight line", "aligned line", "larger end", "path"]
    for name, curve in curves.items():
        np.testing.assert_array_equal(artists[name].get_xydata(), curve)
    np.testing.assert_array_equal(artists["larger end"].get_ydata(), 2)
    np.testing.assert_array_equal(artists["path"].lines[0].get_xydata(), np.transpose([T, RISK])[AT_VERTICES])
    lines = [line.get_xydata() for line in axes.lines if len(line.get_xydata()) == len(T)]
    np.testing.assert_array_equal(lines, [np.transpose([T, RISK])])
    shades = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in axes.patches]
    assert shades == [(0.25, 0.5), (0.5, 0.75)]
    assert axes.get_yscale() == "linear"


def test_vertices_of_a_sampled_loss_have_90_percent_intervals():
    (axes,) = loss_along_path(path_frame(standard_error=0.1)).axes
    _, _, (bars,) = labelled(axes)["path"].lines
    ends = np.array([bar[:, 1] for bar in bars.get_segments()])
    expected = np.array(RISK)[AT_VERTICES, np.newaxis] + 0.1 * 1.6448536 * np.array([-1, 1])
    np.testing.assert_allclose(ends, expected, rtol=1e-6)
    (exact,) = loss_along_path(path_frame()).axes
    assert labelled(exact)["path"].lines[2] == ()


@pytest.mark.parametrize(("highest", "lowest", "scale"), [(50, 1, "log"), (50, 0, "linear"), (9, 1, "linear")])
def test_losses_far_apart_take_a_logarithmic_axis(highest, lowest, scale):
    risk = np.where(np.array(RISK) == 5, highest, np.where(np.array(RISK) == 1, lowest, RISK))
    (axes,) = loss_along_path(path_frame(risk=risk)).axes
    assert axes.get_yscale() == scale


def test_rows_of_a_baseline_are_drawn_in_order_of_t():
    shuffled = baseline(3).sample(frac=1, random_state=0)
    (axes,) = loss_along_path(path_frame(), {"Bezier curve": shuffled}).axes
    np.testing.assert_array_equal(labelled(axes)["Bezier curve"].get_xydata(), baseline(3))


def test_what_cannot_be_drawn_is_an_error():
    with pytest.raises(ValueError, match=r"path lacks the columns \['standard_error'\]"):
        loss_along_path(path_frame().drop(columns="standard_error"))
    with pytest.raises(ValueError, match="path has no rows"):
        loss_along_path(path_frame().iloc[:0])
    with pytest.raises(ValueError, match=r"'readout' and 'idle', got \['swap'\]"):
        loss_along_path(path_frame(kind="swap"))
    with pytest.raises(TypeError, match=r"path\['risk'\] must hold numbers"):
        loss_along_path(path_frame(risk="high"))
    with pytest.raises(ValueError, match=r"aligned line lacks the columns \['risk'\]"):
        loss_along_path(path_frame(), {"aligned line": baseline(1)[["t"]]})


def test_no_global_setting_is_read_or_changed_and_frames_are_left_alone():
    path, before = path_frame(), dict(matplotlib.rcParams)
    loss_along_path(path, {"straight line": baseline(3)})
    pd.testing.assert_frame_equal(path, path_frame())
    assert dict(matplotlib.rcParams) == before
    assert plt.get_fignums() == []
