"""The figure of the width check shows means over seeds, expected slopes, and what is left out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from meanfield.plots.width_check import coordinates_against_width

WIDTHS, SEEDS = (16, 64, 256), (0, 1, 2)
EXPONENTS = {"mean-field": 0.0, "control": 1.0}
QUANTITIES = ("weight change", "pre-activation")


def frames():
    index = [list(EXPONENTS), QUANTITIES, (0, 1), WIDTHS, SEEDS]
    names = ["setting", "quantity", "weights", "n_neurons", "seed"]
    frame = pd.MultiIndex.from_product(index, names=names).to_frame(index=False)
    value = (
        (1.0 + frame["weights"]) * frame["n_neurons"] ** frame["setting"].map(EXPONENTS) * (1 + 0.01 * frame["seed"])
    )
    slopes = frame[names[:3]].drop_duplicates().assign(expected=0.0)
    return frame.assign(value=value), slopes


def dashed(panel):
    return [line for line in panel.get_lines() if line.get_linestyle() == "--" and len(line.get_xdata())]


def test_panels_are_settings_by_quantities():
    figure = coordinates_against_width(*frames())
    assert len(figure.axes) == 4
    assert [panel.get_title() for panel in figure.axes[:2]] == ["mean-field scaling", "control: standard scaling"]
    assert [figure.axes[k].get_ylabel() for k in (0, 2)] == ["weight change, rms", "pre-activation, rms"]
    assert figure.axes[2].get_xlabel() == "neurons of a layer, $N$"
    names = {text.get_text() for text in figure.legends[0].get_texts()}
    assert names == {"weights[0]", "weights[1], output", "expected slope (control: that of mean-field scaling)"}


def test_points_are_geometric_means_over_seeds_and_lines_have_the_expected_slope():
    coordinates, slopes = frames()
    panel = coordinates_against_width(coordinates, slopes).axes[1]
    points = panel.containers[0].lines[0]
    np.testing.assert_allclose(points.get_xydata(), [(n, n * (1.01 * 1.02) ** (1 / 3)) for n in WIDTHS], rtol=1e-12)
    for line in dashed(panel):
        assert np.ptp(line.get_ydata()) == 0
    tilted = coordinates_against_width(coordinates, slopes.assign(expected=-0.5)).axes[0]
    for line in dashed(tilted):
        slope = np.diff(np.log(line.get_ydata())) / np.diff(np.log(line.get_xdata()))
        assert slope == pytest.approx(-0.5)


def test_where_nothing_is_expected_no_line_is_drawn():
    coordinates, slopes = frames()
    assert len(dashed(coordinates_against_width(coordinates, slopes).axes[0])) == 2
    none = coordinates_against_width(coordinates, slopes.assign(expected=np.nan)).axes[0]
    assert not dashed(none)
    assert none.get_title("right") == "no prediction"


def test_intervals_over_decades_stay_on_the_axis():
    coordinates, slopes = frames()
    panel = coordinates_against_width(coordinates.assign(value=10.0 ** coordinates["seed"]), slopes).axes[0]
    (bars,) = panel.containers[0].lines[2]
    half_width = 2.919985580 * np.log(10) / 3**0.5
    for (_, low), (_, high) in bars.get_segments():
        np.testing.assert_allclose([low, high], 10 * np.exp([-half_width, half_width]), rtol=1e-7)
        assert panel.get_ylim()[0] < low < high < panel.get_ylim()[1]


def test_a_flat_panel_shows_a_decade():
    for panel in coordinates_against_width(*frames()).axes:
        low, high = panel.get_ylim()
        assert high / low >= 10 * (1 - 1e-9)


def test_values_that_have_no_logarithm_are_left_out():
    coordinates, slopes = frames()
    none = coordinates.assign(value=np.where(coordinates["quantity"] == "weight change", 0.0, np.inf))
    figure = coordinates_against_width(none, slopes)
    assert all("no positive values" in [text.get_text() for text in panel.texts] for panel in figure.axes)


def test_bad_frames():
    coordinates, slopes = frames()
    with pytest.raises(ValueError, match=r"coordinates lacks the columns \['setting'\]"):
        coordinates_against_width(coordinates.drop(columns="setting"), slopes)
    with pytest.raises(ValueError, match="coordinates has more than one row for"):
        coordinates_against_width(pd.concat([coordinates, coordinates]), slopes)
    with pytest.raises(ValueError, match="coordinates has no rows"):
        coordinates_against_width(coordinates[:0], slopes)
    with pytest.raises(TypeError, match=r"slopes\['expected'\] must hold numbers"):
        coordinates_against_width(coordinates, slopes.assign(expected="0"))
