"""Sums over joining neurons against a plain NumPy twin."""

from __future__ import annotations

import numpy as np
import pytest

from meanfield.kernels.nested import TILE, joining_sums


def plain_sums(features, weights, joins, n_sizes):
    """sums[p, k, c] = sum over the neurons i with joins[p, i] = k of a_ci h_i."""
    sums = np.zeros((len(joins), n_sizes, len(weights), features.shape[1]))
    for p, row in enumerate(joins):
        for k in range(n_sizes):
            sums[p, k] = weights[:, row == k].astype(float) @ features[row == k].astype(float)
    return sums


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-13), (np.float32, 1e-5)])
@pytest.mark.parametrize(("n_chains", "n_sizes", "n_outputs"), [(1, 1, 1), (3, 4, 1), (2, 5, 3)])
def test_sums_are_those_of_the_neurons_that_join(dtype, rtol, n_chains, n_sizes, n_outputs):
    rng, n_neurons = np.random.default_rng(0), 37
    features = rng.standard_normal((n_neurons, TILE)).astype(dtype)
    weights = rng.standard_normal((n_outputs, n_neurons)).astype(dtype)
    joins = rng.integers(0, n_sizes + 1, (n_chains, n_neurons)).astype(np.uint32)
    sums = np.full((n_chains, n_sizes, n_outputs, TILE), 7.0, dtype)
    joining_sums(sums, features, weights, joins)
    assert (joins == n_sizes).any()
    np.testing.assert_allclose(sums, plain_sums(features, weights, joins, n_sizes), rtol=rtol, atol=rtol)


def test_a_neuron_that_is_not_finite_stays_visible():
    features = np.ones((3, TILE))
    features[1] = np.nan
    sums = np.empty((1, 2, 1, TILE))
    joining_sums(sums, features, np.ones((1, 3)), np.array([[0, 1, 0]], np.uint32))
    assert (sums[0, 0] == 2).all()
    assert np.isnan(sums[0, 1]).all()
