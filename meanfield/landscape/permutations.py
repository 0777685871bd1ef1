"""The distribution of L_A - L over random sets A, for any loss: quantiles, with intervals free of assumptions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr

from meanfield.checks import check_integer, check_number, check_rng, check_sequence
from meanfield.landscape.counts import Entry, checked_entries, fewest_kept, hidden_widths
from meanfield.landscape.evaluation import evaluation_on
from meanfield.landscape.orders import DrawnChanges, drawn_changes
from meanfield.model.laws import Law
from meanfield.model.losses import check_loss
from meanfield.model.network import Network
from meanfield.model.risk import check_fit

__all__ = ["dropout_quantiles", "quantile_intervals", "quantile_table"]

Array = NDArray[np.floating[Any]]


def dropout_quantiles(
    network: Network,
    law: Law,
    n_kept: Iterable[Entry],
    *,
    loss: str = "square",
    quantiles: Sequence[float] = (0.05, 0.5, 0.95),
    n_permutations: int = 400,
    n_samples: int = 10_000,
    level: float = 0.95,
    rng: np.random.Generator | int,
) -> pd.DataFrame:
    """Return quantiles of L_A - L and of |L_A - L| over uniformly random sets A of ``n_kept`` neurons, any loss.

    From P independent sets with changes X_(1) <= .. <= X_(P), the q-quantile is estimated by X_(ceil(qP)), and
    with B ~ Binomial(P, q) two order statistics hold it with probability

        P( X_(l) <= quantile <= X_(u) ) >= P( l <= B <= u - 1 ) >= level,

    whatever the distribution, ties included; each end fails with probability at most (1 - level)/2, one quantile
    and one entry at a time. The P sets of an entry are the first neurons of P random orders of each layer's neurons,
    the same orders for all entries.

    Parameters
    ----------
    law : rows of an `Empirical` are the population; of any other law ``n_samples`` fresh samples are drawn
    n_kept : integers in 1..n_neurons, the same in every hidden layer; or tuples of them, one a hidden layer, where
        n_l keeps all of layer l
    loss : see `meanfield.model.losses`
    quantiles : q, between 0 and 1
    n_permutations : P, at least 2; 72 are needed for both ends at q = 0.05 and level 0.95
    level : coverage of the intervals, between 0 and 1
    rng : Generator or seed; the samples come first

    Returns
    -------
    DataFrame with one row an entry of ``n_kept`` and q, in order:

    - n_kept, quantile : the entry and q
    - change, change_low, change_high : the q-quantile of L_A - L and its interval
    - magnitude, magnitude_low, magnitude_high : the same of |L_A - L|
    - mean_change, std_change, standard_error : mean and standard deviation of L_A - L; standard error of the mean,
      from the sets and the samples
    - method : "permutations"
    - n_neurons : N, or the tuple of widths of several hidden layers
    - risk : L on the same samples
    - a_min : the least number of neurons kept in a hidden layer

    Ends are infinite where P is too small to have one. On fresh samples the distribution is that of the loss on
    these samples, and so are quantiles, intervals and std_change. Keeping all neurons changes nothing, exactly.

    Raises
    ------
    TypeError : entries of ``n_kept`` that are not integers; no ``rng``
    ValueError : no entries, an entry out of range or for another number of layers; quantiles or a level outside
        (0, 1); an unknown loss or targets that do not suit it; a law that does not fit the network

    References
    ----------
    Shevchenko & Mondelli 2020, dropout stability with A of size m; Thompson 1936 for the intervals.

    See Also
    --------
    dropout_curve : mean and standard deviation, exact for the square loss.
    """
    check_fit(network, law)
    check_loss(loss)
    check_integer("n_permutations", n_permutations, least=2)
    levels = _checked_quantiles(quantiles)
    _check_inside("level", level)
    entries = checked_entries(network, n_kept)
    generator = check_rng(rng, "dropout_quantiles")
    drawn = drawn_changes(network, evaluation_on(law, loss, n_samples, generator), entries, n_permutations, generator)
    return quantile_table(network, entries, drawn, levels, level)


def quantile_intervals(values: ArrayLike, quantiles: ArrayLike, level: float) -> NDArray[np.float64]:
    """Return the quantiles of independent ``values`` (P,) and their intervals, (3, Q): estimate, low, high.

    Order statistics, free of assumptions on the distribution: see `dropout_quantiles`.
    """
    ordered, wanted = np.sort(np.asarray(values, np.float64)), np.asarray(quantiles, np.float64)
    # Position 0 is below all values, P + 1 above.
    padded = np.concatenate([[-np.inf], ordered, [np.inf]])
    counts = np.arange(ordered.size + 1)
    low, high = (
        np.array([np.searchsorted(bdtr(counts, ordered.size, q), tail) for q in wanted])
        for tail in ((1 - level) / 2, (1 + level) / 2)
    )
    estimate = np.quantile(ordered, wanted, method="inverted_cdf")
    return np.stack([estimate, padded[low], padded[high + 1]])


def quantile_table(
    network: Network, entries: Sequence[Entry], drawn: DrawnChanges, quantiles: Sequence[float], level: float
) -> pd.DataFrame:
    """Return the table of `dropout_quantiles` from the drawn changes of its entries."""
    columns = zip(entries, drawn.changes.T, drawn.changes.std(axis=0, ddof=1), drawn.standard_error, strict=True)
    blocks = [
        pd.DataFrame(
            {
                "n_kept": [entry] * len(quantiles),
                "quantile": quantiles,
                **_named("change", quantile_intervals(values, quantiles, level)),
                **_named("magnitude", quantile_intervals(np.abs(values), quantiles, level)),
                "mean_change": values.mean(),
                "std_change": std,
                "standard_error": error,
                "method": "permutations",
                "n_neurons": [hidden_widths(network)] * len(quantiles),
                "risk": drawn.risk,
                "a_min": fewest_kept(network, entry),
            }
        )
        for entry, values, std, error in columns
    ]
    return pd.concat(blocks, ignore_index=True)


def _named(name: str, estimates: Array) -> dict[str, Array]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), estimates, strict=True))


def _checked_quantiles(quantiles: Any) -> list[float]:
    levels = [check_number("quantiles", q) for q in check_sequence("quantiles", quantiles, "numbers", example=[0.95])]
    if not levels:
        raise ValueError("quantiles must hold at least one number, got none: pass e.g. [0.95]")
    for q in levels:
        _check_inside("quantiles", q)
    return levels


def _check_inside(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie between 0 and 1, got {value}: pass e.g. 0.95")
