"""Is the step the right one at every width? Sizes and movements of weights and pre-activations against width.

Networks of different widths take a few steps on the same samples. In mean-field scaling a weight moves by O(1) in
rescaled time 1, and so do pre-activations and outputs, whatever the width: step sizes found at one width then serve at
all others. The check is that of Yang et al. (2022) for their scaling; the control is standard scaling at a step size
that does not depend on the width.

Averages of zero-mean weights vanish as the layers widen. From such a start pre-activations of order 1 / sqrt(N) are
what the scaling predicts, and no failure of it: every quantity is held against its own exponent, `expected_slope`.
These exponents are those of the first step, before anything is learnt, which is all that such networks take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from meanfield.checks import check_integer, check_positive
from meanfield.dynamics.sgd import run_sgd
from meanfield.kernels.blas import single_threaded_blas
from meanfield.landscape.movement import movement
from meanfield.model.laws import Empirical, Law, TeacherStudent
from meanfield.model.network import Network
from meanfield.model.risk import risk
from meanfield.studies.dropout import status_of
from meanfield.studies.evaluation import without_overflow_warnings
from meanfield.studies.memory import array_bytes

__all__ = [
    "QUANTITIES",
    "SETTINGS",
    "WidthCheckRun",
    "cost",
    "expected_slope",
    "grid",
    "initial_network",
    "memory",
    "one_run",
]

DEFAULT_WIDTHS = (64, 128, 256, 512, 1024)
DEFAULT_HIDDEN = (1, 2)
DEFAULT_SEEDS = 4
ZERO_MEAN_REPLICAS = 3  # of each other one: averages of zero-mean weights vary most between replicas
DEFAULT_STEP_SIZE = 0.01
DEFAULT_STEPS = 4

SETTINGS = ("mean-field", "zero-mean", "control")
QUANTITIES = ("weight change", "pre-activation at start", "pre-activation", "pre-activation change")

DIM, N_OUTPUTS = 32, 10
# The mean over zero-mean neurons of an odd activation would vanish as they grow in number, whatever the next weights.
ACTIVATION = "relu"
LARGE_MEAN, SMALL_STD = 1.0, 0.1
BATCH_SIZE = 32
N_SAMPLES = 400

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class WidthCheckRun:
    """One network: its scaling and start, number and width of hidden layers, the steps it takes, and its replica."""

    setting: str
    n_hidden: int
    n_neurons: int
    seed: int
    step_size: float
    n_steps: int


def grid(
    *,
    widths: Sequence[int] = DEFAULT_WIDTHS,
    n_hidden: Sequence[int] = DEFAULT_HIDDEN,
    n_seeds: int = DEFAULT_SEEDS,
    step_size: float = DEFAULT_STEP_SIZE,
    n_steps: int = DEFAULT_STEPS,
) -> list[WidthCheckRun]:
    """Return the runs of the study: every number of hidden layers x setting x width x replica.

    Parameters
    ----------
    widths : numbers of neurons N of each hidden layer, at least 2
    n_hidden : numbers of hidden layers, at least 1
    n_seeds : replicas of each, of networks with zero-mean weights three times as many
    step_size : alpha, at every width
    n_steps : of `BATCH_SIZE` samples each; networks with zero-mean weights take one

    Raises
    ------
    ValueError, TypeError : before any work, naming the option
    """
    check_integer("seeds", n_seeds, least=1)
    sizes = sorted({check_integer("widths", width, least=2) for width in widths})
    depths = sorted({check_integer("hidden layers", depth, least=1) for depth in n_hidden})
    if not sizes or not depths:
        raise ValueError(
            f"widths and hidden layers must each hold at least one number, got {list(widths)} and {list(n_hidden)}"
        )
    alpha, most = check_positive("step size", step_size), check_integer("steps", n_steps, least=1)
    runs = []
    for setting in SETTINGS:
        zero_mean = setting == "zero-mean"
        replicas = range(n_seeds * ZERO_MEAN_REPLICAS if zero_mean else n_seeds)
        places = product([setting], depths, sizes, replicas)
        runs += [WidthCheckRun(*place, alpha, 1 if zero_mean else most) for place in places]
    return runs


def expected_slope(setting: str, n_hidden: int, quantity: str, weights: int) -> float | None:
    """Return the exponent in N of a quantity of weights[l], l = 0..H, after few steps, None where it has not one.

    | setting | weight change | pre-activation at start | other quantities |
    | --- | --- | --- | --- |
    | "mean-field", "control" | 0 | 0 | 0 |
    | "zero-mean", one step | -(max(l - 1, 0) + max(H - 1 - l, 0))/2 | -l/2 | a mixture of powers |

    Pre-activation l is what weights[l] compute, the output for l = H. From zero-mean weights each average over a
    hidden layer costs a factor 1 / sqrt(N): l averages lead from the inputs to pre-activation l, and with H hidden
    layers, ReLU and no biases the gradient of weights[l] is the product of an h^l of max(l - 1, 0) averages and a
    signal sent back through max(H - 1 - l, 0). The control is not expected to be so: it is held against what it lacks.
    """
    if setting != "zero-mean":
        return 0.0
    if quantity == "weight change":
        return -(max(weights - 1, 0) + max(n_hidden - 1 - weights, 0)) / 2
    return -weights / 2 if quantity == "pre-activation at start" else None


def cost(run: WidthCheckRun) -> float:
    """Estimate the work of a run, in multiplications."""
    n_weights = run.n_neurons * (DIM + N_OUTPUTS) + (run.n_hidden - 1) * run.n_neurons**2
    return n_weights * (10 + 2 * N_SAMPLES + 3 * BATCH_SIZE * run.n_steps)


def memory(run: WidthCheckRun) -> float:
    """Estimate the bytes of arrays that a run takes at its peak."""
    return array_bytes(_widths(run), N_SAMPLES)


@without_overflow_warnings()
def one_run(run: WidthCheckRun, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """Train one network for a few steps: frames ``summary`` and ``coordinates``, a row a quantity and weights[l].

    The streams for initial weights, training samples and evaluation are the same at every width.
    """
    for_weights, for_training, for_evaluation = rng.spawn(3)
    samples = Empirical(*_law().sample(N_SAMPLES, for_evaluation))
    start = initial_network(run, for_weights)
    trajectory = run_sgd(
        start,
        _law(),
        step_size=run.step_size,
        n_steps=run.n_steps,
        batch_size=BATCH_SIZE,
        on_divergence="stop",
        rng=for_training,
    )
    before, after = (risk(network, samples).value for network in (start, trajectory.final))
    # One step leads nowhere by itself, however far it goes.
    status = trajectory.status if run.n_steps == 1 else status_of(run.step_size, trajectory, after, before)
    coordinates = _coordinates(start, trajectory.final, samples.x)
    return {"summary": pd.DataFrame([{"status": status}]), "coordinates": coordinates}


@cache
def _law() -> Law:
    """Return a teacher of positive outputs: residuals of one sign do not cancel over the samples of a few steps."""
    teacher = Network.init((DIM, 8, N_OUTPUTS), activation=ACTIVATION, mean=(None, 4.0), std=(None, 0.0), rng=0)
    return TeacherStudent(teacher)


def initial_network(run: WidthCheckRun, rng: np.random.Generator) -> Network:
    """Draw the start: weights above the first layer N(1, 0.1^2), or zero-mean ones, or those of standard scaling."""
    widths = _widths(run)
    if run.setting == "control":
        return Network.init(widths, activation=ACTIVATION, scaling="standard", rng=rng)
    if run.setting == "zero-mean":
        return Network.init(widths, activation=ACTIVATION, rng=rng)
    mean, std = (None, *[LARGE_MEAN] * run.n_hidden), (None, *[SMALL_STD] * run.n_hidden)
    return Network.init(widths, activation=ACTIVATION, mean=mean, std=std, rng=rng)


def _widths(run: WidthCheckRun) -> tuple[int, ...]:
    return (DIM, *[run.n_neurons] * run.n_hidden, N_OUTPUTS)


def _coordinates(start: Network, final: Network, x: Array) -> pd.DataFrame:
    """Return the rms of each quantity at every layer of weights, over weights, or over neurons and samples."""
    moved = movement(start, final, least_change=0.0)["rms_change"]
    rows: list[dict[str, Any]] = []
    for layer, change in enumerate(moved):
        before, after = (_pre_activation(network, x, layer) for network in (start, final))
        values = (change, _rms(before), _rms(after), _rms(after - before))
        rows += [{"quantity": name, "weights": layer, "value": v} for name, v in zip(QUANTITIES, values, strict=True)]
    return pd.DataFrame(rows)


def _pre_activation(network: Network, x: Array, layer: int) -> Array:
    below = network.features(x, layer) if layer else x
    with single_threaded_blas():
        return network.factor(layer) * (below @ network.weights[layer].T)


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
