"""How the loss changes when only m neurons of a hidden layer are kept: for all subsets together or for one.

Kept neurons are rescaled by n_neurons / n_kept (`Network.keep`). For one hidden layer and the square loss
the mean and the standard deviation over all subsets are exact, for every m at once, by the identities of
`meanfield.landscape.dropout_moments`. Otherwise sets are drawn (`meanfield.landscape.permutations`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from meanfield.checks import check_integer, check_rng
from meanfield.landscape.counts import Entry, by_layer, checked_entries, hidden_widths
from meanfield.landscape.dropout_moments import neuron_moments, pair_strength, std_over_subsets
from meanfield.landscape.evaluation import Evaluation, evaluation_on
from meanfield.landscape.permutations import drawn_changes
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


class _Changes(NamedTuple):
    """L_A - L over the subsets of one size."""

    mean: float
    std: float
    standard_error: float


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

    For one hidden layer of N neurons and the square loss, with y_hat = mean_i f_i + bias, one pass over the
    samples gives the mean for every m::

        E_A[L_A] - L = (N - m) / (m (N - 1)) c_N,      c_N = E_x Var_i f_i(x)

    and a second one the standard deviation. For other losses ``n_subsets`` random orders of the neurons are drawn,
    the first m of each for every m; for deeper networks ``n_subsets`` subsets for each entry.

    Parameters
    ----------
    law : rows of an `Empirical` are the population; of any other law ``n_samples`` fresh samples are drawn
    n_kept : integers in 1..n_neurons, the same in every hidden layer; or tuples of them, one a hidden layer
    loss : see `meanfield.model.losses`
    rng : Generator or seed, needed where samples, orders or subsets are drawn; the samples come first
    std : whether to spend O(N^2 n) on the exact standard deviation; by default up to N = 4096
    n_subsets : at least 2

    Returns
    -------
    DataFrame with one row an entry of ``n_kept``, in order:

    - n_kept : the entry
    - mean_change : E_A[L_A] - L, signed
    - std_change : population standard deviation over all A of the loss on these samples, NaN where not
      computed; over drawn sets its estimate
    - standard_error : of mean_change
    - method : all subsets on all rows of an `Empirical` ("exact", standard_error 0), all subsets on fresh
      samples ("sample"), random orders ("permutations") or drawn subsets ("subsets")
    - n_neurons : N, or the tuple of widths of several hidden layers
    - risk : L on the same samples

    In the first two methods ``attrs`` holds c_n and c_n_standard_error. Keeping all neurons changes nothing,
    exactly.

    Raises
    ------
    TypeError : entries of ``n_kept`` that are not integers; no ``rng`` where it is needed
    ValueError : no entries, an entry out of range or for another number of layers; an unknown loss or targets
        that do not suit it; a law that does not fit the network

    References
    ----------
    Shevchenko & Mondelli 2020, dropout stability with A of size m.

    See Also
    --------
    dropout_change : one given subset.
    dropout_quantiles : quantiles, from random orders.
    neuron_variance : c_N alone.
    """
    check_fit(network, law)
    check_loss(loss)
    check_integer("n_subsets", n_subsets, least=2)
    entries = checked_entries(network, n_kept)
    if network.n_hidden == 1 and loss == "square":
        return _over_all_subsets(network, evaluation_on(law, loss, n_samples, rng), entries, std)
    generator = check_rng(rng, "dropout_curve with drawn subsets")
    return _over_drawn_sets(network, evaluation_on(law, loss, n_samples, generator), entries, n_subsets, generator)


def neuron_variance(network: Network, law: Law, *, n_samples: int = 10_000, rng: Rng = None) -> Estimate:
    """Return c_N = E_x Var_i f_i(x), the constant of the mean dropout curve, from one pass over the samples.

    The variance is over the N neurons (divisor N), summed over outputs, with f_i scaled so that y_hat =
    mean_i f_i + bias: a_i sigma(z_i) in mean-field, N a_i sigma(z_i) in standard scaling.

    Parameters
    ----------
    law : rows of an `Empirical` are the population; of any other law ``n_samples`` fresh samples are drawn
    rng : Generator or seed, needed where samples are drawn

    Raises
    ------
    TypeError : no ``rng`` where samples are drawn
    ValueError : several hidden layers; a law that does not fit the network

    See Also
    --------
    dropout_curve : (N - m) / (m (N - 1)) times this.
    """
    check_fit(network, law)
    if network.n_hidden > 1:
        raise ValueError(f"c_N is for one hidden layer, got {network.n_hidden}: use dropout_curve there")
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


def _over_all_subsets(network: Network, evaluation: Evaluation, entries: list[Entry], std: bool | None) -> pd.DataFrame:
    moments = neuron_moments(network, evaluation.x, evaluation.y)
    c_n = evaluation.mean(moments.variance)
    n_neurons, sizes = network.widths[1], [m for entry in entries for m in by_layer(network, entry)]
    stds = [np.nan] * len(sizes)
    if std or (std is None and n_neurons <= MAX_UNASKED_WIDTH):
        strength = pair_strength(network, evaluation.x, moments)
        stds = [std_over_subsets(moments, strength, m) for m in sizes]
    changes = [
        _Changes(factor * c_n.value, spread, factor * c_n.standard_error)
        for factor, spread in zip(finite_population_factor(n_neurons, sizes), stds, strict=True)
    ]
    table = _as_table(network, entries, changes, evaluation.method, float(moments.loss.mean()))
    table.attrs = {"c_n": c_n.value, "c_n_standard_error": c_n.standard_error}
    return table


def _over_drawn_sets(
    network: Network, evaluation: Evaluation, entries: list[Entry], n_draws: int, rng: np.random.Generator
) -> pd.DataFrame:
    drawn = drawn_changes(network, evaluation, entries, n_draws, rng)
    columns = (drawn.changes.mean(axis=0), drawn.changes.std(axis=0, ddof=1), drawn.standard_error)
    changes = [_Changes(*map(float, column)) for column in zip(*columns, strict=True)]
    return _as_table(network, entries, changes, drawn.method, drawn.risk)


def _as_table(
    network: Network, entries: list[Entry], changes: list[_Changes], method: str, risk: float
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "n_kept": entries,
            "mean_change": [change.mean for change in changes],
            "std_change": [change.std for change in changes],
            "standard_error": [change.standard_error for change in changes],
            "method": method,
            "n_neurons": [hidden_widths(network)] * len(entries),
            "risk": risk,
        }
    )


def _arrays_by_layer(network: Network, kept: Any) -> Sequence[ArrayLike]:
    """Return one index array a hidden layer; a bare one is the only layer's."""
    nested = isinstance(kept, list | tuple) and any(np.ndim(indices) for indices in kept)
    return kept if nested or network.n_hidden > 1 else [kept]
