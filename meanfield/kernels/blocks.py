"""Opening and closing a block of samples: the only places where training touches the inner weights."""

from __future__ import annotations

from meanfield.kernels._jit import jit
from meanfield.kernels.blas import add_product
from meanfield.kernels.fused import update_and_multiply

__all__ = [
    "GRAM_ROWS",
    "close_block",
    "gram_matrix",
    "next_fused_block",
    "next_samples",
    "open_block",
    "transpose_back",
    "transpose_inner",
]

# Rows of the Gram matrix that one thread forms at a time; fixed, so that the bits do not depend on the threads.
GRAM_ROWS = 32


@jit
def gram_matrix(gram, x, settings, thread, n_threads):
    """Write this thread's share of the lower triangle of X X^T (+ 1 for a trained bias), in stripes of rows.

    A block of one step has no use for it: the samples of a batch do not correct each other.
    """
    if settings.block == 1:
        return
    bias = gram.dtype.type(1 if settings.train_inner_bias else 0)
    for start in range(thread * GRAM_ROWS, x.shape[0], n_threads * GRAM_ROWS):
        stop = min(start + GRAM_ROWS, x.shape[0])
        gram[start:stop, :stop] = bias
        if settings.train_inner:
            add_product(gram[start:stop], x[start:stop], x, False, True, stop - start, stop, x.shape[1])


@jit
def open_block(coefficients, parameters, x, settings, tile):
    """Pre-activations of all samples of the block under the present weights: X W^T + b."""
    low = tile * settings.tile
    width = min(settings.tile, parameters.inner.shape[0] - low)
    for sample in range(x.shape[0]):
        for i in range(width):
            coefficients[sample, i] = parameters.inner_bias[low + i]
    add_product(coefficients, x, parameters.inner[low : low + width], False, True, x.shape[0], width, x.shape[1])


@jit
def close_block(parameters, coefficients, x, settings, tile, shrink):
    """Apply the block's updates at once: W = R (W + C^T X), b = R (b + C^T 1)."""
    low = tile * settings.tile
    width = min(settings.tile, parameters.inner.shape[0] - low)
    if settings.train_inner_bias:
        _move_bias(parameters.inner_bias[low : low + width], coefficients, x.shape[0], shrink)
    if settings.train_inner:
        inner = parameters.inner[low : low + width]
        add_product(inner, coefficients, x, True, False, width, x.shape[1], x.shape[0])
        if settings.weight_decay != 0:
            for i in range(width):
                for j in range(inner.shape[1]):
                    inner[i, j] *= shrink


@jit
def next_samples(workspace, x, settings, thread):
    """Turn coming samples into past ones, and x, followed by zeros, into coming ones; a last row is the bias's."""
    past, coming = workspace.samples[thread, 1], workspace.samples[thread, 0]
    kind, dim = coming.dtype.type, x.shape[1]
    for j in range(coming.shape[0]):
        moves = j < dim or settings.train_inner_bias
        for sample in range(coming.shape[1]):
            past[j, sample] = coming[j, sample] if moves else kind(0)
            coming[j, sample] = kind(0)
    for sample in range(x.shape[0]):
        for j in range(dim):
            coming[j, sample] = x[sample, j]
        coming[dim:, sample] = kind(1)


@jit
def next_fused_block(workspace, tile, thread, shrink):
    """Close the last block of a tile by the past samples and open the one of the coming samples."""
    past, coming = workspace.samples[thread, 1], workspace.samples[thread, 0]
    update_and_multiply(workspace.coefficients[tile], workspace.columns[tile], past, coming, shrink)


@jit
def _move_bias(bias, coefficients, n_samples, shrink):
    for sample in range(n_samples):
        for i in range(bias.size):
            bias[i] += coefficients[sample, i]
    for i in range(bias.size):
        bias[i] *= shrink


@jit
def transpose_inner(parameters, workspace, settings, first, last, thread):
    """Lay the inner weights, and the biases if there are any, out for the fused pass, with nothing left to close."""
    workspace.samples[thread] = 0
    dim, lanes = parameters.inner.shape[1], workspace.columns.shape[3]
    for tile in range(first, last):
        workspace.coefficients[tile] = 0
        low = tile * settings.tile
        for i in range(min(settings.tile, parameters.inner.shape[0] - low)):
            column = workspace.columns[tile, i // lanes, :, i % lanes]
            for j in range(dim):
                column[j] = parameters.inner[low + i, j]
            for j in range(dim, column.size):
                column[j] = parameters.inner_bias[low + i]


@jit
def transpose_back(parameters, workspace, settings, first, last):
    """Write the inner weights and biases of the tiles back."""
    dim, lanes = parameters.inner.shape[1], workspace.columns.shape[3]
    for tile in range(first, last):
        low = tile * settings.tile
        for i in range(min(settings.tile, parameters.inner.shape[0] - low)):
            column = workspace.columns[tile, i // lanes, :, i % lanes]
            for j in range(dim):
                parameters.inner[low + i, j] = column[j]
            for j in range(dim, column.size):
                parameters.inner_bias[low + i] = column[j]
