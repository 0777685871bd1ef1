"""One pass goes back through a step and on to the next."""

from __future__ import annotations

import numpy as np
import pytest

from meanfield import PiecewiseLinear
from meanfield.kernels._jit import jit
from meanfield.kernels.lanes import LANE_BYTES, VECTORS_PER_RUN
from meanfield.kernels.merged import merged_pass
from meanfield.model.activations import activation_code, piecewise_linear_form

STEPS = 8
ACTIVATIONS = [
    "relu", "linear", "truncated-relu",
    PiecewiseLinear([(0.0, 0.0)], left_slope=0.1, right_slope=1.0),
    PiecewiseLinear([(-0.5, 0.3), (0.0, -2.0), (0.7, 1.0)], left_slope=-0.5, right_slope=2.0),
]  # fmt: skip


@jit
def _pass(coefficients, weights, gram, activation, step, push, n_neurons):
    return merged_pass(coefficients, weights, gram, activation, step, gram.shape[0], push, n_neurons)


def _values_and_slopes(activation, z):
    """sigma and its left derivative, piece by piece."""
    form = piecewise_linear_form(activation)
    knots, values = np.array(form.knots).T
    piece = np.searchsorted(knots, z)
    anchor = np.maximum(piece - 1, 0)
    return values[anchor] + form.slopes[piece] * (z - knots[anchor]), form.slopes[piece]


def _expected(coefficients, weights, gram, activation, step, push, n_neurons):
    coefficients, weights, outputs = coefficients.astype(float), weights.astype(float), 0.0
    if step >= 0:
        features, slopes = _values_and_slopes(activation, coefficients[step])
        coefficients[step] = push * weights * slopes
        weights[:n_neurons] += push * features[:n_neurons]
    if step + 1 < STEPS:
        coefficients[step + 1] += gram[step + 1, : step + 1].astype(float) @ coefficients[: step + 1]
        outputs = weights @ _values_and_slopes(activation, coefficients[step + 1])[0]
    return coefficients, weights, outputs


def _tile(dtype, n_runs, n_empty, seed):
    """Coefficients, output weights and Gram matrix; the last neurons are those that fill up a tile."""
    rng = np.random.default_rng(seed)
    width = n_runs * VECTORS_PER_RUN * LANE_BYTES // np.dtype(dtype).itemsize
    coefficients, weights = rng.standard_normal((STEPS, width)), rng.standard_normal(width)
    coefficients[:, width - n_empty :] = weights[width - n_empty :] = 0
    return coefficients.astype(dtype), weights.astype(dtype), rng.standard_normal((STEPS, STEPS)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize(("n_runs", "n_empty"), [(1, 0), (1, 31), (3, 5)])
@pytest.mark.parametrize("step", range(-1, STEPS))
def test_equals_its_equations(dtype, activation, n_runs, n_empty, step):
    coefficients, weights, gram = _tile(dtype, n_runs, n_empty, seed=step + 1)
    n_neurons, push = weights.size - n_empty, dtype(0.3)
    expected = _expected(coefficients, weights, gram, activation, step, push, n_neurons)
    outputs = _pass(coefficients, weights, gram, activation_code(activation, dtype), step, push, n_neurons)
    tolerance = 100 * np.finfo(dtype).eps * STEPS
    assert np.abs(coefficients - expected[0]).max() <= tolerance
    assert np.abs(weights - expected[1]).max() <= tolerance
    assert abs(outputs - expected[2]) <= tolerance * weights.size
    assert not weights[n_neurons:].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_a_nan_stays_one(dtype, activation):
    coefficients, weights, gram = _tile(dtype, 1, 0, seed=0)
    coefficients[0, 3] = np.nan
    assert np.isnan(_pass(coefficients, weights, gram, activation_code(activation, dtype), 0, dtype(0.3), weights.size))
    assert np.isnan(weights).nonzero()[0].tolist() == [3]
