"""Do computable bounds on the loss change of dropout hold, and how tight are they? Bounds beside measured quantiles.

Networks of different widths are trained as in `meanfield.studies.dropout`, in the mean-field scaling. For each and for
every kept number m the bounds of `meanfield.dropout_bounds`, which allow L_A - L to exceed them with probability
delta, are held against its change over random sets A. The form of Theorem 1 of Shevchenko & Mondelli (2020), known up
to a prefactor, is fitted at one width and required at the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from meanfield.checks import check_integer
from meanfield.landscape.permutations import DrawnChanges, quantile_table
from meanfield.model.network import Network
from meanfield.studies import dropout
from meanfield.studies.data import law_of
from meanfield.studies.dropout import DropoutRun, initial_network, kept_numbers, setting_of, status_of, trained
from meanfield.studies.evaluation import FixedSamples, without_overflow_warnings
from meanfield.theory.bounds import check_delta

__all__ = ["BoundsRun", "cost", "grid", "least_orders", "one_run"]

DEFAULT_WIDTHS = (32, 64, 128, 256, 512, 1024)
DEFAULT_DELTA = 0.05
N_ORDERS = 400
INTERVAL_LEVEL = 0.95


@dataclass(frozen=True)
class BoundsRun(DropoutRun):
    """One network as in `DropoutRun`, the probability with which its bounds may fail, and the orders drawn."""

    delta: float
    n_orders: int


def grid(
    *,
    data: Sequence[str] = dropout.DEFAULT_DATA,
    target: str | None = None,
    widths: Sequence[int] = DEFAULT_WIDTHS,
    n_seeds: int = dropout.DEFAULT_SEEDS,
    step_size: float | None = None,
    horizon: float | None = None,
    delta: float = DEFAULT_DELTA,
    n_orders: int = N_ORDERS,
    n_samples: int = dropout.N_SAMPLES,
    root_seed: int = 0,
) -> list[BoundsRun]:
    """Return the runs of the study: every data set x width x replica, in the mean-field scaling.

    Parameters
    ----------
    delta : probability with which a bound may fail
    n_orders : random orders of the neurons, a set of every size from each; so many that the (1 - delta)-quantile has an
        upper confidence limit, see `least_orders`

    Raises
    ------
    ValueError, TypeError : before any work, naming the option

    See Also
    --------
    meanfield.studies.dropout.grid : for the other parameters and errors
    """
    check_delta(delta)
    check_integer("orders", n_orders, least=2)
    if n_orders < (least := least_orders(delta)):
        raise ValueError(
            f"orders must be at least {least} for an interval of the quantile at delta = {delta:g}, got {n_orders}: "
            "draw more, or raise delta"
        )
    runs = dropout.grid(
        data=data,
        target=target,
        widths=widths,
        n_seeds=n_seeds,
        step_size=step_size,
        horizon=horizon,
        n_samples=n_samples,
        root_seed=root_seed,
    )
    chosen = [run for run in runs if run.scaling == "mean-field"]
    return [BoundsRun(**asdict(run), delta=float(delta), n_orders=n_orders) for run in chosen]


def least_orders(delta: float) -> int:
    """Return the least n for which the largest of n values exceeds the (1 - delta)-quantile with enough confidence.

    It does with probability 1 - (1 - delta)^n, and must with (1 + level)/2 to be the upper limit of an interval.
    """
    return math.ceil(math.log((1 - INTERVAL_LEVEL) / 2) / math.log1p(-delta))


def cost(run: BoundsRun) -> float:
    """Estimate the work of a run, in neuron-steps."""
    pairs = run.n_neurons * run.n_samples / 1500
    return run.n_neurons * (run.n_steps + run.n_orders * run.n_samples / 50 + pairs)


@without_overflow_warnings()
def one_run(run: BoundsRun, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """Train one network and measure it: frames ``summary``, ``bounds``, ``quantiles``, ``changes``.

    - summary : one row: status, risk, n_parameters of a neuron, and the fields of a `NeuronConstants`
    - bounds : the table of `dropout_bounds`
    - quantiles : the table of `dropout_quantiles` at 1 - delta
    - changes : L_A - L of every order's set of every size: order, n_kept, change

    Streams are those of `meanfield.studies.dropout.one_run`, and one more for the orders.
    """
    for_weights, for_training, for_evaluation, for_orders = rng.spawn(4)
    law = law_of(run.data, run.target, run.digest)
    samples = FixedSamples(law, run.n_samples, for_evaluation)
    start = initial_network(run, law, for_weights)
    trajectory = trained(run, start, law, for_training)
    network, sizes = trajectory.final, kept_numbers(run.n_neurons)
    bounds = samples.bounds(network, sizes, delta=run.delta)
    drawn = samples.drawn(network, sizes, run.n_orders, for_orders)
    summary = {
        "status": status_of(run.step_size, trajectory, drawn.risk, samples.snapshot(start)["risk"]),
        "risk": drawn.risk,
        "n_parameters": law.dim + (law.n_outputs if setting_of(run.data).train_outer else 0),
        **bounds.attrs,
    }
    return {
        "summary": pd.DataFrame([summary]),
        "bounds": bounds.drop(columns=["n_neurons", "delta"]),
        "quantiles": _quantiles(run, network, sizes, drawn),
        "changes": _changes(sizes, drawn),
    }


def _quantiles(run: BoundsRun, network: Network, sizes: list[int], drawn: DrawnChanges) -> pd.DataFrame:
    table = quantile_table(network, sizes, drawn, [1 - run.delta], INTERVAL_LEVEL)
    return table.drop(columns=["n_neurons"])


def _changes(sizes: list[int], drawn: DrawnChanges) -> pd.DataFrame:
    n_orders, n_sizes = drawn.changes.shape
    return pd.DataFrame(
        {
            "order": np.repeat(np.arange(n_orders), n_sizes),
            "n_kept": np.tile(sizes, n_orders),
            "change": drawn.changes.ravel(),
        }
    )
