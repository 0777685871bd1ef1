"""Activations: values and slopes against their formulas, and what is refused."""

import numpy as np
import oracles
import pytest

from meanfield import PiecewiseLinear
from meanfield.kernels.activations import activate, activate_with_slope
from meanfield.model.activations import (
    ACTIVATIONS,
    activation_code,
    check_activation,
    piecewise_linear_form,
)

BENT = PiecewiseLinear([(0.0, -2.5), (0.5, -4.0), (1.5, 7.5)], left_slope=0.5, right_slope=-0.25)
ONE_KNOT = PiecewiseLinear([(0.25, 1.0)], left_slope=-1.0, right_slope=2.0)
EVERY = [*ACTIVATIONS, BENT, ONE_KNOT]
DTYPES = [np.float32, np.float64]


def _values(activation, z):
    h = np.full_like(z, np.nan)
    activate(h, activation_code(activation, z.dtype), z)
    return h


def _values_and_slopes(activation, z):
    h, slope = np.full_like(z, np.nan), np.full_like(z, np.nan)
    activate_with_slope(h, slope, activation_code(activation, z.dtype), z)
    return h, slope


def _grid(dtype):
    tiny = [0.0, 1e-12, -1e-12, 1e-5, -1e-5]
    return np.concatenate([np.linspace(-30, 30, 6001), np.linspace(-1, 2, 1201), tiny]).astype(dtype)


def _within_rounding(values, expected, dtype):
    return (np.abs(values - expected) <= 12 * np.finfo(dtype).eps * np.maximum(1, np.abs(expected))).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", EVERY, ids=str)
def test_values_and_slopes_are_the_formulas(activation, dtype):
    z = _grid(dtype)
    h, slope = _values_and_slopes(activation, z)
    exact = z.astype(np.float64)
    assert h.dtype == slope.dtype == dtype
    assert np.array_equal(_values(activation, z), h)
    assert _within_rounding(h, oracles.activation_value(activation, exact), dtype)
    assert _within_rounding(slope, oracles.activation_slope(activation, exact), dtype)


@pytest.mark.parametrize("activation", EVERY, ids=str)
def test_slopes_are_finite_differences_of_values(activation):
    z, step = np.linspace(-3, 3, 240) + 1e-3, 1e-6
    _, slope = _values_and_slopes(activation, z)
    difference = (_values(activation, z + step) - _values(activation, z - step)) / (2 * step)
    assert np.allclose(slope, difference, rtol=0, atol=2e-8)


@pytest.mark.parametrize("activation", EVERY, ids=str)
def test_nan_stays_nan_and_the_argument_stays_as_it_is(activation):
    z = np.array([0.3, np.nan, 2.0])
    h, _ = _values_and_slopes(activation, z)
    assert np.isnan(h).tolist() == np.isnan(_values(activation, z)).tolist() == [False, True, False]
    assert np.array_equal(z, [0.3, np.nan, 2.0], equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("activation", "low", "high"),
    [
        ("tanh", -1, 1),
        ("erf", -1, 1),
        ("sigmoid", 0, 1),
        ("softplus", 0, 1e30),
        ("truncated-relu", -2.5, 7.5),
    ],
)
def test_limits_far_out(activation, low, high, dtype):
    h, slope = _values_and_slopes(activation, np.array([-1e30, 1e30], dtype))
    assert np.array_equal(h, np.array([low, high], dtype))
    assert np.array_equal(slope, [0, 1 if activation == "softplus" else 0])


def test_slopes_at_kinks_are_the_left_ones():
    assert _values_and_slopes("relu", np.zeros(1))[1] == 0
    assert _values_and_slopes("truncated-relu", np.array([0.5, 1.5]))[1].tolist() == [0, 10]
    assert _values_and_slopes(BENT, np.array([0.0, 0.5, 1.5]))[1].tolist() == [0.5, -3.0, 11.5]


def test_piecewise_linear_keeps_plain_numbers_and_computes_its_slopes():
    assert BENT.knots == ((0.0, -2.5), (0.5, -4.0), (1.5, 7.5))
    assert BENT.slopes.tolist() == [0.5, -3.0, 11.5, -0.25]
    again = PiecewiseLinear(np.array(BENT.knots), BENT.left_slope, BENT.right_slope)
    assert again == BENT
    assert hash(again) == hash(BENT)
    with pytest.raises(AttributeError):
        BENT.left_slope = 1.0


@pytest.mark.parametrize(
    ("knots", "slopes", "match"),
    [
        ([], (), r"at least one, got shape \(0,\)"),
        ([(0.0, 1.0, 2.0)], (), r"pairs .* got shape \(1, 3\)"),
        ([1.0, 2.0], (), r"pairs .* got shape \(2,\)"),
        ([(0.0, np.nan)], (), "must be finite"),
        ([(0.0, 1.0)], (np.inf,), "must be finite"),
        ([(1.0, 0.0), (0.0, 0.0)], (), r"strictly increasing z, got \[1.0, 0.0\]: sort them"),
        ([(1.0, 0.0), (1.0, 2.0)], (), "strictly increasing"),
    ],
)
def test_piecewise_linear_refuses(knots, slopes, match):
    with pytest.raises(ValueError, match=match):
        PiecewiseLinear(knots, *slopes)


def test_piecewise_linear_forms_agree_with_the_named_functions():
    z = np.linspace(-3, 3, 61)
    forms = {name: piecewise_linear_form(name) for name in ACTIVATIONS}
    piecewise = {name for name, form in forms.items() if form is not None}
    assert piecewise == {"relu", "linear", "truncated-relu"}
    for name in piecewise:
        expected = oracles.activation_value(name, z)
        assert np.allclose(oracles.activation_value(forms[name], z), expected, rtol=0, atol=1e-14)
    assert piecewise_linear_form(BENT) is BENT


def test_unknown_names_are_answered_with_the_nearest():
    assert all(check_activation(activation) is activation for activation in EVERY)
    with pytest.raises(ValueError, match="unknown activation 'rleu': did you mean 'relu'"):
        check_activation("rleu")
    with pytest.raises(ValueError, match="unknown activation None"):
        check_activation(None)
