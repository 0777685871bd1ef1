"""Products of few rows are the products, wherever the range of columns is cut."""

from __future__ import annotations

import numpy as np
import pytest

from meanfield.kernels.blas import single_threaded_blas
from meanfield.kernels.products import GROUP, add_rows_by_columns, add_rows_by_rows

PADDING = 3


def _operands(rows, columns, inner, dtype):
    rng = np.random.default_rng(0)
    out, a, by_rows, by_columns = (
        rng.standard_normal(shape).astype(dtype)
        for shape in ((rows, columns), (rows, inner + PADDING), (columns, inner), (inner, columns))
    )
    return out, a, by_rows, by_columns


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("columns", [1, 7, 8, 39])
@pytest.mark.parametrize("inner", [0, 1, 8, 37])
def test_add_the_product_to_the_range_alone(dtype, rows, columns, inner):
    start, a, by_rows, by_columns = _operands(rows, columns, inner, dtype)
    low, high = columns // 4, columns - columns // 8
    for add, b, product in (
        (add_rows_by_rows, by_rows, a[:, :inner].astype(float) @ by_rows.T),
        (add_rows_by_columns, by_columns, a[:, :inner].astype(float) @ by_columns),
    ):
        out, expected = start.copy(), start.astype(float)
        expected[:, low:high] += product[:, low:high]
        add(out, a, b, low, high, rows, inner, 8)
        assert np.abs(out - expected).max() <= 20 * np.finfo(dtype).eps * max(1.0, np.abs(expected).max())
        untouched = np.r_[0:low, high:columns]
        assert np.array_equal(out[:, untouched], start[:, untouched])


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cutting_the_range_at_tiles_changes_no_bit(dtype, rows):
    tile, columns, inner = 4 * GROUP, 157, 83
    start, a, by_rows, by_columns = _operands(rows, columns, inner, dtype)
    for add, b in ((add_rows_by_rows, by_rows), (add_rows_by_columns, by_columns)):
        whole, pieces = start.copy(), start.copy()
        with single_threaded_blas():
            add(whole, a, b, 0, columns, rows, inner, tile)
            for low, high in ((0, tile), (tile, 3 * tile), (3 * tile, columns)):
                add(pieces, a, b, low, high, rows, inner, tile)
        assert np.array_equal(whole, pieces)
