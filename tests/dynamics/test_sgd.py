"""run_sgd is the plain loop, at any block, thread or recording."""

from __future__ import annotations

import itertools
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from listed import Listed
from oracles import losses_of_samples, plain_sgd, relative_error
from random_networks import arrays_of, targets_for

from meanfield import (
    DivergenceError,
    Empirical,
    IsotropicGaussians,
    MeanfieldWarning,
    Network,
    PiecewiseLinear,
    Recording,
    run_sgd,
)
from meanfield.dynamics import sgd, trainer
from meanfield.dynamics.recording import log_spaced_steps
from meanfield.dynamics.rule import Rule
from meanfield.dynamics.schedules import step_sizes

ACTIVATIONS = [
    "relu", "tanh", "erf", "sigmoid", "softplus", "linear", "quadratic", "truncated-relu",
    PiecewiseLinear([(0.0, -2.5), (0.5, -4.0), (1.5, 7.5)], left_slope=0.5, right_slope=-0.25),
]  # fmt: skip


def _problem(
    seed, dim, n_neurons, n_outputs, n_samples, activation="relu", biases=True, scaling="mean-field", dtype=np.float64
):
    rng = np.random.default_rng(seed)
    widths = (dim, n_neurons, n_outputs)
    network = Network.init(widths, activation=activation, scaling=scaling, biases=biases, dtype=dtype, rng=rng)
    if biases:
        shifted = [(0.3 * rng.standard_normal(b.shape)).astype(dtype) for b in network.biases]
        network = Network(network.weights, shifted, activation=activation, scaling=scaling)
    x = rng.standard_normal((n_samples, dim)) / np.sqrt(dim)
    return network, x, rng.standard_normal((n_samples, n_outputs))


def _assert_close(first, second, rtol):
    for a, b in zip(arrays_of(first), arrays_of(second), strict=True):
        assert np.abs(a - b).max() <= rtol * max(1.0, np.abs(b).max())


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    dim=st.one_of(st.integers(1, 40), st.integers(60, 70), st.just(300)),
    n_neurons=st.one_of(st.integers(1, 40), st.integers(500, 530)),
    n_outputs=st.integers(1, 4),
    batch_size=st.integers(1, 20),
    n_steps=st.integers(1, 70),
    activation=st.sampled_from(ACTIVATIONS),
    biases=st.booleans(),
    scaling=st.sampled_from(["mean-field", "standard"]),
    subset=st.integers(1, 15),
    loss=st.sampled_from(["square", "logistic", "cross-entropy"]),
    weight_decay=st.sampled_from([0.0, 0.1, 5.0, 24.9]),  # the last shrinks the weights to 1/250 a step
    fused=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_equals_the_plain_loop(
    dim, n_neurons, n_outputs, batch_size, n_steps, activation, biases, scaling, subset, loss, weight_decay, fused, seed
):
    n_outputs = {"logistic": 1, "cross-entropy": max(2, n_outputs)}.get(loss, n_outputs)
    network, x, y = _problem(seed, dim, n_neurons, n_outputs, n_steps * batch_size, activation, biases, scaling)
    y = targets_for(loss, y)
    names = ["weight_0", "weight_1", "bias_0", "bias_1"]
    trained = {name for k, name in enumerate(names) if subset >> k & 1 and (biases or name.startswith("weight"))}
    trained = trained or {"weight_0"}
    if biases and weight_decay and trained & {"weight_0", "bias_0"}:
        trained |= {"weight_0", "bias_0"}
    rate = 0.02 if scaling == "mean-field" else 0.02 / n_neurons
    with _fused_up_to(1 << 30 if fused else 0):
        result = run_sgd(
            network,
            Listed(x, y),
            step_size=rate,
            n_steps=n_steps,
            batch_size=batch_size,
            trained=trained,
            loss=loss,
            weight_decay=weight_decay,
            rng=0,
        )
    weights, expected_biases, losses = plain_sgd(
        network, x, y, np.full(n_steps, rate), batch_size, trained, loss, weight_decay
    )
    assert relative_error(result.final, weights, expected_biases) <= 1e-10
    assert result.records["loss"].iloc[0] == pytest.approx(losses[0], rel=1e-10)


@contextmanager
def _fused_up_to(n_bytes):
    """Fuse the pass over the inner weights up to so many bytes of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "FUSED_BYTES", n_bytes)
        patch.setattr(trainer, "FUSED_ROW_BYTES", 0)
        yield


@pytest.mark.parametrize("batch_size", [1, 2, 4, 8, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_fused_pass_and_the_blocks_agree(batch_size, dtype):
    network, x, y = _problem(7, 33, 700, 2, 121 * batch_size, "relu", dtype=dtype)
    finals = []
    for limit in (0, 1 << 30):
        with _fused_up_to(limit):
            rule = Rule(frozenset({"weight_0"}), batch_size)
            assert trainer.is_fused(700, 33, np.dtype(dtype), rule) == (limit > 0 and batch_size != 3)
            final = run_sgd(network, Listed(x, y), step_size=0.05, n_steps=121, batch_size=batch_size, rng=0).final
        finals.append(final)
    _assert_close(*finals, 1e-12 if dtype == np.float64 else 1e-5)
    assert not np.array_equal(finals[0].weights[0], network.weights[0])


@pytest.mark.parametrize("activation", ["relu", "linear", *ACTIVATIONS[-2:]], ids=str)
@pytest.mark.parametrize("biases", [(), ("bias_0",), ("bias_0", "bias_1")], ids=str)
@pytest.mark.parametrize("n_neurons", [1, 70, 515])
def test_one_pass_a_step_is_the_plain_loop(monkeypatch, activation, biases, n_neurons):
    monkeypatch.setattr(trainer, "WORK_PER_THREAD", 1)
    network, x, y = _problem(2, 5, n_neurons, 1, 61, activation, bool(biases))
    trained = {"weight_0", "weight_1", *biases}
    assert trainer.is_merged(network, Rule(frozenset(trained)))
    one, two = (
        run_sgd(network, Listed(x, y), step_size=0.01, n_steps=61, trained=trained, n_threads=n, rng=0) for n in (1, 2)
    )
    weights, expected_biases, losses = plain_sgd(network, x, y, np.full(61, 0.01), 1, trained)
    assert one.final == two.final
    assert relative_error(one.final, weights, expected_biases) <= 1e-10
    assert one.records["loss"].iloc[0] == pytest.approx(losses[0], rel=1e-10)


@pytest.mark.parametrize("loss", ["logistic", "cross-entropy"])
@pytest.mark.parametrize("scaling", ["mean-field", "standard"])
def test_one_step_of_other_losses_is_minus_their_gradient(loss, scaling):
    n_outputs = 1 if loss == "logistic" else 3
    network, x, y = _problem(12, 3, 5, n_outputs, 4, "tanh", scaling=scaling)
    _assert_gradient_step(network, x, targets_for(loss, y), loss)


@pytest.mark.parametrize("block", [1, 3, 16, 128])
@pytest.mark.parametrize("panel", [1, 2, 8])
@pytest.mark.parametrize("tile", [1, 7, 64, 512])
def test_block_panel_and_tile_change_nothing_but_rounding(monkeypatch, block, panel, tile):
    network, x, y = _problem(3, 6, 50, 2, 150, "tanh")
    monkeypatch.setattr(trainer, "TILE", tile)
    monkeypatch.setattr(trainer, "PANEL", panel)
    monkeypatch.setattr(trainer, "block_samples", lambda dim: block)
    with _fused_up_to(0):
        result = run_sgd(network, Listed(x, y), step_size=0.05, n_steps=150, rng=0)
    weights, biases, _ = plain_sgd(network, x, y, np.full(150, 0.05), 1)
    assert relative_error(result.final, weights, biases) <= 1e-10


def test_float32_follows_the_plain_loop_and_keeps_its_dtype():
    network, x, y = _problem(5, 30, 600, 3, 300, "relu")
    single = Network(
        [w.astype(np.float32) for w in network.weights],
        [b.astype(np.float32) for b in network.biases],
        activation="relu",
        scaling="mean-field",
    )
    result = run_sgd(single, Listed(x, y), step_size=0.02, n_steps=300, rng=0)
    weights, biases, _ = plain_sgd(network, x, y, np.full(300, 0.02), 1)
    assert result.final.dtype == np.float32
    assert relative_error(result.final, weights, biases) <= 2e-5


def test_steps_follow_the_schedule():
    network, x, y = _problem(1, 4, 9, 1, 40, "tanh")
    result = run_sgd(network, Listed(x, y), step_size=0.1, n_steps=40, schedule="t^-1/4", rng=0)
    sizes = 0.1 * (0.1 * np.arange(1, 41)) ** -0.25
    weights, biases, _ = plain_sgd(network, x, y, sizes, 1)
    assert relative_error(result.final, weights, biases) <= 1e-10
    assert np.array_equal(step_sizes(0.1, 1, 40, lambda t: t**-0.25), sizes)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("scaling", ["mean-field", "standard"])
def test_one_step_is_minus_the_gradient_by_finite_differences(activation, scaling):
    network, x, y = _problem(11, 3, 5, 2, 4, activation, scaling=scaling)
    _assert_gradient_step(network, x, y, "square")


def _assert_gradient_step(network, x, y, loss):
    rate, n_neurons = 1e-3, network.widths[1]
    stepped = run_sgd(network, Listed(x, y), step_size=rate, n_steps=1, batch_size=len(x), loss=loss, rng=0).final
    multipliers = [n_neurons] * 3 + [1] if network.scaling == "mean-field" else [1] * 4
    for position, (before, after) in enumerate(zip(arrays_of(network), arrays_of(stepped), strict=True)):
        numeric = _numeric_gradient(network, position, x, y, loss)
        # weights come first, then biases: the output weights are the second array, the output bias the last
        moved = (before - after) / (rate * multipliers[position])
        assert np.abs(moved - numeric).max() <= 1e-6 * max(1.0, np.abs(numeric).max())


def _numeric_gradient(network, position, x, y, loss, h=1e-6):
    arrays = [a.copy() for a in arrays_of(network)]
    gradient = np.zeros_like(arrays[position])
    for index in np.ndindex(gradient.shape):
        losses = []
        for sign in (1, -1):
            moved = [a.copy() for a in arrays]
            moved[position][index] += sign * h
            changed = Network(moved[:2], moved[2:], activation=network.activation, scaling=network.scaling)
            outputs = changed.predict(x)
            losses.append(losses_of_samples(loss, y, outputs).mean())
        gradient[index] = (losses[0] - losses[1]) / (2 * h)
    return gradient


def test_permuting_neurons_permutes_the_result():
    network, x, y = _problem(2, 5, 40, 2, 100, "erf")
    order = np.random.default_rng(0).permutation(40)
    permuted = network.keep([order])
    first = run_sgd(network, Listed(x, y), step_size=0.05, n_steps=100, rng=0).final.keep([order])
    second = run_sgd(permuted, Listed(x, y), step_size=0.05, n_steps=100, rng=0).final
    _assert_close(first, second, 1e-12)


def test_samples_are_used_once_in_order_and_do_not_depend_on_the_width(monkeypatch):
    monkeypatch.setattr(sgd, "NUMBERS_PER_CHUNK", 1000)
    asked = []
    for n_neurons, dtype, record in [(1, np.float64, None), (700, np.float32, Recording(steps=[7], networks=True))]:
        x = np.random.default_rng(0).standard_normal((910, 3))
        law = Listed(x, x[:, :1].copy())
        network = Network.init((3, n_neurons, 1), rng=0, dtype=dtype)
        run_sgd(network, law, step_size=1e-3, n_steps=130, batch_size=7, record=record, rng=0)
        asked.append(law.asked)
    assert asked[0] == asked[1] == [250, 250, 250, 160]


@pytest.mark.parametrize("batch_size", [1, 5])
def test_chunks_change_nothing(monkeypatch, batch_size):
    network, x, y = _problem(4, 6, 20, 1, 1000, "relu")
    whole = run_sgd(network, Listed(x, y), step_size=0.02, n_steps=1000 // batch_size, batch_size=batch_size, rng=0)
    monkeypatch.setattr(sgd, "NUMBERS_PER_CHUNK", 333)
    pieces = run_sgd(network, Listed(x, y), step_size=0.02, n_steps=1000 // batch_size, batch_size=batch_size, rng=0)
    assert pieces.final == whole.final
    assert np.allclose(pieces.records["loss"], whole.records["loss"], rtol=1e-12)


def test_recording_never_changes_the_run_and_each_recorded_network_is_a_shorter_run():
    network, x, y = _problem(8, 6, 30, 2, 300, "tanh")
    plain = run_sgd(network, Listed(x, y), step_size=0.02, n_steps=300, rng=0)
    record = Recording(steps=[0, 1, 77, 128, 299], networks=True, measure=lambda net: {"first": net.weights[0][0, 0]})
    recorded = run_sgd(network, Listed(x, y), step_size=0.02, n_steps=300, record=record, rng=0)
    assert recorded.final == plain.final
    assert sorted(recorded.networks) == [0, 1, 77, 128, 299, 300]
    assert recorded.networks[0] == network
    assert recorded.networks[300] == plain.final
    for step in (1, 77, 128, 299):
        shorter = run_sgd(network, Listed(x, y), step_size=0.02, n_steps=step, rng=0).final
        assert recorded.networks[step] == shorter
    first = [recorded.networks[step].weights[0][0, 0] for step in sorted(recorded.networks)]
    assert recorded.records["first"].tolist() == first


def test_a_trajectory_is_shown_in_one_line():
    network = Network.init((4, 8, 1), rng=0)
    run = run_sgd(network, IsotropicGaussians(dim=4, delta=0.8), step_size=1e-3, n_steps=30, rng=1)
    assert (
        repr(run) == f"Trajectory({run.final!r}, finished: {len(run.records)} records to step 30, 0 recorded networks)"
    )


def test_default_records_are_running_means_of_fresh_losses():
    network, x, y = _problem(9, 6, 30, 2, 200, "tanh")
    records = run_sgd(network, Listed(x, y), step_size=0.02, n_steps=200, rng=0).records
    *_, losses = plain_sgd(network, x, y, np.full(200, 0.02), 1)
    edges = [0, *records["step"]]
    means = [losses[low:high].mean() for low, high in itertools.pairwise(edges)]
    assert np.allclose(records["loss"], means, rtol=1e-10)
    assert np.allclose(records["time"], 0.02 * records["step"])
    assert records["step"].iloc[-1] == 200


def test_evaluation_does_not_touch_the_training_stream():
    law = IsotropicGaussians(5, 0.5)
    network = Network.init((5, 20, 1), rng=0)
    own = np.random.default_rng(1)
    record = Recording(steps=range(0, 200, 10), measure=lambda net: {"draw": own.standard_normal()})
    plain = run_sgd(network, law, step_size=0.01, n_steps=200, rng=np.random.default_rng(7))
    recorded = run_sgd(network, law, step_size=0.01, n_steps=200, record=record, rng=np.random.default_rng(7))
    assert recorded.final == plain.final


def test_two_threads_give_the_bits_of_one(monkeypatch):
    monkeypatch.setattr(trainer, "WORK_PER_THREAD", 1)
    network, x, y = _problem(6, 8, 1300, 3, 200, "relu")
    one, two, three = (
        run_sgd(network, Listed(x, y), step_size=0.02, n_steps=200, n_threads=n, rng=0).final for n in (1, 2, 3)
    )
    assert one == two == three


def test_divergence_is_raised_with_the_remedy_and_keeps_what_was_computed():
    network, x, y = _problem(1, 4, 10, 1, 4000, "relu")
    with pytest.raises(DivergenceError, match=r"diverged at step \d+ of 4000 .* reduce step_size, now 50") as caught:
        run_sgd(network, Listed(50 * x, y), step_size=50.0, n_steps=4000, rng=0)
    trajectory = caught.value.trajectory
    assert trajectory.status == str(caught.value)
    assert trajectory.final == network
    assert trajectory.records["step"].tolist() == [1, 2, 3, 4]


def test_divergence_as_a_status():
    network, x, y = _problem(1, 4, 10, 1, 400, "relu")
    result = run_sgd(network, Listed(50 * x, y), step_size=50.0, n_steps=400, on_divergence="stop", rng=0)
    assert result.diverged
    assert "reduce step_size" in result.status
    assert result.final == network


def test_a_divergence_loses_nothing_that_was_recorded_before():
    network, x, y = _problem(1, 4, 10, 1, 400, "relu")
    options = {"step_size": 50.0, "n_steps": 400, "on_divergence": "stop", "rng": 0}
    plain = run_sgd(network, Listed(50 * x, y), **options)
    record = Recording(networks=True, measure=lambda net: {"first": net.weights[0][0, 0]})
    recorded = run_sgd(network, Listed(50 * x, y), record=record, **options)
    assert recorded.status == plain.status
    assert recorded.status.startswith("diverged at step 5 of 400")
    assert recorded.records[["step", "time", "loss"]].equals(plain.records)
    assert list(recorded.networks) == recorded.records["step"].tolist() == [1, 2, 3, 4]
    assert recorded.records["first"].tolist() == [net.weights[0][0, 0] for net in recorded.networks.values()]
    assert recorded.final == recorded.networks[4]


def test_divergence_names_the_step_where_the_loss_overflows():
    network, x, y = _problem(1, 4, 10, 1, 300, "tanh")
    y[149] = 1e300
    result = run_sgd(network, Listed(x, y), step_size=0.01, n_steps=300, on_divergence="stop", rng=0)
    assert result.status.startswith("diverged at step 150 of 300")
    steps = result.records["step"].tolist()
    assert steps == [step for step in log_spaced_steps(300) if step < 150]
    assert np.isfinite(result.records["loss"]).all()
    record = Recording([100], networks=True)
    recorded = run_sgd(network, Listed(x, y), step_size=0.01, n_steps=300, on_divergence="stop", record=record, rng=0)
    assert recorded.final == recorded.networks[100]


def test_divergence_of_the_last_update_is_seen_though_every_loss_is_finite():
    network, x, y = _problem(1, 4, 10, 1, 1, "tanh")
    y[0] = 1e150
    result = run_sgd(network, Listed(x, y), step_size=1e200, n_steps=1, on_divergence="stop", rng=0)
    assert result.status.startswith("diverged at step 1 of 1")


def test_frozen_arrays_stay_bit_for_bit():
    network, x, y = _problem(1, 4, 10, 2, 50)
    for trained, frozen in (([0], (1, 3)), ([1], (0, 2)), (["weight_0", "weight_1", "bias_0"], (3,))):
        final = run_sgd(network, Listed(x, y), step_size=0.05, n_steps=50, trained=trained, rng=0).final
        for position in range(4):
            same = np.array_equal(arrays_of(final)[position], arrays_of(network)[position])
            assert same == (position in frozen)


GOOD = {"step_size": 0.1, "n_steps": 5, "rng": 0}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"step_size": 0.0}, ValueError, "step_size must be positive and finite, got 0"),
        ({"step_size": float("nan")}, ValueError, "step_size must be positive"),
        ({"step_size": "big"}, TypeError, "step_size must be a number"),
        ({"n_steps": 0}, ValueError, "n_steps must be at least 1, got 0"),
        ({"n_steps": 2.5}, TypeError, "n_steps must be an integer"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"loss": "squre"}, ValueError, "unknown loss 'squre': did you mean 'square'"),
        (
            {"trained": "inner"},
            ValueError,
            "unknown trained 'inner': did you mean 'internal'. known: all, internal, or a list of layers 0..1 and of "
            "weight_0, weight_1$",
        ),
        ({"trained": None}, TypeError, r"trained must be a sequence of .*, got None: pass e\.g\. \[0\]$"),
        ({"trained": "internal"}, ValueError, "trains nothing"),
        ({"trained": []}, ValueError, "trains nothing"),
        ({"trained": 0}, TypeError, r"a sequence of layers and arrays, or 'all' or 'internal', got 0: pass \[0\]"),
        ({"trained": np.array(1)}, TypeError, r"trained must be a sequence of .* or 'internal', got array\(1\)"),
        ({"trained": [2]}, ValueError, r"trained layer must be in 0\.\.1, got 2"),
        ({"trained": ["bias_0"]}, ValueError, "unknown trained array 'bias_0'.* weight_1, or a layer 0..1$"),
        ({"schedule": "t^-1/2"}, ValueError, "unknown schedule .* did you mean 't\\^-1/4'"),
        ({"schedule": lambda t: -t}, ValueError, "schedule must be finite and not negative"),
        ({"on_divergence": "ignore"}, ValueError, "unknown on_divergence"),
        ({"rng": None}, TypeError, "run_sgd needs rng="),
        ({"record": [1]}, TypeError, r"record must be a Recording, got \[1\]: pass e.g. Recording"),
        ({"record": Recording(steps=5)}, TypeError, r"record.steps must be a sequence of integers, got 5: pass \[5\]"),
        ({"record": Recording(steps=[9])}, ValueError, r"record.steps must be in 0\.\.5, got 9"),
        ({"n_threads": 0}, ValueError, "n_threads must be at least 1"),
        ({"temperature": -1.0}, ValueError, "temperature must be finite and not negative, got -1"),
        ({"weight_decay": -0.5}, ValueError, "weight_decay must be finite and not negative, got -0.5"),
        ({"weight_decay": 5.0}, ValueError, r"weight_decay must satisfy 2 weight_decay s_k < 1 .* got 5"),
        ({"loss": "cross-entropy"}, ValueError, "needs one-hot rows of two outputs or more.*use logistic"),
    ],
)
def test_bad_arguments(change, error, message):
    network = Network.init((3, 4, 1), rng=0)
    with pytest.raises(error, match=message):
        run_sgd(network, IsotropicGaussians(3, 0.5), **GOOD | change)


def test_labels_of_the_wrong_kind_are_refused():
    network = Network.init((3, 4, 2), rng=0)
    law = Empirical(np.ones((5, 3)), np.full((5, 2), 0.5))
    with pytest.raises(ValueError, match=r"'cross-entropy' does not suit .* got \[0.5, 0.5\]: use target='one-hot'"):
        run_sgd(network, law, loss="cross-entropy", **GOOD)
    with pytest.raises(ValueError, match=r"'logistic' does not suit .* got 2 outputs: use cross-entropy"):
        run_sgd(network, law, loss="logistic", **GOOD)
    with pytest.raises(
        ValueError, match=r"needs y = \+1 or -1, got 3: pass 2 y - 1 for labels y = 0 and 1, or target='sign'"
    ):
        run_sgd(Network.init((3, 4, 1), rng=0), Empirical(np.ones((5, 3)), np.full(5, 3)), loss="logistic", **GOOD)


def test_weight_decay_takes_weights_and_biases_together():
    network = Network.init((3, 4, 1), biases=True, rng=0)
    with pytest.raises(ValueError, match="weight_decay acts on weight_0 and bias_0 together"):
        run_sgd(network, IsotropicGaussians(3, 0.5), weight_decay=0.1, trained=["weight_0"], **GOOD)


def test_a_forgotten_rng_is_an_error():
    with pytest.raises(TypeError, match="rng"):
        run_sgd(Network.init((3, 4, 1), rng=0), IsotropicGaussians(3, 0.5), step_size=0.1, n_steps=5)


def test_foreign_shapes_are_refused_before_any_work():
    with pytest.raises(ValueError, match="network has 2 inputs, but the law IsotropicGaussians has 3"):
        run_sgd(Network.init((2, 4, 1), rng=0), IsotropicGaussians(3, 0.5), **GOOD)


def test_nan_from_a_users_law_is_an_error():
    x = np.ones((5, 3))
    x[3, 1] = np.nan
    with pytest.raises(ValueError, match="finite"):
        run_sgd(Network.init((3, 4, 1), rng=0), Listed(x, np.ones((5, 1))), **GOOD)


def test_nan_in_a_data_set_is_an_error():
    x = np.ones((5, 3))
    x[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"entry \(3, 1\) is nan"):
        Empirical(x, np.ones(5))


def test_weight_decay_that_float32_cannot_hold_is_said():
    law = IsotropicGaussians(3, 0.5)
    for dtype, expected in (
        (np.float32, pytest.warns(MeanfieldWarning, match="use float64")),
        (np.float64, nullcontext()),
    ):
        network = Network.init((3, 4, 1), dtype=dtype, rng=0)
        with expected:
            run_sgd(network, law, step_size=1e-4, n_steps=3, weight_decay=1e-4, rng=0)
