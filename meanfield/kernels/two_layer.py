"""Exact SGD of a two-layer network at matrix-product speed.

Within a block of samples X_b the weights change by rank-one terms only, so the pre-activation of sample j is, exactly,

    z_j = W x_j + b + sum_{k before j} G_jk c_k,      G = X_b X_b^T (+ 1 for a trained bias),

with c_k the coefficients of the update ``W += c_k x_k^T`` that sample k caused. The products W X_b^T at the start of
a block and C^T X_b at its end are all that touches W: two matrix products a block instead of two passes a step.
The corrections are sub-blocked: inside a panel of few samples term by term, between panels by matrix products over
ranges of doubling length, so that each pair (k, j) is visited once. For few inputs `meanfield.kernels.fused` joins the
closing of a block with the opening of the next.

Weight decay multiplies the weights by rho_k = 1 - 2 lambda s_k before each update. With R_j = rho_1 .. rho_{j-1} inside
the block the same identity holds for the scaled coefficients c_k / R_{k+1}, and z_j is R_j times its right-hand side.

Neurons are cut into tiles of a fixed number; outputs are summed over tiles in index order by every thread. The bits
therefore depend on shapes and dtype, never on the number of threads. The last tile is filled up with neurons whose
weights and features are zero and stay so: every loop runs over whole vector registers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from meanfield.kernels._jit import jit, jit_inline
from meanfield.kernels.activations import ActivationCode, activate_with_slope
from meanfield.kernels.blas import add_product
from meanfield.kernels.blocks import (
    close_block,
    gram_matrix,
    next_fused_block,
    next_samples,
    open_block,
    transpose_back,
    transpose_inner,
)
from meanfield.kernels.losses import loss_and_signal
from meanfield.kernels.threads import wait_for_all
from meanfield.kernels.vectors import add_multiple, copy, dot, scale

__all__ = ["Parameters", "Settings", "Workspace", "train"]


class Parameters(NamedTuple):
    """Arrays overwritten by training; N neurons, d inputs, C outputs."""

    inner: NDArray[np.floating]  # (N, d)
    inner_bias: NDArray[np.floating]  # (N,)
    outer: NDArray[np.floating]  # (C, N)
    outer_bias: NDArray[np.floating]  # (C,)


class Settings(NamedTuple):
    """What stays fixed during a run."""

    activation: ActivationCode
    loss: int
    factor: float  # of the output layer: 1 / N or 1
    weight_decay: float
    batch_size: int
    block: int  # steps between two products with the inner weights
    panel: int  # steps corrected term by term
    tile: int  # neurons
    fused: bool  # blocks of eight samples, closed and opened in one pass
    train_inner: bool
    train_inner_bias: bool
    train_outer: bool
    train_outer_bias: bool


class Workspace(NamedTuple):
    """Scratch arrays; S = block * batch_size samples, B = batch_size, P tiles of T neurons.

    C+ is C filled up to a cache line, lest threads that write to neighbouring rows wait for each other.
    """

    coefficients: NDArray[np.floating]  # (P, S, T): pre-activations, each turned into its update coefficient
    outer: NDArray[np.floating]  # (P, C, T): the output weights by tiles
    features: NDArray[np.floating]  # (P, B, T)
    slopes: NDArray[np.floating]  # (P, B, T)
    gram: NDArray[np.floating]  # (2, S, S), lower triangles; two, so that a block can open while another closes
    partial: NDArray[np.floating]  # (2, P, B, C+): outputs of a tile; two, so that one barrier a step is enough
    signal: NDArray[np.floating]  # (threads, B, C+): minus the derivative of the loss by the outputs
    output_bias: NDArray[np.floating]  # (threads, C+)
    columns: NDArray[np.floating]  # (P, T / lanes, d [+ 1], lanes): inner weights [and biases]; of fused runs alone
    samples: NDArray[np.floating]  # (threads, 2, d [+ 1], S): this block's samples and the last one's; likewise
    arrivals: NDArray[np.int64]  # (1,), counter of the barrier


@jit
def train(parameters, losses, workspace, x, y, step_sizes, settings, thread, n_threads):
    """Take ``step_sizes.size`` steps on samples x (n, d), y (n, C), n = steps * batch_size; losses is (steps,).

    ``losses[k]`` receives the mean loss of the samples of step k before that step. Each of ``n_threads`` threads
    calls this function with its own number ``thread``.
    """
    n_tiles = workspace.coefficients.shape[0]
    first, last = thread * n_tiles // n_threads, (thread + 1) * n_tiles // n_threads
    n_steps, batch = step_sizes.size, settings.batch_size
    copy(workspace.output_bias[thread], parameters.outer_bias)
    for tile in range(first, last):
        for c in range(parameters.outer.shape[0]):
            copy(workspace.outer[tile, c], parameters.outer[c, tile * settings.tile :])
    one = workspace.signal.dtype.type(1)
    shrink = one
    if settings.fused:
        transpose_inner(parameters, workspace, settings, first, last, thread)
    for start in range(0, n_steps, settings.block):
        steps = min(settings.block, n_steps - start)
        block_x, block_y = x[start * batch : (start + steps) * batch], y[start * batch : (start + steps) * batch]
        gram = workspace.gram[(start // settings.block) % 2]
        gram_matrix(gram, block_x, settings, thread, n_threads)
        if settings.fused:
            next_samples(workspace, block_x, settings, thread)
        for tile in range(first, last):
            if settings.fused:
                next_fused_block(workspace, tile, thread, shrink)
            else:
                open_block(workspace.coefficients[tile], parameters, block_x, settings, tile)
            _forward(workspace, gram, parameters, settings, tile, start, 0, one)
        shrink = _train_block(
            parameters,
            losses,
            workspace,
            block_y,
            step_sizes,
            settings,
            gram,
            start,
            steps,
            first,
            last,
            thread,
            n_threads,
        )
        if not settings.fused:
            for tile in range(first, last):
                close_block(parameters, workspace.coefficients[tile], block_x, settings, tile, shrink)
    if settings.fused:
        next_samples(workspace, x[:0], settings, thread)
        for tile in range(first, last):
            next_fused_block(workspace, tile, thread, shrink)
        transpose_back(parameters, workspace, settings, first, last)
    for tile in range(first, last):
        for c in range(parameters.outer.shape[0]):
            copy(parameters.outer[c, tile * settings.tile :], workspace.outer[tile, c])
    if thread == 0:
        copy(parameters.outer_bias, workspace.output_bias[0])


@jit_inline
def _train_block(
    parameters, losses, workspace, y, step_sizes, settings, gram, start, steps, first, last, thread, n_threads
):
    """Take the steps of one block, whose first forward pass is done; return R, by which it shrinks the inner weights.

    A tile goes back through one step and on to the next while its part of all arrays is in the first-level cache.
    """
    kind = workspace.signal.dtype.type
    shrink = kind(1)
    moves_inner = settings.train_inner or settings.train_inner_bias
    for step in range(steps):
        wait_for_all(workspace.arrivals, n_threads)
        loss = _error_signal(workspace, y, settings, thread, start, step)
        rate = kind(step_sizes[start + step] / settings.batch_size)
        decay = kind(1 - 2 * settings.weight_decay * step_sizes[start + step])
        if moves_inner:
            shrink *= decay
        if thread == 0:
            losses[start + step] = loss
        if settings.train_outer_bias:
            _update_output_bias(workspace, rate, thread)
        for tile in range(first, last):
            _backward(workspace, settings, tile, step, rate, decay, shrink, thread)
            if moves_inner:
                _correct_ahead(workspace.coefficients[tile], gram, settings, step + 1, steps)
            if step + 1 < steps:
                _forward(workspace, gram, parameters, settings, tile, start, step + 1, shrink)
    return shrink


@jit_inline
def _forward(workspace, gram, parameters, settings, tile, start, step, shrink):
    """Features, slopes and the tile's share of the outputs for the samples of ``step``."""
    batch = settings.batch_size
    for b in range(batch):
        z = workspace.coefficients[tile, step * batch + b]
        if settings.train_inner or settings.train_inner_bias:
            _correct_within_panel(z, workspace.coefficients[tile], gram, settings, step, b)
        if settings.weight_decay != 0:
            scale(z, shrink)
        features = workspace.features[tile, b]
        activate_with_slope(features, workspace.slopes[tile, b], settings.activation, z)
        features[parameters.inner.shape[0] - tile * settings.tile :] = features.dtype.type(0)
        for c in range(workspace.outer.shape[1]):
            workspace.partial[(start + step) % 2, tile, b, c] = dot(workspace.outer[tile, c], features)


@jit_inline
def _correct_within_panel(z, coefficients, gram, settings, step, b):
    """Add to ``z`` what the earlier steps of its panel did to the weights, up to three samples in one pass."""
    batch = settings.batch_size
    row, n = gram[step * batch + b], z.size
    end = step * batch
    for k in range(step // settings.panel * settings.panel * batch, end, 3):
        c0, g0 = coefficients[k], row[k]
        if k + 1 == end:
            add_multiple(z, c0, g0)
        elif k + 2 == end:
            c1, g1 = coefficients[k + 1], row[k + 1]
            for i in range(n):
                z[i] += g0 * c0[i] + g1 * c1[i]
        else:
            c1, c2, g1, g2 = coefficients[k + 1], coefficients[k + 2], row[k + 1], row[k + 2]
            for i in range(n):
                z[i] += g0 * c0[i] + g1 * c1[i] + g2 * c2[i]


@jit_inline
def _correct_ahead(coefficients, gram, settings, done, steps):
    """At the end of a panel, add the effect of past panels to coming ones.

    After p panels the last q of them are applied to the next q, q the largest power of two dividing p: every ordered
    pair of panels is met exactly once, in products as large as possible.
    """
    if done % settings.panel != 0 or done >= steps:
        return
    panels = done // settings.panel
    span = (panels & -panels) * settings.panel
    batch = settings.batch_size
    past, now, end = (done - span) * batch, done * batch, min(done + span, steps) * batch
    add_product(
        coefficients[now:end],
        gram[now:end, past:],
        coefficients[past:now],
        False,
        False,
        end - now,
        settings.tile,
        now - past,
    )


@jit_inline
def _error_signal(workspace, y, settings, thread, start, step):
    """Write minus the loss's derivative by the outputs for the samples of ``step``; return their mean loss."""
    signal, partial, bias = (
        workspace.signal[thread],
        workspace.partial[(start + step) % 2],
        workspace.output_bias[thread],
    )
    kind, n_outputs = signal.dtype.type, workspace.outer.shape[1]
    factor = kind(settings.factor)
    loss = 0.0
    for b in range(settings.batch_size):
        for c in range(n_outputs):
            total = kind(0)
            for tile in range(partial.shape[0]):
                total += partial[tile, b, c]
            signal[b, c] = factor * total + bias[c]
        loss += loss_and_signal(signal[b, :n_outputs], y[step * settings.batch_size + b], settings.loss)
    return loss / settings.batch_size


@jit_inline
def _update_output_bias(workspace, rate, thread):
    signal, bias = workspace.signal[thread], workspace.output_bias[thread]
    for b in range(signal.shape[0]):
        for c in range(workspace.outer.shape[1]):
            bias[c] += rate * signal[b, c]


@jit_inline
def _backward(workspace, settings, tile, step, rate, decay, shrink, thread):
    """Turn the step's pre-activations into update coefficients, divided by R, and move the output weights."""
    batch = settings.batch_size
    signal = workspace.signal[thread]
    coefficients = workspace.coefficients[tile, step * batch : (step + 1) * batch]
    features, slopes = workspace.features[tile], workspace.slopes[tile]
    for c in range(workspace.outer.shape[1]):
        weights = workspace.outer[tile, c]
        for b in range(1 if settings.train_outer else 0, batch):
            _pull_back(coefficients[b], slopes[b], weights, rate / shrink * signal[b, c], c == 0)
        if settings.train_outer:
            pull, push = rate / shrink * signal[0, c], rate * signal[0, c]
            _pull_back_and_move(coefficients[0], slopes[0], weights, features[0], pull, push, decay, c == 0)
            for b in range(1, batch):
                add_multiple(weights, features[b], rate * signal[b, c])


@jit_inline
def _pull_back(coefficient, slope, weights, pull, first):
    """Add ``pull`` times the output weights times the slopes to the coefficients, or write it at first."""
    if first:
        for i in range(weights.size):
            coefficient[i] = pull * weights[i] * slope[i]
    else:
        for i in range(weights.size):
            coefficient[i] += pull * weights[i] * slope[i]


@jit_inline
def _pull_back_and_move(coefficient, slope, weights, features, pull, push, keep, first):
    """Pull back through the output weights and move them, each loaded once."""
    if first:
        for i in range(weights.size):
            coefficient[i] = pull * weights[i] * slope[i]
            weights[i] = keep * weights[i] + push * features[i]
    else:
        for i in range(weights.size):
            coefficient[i] += pull * weights[i] * slope[i]
            weights[i] = keep * weights[i] + push * features[i]
