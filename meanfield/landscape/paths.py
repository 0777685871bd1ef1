"""Explicit low-loss paths between two networks of any depth and either scaling."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from meanfield.checks import MeanfieldWarning
from meanfield.landscape.construction import End, contract, join
from meanfield.landscape.embedding import are_permuted, embed
from meanfield.landscape.kept_sets import kept_of_ends
from meanfield.landscape.parameters import check_same_form
from meanfield.landscape.subnetworks import given_blocks, inherited_blocks
from meanfield.landscape.weight_path import WeightPath
from meanfield.model.network import Network

__all__ = ["connect"]


def connect(
    first: Network,
    second: Network,
    *,
    kept: Sequence[Any] | None = None,
    subnetworks: Sequence[Any] | None = None,
    second_keeps: str = "own",
) -> WeightPath:
    """Join two networks by a piecewise linear path whose loss is never above that of its vertices.

    With I_l the kept neurons of hidden layer l and V^(l) a small network that reads their features alone,

        max over the path = max{ L(first), L(second), max_{l, end} phi_l },
        phi_l = loss of the layers up to l of an end, restricted to I_l, then V^(l),

    for every convex loss, on any samples: an identity, as all segments are "readout" or "idle" (`WeightPath`). By
    default V^(l) is inherited, the network's own weights between kept neurons, and phi_l is the loss after dropping
    layers l..H. Two-layer networks (H = 1) take 7 segments, with ``second_keeps="complement"`` 5; H hidden layers
    take 4H + 3 or 4H + 1.

    Parameters
    ----------
    first, second : of equally many inputs, outputs and hidden layers, with the same activation, scaling, dtype and
        presence of biases. Where widths differ the narrower layer is embedded in the wider one (`embed`)
    kept : one index array a hidden layer for both ends; or a pair of those, in which None stands for the default,
        the first floor(n_l / 2) neurons (n_l: the wider end's). `choose_kept` makes them by name. Indices are those
        of an end's own neurons
    subnetworks : None, or a pair with for each end None (inherited) or V^(0), .., V^(H):

        - V^(l), l < H: a Network of widths (|I_l|, m_{l+1}, .., m_H, C), |I_0| = d, whose inputs are the features
          ``features(x, l)[:, I_l]`` (l = 0: x) of the end. Either scaling; the end's activation and dtype
        - V^(0) may be None: the neurons I_1 with V^(1) are then the small network, as for inherited ones, and the
          sets I_1 of both ends need room side by side
        - V^(H): a pair (weights (C, |I_H|), bias (C,) or None), y_hat = weights h + bias without a factor
    second_keeps : its "own", what ``kept`` gives it; "same", likewise, but a pair is refused; or the "complement", of
        what the first end leaves out the first floor(n_l / 2), where ``kept`` is no pair

    Returns
    -------
    WeightPath : its ends are the arguments, bit for bit, where they have the same widths

    Raises
    ------
    TypeError : ends that are no networks; index arrays or sub-networks of another type
    ValueError : ends of different form; a hidden layer of one neuron; kept sets out of range, repeated, or for
        another number of layers; sub-networks that do not fit; layers without room: |I_l| + m_l <= n_l and
        2 m_l <= n_l always suffice

    Warns
    -----
    MeanfieldWarning : the ends are the same network, or differ in the order of their neurons alone

    References
    ----------
    Shevchenko & Mondelli 2020, Theorem 1 and Kuditipudi et al. 2019, Theorem 1, for inherited sub-networks; Nguyen,
    Bréchet & Mondelli 2021 for others.

    See Also
    --------
    path_risk : the loss along the path.
    choose_kept : kept sets by name.
    """
    _check_ends(first, second)
    _warn_of_equal_ends(first, second)
    n_neurons = [max(pair) for pair in zip(first.widths[1:-1], second.widths[1:-1], strict=True)]
    sets = kept_of_ends(kept, (first, second), second_keeps)
    walks = [
        contract(_end(network, n_neurons, mine, given, name))
        for network, mine, given, name in zip(
            (first, second), sets, _pair_of_subnetworks(subnetworks), ("first", "second"), strict=True
        )
    ]
    middle = join(*walks)
    vertices = [*walks[0].vertices, *middle.vertices[1:], *walks[1].vertices[-2::-1]]
    return WeightPath(vertices, [*walks[0].kinds, *middle.kinds, *walks[1].kinds[::-1]])


def _end(network: Network, n_neurons: Sequence[int], kept: list[Any], subnetworks: Any, name: str) -> End:
    whole = embed(network, n_neurons)
    if subnetworks is None:
        blocks = inherited_blocks(whole, kept, network.widths[1:-1])
    else:
        blocks = given_blocks(whole, kept, subnetworks, name)
    return End(whole, kept, blocks, name)


def _pair_of_subnetworks(subnetworks: Any) -> Sequence[Any]:
    if subnetworks is None:
        return (None, None)
    if not isinstance(subnetworks, list | tuple) or len(subnetworks) != 2:
        raise ValueError(
            "subnetworks must be None or a pair with for each end None or the sequence of its sub-networks, "
            f"got {subnetworks!r}"
        )
    return subnetworks


def _check_ends(first: Network, second: Network) -> None:
    check_same_form("both ends", first, second, sizes=_sizes_of_end)
    for layer, widths in enumerate(zip(first.widths[1:-1], second.widths[1:-1], strict=True), start=1):
        if max(widths) == 1:
            raise ValueError(f"hidden layer {layer} has one neuron: a path needs two or more in every hidden layer")


def _sizes_of_end(network: Network) -> dict[str, object]:
    """Return what the ends must agree in: hidden layers may be of different widths."""
    return {"inputs": network.widths[0], "outputs": network.widths[-1], "hidden layers": network.n_hidden}


def _warn_of_equal_ends(first: Network, second: Network) -> None:
    if first == second:
        message = "both ends are the same network"
    elif are_permuted(first, second):
        message = "both ends are the same network but for the order of its neurons"
    else:
        return
    warnings.warn(f"{message}: the path is valid, but joins a function to itself", MeanfieldWarning, stacklevel=3)
