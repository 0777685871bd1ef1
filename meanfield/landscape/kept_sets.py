"""Which neurons each end of a path keeps: given, by default, or chosen by their loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meanfield.checks import check_choice, check_integer, check_rng, check_subset
from meanfield.landscape.counts import Entry, by_layer, checked_entries, draw_kept
from meanfield.landscape.evaluation import Evaluation, evaluation_on
from meanfield.landscape.subsets import choose_subset
from meanfield.model.laws import Law
from meanfield.model.losses import check_loss
from meanfield.model.network import Network
from meanfield.model.risk import check_fit

__all__ = ["SECOND_KEEPS", "choose_kept", "kept_of_ends"]

SECOND_KEEPS = ("complement", "same")

# Methods that know sets in several hidden layers.
DEEP_METHODS = ("best-of", "random")

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
    rng: np.random.Generator | int | None = None,
) -> Kept:
    """Choose the neurons that one end of a path keeps, for the argument ``kept`` of `connect`.

    With one hidden layer these are the sets of `choose_subset`. With several, "random" draws one in each layer, and
    "best-of" takes of ``n_subsets`` such draws the one with the least

        max_{l = 1..H} phi_l,      phi_l = loss after dropping layers l..H,

    which is what that end adds to the maximum over the path.

    Parameters
    ----------
    law : rows of an `Empirical` are the population; of any other law ``n_samples`` fresh samples are drawn
    n_kept : neurons to keep, the same number in every hidden layer, or a tuple; by default floor(n_l / 2)
    method : see `choose_subset`; with several hidden layers "random" or "best-of"
    n_subsets : draws of "best-of"
    rng : Generator or seed, needed where samples or sets are drawn; the samples come first

    Returns
    -------
    One array of neurons in increasing order a hidden layer

    Raises
    ------
    TypeError, ValueError : as `choose_subset`; a method that is for one hidden layer only

    See Also
    --------
    choose_subset : the methods, with the loss change.
    """
    check_fit(network, law)
    entry = _halves(network.widths[1:-1]) if n_kept is None else n_kept
    (checked,) = checked_entries(network, [entry])
    if network.n_hidden == 1:
        (size,) = by_layer(network, checked)
        options: dict[str, Any] = {"loss": loss, "n_samples": n_samples, "n_subsets": n_subsets, "rng": rng}
        return [np.array(choose_subset(network, law, size, method=method, **options).kept, np.intp)]
    check_choice("method for several hidden layers", method, DEEP_METHODS)
    check_loss(loss)
    check_integer("n_subsets", n_subsets, least=1)
    generator = check_rng(rng, "random kept sets")
    if method == "random":
        return draw_kept(network, checked, generator)
    evaluation = evaluation_on(law, loss, n_samples, generator)
    draws = [draw_kept(network, checked, generator) for _ in range(n_subsets)]
    return min(draws, key=lambda kept: _largest_phi(network, evaluation, kept))


def kept_of_ends(kept: Any, ends: Sequence[Network], second_keeps: str) -> tuple[Kept, Kept]:
    """Return the kept sets of both ends, whose hidden layers will all have the width of the wider end.

    Parameters
    ----------
    kept : None, one index array a hidden layer, or a pair of these; see `connect`
    second_keeps : where it is no pair, "same" or the "complement" of the first end's

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
    if is_pair and second_keeps == "complement":
        raise ValueError("second_keeps='complement' is for one kept set, got a pair: leave one of them out")
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


def _largest_phi(network: Network, evaluation: Evaluation, kept: Kept) -> float:
    everything = [np.arange(n) for n in network.widths[1:-1]]
    dropped = (network.keep([*everything[:below], *kept[below:]]) for below in range(network.n_hidden))
    return max(float(evaluation.losses(smaller).mean()) for smaller in dropped)
