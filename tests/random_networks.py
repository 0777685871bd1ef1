"""Networks and samples to test on."""

from __future__ import annotations

import numpy as np

from meanfield import Empirical, Network


def random_network(widths, *, activation="relu", scaling="mean-field", biases=True, seed=0, dtype=np.float64):
    """A network with standard normal weights and biases."""
    rng = np.random.default_rng(seed)
    shapes = list(zip(widths[1:], widths[:-1], strict=True))
    weights = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    offsets = [rng.standard_normal(n).astype(dtype) for n in widths[1:]] if biases else None
    return Network(weights, offsets, activation=activation, scaling=scaling)


def random_samples(loss, n_samples, dim, seed=0):
    """Inputs (n, d), standard normal, and targets (n, C) of the kind that the loss takes; C = 2, 1 or 3."""
    rng = np.random.default_rng(seed)
    targets = {
        "square": rng.standard_normal((n_samples, 2)),
        "logistic": rng.choice([-1.0, 1.0], (n_samples, 1)),
        "cross-entropy": np.eye(3)[rng.integers(3, size=n_samples)],
    }
    return rng.standard_normal((n_samples, dim)), targets[loss]


def random_law(loss, n_samples, dim, seed=0):
    """These samples as a population."""
    return Empirical(*random_samples(loss, n_samples, dim, seed))


def targets_for(loss, y):
    """Targets of the kind that the loss takes, from numbers y (n, C)."""
    if loss == "logistic":
        return np.where(y > 0, 1.0, -1.0)
    return np.eye(y.shape[1])[y.argmax(axis=1)] if loss == "cross-entropy" else y


def arrays_of(network):
    """Weights, then biases."""
    return [*network.weights, *(network.biases or ())]
