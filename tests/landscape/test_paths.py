"""Paths against plain NumPy twins: what each vertex is, and that none of the points between is worse."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import activation_value, forward, layer_factor, losses_of_samples
from random_networks import random_network as make_network

from meanfield.checks import MeanfieldWarning
from meanfield.landscape.path_risk import path_risk
from meanfield.landscape.paths import connect
from meanfield.model.laws import Empirical
from meanfield.model.network import Network

N_OUTPUTS = {"square": (1, 2, 3), "logistic": (1,), "cross-entropy": (2, 3)}
N_SAMPLES = 12


def make_data(dim, n_outputs, loss="square", seed=1):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N_SAMPLES, dim))
    if loss == "square":
        return Empirical(x, rng.standard_normal((N_SAMPLES, n_outputs)))
    if loss == "logistic":
        return Empirical(x, rng.choice([-1.0, 1.0], (N_SAMPLES, 1)))
    return Empirical(x, np.eye(n_outputs)[rng.integers(n_outputs, size=N_SAMPLES)])


def outputs_of(network, x):
    return forward(network.weights, network.biases, network.activation, network.scaling, x)


def mean_loss(loss, law, outputs):
    return float(losses_of_samples(loss, law.y, outputs).mean())


def features_of(network, x, layer):
    """Post-activation features of hidden layer ``layer``, x itself for 0."""
    h = x
    for below in range(layer):
        bias = 0 if network.biases is None else network.biases[below]
        factor = layer_factor(network.weights, below, network.scaling)
        h = activation_value(network.activation, factor * (h @ network.weights[below].T) + bias)
    return h


def dropped_outputs(network, x, kept, layer):
    """Outputs after dropping hidden layers ``layer``..H: means over the neurons written as means over kept ones."""
    h, columns = features_of(network, x, layer), list(kept[layer - 1])
    for above in range(layer, len(network.weights)):
        total = layer_factor(network.weights, above, network.scaling) * network.widths[above]
        z = total / len(columns) * h[:, columns] @ network.weights[above][:, columns].T
        z += 0 if network.biases is None else network.biases[above]
        if above == network.n_hidden:
            return z
        h, columns = activation_value(network.activation, z), list(kept[above])


def inherited_phis(network, kept, loss, law):
    layers = range(1, network.n_hidden + 1)
    return [mean_loss(loss, law, dropped_outputs(network, law.x, kept, layer)) for layer in layers]


def assert_certified(path, loss, law, expected):
    """The path's maximum is the ``expected`` one, at a vertex, and no point of a grid is above it."""
    table = path_risk(path, law, loss=loss, n_grid=5)
    assert table.attrs["vertex_maximum"] == pytest.approx(expected, rel=1e-9)
    assert table.attrs["path_maximum"] == pytest.approx(table.attrs["vertex_maximum"], rel=1e-9)
    on_grid = [mean_loss(loss, law, outputs_of(path.at(t), law.x)) for t in np.linspace(0, 1, 4 * path.n_segments + 1)]
    assert max(on_grid) <= expected * (1 + 1e-9)
    back = path_risk(path.reversed(), law, loss=loss, n_grid=2)
    assert back.attrs["vertex_maximum"] == pytest.approx(table.attrs["vertex_maximum"], rel=1e-12)
    assert back.attrs["barrier"] == pytest.approx(table.attrs["barrier"], rel=1e-9, abs=1e-12)


def assert_segments_are_what_they_say(path, x):
    for kind, (start, end), number in zip(path.kinds, pairwise(path.vertices), range(path.n_segments), strict=True):
        assert end.widths == path.vertices[0].widths
        if kind == "readout":
            biases = [(None,), (None,)] if start.biases is None else [start.biases[:-1], end.biases[:-1]]
            for a, b in [*zip(start.weights[:-1], end.weights[:-1], strict=True), *zip(*biases, strict=True)]:
                assert a is b or (np.array_equal(a, b) and np.shares_memory(a, b))
        else:
            before = outputs_of(start, x)
            size = np.abs(features_of(start, x, start.n_hidden)) @ np.abs(start.weights[-1]).T + 1
            for u in (0.25, 0.7, 1):
                inside = outputs_of(path.at((number + u) / path.n_segments), x)
                assert (np.abs(inside - before) <= 1e-11 * size).all()


@st.composite
def pairs_of_networks(draw, losses=("square", "logistic", "cross-entropy"), equal_widths=False):
    n_hidden = draw(st.integers(1, 4))
    loss = draw(st.sampled_from(losses))
    dim, n_outputs = draw(st.integers(1, 3)), draw(st.sampled_from(N_OUTPUTS[loss]))
    hidden = st.lists(st.integers(2, 7), min_size=n_hidden, max_size=n_hidden)
    first = draw(hidden)
    second = first if equal_widths else draw(hidden)
    options = {
        "activation": draw(st.sampled_from(["relu", "tanh", "sigmoid", "softplus"])),
        "scaling": draw(st.sampled_from(["mean-field", "standard"])),
        "biases": draw(st.booleans()),
    }
    seed = draw(st.integers(0, 2**20))
    ends = [
        make_network((dim, *widths, n_outputs), **options, seed=seed + k) for k, widths in enumerate((first, second))
    ]
    return ends, loss, make_data(dim, n_outputs, loss, seed)


@st.composite
def kept_sets(draw, network, common):
    """For each layer up to half of the ``common`` width, in any order."""
    return [
        draw(st.permutations(range(n)))[: draw(st.integers(1, min(n, wide // 2)))]
        for n, wide in zip(network.widths[1:-1], common, strict=True)
    ]


def common_widths(ends):
    return [max(pair) for pair in zip(ends[0].widths[1:-1], ends[1].widths[1:-1], strict=True)]


def default_kept(ends):
    return [
        [range(min(n, wide // 2)) for n, wide in zip(end.widths[1:-1], common_widths(ends), strict=True)]
        for end in ends
    ]


def expected_maximum(ends, kept, loss, law):
    of_ends = [mean_loss(loss, law, outputs_of(end, law.x)) for end in ends]
    phis = [inherited_phis(end, mine, loss, law) for end, mine in zip(ends, kept, strict=True)]
    return max(*of_ends, *phis[0], *phis[1])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_inherited_sub_networks(data):
    ends, loss, law = data.draw(pairs_of_networks())
    kept = default_kept(ends)
    if given_sets := data.draw(st.booleans()):
        kept = [data.draw(kept_sets(end, common_widths(ends))) for end in ends]
    path = connect(*ends, kept=kept if given_sets else None)
    for end, vertex in zip(ends, (path.vertices[0], path.vertices[-1]), strict=True):
        if end.widths == vertex.widths:
            assert vertex is end
        np.testing.assert_allclose(outputs_of(vertex, law.x), outputs_of(end, law.x), rtol=1e-10, atol=1e-10)
    assert path.n_segments <= 4 * ends[0].n_hidden + 3
    assert_segments_are_what_they_say(path, law.x)
    assert_certified(path, loss, law, expected_maximum(ends, kept, loss, law))


@st.composite
def random_subnetworks(draw, end, kept, common):
    """V^(0), .., V^(H) of any widths that find room, in either scaling."""
    options = {"activation": end.activation, "biases": end.biases is not None and draw(st.booleans())}
    hidden = [draw(st.integers(1, max(1, wide // 2))) for wide in common]
    reads = [end.widths[0], *map(len, kept)]
    networks = [
        make_network(
            (reads[layer], *hidden[layer:], end.widths[-1]),
            **options,
            scaling=draw(st.sampled_from(["mean-field", "standard"])),
            seed=draw(st.integers(0, 2**20)),
        )
        for layer in range(end.n_hidden)
    ]
    rng = np.random.default_rng(len(hidden))
    bias = rng.standard_normal(end.widths[-1]) if options["biases"] else None
    readout = (rng.standard_normal((end.widths[-1], reads[-1])), bias)
    below = [None, *networks[1:]] if draw(st.booleans()) and end.n_hidden > 1 else networks
    return [*below, readout]


def given_phis(end, kept, subnetworks, loss, law):
    readout, bias = subnetworks[-1]
    outputs = [features_of(end, law.x, end.n_hidden)[:, kept[-1]] @ readout.T + (0 if bias is None else bias)]
    for layer, small in enumerate(subnetworks[:-1]):
        if small is not None:
            h = features_of(end, law.x, layer)
            outputs.append(outputs_of(small, h[:, kept[layer - 1]] if layer else h))
    return [mean_loss(loss, law, y_hat) for y_hat in outputs]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_sub_networks(data):
    ends, loss, law = data.draw(pairs_of_networks())
    common = common_widths(ends)
    kept = [data.draw(kept_sets(end, common)) for end in ends]
    both = [data.draw(random_subnetworks(end, mine, common)) for end, mine in zip(ends, kept, strict=True)]
    phis = [given_phis(end, mine, small, loss, law) for end, mine, small in zip(ends, kept, both, strict=True)]
    if data.draw(st.booleans()):
        both[0], phis[0] = None, inherited_phis(ends[0], kept[0], loss, law)
    path = connect(*ends, kept=kept, subnetworks=both)
    assert_segments_are_what_they_say(path, law.x)
    of_ends = [mean_loss(loss, law, outputs_of(end, law.x)) for end in ends]
    assert_certified(path, loss, law, max(*of_ends, *phis[0], *phis[1]))


def two_layer(n_neurons, scaling="mean-field", **options):
    return [make_network((3, n_neurons, 2), scaling=scaling, seed=seed, **options) for seed in (1, 2)]


def with_rows(array, rows, values):
    changed = array.copy()
    changed[rows] = values
    return changed


def published_vertices(ends, kept, others, complement):
    """(incoming weights, output weights) at each vertex of the path in 7 segments, or in 5; halves of equal size."""
    (w, a), (v, b) = (end.weights for end in ends)
    a_kept, b_kept, b_others, b_there = (np.zeros_like(a) for _ in range(4))
    a_kept[:, kept], b_kept[:, kept], b_others[:, others] = 2 * a[:, kept], 2 * b[:, kept], 2 * b[:, others]
    b_there[:, others] = 2 * b[:, kept]
    start = [(w, a), (w, a_kept)]
    if complement:
        mixed = with_rows(w, others, v[others])
        return [*start, (mixed, a_kept), (mixed, b_others), (v, b_others), (v, b)]
    mixed = with_rows(w, others, v[kept])
    both = with_rows(mixed, kept, v[kept])
    return [*start, (mixed, a_kept), (mixed, b_there), (both, b_there), (both, b_kept), (v, b_kept), (v, b)]


@pytest.mark.parametrize("scaling", ["mean-field", "standard"])
@pytest.mark.parametrize("complement", [False, True])
@pytest.mark.parametrize("kept", [[0, 1, 2], [4, 1, 2]])
def test_two_layer_vertices_are_the_published_ones(scaling, complement, kept):
    ends = two_layer(6, scaling)
    others = np.setdiff1d(np.arange(6), kept)
    path = connect(*ends, kept=[kept], second_keeps="complement" if complement else "same")
    middle = [] if complement else ["idle", "idle"]
    assert path.kinds == ["readout", "idle", "readout", *middle, "idle", "readout"]
    expected = published_vertices(ends, kept, others, complement)
    for vertex, (incoming, outgoing) in zip(path.vertices, expected, strict=True):
        np.testing.assert_array_equal(vertex.weights[0], incoming)
        np.testing.assert_array_equal(vertex.weights[1], outgoing)


@pytest.mark.parametrize("n_neurons", [2, 5, 8, 9])
@pytest.mark.parametrize(("second_keeps", "n_segments"), [("same", 7), ("complement", 5)])
@pytest.mark.parametrize("loss", ["square", "cross-entropy"])
def test_two_layer_maximum_is_that_of_the_ends_and_the_halves(n_neurons, second_keeps, n_segments, loss):
    ends, law = two_layer(n_neurons), make_data(3, 2, loss)
    half = n_neurons // 2
    other = range(half) if second_keeps == "same" else range(half, 2 * half)
    path = connect(*ends, second_keeps=second_keeps)
    assert path.n_segments == n_segments
    assert_certified(path, loss, law, expected_maximum(ends, [[range(half)], [other]], loss, law))


@pytest.mark.parametrize("n_hidden", [1, 2, 3, 4])
@pytest.mark.parametrize("width", [4, 5])
def test_number_of_segments_is_linear_in_depth(n_hidden, width):
    ends = [make_network((2, *[width] * n_hidden, 1), seed=seed) for seed in (1, 2)]
    assert connect(*ends).n_segments <= 4 * n_hidden + 3
    assert connect(*ends, second_keeps="complement").n_segments == 4 * n_hidden + 1


def test_more_than_half_may_be_kept_where_the_other_end_keeps_less():
    ends, law = two_layer(7), make_data(3, 2)
    kept = [[[0, 1, 2, 3, 4]], [[5, 2]]]
    assert_certified(connect(*ends, kept=kept), "square", law, expected_maximum(ends, kept, "square", law))


def test_each_end_may_keep_another_number():
    ends, law = two_layer(8), make_data(3, 2)
    kept = [[[7, 0, 3]], [[1]]]
    path = connect(*ends, kept=(kept[0], kept[1]))
    assert_certified(path, "square", law, expected_maximum(ends, kept, "square", law))
    mixed = connect(*ends, kept=(None, kept[1]))
    assert_certified(mixed, "square", law, expected_maximum(ends, [[range(4)], kept[1]], "square", law))


def test_an_end_that_fits_into_half_of_the_other_is_kept_whole():
    small, wide = make_network((3, 4, 2), seed=1), make_network((3, 9, 2), seed=2)
    law = make_data(3, 2)
    risks = path_risk(connect(small, wide), law).attrs["vertex_risks"]
    assert risks[:2] == pytest.approx([mean_loss("square", law, outputs_of(small, law.x))] * 2, rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_single_precision_stays_single_and_ends_are_the_arguments(dtype):
    ends = [make_network((3, 5, 6, 2), seed=seed, dtype=dtype) for seed in (1, 2)]
    path = connect(*ends)
    assert path.vertices[0] is ends[0]
    assert path.vertices[-1] is ends[1]
    assert {vertex.dtype for vertex in path.vertices} == {np.dtype(dtype)}
    assert path.at(0.3).dtype == dtype
    attrs = path_risk(path, make_data(3, 2)).attrs
    assert attrs["path_maximum"] == pytest.approx(attrs["vertex_maximum"], rel=1e-5 if dtype == np.float32 else 1e-12)


def test_the_callers_arrays_are_not_touched():
    ends = [make_network((2, 4, 4, 1), seed=seed) for seed in (1, 2)]
    before = [[w.copy() for w in end.weights] for end in ends]
    connect(*ends)
    for end, copies in zip(ends, before, strict=True):
        assert all(np.array_equal(w, copy) for w, copy in zip(end.weights, copies, strict=True))
    assert not connect(*ends).vertices[3].weights[0].flags.writeable


def permuted(network, seed=3):
    rng = np.random.default_rng(seed)
    weights, biases = [w.copy() for w in network.weights], [b.copy() for b in network.biases]
    for layer in range(network.n_hidden):
        order = rng.permutation(network.widths[layer + 1])
        weights[layer], biases[layer] = weights[layer][order], biases[layer][order]
        weights[layer + 1] = weights[layer + 1][:, order]
    return Network(weights, biases, activation=network.activation, scaling=network.scaling)


def test_equal_ends_are_warned_of():
    network = make_network((3, 5, 4, 2))
    twin = Network(network.weights, network.biases, activation="relu", scaling="mean-field")
    with pytest.warns(MeanfieldWarning, match="both ends are the same network: the path is valid"):
        connect(network, twin)
    with pytest.warns(MeanfieldWarning, match="the same network but for the order of its neurons"):
        path = connect(network, permuted(network))
    law = make_data(3, 2)
    assert math.isfinite(path_risk(path, law).attrs["barrier"])


def test_ends_that_differ_in_one_weight_are_not_warned_of():
    network = make_network((3, 5, 4, 2))
    weights = [w.copy() for w in permuted(network).weights]
    weights[2][0, 0] += 1e-9
    other = Network(weights, network.biases, activation="relu", scaling="mean-field")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        connect(network, other)


@pytest.mark.parametrize(
    ("widths", "options", "message"),
    [
        ((4, 4, 1), {}, "both ends must have the same inputs, got 3 and 4"),
        ((3, 4, 2), {}, "both ends must have the same outputs, got 1 and 2"),
        ((3, 4, 4, 1), {}, "both ends must have the same hidden layers, got 1 and 2"),
        ((3, 4, 1), {"activation": "tanh"}, "both ends must have the same activation, got relu and tanh"),
        ((3, 4, 1), {"scaling": "standard"}, "both ends must have the same scaling, got mean-field and standard"),
        ((3, 4, 1), {"dtype": np.float32}, "the same dtype, got float64 and float32: convert the weights with .astype"),
        ((3, 4, 1), {"biases": False}, "presence of biases, got True and False: give the one without biases zeros"),
    ],
)
def test_ends_of_another_form_are_refused(widths, options, message):
    with pytest.raises(ValueError, match=message):
        connect(make_network((3, 4, 1)), make_network(widths, seed=1, **options))


def test_ends_must_be_networks_with_room():
    network = make_network((3, 4, 1))
    with pytest.raises(TypeError, match="both ends must be Networks, got str"):
        connect(network, "b.npz")
    thin = [make_network((3, 4, 1, 1), seed=seed) for seed in (1, 2)]
    with pytest.raises(ValueError, match="hidden layer 2 has one neuron: a path needs two or more"):
        connect(*thin)


@pytest.mark.parametrize(
    ("kept", "error", "message"),
    [
        (
            [range(4)],
            ValueError,
            "hidden layer 1 has 7 neurons, too few for the small networks of both ends .* 4 and 4",
        ),
        ([[0, 7]], ValueError, r"kept\[0\] of the first end must lie in 0..6, got values 0..7"),
        ([[0, -1]], ValueError, r"kept\[0\] of the first end must lie in 0..6"),
        ([[1, 1]], ValueError, r"kept\[0\] of the first end must be distinct, got 1 repeated"),
        ([[]], ValueError, "must be a non-empty one-dimensional array"),
        ([[0.5]], TypeError, "must hold integer positions"),
        (([[0]], [[9]]), ValueError, r"kept\[0\] of the second end must lie in 0..6"),
        ([[0], [1]], ValueError, "kept must hold one index array a hidden layer, 1, or a pair of these, got 2"),
        ("random", TypeError, "got str: pass .indices. for one hidden layer; choose_kept makes sets by name"),
        (np.array([0, 1]), TypeError, "got ndarray"),
    ],
)
def test_bad_kept_sets_are_refused(kept, error, message):
    with pytest.raises(error, match=message):
        connect(*two_layer(7), kept=kept)


def test_too_many_kept_in_a_deep_network_say_which_layer_lacks_room():
    ends = [make_network((2, 6, 5, 1), seed=seed) for seed in (1, 2)]
    with pytest.raises(ValueError, match=r"layer 2 of the first end has 5 neurons, 3 in use, and no room for the 3 of"):
        connect(*ends, kept=[[0, 1], [0, 1, 2]])


def test_kept_numbers_are_refused_by_the_rule_that_they_break():
    ends = two_layer(6)
    for kept, match in (
        (4, r"kept\[0\] of the first end must be a .* got shape \(\): pass positions, not their number"),
        (range(9), r"kept\[0\] of the first end must lie in 0\.\.5, got values 0\.\.8"),
        (range(4), r"6 neurons, too few .* of 4 and 4: keep at most 6 of it in both ends together"),
    ):
        with pytest.raises(ValueError, match=match):
            connect(*ends, kept=[kept])


def test_each_end_keeps_its_own_unless_told_otherwise():
    ends = two_layer(6)
    assert connect(*ends) == connect(*ends, second_keeps="own") == connect(*ends, second_keeps="same")
    assert connect(*ends, kept=[[1, 4]]) == connect(*ends, kept=([[1, 4]], [[1, 4]]))
    assert connect(*ends, kept=([[1, 4]], [[0]]), second_keeps="own") == connect(*ends, kept=([[1, 4]], [[0]]))


def test_same_and_complement_are_for_one_kept_set_and_the_complement_for_one_that_leaves_something():
    ends = two_layer(6)
    for second_keeps in ("same", "complement"):
        with pytest.raises(ValueError, match=f"second_keeps='{second_keeps}' is for one kept set, got a pair: leave"):
            connect(*ends, kept=([[0]], [[1]]), second_keeps=second_keeps)
    with pytest.raises(ValueError, match="leaves nothing of hidden layer 1 of the second end, of width 6"):
        connect(*ends, kept=[range(6)], second_keeps="complement")
    with pytest.raises(ValueError, match="unknown second_keeps 'complment': did you mean 'complement'"):
        connect(*ends, second_keeps="complment")


def small_networks(**changes):
    """V^(0), V^(1), V^(2) for ends of widths (2, 6, 6, 1) that keep 2 and 3 neurons; ``changes`` by their number."""
    fitting = {
        "v0": make_network((2, 2, 3, 1)),
        "v1": make_network((2, 3, 1)),
        "v2": (np.ones((1, 3)), np.zeros(1)),
    }
    return list((fitting | changes).values())


@pytest.mark.parametrize(
    ("subnetworks", "error", "message"),
    [
        (5, TypeError, "subnetworks of the first end must be None or a list or tuple with one entry .*0..2, got int"),
        (small_networks()[:2], ValueError, "must hold 3 entries, one for each of l = 0..2, got 2"),
        (small_networks(v1=None), TypeError, "sub-network 1 of the first end must be a Network, got NoneType"),
        (small_networks(v1=make_network((3, 3, 1))), ValueError, "must have 2 inputs, 1 hidden layers and 1 outputs"),
        (
            small_networks(v0=make_network((2, 3, 1))),
            ValueError,
            r"2 hidden layers and 1 outputs, got widths \(2, 3, 1",
        ),
        (small_networks(v1=make_network((2, 3, 2))), ValueError, "1 hidden layers and 1 outputs"),
        (small_networks(v1=make_network((2, 3, 1), activation="tanh")), ValueError, "activation of the end, relu, got"),
        (small_networks(v1=make_network((2, 3, 1), dtype=np.float32)), ValueError, "dtype of the end, float64, got"),
        (small_networks(v2=np.ones((1, 3))), TypeError, r"sub-network 2 .* must be a pair \(weights, bias or None\)"),
        (small_networks(v2=(np.ones((3, 1)), None)), ValueError, r"weights of shape \(1, 3\) .* got \(3, 1\) and None"),
        (small_networks(v2=(np.ones((1, 3)), np.ones(2))), ValueError, r"got \(1, 3\) and \(2,\)"),
        (
            small_networks(v2=(np.full((1, 3), np.nan), None)),
            ValueError,
            "sub-network 2 of the first end must be finite",
        ),
        (small_networks(v1=make_network((2, 4, 1))), ValueError, "3 in use, and no room for the 4 of sub-network 1"),
    ],
)
def test_sub_networks_that_do_not_fit_are_refused(subnetworks, error, message):
    ends = [make_network((2, 6, 6, 1), seed=seed) for seed in (1, 2)]
    with pytest.raises(error, match=message):
        connect(*ends, kept=[[0, 1], [1, 2, 3]], subnetworks=(subnetworks, None))


def test_sub_networks_come_as_a_pair_and_without_biases_where_the_ends_have_none():
    ends = [make_network((2, 6, 6, 1), seed=seed, biases=False) for seed in (1, 2)]
    options = {"kept": [[0, 1], [1, 2, 3]]}
    with pytest.raises(ValueError, match="subnetworks must be None or a pair"):
        connect(*ends, **options, subnetworks=small_networks())
    with pytest.raises(ValueError, match="sub-network 0 of the second end has biases but its end has none"):
        connect(*ends, **options, subnetworks=(None, small_networks()))
