"""Exact SGD of a two-layer network at matrix-product speed.

Within a block of samples X_b the weights change by rank-one terms only, so the pre-activation of sample j is, exactly,

    z_j = W x_j + b + sum_{k before j} G_jk c_k,      G = X_b X_b^T (+ 1 for a trained bias),

with c_k the coefficients of the update ``W += c_k x_k^T`` that sample k caused. The products W X_b^T at the start of
a block and C^T X_b at its end are all that touches W: two matrix products a block instead of two passes a step.
The corrections are sub-blocked: inside a panel of few samples term by term, between panels by matrix products over
ranges of doubling length, so that each pair (k, j) is visited once. For few inputs `meanfield.kernels.fused` joins the
closing of a block with the opening of the next, and `meanfield.kernels.merged` all that a neuron does from one sample's
error signal to the outputs for the next.

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
from meanfield.kernels.activations import ActivationCode
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
from meanfield.kernels.merged import merged_pass
from meanfield.kernels.passes import backward, correct_ahead, forward
from meanfield.kernels.threads import wait_for_all
from meanfield.kernels.vectors import copy

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
    merged: bool  # one pass over the neurons between the error signals of two steps
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
    gram: NDArray[np.floating]  # (2, S, S), lower triangles, of blocks of several steps; one opens while another closes
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
    one = workspace.signal.dtype.type(1)
    shrink = one
    _lay_out(parameters, workspace, settings, first, last, thread)
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
            if settings.merged:
                _merged_pass(workspace, gram, parameters, settings, tile, start, -1, steps, one)
            else:
                forward(workspace, gram, parameters, settings, tile, start, 0, one)
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
    _write_back(parameters, workspace, settings, first, last, thread)


@jit_inline
def _lay_out(parameters, workspace, settings, first, last, thread):
    """Copy a thread's output weights by tiles, its output bias, and for fused runs the inner weights."""
    copy(workspace.output_bias[thread], parameters.outer_bias)
    for tile in range(first, last):
        for c in range(parameters.outer.shape[0]):
            copy(workspace.outer[tile, c], parameters.outer[c, tile * settings.tile :])
    if settings.fused:
        transpose_inner(parameters, workspace, settings, first, last, thread)


@jit_inline
def _write_back(parameters, workspace, settings, first, last, thread):
    """Write what `_lay_out` copied back."""
    if settings.fused:
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
        rate = kind(step_sizes[start + step] / settings.batch_size)
        decay = kind(1 - 2 * settings.weight_decay * step_sizes[start + step])
        if moves_inner:
            shrink *= decay
        wait_for_all(workspace.arrivals, n_threads)
        loss = _error_signal(workspace, y, settings, thread, start, step)
        if thread == 0:
            losses[start + step] = loss
        if settings.train_outer_bias:
            _update_output_bias(workspace, rate, thread)
        for tile in range(first, last):
            if settings.merged:
                push = rate * workspace.signal[thread, 0, 0]
                _merged_pass(workspace, gram, parameters, settings, tile, start, step, steps, push)
                continue
            backward(workspace, settings, tile, step, rate, decay, shrink, thread)
            if moves_inner:
                correct_ahead(workspace.coefficients[tile], gram, settings, step + 1, steps, 0, settings.tile)
            if step + 1 < steps:
                forward(workspace, gram, parameters, settings, tile, start, step + 1, shrink)
    return shrink


@jit_inline
def _merged_pass(workspace, gram, parameters, settings, tile, start, step, steps, push):
    """Take a tile back through one step and on to the next; write its share of the outputs there."""
    n_neurons = parameters.inner.shape[0] - tile * settings.tile
    coefficients, weights = workspace.coefficients[tile], workspace.outer[tile, 0]
    outputs = merged_pass(coefficients, weights, gram, settings.activation, step, steps, push, n_neurons)
    workspace.partial[(start + step + 1) % 2, tile, 0, 0] = outputs


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
