"""One-pass stochastic gradient descent of networks as interacting particles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from meanfield.checks import (
    DivergenceError,
    check_choice,
    check_integer,
    check_nonnegative,
    check_positive,
    check_rng,
)
from meanfield.dynamics.base_trainer import Array, Trainer, is_finite
from meanfield.dynamics.blow_up import JUDGED_SAMPLES, warn_of_blow_up
from meanfield.dynamics.multilayer_trainer import MultilayerTrainer
from meanfield.dynamics.recording import Recorder, Recording, Trajectory, check_recording
from meanfield.dynamics.rule import Rule, check_rule, trained_arrays
from meanfield.dynamics.schedules import Schedule, step_sizes
from meanfield.dynamics.trainer import TwoLayerTrainer
from meanfield.kernels.threads import available_threads
from meanfield.model.laws import Empirical, Law, checked_sample
from meanfield.model.losses import check_loss, check_targets
from meanfield.model.network import Network
from meanfield.model.risk import check_fit

__all__ = ["Recording", "Trajectory", "run_sgd"]

# Numbers drawn from a law at once: 8 MiB in float64.
NUMBERS_PER_CHUNK = 1 << 20


def run_sgd(
    network: Network,
    law: Law,
    *,
    step_size: float,
    n_steps: int,
    loss: str = "square",
    batch_size: int = 1,
    schedule: Schedule | None = None,
    trained: str | Iterable[int | str] = "all",
    weight_decay: float = 0.0,
    temperature: float = 0.0,
    record: Recording | None = None,
    on_divergence: str = "raise",
    progress: bool = False,
    n_threads: int | None = None,
    rng: np.random.Generator | int,
) -> Trajectory:
    """Train a network by exact one-pass SGD in the mean-field time scale.

    For one hidden layer of N neurons theta_i = (a_i, w_i[, b_i])

        theta_i <- theta_i - s_k N grad_{theta_i} l(y_k, y_hat(x_k)),   s_k = alpha xi(k alpha),   k = 1, 2, ..

    in mean-field scaling, so that each moves by O(alpha) a step. For H hidden layers of n_1, .., n_H neurons

        W_l <- W_l - s_k M_l grad_{W_l} l(y_k, y_hat(x_k)),   b_l <- b_l - s_k m_l grad_{b_l} l(y_k, y_hat(x_k))

    with the multipliers M_0 = n_1, M_l = n_l n_{l+1} between hidden layers, M_H = n_H, and m_l = n_{l+1} for hidden
    neurons. In standard scaling all multipliers are 1. The output bias has multiplier 1 in both. All arrays are
    updated from the same values before the step, and the gradient of a batch is the mean over its samples.

    Weight decay multiplies the trained weights and hidden biases by 1 - 2 lambda s_k before each update, not the
    output bias. Noisy SGD (Langevin), for one hidden layer, is

        theta_i <- (1 - 2 lambda s_k) theta_i + [the step above] + sqrt(2 s_k tau) g_i,   g_i ~ N(0, I),

    on the trained arrays of each neuron; the output bias is not shaken.

    Parameters
    ----------
    network : start, of any depth; its dtype is kept
    law : of the samples; see `meanfield.model.laws.Law`
    step_size : alpha
    n_steps : each with ``batch_size`` fresh samples
    loss : "square", "logistic" or "cross-entropy" (see `meanfield.model.losses`)
    schedule : xi, a name or a callable (see `meanfield.dynamics.schedules.step_sizes`)
    trained : "all", "internal" (neither the first nor the last layer: the setting of Araújo, Oliveira & Yukimura), or
        an iterable of layer indices 0..H and of array names such as "weight_0" or "bias_1"; a layer index stands for
        its weights and biases
    weight_decay : lambda, with 2 lambda s_k < 1; the biases of a hidden layer decay if and only if its weights do
    temperature : tau, zero for two hidden layers or more; its noise comes from a stream spawned from ``rng``, so that
        the samples stay the same
    record : what to record besides the loss; None records the loss at log-spaced steps
    on_divergence : "raise" a `DivergenceError` (its attribute ``trajectory`` holds what was computed), or "stop" and
        return it as a status
    progress : show a bar with the time left on standard error
    n_threads : at most this many (default: ``$MEANFIELD_NUM_THREADS`` or the usable CPUs); never changes a bit
    rng : Generator or seed, from which ``n_steps * batch_size`` samples are drawn, each used once and in order. The
        chunks they are drawn in depend on their sizes and number alone: every width sees the same samples

    Returns
    -------
    Trajectory

    Raises
    ------
    ValueError, TypeError : bad arguments, before any work
    DivergenceError : a loss or weight became infinite or NaN

    Warns
    -----
    BlowUpWarning : the loss of the last 100 samples, each before its step, is more than 10 times both that of the
        start and that of zero outputs. Not of runs with a temperature, whose noise may carry the loss anywhere

    Notes
    -----
    Memory: the arrays three times over (in training, the latest known to be finite, a recorded one), at most 128
    pre-activations a neuron (and as many features, from two hidden layers on) or as many as a batch has samples, and
    one chunk of samples (8 MiB).

    Under weight decay the length of a block depends on the largest step size of the run: with a schedule that rises, a
    longer run repeats a shorter one to rounding, not to the bit.

    With several hidden layers only the first trained one costs matrix products alone. The weights of each later one
    are read twice a step, whatever the batch, and written once in several steps.

    References
    ----------
    Shevchenko & Mondelli 2020, equation of SGD; Mei, Montanari & Nguyen 2018; Araújo, Oliveira & Yukimura 2019 for
    several layers. The blocked algorithms are derived in `meanfield.kernels.two_layer` and
    `meanfield.kernels.multilayer`.
    """
    plan = _Plan(
        step_size=check_positive("step_size", step_size),
        n_steps=check_integer("n_steps", n_steps, least=1),
        batch_size=check_integer("batch_size", batch_size, least=1),
        schedule=schedule,
    )
    check_choice("on_divergence", on_divergence, ("raise", "stop"))
    check_fit(network, law)
    rule = Rule(
        trained=trained_arrays(trained, network),
        batch_size=plan.batch_size,
        loss=check_loss(loss),
        weight_decay=check_nonnegative("weight_decay", weight_decay),
        temperature=check_nonnegative("temperature", temperature),
        largest_step_size=plan.largest_step_size(),
    )
    check_rule(rule, network)
    recorder = Recorder(check_recording(record), plan.step_size, plan.n_steps, plan.judged_steps)
    generator = check_rng(rng, "run_sgd")
    samples = _Samples(law, plan, network.dtype, loss, generator)
    threads = available_threads() if n_threads is None else check_integer("n_threads", n_threads, least=1)
    with _trainer(network, rule, threads, generator) as trainer:
        status, final = _train(trainer, plan, samples, recorder, progress)
    trajectory = Trajectory(final, recorder.table(), status, recorder.networks)
    if trajectory.diverged and on_divergence == "raise":
        raise DivergenceError(status, trajectory)
    if not trajectory.diverged and rule.temperature == 0:
        warn_of_blow_up(float(recorder.latest.mean()), network, Empirical(*samples.latest), loss, plan.step_size)
    return trajectory


def _trainer(network: Network, rule: Rule, n_threads: int, rng: np.random.Generator) -> Trainer[Any]:
    if network.n_hidden != 1:
        return MultilayerTrainer(network, rule, n_threads)
    return TwoLayerTrainer(network, rule, n_threads, rng.spawn(1)[0] if rule.temperature > 0 else None)


@dataclass(frozen=True)
class _Plan:
    """The numbers of a run."""

    step_size: float
    n_steps: int
    batch_size: int
    schedule: Schedule | None

    @property
    def n_samples(self) -> int:
        return self.n_steps * self.batch_size

    @property
    def judged_steps(self) -> int:
        return -(-JUDGED_SAMPLES // self.batch_size)

    def sizes(self, start: int, stop: int) -> NDArray[np.float64]:
        """Step sizes of the steps start + 1 .. stop."""
        return step_sizes(self.step_size, start + 1, stop, self.schedule)

    def largest_step_size(self) -> float:
        """Largest step size of the run; looked for in pieces, so that memory does not grow with the steps."""
        pieces = range(0, self.n_steps, NUMBERS_PER_CHUNK)
        return max(self.sizes(start, min(start + NUMBERS_PER_CHUNK, self.n_steps)).max() for start in pieces)

    def spans(self, block: int, numbers_per_sample: int) -> Iterator[tuple[int, int]]:
        """Cut the run into spans of whole blocks that hold about one chunk of samples each."""
        samples = max(1, NUMBERS_PER_CHUNK // numbers_per_sample)
        length = max(1, samples // (block * self.batch_size)) * block
        for start in range(0, self.n_steps, length):
            yield start, min(start + length, self.n_steps)


class _Samples:
    """Draws in chunks that depend on shapes and the samples left, hands samples out in order and keeps the latest."""

    def __init__(self, law: Law, plan: _Plan, dtype: np.dtype[Any], loss: str, rng: np.random.Generator) -> None:
        self._law, self._left, self._dtype, self._loss, self._rng = law, plan.n_samples, dtype, loss, rng
        self.numbers_per_sample = law.dim + law.n_outputs
        self._chunk = max(1, NUMBERS_PER_CHUNK // self.numbers_per_sample)
        self._x = np.empty((0, law.dim), dtype)
        self._y = np.empty((0, law.n_outputs), dtype)
        self._judged = plan.judged_steps * plan.batch_size
        self.latest = [self._x, self._y]

    def take(self, n: int) -> tuple[Array, Array]:
        """Return the next ``n`` samples."""
        drawn_x, drawn_y, held = [self._x], [self._y], len(self._x)
        while held < n:
            size = min(self._chunk, self._left)
            x, y = checked_sample(self._law, size, self._rng)
            check_targets(self._loss, y)
            drawn_x.append(x.astype(self._dtype, copy=False))
            drawn_y.append(y.astype(self._dtype, copy=False))
            self._left -= size
            held += size
        x, y = np.concatenate(drawn_x), np.concatenate(drawn_y)
        self._x, self._y = x[n:], y[n:]
        pairs = zip(self.latest, (x[:n], y[:n]), strict=True)
        self.latest = [np.concatenate([old, new[-self._judged :]])[-self._judged :] for old, new in pairs]
        return np.ascontiguousarray(x[:n]), np.ascontiguousarray(y[:n])


class _Diverged(Exception):
    """Raised within a run to leave its loop, with the step and the latest state known to be finite."""

    def __init__(self, step: int, finite: tuple[Array, ...]) -> None:
        super().__init__(step)
        self.step, self.finite = step, finite


def _train(
    trainer: Trainer[Any], plan: _Plan, samples: _Samples, recorder: Recorder, progress: bool
) -> tuple[str, Network]:
    """Carry the run through; return its status and the last network known to be finite."""
    for step in recorder.network_steps(0, 0):
        recorder.measure(step, trainer.network())
    with tqdm(total=plan.n_steps, unit="step", unit_scale=True, disable=not progress) as bar:
        for start, stop in plan.spans(trainer.block, samples.numbers_per_sample):
            try:
                _train_span(trainer, plan, samples, recorder, start, stop)
            except _Diverged as divergence:
                return _diverged_status(plan, divergence.step), trainer.network(divergence.finite)
            bar.update(stop - start)
    return "finished", trainer.network()


def _train_span(
    trainer: Trainer[Any], plan: _Plan, samples: _Samples, recorder: Recorder, start: int, stop: int
) -> None:
    """Train through the steps start + 1 .. stop, cut only where blocks begin.

    A network asked for inside a block is made from a copy that walks on from the block's beginning, so that the run
    itself never knows.
    """
    x, y = samples.take((stop - start) * plan.batch_size)
    finite = trainer.state()

    def batches(first: int, last: int) -> tuple[Array, Array, NDArray[np.float64]]:
        rows = slice((first - start) * plan.batch_size, (last - start) * plan.batch_size)
        return x[rows], y[rows], plan.sizes(first, last)

    def advance(first: int, last: int) -> None:
        losses = trainer.advance(*batches(first, last))
        bad = np.flatnonzero(~np.isfinite(losses))
        recorder.add_losses(losses[: bad[0]] if bad.size else losses)
        if bad.size:
            raise _Diverged(first + 1 + int(bad[0]), finite)

    position = start
    for step in recorder.network_steps(start + 1, stop):
        cut = stop if step == stop else step - step % trainer.block
        advance(position, cut)
        position = cut
        state, losses = trainer.after(*batches(cut, step))
        if not (np.isfinite(losses).all() and is_finite(state)):
            advance(cut, step)  # keeps the losses up to there, and knows which one is not finite
            raise _Diverged(step, finite)
        finite = state
        recorder.measure(step, trainer.network(state))
    advance(position, stop)
    if not trainer.is_finite():
        raise _Diverged(stop, finite)


def _diverged_status(plan: _Plan, step: int) -> str:
    return (
        f"diverged at step {step} of {plan.n_steps} (time {step * plan.step_size:g}): the loss or a weight is no "
        f"longer finite; reduce step_size, now {plan.step_size:g}"
    )
