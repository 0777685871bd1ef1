"""The passes over a tile's neurons for any activation, batch and outputs, one array after the other."""

from __future__ import annotations

from meanfield.kernels._jit import jit_inline
from meanfield.kernels.activations import activate_with_slope
from meanfield.kernels.blas import add_product
from meanfield.kernels.vectors import add_multiple, dot, scale

__all__ = ["backward", "correct_ahead", "forward"]


@jit_inline
def forward(workspace, gram, parameters, settings, tile, start, step, shrink):
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
def correct_ahead(coefficients, gram, settings, done, steps, start, width):
    """At the end of a panel, add the effect of past panels to coming ones, for ``width`` neurons from ``start`` on.

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
        coefficients[now:, start:],
        gram[now:, past:],
        coefficients[past:, start:],
        False,
        False,
        end - now,
        width,
        now - past,
    )


@jit_inline
def backward(workspace, settings, tile, step, rate, decay, shrink, thread):
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
