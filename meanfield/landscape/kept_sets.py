"""Which neurons each end of a path keeps: given, by default, or chosen by their loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meanfield.checks import check_choice, check_integer, check_positive, check_rng, check_subset
from meanfield.landscape.counts import Entry, by_layer, checked_entries
from meanfield.landscape.deep_search import DeepSearch
from meanfield.landscape.evaluation import check_outputs, evaluation_on
from meanfield.landscape.search import SQUARE_ONLY, SUBSET_METHODS
from meanfield.landscape.subsets import choose_subset
from meanfield.model.laws import Law
from meanfield.model.losses import check_loss
from meanfield.model.network import Network
from meanfield.model.risk import check_fit

__all__ = ["SECOND_KEEPS", "choose_kept", "kept_of_ends"]

SECOND_KEEPS = ("own", "same", "complement")

Indices = NDArray[np.intp]
Kept = list[Indices]


def choose_kept(
    network: Network,
    law: Law,
    n_kept: Entry | None = None,
    *,
    method: str,
    loss: str = "square",
    n_samples: int = 10_000,
    n_subsets: int = 100,
    n_candidates: int = 32,
    max_sweeps: int = 100,
    max_bytes: float = 2**30,
    rng: np.random.Generator | int | None = None,
) -> Kept:
    """Choose the neurons that one end of a path keeps, for the argument ``kept`` of `connect`.

    With one hidden layer these are the sets of `choose_subset`. With H of them the end adds to the maximum over the
    path the largest of

        phi_l = loss after dropping layers l..H,      l = 1, .., H,

    and phi_l depends on I_l, .., I_H alone. The methods are

    | method | I_1, .., I_H are |
    | --- | --- |
    | "random" | uniformly random |
    | "best-of" | of ``n_subsets`` random choices the one of least max_l phi_l |
    | "greedy" | built up from the last layer down, each neuron of I_l the one of least phi_l with those before it |
    | "swaps" | the same, each I_l then improved by exchanges of one neuron that lower phi_l, before the next layer |
    | "exhaustive" | of least max_l phi_l among all choices, their number times that of neurons up to 4,000,000 |
    | "adversarial-norm" | in each layer the neurons of largest norm of incoming times norm of outgoing weights |
    | "adversarial-greedy" | as "greedy", with the largest phi_l |

    For the square loss the searches try all neurons of the last layer at each step, at the cost of `choose_subset`.
    In the others, and for other losses, they try ``n_candidates`` drawn from those left, each on the features of the
    whole layers below, which are held: with m of the neurons of each layer kept, I_l takes

        m n_candidates n (m + m^2 (H - l - 1) + m C) operations        (m n_candidates n C for l = H),

    n samples and C outputs, and each sweep of "swaps" as much again. Where ``n_candidates`` is at least n_l, all
    neurons are tried.

    Parameters
    ----------
    law : rows of an `Empirical` are the population; of any other law ``n_samples`` fresh samples are drawn
    n_kept : neurons to keep, the same number in every hidden layer, or a tuple; by default floor(n_l / 2)
    method : one of the above, with any loss
    n_subsets : random choices of "best-of"
    n_candidates : neurons tried at each step, see above
    max_sweeps : bound on the sweeps of "swaps" in each layer; a warning says when it was met
    max_bytes : memory for the N x N matrix of the square loss, see `choose_subset`, and for what is held in each of
        the other layers: its features and as many sums a sample as neurons are kept above it
    rng : Generator or seed, needed where samples, sets or candidates are drawn; the samples come first

    Returns
    -------
    One array of neurons in increasing order a hidden layer

    Raises
    ------
    TypeError : ``n_kept`` is not of integers; no ``rng`` where it is needed
    ValueError : ``n_kept`` out of range; an unknown method or loss, or targets that do not suit it; too many sets or
        too much memory; a law that does not fit the network
    ArithmeticError : outputs or moments that overflow

    References
    ----------
    Ye et al. 2020 for greedy forward selection; Mirzasoleiman et al. 2015 for drawn candidates.

    See Also
    --------
    choose_subset : the methods with one hidden layer, with the loss change.
    """
    check_fit(network, law)
    check_loss(loss)
    check_choice("method", method, SUBSET_METHODS)
    limits = {"n_subsets": n_subsets, "max_sweeps": max_sweeps}
    for name, limit in (limits | {"n_candidates": n_candidates}).items():
        check_integer(name, limit, least=1)
    entry = _halves(network.widths[1:-1]) if n_kept is None else n_kept
    (checked,) = checked_entries(network, [entry])
    counts = by_layer(network, checked)
    options: dict[str, Any] = {**limits, "max_bytes": check_positive("max_bytes", max_bytes)}
    if network.n_hidden == 1 and (loss == "square" or method not in SQUARE_ONLY):
        options |= {"loss": loss, "n_samples": n_samples, "rng": rng}
        return [np.array(choose_subset(network, law, counts[0], method=method, **options).kept, np.intp)]
    generator = None if rng is None else check_rng(rng, "a search for kept neurons")
    evaluation = evaluation_on(law, loss, n_samples, generator)
    check_outputs(network, evaluation)
    return DeepSearch(network, evaluation, counts, n_candidates=n_candidates, rng=generator, **options).choose(method)


def kept_of_ends(kept: Any, ends: Sequence[Network], second_keeps: str) -> tuple[Kept, Kept]:
    """Return the kept sets of both ends, whose hidden layers will all have the width of the wider end.

    Parameters
    ----------
    kept : None, one index array a hidden layer, or a pair of these; see `connect`
    second_keeps : "own", "same" or "complement"; see `connect`

    Raises
    ------
    TypeError : indices that are not integers, or another type
    ValueError : another number of layers; indices out of range or repeated; "complement" where nothing is left
    """
    check_choice("second_keeps", second_keeps, SECOND_KEEPS)
    if kept is not None and not isinstance(kept, list | tuple):
        raise TypeError(
            f"kept must be None, one index array a hidden layer, or a pair of these, got {type(kept).__name__}: "
            "pass [indices] for one hidden layer; choose_kept makes sets by name"
        )
    common = np.maximum(ends[0].widths[1:-1], ends[1].widths[1:-1])
    is_pair = _is_pair(kept)
    if is_pair and second_keeps != "own":
        raise ValueError(f"second_keeps={second_keeps!r} is for one kept set, got a pair: leave one of them out")
    choices = tuple(kept) if kept is not None and is_pair else (kept, kept)
    first = _kept_of(ends[0], choices[0], common, "first")
    if second_keeps == "complement":
        return first, _complement(ends[1], first, common)
    return first, _kept_of(ends[1], choices[1], common, "second")


def _is_pair(kept: Any) -> bool:
    """Tell a pair of (index arrays, one a layer, or None) from one array a layer."""
    if kept is None or len(kept) != 2:
        return False
    return any(part is None or (isinstance(part, list | tuple) and np.ndim(next(iter(part), 0)) > 0) for part in kept)


def _kept_of(end: Network, kept: Any, common: NDArray[np.intp], name: str) -> Kept:
    hidden = end.widths[1:-1]
    if kept is None:
        # An end that fits into half of a wider layer is kept whole there.
        return [np.arange(min(n, half)) for n, half in zip(hidden, _halves(common), strict=True)]
    if len(kept) != len(hidden):
        raise ValueError(
            f"kept must hold one index array a hidden layer, {len(hidden)}, or a pair of these, got {len(kept)} "
            f"for the {name} end"
        )
    return [
        check_subset(f"kept[{k}] of the {name} end", indices, n)
        for k, (indices, n) in enumerate(zip(kept, hidden, strict=True))
    ]


def _complement(end: Network, kept: Kept, common: NDArray[np.intp]) -> Kept:
    left = [np.setdiff1d(np.arange(n), indices) for n, indices in zip(end.widths[1:-1], kept, strict=True)]
    for layer, indices in enumerate(left, start=1):
        if not indices.size:
            raise ValueError(
                f"second_keeps='complement' leaves nothing of hidden layer {layer} of the second end, of width "
                f"{end.widths[layer]}: let the first end keep fewer neurons, or pass kept for both ends"
            )
    return [indices[:half] for indices, half in zip(left, _halves(common), strict=True)]


def _halves(widths: Sequence[int] | NDArray[np.intp]) -> tuple[int, ...]:
    return tuple(int(n) // 2 for n in widths)
