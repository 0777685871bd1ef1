"""E[sigma(u_i) sigma'(v_j)] of all pairs of neurons over Gaussian inputs, in tiles: never the whole N x N matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from meanfield.kernels import gaussian as kernels
from meanfield.kernels.blas import single_threaded_blas
from meanfield.model.gaussian import GaussianNeurons, GaussianPair, needs_orthants, pair_overlap

__all__ = ["Tile", "mean_overlap_tiles", "overlap_tiles"]

Array = NDArray[np.float64]
Tile = tuple[slice, slice, Array]

# Neurons along the sides of a tile of the pair matrix: a tile and its temporaries stay in a core's cache, and of the
# square tiles on the diagonal, half of which is not needed, there is little.
ROWS, COLUMNS = 64, 512


def overlap_tiles(first: GaussianNeurons, second: GaussianNeurons | None = None) -> Iterator[Tile]:
    """Yield (rows, columns, tile), tile = E[sigma(u_rows) sigma'(v_columns)], for all pairs of neurons.

    Without ``second`` the pairs are those of ``first`` with itself, and of the symmetric matrix only tiles on
    and above the diagonal come, those on it square. Memory is a few tiles of `ROWS` x `COLUMNS`.
    """
    other = first if second is None else second
    if _is_centred_erf(first) and _is_centred_erf(other):
        tile = partial(_arcsine_tile, _scaled_weights(first), _scaled_weights(other))
    else:
        tile = partial(_pair_tile, first, other)
    return _tiles(tile, len(first.weights), None if second is None else len(other.weights))


def mean_overlap_tiles(neurons: GaussianNeurons, scales: Sequence[float]) -> Iterator[Tile]:
    """Yield the tiles of `overlap_tiles`, averaged over inputs scale * z for each of ``scales``.

    Scaling inputs scales variances and covariances alike, so that one product of weights serves all.

    Parameters
    ----------
    neurons : under z ~ N(0, I)
    scales : not negative, the largest positive
    """
    centred = _is_centred_erf(neurons)
    tile = _mean_arcsine_tile(neurons, scales) if centred else partial(_mean_pair_tile, neurons, scales)
    return _tiles(tile, len(neurons.weights))


def _tiles(tile: Callable[[slice, slice], Array], n_rows: int, n_columns: int | None = None) -> Iterator[Tile]:
    """Yield the tiles of n_rows x n_columns pairs; of a symmetric matrix, without ``n_columns``, the upper ones.

    BLAS stays on one thread until the last tile is taken, or the iterator is closed.
    """
    with single_threaded_blas():
        for rows in _blocks(0, n_rows, ROWS):
            diagonal = [rows] if n_columns is None else []
            others = _blocks(rows.stop, n_rows, COLUMNS) if n_columns is None else _blocks(0, n_columns, COLUMNS)
            for columns in (*diagonal, *others):
                yield rows, columns, tile(rows, columns)


def _is_centred_erf(neurons: GaussianNeurons) -> bool:
    return neurons.activation == "erf" and not needs_orthants(neurons)


def _scaled_weights(neurons: GaussianNeurons) -> Array:
    """w_i / sqrt(1 + |w_i|^2), whose products are the correlations of the arcsine law."""
    return neurons.weights / np.sqrt(1 + neurons.variances)[:, np.newaxis]


def _arcsine_tile(first: Array, second: Array, rows: slice, columns: slice) -> Array:
    overlap = first[rows] @ second[columns].T
    kernels.arcsine_law(overlap.ravel())
    return overlap


def _mean_arcsine_tile(neurons: GaussianNeurons, scales: Sequence[float]) -> Callable[[slice, slice], Array]:
    """Return the function of rows and columns; correlations at smaller scales are rows and columns shrunk."""
    *others, largest = sorted(scales)
    spread = np.sqrt(1 + largest**2 * neurons.variances)
    weights = neurons.weights * (largest / spread)[:, np.newaxis]
    shrinkages = [(scale / largest) * spread / np.sqrt(1 + scale**2 * neurons.variances) for scale in others]
    # Reused by all tiles: fresh memory would take longer than the product that is saved.
    scratch = np.empty((len(others), ROWS * COLUMNS))

    def tile(rows: slice, columns: slice) -> Array:
        overlap = weights[rows] @ weights[columns].T
        smaller = scratch[:, : overlap.size]
        for correlation, shrinkage in zip(smaller, shrinkages, strict=True):
            shrunk = np.multiply(overlap, shrinkage[rows, np.newaxis], out=correlation.reshape(overlap.shape))
            shrunk *= shrinkage[columns]
        for correlation in (overlap.ravel(), *smaller):
            kernels.arcsine_law(correlation)
        for overlap_at_smaller in smaller:
            overlap += overlap_at_smaller.reshape(overlap.shape)
        overlap *= 1 / len(scales)
        return overlap

    return tile


def _pair_tile(first: GaussianNeurons, second: GaussianNeurons, rows: slice, columns: slice) -> Array:
    return pair_overlap(first.activation, second.activation, _pair(first, second, rows, columns))


def _mean_pair_tile(neurons: GaussianNeurons, scales: Sequence[float], rows: slice, columns: slice) -> Array:
    pair, activation = _pair(neurons, neurons, rows, columns), neurons.activation
    return np.mean([pair_overlap(activation, activation, _scaled(pair, scale)) for scale in scales], axis=0)


def _pair(first: GaussianNeurons, second: GaussianNeurons, rows: slice, columns: slice) -> GaussianPair:
    return GaussianPair(
        first.biases[rows, None], second.biases[columns],
        first.variances[rows, None], second.variances[columns],
        first.weights[rows] @ second.weights[columns].T,
    )  # fmt: skip


def _scaled(pair: GaussianPair, scale: float) -> GaussianPair:
    """Return the pair with inputs, not biases, scaled."""
    variances = (scale**2 * pair.variance_u, scale**2 * pair.variance_v)
    return GaussianPair(pair.mean_u, pair.mean_v, *variances, scale**2 * pair.covariance)


def _blocks(start: int, stop: int, size: int) -> Iterator[slice]:
    for low in range(start, stop, size):
        yield slice(low, min(low + size, stop))
