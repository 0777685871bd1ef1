"""Exact SGD of a network of any depth, with few passes over its weights.

Layer l = 0..H turns the features h of the layer below (h = x for l = 0) into

    z = f W h + b,      h' = sigma(z),      the outputs being z for l = H.

A step moves every layer by W += c h^T, b += c. The coefficients are s times minus the derivative of the loss for
l = H; going down they are c = q (W^T c') sigma'(z), c' those of the layer above. With the multiplier n_{l+1} n_l of an
internal layer, n_1 of the first, n_H of the last, n_l of a hidden bias and 1 of the output bias, this is mean-field
SGD for f = 1 / n_l (l >= 1) and q = 1 / n_{l+1} (l + 1 < H), all other f and q being 1; plain gradients have f = q = 1.

**Opened layer.** Below the first trained layer nothing moves, so that the features it reads are known for a whole
block of samples, and its pre-activations are, exactly,

    z_j = f W h_j + b + sum_{k before j} G_jk c_k,      G = f H H^T (+ 1 for a trained bias),

two matrix products a block and corrections, sub-blocked as in `meanfield.kernels.two_layer`. With the hidden layers
frozen the last of them is opened, without corrections.

**Later hidden layers** read features that depend on the last step. Their weights are passed over twice a step, for
W h and for W^T c, but written once in a span of several steps: between two writes W = W_0 + C^T V, the rows of V and C
being the features and coefficients of the span's samples, so that

    W h = W_0 h + C^T (V h),      W^T c = W_0^T c + V^T (C c).

The output layer has few rows and is moved at once.

Weight decay multiplies W by rho_k = 1 - 2 lambda s_k before each update. With R the product of the rho since the last
write, the identities hold for coefficients divided by R, and the weights are R times their right-hand side.

Neurons are cut into tiles of a fixed number, and outputs are summed over tiles in index order by every thread. Each
thread owns whole tiles of every layer: rows of W for W h, columns for W^T c. The bits therefore depend on shapes and
dtype, never on the number of threads.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from meanfield.kernels._jit import jit
from meanfield.kernels.activations import activate_with_slope
from meanfield.kernels.multilayer_blocks import (
    Parameters,
    Settings,
    Worker,
    Workspace,
    close_block,
    close_layer,
    correct_within_panel,
    layer_weights,
    open_block,
    share_of,
)
from meanfield.kernels.multilayer_outputs import error_signal, move_outputs, sum_tiles
from meanfield.kernels.passes import correct_ahead
from meanfield.kernels.products import add_rows_by_columns, add_rows_by_rows
from meanfield.kernels.threads import wait_for_all
from meanfield.kernels.vectors import add_multiple, copy, scale

__all__ = ["Parameters", "Settings", "Workspace", "train"]


class Step(NamedTuple):
    """Where a step stands in its block and span."""

    number: int  # in the block
    row: int  # of its first sample in the block
    place: int  # of its first sample in the span
    rate: np.floating  # step size a sample of the batch
    decay: np.floating  # rho
    block_shrink: np.floating  # R of the opened layer before the step
    span_shrink: np.floating  # R of later hidden layers before the step


@jit
def train(parameters, losses, workspace, x, y, step_sizes, settings, thread, n_threads):
    """Take ``step_sizes.size`` steps on samples x (n, d), y (n, C), n = steps * batch_size; losses is (steps,).

    ``losses[k]`` receives the mean loss of the samples of step k before that step. Each of ``n_threads`` threads
    calls this function with its own number ``thread``.
    """
    worker = Worker(thread, n_threads)
    batch, n_steps, n_outputs = settings.batch_size, step_sizes.size, workspace.output_bias.shape[1]
    output_bias = parameters.biases[settings.widths.size - 2, :n_outputs]
    copy(workspace.output_bias[thread], output_bias)
    for start in range(0, n_steps, settings.block):
        steps = min(settings.block, n_steps - start)
        block_x, block_y = x[start * batch : (start + steps) * batch], y[start * batch : (start + steps) * batch]
        sizes, block_losses = step_sizes[start : start + steps], losses[start : start + steps]
        open_block(parameters, workspace, block_x, settings, worker)
        shrink = _train_block(parameters, block_losses, workspace, block_y, sizes, settings, worker)
        if settings.moves_hidden:
            close_block(parameters, workspace, block_x, settings, worker, shrink)
        wait_for_all(workspace.arrivals, n_threads)
    if thread == 0:
        copy(output_bias, workspace.output_bias[0])


@jit
def _train_block(parameters, losses, workspace, y, step_sizes, settings, worker):
    """Take the steps of one block; return R, by which the block shrinks the weights of the opened layer."""
    kind, batch, steps = workspace.signal.dtype.type, settings.batch_size, step_sizes.size
    block_shrink = span_shrink = kind(1)
    for number in range(steps):
        rate = kind(step_sizes[number] / batch)
        decay = kind(1 - 2 * settings.weight_decay * step_sizes[number])
        row, place = number * batch, number % settings.span * batch
        now = Step(number, row, place, rate, decay, block_shrink, span_shrink)
        _forward(parameters, workspace, settings, now, worker)
        loss = error_signal(workspace, y[row : row + batch], settings, now, worker)
        if worker.thread == 0:
            losses[number] = loss
        _backward(parameters, workspace, settings, now, worker)
        block_shrink *= decay
        span_shrink *= decay
        if settings.moves_hidden:
            _correct_ahead(workspace, settings, number + 1, steps, worker)
        if settings.defers and ((number + 1) % settings.span == 0 or number + 1 == steps):
            _close_span(parameters, workspace, settings, place + batch, worker, span_shrink)
            span_shrink = kind(1)
    return block_shrink


@jit
def _forward(parameters, workspace, settings, now, worker):
    """Features and slopes of all layers for the samples of a step, and each tile's share of the outputs."""
    if settings.moves_hidden:
        _correct_opened(workspace, settings, now, worker)
    for layer in range(settings.opened, workspace.features.shape[0]):
        if layer > settings.opened:
            wait_for_all(workspace.arrivals, worker.n_threads)
            _propagate(parameters, workspace, settings, now, layer, worker)
        _activate(workspace, settings, now, layer, worker)
    sum_tiles(parameters, workspace, settings, now, worker)
    wait_for_all(workspace.arrivals, worker.n_threads)


@jit
def _row_of(settings, now, layer):
    """Row of the first sample of a step among the coefficients of a layer."""
    return now.row if layer == settings.opened else now.place


@jit
def _correct_opened(workspace, settings, now, worker):
    """Bring a thread's pre-activations of the opened layer up to date."""
    low, high = share_of(settings.widths[settings.opened + 1], settings, worker)
    coefficients = workspace.coefficients[settings.opened]
    for b in range(settings.batch_size):
        z = coefficients[now.row + b, low:high]
        correct_within_panel(z, coefficients, low, workspace.gram, settings, now.number, b)
        if settings.weight_decay != 0:
            scale(z, now.block_shrink)


@jit
def _correct_ahead(workspace, settings, done, steps, worker):
    """At the end of a panel, add what past panels did to a thread's coming pre-activations of the opened layer."""
    low, high = share_of(settings.widths[settings.opened + 1], settings, worker)
    coefficients = workspace.coefficients[settings.opened]
    for start in range(low, high, settings.tile):
        correct_ahead(coefficients, workspace.gram, settings, done, steps, start, min(settings.tile, high - start))


@jit
def _propagate(parameters, workspace, settings, now, layer, worker):
    """Pre-activations of a thread's neurons of a later hidden layer: f R (W_0 h + C^T (V h)) + b."""
    weights, bias = layer_weights(parameters, settings, layer), parameters.biases[layer]
    batch, tile, n_in = settings.batch_size, settings.tile, settings.widths[layer]
    low, high = share_of(weights.shape[0], settings, worker)
    h, z = workspace.features[layer - 1, now.place :], workspace.coefficients[layer, now.place :]
    factor = settings.forward_factors[layer]
    z[:batch, low:high] = 0
    add_rows_by_rows(z, h, weights, low, high, batch, n_in, tile)
    if settings.trains_weights[layer]:
        overlaps, past = workspace.overlaps[worker.thread], workspace.coefficients[layer]
        _inner_products(overlaps, h, workspace.features[layer - 1], batch, now.place, n_in, tile)
        add_rows_by_columns(z, overlaps, past, low, high, batch, now.place, tile)
        factor *= now.span_shrink
    for b in range(batch):
        for i in range(low, high):
            z[b, i] = factor * z[b, i] + bias[i]


@jit
def _activate(workspace, settings, now, layer, worker):
    """Features and slopes of a thread's neurons."""
    low, high = share_of(settings.widths[layer + 1], settings, worker)
    row = _row_of(settings, now, layer)
    for b in range(settings.batch_size):
        z, slopes = workspace.coefficients[layer, row + b, low:high], workspace.slopes[layer, b, low:high]
        activate_with_slope(workspace.features[layer, now.place + b, low:high], slopes, settings.activation, z)


@jit
def _inner_products(overlaps, vectors, past, batch, n_past, size, tile):
    """Inner products of a batch of vectors with what the span has seen of their kind."""
    overlaps[:batch, :n_past] = 0
    add_rows_by_rows(overlaps, vectors, past, 0, n_past, batch, size, tile)


@jit
def _backward(parameters, workspace, settings, now, worker):
    """Turn pre-activations into update coefficients from the last hidden layer down, and move what moves at once."""
    last = workspace.features.shape[0] - 1
    if settings.moves_hidden:
        for layer in range(last, settings.opened - 1, -1):
            _pull_back(parameters, workspace, settings, now, layer + 1, worker)
            _finish_coefficients(parameters, workspace, settings, now, layer, worker)
            if layer > settings.opened:
                wait_for_all(workspace.arrivals, worker.n_threads)
    move_outputs(parameters, workspace, settings, now, worker)


@jit
def _pull_back(parameters, workspace, settings, now, layer, worker):
    """Write q R (W_0^T c + V^T (C c)) for the layer below, c the coefficients of ``layer``, divided by R."""
    weights = layer_weights(parameters, settings, layer)
    batch, tile, n_out = settings.batch_size, settings.tile, weights.shape[0]
    low, high = share_of(settings.widths[layer], settings, worker)
    row, factor = _row_of(settings, now, layer - 1), settings.backward_factors[layer]
    is_output = layer == workspace.coefficients.shape[0]
    c = workspace.signal[worker.thread] if is_output else workspace.coefficients[layer, now.place :]
    below = workspace.coefficients[layer - 1, row:]
    below[:batch, low:high] = 0
    add_rows_by_columns(below, c, weights, low, high, batch, n_out, tile)
    if is_output:
        factor /= now.span_shrink * now.decay
    elif settings.trains_weights[layer]:
        overlaps, past = workspace.overlaps[worker.thread], workspace.features[layer - 1]
        _inner_products(overlaps, c, workspace.coefficients[layer], batch, now.place, n_out, tile)
        add_rows_by_columns(below, overlaps, past, low, high, batch, now.place, tile)
        factor *= now.span_shrink
    for b in range(batch):
        scale(below[b, low:high], factor)


@jit
def _finish_coefficients(parameters, workspace, settings, now, layer, worker):
    """Multiply by the slopes, and move a bias whose layer is not closed with the block."""
    low, high = share_of(settings.widths[layer + 1], settings, worker)
    bias, row = parameters.biases[layer, low:high], _row_of(settings, now, layer)
    shrink, is_opened = now.span_shrink * now.decay, layer == settings.opened
    moves_bias = settings.trains_biases[layer] and not is_opened
    unit = now.span_shrink / now.block_shrink if is_opened else workspace.signal.dtype.type(1)
    if moves_bias:
        scale(bias, now.decay)
    for b in range(settings.batch_size):
        coefficients, slopes = workspace.coefficients[layer, row + b, low:high], workspace.slopes[layer, b, low:high]
        for i in range(coefficients.size):
            coefficients[i] *= unit * slopes[i]
        if moves_bias:
            add_multiple(bias, coefficients, shrink)


@jit
def _close_span(parameters, workspace, settings, n_samples, worker, shrink):
    """Write the span's updates to the later hidden layers, while no thread reads them."""
    wait_for_all(workspace.arrivals, worker.n_threads)
    for layer in range(settings.opened + 1, workspace.features.shape[0]):
        if settings.trains_weights[layer]:
            inputs, coefficients = workspace.features[layer - 1], workspace.coefficients[layer]
            close_layer(parameters, coefficients, inputs, n_samples, settings, layer, worker, shrink)
    wait_for_all(workspace.arrivals, worker.n_threads)
