"""Risk along a curve: maxima known in closed form, samples in common, costs counted."""

from __future__ import annotations

import numpy as np
import pytest
from random_networks import random_network

from meanfield import (
    Empirical,
    IsotropicGaussians,
    Network,
    QuadraticBezier,
    StraightLine,
    classification_error,
    curve_risk,
    risk,
)

ISOTROPIC = IsotropicGaussians(dim=3, delta=0.5)
PEAK = 0.3137


def small_data(n_outputs=2, seed=0):
    rng = np.random.default_rng(seed)
    return Empirical(rng.standard_normal((30, 3)), rng.standard_normal((30, n_outputs)))


class Parabola:
    """A curve of constant networks with risk 2 - (t - PEAK)^2 on targets of zero, which counts its networks."""

    law = Empirical([[0.0]], [0.0])

    def __init__(self):
        self.asked = []

    def at(self, t):
        self.asked.append(t)
        offset = np.sqrt(2 - (t - PEAK) ** 2)
        weights = (np.zeros((1, 1)), np.zeros((1, 1)))
        return Network(weights, (np.zeros(1), np.array([offset])), activation="linear", scaling="standard")


@pytest.mark.parametrize("n_grid", [2, 4, 10, 51])
def test_a_maximum_between_grid_points_is_found(n_grid):
    attrs = curve_risk(Parabola(), Parabola.law, n_grid=n_grid).attrs
    spacing = 1 / (n_grid - 1)
    assert attrs["t_maximum"] == pytest.approx(PEAK, abs=4e-3 * spacing)
    assert attrs["maximum"] == pytest.approx(2, abs=1.6e-5 * spacing**2 + 1e-14)
    assert attrs["maximum"] <= 2 + 1e-14
    assert attrs["barrier"] == pytest.approx(PEAK**2, abs=1.6e-5 * spacing**2 + 1e-14)
    # Above the chord the parabola is t (1 - t).
    assert attrs["barrier_above_chord"] == pytest.approx(0.25, abs=1.6e-5 * spacing**2 + 1e-14)
    assert attrs["kind_of_maximum"] == "grid maximum refined by bounded search: a lower bound"


def test_without_refinement_the_grid_is_all_there_is():
    table = curve_risk(Parabola(), Parabola.law, n_grid=5, refine=False)
    assert list(table.columns) == ["t", "risk", "standard_error"]
    np.testing.assert_array_equal(table["t"], [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(table["risk"], 2 - (table["t"] - PEAK) ** 2, rtol=1e-14)
    assert table.attrs["t_maximum"] == 0.25
    assert table.attrs["maximum"] == table["risk"].max()
    assert table.attrs["kind_of_maximum"] == "grid maximum: a lower bound"
    assert table.attrs["n_evaluations"] == 5


def test_every_network_is_evaluated_once_and_counted():
    curve = Parabola()
    table = curve_risk(curve, curve.law, n_grid=11)
    # The first is asked for once more, to see that the law fits.
    assert table.attrs["n_evaluations"] == len(table) == len(curve.asked) - 1
    assert table["t"].is_monotonic_increasing
    assert table["t"].is_unique
    assert table.attrs["maximum"] == table["risk"].max()


def test_a_maximum_at_an_end_is_no_barrier():
    rows = small_data()
    first = random_network((3, 4, 2))
    # Square loss, readout alone: convex along the line.
    second = Network((first.weights[0], 5 + first.weights[1]), first.biases, activation="relu", scaling="mean-field")
    attrs = curve_risk(StraightLine(first, second), rows).attrs
    assert attrs["barrier"] == 0.0
    assert attrs["barrier_above_chord"] == 0.0
    assert attrs["t_maximum"] == (1.0 if risk(second, rows).value > risk(first, rows).value else 0.0)
    assert attrs["maximum"] == pytest.approx(max(risk(n, rows).value for n in (first, second)), rel=1e-12)


@pytest.mark.parametrize("scaling", ["mean-field", "standard"])
def test_rows_are_the_risks_of_the_networks(scaling):
    first, bend, second = (random_network((3, 6, 4, 2), scaling=scaling, seed=s) for s in range(3))
    curve, law = QuadraticBezier(first, bend, second), small_data()
    table = curve_risk(curve, law, n_grid=6)
    for row in table.itertuples():
        assert row.risk == pytest.approx(risk(curve.at(row.t), law).value, rel=1e-12)
        assert row.standard_error == 0.0
    assert table.attrs["method"] == "exact"
    assert table.attrs["barrier_standard_error"] == 0.0
    ends = [risk(network, law).value for network in (first, second)]
    assert table.attrs["barrier"] == pytest.approx(table["risk"].max() - max(ends), rel=1e-12)
    chord = table["risk"] - (1 - table["t"]) * ends[0] - table["t"] * ends[1]
    assert table.attrs["barrier_above_chord"] == pytest.approx(chord.max(), rel=1e-12)


@pytest.mark.parametrize(("loss", "n_outputs"), [("square", 1), ("logistic", 1), ("cross-entropy", 3), ("square", 3)])
def test_classes_have_a_classification_error(loss, n_outputs):
    rng = np.random.default_rng(1)
    y = np.eye(3)[rng.integers(3, size=50)] if n_outputs == 3 else rng.choice([-1.0, 1.0], 50)
    law = Empirical(rng.standard_normal((50, 3)), y)
    line = StraightLine(*(random_network((3, 6, n_outputs), seed=s) for s in range(2)))
    table = curve_risk(line, law, loss=loss, n_grid=4)
    expected = [classification_error(line.at(t), law).value for t in table["t"]]
    np.testing.assert_allclose(table["classification_error"], expected, rtol=1e-14)
    np.testing.assert_allclose(table["risk"], [risk(line.at(t), law, loss=loss).value for t in table["t"]], rtol=1e-12)
    assert table["classification_error"].nunique() > 1


def test_samples_are_common_to_the_whole_curve():
    network = random_network((3, 5, 1))
    table = curve_risk(StraightLine(network, network), ISOTROPIC, n_grid=6, n_samples=200, rng=0)
    np.testing.assert_allclose(table["risk"], table["risk"].iloc[0], rtol=1e-13)
    assert (table["standard_error"] > 0).all()
    assert table.attrs["method"] == "sample"


def test_standard_errors_are_those_of_the_samples():
    line = StraightLine(*(random_network((3, 5, 1), seed=s) for s in range(2)))
    table = curve_risk(line, ISOTROPIC, n_grid=6, n_samples=300, rng=4)
    x, y = ISOTROPIC.sample(300, np.random.default_rng(4))

    def losses(t):
        return ((y - line.at(t).predict(x)) ** 2)[:, 0]

    for row in table.itertuples():
        assert row.risk == pytest.approx(losses(row.t).mean(), rel=1e-12)
        assert row.standard_error == pytest.approx(losses(row.t).std(ddof=1) / np.sqrt(300), rel=1e-12)
    attrs = table.attrs
    assert attrs["barrier"] == 0.0
    assert attrs["barrier_standard_error"] == 0.0


def test_the_barrier_has_the_error_of_a_paired_difference():
    first = random_network((3, 5, 1))
    flipped = Network((-first.weights[0], first.weights[1]), first.biases, activation="relu", scaling="mean-field")
    bend = random_network((3, 5, 1), seed=5)
    bend = Network([4 * w for w in bend.weights], bend.biases, activation="relu", scaling="mean-field")
    curve = QuadraticBezier(first, bend, flipped)
    attrs = curve_risk(curve, ISOTROPIC, n_samples=300, rng=4).attrs
    x, y = ISOTROPIC.sample(300, np.random.default_rng(4))
    losses = [((y - curve.at(t).predict(x)) ** 2)[:, 0] for t in (0.0, attrs["t_maximum"], 1.0)]
    difference = losses[1] - max(losses[0], losses[2], key=np.mean)
    assert attrs["barrier"] == pytest.approx(difference.mean(), rel=1e-12)
    assert attrs["barrier"] > 0
    assert attrs["barrier_standard_error"] == pytest.approx(difference.std(ddof=1) / np.sqrt(300), rel=1e-12)


def test_the_same_seed_gives_the_same_table():
    line = StraightLine(*(random_network((3, 5, 1), seed=s) for s in range(2)))
    once, again = (curve_risk(line, ISOTROPIC, n_samples=100, rng=1) for _ in range(2))
    assert once.equals(again)
    assert once.attrs == again.attrs


def test_progress_is_shown_on_standard_error(capsys):
    curve_risk(Parabola(), Parabola.law, n_grid=4, progress=True)
    assert "4/4" in capsys.readouterr().err
    curve_risk(Parabola(), Parabola.law, n_grid=4)
    assert capsys.readouterr().err == ""


def test_bad_arguments():
    network = random_network((3, 4, 2))
    line, law = StraightLine(network, network), small_data()
    for n_grid in (1, 0):
        with pytest.raises(ValueError, match=f"n_grid must be at least 2, got {n_grid}"):
            curve_risk(line, law, n_grid=n_grid)
    with pytest.raises(TypeError, match=r"n_grid must be an integer, got 5.0"):
        curve_risk(line, law, n_grid=5.0)
    with pytest.raises(ValueError, match="network has 2 outputs, but the law Empirical has 1"):
        curve_risk(line, small_data(n_outputs=1))
    with pytest.raises(ValueError, match="unknown loss 'sqare': did you mean 'square'"):
        curve_risk(line, law, loss="sqare")
    with pytest.raises(ValueError, match="'cross-entropy' does not suit the targets"):
        curve_risk(line, law, loss="cross-entropy")
    with pytest.raises(TypeError, match=r"curve must be an object with at\(t\), got Network"):
        curve_risk(network, law)
    with pytest.raises(TypeError, match=r"curve must be an object with at\(t\), got StraightLine: pass e.g."):
        curve_risk(StraightLine, law)
    single = random_network((3, 4, 1))
    with pytest.raises(TypeError, match="evaluation on fresh samples needs rng="):
        curve_risk(StraightLine(single, single), ISOTROPIC)
