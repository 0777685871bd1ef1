"""Noisy SGD against the exact laws of linear recursions."""

from __future__ import annotations

import numpy as np
import pytest

from meanfield import Empirical, Network, Recording, run_sgd
from meanfield.dynamics import sgd

STEP, DECAY, TEMPERATURE = 0.05, 0.5, 0.3


def _assert_variance(sample, expected, mean=0.0):
    """Mean and variance of independent Gaussians within four standard errors."""
    n = sample.size
    assert abs(sample.mean() - mean) <= 4 * np.sqrt(expected / n)
    assert abs(((sample - mean) ** 2).mean() / expected - 1) <= 4 * np.sqrt(2 / n)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_steps", [1, 7, 60])
def test_ornstein_uhlenbeck_without_a_gradient(dtype, n_steps):
    """Zero inputs and targets leave theta <- rho theta + sqrt(2 s tau) g: variance rho^2 v + 2 s tau a step."""
    network = Network.init((3, 4000, 2), std=0.0, biases=True, dtype=dtype, rng=0)
    law = Empirical(np.zeros((1, 3)), np.zeros((1, 2)))
    final = run_sgd(
        network,
        law,
        step_size=STEP,
        n_steps=n_steps,
        trained=["weight_0", "bias_0"],
        weight_decay=DECAY,
        temperature=TEMPERATURE,
        rng=1,
    ).final
    rho = 1 - 2 * DECAY * STEP
    variance = 2 * STEP * TEMPERATURE * (1 - rho ** (2 * n_steps)) / (1 - rho**2)
    _assert_variance(final.weights[0].astype(float), variance)
    _assert_variance(final.biases[0].astype(float), variance)
    # Control: half of the temperature would be seen.
    with pytest.raises(AssertionError):
        _assert_variance(final.weights[0].astype(float), variance / 2)


def test_stationary_law_of_a_convex_case():
    """With one constant feature the output weights follow a linear recursion with a Gaussian stationary law.

    a_i <- rho a_i + 2 s (y - mean a) + sqrt(2 s tau) g_i: the mean is y / (1 + lambda), its variance is
    2 s tau / (N (1 - (rho - 2 s)^2)), and deviations from it have variance 2 s tau (1 - 1/N) / (1 - rho^2).
    """
    n_neurons, n_steps, target = 50, 60_000, 1.5
    network = Network([np.ones((n_neurons, 1)), np.zeros((1, n_neurons))], activation="linear", scaling="mean-field")
    result = run_sgd(
        network,
        Empirical([[1.0]], [target]),
        step_size=STEP,
        n_steps=n_steps,
        trained=["weight_1"],
        weight_decay=DECAY,
        temperature=TEMPERATURE,
        record=Recording(range(100, n_steps, 100), networks=True),
        rng=3,
    )
    weights = np.array([kept.weights[1][0] for step, kept in result.networks.items() if step < n_steps])
    rho = 1 - 2 * DECAY * STEP
    means = weights.mean(axis=1)
    of_mean = 2 * STEP * TEMPERATURE / n_neurons / (1 - (rho - 2 * STEP) ** 2)
    _assert_variance(means, of_mean, target / (1 + DECAY))
    # Control: without the loss's own restoring force the mean would vary more.
    with pytest.raises(AssertionError):
        _assert_variance(means, 2 * STEP * TEMPERATURE / n_neurons / (1 - rho**2), target / (1 + DECAY))
    spread = 2 * STEP * TEMPERATURE * (1 - 1 / n_neurons) / (1 - rho**2)
    _assert_variance((weights - means[:, np.newaxis]).ravel(), spread)


def test_noise_leaves_the_samples_and_frozen_arrays_alone(monkeypatch):
    monkeypatch.setattr(sgd, "NUMBERS_PER_CHUNK", 20)  # samples are drawn between draws of noise
    rng = np.random.default_rng(0)
    law = Empirical(rng.standard_normal((50, 3)), rng.standard_normal(50))
    network = Network.init((3, 20, 1), biases=True, rng=0)
    plain = run_sgd(network, law, step_size=0.01, n_steps=30, rng=5)
    noisy = run_sgd(network, law, step_size=0.01, n_steps=30, temperature=1e-30, rng=5)
    for first, second in zip(plain.final.weights, noisy.final.weights, strict=True):
        assert np.allclose(first, second, rtol=1e-10, atol=1e-12)
    frozen = run_sgd(network, law, step_size=0.01, n_steps=30, temperature=0.1, trained=["weight_1"], rng=5).final
    assert np.array_equal(frozen.weights[0], network.weights[0])
    assert np.array_equal(frozen.biases[1], network.biases[1])
    assert not np.array_equal(frozen.weights[1], network.weights[1])


def test_same_seed_same_bits_with_recording_and_threads():
    rng = np.random.default_rng(0)
    law = Empirical(rng.standard_normal((50, 200)), rng.standard_normal(50))
    network = Network.init((200, 1200, 1), rng=0)
    options = {"step_size": 0.01, "n_steps": 20, "temperature": 0.1, "weight_decay": 0.01, "rng": 5}
    one = run_sgd(network, law, n_threads=1, **options)
    two = run_sgd(network, law, n_threads=2, record=Recording([3, 11], networks=True), **options)
    assert one.final == two.final
    assert two.networks[11] != two.networks[3]
