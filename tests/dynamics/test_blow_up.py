"""A run that blew up and stayed finite is told from healthy ones, whatever their noise and their start."""

from __future__ import annotations

import numpy as np
import pytest
from listed import Listed
from oracles import forward

from meanfield import Empirical, IsotropicGaussians, MeanfieldWarning, Network, Recording, TeacherStudent, risk, run_sgd
from meanfield.checks import BlowUpWarning
from meanfield.dynamics import sgd
from meanfield.dynamics.blow_up import warn_of_blow_up

LAW = IsotropicGaussians(dim=8, delta=0.8)
START = Network.init((8, 50, 1), activation="tanh", scaling="standard", rng=0)
# Bounded features: outputs grow by a factor a step, and with them the loss.
BLOWN_UP = {"step_size": 0.2, "n_steps": 150, "rng": 1}


def constant(outputs: float) -> Network:
    """Return a network of these outputs everywhere."""
    return Network(
        [np.zeros((1, 1)), np.zeros((1, 1))],
        [np.zeros(1), np.array([outputs])],
        activation="tanh",
        scaling="standard",
    )


def message(**changes) -> str:
    with pytest.warns(BlowUpWarning) as said:
        assert run_sgd(START, LAW, **BLOWN_UP | changes).status == "finished"
    (one,) = said
    assert one.filename == __file__
    return str(one.message)


def test_the_warning_states_the_losses_of_the_last_samples_and_the_remedy():
    x, y = LAW.sample(150, np.random.default_rng(3))
    every_step = Recording(range(151))
    with pytest.warns(MeanfieldWarning, match="reduce step_size, now 0.2$") as said:
        run = run_sgd(START, Listed(x, y), record=every_step, **BLOWN_UP)
    end = run.records["loss"].to_numpy()[-100:].mean()
    outputs = forward(START.weights, None, "tanh", "standard", x[-100:])
    start = ((outputs - y[-100:]) ** 2).mean()
    assert end > 1e6
    assert f"at the end, {end:.3g}, is more than 10 times that at the start, {start:.3g}, and" in str(said[0].message)
    assert "that of zero outputs, 1: training blew up" in str(said[0].message)


def test_the_warning_depends_on_neither_chunks_nor_records(monkeypatch):
    whole = message()
    assert message(record=Recording([7, 50, 51], networks=True)) == whole
    x, y = LAW.sample(150, np.random.default_rng(3))
    with pytest.warns(BlowUpWarning) as at_once:
        run_sgd(START, Listed(x, y), **BLOWN_UP)
    monkeypatch.setattr(sgd, "NUMBERS_PER_CHUNK", 9 * 64)
    with pytest.warns(BlowUpWarning) as in_pieces:
        run_sgd(START, Listed(x, y), **BLOWN_UP)
    assert str(in_pieces[0].message) == str(at_once[0].message)


@pytest.mark.parametrize("batch_size", [7, 500])
def test_batches_are_judged_by_whole_steps(batch_size):
    x, y = LAW.sample(40 * batch_size, np.random.default_rng(3))
    with pytest.warns(BlowUpWarning) as said:
        run = run_sgd(
            START, Listed(x, y), batch_size=batch_size, step_size=0.5, n_steps=40, record=Recording(range(41)), rng=0
        )
    n_steps = {7: 15, 500: 1}[batch_size]
    assert f"at the end, {run.records['loss'].to_numpy()[-n_steps:].mean():.3g}, is" in str(said[0].message)


def test_it_is_heard_where_overflow_is_and_where_other_warnings_are():
    assert issubclass(BlowUpWarning, RuntimeWarning)
    assert issubclass(BlowUpWarning, MeanfieldWarning)


@pytest.mark.parametrize(("end", "outputs", "target"), [(90.1, 0.0, 3.0), (90.1, 6.0, 3.0), (np.nan, 6.0, 3.0)])
def test_more_than_ten_times_start_and_zero_outputs_is_a_blow_up(end, outputs, target):
    samples = Empirical([[0.0], [1.0]], [target, target])
    with pytest.warns(BlowUpWarning, match=rf"the loss at the end, {end:.3g}, .* start, 9, .* outputs, 9: .* now 0\.5"):
        warn_of_blow_up(end, constant(outputs), samples, "square", 0.5)


@pytest.mark.parametrize(
    ("end", "outputs", "target"),
    [(90.0, 0.0, 3.0), (90.0, 3.0, 3.0), (1000.0, 20.0, 3.0), (0.1, 0.0, 0.0)],
    ids=["ten times", "from zero loss", "from a large loss", "nothing to learn"],
)
def test_up_to_that_there_is_no_warning(end, outputs, target):
    samples = Empirical([[0.0], [1.0]], [target, target])
    warn_of_blow_up(end, constant(outputs), samples, "square", 0.5)


def test_hot_noise_raises_the_loss_without_a_warning():
    start = Network.init((8, 50, 1), activation="tanh", rng=0)
    final = run_sgd(start, LAW, step_size=0.01, n_steps=300, trained=["weight_1"], temperature=1e4, rng=1).final
    before, after = (risk(network, LAW, method="sample", rng=2).value for network in (start, final))
    assert after > 10 * max(before, 1)


def test_a_start_of_zero_loss_is_left_without_a_warning():
    teacher = Network.init((8, 5, 1), activation="erf", rng=0)
    law = TeacherStudent(teacher, noise=0.5)
    run = run_sgd(teacher, law, step_size=0.05, n_steps=500, rng=1)
    assert 0 < risk(run.final, TeacherStudent(teacher)).value < 10
    assert risk(teacher, TeacherStudent(teacher)).value == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("n_steps", [1, 2, 5, 130])
@pytest.mark.parametrize("seed", range(5))
def test_healthy_runs_of_any_length_are_silent(n_steps, seed):
    start = Network.init((8, 50, 1), rng=seed)
    assert run_sgd(start, LAW, step_size=0.01, n_steps=n_steps, rng=seed).status == "finished"
