"""The few numbers that decide what dropping neurons of the last hidden layer does to the square loss.

With f_i(x) = a_i h_i(x), h_i the layer's N features and a_i the output weights, scaled so that y_hat = mean_i f_i +
bias in both scalings, the residual r = y - y_hat and phi_i = f_i - mean_j f_j, keeping a set A of m of the N neurons,
and the layers below whole, changes the loss by

    L_A - L = -(2/m) sum_{i in A} gamma_i + (1/m^2) sum_{i,j in A} M_ij,
    gamma_i = E[r . phi_i],      M_ij = E[phi_i . phi_j],      sum_i gamma_i = 0,      sum_j M_ij = 0.

*Mean over A.* Two given neurons are both kept with probability m(m-1)/(N(N-1)), and the off-diagonal entries
of M add up to -sum_i M_ii. Hence

    E_A[L_A] - L = (N - m)/(m (N - 1)) c_N,      c_N = mean_i M_ii = E_x Var_i f_i(x).

*Variance over A.* With V = -sum_i M_ii/(2N - 2) and v_i = -(M_ii + V)/(N - 2), the matrix B_ij =
M_ij - v_i - v_j, zero on the diagonal, has zero row sums, and L_A - L is a constant plus
sum_{i in A} alpha_i + (1/m^2) sum_{i,j in A} B_ij with

    alpha_i = -(2/m) gamma_i + (N - 2m)/(m^2 (N - 2)) (M_ii - c_N),      sum_i alpha_i = 0.

These two sums are uncorrelated (Hoeffding's decomposition for sampling without replacement). With p_k the
probability that k given neurons are all kept, the zero row sums give Var(sum_{i,j in A} B_ij) =
2 (p_2 - 2 p_3 + p_4) S, S = sum_ij B_ij^2. Hence, reading 0/0 as 0 for N <= 3,

    Var_A(L_A) = m(N-m)/(N(N-1)) sum_i alpha_i^2 + (2/m^4) m(m-1)(N-m)(N-m-1)/(N(N-1)(N-2)(N-3)) S.

So all m follow from gamma, the diagonal of M and S. As f_i . f_j = (a_i . a_j) h_i h_j, one Gram matrix of
the features h serves any number of outputs. The arithmetic uses h'_i = h_i - mean_j h_j and a'_i =
a_i - mean_j a_j: g_i = a_i h'_i + a'_i mean_j h_j differs from f_i by what all neurons share, which is thus
gone before anything is squared.

References
----------
Shevchenko & Mondelli 2020 for dropout stability; Hoeffding 1948 for the decomposition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from meanfield.kernels.blas import single_threaded_blas
from meanfield.kernels.threads import available_threads
from meanfield.model.network import Network, row_chunks

__all__ = [
    "NeuronMoments",
    "in_order",
    "low_rank_factors",
    "neuron_moments",
    "pair_rows",
    "pair_strength",
    "pair_table",
    "scaled_readout",
    "std_over_subsets",
    "strip_entries",
]

# Rows of the Gram matrix formed at a time. Each strip repeats the forward pass of all neurons from its first
# one on, at d / STRIP of the cost of its products.
STRIP = 512

# Samples on which it is decided whether to centre the features.
TRIAL_SAMPLES = 64

# Each thread holds the features of one chunk of samples: 80 MB at 10,000 neurons.
MAX_THREADS = 8

Array = NDArray[np.floating[Any]]
Item = TypeVar("Item")
Result = TypeVar("Result")


class NeuronMoments(NamedTuple):
    """What one pass over n samples says of N neurons with C outputs; float64 but for the level."""

    loss: Array  # (n,): square loss of the whole network
    variance: Array  # (n,): Var_i f_i(x), summed over outputs
    level: Array  # (n,): mean_j h_j, or 0 where that is of no use, in the network's dtype
    gamma: Array  # (N,)
    diagonal: Array  # (N,): M_ii
    common: Array  # (N,): E[g_i . mean_j g_j]
    tilt: Array  # (C, N): a_i E[level h'_i] + a'_i E[level^2] / 2


class _Readout(NamedTuple):
    """The a_i, scaled so that y_hat = mean_i a_i h_i + bias, and the a'_i; both (C, N), float64."""

    weights: Array
    deviations: Array


class _ChunkSums(NamedTuple):
    """Of one chunk of s samples; the K = 1 + 2C companions are the level, mean_j g_j and r."""

    loss: Array  # (s,)
    variance: Array  # (s,)
    level: Array  # (s,)
    squares: Array  # (N,): sum h'_i^2
    cross: Array  # (K, N): sum companion * h'_i
    with_level: Array  # (K,): sum companion * level


def neuron_moments(network: Network, x: Array, y: Array) -> NeuronMoments:
    """Return the moments of the last hidden layer on x (n, d), y (n, C) from one pass over the samples.

    Memory is that of a forward pass, one chunk of samples a thread.
    """
    readout = scaled_readout(network)
    work = partial(_chunk_sums, network, readout, x, y, _centring_pays(network, readout, x))
    with single_threaded_blas():
        chunks = list(in_order(work, row_chunks(len(x))))
    squares, cross, with_level = (
        np.sum([getattr(chunk, name) for chunk in chunks], axis=0) / len(x)
        for name in ("squares", "cross", "with_level")
    )
    with_mean, with_residual = slice(1, 1 + y.shape[1]), slice(1 + y.shape[1], None)
    common = _with_neurons(readout, cross[with_mean], with_level[with_mean])
    gamma = _with_neurons(readout, cross[with_residual], with_level[with_residual])
    tilt = readout.weights * cross[0] + readout.deviations * (with_level[0] / 2)
    second = (readout.weights**2).sum(axis=0) * squares + 2 * (readout.deviations * tilt).sum(axis=0)
    return NeuronMoments(
        loss=np.concatenate([chunk.loss for chunk in chunks]),
        variance=np.concatenate([chunk.variance for chunk in chunks]),
        level=np.concatenate([chunk.level for chunk in chunks]),
        gamma=gamma - gamma.mean(),
        diagonal=second - 2 * common + common.mean(),
        common=common,
        tilt=tilt,
    )


def pair_strength(network: Network, x: Array, moments: NeuronMoments) -> float:
    """Return S = sum_ij B_ij^2 on the samples x (n, d) of ``moments``, O(N^2 n) for half a symmetric matrix.

    Neither N^2 nor N n numbers are held: a thread needs a few times `STRIP` rows of length N and the features
    of one chunk of samples. Strips are added in order: the bits do not depend on the number of threads.
    """
    n_neurons = moments.gamma.size
    if n_neurons <= 3:
        return 0.0
    total = -moments.diagonal.sum() / (2 * n_neurons - 2)
    v = -(moments.diagonal + total) / (n_neurons - 2)
    work = partial(_strip_strength, network, x, moments.level, *low_rank_factors(scaled_readout(network), moments, v))
    with single_threaded_blas():
        return sum(in_order(work, range(0, n_neurons, STRIP)))


def pair_table(network: Network, x: Array, moments: NeuronMoments) -> Array:
    """Return M (N, N) on the samples x (n, d) of ``moments``, O(N^2 n) for half a symmetric matrix."""
    n_neurons = moments.gamma.size
    factors = low_rank_factors(scaled_readout(network), moments, np.zeros(n_neurons))
    work = partial(strip_entries, network, x, moments.level, *factors)
    table, starts = np.empty((n_neurons, n_neurons)), range(0, n_neurons, STRIP)
    with single_threaded_blas():
        for start, entries in zip(starts, in_order(work, starts), strict=True):
            strip = slice(start, start + STRIP)
            table[strip, start:] = entries
            table[start:, strip] = entries.T
    return table


def pair_rows(network: Network, x: Array, moments: NeuronMoments, neurons: NDArray[np.intp]) -> Array:
    """Return the rows of M of some ``neurons`` (k,), (k, N), from one more pass over the samples x of ``moments``."""
    readout = scaled_readout(network)
    left, right = low_rank_factors(readout, moments, np.zeros(moments.gamma.size))
    work = partial(_gram_rows, network, x, moments.level, neurons)
    with single_threaded_blas():
        entries = np.sum(list(in_order(work, row_chunks(len(x)))), axis=0, dtype=np.float64) / len(x)
        entries *= readout.weights[:, neurons].T @ readout.weights
        return entries + left[:, neurons].T @ right


def std_over_subsets(moments: NeuronMoments, strength: float, n_kept: int) -> float:
    """Return the standard deviation of L_A over all A of ``n_kept`` neurons, given `pair_strength`."""
    n, m = moments.gamma.size, n_kept
    slope = (n - 2 * m) / (m**2 * (n - 2)) if n > 2 else 0.0
    alpha = slope * (moments.diagonal - moments.diagonal.mean()) - 2 / m * moments.gamma
    single = m * (n - m) / (n * (n - 1)) if n > 1 else 0.0
    pairs = m * (m - 1) * (n - m) * (n - m - 1) / (n * (n - 1) * (n - 2) * (n - 3)) if n > 3 else 0.0
    return float(np.sqrt(single * (alpha**2).sum() + 2 / m**4 * pairs * strength))


def scaled_readout(network: Network) -> _Readout:
    """Return the output weights in the convention of the moments."""
    weights = network.weights[-1].astype(np.float64) * (network.widths[-2] * network.factor(network.n_hidden))
    return _Readout(weights, weights - weights.mean(axis=1, keepdims=True))


def _centring_pays(network: Network, readout: _Readout, x: Array) -> bool:
    """Whether a_i h'_i and a'_i level are smaller than the a_i h_i = g_i that they add up to, on a few samples.

    They are where all features share a large part; they are not where a neuron with a large output weight is dead.
    """
    features = network.features(x[:TRIAL_SAMPLES], network.n_hidden).astype(np.float64)
    level = features.mean(axis=1, keepdims=True)
    norms, spread = (readout.weights**2).sum(axis=0), (readout.deviations**2).sum()
    centred = ((features - level) ** 2 @ norms).sum() + (level**2).sum() * spread
    return bool(centred < (features**2 @ norms).sum())


def _chunk_sums(network: Network, readout: _Readout, x: Array, y: Array, centred: bool, rows: slice) -> _ChunkSums:
    features = network.features(x[rows], network.n_hidden)
    residual = y[rows] - network.readout(features).astype(np.float64)
    level = features.mean(axis=1) if centred else np.zeros(len(features), features.dtype)
    features -= level[:, np.newaxis]
    mean, slope = _neuron_means(readout, features)
    companions = np.column_stack([level, mean, residual])
    cross = companions.T.astype(network.dtype) @ features
    squares = np.square(features, out=features)
    return _ChunkSums(
        loss=(residual**2).sum(axis=1),
        variance=np.maximum(_second_moment(readout, squares, level, slope) - (mean**2).sum(axis=1), 0.0),
        level=level,
        squares=squares.sum(axis=0).astype(np.float64),
        cross=cross.astype(np.float64),
        with_level=companions.T @ level.astype(np.float64),
    )


def _neuron_means(readout: _Readout, features: Array) -> tuple[Array, Array]:
    """Return mean_j g_j = mean_j a_j h'_j, (s, C), and mean_j (a_j . a'_j) h'_j, (s,), float64."""
    products = (readout.weights * readout.deviations).sum(axis=0)
    columns = np.vstack([readout.weights, products]).T.astype(features.dtype)
    means = (features @ columns).astype(np.float64) / len(columns)
    return means[:, :-1], means[:, -1]


def _second_moment(readout: _Readout, squares: Array, level: Array, slope: Array) -> Array:
    """Return mean_j |g_j|^2, (s,), float64, from h'_j^2, the level and mean_j (a_j . a'_j) h'_j."""
    norms = (readout.weights**2).sum(axis=0)
    excess = (squares @ norms.astype(squares.dtype)).astype(np.float64) / norms.size
    height = level.astype(np.float64)
    return excess + 2 * height * slope + height**2 * (readout.deviations**2).sum() / norms.size


def _with_neurons(readout: _Readout, cross: Array, with_level: Array) -> Array:
    """Return E[s . g_i], (N,), from E[s h'_i] (C, N) and E[s level] (C,) of a signal s with C outputs."""
    return (readout.weights * cross + readout.deviations * with_level[:, np.newaxis]).sum(axis=0)


def low_rank_factors(readout: _Readout, moments: NeuronMoments, offset: Array) -> tuple[Array, Array]:
    """Return left, right (2C + 2, N): M_ij - v_i - v_j = (a_i . a_j) E[h'_i h'_j] + left_i . right_j, v = ``offset``.

    They hold the terms in E[level h'_i] and E[level^2], the centring of g over neurons, and v_i + v_j.
    """
    shift = moments.common - moments.common.mean() / 2 + offset
    ones = np.ones(shift.size)
    left = np.vstack([moments.tilt, readout.deviations, -shift, ones])
    right = np.vstack([readout.deviations, moments.tilt, ones, -shift])
    return left, right


def _strip_strength(network: Network, x: Array, level: Array, left: Array, right: Array, start: int) -> float:
    """Return the part of S in one strip of rows, from the diagonal on, and in the same columns below it."""
    entries = strip_entries(network, x, level, left, right, start)
    np.fill_diagonal(entries, 0.0)
    square = entries[:, : len(entries)]
    return float(2 * np.vdot(entries, entries) - np.vdot(square, square))


def strip_entries(network: Network, x: Array, level: Array, left: Array, right: Array, start: int) -> Array:
    """Return (a_i . a_j) E[h'_i h'_j] + left_i . right_j for `STRIP` rows i and all j from neuron ``start`` on."""
    weights = scaled_readout(network).weights[:, start:]
    entries = _feature_gram(network, x, level, start)
    entries *= weights[:, : len(entries)].T @ weights
    entries += left[:, start : start + STRIP].T @ right[:, start:]
    return entries


def _feature_gram(network: Network, x: Array, level: Array, start: int) -> Array:
    """Return E[h'_i h'_j] for `STRIP` rows i and all columns j from neuron ``start`` on."""
    below = [np.arange(n) for n in network.widths[1:-2]]
    neurons = network.keep([*below, np.arange(start, network.widths[-2])])
    height = min(STRIP, neurons.widths[-2])
    gram = np.zeros((height, neurons.widths[-2]))
    for rows in row_chunks(len(x)):
        features = neurons.features(x[rows], neurons.n_hidden)
        features -= level[rows, np.newaxis]
        gram += features[:, :height].T @ features
    gram /= len(x)
    return gram


def _gram_rows(network: Network, x: Array, level: Array, neurons: NDArray[np.intp], rows: slice) -> Array:
    """Return the sum of h'_i h'_j over one chunk of samples for some i and all j."""
    features = network.features(x[rows], network.n_hidden)
    features -= level[rows, np.newaxis]
    return features[:, neurons].T @ features


def in_order(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield ``work(item)`` in the order of the items, several of them worked on at a time."""
    with ThreadPoolExecutor(min(available_threads(), MAX_THREADS)) as pool:
        yield from pool.map(work, items)
