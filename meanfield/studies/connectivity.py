"""Are solutions connected? The barrier between two trained networks, by the way that one goes, against width.

In the form of Theorem 1(B) of Shevchenko & Mondelli (2020) two networks of N neurons that SGD found are joined by a
piecewise linear path along which the loss exceeds that of the worse end by at most

    K e^{K T^3} ( (sqrt(log N) + z)/sqrt N + sqrt(alpha) (sqrt(D + log N) + z) ).

With several hidden layers of N neurons each, in the form of Theorem 2, sqrt(d) takes the place of sqrt(log N) in the
first term, and d, the inputs of a neuron of the first layer, that of D in the second.

Pairs of networks that differ in their seeds alone are trained at every width, and joined by explicit paths and by
other curves. The control is the 1/sqrt(N) scaling, where half of the neurons do not say what all of them say.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from meanfield.checks import check_integer
from meanfield.landscape.dropout import neuron_variance
from meanfield.model.laws import Empirical, Law
from meanfield.model.losses import hold_classes
from meanfield.model.network import Network
from meanfield.model.risk import classification_error, risk
from meanfield.studies import dropout
from meanfield.studies.connectivity_ways import UNTRAINED, WAYS, Pair, ladder, over_plane, walk
from meanfield.studies.data import held_out, law_of
from meanfield.studies.dropout import DropoutRun, setting_of, status_of, step_size_of, trained
from meanfield.studies.evaluation import fixed_rows

__all__ = ["ConnectivityRun", "cost", "grid", "initial_network", "memory", "one_run", "ways_of"]

DEFAULT_DATA = "digits"
DEFAULT_WIDTHS = (32, 64, 128, 256, 512, 1024)
DEEP_WIDTHS = (32, 64, 128, 256, 512)  # of several hidden layers
DEFAULT_PAIRS = 4
N_SAMPLES = 1400

# Data sets are learnt for longer than where c_N settles first: their networks should be worth connecting.
DATA_SET_HORIZON = 400.0

# From zero mean deep networks learn the less the wider they are: `meanfield.model.initialisation`.
INTERNAL_MEAN = 1.0

PLANE_POINTS = 23
LARGEST_ON_PLANE = 128  # neurons; the grid takes PLANE_POINTS^2 passes over the rows

CONTROL_WAYS = ("dropout", "complement")


@dataclass(frozen=True)
class ConnectivityRun(DropoutRun):
    """Two networks, each trained as one of the dropout study is, to be connected; ``seed`` is the pair's.

    ``n_hidden`` : hidden layers, of ``n_neurons`` each.
    ``plane_points`` : points a side of the grid on the plane through the ends and the bend; 0 for none.
    """

    n_hidden: int
    plane_points: int


def grid(
    *,
    data: str = DEFAULT_DATA,
    target: str | None = None,
    widths: Sequence[int] | None = None,
    n_hidden: int = 1,
    n_pairs: int = DEFAULT_PAIRS,
    activation: str | None = None,
    step_size: float | None = None,
    horizon: float | None = None,
    dtype: str = "float64",
    n_samples: int = N_SAMPLES,
    root_seed: int = 0,
) -> list[ConnectivityRun]:
    """Return the runs of the study: every scaling x width x pair.

    Parameters
    ----------
    data : "gaussians", a name of `meanfield.model.datasets.DATASETS`, or the path of an .npz or .csv file
    widths : numbers of neurons N of each hidden layer, at least 4; by default 32 to 1024, to 512 in several layers
    n_hidden : hidden layers H
    n_pairs : pairs of networks of each width
    target, activation, step_size, horizon, dtype, root_seed : see `meanfield.studies.dropout.grid`; the default
        horizon of data sets is 400
    n_samples : samples that the loss is measured on, from each split; a smaller data set is taken whole

    Raises
    ------
    ValueError, TypeError, FileNotFoundError : before any work, naming the option
    """
    _check_depth(n_hidden, data)
    check_integer("pairs", n_pairs, least=1)
    if horizon is None and data != "gaussians":
        horizon = DATA_SET_HORIZON
    runs = dropout.grid(
        data=[data],
        target=target,
        widths=(DEFAULT_WIDTHS if n_hidden == 1 else DEEP_WIDTHS) if widths is None else widths,
        n_seeds=n_pairs,
        activation=activation,
        step_size=step_size,
        horizon=horizon,
        dtype=dtype,
        n_samples=n_samples,
        root_seed=root_seed,
    )
    if (narrowest := min(run.n_neurons for run in runs)) < 4:
        raise ValueError(f"widths must be at least 4, two neurons in each half, got {narrowest}")
    shown = max((run.n_neurons for run in runs if run.n_neurons <= LARGEST_ON_PLANE), default=0)
    return [
        ConnectivityRun(**vars(run), n_hidden=n_hidden, plane_points=PLANE_POINTS * _is_shown(run, shown))
        for run in runs
    ]


def _check_depth(n_hidden: int, data: str) -> None:
    if check_integer("hidden layers", n_hidden, least=1) > 1 and data == "gaussians":
        raise ValueError(
            f"hidden layers of gaussians must be 1, where only incoming weights are trained, got {n_hidden}: choose a "
            "data set or a file with --data"
        )


def _is_shown(run: DropoutRun, n_neurons: int) -> bool:
    return run.scaling == "mean-field" and run.seed == 0 and run.n_neurons == n_neurons


def ways_of(run: ConnectivityRun) -> tuple[str, ...]:
    """Return the ways that are gone between the networks of a run."""
    return CONTROL_WAYS if run.scaling == "control" else (*WAYS, UNTRAINED)


def cost(run: ConnectivityRun) -> float:
    """Estimate the work of a run, in passes of a neuron with its weights of the first and last layer over a row."""
    training = 6.0 * run.n_steps
    measuring = run.n_samples * (10 * len(ways_of(run)) + 200 * (run.scaling == "mean-field") + run.plane_points**2)
    law = law_of(run.data, run.target, run.digest)
    internal = (run.n_hidden - 1) * run.n_neurons / (law.dim + law.n_outputs)
    return run.n_neurons * (1 + internal) * (training + measuring)


def memory(run: ConnectivityRun) -> float:
    """Estimate the bytes of arrays that a run takes at its peak: two networks and the assignment of their neurons."""
    internal = 4 * np.dtype(run.dtype).itemsize * (run.n_hidden - 1) * run.n_neurons**2
    return 2 * (dropout.memory(run) + internal) + 8.0 * run.n_neurons**2


def one_run(run: ConnectivityRun, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """Train two networks and join them: frames ``summary`` (one row), ``barriers``, ``cost`` and ``profile``.

    Mean-field pairs with one hidden layer have a ``ladder`` too, and those with plane points ``plane`` and
    ``projection`` if a bend was trained and left their line; a pair of which one diverged has its summary alone. Every
    width has the same streams for each purpose.
    """
    *of_ends, for_rows, for_search, for_bend = rng.spawn(5)
    law = law_of(run.data, run.target, run.digest)
    splits = _splits(run, law, for_rows)
    first, second = (_trained(run, law, splits["train"], stream) for stream in of_ends)
    status = first.status if first.status != "finished" else second.status
    if status != "finished":
        return {"summary": pd.DataFrame([{"status": status}])}
    pair = Pair(
        first=first.final,
        second=second.final,
        starts=(first.start, second.start),
        rows=splits["train"],
        law=law,
        step_size=step_size_of(run),
        n_steps=run.n_steps,
        for_search=for_search,
        for_bend=for_bend,
    )
    summary = {"status": status, **_quality(pair, splits), "n_parameters": _parameters_of_a_neuron(run, law)}
    return {"summary": pd.DataFrame([summary]), **_connected(run, pair, splits)}


def _splits(run: ConnectivityRun, law: Law, rng: np.random.Generator) -> dict[str, Empirical]:
    """Return the rows that the loss is measured on: those of the training split and, where there is one, the test."""
    test = held_out(run.data, run.target, run.digest)
    laws = {"train": law} if test is None else {"train": law, "test": test}
    return {name: fixed_rows(one, run.n_samples, rng) for name, one in laws.items()}


class _End(NamedTuple):
    """A network before and after training, and how that went."""

    start: Network
    final: Network
    status: str


def _trained(run: ConnectivityRun, law: Law, rows: Empirical, rng: np.random.Generator) -> _End:
    for_weights, for_training = rng.spawn(2)
    start = initial_network(run, law, for_weights)
    with warnings.catch_warnings():
        # A network on its way to infinity overflows where it is measured; its status says so.
        warnings.simplefilter("ignore", RuntimeWarning)
        trajectory = trained(run, start, law, for_training)
        before, after = (risk(network, rows).value for network in (start, trajectory.final))
    return _End(start, trajectory.final, status_of(run.step_size, trajectory, after, before))


def initial_network(run: ConnectivityRun, law: Law, rng: np.random.Generator) -> Network:
    """Draw the start: that of the dropout study, with internal layers between.

    Their weights are N(1, 1), in the control N(0, 2/N) (`meanfield.model.initialisation`).
    """
    if run.n_hidden == 1:
        return dropout.initial_network(run, law, rng)
    internal, controlled = run.n_hidden - 1, run.scaling == "control"
    internal_mean, internal_std = (0.0, (2 / run.n_neurons) ** 0.5) if controlled else (INTERNAL_MEAN, 1.0)
    return Network.init(
        (law.dim, *[run.n_neurons] * run.n_hidden, law.n_outputs),
        activation=run.activation,
        scaling="standard" if controlled else "mean-field",
        mean=(0.0, *[internal_mean] * internal, 0.0),
        std=(setting_of(run.data).inner_std, *[internal_std] * internal, run.n_neurons**-0.5 if controlled else 1.0),
        dtype=run.dtype,
        rng=rng,
    )


def _parameters_of_a_neuron(run: ConnectivityRun, law: Law) -> int:
    """Return the D of the theorem's form: trained parameters of a neuron; with several hidden layers its inputs d."""
    outgoing = law.n_outputs if setting_of(run.data).train_outer and run.n_hidden == 1 else 0
    return law.dim + outgoing


def _quality(pair: Pair, splits: dict[str, Empirical]) -> dict[str, float]:
    """Return means over both ends: risk and c_N on the training rows, and the test error, NaN without classes."""
    ends, test = (pair.first, pair.second), splits.get("test")
    errors = [np.nan]
    if test is not None and hold_classes(test.y):
        errors = [classification_error(end, test).value for end in ends]
    return {
        "risk": float(np.mean([risk(end, pair.rows).value for end in ends])),
        "c_n": float(np.mean([neuron_variance(end, pair.rows).value for end in ends])),
        "test_error": float(np.mean(errors)),
    }


def _connected(run: ConnectivityRun, pair: Pair, splits: dict[str, Empirical]) -> dict[str, pd.DataFrame]:
    walks = [walk(way, pair, splits) for way in ways_of(run)]
    frames = {
        "barriers": pd.concat([one.barriers() for one in walks], ignore_index=True),
        "cost": pd.DataFrame([one.cost() for one in walks]),
        "profile": pd.concat([one.profile() for one in walks], ignore_index=True),
    }
    if run.scaling == "mean-field" and run.n_hidden == 1:
        frames["ladder"] = ladder(pair)
    if run.plane_points:
        frames |= over_plane(walks, splits["train"], run.plane_points)
    return frames
