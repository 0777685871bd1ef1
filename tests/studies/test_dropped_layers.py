"""Entries of dropout curves by the layers that lose neurons."""

from __future__ import annotations

import numpy as np
import pytest
from random_networks import random_network, random_samples

from meanfield import Empirical, dropout_curve
from meanfield.landscape.orders import random_ranks
from meanfield.studies.dropped_layers import dropped_curve, dropped_entries
from meanfield.studies.evaluation import FixedSamples


def test_each_layer_alone_and_all_at_once():
    table = dropped_entries((8, 16, 32), [4, 2])
    assert table["dropped"].unique().tolist() == [
        "hidden layer 1",
        "hidden layer 2",
        "hidden layer 3",
        "all hidden layers",
    ]
    assert table["n_kept"].tolist() == [4, 2] * 4
    assert table.loc[table["n_kept"] == 2, "entry"].tolist() == [(2, 16, 32), (8, 2, 32), (8, 16, 2), (2, 2, 2)]


def test_the_only_layer_is_all_of_them():
    table = dropped_entries((8,), [4])
    assert table.to_dict("records") == [{"dropped": "all hidden layers", "n_kept": 4, "entry": (4,)}]


@pytest.mark.parametrize("widths", [(3, 8, 2), (3, 8, 10, 2)])
def test_the_curve_is_exact_in_the_last_layer_and_drawn_elsewhere(widths):
    network = random_network(widths)
    law = Empirical(*random_samples("square", 30, 3))
    samples = FixedSamples(law, 30, np.random.default_rng(0))
    curve = dropped_curve(network, samples, [4, 6], 50, np.random.default_rng(1)).set_index(["dropped", "n_kept"])
    n_hidden = len(widths) - 2
    last = "all hidden layers" if n_hidden == 1 else "hidden layer 2"
    exact = dropout_curve(network, law, [(*widths[1:-2], 4)], std=True)
    row = curve.loc[(last, 4)]
    assert (row["mean_change"], row["std_change"]) == (exact["mean_change"].item(), exact["std_change"].item())
    assert row["method"] == "exact"
    ranks = random_ranks(widths[1:-1], 50, np.random.default_rng(1))
    risk = np.square(law.y - network.predict(law.x)).sum(axis=1).mean()
    kept = [[np.flatnonzero(rank < 6) for rank in order] for order in zip(*ranks, strict=True)]
    changes = [np.square(law.y - network.keep(sets).predict(law.x)).sum(axis=1).mean() - risk for sets in kept]
    row = curve.loc[("all hidden layers", 6)]
    assert row["magnitude"] == pytest.approx(np.sort(np.abs(changes))[44], rel=1e-9)
    assert row["magnitude_low"] < row["magnitude"] < row["magnitude_high"]
    assert row["quantile"] == 0.9
    if n_hidden > 1:
        assert row["mean_change"] == pytest.approx(np.mean(changes), rel=1e-9)
