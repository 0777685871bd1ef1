"""What does dropout cost in networks of several hidden layers, and does it still fall with the number of neurons?

Networks of H hidden layers with N neurons each are trained on the same samples; then m neurons are kept in one hidden
layer, or in all of them, and the change in loss is measured. Shevchenko & Mondelli (2020, form of Theorem 2) bound it
by a term in sqrt(d / A_min), A_min the least number kept in a layer, and one of the step size: at m = N/2 it should
fall as N grows. Their networks are those of Araújo, Oliveira & Yukimura (2019), whose first and last layers are random
and frozen ("internal"); in experiments all layers are trained ("all"). The control is standard scaling with plain
gradients at one step size for all widths, of which neither theorem speaks.

Internal weights start as N(1, 1): from a zero mean networks of three hidden layers learn the less the wider they are
(`meanfield.model.initialisation`).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd

from meanfield.checks import check_choice, check_integer, check_positive
from meanfield.dynamics.sgd import run_sgd
from meanfield.landscape.movement import movement
from meanfield.model.activations import ACTIVATIONS
from meanfield.model.laws import Empirical, Law
from meanfield.model.network import Network
from meanfield.studies.data import checked_digest, held_out, is_file, law_of
from meanfield.studies.dropout import BOUNDED_ACTIVATIONS, kept_numbers, status_of
from meanfield.studies.dropped_layers import N_ORDERS, dropped_curve
from meanfield.studies.evaluation import FixedSamples, held_out_error
from meanfield.studies.memory import array_bytes
from meanfield.theory.prefactor import LEAST_KEPT

__all__ = [
    "SETTINGS",
    "MultilayerRun",
    "Recipe",
    "cost",
    "grid",
    "initial_network",
    "measured_numbers",
    "memory",
    "one_run",
    "recipe_of",
    "unmet_assumptions",
]

SETTINGS = ("all", "internal", "control")

INTERNAL_MEAN, FIRST_STD = 1.0, 1.0


@dataclass(frozen=True)
class Recipe:
    """What is trained on a data set, and how long, unless an option says otherwise.

    Gradients of standard scaling need smaller steps: ``control_step_size``, at every width too.
    """

    widths: tuple[int, ...]
    n_hidden: tuple[int, ...]
    n_seeds: int
    step_size: float
    control_step_size: float
    n_steps: int
    batch_size: int
    n_samples: int


SMALL_DATA = Recipe((32, 64, 128, 256, 512), (2, 3), 4, 0.05, 0.05, 2000, 10, 400)
IMAGES = Recipe((64, 128, 256, 512, 1024), (2,), 3, 1.0, 0.1, 4000, 100, 1000)


def recipe_of(data: str) -> Recipe:
    """Return the defaults for a data set's name or file."""
    return SMALL_DATA if data == "digits" or is_file(data) else IMAGES


@dataclass(frozen=True)
class MultilayerRun:
    """One network: its data with their SHA-256, what of it is trained, its shape and replica, training, measurement."""

    data: str
    target: str | None
    digest: str | None
    setting: str
    n_hidden: int
    n_neurons: int
    seed: int
    activation: str
    step_size: float
    n_steps: int
    batch_size: int
    dtype: str
    n_samples: int
    n_orders: int

    @property
    def law(self) -> Law:
        """The data."""
        return law_of(self.data, self.target, self.digest)

    @property
    def widths(self) -> tuple[int, ...]:
        """(d, N, .., N, C)."""
        return (self.law.dim, *[self.n_neurons] * self.n_hidden, self.law.n_outputs)


def grid(
    *,
    data: str = "digits",
    target: str | None = None,
    settings: Sequence[str] = SETTINGS,
    widths: Sequence[int] | None = None,
    n_hidden: Sequence[int] | None = None,
    n_seeds: int | None = None,
    activation: str = "relu",
    step_size: float | None = None,
    n_steps: int | None = None,
    batch_size: int | None = None,
    dtype: str = "float32",
    n_samples: int | None = None,
    n_orders: int = N_ORDERS,
) -> list[MultilayerRun]:
    """Return the runs of the study: every setting x number of hidden layers x width x replica.

    Parameters
    ----------
    data : name of a data set of `meanfield.model.datasets.DATASETS`, or path of an .npz or .csv file
    target : what is learnt of it, see `load_dataset`; None for its default
    settings : of "all", "internal" and "control"
    widths : numbers of neurons N of each hidden layer, at least 4
    n_hidden : numbers of hidden layers, at least 2
    n_seeds : replicas of each
    step_size : alpha, of all settings
    n_steps, batch_size : steps of SGD, and samples in each
    dtype : "float32" or "float64"
    n_samples : samples that a measurement uses; a smaller data set is taken whole
    n_orders : random orders of the neurons, at least 2; a set of every size from each

    None stands for the data set's `Recipe`.

    Raises
    ------
    ValueError, TypeError, FileNotFoundError : before any work, naming the option
    """
    if data == "gaussians":
        raise ValueError("data must name a data set or file, got 'gaussians': use the study of the dimension for them")
    usual = recipe_of(data)
    sizes = _distinct("widths", usual.widths if widths is None else widths, least=LEAST_KEPT)
    depths = _distinct("hidden layers", usual.n_hidden if n_hidden is None else n_hidden, least=2)
    chosen = [check_choice("setting", setting, SETTINGS) for setting in dict.fromkeys(settings)]
    if not chosen:
        raise ValueError(f"settings must hold at least one of {', '.join(SETTINGS)}, got none")
    first = MultilayerRun(
        data=data,
        target=target,
        digest=checked_digest(data, target),
        setting=chosen[0],
        n_hidden=depths[0],
        n_neurons=sizes[0],
        seed=0,
        activation=check_choice("activation", activation, ACTIVATIONS),
        step_size=check_positive("step size", usual.step_size if step_size is None else step_size),
        n_steps=check_integer("steps", usual.n_steps if n_steps is None else n_steps, least=1),
        batch_size=check_integer("batch size", usual.batch_size if batch_size is None else batch_size, least=1),
        dtype=check_choice("dtype", dtype, ("float64", "float32")),
        n_samples=check_integer("samples", usual.n_samples if n_samples is None else n_samples, least=100),
        n_orders=check_integer("orders", n_orders, least=2),
    )
    seeds = range(check_integer("seeds", usual.n_seeds if n_seeds is None else n_seeds, least=1))
    control_step_size = usual.control_step_size if step_size is None else first.step_size
    places = product(chosen, depths, sizes, seeds)
    runs = [replace(first, setting=name, n_hidden=h, n_neurons=n, seed=seed) for name, h, n, seed in places]
    return [replace(run, step_size=control_step_size) if run.setting == "control" else run for run in runs]


def _distinct(name: str, numbers: Sequence[int], *, least: int) -> list[int]:
    checked = sorted({check_integer(name, number, least=least) for number in numbers})
    if not checked:
        raise ValueError(f"{name} must hold at least one number, got none")
    return checked


def unmet_assumptions(run: MultilayerRun) -> list[str]:
    """Name what a run does not meet of the theorem's setting (Shevchenko & Mondelli 2020, Theorem 2)."""
    unmet = []
    if run.activation not in BOUNDED_ACTIVATIONS:
        unmet.append("the activation is not bounded")
    if run.setting == "all":
        unmet.append("the first and the last layer are trained")
    return [*unmet, "initial weights are not bounded"]


def cost(run: MultilayerRun) -> float:
    """Estimate the work of a run, in multiplications."""
    n_weights = sum(before * after for before, after in zip(run.widths[:-1], run.widths[1:], strict=True))
    sizes = len(measured_numbers(run.n_neurons))
    return n_weights * (3.0 * run.n_steps * run.batch_size + run.n_samples * run.n_orders * sizes * run.n_hidden / 3)


def memory(run: MultilayerRun) -> float:
    """Estimate the bytes of arrays that a run takes at its peak, a data set included."""
    law = run.law
    data = law.x.nbytes + law.y.nbytes if isinstance(law, Empirical) else 0
    return data + array_bytes(run.widths, run.n_samples, itemsize=np.dtype(run.dtype).itemsize)


def measured_numbers(n_neurons: int) -> list[int]:
    """Return the kept numbers m that are measured: those of `kept_numbers` from 4 to N/2."""
    half = n_neurons // 2
    return [m for m in kept_numbers(n_neurons) if m == half or LEAST_KEPT <= m < half]


def one_run(run: MultilayerRun, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """Train one network and measure it: frames ``summary``, ``curve``, ``movement``.

    - summary : one row: status, risk, initial_risk, test_error
    - curve : `dropped_curve`, a row for every m and what loses neurons ("hidden layer 1", .., "all hidden layers")
    - movement : the table of `meanfield.landscape.movement.movement`

    The streams for initial weights, training samples, evaluation and orders are the same at every width.
    """
    with warnings.catch_warnings():
        # A network on its way to infinity overflows where it is measured; its status says so.
        warnings.simplefilter("ignore", RuntimeWarning)
        return _trained_and_measured(run, rng)


def _trained_and_measured(run: MultilayerRun, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    for_weights, for_training, for_evaluation, for_orders = rng.spawn(4)
    samples = FixedSamples(run.law, run.n_samples, for_evaluation)
    start = initial_network(run, for_weights)
    trajectory = run_sgd(
        start,
        run.law,
        step_size=run.step_size,
        n_steps=run.n_steps,
        batch_size=run.batch_size,
        trained="internal" if run.setting == "internal" else "all",
        on_divergence="stop",
        rng=for_training,
    )
    final, initial_risk = trajectory.final, samples.snapshot(start)["risk"]
    risk = samples.snapshot(final)["risk"]
    summary = {
        "status": status_of(run.step_size, trajectory, risk, initial_risk),
        "risk": risk,
        "initial_risk": initial_risk,
        "test_error": held_out_error(final, held_out(run.data, run.target, run.digest), for_evaluation),
    }
    return {
        "summary": pd.DataFrame([summary]),
        "curve": dropped_curve(final, samples, measured_numbers(run.n_neurons), run.n_orders, for_orders),
        "movement": movement(start, final, least_change=0.0),
    }


def initial_network(run: MultilayerRun, rng: np.random.Generator) -> Network:
    """Draw the start: internal weights N(1, 1), the first and the last layer's N(0, 1); the control's as usual."""
    if run.setting == "control":
        return Network.init(run.widths, activation=run.activation, scaling="standard", dtype=run.dtype, rng=rng)
    internal = run.n_hidden - 1
    return Network.init(
        run.widths,
        activation=run.activation,
        mean=(0.0, *[INTERNAL_MEAN] * internal, 0.0),
        std=(FIRST_STD, *[None] * internal, None),
        dtype=run.dtype,
        rng=rng,
    )
