"""Products of few rows are the products, wherever the range of columns is cut."""

from __future__ import annotations

import numpy as np
import pytest

from meanfield.kernels.blas import single_threaded_blas
from meanfield.kernels.products import GROUP, add_columns_by_columns, add_rows_by_columns, add_rows_by_rows

PADDING = 3

# name: the kernel and whether its two factors are transposed
PRODUCTS = {
    "rows by rows": (add_rows_by_rows, False, True),
    "rows by columns": (add_rows_by_columns, False, False),
    "columns by columns": (add_columns_by_columns, True, False),
}


def _operands(name, rows, columns, inner, dtype):
    """A matrix to add to, and two factors with columns to spare."""
    _, transpose_a, transpose_b = PRODUCTS[name]
    rng = np.random.default_rng(0)
    shapes = [
        (rows, columns),
        (inner, rows)[:: 1 if transpose_a else -1],
        (inner, columns)[:: -1 if transpose_b else 1],
    ]
    out, a, b = (rng.standard_normal((n, m + PADDING)).astype(dtype) for n, m in shapes)
    used = [x[:, :-PADDING].astype(float) for x in (a, b)]
    return out, a, b, (used[0].T if transpose_a else used[0]) @ (used[1].T if transpose_b else used[1])


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [1, 5, 40])
@pytest.mark.parametrize("columns", [1, 7, 8, 39])
@pytest.mark.parametrize("inner", [0, 1, 8, 37])
def test_add_the_product_to_the_range_alone(name, dtype, rows, columns, inner):
    start, a, b, product = _operands(name, rows, columns, inner, dtype)
    low, high = columns // 4, columns - columns // 8
    out, expected = start.copy(), start.astype(float)
    expected[:, low:high] += product[:, low:high]
    PRODUCTS[name][0](out, a, b, low, high, rows, inner, 8)
    assert np.abs(out - expected).max() <= 20 * np.finfo(dtype).eps * max(1.0, np.abs(expected).max())
    untouched = np.r_[0:low, high : columns + PADDING]
    assert np.array_equal(out[:, untouched], start[:, untouched])


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("rows", [1, 3, 20])
def test_many_inner_terms_are_all_there(name, rows):
    start, a, b, product = _operands(name, rows, 130, 5000, np.float64)
    out = start.copy()
    PRODUCTS[name][0](out, a, b, 0, 130, rows, 5000, 64)
    assert np.abs(out[:, :130] - start[:, :130] - product).max() <= 1e-11


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("rows", [1, 3, 20, 40])
@pytest.mark.parametrize("tile", [4 * GROUP, 256])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cutting_the_range_at_tiles_changes_no_bit(name, dtype, tile, rows):
    columns, inner = 5 * tile - 3, 83
    start, a, b, _ = _operands(name, rows, columns, inner, dtype)
    whole, pieces = start.copy(), start.copy()
    add = PRODUCTS[name][0]
    with single_threaded_blas():
        add(whole, a, b, 0, columns, rows, inner, tile)
        for low, high in ((0, tile), (tile, 3 * tile), (3 * tile, columns)):
            add(pieces, a, b, low, high, rows, inner, tile)
    assert np.array_equal(whole, pieces)
    assert not np.array_equal(whole, start)
