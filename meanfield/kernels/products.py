"""Products of few rows with large matrices: one row at the speed of memory, several as BLAS products.

BLAS is called on fixed tiles of columns, so that the bits do not depend on which thread owns how many of them. For one
row no tiles are needed: every number of the result is summed in the same order wherever its range begins, provided
that it begins at a multiple of `GROUP`.
"""

from __future__ import annotations

from meanfield.kernels._jit import jit, jit_sum
from meanfield.kernels.blas import add_product
from meanfield.kernels.vectors import add_multiple, dot

__all__ = ["add_columns_by_columns", "add_rows_by_columns", "add_rows_by_rows"]

# Rows of a matrix read side by side: enough streams for the prefetcher, and one pass over the result for all of them.
GROUP = 8

# Few rows are multiplied in pieces of at most this many results, summed over at most this many terms at a time: so
# small that OpenBLAS does not first copy the large matrix, which would take longer than the product.
SMALL_RESULT = 960
SMALL_INNER = 1024
FEW_ROWS = 32


@jit
def add_rows_by_rows(out, a, b, low, high, rows, inner, tile):
    """Add a b^T to the columns low..high of ``out``: out[r, i] += <a[r], b[i]> over ``inner`` entries.

    ``out`` has ``rows`` rows, as ``a``; rows of all three are contiguous.
    """
    if rows == 1:
        _add_dots(out[0, low:high], a[0, :inner], b[low:high])
        return
    width, depth = tile, max(inner, 1)
    if rows <= FEW_ROWS:
        width, depth = min(tile, SMALL_RESULT // rows // GROUP * GROUP), SMALL_INNER
    for tile_start in range(low, high, tile):
        tile_stop = min(tile_start + tile, high)
        for start in range(tile_start, tile_stop, width):
            columns = min(width, tile_stop - start)
            for k in range(0, inner, depth):
                add_product(out[:, start:], a[:, k:], b[start:, k:], False, True, rows, columns, min(depth, inner - k))


@jit
def add_rows_by_columns(out, a, b, low, high, rows, inner, tile):
    """Add a b to the columns low..high of ``out``: out[r, i] += sum_k a[r, k] b[k, i], k < ``inner``."""
    if rows == 1:
        _add_combination(out[0, low:high], a[0, :inner], b, low)
        return
    depth = max(inner, 1)
    if rows <= FEW_ROWS:
        depth = SMALL_RESULT * SMALL_INNER // (rows * tile) // GROUP * GROUP
    for start in range(low, high, tile):
        columns = min(tile, high - start)
        for k in range(0, inner, depth):
            add_product(out[:, start:], a[:, k:], b[k:, start:], False, False, rows, columns, min(depth, inner - k))


@jit
def add_columns_by_columns(out, a, b, low, high, rows, inner, tile):
    """Add a^T b to the columns low..high of ``out``: out[r, i] += sum_k a[k, r] b[k, i], k < ``inner``."""
    if inner == 1:
        for r in range(rows):
            add_multiple(out[r, low:high], b[0, low:high], a[0, r])
        return
    for start in range(low, high, tile):
        add_product(out[:, start:], a, b[:, start:], True, False, rows, min(tile, high - start), inner)


@jit_sum
def _add_dots(out, vector, matrix):
    kind, n = out.dtype.type, vector.size
    grouped = out.size - out.size % GROUP
    for i in range(0, grouped, GROUP):
        m0, m1, m2, m3 = matrix[i], matrix[i + 1], matrix[i + 2], matrix[i + 3]
        m4, m5, m6, m7 = matrix[i + 4], matrix[i + 5], matrix[i + 6], matrix[i + 7]
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = kind(0)
        for j in range(n):
            v = vector[j]
            s0 += m0[j] * v
            s1 += m1[j] * v
            s2 += m2[j] * v
            s3 += m3[j] * v
            s4 += m4[j] * v
            s5 += m5[j] * v
            s6 += m6[j] * v
            s7 += m7[j] * v
        for k, s in enumerate((s0, s1, s2, s3, s4, s5, s6, s7)):
            out[i + k] += s
    for i in range(grouped, out.size):
        out[i] += dot(matrix[i, :n], vector)


@jit
def _add_combination(out, vector, matrix, low):
    n, high = out.size, low + out.size
    grouped = vector.size - vector.size % GROUP
    for i in range(0, grouped, GROUP):
        m0, m1, m2, m3 = matrix[i, low:high], matrix[i + 1, low:high], matrix[i + 2, low:high], matrix[i + 3, low:high]
        m4, m5, m6, m7 = (
            matrix[i + 4, low:high],
            matrix[i + 5, low:high],
            matrix[i + 6, low:high],
            matrix[i + 7, low:high],
        )
        v0, v1, v2, v3 = vector[i], vector[i + 1], vector[i + 2], vector[i + 3]
        v4, v5, v6, v7 = vector[i + 4], vector[i + 5], vector[i + 6], vector[i + 7]
        for j in range(n):
            near = out[j] + v0 * m0[j] + v1 * m1[j] + v2 * m2[j] + v3 * m3[j]
            out[j] = near + v4 * m4[j] + v5 * m5[j] + v6 * m6[j] + v7 * m7[j]
    for i in range(grouped, vector.size):
        add_multiple(out, matrix[i, low:high], vector[i])
