"""The arcsine law of the kernel against NumPy's, at every correlation."""

from __future__ import annotations

import numpy as np

from meanfield.kernels.gaussian import arcsine_law


def test_the_arcsine_law_is_numpys_to_a_few_roundings():
    near = 1 - np.logspace(-16, 0, 200)
    rho = np.concatenate([np.linspace(-1, 1, 10_001), near, -near])
    overlap = rho.copy()
    arcsine_law(overlap)
    np.testing.assert_allclose(overlap, 2 / np.pi * np.arcsin(rho), rtol=1e-15, atol=0)


def test_correlations_that_rounding_put_outside_are_clipped_and_nan_stays():
    overlap = np.array([1 + 1e-15, -1 - 1e-15, 1.0, -1.0, 0.0, np.nan])
    arcsine_law(overlap)
    np.testing.assert_allclose(overlap, [1, -1, 1, -1, 0, np.nan], rtol=3e-16, atol=0)
