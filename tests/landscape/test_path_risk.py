"""The loss along a path: every row against plain forward passes, and paths that are no paths."""

from __future__ import annotations

import numpy as np
import pytest
from oracles import forward, losses_of_samples
from random_networks import random_law
from random_networks import random_network as make_network

import meanfield.model.network as network_module
from meanfield import Network
from meanfield.landscape import path_risk as path_risk_module
from meanfield.landscape.path_risk import path_risk
from meanfield.landscape.paths import connect
from meanfield.landscape.weight_path import WeightPath
from meanfield.model.laws import Empirical, IsotropicGaussians

COLUMNS = ["segment", "kind", "t", "risk", "standard_error"]
ISOTROPIC = IsotropicGaussians(dim=3, delta=0.5)


def make_path(n_outputs=1, hidden=(6, 5), **options):
    return connect(*(make_network((3, *hidden, n_outputs), seed=seed, **options) for seed in (1, 2)))


def plain_losses(network, x, y, loss):
    outputs = forward(network.weights, network.biases, network.activation, network.scaling, x)
    return losses_of_samples(loss, y, outputs)


def plain_mistakes(network, x, y):
    outputs = forward(network.weights, network.biases, network.activation, network.scaling, x)
    return np.sign(outputs) != y if y.shape[1] == 1 else outputs.argmax(axis=1) != y.argmax(axis=1)


@pytest.mark.parametrize("loss", ["square", "logistic", "cross-entropy"])
def test_the_barrier_above_the_chord_is_that_of_a_fine_grid(loss):
    law = random_law(loss, 20, 3)
    path = make_path(law.n_outputs)
    times = np.linspace(0, 1, 20 * path.n_segments + 1)
    risks = np.array([plain_losses(path.at(t), law.x, law.y, loss).mean() for t in times])
    above = np.max(risks - (1 - times) * risks[0] - times * risks[-1])
    for each in (path, path.reversed()):
        assert path_risk(each, law, loss=loss).attrs["barrier_above_chord"] == pytest.approx(above, rel=1e-9)


@pytest.mark.parametrize("loss", ["square", "logistic", "cross-entropy"])
def test_every_row_is_the_loss_there(loss):
    law = random_law(loss, 20, 3)
    path = make_path(law.n_outputs)
    table = path_risk(path, law, loss=loss, n_grid=6)
    expected = [plain_losses(path.at(t), law.x, law.y, loss).mean() for t in table["t"]]
    np.testing.assert_allclose(table["risk"], expected, rtol=1e-10)
    assert (table["standard_error"] == 0).all()
    assert list(table) == COLUMNS + ["classification_error"] * (loss != "square")
    if loss != "square":
        mistakes = [plain_mistakes(path.at(t), law.x, law.y).mean() for t in table["t"]]
        np.testing.assert_allclose(table["classification_error"], mistakes, atol=1e-12)


def test_rows_follow_the_segments():
    path = make_path(2)
    table = path_risk(path, random_law("square", 20, 3), n_grid=4)
    assert table["segment"].tolist() == sorted(table["segment"])
    for segment, rows in table.groupby("segment"):
        assert set(rows["kind"]) == {path.kinds[segment]}
        assert len(rows) == (4 if path.kinds[segment] == "readout" else 3)
        u = rows["t"].to_numpy() * path.n_segments - segment
        assert u[[0, -1]] == pytest.approx([0, 1], abs=1e-12)
        assert (np.diff(u) > 0).all()
    ends = table.groupby("segment")["risk"]
    assert ends.first().tolist()[1:] == ends.last().tolist()[:-1]
    assert [*ends.first(), ends.last().iloc[-1]] == table.attrs["vertex_risks"]


def test_attributes_of_the_whole_population():
    law = random_law("square", 20, 3)
    attrs = path_risk(make_path(2), law).attrs
    risks = attrs["vertex_risks"]
    assert attrs["vertex_maximum"] == max(risks) == risks[attrs["maximum_vertex"]]
    assert attrs["barrier"] == pytest.approx(max(risks) - max(risks[0], risks[-1]), rel=1e-12)
    assert attrs["barrier"] > 0
    assert attrs["barrier_standard_error"] == 0
    assert (attrs["loss"], attrs["method"], attrs["n_samples"]) == ("square", "exact", 20)
    assert attrs["idle_deviation"] < 1e-13
    assert attrs["n_evaluations"] == 12 + 6  # vertices, and idle segments inside
    assert attrs["certificate"].startswith(f"maximum at vertex {attrs['maximum_vertex']}: the square loss is convex")


def test_a_path_without_barrier_has_exactly_none():
    network = make_network((3, 4, 2))
    worse = Network(
        [network.weights[0], 100 * network.weights[1]], network.biases, activation="relu", scaling="mean-field"
    )
    for vertices in ([network, worse], [worse, network]):
        assert path_risk(WeightPath(vertices, ["readout"]), random_law("square", 20, 3)).attrs["barrier"] == 0


def test_quadratics_give_the_loss_between():
    law = random_law("square", 20, 3)
    path = make_path(2)
    quadratics = path_risk(path, law, n_grid=2).attrs["quadratics"]
    assert list(quadratics) == [k for k, kind in enumerate(path.kinds) if kind == "readout"]
    for segment, (start, end, move) in quadratics.items():
        assert move > 0
        for u in (0.1, 0.5, 0.8):
            expected = plain_losses(path.at((segment + u) / path.n_segments), law.x, law.y, "square").mean()
            assert (1 - u) * start + u * end - u * (1 - u) * move == pytest.approx(expected, rel=1e-10)
    assert "quadratics" not in path_risk(make_path(3), random_law("cross-entropy", 20, 3), loss="cross-entropy").attrs


@pytest.mark.parametrize("swapped", [False, True])
def test_standard_errors_are_those_of_one_common_sample(swapped):
    path = make_path()
    path = path.reversed() if swapped else path
    table = path_risk(path, ISOTROPIC, n_samples=500, rng=7)
    x, y = ISOTROPIC.sample(500, np.random.default_rng(7))
    losses = np.array([plain_losses(path.at(t), x, y, "square") for t in table["t"]])
    np.testing.assert_allclose(table["risk"], losses.mean(axis=1), rtol=1e-10)
    np.testing.assert_allclose(table["standard_error"], losses.std(axis=1, ddof=1) / 500**0.5, rtol=1e-8)
    at_vertices = np.array([plain_losses(vertex, x, y, "square") for vertex in path.vertices])
    means = at_vertices.mean(axis=1)
    paired = at_vertices[means.argmax()] - at_vertices[0 if means[0] >= means[-1] else -1]
    assert table.attrs["barrier"] == pytest.approx(paired.mean(), rel=1e-9)
    assert table.attrs["barrier_standard_error"] == pytest.approx(paired.std(ddof=1) / 500**0.5, rel=1e-8)
    assert (table.attrs["method"], table.attrs["n_samples"]) == ("sample", 500)


def test_chunks_of_samples_do_not_matter(monkeypatch):
    path = make_path()
    whole = path_risk(path, ISOTROPIC, n_samples=100, rng=3)
    monkeypatch.setattr(network_module, "CHUNK", 17)
    parts = path_risk(path, ISOTROPIC, n_samples=100, rng=3)
    np.testing.assert_allclose(parts["risk"], whole["risk"], rtol=1e-12)
    np.testing.assert_allclose(parts["standard_error"], whole["standard_error"], rtol=1e-10)
    for name in ("barrier", "barrier_standard_error", "vertex_risks"):
        assert parts.attrs[name] == pytest.approx(whole.attrs[name], rel=1e-9)


def with_array(network, layer, change):
    weights = [w.copy() for w in network.weights]
    change(weights[layer])
    return Network(weights, network.biases, activation=network.activation, scaling=network.scaling)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("change", [1.0, 1e-2])
def test_an_idle_segment_that_moves_an_active_weight_is_caught(dtype, change):
    path = make_path(2, dtype=dtype)
    law = random_law("square", 20, 3)
    segment = path.kinds.index("idle")
    vertices = path.vertices
    active = int(np.flatnonzero(vertices[segment + 1].weights[-1][0])[0])

    def corrupt(weights):
        weights[active] += change

    vertices[segment + 1] = with_array(vertices[segment + 1], 1, corrupt)
    vertices[segment + 2] = with_array(vertices[segment + 2], 1, corrupt)
    corrupted = WeightPath(vertices, path.kinds)
    with pytest.raises(ValueError, match=f"segment {segment} is of kind 'idle', but its outputs move by"):
        path_risk(corrupted, law)
    assert path_risk(path, law).attrs["idle_deviation"] < 1e-5


def test_an_idle_segment_that_only_moves_the_outputs_inside_is_caught():
    network = make_network((3, 4, 2))
    order = [1, 0, 2, 3]
    swapped = Network(
        [network.weights[0][order], network.weights[1][:, order]],
        [network.biases[0][order], network.biases[1]],
        activation="relu",
        scaling="mean-field",
    )
    with pytest.raises(ValueError, match="only what the function does not depend on may move there"):
        path_risk(WeightPath([network, swapped], ["idle"]), random_law("square", 20, 3))


def counterexample():
    """Outputs on x > 0 are zero at both ends and at u = 0.382, and not where a neuron has switched on."""
    start, end = (
        Network([np.array(w)[:, np.newaxis], np.array([[1.0, -1.0]])], activation="relu", scaling="standard")
        for w in ([-0.5, -1.5], [0.5, 0.5])
    )
    return WeightPath([start, end], ["idle"])


def test_an_idle_segment_that_moves_the_outputs_at_other_points_alone_is_caught():
    path, law = counterexample(), Empirical(np.array([[1.0], [2.0]]), np.zeros((2, 1)))
    losses = [plain_losses(path.at(t), law.x, law.y, "square").mean() for t in (0, 0.382, 0.75, 1)]
    assert losses[:2] == [0, 0]
    assert losses[2] == pytest.approx(0.15625)
    assert losses[3] == 0
    with pytest.raises(ValueError, match="segment 0 is of kind 'idle', but moves what its outputs may depend on"):
        path_risk(path, law)


def test_a_loss_that_is_not_convex_fails_the_certificate(monkeypatch):
    monkeypatch.setattr(path_risk_module, "check_targets", lambda loss, y: None)
    monkeypatch.setattr(
        "meanfield.landscape.path_losses.per_sample_loss",
        lambda loss, y, y_hat: np.tanh(10 - ((y - y_hat) ** 2).sum(axis=1)),
    )
    network = make_network((3, 4, 2))
    opposite = with_array(network, 1, lambda weights: np.multiply(weights, -1, out=weights))
    path = WeightPath([network, opposite], ["readout"])
    big = Empirical(10 * random_law("square", 20, 3).x, np.zeros((20, 2)))
    with pytest.raises(ArithmeticError, match=r"the largest risk on the path, .* is above that of all vertices"):
        path_risk(path, big)


@pytest.mark.parametrize("kind", ["readout", "idle"])
def test_overflow_is_no_certificate(kind):
    network = make_network((3, 4, 2))
    huge = with_array(network, 1, lambda weights: np.multiply(weights, 1e200, out=weights))
    with pytest.raises(ArithmeticError, match="the risk on segment 0 is inf: outputs overflow"):
        path_risk(WeightPath([network, huge], [kind]), random_law("square", 20, 3))


def test_progress_is_shown_when_asked(capsys):
    path = make_path(2)
    path_risk(path, random_law("square", 20, 3))
    assert capsys.readouterr().err == ""
    path_risk(path, random_law("square", 20, 3), progress=True)
    assert "1/1" in capsys.readouterr().err


def test_bad_input_is_refused():
    path, law = make_path(2), random_law("square", 20, 3)
    with pytest.raises(TypeError, match=r"path must be a WeightPath, got list: connect\(first, second\) makes one"):
        path_risk(path.vertices, law)
    with pytest.raises(ValueError, match="network has 3 inputs, but the law Empirical has 2"):
        path_risk(path, Empirical(law.x[:, :2], law.y))
    with pytest.raises(ValueError, match="network has 2 outputs, but the law Empirical has 1"):
        path_risk(path, Empirical(law.x, law.y[:, :1]))
    with pytest.raises(ValueError, match="unknown loss 'sqare': did you mean 'square'"):
        path_risk(path, law, loss="sqare")
    with pytest.raises(ValueError, match="loss 'cross-entropy' does not suit the targets"):
        path_risk(path, law, loss="cross-entropy")
    with pytest.raises(ValueError, match="n_grid must be at least 2, got 1"):
        path_risk(path, law, n_grid=1)
    with pytest.raises(TypeError, match="evaluation on fresh samples needs rng="):
        path_risk(make_path(), ISOTROPIC)


def test_same_bits_on_any_number_of_threads(monkeypatch):
    path = make_path()
    monkeypatch.setattr(network_module, "CHUNK", 64)
    tables = []
    for n_threads in (1, 3):
        monkeypatch.setattr("meanfield.landscape.dropout_moments.available_threads", lambda n=n_threads: n)
        tables.append(path_risk(path, ISOTROPIC, n_samples=300, rng=1))
    assert tables[0].equals(tables[1])
    assert tables[0].attrs == tables[1].attrs
