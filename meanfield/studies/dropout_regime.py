"""Where does the bound on dropout hold, and how tight is it? Its four quantities, measured one by one.

In the form of Theorem 1(A) of Shevchenko & Mondelli (2020) the loss changes by at most

    K e^{K T^3} ( (sqrt(log m) + z)/sqrt m + sqrt(alpha) (sqrt(D + log N) + z) )

when m of N neurons are kept, for all steps k <= T/alpha at once. Isotropic Gaussians, the truncated ReLU and frozen
output weights meet all its assumptions. One reference network is followed along its whole training; others differ
from it in one thing: the width N, the step size alpha, or the dimension d at fixed alpha d.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from meanfield.checks import check_integer, check_positive
from meanfield.dynamics.recording import Recording
from meanfield.dynamics.sgd import run_sgd
from meanfield.model.laws import IsotropicGaussians
from meanfield.model.network import Network
from meanfield.studies.dropout import status_of
from meanfield.studies.evaluation import FixedSamples, without_overflow_warnings
from meanfield.studies.memory import array_bytes

__all__ = [
    "DIMENSIONS",
    "STEP_SIZES",
    "RegimeRun",
    "cost",
    "grid",
    "initial_network",
    "memory",
    "one_run",
    "recorded_steps",
]

DEFAULT_WIDTHS = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
DEFAULT_KEPT = (16, 64, 256)
DEFAULT_SEEDS = 4
DEFAULT_HORIZON = 20.0
N_SAMPLES = 1500

DELTA = 0.8
INITIAL_RADIUS = 0.8  # of w ~ N(0, 0.8^2/d I), at every d
ACTIVATION = "truncated-relu"

# Powers of two: then all step sizes divide the largest, and every run can be recorded at the same times.
DIM, DIMENSIONS = 32, (8, 16, 32, 64, 128, 256)
STEP_SIZE, STEP_SIZES = 2.0**-10, (2.0**-14, *(2.0**-k for k in range(11, 5, -1)))
LARGEST_STEP = max(STEP_SIZES)

# Small steps are many: the sweeps of step size and dimension stop at this part of the horizon.
SWEEP_PART = 1 / 4
RECORDS_PER_OCTAVE = 2


@dataclass(frozen=True)
class RegimeRun:
    """One network: its shape, how long and by what steps it is trained, and its replica.

    ``kept_numbers`` are those m whose loss change is measured along the way, spread over subsets included; none but
    in the reference.
    """

    n_neurons: int
    dim: int
    step_size: float
    horizon: float
    seed: int
    kept_numbers: tuple[int, ...]
    n_samples: int

    @property
    def n_steps(self) -> int:
        """Steps of training: time over step size."""
        return round(self.horizon / self.step_size)


def grid(
    *,
    widths: Sequence[int] = DEFAULT_WIDTHS,
    n_kept: Sequence[int] = DEFAULT_KEPT,
    n_seeds: int = DEFAULT_SEEDS,
    horizon: float = DEFAULT_HORIZON,
    n_samples: int = N_SAMPLES,
) -> list[RegimeRun]:
    """Return the runs of the study: the reference, and what differs from it in one thing, for every replica.

    Parameters
    ----------
    widths : numbers of neurons N, at least 2; the largest is the reference's
    n_kept : kept numbers m of the reference, below its width
    n_seeds : replicas of each
    horizon : time T, made whole in units of four of the largest steps; a quarter of it for other step sizes and
        dimensions
    n_samples : fresh samples that a measurement uses

    Raises
    ------
    ValueError, TypeError : before any work, naming the option
    """
    check_integer("seeds", n_seeds, least=1)
    sizes = sorted({check_integer("widths", width, least=2) for width in widths})
    if not sizes or not len(n_kept):
        raise ValueError(f"widths and kept must each hold at least one number, got {list(widths)} and {list(n_kept)}")
    kept = tuple(sorted({check_integer("kept", m, least=1, most=sizes[-1] - 1) for m in n_kept}))
    reference = RegimeRun(
        n_neurons=sizes[-1],
        dim=DIM,
        step_size=STEP_SIZE,
        horizon=_whole(horizon),
        seed=0,
        kept_numbers=kept,
        n_samples=check_integer("samples", n_samples, least=100),
    )
    return [replace(run, seed=seed) for run in _variants(reference, sizes[:-1]) for seed in range(n_seeds)]


def _whole(horizon: float) -> float:
    unit = LARGEST_STEP / SWEEP_PART
    whole = unit * round(check_positive("horizon", horizon) / unit)
    if whole < 4 * unit:
        raise ValueError(f"horizon must be at least {4 * unit:g}, four units of {unit:g}, got {horizon:g}")
    return whole


def _variants(reference: RegimeRun, other_widths: Sequence[int]) -> list[RegimeRun]:
    """Return the reference, then the runs of other widths, step sizes and dimensions."""
    longer = replace(reference, kept_numbers=())
    shorter = replace(longer, horizon=SWEEP_PART * reference.horizon)
    by_width = [replace(longer, n_neurons=width) for width in other_widths]
    by_step = [replace(shorter, step_size=alpha) for alpha in STEP_SIZES if alpha != STEP_SIZE]
    by_dim = [replace(shorter, dim=dim, step_size=STEP_SIZE * DIM / dim) for dim in DIMENSIONS if dim != DIM]
    return [reference, *by_width, *by_step, *by_dim]


def cost(run: RegimeRun) -> float:
    """Estimate the work of a run, in multiplications."""
    n_records = len(recorded_steps(run))
    training = run.n_neurons * run.n_steps * (4 * run.dim + 400)
    subsets = run.n_neurons**2 * run.n_samples if run.kept_numbers else 0
    return training + n_records * (run.n_neurons * run.n_samples * (2 * run.dim + 30) + subsets)


def memory(run: RegimeRun) -> float:
    """Estimate the bytes of arrays that a run takes at its peak; the reference keeps its networks."""
    kept = len(recorded_steps(run)) * run.n_neurons * run.dim * 8 if run.kept_numbers else 0
    return kept + array_bytes((run.dim, run.n_neurons, 1), run.n_samples)


def recorded_steps(run: RegimeRun) -> list[int]:
    """Return step 0 and steps at log-spaced times, the same times for all runs as far as they go."""
    n_largest = round(run.horizon / LARGEST_STEP)
    n_octaves = int(np.log2(n_largest))
    times = n_largest * 2.0 ** -(np.arange(RECORDS_PER_OCTAVE * n_octaves + 1) / RECORDS_PER_OCTAVE)
    return sorted({0, *(round(LARGEST_STEP / run.step_size) * round(time) for time in times)})


@without_overflow_warnings()
def one_run(run: RegimeRun, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """Train one network and measure it: frames ``summary`` (one row), ``trajectory`` (one a time), ``gaps``.

    ``gaps`` holds one row a time and kept number, none but in the reference. The streams for initial weights,
    training samples and evaluation are the same at every width and step size.
    """
    for_weights, for_training, for_evaluation = rng.spawn(3)
    law = IsotropicGaussians(run.dim, DELTA)
    samples = FixedSamples(law, run.n_samples, for_evaluation)
    start = initial_network(run, for_weights)
    trajectory = run_sgd(
        start,
        law,
        step_size=run.step_size,
        n_steps=run.n_steps,
        trained=[0],
        record=Recording(recorded_steps(run), networks=bool(run.kept_numbers), measure=samples.snapshot),
        on_divergence="stop",
        rng=for_training,
    )
    end = samples.snapshot(trajectory.final)
    status = status_of(run.step_size, trajectory, end["risk"], samples.snapshot(start)["risk"])
    gaps = [_gaps(run, samples, step, network) for step, network in trajectory.networks.items()]
    return {
        "summary": pd.DataFrame([{"status": status, **end}]),
        "trajectory": trajectory.records,
        "gaps": pd.concat(gaps, ignore_index=True) if gaps else pd.DataFrame(columns=GAP_COLUMNS, dtype=float),
    }


GAP_COLUMNS = ["time", "n_kept", "mean_change", "std_change", "standard_error"]


def _gaps(run: RegimeRun, samples: FixedSamples, step: int, network: Network) -> pd.DataFrame:
    curve = samples.curve(network, run.kept_numbers, std=True)
    return curve.assign(time=step * run.step_size)[GAP_COLUMNS]


def initial_network(run: RegimeRun, rng: np.random.Generator) -> Network:
    """Draw the start: output weights 1, inner weights N(0, 0.8^2/d I), the same first neurons at every width."""
    return Network.init(
        (run.dim, run.n_neurons, 1),
        activation=ACTIVATION,
        mean=(0.0, 1.0),
        std=(INITIAL_RADIUS / run.dim**0.5, 0.0),
        rng=rng,
    )
