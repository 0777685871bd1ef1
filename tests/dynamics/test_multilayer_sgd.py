"""run_sgd of networks with several hidden layers: its contracts at the public boundary."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from listed import Listed
from oracles import forward, losses_of_samples, plain_sgd, relative_error, sgd_multipliers
from random_networks import arrays_of, random_network

from meanfield import Empirical, IsotropicGaussians, Network, Recording, run_sgd
from meanfield.dynamics import multilayer_trainer, sgd


def _problem(widths, n_samples, seed=0, **options):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n_samples, widths[0])) / np.sqrt(widths[0])
    return random_network(widths, seed=seed, **options), x, rng.standard_normal((n_samples, widths[-1]))


def _mean_loss(loss, arrays, network, x, y):
    half = len(arrays) // 2
    outputs = forward(arrays[:half], arrays[half:], network.activation, network.scaling, x)
    return losses_of_samples(loss, y, outputs).mean()


@pytest.mark.parametrize("loss", ["square", "logistic", "cross-entropy"])
@pytest.mark.parametrize("scaling", ["mean-field", "standard"])
@pytest.mark.parametrize("hidden", [(4, 5), (5, 3, 4), (3, 4, 2, 5, 3)])
def test_one_step_is_minus_the_multiplied_gradient_by_finite_differences(loss, scaling, hidden):
    network, x, y = _problem((3, *hidden, 1 if loss == "logistic" else 3), 4, activation="tanh", scaling=scaling)
    y = {"square": y, "logistic": np.sign(y), "cross-entropy": np.eye(3)[np.arange(4) % 3]}[loss]
    rate, h = 1e-3, 1e-5
    stepped = run_sgd(network, Listed(x, y), step_size=rate, n_steps=1, batch_size=4, loss=loss, rng=0).final
    of_weights, of_biases = sgd_multipliers(network)
    for position, multiplier in enumerate([*of_weights, *of_biases]):
        before, after = arrays_of(network)[position], arrays_of(stepped)[position]
        numeric = np.zeros_like(before)
        for index in np.ndindex(before.shape):
            ends = []
            for sign in (1, -1):
                arrays = [a.copy() for a in arrays_of(network)]
                arrays[position][index] += sign * h
                ends.append(_mean_loss(loss, arrays, network, x, y))
            numeric[index] = (ends[0] - ends[1]) / (2 * h)
        moved = (before - after) / (rate * multiplier)
        assert np.abs(moved - numeric).max() <= 1e-6 * max(1e-3, np.abs(numeric).max())


@pytest.mark.parametrize("trained", ["all", "internal", [1], [0, 3], ["weight_2", "bias_1"]])
def test_trained_names_layers_of_any_depth(trained):
    network, x, y = _problem((4, 20, 30, 25, 2), 150)
    final = run_sgd(network, Listed(x, y), step_size=0.02, n_steps=150, trained=trained, rng=0).final
    layers = {"all": (0, 1, 2, 3), "internal": (1, 2)}.get(trained if isinstance(trained, str) else "", trained)
    names = {
        name for item in layers for name in ([item] if isinstance(item, str) else [f"weight_{item}", f"bias_{item}"])
    }
    weights, biases, _ = plain_sgd(network, x, y, [0.02] * 150, 1, names)
    assert relative_error(final, weights, biases) <= 1e-9


def test_recording_never_changes_the_run_and_each_recorded_network_is_a_shorter_run():
    network, x, y = _problem((6, 30, 20, 40, 2), 300)
    plain = run_sgd(network, Listed(x, y), step_size=0.02, n_steps=300, rng=0)
    steps = [0, 1, 77, 128, 131, 299]
    recorded = run_sgd(
        network, Listed(x, y), step_size=0.02, n_steps=300, record=Recording(steps, networks=True), rng=0
    )
    assert recorded.final == plain.final
    assert recorded.networks[0] == network
    for step in steps[1:]:
        assert recorded.networks[step] == run_sgd(network, Listed(x, y), step_size=0.02, n_steps=step, rng=0).final


@pytest.mark.parametrize("batch_size", [1, 5, 150])
def test_chunks_threads_and_recording_change_no_bit(monkeypatch, batch_size):
    network, x, y = _problem((6, 300, 280, 1), 1500)
    options = {"step_size": 0.02, "n_steps": 1500 // batch_size, "batch_size": batch_size, "rng": 0}
    whole = run_sgd(network, Listed(x, y), n_threads=1, **options)
    monkeypatch.setattr(multilayer_trainer, "WORK_PER_THREAD", 1)
    monkeypatch.setattr(sgd, "NUMBERS_PER_CHUNK", 333)
    record = Recording([3, 7], networks=True)
    pieces = run_sgd(network, Listed(x, y), n_threads=2, record=record, **options)
    assert pieces.final == whole.final


def test_the_networks_arrays_are_left_alone_and_recorded_ones_do_not_share_memory():
    network, x, y = _problem((4, 8, 8, 1), 40)
    before = [a.copy() for a in arrays_of(network)]
    result = run_sgd(network, Listed(x, y), step_size=0.1, n_steps=40, record=Recording([10, 20], networks=True), rng=0)
    assert all(np.array_equal(a, b) for a, b in zip(arrays_of(network), before, strict=True))
    nets = [network, *result.networks.values()]
    for first, second in itertools.pairwise(nets):
        assert not any(np.shares_memory(a, b) for a, b in zip(arrays_of(first), arrays_of(second), strict=True))
        assert first != second


@pytest.mark.long
def test_float32_stays_float32():
    network, x, y = _problem((10, 60, 50, 2), 200, dtype=np.float32)
    final = run_sgd(network, Listed(x, y), step_size=0.01, n_steps=200, rng=0).final
    weights, biases, _ = plain_sgd(network, x, y, [0.01] * 200, 1)
    assert final.dtype == np.float32
    assert relative_error(final, weights, biases) <= 5e-5


def test_memory_does_not_grow_with_the_steps():
    law = IsotropicGaussians(20, 0.5)
    network = Network.init((20, 60, 60, 1), rng=0)

    def peak(n_steps):
        tracemalloc.start()
        run_sgd(network, law, step_size=1e-3, n_steps=n_steps, record=Recording([n_steps]), rng=0)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    chunk = sgd.NUMBERS_PER_CHUNK // 21
    peak(10)
    # Two chunks are held at once where a span of steps straddles them: from there on nothing grows.
    few, many = peak(2 * chunk), peak(6 * chunk)
    assert 0 < many <= 1.05 * few


def test_divergence_is_a_status_and_keeps_the_last_finite_network():
    network, x, y = _problem((4, 10, 12, 1), 400, activation="relu")
    result = run_sgd(network, Listed(50 * x, y), step_size=50.0, n_steps=400, on_divergence="stop", rng=0)
    assert result.diverged
    assert "reduce step_size" in result.status
    assert result.final == network


def test_divergence_of_an_internal_layer_alone_is_seen():
    network, x, y = _problem((4, 10, 12, 1), 1, activation="tanh")
    result = run_sgd(
        network, Listed(x, 1e150 * y), step_size=1e200, n_steps=1, trained="internal", on_divergence="stop", rng=0
    )
    assert result.status.startswith("diverged at step 1 of 1")


GOOD = {"step_size": 0.1, "n_steps": 5, "rng": 0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trained": []}, r"trained=\[\] trains nothing of widths \(3, 4, 5, 1\): name a layer in 0\.\.2"),
        ({"trained": [3]}, r"trained layer must be in 0\.\.2, got 3"),
        ({"trained": ["bias_1"]}, "unknown trained array 'bias_1'.*known: weight_0, weight_1, weight_2"),
        (
            {"temperature": 0.1},
            r"temperature is for networks with one hidden layer.* got 0.1 for widths \(3, 4, 5, 1\)",
        ),
        ({"weight_decay": 5.0}, r"weight_decay must satisfy 2 weight_decay s_k < 1 .* got 5"),
    ],
)
def test_bad_arguments(change, message):
    with pytest.raises(ValueError, match=message):
        run_sgd(Network.init((3, 4, 5, 1), rng=0), IsotropicGaussians(3, 0.5), **GOOD | change)


def test_weight_decay_takes_the_weights_and_biases_of_each_hidden_layer_together():
    network = Network.init((3, 4, 5, 1), biases=True, rng=0)
    law = Empirical(np.ones((1, 3)), np.ones((1, 1)))
    with pytest.raises(ValueError, match="weight_decay acts on weight_1 and bias_1 together, got trained arrays"):
        run_sgd(network, law, weight_decay=0.1, trained=[0, "bias_1"], **GOOD)
    final = run_sgd(network, law, weight_decay=0.1, trained=[0, "weight_2"], **GOOD).final
    assert np.array_equal(final.biases[2], network.biases[2])
