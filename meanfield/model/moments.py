"""First and second moments of features and labels under Gaussian laws: all that the square loss needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meanfield.kernels.blas import single_threaded_blas
from meanfield.model.gaussian import (
    GaussianNeurons,
    activation_family,
    first_layer,
    mean_activation,
    needs_orthants,
)
from meanfield.model.laws import AnisotropicGaussians, Law, TeacherStudent
from meanfield.model.network import Network
from meanfield.model.overlaps import Tile, mean_overlap_tiles, overlap_tiles

__all__ = [
    "FeatureMoments",
    "feature_moments",
    "moments_cost",
    "moments_obstacle",
    "output_layer",
    "readout_risk",
]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FeatureMoments:
    """Moments of labels y in R^C and features h = sigma(W_0 x + b_0) in R^N under a law.

    Attributes
    ----------
    label_energy : E |y|^2
    label_mean : (C,), E y
    feature_mean : (N,), E h_i
    correlation : (C, N), E y_c h_i
    overlap_tiles : call it for an iterator over (rows, columns, tile) of the symmetric matrix E h_i h_j, on
        and above the diagonal
    """

    label_energy: float
    label_mean: Array
    feature_mean: Array
    correlation: Array
    overlap_tiles: Callable[[], Iterator[Tile]]


def moments_obstacle(network: Network, law: Law) -> str | None:
    """Say why `feature_moments` does not apply; None if it does."""
    if network.n_hidden != 1:
        return f"closed forms are for one hidden layer, and the network has {network.n_hidden}"
    family = activation_family(network.activation)
    if family is None:
        return f"Gaussian expectations of activation {network.activation!r} have no closed form here"
    if isinstance(law, AnisotropicGaussians):
        return None
    if not isinstance(law, TeacherStudent):
        return f"closed forms are for two Gaussians and for TeacherStudent, not for {type(law).__name__}"
    if law.teacher.n_hidden != 1:
        return f"closed forms are for one hidden layer, and the teacher has {law.teacher.n_hidden}"
    teacher_activation = law.teacher.activation
    if activation_family(teacher_activation) != family:
        return f"the pair of activations {network.activation!r} and {teacher_activation!r} has no closed form"
    return None


def moments_cost(network: Network, law: Law) -> tuple[int, bool]:
    """Return the number of neurons, a teacher's included, and whether pairs take orthant probabilities."""
    layers = [first_layer(network)]
    if isinstance(law, TeacherStudent):
        layers.append(first_layer(law.teacher))
    return sum(len(layer.weights) for layer in layers), any(needs_orthants(layer) for layer in layers)


def feature_moments(network: Network, law: Law) -> FeatureMoments:
    """Return the moments of the hidden features of ``network`` under ``law``, in closed form.

    Mixtures average over their components; a teacher's labels are sums over its neurons, features too.

    Raises
    ------
    ValueError : the closed form does not apply, see `moments_obstacle`
    """
    if obstacle := moments_obstacle(network, law):
        raise ValueError(f"no moments in closed form: {obstacle}")
    with single_threaded_blas():
        if isinstance(law, AnisotropicGaussians):
            return _two_gaussians_moments(network, law)
        assert isinstance(law, TeacherStudent)
        return _teacher_moments(network, law)


def readout_risk(moments: FeatureMoments, readout: Array, bias: Array) -> float:
    """Return E |y - A h - b|^2 of the readout A (C, N) with bias b (C,).

    E |y|^2 - 2 tr(A^T E[y h^T]) + tr(A E[h h^T] A^T) - 2 <b, E y - A E h> + |b|^2
    """
    with single_threaded_blas():
        centered = moments.label_mean - readout @ moments.feature_mean
        energy = _readout_energy(readout, moments.overlap_tiles())
        from_readout = energy - 2 * np.sum(readout * moments.correlation)
        from_bias = bias @ bias - 2 * bias @ centered
    # Rounding may put a risk of zero below it.
    return max(float(moments.label_energy + from_readout + from_bias), 0.0)


def output_layer(network: Network) -> tuple[Array, Array]:
    """Return A (C, N), the last layer's weights times its factor, and its bias (C,), in float64."""
    readout = network.factor(network.n_hidden) * network.weights[-1].astype(np.float64)
    bias = np.zeros(len(readout)) if network.biases is None else network.biases[-1].astype(np.float64)
    return readout, bias


def _two_gaussians_moments(network: Network, law: AnisotropicGaussians) -> FeatureMoments:
    negative, positive = (first_layer(network, _input_std(law, label)) for label in (-1, 1))
    mean_negative, mean_positive = _feature_mean(negative), _feature_mean(positive)

    def tiles() -> Iterator[Tile]:
        if law.n_informative == law.dim:
            return mean_overlap_tiles(first_layer(network), (1 - law.delta, 1 + law.delta))
        return _mean_tiles(negative, positive)

    return FeatureMoments(
        label_energy=1.0,
        label_mean=np.zeros(1),
        feature_mean=0.5 * (mean_positive + mean_negative),
        correlation=0.5 * (mean_positive - mean_negative)[np.newaxis],
        overlap_tiles=tiles,
    )


def _mean_tiles(negative: GaussianNeurons, positive: GaussianNeurons) -> Iterator[Tile]:
    for (rows, columns, first), (_, _, second) in zip(overlap_tiles(negative), overlap_tiles(positive), strict=True):
        first += second
        first *= 0.5
        yield rows, columns, first


def _input_std(law: AnisotropicGaussians, label: int) -> Array:
    """Return the standard deviation of each input given the label."""
    informative = np.arange(law.dim) < law.n_informative
    return np.where(informative, 1 + label * law.delta, 1.0)


def _teacher_moments(network: Network, law: TeacherStudent) -> FeatureMoments:
    student, teacher = first_layer(network), first_layer(law.teacher)
    readout, bias = output_layer(law.teacher)
    signal_mean = readout @ _feature_mean(teacher)
    feature_mean = _feature_mean(student)
    signal_energy = _readout_energy(readout, overlap_tiles(teacher))
    correlation = np.outer(bias, feature_mean)
    for rows, columns, tile in overlap_tiles(teacher, student):
        correlation[:, columns] += readout[:, rows] @ tile
    return FeatureMoments(
        label_energy=float(signal_energy + 2 * bias @ signal_mean + bias @ bias + len(bias) * law.noise**2),
        label_mean=signal_mean + bias,
        feature_mean=feature_mean,
        correlation=correlation,
        overlap_tiles=lambda: overlap_tiles(student),
    )


def _feature_mean(neurons: GaussianNeurons) -> Array:
    return mean_activation(neurons.activation, neurons.biases, neurons.variances)


def _readout_energy(readout: Array, tiles: Iterator[Tile]) -> float:
    """tr(A U A^T) from the tiles of the symmetric U on and above its diagonal."""
    energy = 0.0
    for rows, columns, tile in tiles:
        part = float(np.sum((readout[:, rows] @ tile) * readout[:, columns]))
        energy += part if rows == columns else 2 * part
    return energy
