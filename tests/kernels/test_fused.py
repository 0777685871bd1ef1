"""The fused pass is an update followed by a product."""

from __future__ import annotations

import numpy as np
import pytest

from meanfield.kernels.fused import FUSED_SAMPLES, update_and_multiply
from meanfield.kernels.lanes import LANE_BYTES


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dim", [1, 2, 33])
@pytest.mark.parametrize("n_vectors", [1, 3])
@pytest.mark.parametrize("shrink", [1.0, 0.75])
def test_equals_two_products(dtype, dim, n_vectors, shrink):
    rng = np.random.default_rng(0)
    lanes = LANE_BYTES // np.dtype(dtype).itemsize
    width = n_vectors * lanes
    shapes = [(FUSED_SAMPLES, width), (dim, width), (dim, FUSED_SAMPLES), (dim, FUSED_SAMPLES)]
    coefficients, weights, past, coming = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    columns = np.ascontiguousarray(weights.reshape(dim, n_vectors, lanes).swapaxes(0, 1))
    moved = shrink * (weights + past @ coefficients)
    expected = coming.T @ moved
    update_and_multiply(coefficients, columns, past, coming, dtype(shrink))
    tolerance = 100 * np.finfo(dtype).eps * dim
    assert np.abs(columns.swapaxes(0, 1).reshape(dim, width) - moved).max() <= tolerance
    assert np.abs(coefficients - expected).max() <= tolerance
