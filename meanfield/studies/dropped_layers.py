"""Dropping neurons from each hidden layer alone, and from all at once: which entries that is, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from meanfield.landscape.counts import only_last_dropped
from meanfield.landscape.permutations import quantile_table
from meanfield.model.network import Network
from meanfield.studies.evaluation import FixedSamples

__all__ = ["ALL_LAYERS", "DELTA", "N_ORDERS", "dropped_curve", "dropped_entries", "layer_name"]

ALL_LAYERS = "all hidden layers"

# Quantiles at 1 - delta have an upper end from 36 orders on.
DELTA = 0.1
N_ORDERS = 40
INTERVAL_LEVEL = 0.95

MOMENTS = ["mean_change", "std_change", "standard_error", "method"]
CURVE = ["n_kept", *MOMENTS, "quantile", "magnitude", "magnitude_low", "magnitude_high"]


def layer_name(layer: int) -> str:
    """Name the hidden layer l = 1..H that alone loses neurons."""
    return f"hidden layer {layer}"


def dropped_entries(hidden: Sequence[int], n_kept: Sequence[int]) -> pd.DataFrame:
    """Return the entries of `meanfield.dropout_curve` that keep each of ``n_kept`` in one hidden layer, and in all.

    Parameters
    ----------
    hidden : widths (n_1, .., n_H); the only layer of H = 1 is all of them
    n_kept : numbers m, each within all widths

    Returns
    -------
    DataFrame with columns dropped ("hidden layer 1", .., "all hidden layers"), n_kept (m) and entry (m_1, .., m_H)
    """
    widths, n_hidden = np.array(hidden), len(hidden)
    masks = {layer_name(layer): np.arange(1, n_hidden + 1) == layer for layer in range(1, n_hidden + 1)}
    masks = (masks if n_hidden > 1 else {}) | {ALL_LAYERS: np.ones(n_hidden, bool)}
    return pd.DataFrame(
        [
            {"dropped": name, "n_kept": m, "entry": tuple(np.where(mask, m, widths).tolist())}
            for name, mask in masks.items()
            for m in n_kept
        ]
    )


def dropped_curve(
    network: Network, samples: FixedSamples, n_kept: Sequence[int], n_orders: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Return moments of L_A - L and the (1 - delta)-quantile of |L_A - L| with its interval, from random orders.

    Where neurons of the last hidden layer alone are dropped the moments are those over all subsets.

    Parameters
    ----------
    n_kept : numbers m, as in `dropped_entries`
    n_orders : random orders of the neurons, at least 2; a set of every size from each
    rng : Generator that the orders are drawn from

    Returns
    -------
    DataFrame with one row a layer that loses neurons and m: dropped and n_kept as in `dropped_entries`; mean_change,
    std_change, standard_error and method as in `meanfield.dropout_curve`; quantile, magnitude, magnitude_low and
    magnitude_high as in `meanfield.dropout_quantiles`
    """
    dropped = dropped_entries(network.widths[1:-1], n_kept)
    entries = dropped["entry"].tolist()
    drawn = samples.drawn(network, entries, n_orders, rng)
    table = quantile_table(network, entries, drawn, [1 - DELTA], INTERVAL_LEVEL).assign(n_kept=dropped["n_kept"])
    of_last = np.array([only_last_dropped(network, entry) for entry in entries])
    exact = samples.curve(network, dropped.loc[of_last, "entry"].tolist(), std=True)
    table.loc[of_last, MOMENTS] = exact[MOMENTS].to_numpy()
    return pd.concat([dropped["dropped"], table[CURVE]], axis=1)
