"""The figures of the theorem's regime show the frames' means, the fits of the frames, and the guides that are named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from meanfield.plots.dropout_regime import (
    change_against_dimension,
    change_against_horizon,
    change_over_time,
    deviation_against_step_size,
    exponent_against_horizon,
)

SEEDS = (0, 1, 2)
TIMES = (1.0, 2.0, 4.0, 8.0)
NOISE = {0: 0.97, 1: 1.0, 2: 1.05}


def gaps_frame(times=(0.0, *TIMES), n_kept=(4, 16), exponent: float = 0.5) -> pd.DataFrame:
    """Changes t^exponent/m over seeds, largest at t = 2 with one standard deviation added."""
    index = pd.MultiIndex.from_product([SEEDS, times, n_kept], names=["seed", "time", "n_kept"])
    frame = index.to_frame(index=False)
    mean = np.maximum(frame["time"], 0.1) ** exponent / frame["n_kept"] * frame["seed"].map(NOISE)
    return frame.assign(mean_change=mean, mean_plus_std=mean + np.where(frame["time"] == 2, 9.0, 0.01))


def bound_frame() -> pd.DataFrame:
    return pd.DataFrame({"time": TIMES, "value": np.exp(np.square(TIMES))})


def horizons_frame() -> pd.DataFrame:
    rows = [
        {"time": time, "quantity": quantity, "exponent": centre, "low": centre - 0.02, "high": centre + 0.03}
        for quantity, centre in (("c_n", -0.01), ("risk", -0.2))
        for time in (0.0, *TIMES)
    ]
    return pd.DataFrame(rows)


def deviations_frame() -> pd.DataFrame:
    frame = pd.MultiIndex.from_product([SEEDS, 2.0 ** -np.arange(1, 6)], names=["seed", "alpha_d"]).to_frame(
        index=False
    )
    noise = frame["seed"].map(NOISE)
    return frame.assign(gap=frame["alpha_d"] * noise, risk=2 * frame["alpha_d"] ** 0.5 * noise, finest_alpha_d=2.0**-8)


def dimensions_frame() -> pd.DataFrame:
    frame = pd.MultiIndex.from_product([SEEDS, (8, 32, 128)], names=["seed", "dim"]).to_frame(index=False)
    noise = frame["seed"].map(NOISE)
    return frame.assign(gap=0.2 * noise, relative_gap=0.1 * frame["dim"] ** 0.25 * noise, n_kept=16)


def one_kept(exponent: float = 0.5) -> pd.DataFrame:
    return gaps_frame(times=TIMES, n_kept=(4,), exponent=exponent)


FIGURES = {
    "change_over_time": (change_over_time, gaps_frame),
    "change_against_horizon": (lambda frame: change_against_horizon(frame, bound_frame()), one_kept),
    "exponent_against_horizon": (exponent_against_horizon, horizons_frame),
    "deviation_against_step_size": (deviation_against_step_size, deviations_frame),
    "change_against_dimension": (change_against_dimension, dimensions_frame),
}
each_figure = pytest.mark.parametrize(("draw", "make_frame"), FIGURES.values(), ids=FIGURES)


def lines(axes) -> dict[str, np.ndarray]:
    return {line.get_label(): np.column_stack(line.get_data()) for line in axes.lines}


def points(axes, label: str) -> np.ndarray:
    (container,) = [one for one in axes.containers if one.get_label() == label]
    return np.column_stack(container.lines[0].get_data())


def slope(line: np.ndarray) -> float:
    return float(np.polyfit(*np.log(line).T, 1)[0])


@each_figure
def test_every_axis_and_series_is_named(draw, make_frame):
    figure = draw(make_frame())
    figure.canvas.draw()
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(legend) == len(set(legend)) >= 3
    for axes in figure.axes:
        assert axes.get_xlabel()
    assert figure.axes[0].get_ylabel()


@each_figure
def test_a_missing_or_wordy_column_is_named(draw, make_frame):
    frame = make_frame()
    column = next(name for name in ("mean_change", "exponent", "gap") if name in frame)
    with pytest.raises(ValueError, match=column):
        draw(frame.drop(columns=column))
    with pytest.raises(TypeError, match=column):
        draw(frame.assign(**{column: "much"}))
    with pytest.raises(ValueError, match="has no rows"):
        draw(frame.iloc[:0])


@pytest.mark.parametrize("name", sorted(set(FIGURES) - {"exponent_against_horizon"}))
def test_repeated_rows_are_refused(name):
    draw, make_frame = FIGURES[name]
    frame = make_frame()
    with pytest.raises(ValueError, match="more than one row for"):
        draw(pd.concat([frame, frame.iloc[:1]]))


def test_a_ring_marks_the_largest_mean_over_seeds():
    mean, spread = change_over_time(gaps_frame()).axes
    for axes, time in ((mean, 8.0), (spread, 2.0)):
        rings = [line for line in axes.lines if line.get_markerfacecolor() == "none" and len(line.get_xdata())]
        assert [ring.get_xdata()[0] for ring in rings] == [time, time]
    assert mean.get_ylim() == spread.get_ylim()


def test_curves_are_means_over_seeds_at_every_time_from_zero():
    frame = gaps_frame()
    curve = lines(change_over_time(frame).axes[0])["$m=4$"]
    expected = frame[frame["n_kept"] == 4].groupby("time")["mean_change"].mean()
    assert curve[:, 0].tolist() == [0.0, *TIMES]
    assert curve[:, 1] == pytest.approx(expected.to_numpy())


def test_the_horizon_figure_draws_both_fits_and_the_bound():
    axes = change_against_horizon(one_kept(), bound_frame()).axes[0]
    drawn = lines(axes)
    assert slope(drawn["$T^{0.50}$"]) == pytest.approx(0.5)
    bound = drawn["form of the bound, $Ke^{KT^3}$\n$\\times$ its terms, $K$ fitted over all $m$"]
    assert bound[:, 1].tolist() == bound_frame()["value"].tolist()
    (exponential,) = [line for label, line in drawn.items() if label.startswith("$e^")]
    log_values = np.log(exponential[:, 1])
    rates = np.diff(log_values) / np.diff(exponential[:, 0])
    assert rates == pytest.approx(np.full(rates.size, rates[0]))
    assert axes.get_ylim()[1] < bound_frame()["value"].max()
    assert points(axes, "mean")[:, 0].tolist() == list(TIMES)


def test_the_exponents_lie_beside_the_margin():
    axes = exponent_against_horizon(horizons_frame()).axes[0]
    assert axes.get_yscale() == "linear"
    assert points(axes, "risk")[:, 1] == pytest.approx(np.full(4, -0.2))
    (band,) = axes.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((-0.1, 0.1))


def test_the_step_size_figure_fits_both_and_shows_the_theorems_term_from_the_smallest():
    axes = deviation_against_step_size(deviations_frame()).axes[0]
    drawn = lines(axes)
    assert slope(drawn[r"$(\alpha d)^{1.00}$"]) == pytest.approx(1.0)
    assert slope(drawn[r"$(\alpha d)^{0.50}$"]) == pytest.approx(0.5)
    size, height = drawn[r"slope of $\sqrt{\alpha}-\sqrt{\alpha_{\min}}$"].T
    ratio = height / (np.sqrt(size) - 2.0**-4)
    assert ratio == pytest.approx(np.full(ratio.size, ratio[0]))


def test_the_dimension_figure_writes_the_exponents_into_its_panels():
    relative, absolute = change_against_dimension(dimensions_frame()).axes
    assert "exponent 0.250" in relative.texts[0].get_text()
    assert "exponent 0.000" in absolute.texts[0].get_text()
    for axes, exponent in ((relative, 0.25), (absolute, 0.0)):
        assert slope(lines(axes)["fitted power law"]) == pytest.approx(exponent, abs=1e-9)
        assert slope(lines(axes)["no dependence"]) == pytest.approx(0, abs=1e-9)


def test_a_single_seed_is_drawn_without_fits():
    one = {name: frame[frame["seed"] == 0] for name, frame in (("gaps", one_kept()), ("steps", deviations_frame()))}
    horizon = lines(change_against_horizon(one["gaps"], bound_frame()).axes[0])
    assert not any(label.startswith(("$T", "$e")) for label in horizon)
    steps = lines(deviation_against_step_size(one["steps"]).axes[0])
    assert not any(label.startswith(r"$(\alpha") for label in steps)
