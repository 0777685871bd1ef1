"""Paths as objects: points, lengths, reversal, concatenation, files."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from random_networks import random_network as make_network

from meanfield import Network, PiecewiseLinear
from meanfield.landscape.paths import connect
from meanfield.landscape.weight_path import WeightPath
from meanfield.model.npz import read_npz


def make_path(widths=(2, 5, 4, 1), **options):
    return connect(make_network(widths, seed=1, **options), make_network(widths, seed=2, **options))


def with_output(network, scale):
    weights = [*network.weights[:-1], network.weights[-1] * scale]
    return Network(weights, network.biases, activation=network.activation, scaling=network.scaling)


def line(*scales):
    """Readout segments along multiples of one network's output weights."""
    network = make_network((2, 3, 1))
    return WeightPath([with_output(network, scale) for scale in scales], ["readout"] * (len(scales) - 1))


@pytest.mark.parametrize("n_segments", [1, 3, 7, 49])
def test_vertices_are_met_exactly(n_segments):
    path = line(*range(1, n_segments + 2))
    for k, vertex in enumerate(path.vertices):
        assert path.at(k / n_segments) is vertex


def test_points_between_vertices():
    path = make_path()
    for segment, u in [(0, 0.25), (2, 0.5), (path.n_segments - 1, 0.75)]:
        start, end = path.ends(segment)
        point = path.at((segment + u) / path.n_segments)
        for a, b, mixed in zip(*(n.weights + n.biases for n in (start, end, point)), strict=True):
            np.testing.assert_allclose(mixed, (1 - u) * a + u * b, rtol=1e-10, atol=1e-12)
            np.testing.assert_array_equal(mixed[a == b], a[a == b])
    assert path.at(np.nextafter(1, 0)).widths == path.vertices[0].widths


@pytest.mark.parametrize("t", [-1e-9, 1.0000001, np.nan])
def test_points_lie_on_the_path(t):
    with pytest.raises(ValueError, match=r"t must lie in \[0, 1\], got .*: 0 is the first network and 1 the last"):
        make_path().at(t)


@pytest.mark.parametrize("t", ["0.5", True, np.True_, None])
def test_t_of_another_type(t):
    with pytest.raises(TypeError, match="t must be a number, got"):
        make_path().at(t)


def test_lengths_are_euclidean():
    path = make_path()
    for segment, length in enumerate(path.lengths):
        a, b = (np.concatenate([p.ravel() for p in end.weights + end.biases]) for end in path.ends(segment))
        assert length == pytest.approx(np.linalg.norm(a - b), rel=1e-12)


def test_reversed_path():
    path = make_path()
    back = path.reversed()
    assert back.vertices == path.vertices[::-1]
    assert back.kinds == path.kinds[::-1]
    assert back.reversed() == path
    assert back != path


def test_concatenation():
    a, b, c = (make_network((2, 5, 4, 1), seed=seed) for seed in range(3))
    there, on = connect(a, b), connect(b, c)
    whole = there + on
    assert whole.n_segments == there.n_segments + on.n_segments
    assert whole.kinds == there.kinds + on.kinds
    assert whole.vertices[0] is a
    assert whole.vertices[-1] is c
    with pytest.raises(ValueError, match="the second path must begin where the first one ends"):
        on + there
    with pytest.raises(TypeError, match="unsupported operand"):
        there + a


def test_concatenation_takes_every_bit_of_the_ends():
    path = line(1, 2)
    nudged = line(np.nextafter(2, 3), 3)
    with pytest.raises(ValueError, match="connect them first"):
        path + nudged


def test_summary_says_what_moves():
    lines = make_path((2, 4, 1)).summary().splitlines()
    assert lines[0].startswith("WeightPath(7 segments, 3 readout, 4 idle, through Network(widths=(2, 4, 1)")
    assert "length" in lines[0]
    assert [line.split()[1] for line in lines[1:]] == ["readout", "idle", "readout", "idle", "idle", "idle", "readout"]
    assert "the output layer moved" in lines[1]
    assert "2 neurons of hidden layer 1 moved, function unchanged" in lines[2]
    assert "the output weights moved, function unchanged" in lines[5]


def test_vertices_share_what_does_not_move():
    path = make_path((3, 6, 6, 6, 2))
    owned = {w.__array_interface__["data"][0] for vertex in path.vertices for w in vertex.weights}
    moved = sum(
        not np.shares_memory(a, b)
        for segment in range(path.n_segments)
        for a, b in zip(*(end.weights for end in path.ends(segment)), strict=True)
    )
    assert len(owned) == 4 + moved
    assert moved < 4 * path.n_segments / 2


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("activation", ["tanh", PiecewiseLinear([(0.0, 0.0), (1.0, 2.0)], right_slope=0.5)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_files_hold_the_path_and_shared_arrays_once(tmp_path, biases, activation, dtype):
    path = make_path(activation=activation, biases=biases, scaling="standard", dtype=dtype)
    path.save(tmp_path / "path.npz")
    loaded = WeightPath.load(tmp_path / "path.npz")
    assert loaded == path
    owned = {p.__array_interface__["data"][0] for v in path.vertices for p in v.weights + (v.biases or ())}
    stored = read_npz(tmp_path / "path.npz")
    assert sum(name.startswith("vertex_") for name in stored) == len(owned)
    for segment in range(path.n_segments):
        for (a, b), (c, d) in zip(
            zip(*(end.weights for end in path.ends(segment)), strict=True),
            zip(*(end.weights for end in loaded.ends(segment)), strict=True),
            strict=True,
        ):
            assert np.shares_memory(c, d) == np.shares_memory(a, b)


def test_paths_there_and_back_are_stored_once(tmp_path):
    path = make_path()
    path.save(tmp_path / "there.npz")
    (path + path.reversed()).save(tmp_path / "back.npz")
    there, back = (read_npz(tmp_path / f"{name}.npz") for name in ("there", "back"))
    assert len(there) == len(back)
    assert WeightPath.load(tmp_path / "back.npz") == path + path.reversed()


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda path: pickle.loads(pickle.dumps(path))])
def test_paths_can_be_sent_to_other_processes(twin):
    path = make_path()
    assert twin(path) == path


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda arrays: arrays.pop("kinds"), "is not a saved path: it lacks kinds"),
        (lambda arrays: arrays.pop("stored_at"), "is not a saved path: it lacks stored_at"),
        (lambda arrays: arrays.pop("scaling"), "vertex 0 of .* is not a saved network: it lacks scaling"),
        (lambda arrays: arrays.pop("vertex_1_weight_2"), "is not a saved path: it lacks vertex_1_weight_2"),
        (lambda arrays: arrays.pop("vertex_0_bias_0"), "stored_at must hold integers, one row a vertex"),
        (lambda arrays: arrays.update(stored_at=arrays["stored_at"] + 0.0), "stored_at must hold integers"),
        (lambda arrays: arrays.update(stored_at=arrays["stored_at"] - 5), "it lacks vertex_-5_"),
        (lambda arrays: arrays.update(stored_at=arrays["stored_at"][:-1]), r"S >= 1 kinds has S \+ 1 vertices"),
        (lambda arrays: arrays.update(stored_at=arrays["stored_at"][0]), "stored_at must hold integers"),
        (lambda arrays: arrays.update(kinds=np.array("idle")), "and kinds one name a segment"),
        (lambda arrays: arrays.update(kinds=np.arange(11)), "unknown kind 0"),
        (lambda arrays: arrays.update(kinds=np.array(["readout"] * 11)), "'readout' but moves weights or biases of"),
        (lambda arrays: arrays.update(vertex_0_weight_0=np.ones((5, 3))), "vertices 0 and 4 must have the same widths"),
        (lambda arrays: arrays.update(vertex_0_weight_0=np.full((5, 2), np.nan)), "must be finite"),
    ],
)
def test_malformed_files_are_refused(tmp_path, damage, message):
    path = make_path()
    path.save(tmp_path / "path.npz")
    arrays = read_npz(tmp_path / "path.npz")
    damage(arrays)
    np.savez(tmp_path / "path.npz", **arrays)
    with pytest.raises(ValueError, match=message) as caught:
        WeightPath.load(tmp_path / "path.npz")
    assert repr(str(tmp_path / "path.npz")) in str(caught.value)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text.npz").write_text("not a path")
    with pytest.raises(ValueError, match="cannot read"):
        WeightPath.load(tmp_path / "text.npz")
    make_network((2, 3, 1)).save(tmp_path / "network.npz")
    with pytest.raises(ValueError, match="is not a saved path: it lacks kinds, stored_at"):
        WeightPath.load(tmp_path / "network.npz")
    with pytest.raises(FileNotFoundError, match="no file"):
        WeightPath.load(tmp_path / "missing.npz")


@pytest.mark.parametrize(
    ("segment", "error", "message"),
    [
        (-1, ValueError, r"segment must be in 0\.\.1, got -1"),
        (2, ValueError, r"segment must be in 0\.\.1, got 2"),
        (0.5, TypeError, "segment must be an integer, got 0.5"),
    ],
)
def test_segments_are_numbered_from_zero(segment, error, message):
    path = line(1, 2, 3)
    assert path.ends(np.int64(1)) == tuple(path.vertices[1:])
    with pytest.raises(error, match=message):
        path.ends(segment)


def test_paths_are_checked_when_made():
    network, other = make_network((2, 3, 1)), make_network((2, 3, 1), seed=1)
    with pytest.raises(ValueError, match=r"a path of S >= 1 kinds has S \+ 1 vertices, got 1 and 3"):
        WeightPath([network] * 3, ["idle"])
    with pytest.raises(TypeError, match="vertices must be a list or tuple, got NoneType"):
        WeightPath(None, ["idle"])
    for kinds in (None, "idle"):
        with pytest.raises(TypeError, match=f"kinds must be a list or tuple, got {type(kinds).__name__}"):
            WeightPath([network] * 2, kinds)
    with pytest.raises(ValueError, match="got 0 and 1"):
        WeightPath([network], [])
    with pytest.raises(ValueError, match="unknown kind 'redout': did you mean 'readout'"):
        WeightPath([network, network], ["redout"])
    with pytest.raises(TypeError, match="vertices 0 and 1 must be Networks, got int"):
        WeightPath([network, 3], ["idle"])
    with pytest.raises(
        ValueError, match=r"vertices 0 and 1 must have the same widths, got \(2, 3, 1\) and \(2, 4, 1\)"
    ):
        WeightPath([network, make_network((2, 4, 1))], ["idle"])
    with pytest.raises(ValueError, match="vertices 0 and 1 must have the same activation, got relu and tanh"):
        WeightPath([network, make_network((2, 3, 1), activation="tanh")], ["idle"])
    with pytest.raises(
        ValueError, match="segment 0 is of kind 'readout' but moves weights or biases of hidden layer 1"
    ):
        WeightPath([network, other], ["readout"])


def test_a_readout_segment_may_move_the_output_bias_but_no_other():
    network = make_network((2, 3, 1))
    for layer, is_fine in [(0, False), (1, True)]:
        biases = [b + (k == layer) for k, b in enumerate(network.biases)]
        moved = Network(network.weights, biases, activation="relu", scaling="mean-field")
        if is_fine:
            assert WeightPath([network, moved], ["readout"]).kinds == ["readout"]
        else:
            with pytest.raises(ValueError, match="hidden layer 1"):
                WeightPath([network, moved], ["readout"])
