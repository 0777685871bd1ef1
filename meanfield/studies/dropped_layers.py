"""From which hidden layers a study drops neurons: from each alone, and from all at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

__all__ = ["ALL_LAYERS", "dropped_entries", "layer_name"]

ALL_LAYERS = "all layers"


def layer_name(layer: int) -> str:
    """Name the hidden layer l = 1..H that alone loses neurons."""
    return f"layer {layer}"


def dropped_entries(hidden: Sequence[int], n_kept: Sequence[int]) -> pd.DataFrame:
    """Return the entries of `meanfield.dropout_curve` that keep each of ``n_kept`` in one hidden layer, and in all.

    Parameters
    ----------
    hidden : widths (n_1, .., n_H); the only layer of H = 1 is all of them
    n_kept : numbers m, each within all widths

    Returns
    -------
    DataFrame with columns dropped ("layer 1", .., "all layers"), n_kept (m) and entry (m_1, .., m_H)
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
