"""How much better, or worse, than a random set the kept neurons can be chosen: a ladder of searches.

The theory's A is independent of the weights. Each rung here uses more of the weights to choose A, up to the best
set there is; the adversarial ones choose badly on purpose, as the control of that independence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from meanfield.checks import check_integer, check_positive, check_rng
from meanfield.landscape.counts import checked_sizes
from meanfield.landscape.evaluation import Evaluation, check_outputs, evaluation_on
from meanfield.landscape.search import SUBSET_METHODS, Search
from meanfield.model.laws import Law
from meanfield.model.losses import check_loss
from meanfield.model.network import Network
from meanfield.model.risk import check_fit
from meanfield.theory.scaling import TOST_LEVEL, finite_population_factor, fit_exponent

__all__ = ["SUBSET_METHODS", "Subset", "choose_subset", "ladder_exponents", "subset_ladder"]

Rng = np.random.Generator | int | None


@dataclass(frozen=True)
class Subset:
    """A kept set A in increasing order, how it was chosen, and L_A - L with its standard error."""

    kept: tuple[int, ...]
    change: float
    standard_error: float
    method: str


def choose_subset(
    network: Network,
    law: Law,
    n_kept: int,
    *,
    method: str,
    loss: str = "square",
    n_samples: int = 10_000,
    n_subsets: int = 100,
    max_sweeps: int = 100,
    max_bytes: float = 2**30,
    rng: Rng = None,
) -> Subset:
    """Choose ``n_kept`` of the N neurons of a network with one hidden layer, and measure L_A - L.

    | method | A is | loss |
    | --- | --- | --- |
    | "random" | uniformly random | any |
    | "best-of" | of ``n_subsets`` random sets the one of least loss | any |
    | "greedy" | built up, each neuron the one of least loss with those before it kept | square |
    | "swaps" | reached from "greedy" by exchanges of one neuron, until none lowers the loss | square |
    | "exhaustive" | of least loss among all C(N, m) sets, N C(N, m) up to 4,000,000 | any |
    | "adversarial-norm" | the neurons of largest norm of (w_i, b_i) times norm of a_i | any |
    | "adversarial-greedy" | built up, each neuron the one of largest loss with those before it kept | square |

    Parameters
    ----------
    law : rows of an `Empirical` are the population, for choosing and for measuring. Of any other law
        ``n_samples`` fresh samples choose A and as many others measure L_A - L, which is thus unbiased
    n_subsets : random sets of "best-of"
    max_sweeps : bound on the sweeps of "swaps"; a warning says when it was met
    max_bytes : memory for the N x N matrix of the searches by the square loss, 8 N^2 bytes; above, "swaps" is an
        error, and the greedy ones take a pass over the samples for each neuron kept
    rng : Generator or seed, needed where samples or sets are drawn; the samples come first

    Returns
    -------
    Subset : its standard error is that of the paired difference, 0 for an `Empirical`

    Raises
    ------
    TypeError : ``n_kept`` is not an integer; no ``rng`` where it is needed
    ValueError : several hidden layers; ``n_kept`` outside 1..N; an unknown method or loss, targets that do not
        suit it, or a method that needs the square loss; too many sets or too much memory; a law that does not
        fit the network
    ArithmeticError : outputs or moments that overflow

    References
    ----------
    Shevchenko & Mondelli 2020 for random sets; Ye et al. 2020 for greedy forward selection.

    See Also
    --------
    subset_ladder : several methods and sizes on the same samples.
    dropout_change : of a given set.
    """
    limits = {"n_subsets": n_subsets, "max_sweeps": max_sweeps, "max_bytes": max_bytes}
    sizes, search, measuring = _prepared(network, law, [n_kept], [method], loss, n_samples, limits, rng)
    return _measured(search, measuring, measuring.losses(network), method, sizes[0])


def subset_ladder(
    network: Network,
    law: Law,
    n_kept: Iterable[int],
    *,
    methods: Iterable[str] = ("random", "best-of", "greedy", "swaps", "adversarial-norm", "adversarial-greedy"),
    loss: str = "square",
    n_samples: int = 10_000,
    n_subsets: int = 100,
    max_sweeps: int = 100,
    max_bytes: float = 2**30,
    rng: Rng = None,
) -> pd.DataFrame:
    """Return L_A - L of the sets that several ``methods`` choose, all on the same samples.

    Methods and parameters are those of `choose_subset`. Sets of increasing size are nested for "random", the
    greedy methods and "adversarial-norm".

    Returns
    -------
    DataFrame with one row an entry of ``n_kept`` and method, in order: n_kept, method, change (L_A - L),
    standard_error, n_neurons, risk (L on the samples that measure)

    Raises
    ------
    TypeError, ValueError, ArithmeticError : as `choose_subset`, the first two before any search; no sizes or no methods

    See Also
    --------
    ladder_exponents : the slopes in m.
    """
    names = [methods] if isinstance(methods, str) else list(methods)
    limits = {"n_subsets": n_subsets, "max_sweeps": max_sweeps, "max_bytes": max_bytes}
    sizes, search, measuring = _prepared(network, law, n_kept, names, loss, n_samples, limits, rng)
    losses = measuring.losses(network)
    subsets = [_measured(search, measuring, losses, name, m) for m in sizes for name in names]
    return pd.DataFrame(
        {
            "n_kept": np.repeat(sizes, len(names)),
            "method": [subset.method for subset in subsets],
            "change": [subset.change for subset in subsets],
            "standard_error": [subset.standard_error for subset in subsets],
            "n_neurons": network.widths[1],
            "risk": float(losses.mean()),
        }
    )


def ladder_exponents(ladders: pd.DataFrame, *, level: float = TOST_LEVEL) -> pd.DataFrame:
    """Fit L_A - L = C m^p (N - m)/(N - 1) for each method, with independent networks (seeds) as units.

    The mean over random sets of the square loss has p = -1 exactly, with this factor. Only sizes below N at which
    the change is positive in every seed have a logarithm: a method that lowers the loss has few of them, and NaN
    in place of a fit where fewer than two are left.

    Parameters
    ----------
    ladders : tables of `subset_ladder`, one below the other, with a column ``seed`` that names the network
    level : coverage of the interval of p

    Returns
    -------
    DataFrame with one row a width and method: n_neurons, method, n_points (sizes fitted) and the fields of
    `meanfield.theory.scaling.ExponentFit`

    Raises
    ------
    ValueError : no column ``seed``; fewer than two seeds; a seed that lacks a size or has it twice

    See Also
    --------
    meanfield.theory.scaling.fit_exponent : the fit of one method.
    """
    if "seed" not in ladders:
        raise ValueError(f"ladders must have a column seed, got {list(ladders)}: add it with .assign(seed=..)")
    groups = ladders.groupby(["n_neurons", "method"], sort=False)
    return pd.DataFrame([{"n_neurons": n, "method": name, **_fitted(rows, level)} for (n, name), rows in groups])


def _prepared(
    network: Network,
    law: Law,
    n_kept: Any,
    methods: list[str],
    loss: str,
    n_samples: int,
    limits: dict[str, Any],
    rng: Rng,
) -> tuple[list[int], Search, Evaluation]:
    """Return the sizes in the order asked for, the search, and the samples that measure what it finds."""
    check_fit(network, law)
    check_loss(loss)
    sizes = checked_sizes(network, n_kept)
    if not methods:
        raise ValueError(f"methods must name at least one of {', '.join(SUBSET_METHODS)}, got none")
    for name in ("n_subsets", "max_sweeps"):
        check_integer(name, limits[name], least=1)
    check_positive("max_bytes", limits["max_bytes"])
    generator = None if rng is None else check_rng(rng, "a search for kept neurons")
    choosing, measuring = (evaluation_on(law, loss, n_samples, generator) for _ in range(2))
    search = Search(network, choosing, np.unique(sizes), **limits, rng=generator)
    search.check(methods)
    check_outputs(network, choosing)
    return sizes, search, measuring


def _measured(search: Search, measuring: Evaluation, losses: NDArray[np.float64], method: str, n_kept: int) -> Subset:
    kept = search.choose(method, n_kept)
    change = measuring.mean(measuring.losses(search.network.keep([kept])) - losses)
    return Subset(tuple(kept.tolist()), change.value, change.standard_error, method)


def _fitted(rows: pd.DataFrame, level: float) -> dict[str, Any]:
    below = rows[rows["n_kept"] < rows["n_neurons"]]
    usable = below[below.groupby("n_kept")["change"].transform("min") > 0]
    n_points = usable["n_kept"].nunique()
    if n_points < 2:
        return {"n_points": n_points}
    shrinkage = usable["n_kept"] * finite_population_factor(usable["n_neurons"], usable["n_kept"])
    fit = fit_exponent(usable["n_kept"], usable["change"] / shrinkage, usable["seed"], level=level)
    return {"n_points": n_points, **asdict(fit)}
