"""The figures of several hidden layers show means over seeds, guides, and what is left out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from meanfield.plots.dropout_multilayer import change_against_kept, change_at_half

WIDTHS, SEEDS, SETTINGS = (16, 64), (0, 1, 2), ("all", "control")
DROPPED = ("hidden layer 1", "hidden layer 2", "all hidden layers")


def product(**columns):
    return pd.MultiIndex.from_product(columns.values(), names=columns.keys()).to_frame(index=False)


def curves():
    frame = product(setting=SETTINGS, dropped=DROPPED, n_neurons=WIDTHS, seed=SEEDS, n_kept=(4, 8))
    return frame.assign(mean_change=frame["n_neurons"] / frame["n_kept"] * (1 + 0.01 * frame["seed"]))


def gaps():
    frame = product(n_hidden=(2, 3), setting=SETTINGS, dropped=DROPPED, n_neurons=WIDTHS, seed=SEEDS)
    return frame.assign(half_change=(1 + 0.01 * frame["seed"]) * frame["n_hidden"] / frame["n_neurons"])


def points(panel, which):
    return panel.containers[which].lines[0].get_xydata()


def test_panels_are_settings_by_layers_that_lose_neurons():
    figure = change_against_kept(curves(), titles={"all": "all trained"})
    assert len(figure.axes) == 6
    assert [panel.get_title() for panel in figure.axes[:2]] == ["all trained", "control"]
    assert figure.axes[0].get_ylabel() == "mean loss change,\nof hidden layer 1 alone"
    assert figure.axes[4].get_ylabel() == "mean loss change,\nof all hidden layers"
    assert figure.axes[4].get_xlabel() == "neurons kept, $m$"
    names = {text.get_text() for text in figure.legends[0].get_texts()}
    assert names == {"$N=16$", "$N=64$", r"$\propto(N-m)/m$"}
    np.testing.assert_allclose(points(figure.axes[0], 1), [(4, 1.01 * 16), (8, 1.01 * 8)])


def test_half_panels_are_settings_by_depths():
    figure = change_at_half(gaps())
    assert [panel.get_ylabel() for panel in figure.axes[::2]] == [
        f"{depth} hidden layers:\nloss change at $m=N/2$" for depth in (2, 3)
    ]
    names = {text.get_text() for text in figure.legends[0].get_texts()}
    assert names == {"hidden layer 1 alone", "hidden layer 2 alone", "all hidden layers", "falling as $1/N$"}
    np.testing.assert_allclose(points(figure.axes[2], 2), [(n, 1.01 * 3 / n) for n in WIDTHS])


@pytest.mark.parametrize(("draw", "frame"), [(change_against_kept, curves), (change_at_half, gaps)])
def test_rows_share_their_range_and_three_settings_fit_a_page(draw, frame):
    three = pd.concat([frame(), frame().query("setting == 'all'").assign(setting="internal")])
    figure = draw(three, titles={"internal": "internal layers trained, ends frozen"})
    assert figure.get_figwidth() * 25.4 == pytest.approx(170)
    assert figure.axes[2].get_title() == "internal layers trained,\nends frozen"
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


def test_the_guide_at_half_falls_as_one_over_n():
    (line,) = [line for line in change_at_half(gaps()).axes[0].get_lines() if line.get_label() == "falling as $1/N$"]
    assert np.diff(np.log(line.get_ydata())) / np.diff(np.log(line.get_xdata())) == pytest.approx(-1)


def test_lines_through_the_largest_m_are_those_of_a_last_layer():
    lines = [line for line in change_against_kept(curves()).axes[0].get_lines() if line.get_linewidth() == 0.6]
    for line, n_neurons in zip(lines, WIDTHS, strict=True):
        last, ratio = 1.01 * n_neurons / 8, (n_neurons - 4) / 4 * 8 / (n_neurons - 8)
        np.testing.assert_allclose(line.get_xydata(), [(4, last * ratio), (8, last)])


def test_changes_that_have_no_logarithm_are_left_out():
    frame = curves()
    none = frame.assign(mean_change=np.where(frame["dropped"] == "hidden layer 1", 0.0, frame["mean_change"]))
    figure = change_against_kept(none)
    assert all("no positive values" in [text.get_text() for text in panel.texts] for panel in figure.axes[:2])
    assert not figure.axes[2].texts


def test_bad_frames():
    with pytest.raises(ValueError, match=r"curves lacks the columns \['setting'\]"):
        change_against_kept(curves().drop(columns="setting"))
    with pytest.raises(ValueError, match="curves has more than one row for"):
        change_against_kept(pd.concat([curves(), curves()]))
    with pytest.raises(ValueError, match="gaps has no rows"):
        change_at_half(gaps()[:0])
    with pytest.raises(TypeError, match=r"gaps\['half_change'\] must hold numbers"):
        change_at_half(gaps().assign(half_change="1"))
