"""Entries of dropout curves by the layers that lose neurons."""

from __future__ import annotations

from meanfield.studies.dropped_layers import dropped_entries


def test_each_layer_alone_and_all_at_once():
    table = dropped_entries((8, 16, 32), [4, 2])
    assert table["dropped"].unique().tolist() == ["layer 1", "layer 2", "layer 3", "all layers"]
    assert table["n_kept"].tolist() == [4, 2] * 4
    assert table.loc[table["n_kept"] == 2, "entry"].tolist() == [(2, 16, 32), (8, 2, 32), (8, 16, 2), (2, 2, 2)]


def test_the_only_layer_is_all_of_them():
    table = dropped_entries((8,), [4])
    assert table.to_dict("records") == [{"dropped": "all layers", "n_kept": 4, "entry": (4,)}]
