"""The output layer of multilayer SGD: few rows, moved at once."""

from __future__ import annotations

from meanfield.kernels._jit import jit
from meanfield.kernels.blas import add_product
from meanfield.kernels.losses import loss_and_signal
from meanfield.kernels.multilayer_blocks import layer_weights, share_of
from meanfield.kernels.products import add_columns_by_columns
from meanfield.kernels.vectors import add_multiple, dot, scale

__all__ = ["error_signal", "move_outputs", "sum_tiles"]


@jit
def sum_tiles(parameters, workspace, settings, now, worker):
    """Write the share of each of a thread's tiles in the outputs."""
    last = workspace.features.shape[0] - 1
    weights, features = layer_weights(parameters, settings, last + 1), workspace.features[last, now.place :]
    batch, n_outputs = settings.batch_size, weights.shape[0]
    low, high = share_of(settings.widths[last + 1], settings, worker)
    for start in range(low, high, settings.tile):
        stop = min(start + settings.tile, high)
        partial = workspace.partial[now.number % 2, start // settings.tile]
        partial[:, :] = 0
        if batch == 1:
            for c in range(n_outputs):
                partial[0, c] = dot(weights[c, start:stop], features[0, start:stop])
        else:
            add_product(partial, features[:, start:], weights[:, start:], False, True, batch, n_outputs, stop - start)


@jit
def error_signal(workspace, y, settings, now, worker):
    """Write s times minus the loss's derivative by the outputs for the samples of a step; return their mean loss."""
    signal, bias = workspace.signal[worker.thread], workspace.output_bias[worker.thread]
    partial = workspace.partial[now.number % 2]
    factor = settings.forward_factors[settings.widths.size - 2]
    loss = 0.0
    for b in range(y.shape[0]):
        for c in range(bias.size):
            total = signal.dtype.type(0)
            for tile in range(partial.shape[0]):
                total += partial[tile, b, c]
            signal[b, c] = factor * total + bias[c]
        loss += loss_and_signal(signal[b], y[b], settings.loss)
        scale(signal[b], now.rate)
    return loss / y.shape[0]


@jit
def move_outputs(parameters, workspace, settings, now, worker):
    """Move a thread's output weights, and its copy of the output bias."""
    last = workspace.features.shape[0] - 1
    weights, signal = layer_weights(parameters, settings, last + 1), workspace.signal[worker.thread]
    if settings.trains_weights[last + 1]:
        low, high = share_of(settings.widths[last + 1], settings, worker)
        if settings.weight_decay != 0:
            for c in range(weights.shape[0]):
                scale(weights[c, low:high], now.decay)
        features = workspace.features[last, now.place :]
        add_columns_by_columns(
            weights, signal, features, low, high, weights.shape[0], settings.batch_size, settings.tile
        )
    if settings.trains_biases[last + 1]:
        for b in range(settings.batch_size):
            add_multiple(workspace.output_bias[worker.thread], signal[b], signal.dtype.type(1))
