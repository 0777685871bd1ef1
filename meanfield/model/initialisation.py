"""Gaussian initial weights, layer by layer.

In mean-field scaling an average over n zero-mean weights is of order 1 / sqrt(n). Without biases the pre-activations of
all hidden layers but the first then start near 0, and so do the gradients sent back through internal layers: with three
hidden layers or more each internal layer waits for the others, and the wider they are the less is learnt. With two, the
only internal layer joins features of order 1 to output weights of order 1 and learns from the first step on. Internal
weights N(1, 0.1^2) start at order 1 (Nguyen 2019). With more than three layers of weights, i.i.d. ones and no biases,
the weights of one layer still evolve independently of the others' (Nguyen & Pham 2020). `meanfield.movement` measures
how far each layer has moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from meanfield.checks import check_number, check_sequence
from meanfield.model.activations import Activation

__all__ = ["PerLayer", "draw_weights", "weight_law"]

PerLayer = float | Sequence[float | None] | None
MeanAndStd = tuple[float, float]


def weight_law(
    widths: Sequence[int], activation: Activation, scaling: str, mean: PerLayer, std: PerLayer
) -> list[MeanAndStd]:
    """Return the mean and standard deviation of each layer's weights; None stands for defaults, of all layers or one.

    The default mean is 0. The default standard deviations are 1 / sqrt(d) for the first layer and 1 above in
    mean-field scaling, sqrt(g / n_l) with g = 2 for ReLU and 1 otherwise in standard scaling.
    """
    n_layers = len(widths) - 1
    means = _per_layer("mean", mean, [0.0] * n_layers)
    stds = _per_layer("std", std, _default_std(widths, activation, scaling))
    return list(zip(means, stds, strict=True))


def draw_weights(
    widths: Sequence[int], law: Sequence[MeanAndStd], rng: np.random.Generator
) -> list[NDArray[np.float64]]:
    """Draw weights[l] of shape (n_{l+1}, n_l), each layer from a stream of its own.

    The first layers are drawn row by row and the last one column by column, that is neuron by neuron: the first
    neurons of a wider two-layer network start where those of a narrower one do.
    """
    weights = []
    for layer, (stream, (mean, std)) in enumerate(zip(rng.spawn(len(law)), law, strict=True)):
        n_in, n_out = widths[layer], widths[layer + 1]
        is_last = layer == len(law) - 1
        normals = stream.standard_normal((n_in, n_out)).T if is_last else stream.standard_normal((n_out, n_in))
        weights.append(np.ascontiguousarray(mean + std * normals))
    return weights


def _default_std(widths: Sequence[int], activation: Activation, scaling: str) -> list[float]:
    if scaling == "mean-field":
        return [1 / float(np.sqrt(widths[0]))] + [1.0] * (len(widths) - 2)
    gain = 2.0 if activation == "relu" else 1.0
    return [float(np.sqrt(gain / n_in)) for n_in in widths[:-1]]


def _per_layer(name: str, value: PerLayer, default: list[float]) -> list[float]:
    if value is None:
        return default
    given = [value] * len(default) if isinstance(value, Real) else check_sequence(name, value, "numbers, one a layer")
    if len(given) != len(default):
        raise ValueError(f"{name} must be one number or one a layer ({len(default)}), got {len(given)}")
    values = [check_number(name, usual if one is None else one) for one, usual in zip(given, default, strict=True)]
    if not np.isfinite(values).all() or (name == "std" and min(values) < 0):
        raise ValueError(f"{name} must be finite{' and not negative' if name == 'std' else ''}, got {values}")
    return values
