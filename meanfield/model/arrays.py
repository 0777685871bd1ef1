"""What the arrays of a network must be: weights that follow each other, biases that fit them, one dtype."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from meanfield.checks import check_finite, check_sequence

__all__ = ["Array", "checked_biases", "checked_dtype", "checked_weights", "read_only", "stored_layers", "take"]

Array = NDArray[np.floating[Any]]


def checked_dtype(name: str, dtype: DTypeLike) -> np.dtype[Any]:
    """Return ``dtype`` if it is float32 or float64; TypeError otherwise."""
    try:
        kind = np.dtype(dtype)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be float32 or float64, got {dtype!r}") from None
    if kind not in (np.float32, np.float64):
        raise TypeError(f"{name} must be float32 or float64, got {kind}: convert with .astype(numpy.float64)")
    return kind


def checked_weights(weights: Sequence[Array]) -> tuple[Array, ...]:
    """Return read-only views of two arrays or more, of one dtype, each as wide as the one before is long."""
    given = check_sequence("weights", weights, "arrays, one a layer")
    arrays = tuple(_checked_array(f"weights[{layer}]", w, 2) for layer, w in enumerate(given))
    if len(arrays) < 2:
        raise ValueError(f"a network needs at least two weight arrays (one hidden layer), got {len(arrays)}")
    for layer, (below, above) in enumerate(pairwise(arrays)):
        if above.shape[1] != below.shape[0]:
            raise ValueError(
                f"weights[{layer + 1}] must have {below.shape[0]} columns, one a neuron of weights[{layer}], "
                f"got shape {above.shape}"
            )
    kinds = {w.dtype for w in arrays}
    if len(kinds) > 1:
        raise TypeError(f"all weights must have one dtype, got {sorted(map(str, kinds))}: convert with .astype")
    return arrays


def checked_biases(biases: Sequence[Array], weights: tuple[Array, ...]) -> tuple[Array, ...]:
    """Return read-only views of the ``biases``, one a neuron of the ``weights`` and of their dtype."""
    arrays = check_sequence("biases", biases, "arrays, one a layer")
    if len(arrays) != len(weights):
        raise ValueError(f"biases must be None or {len(weights)} arrays, one a layer, got {len(arrays)}")
    checked = []
    for layer, (bias, w) in enumerate(zip(arrays, weights, strict=True)):
        if bias is None:
            raise TypeError(f"biases[{layer}] is None: give numpy.zeros({w.shape[0]}) for a layer without biases")
        array = _checked_array(f"biases[{layer}]", bias, 1)
        if array.shape != (w.shape[0],) or array.dtype != w.dtype:
            raise ValueError(
                f"biases[{layer}] must have shape ({w.shape[0]},) and dtype {w.dtype}, "
                f"got {array.shape} and {array.dtype}"
            )
        checked.append(array)
    return tuple(checked)


def read_only(array: Array) -> Array:
    """Return a view that cannot be written to; the caller's array stays writeable."""
    view = array.view()
    view.flags.writeable = False
    return view


def take(array: Array, indices: NDArray[np.intp], axis: int) -> Array:
    """Return the entries of ``array`` at these ``indices`` of an axis; itself where they are all in order."""
    # Keeping all neurons must not change a bit: BLAS may sum in another order where the memory layout differs.
    if np.array_equal(indices, np.arange(array.shape[axis])):
        return array
    return np.take(array, indices, axis)


def stored_layers(arrays: Mapping[str, NDArray[Any]], source: str) -> tuple[int, bool]:
    """Return the number of layers of weights in a file, and whether it holds biases.

    ValueError naming the ``source`` where arrays of a saved network are missing, or weights or biases misspelt.
    """
    layers = range(sum(name.startswith("weight_") for name in arrays))
    has_biases = any(name.startswith("bias_") for name in arrays)
    needed = {"weight_0", "scaling", *(f"weight_{i}" for i in layers)}
    needed |= {f"bias_{i}" for i in layers if has_biases}
    needed |= {"activation_slopes"} if "activation_knots" in arrays else {"activation"}
    if missing := needed - set(arrays):
        lacks = ", ".join(sorted(missing))
        raise ValueError(f"{source} is not a saved network: it lacks {lacks}; it holds {sorted(arrays)}")
    if misspelt := {name for name in set(arrays) - needed if name.startswith(("weight", "bias"))}:
        raise ValueError(
            f"{source} holds arrays that would be ignored: {', '.join(sorted(misspelt))}; weights and biases are "
            f"called weight_i and bias_i, i = 0, 1, .."
        )
    return len(layers), has_biases


def _checked_array(name: str, array: Any, ndim: int) -> Array:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a numpy array, got {type(array).__name__}")
    if array.ndim != ndim or array.size == 0:
        raise ValueError(f"{name} must be a non-empty array of {ndim} dimension(s), got shape {array.shape}")
    checked_dtype(name, array.dtype)
    check_finite(name, array)
    return read_only(array)
