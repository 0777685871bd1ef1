"""Must the number of neurons kept grow with the dimension? Two layers of weights against three.

In the form of Theorem 1 of Shevchenko & Mondelli (2020) the loss change of a two-layer network with m neurons kept is
bounded by a term in sqrt(log m / m), whatever the dimension d of the inputs; in that of Theorem 2, for more layers, by
one in sqrt(d / A_min), A_min the least number kept in a hidden layer: A_min must exceed d. A bound from above says
nothing of what happens below it. Here the number of neurons is measured that must be kept for the mean change to be a
fixed part of what training has gained, L(0) - L(T), as d grows and nothing else does: isotropic Gaussians, first
weights of length 1 on average, alpha d, T and N fixed. Quantiles of the change and the losses, at narrower widths too,
are held against the bounds' forms (`meanfield.studies.dimension_bounds`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from meanfield.checks import check_integer, check_positive
from meanfield.dynamics.recording import Recording
from meanfield.dynamics.sgd import run_sgd
from meanfield.model.laws import IsotropicGaussians
from meanfield.model.network import Network
from meanfield.studies.dropout import status_of
from meanfield.studies.dropped_layers import N_ORDERS, dropped_curve
from meanfield.studies.evaluation import FixedSamples, without_overflow_warnings
from meanfield.studies.memory import array_bytes

__all__ = [
    "ACTIVATION",
    "ALLOWED",
    "NOISE",
    "SETTINGS",
    "DimensionRun",
    "cost",
    "grid",
    "initial_network",
    "kept_numbers",
    "memory",
    "one_run",
]

DEFAULT_DIMENSIONS = (8, 16, 32, 64, 128, 256)
DEFAULT_NEURONS = 512
DEFAULT_SEEDS = 4
DEFAULT_HORIZON = 4.0
N_SAMPLES = 500

# Number of hidden layers, and what is trained; the last is the setting of the theorem for several layers.
SETTINGS = {"two-layer": (1, "all"), "three-layer": (2, "all"), "three-layer, internal": (2, "internal")}

SEPARATION = 0.8  # Delta of the Gaussians
ACTIVATION = "relu"
NOISE = 2.0**-5  # alpha d
ALLOWED = 0.1  # mean change, in units of L(0) - L(T)
FEWEST_NEURONS = 16
NARROWER = (16, 4)  # parts of N that bounds fitted at one width are checked at
FEWEST_KEPT = 4
KEPT_PER_OCTAVE = 2
DTYPE = "float32"


@dataclass(frozen=True)
class DimensionRun:
    """One network: its depth and what of it is trained, its shape, how long it is trained, and its replica."""

    setting: str
    dim: int
    n_neurons: int
    seed: int
    horizon: float
    n_samples: int
    n_orders: int

    @property
    def step_size(self) -> float:
        """Alpha, inversely proportional to the dimension."""
        return NOISE / self.dim

    @property
    def n_steps(self) -> int:
        """Steps of training: time over step size."""
        return round(self.horizon / self.step_size)

    @property
    def n_hidden(self) -> int:
        """Number of hidden layers H."""
        return SETTINGS[self.setting][0]

    @property
    def widths(self) -> tuple[int, ...]:
        """(d, N, .., N, 1)."""
        return (self.dim, *[self.n_neurons] * self.n_hidden, 1)


def grid(
    *,
    dimensions: Sequence[int] = DEFAULT_DIMENSIONS,
    n_neurons: int = DEFAULT_NEURONS,
    n_seeds: int = DEFAULT_SEEDS,
    horizon: float = DEFAULT_HORIZON,
    n_samples: int = N_SAMPLES,
    n_orders: int = N_ORDERS,
) -> list[DimensionRun]:
    """Return the runs of the study: every setting x dimension x width x replica, the narrower widths first.

    Parameters
    ----------
    dimensions : d, at least 1
    n_neurons : N of each hidden layer, at least 16; N/16 and N/4 too, where that is at least 16
    n_seeds : replicas of each
    horizon : time T, at least one step of the lowest dimension
    n_samples : fresh samples that a measurement uses
    n_orders : random orders of the neurons, at least 2; a set of every size from each

    Raises
    ------
    ValueError, TypeError : before any work, naming the option
    """
    check_integer("seeds", n_seeds, least=1)
    numbers = sorted({check_integer("dimensions", dim, least=1) for dim in dimensions})
    if not numbers:
        raise ValueError("dimensions must hold at least one number, got none")
    widest = check_integer("neurons", n_neurons, least=FEWEST_NEURONS)
    widths = [*(widest // part for part in NARROWER if widest // part >= FEWEST_NEURONS), widest]
    options = (check_positive("horizon", horizon), check_integer("samples", n_samples, least=100))
    orders = check_integer("orders", n_orders, least=2)
    runs = [DimensionRun(*place, *options, orders) for place in product(SETTINGS, numbers, widths, range(n_seeds))]
    if runs[0].n_steps < 1:
        raise ValueError(f"horizon must be at least one step of {runs[0].step_size:g}, got {horizon:g}")
    return runs


def cost(run: DimensionRun) -> float:
    """Estimate the work of a run, in multiplications."""
    n_weights = sum(before * after for before, after in zip(run.widths[:-1], run.widths[1:], strict=True))
    drawn = run.n_samples * run.n_orders if run.n_hidden > 1 else 0
    return n_weights * (10.0 * run.n_steps + 2 * drawn)


def memory(run: DimensionRun) -> float:
    """Estimate the bytes of arrays that a run takes at its peak."""
    return array_bytes(run.widths, run.n_samples, itemsize=np.dtype(DTYPE).itemsize)


def kept_numbers(n_neurons: int) -> list[int]:
    """Return the kept numbers m that are measured: 4 to N/2, two an octave."""
    n_octaves = np.log2(n_neurons / 2 / FEWEST_KEPT)
    numbers = n_neurons / 2 * 2.0 ** -(np.arange(KEPT_PER_OCTAVE * n_octaves + 1e-9) / KEPT_PER_OCTAVE)
    return sorted({FEWEST_KEPT, *(int(m) for m in numbers)})


@without_overflow_warnings()
def one_run(run: DimensionRun, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """Train one network and measure it: frames ``summary`` (one row) and ``curve``, the table of `dropped_curve`.

    The streams for initial weights, training samples, evaluation and orders are the same in every setting and width.
    """
    for_weights, for_training, for_evaluation, for_orders = rng.spawn(4)
    law = IsotropicGaussians(run.dim, SEPARATION)
    samples = FixedSamples(law, run.n_samples, for_evaluation)
    start = initial_network(run, for_weights)
    trajectory = run_sgd(
        start,
        law,
        step_size=run.step_size,
        n_steps=run.n_steps,
        trained=SETTINGS[run.setting][1],
        record=Recording([0]),
        on_divergence="stop",
        rng=for_training,
    )
    before, after = (samples.snapshot(network)["risk"] for network in (start, trajectory.final))
    status = status_of(run.step_size, trajectory, after, before)
    summary = {"status": status, "initial_risk": before, "risk": after}
    return {
        "summary": pd.DataFrame([summary]),
        "curve": dropped_curve(trajectory.final, samples, kept_numbers(run.n_neurons), run.n_orders, for_orders),
    }


def initial_network(run: DimensionRun, rng: np.random.Generator) -> Network:
    """Draw the start: first weights N(0, I/d), internal ones N(1, 1), output weights N(0, 1), biases 0."""
    mean = (0.0, *[1.0] * (run.n_hidden - 1), 0.0)
    return Network.init(run.widths, activation=ACTIVATION, biases=True, mean=mean, dtype=DTYPE, rng=rng)
