"""Does the loss change depend on the number of neurons? Width-independent dropout stability, measured.

Networks of different widths are trained on the same samples for the same time; then the change in loss when m of N
neurons are kept is taken exactly over all subsets. Shevchenko & Mondelli (2020, form of Theorem 1) bound it by a
constant that does not grow with N. As the mean change is c_N (N - m)/(m (N - 1)) on any network, identically, what is
measured here is whether the neuron variance c_N settles; the control is the 1/sqrt(N) scaling, where it grows like N.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd

from meanfield.checks import check_choice, check_integer, check_positive
from meanfield.dynamics.blow_up import BLOW_UP
from meanfield.dynamics.recording import Recording, Trajectory, log_spaced_steps
from meanfield.dynamics.sgd import run_sgd
from meanfield.model.activations import ACTIVATIONS
from meanfield.model.laws import Empirical, Law
from meanfield.model.network import Network
from meanfield.studies.data import GAUSSIANS, checked_digest, held_out, law_of
from meanfield.studies.evaluation import FixedSamples, held_out_error, without_overflow_warnings
from meanfield.studies.memory import array_bytes

__all__ = [
    "SCALINGS",
    "SETTINGS",
    "DropoutRun",
    "Setting",
    "cost",
    "grid",
    "initial_network",
    "kept_numbers",
    "memory",
    "one_run",
    "setting_of",
    "status_of",
    "step_size_of",
    "trained",
    "unmet_assumptions",
]

DEFAULT_DATA = ("gaussians", "digits")
DEFAULT_WIDTHS = (64, 128, 256, 512, 1024, 2048)
DEFAULT_SEEDS = 4
SCALINGS = ("mean-field", "control")
MOST_DATA_SETS = 3  # that fit beside each other in a figure

BOUNDED_ACTIVATIONS = ("truncated-relu", "tanh", "erf", "sigmoid")

# The standard deviation over subsets takes N^2 n operations.
N_SAMPLES = 1400
RECORDS_PER_DECADE = 2


@dataclass(frozen=True)
class Setting:
    """What is trained on a data set, unless an option says otherwise.

    ``inner_std`` belongs to the first layer's Gaussian weights; output weights are 1 and frozen, or N(0, 1) and
    trained.
    """

    activation: str
    step_size: float
    horizon: float
    inner_std: float
    train_outer: bool


SETTINGS = {
    "gaussians": Setting("truncated-relu", 1e-3, 4.0, 0.8 / GAUSSIANS.dim**0.5, train_outer=False),
    "data set": Setting("relu", 0.02, 20.0, 1.0, train_outer=True),
}


def setting_of(data: str) -> Setting:
    """Return the defaults for a data set's name or file."""
    return SETTINGS["gaussians" if data == "gaussians" else "data set"]


@dataclass(frozen=True)
class DropoutRun:
    """One network: its data, scaling, width and replica, and how long it is trained.

    ``digest`` is the SHA-256 of the data, so that results of another content are not taken for this one's.
    """

    data: str
    target: str | None
    digest: str | None
    scaling: str
    n_neurons: int
    seed: int
    activation: str
    step_size: float
    horizon: float
    dtype: str
    n_samples: int
    root_seed: int

    @property
    def n_steps(self) -> int:
        """Steps of training: time over step size."""
        return round(self.horizon / self.step_size)


def grid(
    *,
    data: Sequence[str] = DEFAULT_DATA,
    target: str | None = None,
    widths: Sequence[int] = DEFAULT_WIDTHS,
    n_seeds: int = DEFAULT_SEEDS,
    activation: str | None = None,
    step_size: float | None = None,
    horizon: float | None = None,
    dtype: str = "float64",
    n_samples: int = N_SAMPLES,
    root_seed: int = 0,
) -> list[DropoutRun]:
    """Return the runs of the study: every data set x scaling x width x replica.

    Parameters
    ----------
    data : "gaussians", names of `meanfield.model.datasets.DATASETS`, or paths of .npz or .csv files
    target : what is learnt of a data set, see `load_dataset`; None for its default
    widths : numbers of neurons N, at least 2
    n_seeds : replicas of each
    activation, step_size, horizon : None for the data set's `Setting`
    dtype : "float64" or "float32"
    n_samples : fresh samples that a measurement uses; a smaller data set is taken whole
    root_seed : that the replicas' seeds come from; runs from different ones are different runs

    Raises
    ------
    ValueError, TypeError, FileNotFoundError : before any work, naming the option
    """
    check_integer("seeds", n_seeds, least=1)
    if not 1 <= len(set(data)) <= MOST_DATA_SETS:
        raise ValueError(f"data must name 1 to {MOST_DATA_SETS} data sets or files, got {list(data)}")
    sizes = sorted({check_integer("widths", width, least=2) for width in widths})
    if not sizes:
        raise ValueError("widths must hold at least one number of neurons, got none")
    replicas = list(product(SCALINGS, sizes, range(n_seeds)))
    runs = []
    for name in dict.fromkeys(data):
        default = setting_of(name)
        first = DropoutRun(
            data=name,
            target=target,
            digest=checked_digest(name, target),
            scaling=SCALINGS[0],
            n_neurons=sizes[0],
            seed=0,
            activation=check_choice("activation", activation or default.activation, ACTIVATIONS),
            step_size=check_positive("step size", default.step_size if step_size is None else step_size),
            horizon=check_positive("horizon", default.horizon if horizon is None else horizon),
            dtype=check_choice("dtype", dtype, ("float64", "float32")),
            n_samples=check_integer("samples", n_samples, least=100),
            root_seed=check_integer("root_seed", root_seed, least=0),
        )
        if first.n_steps < 1:
            raise ValueError(f"horizon must be at least one step of {first.step_size:g}, got {first.horizon:g}")
        runs += [replace(first, scaling=scaling, n_neurons=n, seed=seed) for scaling, n, seed in replicas]
    return runs


def unmet_assumptions(run: DropoutRun) -> list[str]:
    """Name the assumptions of the theorem that a run does not meet (Shevchenko & Mondelli 2020, A1 to A4)."""
    unmet = []
    if run.activation not in BOUNDED_ACTIVATIONS:
        unmet.append("the activation is not bounded")
    if setting_of(run.data).train_outer:
        unmet.append("initial output weights are not bounded")
    return unmet


def cost(run: DropoutRun) -> float:
    """Estimate the work of a run, in neuron-steps."""
    if run.scaling == "control":
        return run.n_neurons * run.n_steps
    return run.n_neurons * (run.n_steps + 2.5 * run.n_samples + run.n_neurons * run.n_samples / 3000)


def memory(run: DropoutRun) -> float:
    """Estimate the bytes of arrays that a run takes at its peak, a data set included."""
    law, itemsize = law_of(run.data, run.target, run.digest), np.dtype(run.dtype).itemsize
    data = law.x.nbytes + law.y.nbytes if isinstance(law, Empirical) else 0
    return data + array_bytes((law.dim, run.n_neurons, law.n_outputs), run.n_samples, itemsize=itemsize)


@without_overflow_warnings()
def one_run(run: DropoutRun, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """Train one network and measure it: frames ``summary`` (one row), ``curve`` (one a kept number), ``trajectory``.

    The streams for initial weights, training samples and evaluation are the same at every width.
    """
    for_weights, for_training, for_evaluation = rng.spawn(3)
    law = law_of(run.data, run.target, run.digest)
    evaluation = FixedSamples(law, run.n_samples, for_evaluation)
    controlled = run.scaling == "control"
    start = initial_network(run, law, for_weights)
    trajectory = trained(run, start, law, for_training, measure=None if controlled else evaluation.snapshot)
    final = trajectory.final
    curve = evaluation.curve(final, kept_numbers(run.n_neurons), std=False if controlled else None)
    half = curve.loc[curve["n_kept"] == run.n_neurons // 2, "mean_change"].item()
    summary = {
        "status": status_of(run.step_size, trajectory, curve["risk"].iloc[0], evaluation.snapshot(start)["risk"]),
        "risk": curve["risk"].iloc[0],
        "c_n": curve.attrs["c_n"],
        "c_n_standard_error": curve.attrs["c_n_standard_error"],
        "half_change": half,
        "test_error": held_out_error(final, held_out(run.data, run.target, run.digest), for_evaluation),
    }
    records = trajectory.records.assign(time=trajectory.records["step"] * run.step_size)
    frames = {"summary": pd.DataFrame([summary]), "curve": curve[list(CURVE_COLUMNS)], "trajectory": records}
    return {name: frame.reset_index(drop=True) for name, frame in frames.items()}


def trained(
    run: DropoutRun,
    start: Network,
    law: Law,
    rng: np.random.Generator,
    measure: Callable[[Network], Mapping[str, float]] | None = None,
) -> Trajectory:
    """Train ``start`` as the run has it; a divergence is a status, not an error."""
    return run_sgd(
        start,
        law,
        step_size=step_size_of(run),
        n_steps=run.n_steps,
        trained="all" if setting_of(run.data).train_outer else [0],
        record=Recording([0, *log_spaced_steps(run.n_steps, RECORDS_PER_DECADE)], measure=measure),
        on_divergence="stop",
        rng=rng,
    )


def status_of(step_size: float, trajectory: Trajectory, risk: float, risk_before: float) -> str:
    """Return "finished", or how the run diverged: to infinity, or to a risk far above the one it began with."""
    if trajectory.diverged:
        how = trajectory.status.partition(":")[0]
    elif not risk <= BLOW_UP * risk_before:
        how = f"diverged: its risk went from {risk_before:.3g} to {risk:.3g}"
    else:
        return "finished"
    return f"{how}; try a step size below {step_size:g}"


CURVE_COLUMNS = ("n_kept", "mean_change", "std_change", "standard_error", "method")


def kept_numbers(n_neurons: int) -> list[int]:
    """Return the kept numbers m that are measured: powers of two, N/2 and 3N/4."""
    powers = (2**k for k in range(n_neurons.bit_length()))
    numbers = {*powers, n_neurons // 2, max(1, 3 * n_neurons // 4)}
    return sorted(m for m in numbers if m < n_neurons)


def initial_network(run: DropoutRun, law: Law, rng: np.random.Generator) -> Network:
    """Draw the start: the mean-field one, or the control ``y_hat = sum_i a_i sigma(..)`` with a_i ~ N(0, 1/N)."""
    setting, controlled = setting_of(run.data), run.scaling == "control"
    frozen_at_one = not setting.train_outer and not controlled
    outer_std = run.n_neurons**-0.5 if controlled else float(setting.train_outer)
    return Network.init(
        (law.dim, run.n_neurons, law.n_outputs),
        activation=run.activation,
        scaling="standard" if controlled else "mean-field",
        mean=(0.0, 1.0 if frozen_at_one else 0.0),
        std=(setting.inner_std, outer_std),
        dtype=run.dtype,
        rng=rng,
    )


def step_size_of(run: DropoutRun) -> float:
    """Alpha; in the control, alpha / N where output weights are trained, so that its outputs move as fast."""
    shared = run.scaling == "control" and setting_of(run.data).train_outer
    return run.step_size / run.n_neurons if shared else run.step_size
