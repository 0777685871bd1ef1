"""One network type for every depth and both scalings."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from meanfield.checks import check_choice, check_finite, check_integer, check_rng, check_sequence, check_subset
from meanfield.kernels.activations import activate
from meanfield.kernels.blas import single_threaded_blas
from meanfield.model.activations import (
    Activation,
    activation_arrays,
    activation_code,
    check_activation,
    stored_activation,
)
from meanfield.model.arrays import Array, checked_biases, checked_dtype, checked_weights, stored_layers, take
from meanfield.model.initialisation import PerLayer, draw_weights, weight_law
from meanfield.model.npz import read_npz, write_npz

__all__ = ["SCALINGS", "Network"]

SCALINGS = ("mean-field", "standard")

# Rows of a forward pass worked on at a time: memory is CHUNK * widest layer.
CHUNK = 1024

EVERY = slice(None)


class Network:
    """An immutable fully connected network with ``H`` hidden layers.

        h^1 = sigma(W_0 x + b_0),   h^{l+1} = sigma(f_l W_l h^l + b_l),   y_hat = f_H W_H h^H + b_H

    with ``f_0 = 1`` and, for l >= 1, ``f_l = 1 / n_l`` in mean-field scaling, ``f_l = 1`` in standard scaling.
    Biases carry no factor. Two-layer networks of the literature are ``H = 1``.

    Parameters
    ----------
    weights : H + 1 arrays, weights[l] of shape (n_{l+1}, n_l), all float32 or all float64
    biases : None, or H + 1 arrays of shape (n_{l+1},); a layer without biases has zeros
    activation : name (see `meanfield.model.activations`) or `PiecewiseLinear`
    scaling : "mean-field" or "standard"

    Notes
    -----
    The arrays are kept as read-only views: nothing is copied, and the caller's arrays stay writeable.

    References
    ----------
    Shevchenko & Mondelli 2020, section 2; Araújo, Oliveira & Yukimura 2019 for several layers.
    """

    __slots__ = ("_activation", "_biases", "_scaling", "_weights")

    def __init__(
        self,
        weights: Sequence[Array],
        biases: Sequence[Array] | None = None,
        *,
        activation: Activation,
        scaling: str,
    ) -> None:
        self._activation = check_activation(activation)
        self._scaling = check_choice("scaling", scaling, SCALINGS)
        self._weights = checked_weights(weights)
        self._biases = None if biases is None else checked_biases(biases, self._weights)

    @property
    def weights(self) -> tuple[Array, ...]:
        """Read-only weights, weights[l] of shape (n_{l+1}, n_l)."""
        return self._weights

    @property
    def biases(self) -> tuple[Array, ...] | None:
        """Read-only biases, biases[l] of shape (n_{l+1},), or None."""
        return self._biases

    @property
    def activation(self) -> Activation:
        """Name of the activation, or the `PiecewiseLinear`."""
        return self._activation

    @property
    def scaling(self) -> str:
        """Either "mean-field" or "standard"."""
        return self._scaling

    @property
    def widths(self) -> tuple[int, ...]:
        """``(d, n_1, .., n_H, C)``: inputs, neurons of each hidden layer, outputs."""
        return (self._weights[0].shape[1], *(w.shape[0] for w in self._weights))

    @property
    def n_hidden(self) -> int:
        """Number of hidden layers ``H``."""
        return len(self._weights) - 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of all arrays: float32 or float64."""
        return self._weights[0].dtype

    def factor(self, layer: int) -> float:
        """Return ``f_l``, by which the weighted sum of layer ``l`` is multiplied."""
        return 1.0 if layer == 0 or self._scaling == "standard" else 1.0 / self.widths[layer]

    def predict(self, x: ArrayLike) -> Array:
        """Return ``y_hat`` of shape (n, C) for inputs of shape (n, d), in the network's dtype."""
        inputs = self.check_inputs(x)
        outputs = np.empty((len(inputs), self.widths[-1]), self.dtype)
        for rows in row_chunks(len(inputs)):
            outputs[rows] = self.readout(self._hidden(inputs[rows], self.n_hidden))
        return outputs

    def features(self, x: ArrayLike, layer: int) -> Array:
        """Return the post-activation features ``h^layer``, shape (n, n_layer), for layer in 1..H."""
        check_integer("layer", layer, least=1, most=self.n_hidden)
        inputs = self.check_inputs(x)
        outputs = np.empty((len(inputs), self.widths[layer]), self.dtype)
        for rows in row_chunks(len(inputs)):
            outputs[rows] = self._hidden(inputs[rows], layer)
        return outputs

    def readout(self, features: Array) -> Array:
        """Return the outputs (n, C) for features (n, n_H) of the last hidden layer."""
        return self.affine(features, self.n_hidden)

    def affine(self, h: Array, layer: int, neurons: NDArray[np.intp] | slice = EVERY) -> Array:
        """Return f_l W_l h + b_l for h (n, n_l) that enters ``layer`` l in 0..H, of all n_{l+1} neurons or of some."""
        with single_threaded_blas():
            z = h @ self._weights[layer][neurons].T
        factor = self.factor(layer)
        if factor != 1.0:
            z *= self.dtype.type(factor)
        if self._biases is not None:
            z += self._biases[layer][neurons]
        return z

    def activate(self, z: Array) -> Array:
        """Return sigma(z), of the shape of z, which has the network's dtype."""
        h = np.empty(z.shape, z.dtype)
        activate(h.reshape(-1), activation_code(self._activation, self.dtype), z.reshape(-1))
        return h

    def keep(self, kept: Sequence[ArrayLike]) -> Network:
        """Return the network of the ``kept`` neurons alone, rescaled to stand for the whole.

        Outgoing weights of a layer with m of n neurons kept are multiplied by n / m: in mean-field scaling the
        factor 1 / m does that, in standard scaling the weights are changed. Biases are never rescaled.

        Parameters
        ----------
        kept : one array of distinct neuron indices a hidden layer
        """
        arrays = check_sequence("kept", kept, "index arrays, one a hidden layer", length=self.n_hidden)
        chosen = [
            check_subset(f"kept[{layer - 1}]", indices, self.widths[layer])
            for layer, indices in enumerate(arrays, start=1)
        ]
        weights = list(self._weights)
        biases = None if self._biases is None else list(self._biases)
        for layer, indices in enumerate(chosen, start=1):
            weights[layer - 1] = take(weights[layer - 1], indices, 0)
            weights[layer] = take(weights[layer], indices, 1)
            if self._scaling == "standard":
                weights[layer] = weights[layer] * self.dtype.type(self.widths[layer] / len(indices))
            if biases is not None:
                biases[layer - 1] = take(biases[layer - 1], indices, 0)
        return Network(weights, biases, activation=self._activation, scaling=self._scaling)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an .npz file: weight_0, bias_0, .., activation, scaling; whole or not at all."""
        write_npz(path, dict(self.arrays()))

    def arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield names and arrays of what `save` writes: weights, biases, then scaling and activation."""
        for layer, w in enumerate(self._weights):
            yield f"weight_{layer}", w
        for layer, b in enumerate(self._biases or ()):
            yield f"bias_{layer}", b
        yield "scaling", np.array(self._scaling)
        yield from activation_arrays(self._activation).items()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a network from an .npz file holding weight_0, weight_1, .. [bias_0, ..], activation and scaling.

        A piecewise linear activation is stored as the arrays activation_knots (K, 2) and activation_slopes (2,).
        """
        return cls.from_arrays(read_npz(path), repr(str(path)))

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], source: str) -> Self:
        """Return the network whose `arrays` these are; ``source`` is what errors call them."""
        n_layers, has_biases = stored_layers(arrays, source)
        try:
            return cls(
                [arrays[f"weight_{i}"] for i in range(n_layers)],
                [arrays[f"bias_{i}"] for i in range(n_layers)] if has_biases else None,
                activation=stored_activation(arrays),
                scaling=str(arrays["scaling"]),
            )
        except (ValueError, TypeError) as error:
            raise type(error)(f"{source} is not a saved network: {error}") from error

    @classmethod
    def init(
        cls,
        widths: Sequence[int],
        *,
        activation: Activation = "relu",
        scaling: str = "mean-field",
        biases: bool = False,
        mean: PerLayer = None,
        std: PerLayer = None,
        dtype: DTypeLike = np.float64,
        rng: np.random.Generator | int,
    ) -> Self:
        """Draw a network with independent Gaussian weights and zero biases.

        Weights of layer ``l`` are N(mean_l, std_l^2). Defaults: mean 0; in mean-field scaling std 1 / sqrt(d) for
        the first layer and 1 above, in standard scaling sqrt(g / n_l) with g = 2 for ReLU and 1 otherwise.

        Parameters
        ----------
        widths : (d, n_1, .., n_H, C)
        mean, std : one number for all layers, or one a layer with None for its default; ``std=0`` makes a layer
            constant
        rng : Generator or seed; layer by layer and neuron by neuron, so that the first neurons of a wider two-layer
            network start where those of a narrower one do

        See Also
        --------
        meanfield.model.initialisation : why wide networks of three hidden layers or more need internal weights of
            another mean than 0 to learn, as ``mean=(None, 1.0, 1.0, None), std=(None, 0.1, 0.1, None)``.
        """
        given = check_sequence("widths", widths, "integers (d, n_1, .., n_H, C)")
        sizes = [check_integer(f"widths[{i}]", n, least=1) for i, n in enumerate(given)]
        if len(sizes) < 3:
            raise ValueError(
                f"widths must be (d, n_1, .., n_H, C) with a hidden layer, got {tuple(given)}: pass three numbers or "
                "more, such as (16, 100, 1) for 16 inputs, 100 neurons and one output"
            )
        check_choice("scaling", scaling, SCALINGS)
        kind = checked_dtype("dtype", dtype)
        law = weight_law(sizes, check_activation(activation), scaling, mean, std)
        weights = [w.astype(kind) for w in draw_weights(sizes, law, check_rng(rng, "Network.init"))]
        zeros = [np.zeros(n, kind) for n in sizes[1:]] if biases else None
        return cls(weights, zeros, activation=activation, scaling=scaling)

    def check_inputs(self, x: ArrayLike) -> Array:
        """Return ``x`` as an (n, d) array of the network's dtype; raise on another width or non-finite entries."""
        inputs = np.asarray(x, dtype=self.dtype)
        if inputs.ndim != 2 or inputs.shape[1] != self.widths[0]:
            raise ValueError(f"x must have shape (n, {self.widths[0]}), got {inputs.shape}")
        check_finite("x", inputs)
        return inputs

    def _hidden(self, x: Array, layer: int) -> Array:
        h = x
        for below in range(layer):
            h = self.activate(self.affine(h, below))
        return h

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Network):
            return NotImplemented
        mine, theirs = dict(self.arrays()), dict(other.arrays())
        return mine.keys() == theirs.keys() and all(
            mine[name].dtype == theirs[name].dtype and np.array_equal(mine[name], theirs[name]) for name in mine
        )

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies, and those that other processes get, are read-only too.
        rebuild = partial(Network, activation=self._activation, scaling=self._scaling)
        return rebuild, (self._weights, self._biases)

    def __repr__(self) -> str:
        biases = "" if self._biases is None else ", with biases"
        return f"Network(widths={self.widths}, {self._activation}, {self._scaling}{biases}, {self.dtype})"


def row_chunks(n: int) -> Iterator[slice]:
    """Yield the slices of at most `CHUNK` rows that a pass over ``n`` samples works on in turn."""
    for start in range(0, n, CHUNK):
        yield slice(start, min(start + CHUNK, n))
