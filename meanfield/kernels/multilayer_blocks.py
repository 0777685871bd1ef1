"""Opening and closing a block of samples of multilayer SGD: what is done for many samples by one matrix product."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from meanfield.kernels._jit import jit, jit_view
from meanfield.kernels.activations import ActivationCode, activate
from meanfield.kernels.blas import add_product
from meanfield.kernels.blocks import GRAM_ROWS
from meanfield.kernels.threads import wait_for_all
from meanfield.kernels.vectors import add_multiple, scale

__all__ = [
    "Parameters",
    "Settings",
    "Worker",
    "Workspace",
    "block_inputs",
    "close_block",
    "close_layer",
    "correct_within_panel",
    "layer_weights",
    "open_block",
    "share_of",
]


class Parameters(NamedTuple):
    """Arrays overwritten by training; layer l = 0..H has n_{l+1} rows of n_l weights."""

    weights: NDArray[np.floating]  # row after row, layer after layer, with gaps
    biases: NDArray[np.floating]  # (H + 1, widest layer), zeros behind a layer's own


class Settings(NamedTuple):
    """What stays fixed during a run."""

    activation: ActivationCode
    loss: int
    weight_decay: float
    batch_size: int
    opened: int  # the layer whose pre-activations are formed a block at a time; layers below it are frozen
    block: int  # steps between two products with the weights of the opened layer
    span: int  # steps between two writes to the weights of later hidden layers
    panel: int  # steps corrected term by term
    tile: int  # neurons
    moves_hidden: bool  # the opened layer is trained; if not, then the output layer alone
    defers: bool  # weights of later hidden layers are trained
    widths: NDArray[np.int64]  # (H + 2,)
    weight_starts: NDArray[np.int64]  # (H + 1,), where each layer begins
    weight_strides: NDArray[np.int64]  # (H + 1,), from a row to the next
    forward_factors: NDArray[np.floating]  # (H + 1,), of the weighted sums
    backward_factors: NDArray[np.floating]  # (H + 1,), of the sums that bring coefficients from a layer to the last
    trains_weights: NDArray[np.bool_]  # (H + 1,)
    trains_biases: NDArray[np.bool_]  # (H + 1,)


class Workspace(NamedTuple):
    """Scratch; S = block * batch_size samples, B = batch_size, n the widest hidden layer, P tiles of the last."""

    coefficients: NDArray[np.floating]  # (H, S, n): pre-activations, each turned into its update coefficient
    features: NDArray[np.floating]  # (H, S, n): what comes out of each layer
    slopes: NDArray[np.floating]  # (H, B, n)
    gram: NDArray[np.floating]  # (S, S), lower triangle; of blocks of several steps alone
    overlaps: NDArray[np.floating]  # (threads, B, span * B): inner products with what the span has seen; likewise
    partial: NDArray[np.floating]  # (2, P, B, C): outputs of a tile; two, so that one barrier a step is enough
    signal: NDArray[np.floating]  # (threads, B, C): minus the derivative of the loss by the outputs
    output_bias: NDArray[np.floating]  # (threads, C)
    arrivals: NDArray[np.int64]  # (1,), counter of the barrier


class Worker(NamedTuple):
    """One of the threads that share the neurons."""

    thread: int
    n_threads: int


@jit_view
def layer_weights(parameters, settings, layer):
    """Return the weights of ``layer`` as a view, the n_in first columns of (n_out, stride)."""
    start, stride, n_out = settings.weight_starts[layer], settings.weight_strides[layer], settings.widths[layer + 1]
    return parameters.weights[start : start + n_out * stride].reshape((n_out, stride))


@jit_view
def block_inputs(workspace, settings, x):
    """Return what the opened layer reads, one row a sample of the block."""
    return x if settings.opened == 0 else workspace.features[settings.opened - 1]


@jit
def share_of(width, settings, worker):
    """Return the range of neurons, whole tiles of a layer of ``width``, that a thread works on."""
    n_tiles = (width + settings.tile - 1) // settings.tile
    first = worker.thread * n_tiles // worker.n_threads
    last = (worker.thread + 1) * n_tiles // worker.n_threads
    return first * settings.tile, min(last * settings.tile, width)


@jit
def open_block(parameters, workspace, x, settings, worker):
    """Carry all samples of the block to the pre-activations of the opened layer, and form their Gram matrix there."""
    for layer in range(settings.opened + 1):
        inputs = x if layer == 0 else workspace.features[layer - 1]
        _open_layer(parameters, workspace, inputs, x.shape[0], settings, layer, worker)
        if layer < settings.opened:
            wait_for_all(workspace.arrivals, worker.n_threads)
    if settings.moves_hidden and x.shape[0] > settings.batch_size:
        _gram_matrix(workspace.gram, block_inputs(workspace, settings, x), x.shape[0], settings, worker)
    wait_for_all(workspace.arrivals, worker.n_threads)


@jit
def _open_layer(parameters, workspace, inputs, n_samples, settings, layer, worker):
    """Pre-activations f W h + b of a thread's neurons, and their features where they stay for the whole block."""
    weights, bias = layer_weights(parameters, settings, layer), parameters.biases[layer]
    factor = settings.forward_factors[layer]
    z, features = workspace.coefficients[layer], workspace.features[layer]
    low, high = share_of(weights.shape[0], settings, worker)
    for start in range(low, high, settings.tile):
        stop = min(start + settings.tile, high)
        z[:n_samples, start:stop] = 0
        add_product(z[:, start:], inputs, weights[start:], False, True, n_samples, stop - start, settings.widths[layer])
        for sample in range(n_samples):
            for i in range(start, stop):
                z[sample, i] = factor * z[sample, i] + bias[i]
            if layer < settings.opened:
                activate(features[sample, start:stop], settings.activation, z[sample, start:stop])


@jit
def _gram_matrix(gram, inputs, n_samples, settings, worker):
    """Write a thread's share of the lower triangle of f H H^T (+ 1 for a trained bias), in stripes of rows."""
    opened = settings.opened
    factor = settings.forward_factors[opened]
    bias = gram.dtype.type(1 if settings.trains_biases[opened] else 0)
    for start in range(worker.thread * GRAM_ROWS, n_samples, worker.n_threads * GRAM_ROWS):
        stop = min(start + GRAM_ROWS, n_samples)
        gram[start:stop, :stop] = 0
        if settings.trains_weights[opened]:
            add_product(
                gram[start:stop], inputs[start:], inputs, False, True, stop - start, stop, settings.widths[opened]
            )
        for row in range(start, stop):
            for column in range(stop):
                gram[row, column] = factor * gram[row, column] + bias


@jit
def correct_within_panel(z, coefficients, low, gram, settings, step, sample):
    """Add to ``z``, a sample of ``step`` at the neurons from ``low`` on, what the earlier steps of its panel did."""
    batch = settings.batch_size
    for earlier in range(step // settings.panel * settings.panel * batch, step * batch):
        add_multiple(z, coefficients[earlier, low : low + z.size], gram[step * batch + sample, earlier])


@jit
def close_block(parameters, workspace, x, settings, worker, shrink):
    """Apply the block's updates to the opened layer at once: W = R (W + C^T H), b = R (b + C^T 1)."""
    opened, n_samples = settings.opened, x.shape[0]
    if settings.trains_biases[opened]:
        low, high = share_of(settings.widths[opened + 1], settings, worker)
        bias = parameters.biases[opened, low:high]
        scale(bias, shrink)
        for sample in range(n_samples):
            add_multiple(bias, workspace.coefficients[opened, sample, low:high], shrink)
    if settings.trains_weights[opened]:
        inputs = block_inputs(workspace, settings, x)
        close_layer(parameters, workspace.coefficients[opened], inputs, n_samples, settings, opened, worker, shrink)


@jit
def close_layer(parameters, coefficients, inputs, n_samples, settings, layer, worker, shrink):
    """Add the rank-one updates of several samples to a thread's weights: W = R (W + C^T H)."""
    weights, n_in = layer_weights(parameters, settings, layer), settings.widths[layer]
    low, high = share_of(weights.shape[0], settings, worker)
    for start in range(low, high, settings.tile):
        rows = min(settings.tile, high - start)
        add_product(weights[start:], coefficients[:, start:], inputs, True, False, rows, n_in, n_samples)
    if settings.weight_decay != 0:
        for i in range(low, high):
            scale(weights[i, :n_in], shrink)
