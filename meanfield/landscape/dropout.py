"""How the loss changes when only m neurons of a hidden layer are kept: for all subsets together or for one.

Kept neurons are rescaled by n_neurons / n_kept (`Network.keep`). For one hidden layer and the square loss
the mean and the standard deviation over all subsets are exact, for every m at once, by the identities of
`meanfield.landscape.dropout_moments`. Otherwise subsets are drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from meanfield.checks import check_integer, check_rng
from meanfield.kernels.blas import single_threaded_blas
from meanfield.landscape.dropout_moments import neuron_moments, pair_strength, std_over_subsets
from meanfield.landscape.evaluation import Evaluation, evaluation_on
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
Counts = tuple[int, ...]
Entry = int | Counts


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

    and a second one the standard deviation. Otherwise ``n_subsets`` subsets are drawn for each entry.

    Parameters
    ----------
    law : rows of an `Empirical` are the population; of any other law ``n_samples`` fresh samples are drawn
    n_kept : integers in 1..n_neurons, the same in every hidden layer; or tuples of them, one a hidden layer
    loss : see `meanfield.model.losses`
    rng : Generator or seed, needed where samples or subsets are drawn; the samples come first
    std : whether to spend O(N^2 n) on the exact standard deviation; by default up to N = 4096
    n_subsets : at least 2

    Returns
    -------
    DataFrame with one row an entry of ``n_kept``, in order:

    - n_kept : the entry
    - mean_change : E_A[L_A] - L, signed
    - std_change : population standard deviation over all A of the loss on these samples, NaN where not
      computed; over drawn subsets its estimate
    - standard_error : of mean_change
    - method : all subsets on all rows of an `Empirical` ("exact", standard_error 0), all subsets on fresh
      samples ("sample") or drawn subsets ("subsets")
    - n_neurons : N, or the tuple of widths of several hidden layers
    - risk : L on the same samples

    In the first two methods ``attrs`` holds c_n and c_n_standard_error. Keeping all neurons changes nothing,
    exactly.

    Raises
    ------
    TypeError : entries of ``n_kept`` that are not integers; no ``rng`` where it is needed
    ValueError : no entries, an entry out of range or for another number of layers; an unknown loss; a law
        that does not fit the network

    References
    ----------
    Shevchenko & Mondelli 2020, dropout stability with A of size m.

    See Also
    --------
    dropout_change : one given subset.
    neuron_variance : c_N alone.
    """
    check_fit(network, law)
    check_loss(loss)
    check_integer("n_subsets", n_subsets, least=2)
    entries = _checked_entries(network, n_kept)
    if network.n_hidden == 1 and loss == "square":
        return _over_all_subsets(network, evaluation_on(law, loss, n_samples, rng), entries, std)
    generator = check_rng(rng, "dropout_curve with drawn subsets")
    evaluation = evaluation_on(law, loss, n_samples, generator)
    return _over_drawn_subsets(network, evaluation, entries, n_subsets, generator)


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
    n_neurons, sizes = network.widths[1], [m for entry in entries for m in _by_layer(network, entry)]
    stds = [np.nan] * len(sizes)
    if std or (std is None and n_neurons <= MAX_UNASKED_WIDTH):
        strength = pair_strength(network, evaluation.x, moments)
        stds = [std_over_subsets(moments, strength, m) for m in sizes]
    changes = [
        _Changes(factor * c_n.value, spread, factor * c_n.standard_error)
        for factor, spread in zip(finite_population_factor(n_neurons, sizes), stds, strict=True)
    ]
    table = _as_table(network, entries, changes, evaluation.method, moments.loss)
    table.attrs = {"c_n": c_n.value, "c_n_standard_error": c_n.standard_error}
    return table


def _over_drawn_subsets(
    network: Network,
    evaluation: Evaluation,
    entries: list[Entry],
    n_subsets: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    # Pinned once: each small forward pass would do it anew.
    with single_threaded_blas():
        losses = evaluation.losses(network)
        changes = [_drawn_changes(network, evaluation, losses, entry, n_subsets, rng) for entry in entries]
    return _as_table(network, entries, changes, "subsets", losses)


def _drawn_changes(
    network: Network,
    evaluation: Evaluation,
    losses: Array,
    entry: Entry,
    n_subsets: int,
    rng: np.random.Generator,
) -> _Changes:
    """Cross ``n_subsets`` subsets with all samples: the variances of the two means add up."""
    hidden, counts = network.widths[1:-1], _by_layer(network, entry)
    if counts == hidden:
        return _Changes(0.0, 0.0, 0.0)
    by_subset, by_sample = np.empty(n_subsets), np.zeros(losses.size)
    for k in range(n_subsets):
        kept = [np.sort(rng.choice(n, m, replace=False)) for n, m in zip(hidden, counts, strict=True)]
        change = evaluation.losses(network.keep(kept)) - losses
        by_subset[k] = change.mean()
        by_sample += change / n_subsets
    variance = by_subset.var(ddof=1)
    error = np.sqrt(variance / n_subsets + evaluation.variance_of_mean(by_sample))
    return _Changes(float(by_subset.mean()), float(np.sqrt(variance)), float(error))


def _as_table(
    network: Network, entries: list[Entry], changes: list[_Changes], method: str, losses: Array
) -> pd.DataFrame:
    hidden = network.widths[1:-1]
    return pd.DataFrame(
        {
            "n_kept": entries,
            "mean_change": [change.mean for change in changes],
            "std_change": [change.std for change in changes],
            "standard_error": [change.standard_error for change in changes],
            "method": method,
            "n_neurons": [hidden if len(hidden) > 1 else hidden[0]] * len(entries),
            "risk": float(losses.mean()),
        }
    )


def _checked_entries(network: Network, n_kept: Any) -> list[Entry]:
    if not isinstance(n_kept, Iterable):
        raise TypeError(f"n_kept must be a sequence of integers, got {n_kept!r}: pass [{n_kept!r}]")
    entries = [_checked_entry(network, entry) for entry in n_kept]
    if not entries:
        raise ValueError("n_kept must hold at least one entry, got none: pass e.g. [1]")
    return entries


def _checked_entry(network: Network, entry: Any) -> Entry:
    hidden, a_number_each = network.widths[1:-1], isinstance(entry, tuple | list)
    counts = tuple(entry) if a_number_each else (entry,) * len(hidden)
    if len(counts) != len(hidden):
        raise ValueError(
            f"entries of n_kept must be integers or tuples of {len(hidden)}, one a hidden layer, got {entry}"
        )
    checked = tuple(_checked_count(m, n_neurons) for m, n_neurons in zip(counts, hidden, strict=True))
    return checked if a_number_each else checked[0]


def _checked_count(m: Any, n_neurons: int) -> int:
    if isinstance(m, bool | np.bool_) or not isinstance(m, Integral):
        raise TypeError(f"n_kept must hold integers or tuples of them, got {m!r} of type {type(m).__name__}")
    count = int(m)
    if not 1 <= count <= n_neurons:
        raise ValueError(f"n_kept must lie in 1..n_neurons={n_neurons}, got {count}")
    return count


def _by_layer(network: Network, entry: Entry) -> Counts:
    """Return the number of kept neurons of each hidden layer."""
    return entry if isinstance(entry, tuple) else (entry,) * network.n_hidden


def _arrays_by_layer(network: Network, kept: Any) -> Sequence[ArrayLike]:
    """Return one index array a hidden layer; a bare one is the only layer's."""
    nested = isinstance(kept, list | tuple) and any(np.ndim(indices) for indices in kept)
    return kept if nested or network.n_hidden > 1 else [kept]
