"""Losses and their derivatives: SciPy's values, finite differences, no overflow."""

from __future__ import annotations

import numpy as np
import pytest
from oracles import loss_of_sample, loss_slope, losses_of_samples

from meanfield.kernels.losses import CROSS_ENTROPY, LOGISTIC, SQUARE, loss_and_signal
from meanfield.model.losses import LOSSES, hold_classes, loss_code, losses_and_signals, per_sample_loss

CASES = {
    "square": (np.array([0.3, -2.0, 1.0]), np.array([1.0, 0.5, -4.0])),
    "logistic": (np.array([-1.0]), np.array([0.7])),
    "cross-entropy": (np.array([0.0, 1.0, 0.0]), np.array([2.0, -1.0, 0.3])),
}


def test_every_loss_has_its_code():
    assert {name: loss_code(name) for name in LOSSES} == {
        "square": SQUARE,
        "logistic": LOGISTIC,
        "cross-entropy": CROSS_ENTROPY,
    }


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("scale", [1.0, 1e-3, 40.0, 5000.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_value_and_derivative(loss, scale, dtype):
    y, y_hat = (array.astype(dtype) for array in CASES[loss])
    y_hat = y_hat * dtype(scale)
    outputs = y_hat.copy()
    value = loss_and_signal(outputs, y, loss_code(loss))
    tolerance = 50 * float(np.finfo(dtype).eps)
    exact_y, exact = y.astype(float), y_hat.astype(float)
    assert value == pytest.approx(loss_of_sample(loss, exact_y, exact), rel=tolerance, abs=tolerance)
    assert outputs == pytest.approx(-loss_slope(loss, exact_y, exact), rel=tolerance, abs=tolerance)
    assert per_sample_loss(loss, y[np.newaxis], y_hat[np.newaxis]) == pytest.approx(
        loss_of_sample(loss, exact_y, exact), rel=1e-12, abs=1e-300
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_derivative_is_that_of_the_value(loss):
    y, y_hat = CASES[loss]
    signal = y_hat.copy()
    loss_and_signal(signal, y, loss_code(loss))
    for c in range(y.size):
        shift = 1e-6 * np.eye(y.size)[c]
        values = [loss_and_signal(y_hat + sign * shift, y, loss_code(loss)) for sign in (1, -1)]
        assert -signal[c] == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
def test_nan_is_carried(loss):
    y, y_hat = CASES[loss]
    outputs = np.full_like(y_hat, np.nan)
    assert np.isnan(loss_and_signal(outputs, y, loss_code(loss)))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_batch_is_its_samples(loss, dtype):
    y, y_hat = CASES[loss]
    targets = np.array([y, y], dtype)
    outputs = np.array([y_hat, 2 * y_hat], dtype)
    kept = outputs.copy()
    losses, signals = losses_and_signals(loss, targets.astype(np.float64), outputs)
    np.testing.assert_array_equal(outputs, kept)
    assert signals.dtype == dtype
    for k in range(2):
        assert loss_and_signal(kept[k], targets[k], loss_code(loss)) == losses[k]
        np.testing.assert_array_equal(kept[k], signals[k])


def test_targets_of_the_wrong_kind_have_no_signals():
    with pytest.raises(ValueError, match="'logistic' does not suit the targets"):
        losses_and_signals("logistic", np.zeros((2, 1)), np.zeros((2, 1)))


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        ([[1.0], [-1.0]], True),
        ([[1.0], [0.0]], False),
        ([[0.0, 1.0], [1.0, 0.0]], True),
        ([[0.0, 1.0], [1.0, 1.0]], False),
        ([[1.0, -1.0]], False),
    ],
)
def test_targets_that_name_classes(y, classes):
    assert hold_classes(np.array(y)) is classes


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_losses_of_many_rows_are_those_of_each_and_leave_their_arguments(loss, dtype):
    rng, n_outputs = np.random.default_rng(0), CASES[loss][0].size
    y_hat = np.asfortranarray(3 * rng.standard_normal((50, n_outputs))).astype(dtype)
    y = {
        "square": rng.standard_normal((50, n_outputs)),
        "logistic": rng.choice([-1.0, 1.0], (50, 1)),
        "cross-entropy": np.eye(n_outputs)[rng.integers(n_outputs, size=50)],
    }[loss].astype(dtype)
    before = y.copy(), y_hat.copy()
    losses = per_sample_loss(loss, y, y_hat)
    exact = losses_of_samples(loss, y.astype(float), y_hat.astype(float))
    assert losses.dtype == np.float64
    np.testing.assert_allclose(losses, exact, rtol=1e-13)
    assert np.array_equal(y, before[0])
    assert np.array_equal(y_hat, before[1])


def test_a_small_cross_entropy_keeps_its_digits():
    y, y_hat = np.array([[0.0, 1.0, 0.0]]), np.array([[-45.0, 0.0, -50.0]])
    exact = np.exp(-45.0) + np.exp(-50.0)
    np.testing.assert_allclose(per_sample_loss("cross-entropy", y, y_hat), exact, rtol=1e-14)


def test_no_samples_have_no_losses():
    assert per_sample_loss("square", np.zeros((0, 2)), np.zeros((0, 2))).shape == (0,)
