"""The square loss of a kept set as a quadratic form, and the searches among sets that it makes cheap.

With gamma and M of `meanfield.landscape.dropout_moments`, and for a set A of m neurons

    G = sum_{i in A} gamma_i,      q_i = sum_{j in A} M_ij,      Q = sum_{i in A} q_i,

the loss changes by L_A - L = -(2/m) G + Q / m^2. With one neuron i more, or j in the place of i,

    A + i:       -(2/(m+1)) (G + gamma_i) + (Q + 2 q_i + M_ii)/(m+1)^2
    A - i + j:   L_A - L - (2/m)(gamma_j - gamma_i) + (2 (q_j - q_i) + M_ii + M_jj - 2 M_ij)/m^2.

One row of M thus updates q and tells the best next move among all N.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from meanfield.landscape.dropout_moments import NeuronMoments, neuron_moments, pair_rows, pair_table
from meanfield.landscape.evaluation import Evaluation, check_no_overflow
from meanfield.landscape.sweeps import sweep_until_settled
from meanfield.model.network import Network

__all__ = ["QuadraticForm", "exchange_neurons", "quadratic_form", "select_forward", "table_bytes"]

# Gains below this part of their terms are rounding: a search that took them could go in circles.
ROUNDING = 1e-12

Array = NDArray[np.floating[Any]]
Indices = NDArray[np.intp]


class QuadraticForm(NamedTuple):
    """gamma (N,), the diagonal of M (N,), and the row (N,) of M of a given neuron."""

    gamma: Array
    diagonal: Array
    row: Callable[[int], Array]


def quadratic_form(network: Network, evaluation: Evaluation, max_bytes: float) -> QuadraticForm:
    """Return the form of the last hidden layer, all below it whole, on the samples of ``evaluation``.

    All of M is computed at once, O(N^2 n), where `table_bytes` is at most ``max_bytes``; beyond, each row asked
    for takes a pass over the samples, O(N n d), and memory is that of a forward pass.

    Raises
    ------
    ArithmeticError : gamma or the diagonal overflow
    """
    moments = neuron_moments(network, evaluation.x, evaluation.y)
    for moment in (moments.gamma, moments.diagonal):
        check_no_overflow("a second moment of a neuron", moment)
    if table_bytes(network) <= max_bytes:
        row = partial(_row_of, pair_table(network, evaluation.x, moments))
    else:
        row = partial(_computed_row, network, evaluation.x, moments)
    return QuadraticForm(moments.gamma, moments.diagonal, row)


def table_bytes(network: Network) -> int:
    """Return the size of M, 8 N^2 bytes, N neurons in the last hidden layer."""
    return 8 * network.widths[-2] ** 2


def select_forward(form: QuadraticForm, n_kept: int, *, worst: bool = False) -> Indices:
    """Return ``n_kept`` neurons in the order in which each gives the least loss with those before it kept.

    Every first k of them are the greedy set of k. With ``worst`` each gives the largest loss. The first of equals.
    """
    sign, n_neurons = (-1.0 if worst else 1.0), form.gamma.size
    q, free, order = np.zeros(n_neurons), np.ones(n_neurons, np.bool_), np.empty(n_kept, np.intp)
    for m in range(1, n_kept + 1):
        # G and Q are the same for every candidate.
        change = (2 * q + form.diagonal) / m**2 - 2 / m * form.gamma
        best = int(np.where(free, sign * change, np.inf).argmin())
        q += form.row(best)
        free[best], order[m - 1] = False, best
    return order


def exchange_neurons(form: QuadraticForm, kept: Indices, max_sweeps: int) -> Indices:
    """Return a set that no exchange of one neuron improves, reached from ``kept`` by exchanges that do.

    A sweep offers each kept neuron the best of those not kept in its place, O(m N) in all. After ``max_sweeps``
    sweeps with an exchange each the search ends with a warning.
    """
    chosen = kept.copy()
    if chosen.size == form.gamma.size:
        return chosen
    q = np.zeros(form.gamma.size)
    for i in chosen:
        q += form.row(i)
    sweep_until_settled(partial(_sweep, form, chosen, q), max_sweeps)
    return chosen


def _sweep(form: QuadraticForm, chosen: Indices, q: Array) -> bool:
    """Exchange where it lowers the loss, updating ``chosen`` and q; return whether any exchange was made."""
    m, gamma, diagonal = chosen.size, form.gamma, form.diagonal
    tolerance = ROUNDING * (2 / m * np.abs(gamma).max() + (2 * np.abs(q).max() + diagonal.max()) / m**2)
    improved = False
    for position, i in enumerate(chosen):
        row = form.row(i)
        change = (2 * (q - q[i]) + diagonal + diagonal[i] - 2 * row) / m**2 - 2 / m * (gamma - gamma[i])
        change[chosen] = np.inf
        best = int(change.argmin())
        if change[best] < -tolerance:
            q += form.row(best) - row
            chosen[position], improved = best, True
    return improved


def _row_of(table: Array, neuron: int) -> Array:
    return table[neuron]


def _computed_row(network: Network, x: Array, moments: NeuronMoments, neuron: int) -> Array:
    return pair_rows(network, x, moments, np.array([neuron]))[0]
