"""Training the bend of a quadratic Bezier curve between two networks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from meanfield.checks import DivergenceError, check_integer, check_nonnegative, check_positive, check_rng
from meanfield.dynamics.blow_up import JUDGED_SAMPLES, warn_of_blow_up
from meanfield.dynamics.multipliers import sgd_multipliers
from meanfield.dynamics.schedules import Schedule, step_sizes
from meanfield.kernels.blas import single_threaded_blas
from meanfield.landscape.curves import QuadraticBezier, StraightLine
from meanfield.model.gradient import Gradient, loss_gradient
from meanfield.model.laws import Empirical, Law, checked_sample
from meanfield.model.losses import check_loss
from meanfield.model.network import Network
from meanfield.model.risk import check_fit, risk

__all__ = ["BezierTraining", "bend_gradient", "train_bezier"]

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class BezierTraining:
    """Result of `train_bezier`.

    Attributes
    ----------
    curve : with the trained bend; its ends are the very networks that were given
    history : one row a step: step, t, and loss, the mean loss of the step's fresh samples at t before the step
    n_gradients : gradients computed, one a sample
    """

    curve: QuadraticBezier
    history: pd.DataFrame
    n_gradients: int


def train_bezier(
    first: Network,
    second: Network,
    law: Law,
    *,
    step_size: float,
    n_steps: int,
    loss: str = "square",
    batch_size: int = 100,
    momentum: float = 0.9,
    schedule: Schedule | None = None,
    bend: Network | None = None,
    progress: bool = False,
    rng: np.random.Generator | int,
) -> BezierTraining:
    """Train the bend of a quadratic Bezier curve to lower the mean loss along it, by one-pass SGD.

        minimise over the bend E_{t ~ U[0, 1]} L(theta(t)),   theta(t) = (1-t)^2 theta_0 + 2t(1-t) bend + t^2 theta_1
        v <- mu v + M grad_bend l(y, y_hat(x; theta(t))),     bend <- bend - s_k v,     s_k = alpha xi(k alpha)

    with a fresh t and fresh samples each step, the gradient of a batch the mean over its samples, and M the
    multipliers of `meanfield.dynamics.multipliers`, so that the bend moves as the weights of a network under SGD do.
    A low mean does not bound the maximum, and neither does a grid: see `curve_risk`.

    Parameters
    ----------
    first, second : of any depth and of the same widths, activation, scaling and dtype, both with biases or both
        without; they are not moved
    law : of the samples
    step_size : alpha; with momentum mu steps are 1 / (1 - mu) times as long in the end
    n_steps : each with ``batch_size`` fresh samples
    loss : see `meanfield.model.losses`
    momentum : mu, in [0, 1)
    schedule : xi, a name or a callable (see `meanfield.dynamics.schedules.step_sizes`)
    bend : where training starts; half way between the ends, on the straight line, unless given
    progress : show a bar with the time left on standard error
    rng : Generator or seed; the samples come from it, the t from a stream spawned from it

    Raises
    ------
    ValueError, TypeError : bad arguments, before any work; targets that do not suit the loss
    DivergenceError : the loss or the bend became infinite or NaN; its ``trajectory`` is the BezierTraining up to then

    Warns
    -----
    BlowUpWarning : at t = 1/2 and on the last 100 samples, the loss is more than 10 times both that of the start and
        that of zero outputs

    References
    ----------
    Garipov et al. 2018, section 3.
    """
    check_fit(first, law)
    check_loss(loss)
    check_integer("n_steps", n_steps, least=1)
    check_integer("batch_size", batch_size, least=1)
    _check_momentum(momentum)
    sizes = step_sizes(check_positive("step_size", step_size), 1, n_steps, schedule)
    curve = QuadraticBezier(first, StraightLine(first, second).at(0.5) if bend is None else bend, second)
    generator = check_rng(rng, "train_bezier")
    times = generator.spawn(1)[0].random(n_steps)
    descent, losses, middle = _Descent(curve, momentum), list[float](), curve.at(0.5)
    latest = deque[tuple[Array, Array]](maxlen=-(-JUDGED_SAMPLES // batch_size))
    # What overflows is found at the end of its step. Pinned once: each small product would do it anew.
    with np.errstate(over="ignore", invalid="ignore"), single_threaded_blas():
        for t, size in tqdm(zip(times, sizes, strict=True), total=n_steps, unit="step", disable=not progress):
            x, y = checked_sample(law, batch_size, generator)
            mean_loss = descent.step(float(t), x, y, loss, float(size))
            if mean_loss is None:
                raise _divergence(_result(descent.curve, times, losses, batch_size), n_steps, step_size)
            losses.append(mean_loss)
            latest.append((x, y))
        judged = Empirical(*map(np.concatenate, zip(*latest, strict=True)))
        end = risk(descent.curve.at(0.5), judged, loss=loss).value
    warn_of_blow_up(end, middle, judged, loss, step_size)
    return _result(descent.curve, times, losses, batch_size)


def bend_gradient(curve: QuadraticBezier, t: float, x: Array, y: Array, loss: str) -> Gradient:
    """Return the mean loss of theta(t) on samples x (n, d), y (n, C), and its gradient by the bend.

    grad_bend l(theta(t)) = 2 t (1 - t) grad_theta l(theta(t))
    """
    gradient = loss_gradient(curve.at(t), x, y, loss)
    share = curve.first.dtype.type(2 * t * (1 - t))
    biases = None if gradient.biases is None else tuple(share * g for g in gradient.biases)
    return Gradient(gradient.loss, tuple(share * g for g in gradient.weights), biases)


class _Descent:
    """The curve under training, and the velocity of its bend."""

    def __init__(self, curve: QuadraticBezier, momentum: float) -> None:
        self.curve, self._momentum = curve, curve.bend.dtype.type(momentum)
        self._velocity = [np.zeros_like(array) for array in _arrays(curve.bend.weights, curve.bend.biases)]
        multipliers = sgd_multipliers(curve.bend)
        offsets = () if curve.bend.biases is None else multipliers.biases
        self._multipliers = [curve.bend.dtype.type(number) for number in (*multipliers.weights, *offsets)]

    def step(self, t: float, x: Array, y: Array, loss: str, size: float) -> float | None:
        """Move the bend; return the mean loss before, or None, with the bend unmoved, where something is not finite."""
        gradient = bend_gradient(self.curve, t, x, y, loss)
        moved = list(self._moved(gradient, size))
        if not (np.isfinite(gradient.loss) and all(np.isfinite(array).all() for array in moved)):
            return None
        bend, n_layers = self.curve.bend, len(self.curve.bend.weights)
        moved_bend = Network(
            moved[:n_layers], moved[n_layers:] or None, activation=bend.activation, scaling=bend.scaling
        )
        self.curve = QuadraticBezier(self.curve.first, moved_bend, self.curve.second)
        return gradient.loss

    def _moved(self, gradient: Gradient, size: float) -> Iterator[Array]:
        bend = _arrays(self.curve.bend.weights, self.curve.bend.biases)
        slopes = _arrays(gradient.weights, gradient.biases)
        for array, velocity, slope, multiplier in zip(bend, self._velocity, slopes, self._multipliers, strict=True):
            velocity *= self._momentum
            velocity += multiplier * slope
            yield array - velocity.dtype.type(size) * velocity


def _arrays(weights: tuple[Array, ...], biases: tuple[Array, ...] | None) -> tuple[Array, ...]:
    return (*weights, *(biases or ()))


def _result(curve: QuadraticBezier, times: Array, losses: list[float], batch_size: int) -> BezierTraining:
    steps = np.arange(1, len(losses) + 1)
    history = pd.DataFrame({"step": steps, "t": times[: len(losses)], "loss": losses})
    return BezierTraining(curve, history, len(losses) * batch_size)


def _divergence(training: BezierTraining, n_steps: int, step_size: float) -> DivergenceError:
    return DivergenceError(
        f"the bend diverged at step {len(training.history) + 1} of {n_steps}: the loss or a weight is no longer "
        f"finite; reduce step_size, now {step_size:g}",
        training,
    )


def _check_momentum(momentum: float) -> None:
    if check_nonnegative("momentum", momentum) >= 1:
        raise ValueError(f"momentum must lie in [0, 1), got {momentum}: with 1 or more the bend never slows down")
