"""Training a bend: its gradient by finite differences, its steps by hand, its ends untouched."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from listed import Listed
from oracles import forward, losses_of_samples
from random_networks import random_network, random_samples

from meanfield import (
    DivergenceError,
    Empirical,
    MeanfieldWarning,
    Network,
    QuadraticBezier,
    StraightLine,
    TeacherStudent,
    curve_risk,
    run_sgd,
    train_bezier,
)
from meanfield.dynamics.multipliers import sgd_multipliers
from meanfield.landscape import bezier
from meanfield.landscape.bezier import bend_gradient
from meanfield.model.losses import LOSSES

N_OUTPUTS = {"square": 2, "logistic": 1, "cross-entropy": 3}


def arrays(network):
    return [*network.weights, *(network.biases or ())]


def shifted(network, index, entry, step):
    """The network with one entry of one array moved."""
    moved = [array.copy() for array in arrays(network)]
    moved[index][entry] += step
    n_layers = len(network.weights)
    biases = None if network.biases is None else moved[n_layers:]
    return Network(moved[:n_layers], biases, activation=network.activation, scaling=network.scaling)


def plain_loss(network, x, y, loss):
    y_hat = forward(network.weights, network.biases, network.activation, network.scaling, x)
    return losses_of_samples(loss, y, y_hat).mean()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    hidden=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    loss=st.sampled_from(LOSSES),
    scaling=st.sampled_from(["mean-field", "standard"]),
    biases=st.booleans(),
    t=st.floats(0.05, 0.95),
    seed=st.integers(0, 100),
)
def test_gradient_by_the_bend(hidden, loss, scaling, biases, t, seed):
    x, y = random_samples(loss, 4, 3, seed)
    options = {"activation": "tanh", "scaling": scaling, "biases": biases}
    first, bend, second = (random_network((3, *hidden, y.shape[1]), seed=seed + s, **options) for s in range(3))
    gradient = bend_gradient(QuadraticBezier(first, bend, second), t, x, y, loss)
    for index, slopes in enumerate([*gradient.weights, *(gradient.biases or ())]):
        for entry in np.ndindex(slopes.shape):
            ends = [
                plain_loss(QuadraticBezier(first, shifted(bend, index, entry, step), second).at(t), x, y, loss)
                for step in (1e-5, -1e-5)
            ]
            assert slopes[entry] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-7)


def by_hand(first, second, law, *, step_size, n_steps, loss, batch_size, momentum, schedule, rng):
    """Bend arrays and losses of the training, step by step as it is defined."""
    samples = np.random.default_rng(rng)
    times = samples.spawn(1)[0].random(n_steps)
    bend = StraightLine(first, second).at(0.5)
    multipliers = sgd_multipliers(bend)
    scales = [*multipliers.weights, *(multipliers.biases if bend.biases is not None else ())]
    velocity, losses = [0.0] * len(scales), []
    for step, t in enumerate(times, start=1):
        x, y = law.sample(batch_size, samples)
        gradient = bend_gradient(QuadraticBezier(first, bend, second), t, x, y, loss)
        slopes = [*gradient.weights, *(gradient.biases or ())]
        velocity = [momentum * v + m * g for v, m, g in zip(velocity, scales, slopes, strict=True)]
        size = step_size * (1.0 if schedule is None else (step * step_size) ** -0.25)
        moved = [array - size * v for array, v in zip(arrays(bend), velocity, strict=True)]
        n_layers = len(bend.weights)
        bend = Network(moved[:n_layers], moved[n_layers:] or None, activation=first.activation, scaling=first.scaling)
        losses.append(gradient.loss)
    return bend, times, losses


@pytest.mark.parametrize("scaling", ["mean-field", "standard"])
@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("schedule", [None, "t^-1/4"])
def test_steps_are_those_of_sgd_with_momentum(scaling, biases, loss, momentum, schedule):
    law = Empirical(*random_samples(loss, 20, 3))
    widths = (3, 4, 5, N_OUTPUTS[loss])
    first, second = (random_network(widths, scaling=scaling, biases=biases, seed=s) for s in range(2))
    plan = {"step_size": 0.01, "n_steps": 6, "loss": loss, "batch_size": 3, "momentum": momentum, "schedule": schedule}
    training = train_bezier(first, second, law, **plan, rng=5)
    bend, times, losses = by_hand(first, second, law, **plan, rng=5)
    for mine, expected in zip(arrays(training.curve.bend), arrays(bend), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-11, atol=1e-13)
    assert training.history["step"].tolist() == [1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(training.history["t"], times)
    np.testing.assert_allclose(training.history["loss"], losses, rtol=1e-11)
    assert training.n_gradients == 18


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_ends_are_left_alone_and_the_bend_is_not(dtype):
    law = Empirical(*random_samples("square", 20, 3))
    first, second = (random_network((3, 6, 2), seed=s, dtype=dtype) for s in range(2))
    before = [[array.copy() for array in arrays(network)] for network in (first, second)]
    start = random_network((3, 6, 2), seed=9, dtype=dtype)
    curve = train_bezier(first, second, law, step_size=0.01, n_steps=5, bend=start, rng=0).curve
    for end, given_end, copies in zip((curve.at(0), curve.at(1)), (first, second), before, strict=True):
        assert end is given_end
        for array, copy in zip(arrays(end), copies, strict=True):
            np.testing.assert_array_equal(array, copy)
    assert curve.bend.dtype == dtype
    for array, untrained in zip(arrays(curve.bend), arrays(start), strict=True):
        assert (array != untrained).all()
        np.testing.assert_allclose(array, untrained, atol=1)


@pytest.fixture(scope="module")
def trained_ends():
    teacher = Network.init((5, 4, 1), activation="tanh", std=(1.0, 2.0), rng=9)
    law = TeacherStudent(teacher)
    ends = [
        run_sgd(Network.init((5, 20, 1), activation="tanh", rng=s), law, step_size=0.05, n_steps=20_000, rng=s).final
        for s in (0, 1)
    ]
    return *ends, law


def test_a_trained_bend_lowers_the_maximum(trained_ends):
    *ends, law = trained_ends
    rows = Empirical(*law.sample(1000, np.random.default_rng(3)))
    training = train_bezier(*ends, law, step_size=0.05, n_steps=1000, batch_size=50, rng=0)
    straight, bent = (curve_risk(curve, rows).attrs for curve in (StraightLine(*ends), training.curve))
    assert straight["barrier"] > 0.1
    assert bent["maximum"] < 0.5 * straight["maximum"]
    assert training.history["loss"].tail(100).mean() < 0.5 * training.history["loss"].head(100).mean()


def test_the_same_seed_gives_the_same_bend():
    law = Empirical(*random_samples("square", 20, 3))
    first, second = (random_network((3, 6, 4, 2), seed=s) for s in range(2))
    runs = [train_bezier(first, second, law, step_size=0.01, n_steps=5, rng=seed) for seed in (1, 1, 2)]
    assert runs[0].curve.bend == runs[1].curve.bend
    assert runs[0].history.equals(runs[1].history)
    assert runs[0].curve.bend != runs[2].curve.bend


def test_a_bend_that_blew_up_is_told_from_one_that_did_not():
    law = Empirical(*random_samples("square", 20, 3))
    ends = [random_network((3, 8, 2), activation="tanh", scaling="standard", seed=s) for s in range(2)]
    train_bezier(*ends, law, step_size=0.01, n_steps=50, rng=0)
    with pytest.warns(MeanfieldWarning, match="the loss at the end, .* reduce step_size, now 1000") as said:
        training = train_bezier(*ends, law, step_size=1000, n_steps=50, rng=0)
    assert said[0].filename == __file__
    assert np.isfinite(training.history.to_numpy()).all()
    middle, straight = (curve.at(0.5).predict(law.x) - law.y for curve in (training.curve, StraightLine(*ends)))
    assert (middle**2).mean() > 10 * (straight**2).mean()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_divergence_keeps_what_was_computed(dtype):
    law = Empirical(*random_samples("square", 20, 3))
    first, second = (random_network((3, 6, 4, 2), activation="quadratic", seed=s, dtype=dtype) for s in range(2))
    with pytest.raises(
        DivergenceError, match=r"the bend diverged at step \d+ of 50: .* reduce step_size, now 1000"
    ) as e:
        train_bezier(first, second, law, step_size=1000, n_steps=50, rng=0)
    training = e.value.trajectory
    assert 0 < len(training.history) < 50
    assert np.isfinite(training.history.to_numpy()).all()
    assert training.curve.at(1) is second


def test_progress_is_shown_on_standard_error(capsys):
    law, network = Empirical(*random_samples("square", 20, 3)), random_network((3, 6, 2))
    train_bezier(network, network, law, step_size=0.01, n_steps=3, progress=True, rng=0)
    assert "3/3" in capsys.readouterr().err


@pytest.mark.parametrize(("batch_size", "n_steps", "n_judged"), [(1, 130, 100), (40, 9, 120), (1, 7, 7)])
def test_a_bend_is_judged_by_its_last_hundred_samples(monkeypatch, batch_size, n_steps, n_judged):
    judged = []
    monkeypatch.setattr(bezier, "warn_of_blow_up", lambda end, start, samples, *given: judged.append((end, samples)))
    x, y = random_samples("square", n_steps * batch_size, 3)
    network = random_network((3, 6, 2))
    training = train_bezier(
        network, network, Listed(x, y), step_size=1e-3, n_steps=n_steps, batch_size=batch_size, rng=0
    )
    ((end, samples),) = judged
    assert np.array_equal(samples.x, x[-n_judged:])
    assert np.array_equal(samples.y, y[-n_judged:])
    middle = training.curve.at(0.5)
    assert end == pytest.approx(((middle.predict(x[-n_judged:]) - y[-n_judged:]) ** 2).sum(axis=1).mean(), rel=1e-6)


def test_bad_arguments():
    law, network = Empirical(*random_samples("square", 20, 3)), random_network((3, 6, 2))
    plan = {"step_size": 0.01, "n_steps": 3, "rng": 0}
    with pytest.raises(TypeError, match="train_bezier needs rng="):
        train_bezier(network, network, law, **plan | {"rng": None})
    with pytest.raises(ValueError, match="step_size must be positive and finite, got 0"):
        train_bezier(network, network, law, **plan | {"step_size": 0})
    with pytest.raises(ValueError, match="n_steps must be at least 1, got 0"):
        train_bezier(network, network, law, **plan | {"n_steps": 0})
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        train_bezier(network, network, law, batch_size=0, **plan)
    for momentum in (1.0, 1.5):
        with pytest.raises(ValueError, match=r"momentum must lie in \[0, 1\), got"):
            train_bezier(network, network, law, momentum=momentum, **plan)
    with pytest.raises(ValueError, match=r"momentum must be finite and not negative, got -0\.5"):
        train_bezier(network, network, law, momentum=-0.5, **plan)
    with pytest.raises(ValueError, match="unknown loss 'hinge'"):
        train_bezier(network, network, law, loss="hinge", **plan)
    with pytest.raises(ValueError, match="'logistic' does not suit the targets"):
        train_bezier(network, network, law, loss="logistic", **plan)
    with pytest.raises(ValueError, match="network has 3 inputs, but the law Empirical has 4"):
        train_bezier(network, network, Empirical(np.zeros((2, 4)), np.zeros((2, 2))), **plan)
    with pytest.raises(ValueError, match="first and second must have the same widths"):
        train_bezier(network, random_network((3, 5, 2)), law, **plan)
    with pytest.raises(ValueError, match="first and bend must have the same scaling"):
        train_bezier(network, network, law, bend=random_network((3, 6, 2), scaling="standard"), **plan)
