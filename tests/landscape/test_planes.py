"""Planes through three networks: coordinates, distances and the loss on a grid."""

from __future__ import annotations

import numpy as np
import pytest
from random_networks import random_network, random_samples

from meanfield import Empirical, Network, QuadraticBezier, StraightLine, connect, risk
from meanfield.landscape.planes import Plane, plane_risk

WIDTHS = (3, 5, 4, 2)


def flat(network):
    return np.concatenate([np.ravel(a) for a in (*network.weights, *(network.biases or ()))])


def corners(**options):
    return [random_network(WIDTHS, seed=seed, **options) for seed in range(3)]


@pytest.mark.parametrize("biases", [False, True])
def test_the_three_networks_lie_on_it_at_their_distances(biases):
    networks = corners(biases=biases)
    plane = Plane(*networks)
    first, second, third = plane.corners
    assert (first.u, first.v, first.distance) == (0, 0, 0)
    assert second.u == pytest.approx(np.linalg.norm(flat(networks[1]) - flat(networks[0])))
    assert second.v == pytest.approx(0, abs=1e-12)
    assert third.v > 0
    assert np.hypot(third.u, third.v) == pytest.approx(np.linalg.norm(flat(networks[2]) - flat(networks[0])))
    for network, (u, v, distance) in zip(networks, plane.corners, strict=True):
        assert distance == pytest.approx(0, abs=1e-12)
        np.testing.assert_allclose(flat(plane.at(u, v)), flat(network), rtol=0, atol=1e-12)


def test_a_projection_is_the_least_squares_one():
    networks, other = corners(), random_network(WIDTHS, seed=9)
    plane = Plane(*networks)
    origin = flat(networks[0])
    basis = np.column_stack([flat(networks[1]) - origin, flat(networks[2]) - origin])
    solution, *_ = np.linalg.lstsq(basis, flat(other) - origin, rcond=None)
    foot = origin + basis @ solution
    u, v, distance = plane.project(other)
    np.testing.assert_allclose(flat(plane.at(u, v)), foot, rtol=0, atol=1e-12)
    assert distance == pytest.approx(np.linalg.norm(flat(other) - foot))
    assert distance > 1


def test_lines_and_bezier_curves_lie_on_it_and_paths_do_not():
    first, second, bend = corners()
    plane = Plane(first, second, bend)
    for curve in (StraightLine(first, second), QuadraticBezier(first, bend, second)):
        assert max(plane.project(curve.at(t)).distance for t in (0.1, 0.5, 0.8)) == pytest.approx(0, abs=1e-12)
    path = connect(first, second)
    assert plane.project(path.vertices[3]).distance > 1


def test_the_risk_on_the_grid_is_that_of_its_networks():
    law = Empirical(*random_samples("square", 20, WIDTHS[0]))
    plane = Plane(*corners())
    table = plane_risk(plane, law, n_grid=4, margin=0.5)
    assert len(table) == 16
    for _, row in table.iterrows():
        assert row["risk"] == pytest.approx(risk(plane.at(row["u"], row["v"]), law).value, rel=1e-12)
    points = np.array(plane.corners)[:, :2]
    extent = np.ptp(points, axis=0)
    np.testing.assert_allclose(table[["u", "v"]].min(), points.min(axis=0) - extent / 2)
    np.testing.assert_allclose(table[["u", "v"]].max(), points.max(axis=0) + extent / 2)


def test_the_grid_reaches_over_the_feet_of_other_networks():
    law = Empirical(*random_samples("square", 5, WIDTHS[0]))
    first, second, third = corners()
    plane, far = Plane(first, second, third), StraightLine(second, first).at(1.0)
    beyond = plane.at(0.0, -100.0)
    table = plane_risk(plane, law, n_grid=3, margin=0.0, also=[far, beyond])
    assert table["v"].min() == pytest.approx(-100)
    assert table["v"].max() == pytest.approx(plane.corners[2].v)


def test_the_dtype_is_kept():
    plane = Plane(*corners(dtype=np.float32))
    assert plane.at(0.5, 0.5).dtype == np.float32


def test_three_on_one_line_are_refused():
    first, second, _ = corners()
    for third in (first, second, StraightLine(first, second).at(0.3)):
        with pytest.raises(ValueError, match="three networks that are not on one line"):
            Plane(first, second, third)
    with pytest.raises(ValueError, match="three networks that are not on one line"):
        Plane(first, first, second)


def test_bad_arguments_are_refused():
    first, second, third = corners()
    plane, law = Plane(first, second, third), Empirical(*random_samples("square", 5, 3))
    with pytest.raises(ValueError, match="first and third must have the same widths"):
        Plane(first, second, random_network((3, 5, 5, 2)))
    with pytest.raises(ValueError, match="first and network must have the same widths"):
        plane.project(random_network((3, 5, 5, 2)))
    with pytest.raises(TypeError, match="plane must be a Plane, got Network"):
        plane_risk(first, law)
    with pytest.raises(ValueError, match="n_grid must be at least 2, got 1"):
        plane_risk(plane, law, n_grid=1)
    with pytest.raises(ValueError, match="margin must be finite and not negative, got -1"):
        plane_risk(plane, law, margin=-1)
    with pytest.raises(ValueError, match="3 inputs, but the law Empirical has 4"):
        plane_risk(plane, Empirical(np.ones((2, 4)), np.ones((2, 2))))
    assert isinstance(plane.first, Network)
