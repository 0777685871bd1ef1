"""Permuting the hidden neurons of one network to match those of another."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from meanfield.checks import MeanfieldWarning, check_integer, check_positive, check_rng
from meanfield.dynamics.multipliers import sgd_multipliers
from meanfield.kernels.blas import single_threaded_blas
from meanfield.landscape.parameters import check_same_form
from meanfield.model.network import Network

__all__ = ["Alignment", "align"]

# Gains below this part of their terms are rounding: a descent that took them could go in circles.
ROUNDING = 1e-12

Array = NDArray[np.floating[Any]]
Permutations = tuple[NDArray[np.intp], ...]


@dataclass(frozen=True)
class Alignment:
    """Result of `align`.

    Attributes
    ----------
    network : the second network, its hidden neurons permuted: the same function, to rounding
    permutations : one array a hidden layer; neuron i of ``network`` is neuron permutations[l - 1][i] of the second
    cost : squared distance between the first network and ``network``, see `align`
    start_costs : the cost that each start ended with, ``cost`` the least of them
    n_sweeps : sweeps over the layers of all starts together
    n_assignments : assignment problems solved, O(n_l^3) each
    """

    network: Network
    permutations: Permutations
    cost: float
    start_costs: tuple[float, ...]
    n_sweeps: int
    n_assignments: int


def align(
    first: Network,
    second: Network,
    *,
    n_restarts: int = 10,
    max_sweeps: int = 100,
    max_bytes: float = 2**30,
    rng: np.random.Generator | int | None = None,
) -> Alignment:
    """Permute the hidden neurons of ``second`` so that its weights come near those of ``first``.

    Minimised over one permutation a hidden layer is the squared distance

        sum_l |W_l - W'_l|^2 / M_l + sum_{l < H} |b_l - b'_l|^2 / M'_l

    of all weights and hidden biases, in the metric of SGD: M are `meanfield.dynamics.multipliers`. For one hidden
    layer in mean-field scaling that is

        min over permutations p of (1/N) sum_i |theta_i - theta'_p(i)|^2,    theta_i = (a_i, w_i[, b_i]),

    the squared W_2 distance of the two measures of neurons: one linear assignment problem, solved exactly. Lengths
    of permuted weights do not change, so the largest inner product is the least distance.

    With several hidden layers it is a coordinate descent: given the others, the best permutation of one layer is an
    assignment problem, and sweeps over the layers in random order are made until none lowers the distance. It ends
    in a local minimum; of the starts, the neurons in their present order and ``n_restarts`` random orders, the one of
    least distance is kept, so that aligning never takes the networks further apart. The metric matters there: with
    M = 1 the n_l n_{l+1} weights of an internal layer, of order one in mean-field scaling, would drown the others.

    A permutation planted in a copy of a freshly drawn network without biases, in mean-field scaling, with Gaussian
    noise of s times each array's standard deviation added, was found whole in so many of 100 trials:

    | widths (d, N, .., C) | s = 0.25 | 0.35 | 0.4 | 0.5 | 0.75 |
    | --- | --- | --- | --- | --- | --- |
    | (50, 200, 1) | 100 | 100 | 97 | 72 | 0 |
    | (20, 50, 50, 1) | 100 | 100 | 100 | 93 | 34 |
    | (50, 200, 200, 1) | 100 | 100 | 98 | 75 | 1 |

    With one hidden layer a permutation that is missed is not the nearest one any more: more noise than the gaps between
    neurons allow, and no failure of the search.

    Parameters
    ----------
    first, second : of the same widths, activation, scaling and dtype, both with biases or both without
    n_restarts : random starts of several hidden layers
    max_sweeps : bound on the sweeps of one start; a warning says when it was met
    max_bytes : memory for the N x N matrix of an assignment, N the widest hidden layer: 8 N^2 bytes, 8 MB at
        N = 1000 and 800 MB at N = 10,000, besides copies of the weights; more is an error unless allowed here
    rng : Generator or seed, needed with several hidden layers

    Raises
    ------
    TypeError : no networks; no ``rng`` with several hidden layers
    ValueError : networks that differ in shape; a layer too wide for ``max_bytes``

    References
    ----------
    Ainsworth, Hayase & Srinivasa 2023, weight matching, with M = 1.

    See Also
    --------
    meanfield.landscape.curves.StraightLine : to the aligned network, the baseline of a path.
    """
    check_same_form("first and second", first, second)
    check_integer("n_restarts", n_restarts, least=0)
    check_integer("max_sweeps", max_sweeps, least=1)
    _check_memory(first, check_positive("max_bytes", max_bytes))
    if first.n_hidden == 1:
        descents = [_exact(first, second)]
    else:
        generator = check_rng(rng, "align with several hidden layers")
        starts = [_identity(second), *(_random(second, generator) for _ in range(n_restarts))]
        # Pinned once: each small product would do it anew.
        with single_threaded_blas():
            descents = [_descend(first, second, start, max_sweeps, generator) for start in starts]
    return _best(first, second, descents)


@dataclass(frozen=True)
class _Descent:
    """Where a start ended and what it took."""

    permutations: Permutations
    n_sweeps: int


def _exact(first: Network, second: Network) -> _Descent:
    return _Descent(_improved(first, second, _identity(second), 1), 1)


def _descend(
    first: Network, second: Network, start: Permutations, max_sweeps: int, rng: np.random.Generator
) -> _Descent:
    permutations = start
    for sweep in range(1, max_sweeps + 1):
        before = permutations
        for layer in rng.permutation(first.n_hidden) + 1:
            permutations = _improved(first, second, permutations, int(layer))
        if permutations is before:
            return _Descent(permutations, sweep)
    warnings.warn(
        f"the alignment still came nearer after max_sweeps={max_sweeps}: allow more", MeanfieldWarning, stacklevel=3
    )
    return _Descent(permutations, max_sweeps)


def _improved(first: Network, second: Network, permutations: Permutations, layer: int) -> Permutations:
    """Return the permutations with that of ``layer`` the best one given the others; the same object if it was."""
    ours, theirs = _neurons(first, layer), _neurons(second.keep(permutations), layer)
    with single_threaded_blas():
        distance = -ours @ theirs.T
    _, best = linear_sum_assignment(distance)
    gain = np.trace(distance) - distance[np.arange(len(best)), best].sum()
    if gain <= ROUNDING * np.linalg.norm(ours) * np.linalg.norm(theirs):
        return permutations
    return (*permutations[: layer - 1], permutations[layer - 1][best], *permutations[layer:])


def _neurons(network: Network, layer: int) -> NDArray[np.float64]:
    """Return all weights of each neuron of a hidden layer, incoming, outgoing and bias, in the metric of SGD."""
    multipliers = sgd_multipliers(network)
    incoming = network.weights[layer - 1] / np.sqrt(multipliers.weights[layer - 1])
    outgoing = network.weights[layer].T / np.sqrt(multipliers.weights[layer])
    columns = [incoming, outgoing]
    if network.biases is not None:
        columns.append(network.biases[layer - 1][:, np.newaxis] / np.sqrt(multipliers.biases[layer - 1]))
    return np.concatenate(columns, axis=1, dtype=np.float64)


def _best(first: Network, second: Network, descents: list[_Descent]) -> Alignment:
    costs = [_squared_distance(first, second.keep(descent.permutations)) for descent in descents]
    best, n_sweeps = descents[int(np.argmin(costs))], sum(descent.n_sweeps for descent in descents)
    return Alignment(
        network=second.keep(best.permutations),
        permutations=best.permutations,
        cost=min(costs),
        start_costs=tuple(costs),
        n_sweeps=n_sweeps,
        n_assignments=n_sweeps * first.n_hidden,
    )


def _squared_distance(first: Network, second: Network) -> float:
    multipliers = sgd_multipliers(first)
    pairs = list(zip(first.weights, second.weights, multipliers.weights, strict=True))
    if first.biases is not None and second.biases is not None:
        # No permutation moves the output bias.
        pairs += list(zip(first.biases, second.biases, multipliers.biases, strict=True))[:-1]
    return sum(float(np.sum(np.subtract(a, b, dtype=np.float64) ** 2)) / multiplier for a, b, multiplier in pairs)


def _identity(network: Network) -> Permutations:
    return tuple(np.arange(n) for n in network.widths[1:-1])


def _random(network: Network, rng: np.random.Generator) -> Permutations:
    return tuple(rng.permutation(n) for n in network.widths[1:-1])


def _check_memory(network: Network, max_bytes: float) -> None:
    widest = max(network.widths[1:-1])
    if (needed := 8 * widest**2) > max_bytes:
        raise ValueError(
            f"align needs an N x N matrix of 8 N^2 = {needed:,} bytes for N = {widest}, above "
            f"max_bytes={max_bytes:,.0f}: allow more, or align narrower networks"
        )
