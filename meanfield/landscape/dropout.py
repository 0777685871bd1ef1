"""How the loss changes when only some neurons of hidden layers are kept: for all subsets together or for one.

Kept neurons are rescaled by n_neurons / n_kept (`Network.keep`). Where neurons of the last hidden layer alone are
dropped and the loss is the square one, the mean and the standard deviation over all subsets are exact, for every m at
once, by the identities of `meanfield.landscape.dropout_moments`. Otherwise kept sets are drawn
(`meanfield.landscape.orders`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from meanfield.checks import check_integer, check_rng
from meanfield.landscape.counts import (
    Entry,
    by_layer,
    checked_entries,
    fewest_kept,
    hidden_widths,
    only_last_dropped,
)
from meanfield.landscape.dropout_moments import neuron_moments, pair_strength, std_over_subsets
from meanfield.landscape.evaluation import Evaluation, evaluation_on
from meanfield.landscape.orders import drawn_changes
from meanfield.model.laws import Law
from meanfield.model.losses import check_loss
from meanfield.model.network import Network
from meanfield.model.risk import Estimate, check_fit
from meanfield.theory.scaling import finite_population_factor

__all__ = ["dropout_change", "dropout_curve", "neuron_variance"]

# Widest layer whose O(N^2 n) standard deviation is computed unasked.
MAX_UNASKED_WIDTH = 4096

Array = NDArray[np.floating[Any]]
Rng = np.random.Generator | int | None


class _Row(NamedTuple):
    """L_A - L over the subsets of one size: columns of the table."""

    mean_change: float
    std_change: float
    standard_error: float
    method: str
    risk: float


def dropout_curve(
    network: Network,
    law: Law,
    n_kept: Iterable[Entry],
    *,
    loss: str = "square",
    n_samples: int = 10_000,
    rng: Rng = None,
    std: bool | None = None,
    n_subsets: int = 200,
) -> pd.DataFrame:
    """Return the mean and standard deviation of L_A - L over uniformly random sets A of ``n_kept`` neurons.

    Where m of the N neurons of the last (or only) hidden layer are kept and the layers below it whole, with the square
    loss and y_hat = mean_i f_i + bias, one pass over the samples gives the mean for every m::

        E_A[L_A] - L = (N - m) / (m (N - 1)) c_N,      c_N = E_x Var_i f_i(x)

    and a second one the standard deviation. For other losses and layers ``n_subsets`` random orders of each layer's
    neurons are drawn, the same for all entries, and the first m of each kept: nested sets, hence smooth curves.

    Parameters
    ----------
    law : rows of an `Empirical` are the population; of any other law ``n_samples`` fresh samples are drawn
    n_kept : integers in 1..n_neurons, the same in every hidden layer; or tuples of them, one a hidden layer, where
        n_l keeps all of layer l: (m, n_2) drops neurons of the first of two layers alone
    loss : see `meanfield.model.losses`
    rng : Generator or seed, needed where samples or orders are drawn; the samples come first
    std : whether to spend O(N^2 n) on the exact standard deviation; by default up to N = 4096
    n_subsets : random orders, at least 2; of independent orders in every layer each makes one subset an entry

    Returns
    -------
    DataFrame with one row an entry of ``n_kept``, in order:

    - n_kept : the entry
    - mean_change : E_A[L_A] - L, signed
    - std_change : population standard deviation over all A of the loss on these samples, NaN where not
      computed; over drawn sets its estimate
    - standard_error : of mean_change
    - method : all subsets on all rows of an `Empirical` ("exact", standard_error 0), all subsets on fresh
      samples ("sample"), or random orders ("permutations")
    - n_neurons : N, or the tuple of widths of several hidden layers
    - risk : L on the same samples
    - a_min : the least number of neurons kept in a hidden layer

    Where the first two methods occur, ``attrs`` holds c_n and c_n_standard_error of the last hidden layer. Keeping all
    neurons changes nothing, exactly.

    Raises
    ------
    TypeError : entries of ``n_kept`` that are not integers; no ``rng`` where it is needed
    ValueError : no entries, an entry out of range or for another number of layers; an unknown loss or targets
        that do not suit it; a law that does not fit the network

    References
    ----------
    Shevchenko & Mondelli 2020, dropout stability with A of size m, in several layers with A_l.

    See Also
    --------
    dropout_change : one given subset.
    dropout_quantiles : quantiles, from random orders.
    meanfield.landscape.layers.drop_from : a given subset of every layer from one on.
    neuron_variance : c_N alone.
    """
    check_fit(network, law)
    check_loss(loss)
    check_integer("n_subsets", n_subsets, least=2)
    entries = checked_entries(network, n_kept)
    exact = [entry for entry in entries if loss == "square" and only_last_dropped(network, entry)]
    others = [entry for entry in entries if entry not in exact]
    if others:
        generator = check_rng(rng, "dropout_curve with drawn subsets")
        evaluation = evaluation_on(law, loss, n_samples, generator)
        rows = _over_orders(network, evaluation, others, n_subsets, generator)
    else:
        evaluation, rows = evaluation_on(law, loss, n_samples, rng), {}
    solved, attrs = _over_all_subsets(network, evaluation, exact, std) if exact else ({}, {})
    table = _as_table(network, entries, rows | solved)
    table.attrs.update(attrs)
    return table


def neuron_variance(network: Network, law: Law, *, n_samples: int = 10_000, rng: Rng = None) -> Estimate:
    """Return c_N = E_x Var_i f_i(x), the constant of the mean dropout curve, from one pass over the samples.

    The variance is over the N neurons of the last hidden layer (divisor N), summed over outputs, with f_i scaled so
    that y_hat = mean_i f_i + bias: a_i sigma(z_i) in mean-field, N a_i sigma(z_i) in standard scaling.

    Parameters
    ----------
    law : rows of an `Empirical` are the population; of any other law ``n_samples`` fresh samples are drawn
    rng : Generator or seed, needed where samples are drawn

    Raises
    ------
    TypeError : no ``rng`` where samples are drawn
    ValueError : a law that does not fit the network

    See Also
    --------
    dropout_curve : (N - m) / (m (N - 1)) times this.
    """
    check_fit(network, law)
    evaluation = evaluation_on(law, "square", n_samples, rng)
    return evaluation.mean(neuron_moments(network, evaluation.x, evaluation.y).variance)


def dropout_change(
    network: Network,
    law: Law,
    kept: ArrayLike | Sequence[ArrayLike],
    *,
    loss: str = "square",
    n_samples: int = 10_000,
    rng: Rng = None,
) -> Estimate:
    """Return L_A - L for the one set A of ``kept`` neurons, both losses on the same samples.

    Parameters
    ----------
    law : rows of an `Empirical` are the population; of any other law ``n_samples`` fresh samples are drawn
    kept : distinct indices of neurons, one array a hidden layer, or a bare array for the only one
    loss : see `meanfield.model.losses`
    rng : Generator or seed, needed where samples are drawn

    Returns
    -------
    Estimate : standard error of the paired difference; exactly 0 if all neurons are kept, in any order

    Raises
    ------
    TypeError : indices that are not integers; no ``rng`` where samples are drawn
    ValueError : indices out of range, repeated or none, arrays for another number of layers; an unknown loss;
        a law that does not fit the network

    See Also
    --------
    dropout_curve : over all subsets of a size.
    """
    check_fit(network, law)
    check_loss(loss)
    smaller = network.keep(_arrays_by_layer(network, kept))
    if smaller.widths == network.widths:
        # In another order the neurons would add up to other bits.
        smaller = network
    evaluation = evaluation_on(law, loss, n_samples, rng)
    return evaluation.mean(evaluation.losses(smaller) - evaluation.losses(network))


def _over_all_subsets(
    network: Network, evaluation: Evaluation, entries: list[Entry], std: bool | None
) -> tuple[dict[Entry, _Row], dict[str, float]]:
    """Return the row of each entry, neurons of the last hidden layer dropped, and c_N with its standard error."""
    moments = neuron_moments(network, evaluation.x, evaluation.y)
    c_n = evaluation.mean(moments.variance)
    n_neurons, sizes = network.widths[-2], [by_layer(network, entry)[-1] for entry in entries]
    stds = [np.nan] * len(sizes)
    if std or (std is None and n_neurons <= MAX_UNASKED_WIDTH):
        strength = pair_strength(network, evaluation.x, moments)
        stds = [std_over_subsets(moments, strength, m) for m in sizes]
    risk = float(moments.loss.mean())
    rows = {
        entry: _Row(factor * c_n.value, spread, factor * c_n.standard_error, evaluation.method, risk)
        for entry, factor, spread in zip(entries, finite_population_factor(n_neurons, sizes), stds, strict=True)
    }
    return rows, {"c_n": c_n.value, "c_n_standard_error": c_n.standard_error}


def _over_orders(
    network: Network, evaluation: Evaluation, entries: list[Entry], n_orders: int, rng: np.random.Generator
) -> dict[Entry, _Row]:
    """Return the row of each entry from random orders of the neurons."""
    drawn = drawn_changes(network, evaluation, entries, n_orders, rng)
    columns = (drawn.changes.mean(axis=0), drawn.changes.std(axis=0, ddof=1), drawn.standard_error)
    numbers = zip(*(map(float, column) for column in columns), strict=True)
    rows = (_Row(mean, std, error, "permutations", drawn.risk) for mean, std, error in numbers)
    return dict(zip(entries, rows, strict=True))


def _as_table(network: Network, entries: list[Entry], rows: dict[Entry, _Row]) -> pd.DataFrame:
    ordered = pd.DataFrame([rows[entry] for entry in entries])
    return pd.DataFrame(
        {
            "n_kept": entries,
            **{name: ordered[name] for name in ("mean_change", "std_change", "standard_error", "method")},
            "n_neurons": [hidden_widths(network)] * len(entries),
            "risk": ordered["risk"],
            "a_min": [fewest_kept(network, entry) for entry in entries],
        }
    )


def _arrays_by_layer(network: Network, kept: Any) -> Sequence[ArrayLike]:
    """Return one index array a hidden layer; a bare one is the only layer's."""
    nested = isinstance(kept, list | tuple) and any(isinstance(indices, Iterable) for indices in kept)
    return kept if nested or network.n_hidden > 1 else [kept]
