"""Straight lines and Bezier curves of networks: their formulas, their ends to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from random_networks import random_network

from meanfield import QuadraticBezier, StraightLine

WIDTHS = (3, 5, 4, 2)


def arrays(network):
    return [*network.weights, *(network.biases or ())]


@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_points_of_a_line_and_of_a_bezier_curve(biases, dtype):
    first, bend, second = (random_network(WIDTHS, biases=biases, seed=s, dtype=dtype) for s in range(3))
    line, curve = StraightLine(first, second), QuadraticBezier(first, bend, second)
    for t in (0.1, np.float32(0.5), 0.8):
        ends = zip(arrays(first), arrays(bend), arrays(second), arrays(line.at(t)), arrays(curve.at(t)), strict=True)
        for a, b, c, on_line, on_curve in ends:
            assert on_line.dtype == on_curve.dtype == dtype
            tolerance = 10 * np.finfo(dtype).eps
            np.testing.assert_allclose(on_line, (1 - t) * a + t * c, rtol=0, atol=tolerance * 5)
            bezier = (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c
            np.testing.assert_allclose(on_curve, bezier, rtol=0, atol=tolerance * 5)


@pytest.mark.parametrize(("start", "end"), [(0, 1), (0.0, 1.0), (np.float64(0), np.int64(1))])
def test_the_ends_are_the_very_networks(start, end):
    first, bend, second = (random_network(WIDTHS, seed=s) for s in range(3))
    for curve in (StraightLine(first, second), QuadraticBezier(first, bend, second)):
        assert curve.at(start) is first
        assert curve.at(end) is second


def test_a_bend_half_way_makes_a_straight_line():
    first, second = (random_network(WIDTHS, seed=s) for s in range(2))
    line = StraightLine(first, second)
    curve = QuadraticBezier(first, line.at(0.5), second)
    for t in np.linspace(0, 1, 7):
        for a, b in zip(arrays(line.at(t)), arrays(curve.at(t)), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-14)


@pytest.mark.parametrize("t", [-0.1, 1.0001, np.nan, np.inf])
def test_t_outside_the_curve(t):
    line = StraightLine(random_network(WIDTHS), random_network(WIDTHS))
    with pytest.raises(ValueError, match=r"t must lie in \[0, 1\], got .*: 0 is the first network"):
        line.at(t)


@pytest.mark.parametrize("t", ["0.5", True, None, [0.5]])
def test_t_of_another_type(t):
    network = random_network(WIDTHS)
    with pytest.raises(TypeError, match="t must be a number, got"):
        QuadraticBezier(network, network, network).at(t)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (random_network((3, 5, 5, 2)), r"the same widths, got \(3, 5, 4, 2\) and \(3, 5, 5, 2\)"),
        (random_network((3, 5, 2)), "the same widths"),
        (random_network(WIDTHS, activation="tanh"), "the same activation, got relu and tanh"),
        (random_network(WIDTHS, scaling="standard"), "the same scaling, got mean-field and standard"),
        (random_network(WIDTHS, dtype=np.float32), "the same dtype, got float64 and float32"),
        (
            random_network(WIDTHS, biases=False),
            "presence of biases, got True and False: give the one without biases zeros",
        ),
    ],
)
def test_networks_that_cannot_be_joined(other, message):
    first = random_network(WIDTHS)
    with pytest.raises(ValueError, match=f"first and second must .*{message}"):
        StraightLine(first, other)
    with pytest.raises(ValueError, match=f"first and bend must .*{message}"):
        QuadraticBezier(first, other, first)
    with pytest.raises(ValueError, match="first and second must"):
        QuadraticBezier(first, first, other)


def test_biases_missing_in_the_first():
    with pytest.raises(ValueError, match="presence of biases, got False and True: give the one without biases zeros"):
        StraightLine(random_network(WIDTHS, biases=False), random_network(WIDTHS))


def test_no_networks():
    network = random_network(WIDTHS)
    with pytest.raises(TypeError, match="first and second must be Networks, got str"):
        StraightLine(network, "trained.npz")
    with pytest.raises(TypeError, match="first and second must be Networks, got tuple"):
        StraightLine(network.weights, network)
    with pytest.raises(TypeError, match="first and bend must be Networks, got NoneType"):
        QuadraticBezier(network, None, network)
