"""Two networks of a user's own, joined by an explicit path: the loss along it, and curves to compare it with.

The maximum of the loss over the path is certified. Of the curves, which have no certificate, it is the highest value
found: a lower bound.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from meanfield.checks import DivergenceError, MeanfieldWarning, check_choice, check_integer, check_positive
from meanfield.landscape.bezier import train_bezier
from meanfield.landscape.counts import by_layer, checked_entries
from meanfield.landscape.curve_risk import curve_risk
from meanfield.landscape.curves import StraightLine
from meanfield.landscape.kept_sets import SECOND_KEEPS, choose_kept
from meanfield.landscape.path_risk import path_risk
from meanfield.landscape.paths import connect
from meanfield.landscape.subsets import SUBSET_METHODS
from meanfield.landscape.weight_path import WeightPath
from meanfield.model.datasets import find_data
from meanfield.model.laws import Empirical
from meanfield.model.losses import check_loss, check_targets
from meanfield.model.network import Network
from meanfield.plots.files import save_figure
from meanfield.plots.path import loss_along_path
from meanfield.studies.built_curves import BuiltCurve, aligned_line
from meanfield.studies.provenance import provenance

__all__ = [
    "KEPT",
    "Baseline",
    "Connection",
    "Request",
    "baselines",
    "comparison",
    "join",
    "save",
    "save_baselines",
    "words",
]

KEPT = ("first", *SUBSET_METHODS)
BEZIER_BATCH = 100
FIGURE = "loss-along-path"


@dataclass(frozen=True)
class Request:
    """What is joined, and how.

    Parameters
    ----------
    first, second : files that `Network.save` wrote, or arrays named as it names them
    data : name of a data set, or an .npz or .csv file; inputs of files are taken as they are
    split, target : see `meanfield.model.datasets.find_data`
    loss : see `meanfield.model.losses`
    kept : "first" neurons of each hidden layer, or a method of `choose_kept`
    n_kept : neurons that are kept of each hidden layer, one number or one a layer; half of them by default
    second_keeps : its "own" neurons, chosen as the first end's are; the "same"; or of the "complement" the first half
    bezier_steps, bezier_step_size : training of the Bezier curve
    seed : of all that is drawn

    Raises
    ------
    ValueError, TypeError : unknown names, numbers out of range
    """

    first: str
    second: str
    data: str
    split: str = "train"
    target: str | None = None
    loss: str = "square"
    kept: str = "first"
    n_kept: tuple[int, ...] | None = None
    second_keeps: str = "own"
    bezier_steps: int = 2000
    bezier_step_size: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("kept", self.kept, KEPT)
        check_choice("second-keeps", self.second_keeps, SECOND_KEEPS)
        check_loss(self.loss)
        check_integer("bezier-steps", self.bezier_steps, least=1)
        check_positive("bezier-step-size", self.bezier_step_size)
        check_integer("seed", self.seed, least=0)

    def generator(self, purpose: int) -> np.random.Generator:
        """Return the stream of random numbers of one of three purposes: kept sets, alignment, Bezier curve."""
        return np.random.default_rng(self.seed).spawn(3)[purpose]


@dataclass(frozen=True)
class Connection:
    """Two networks, a path between them, the samples, and the loss along the path, as `path_risk` returns it.

    ``seconds`` : time that choosing kept neurons, building the path and measuring it took.
    """

    ends: tuple[Network, Network]
    path: WeightPath
    law: Empirical
    losses: pd.DataFrame
    seconds: float


class Baseline(NamedTuple):
    """A curve with the work that building it took, the loss along it, as `curve_risk` returns it, and the time."""

    built: BuiltCurve
    losses: pd.DataFrame
    seconds: float


def join(request: Request, *, progress: bool = False) -> Connection:
    """Join two networks and measure the loss along the path.

    Raises
    ------
    FileNotFoundError, ValueError, TypeError : before any work, naming the file or the option; as `connect` and
        `path_risk` raise
    """
    ends = Network.load(request.first), Network.load(request.second)
    law = find_data(request.data, split=request.split, target=request.target)
    for file, network in zip((request.first, request.second), ends, strict=True):
        _check_fit(request, file, network, law)
    check_targets(request.loss, law.y)
    started = time.perf_counter()
    path = connect(*ends, **_kept_sets(request, ends, law))
    losses = path_risk(path, law, loss=request.loss, progress=progress)
    return Connection(ends, path, law, losses, time.perf_counter() - started)


def baselines(connection: Connection, request: Request, *, progress: bool = False) -> Iterator[tuple[str, Baseline]]:
    """Yield curves between the ends of the path by name.

    Ends of different widths are those of the path, the narrower one embedded in the wider.
    """
    first, second = connection.path.vertices[0], connection.path.vertices[-1]
    curves: dict[str, Callable[[], BuiltCurve]] = {
        "straight line": lambda: BuiltCurve(StraightLine(first, second)),
        "aligned line": lambda: aligned_line(first, second, request.generator(1)),
        "Bezier curve": lambda: _bezier(first, second, connection.law, request, progress),
    }
    for name, build in curves.items():
        started = time.perf_counter()
        built = build()
        losses = curve_risk(built.curve, connection.law, loss=request.loss, progress=progress)
        yield name, Baseline(built, losses, time.perf_counter() - started)


def words(connection: Connection) -> list[str]:
    """Return the path, segment by segment, and what the loss along it says, a line a statement."""
    facts = connection.losses.attrs
    lines = [connection.path.summary(), ""]
    if connection.ends[0].widths != connection.ends[1].widths:
        widths = connection.path.vertices[0].widths
        lines.append(f"the ends of the path have widths {widths}: narrower layers are embedded, the same functions")
    first, *_, last = facts["vertex_risks"]
    lines += [
        f"{facts['loss']} loss on all {facts['n_samples']} samples: {first:.6g} and {last:.6g} at the ends, at most "
        f"{facts['vertex_maximum']:.6g} along the path",
        f"barrier {facts['barrier']:.4g}: {_meaning(facts)}",
        f"certificate: {facts['certificate']}",
    ]
    return lines + _words_on_errors(connection.losses)


def comparison(connection: Connection, curves: Mapping[str, Baseline]) -> pd.DataFrame:
    """Return one row a way between the ends: the path, whose maximum is certified, and curves, where it is a bound.

    Columns are way, maximum, barrier (above the larger end), above_chord (above the straight line between the losses
    of the ends) and values, which says whether these three are "certified" or each a "lower bound"; then the cost:
    evaluations (of networks along the way), gradients (of samples, in training), assignments (problems solved) and
    seconds in all, which alone hold a search for kept neurons.
    """
    path = Baseline(BuiltCurve(connection.path), connection.losses, connection.seconds)
    rows = [{"way": "path", **_found(path, "vertex_maximum"), "values": "certified", **_cost(path)}]
    rows += [{"way": name, **_found(c, "maximum"), "values": "lower bound", **_cost(c)} for name, c in curves.items()]
    return pd.DataFrame(rows)


def _found(way: Baseline, maximum: str) -> dict[str, float]:
    names = {"maximum": maximum, "barrier": "barrier", "above_chord": "barrier_above_chord"}
    return {column: way.losses.attrs[name] for column, name in names.items()}


def _cost(way: Baseline) -> dict[str, float]:
    return {
        "evaluations": way.losses.attrs["n_evaluations"],
        "gradients": way.built.n_gradients,
        "assignments": way.built.n_assignments,
        "seconds": round(way.seconds, 3),
    }


def save(connection: Connection, request: Request, folder: Path) -> None:
    """Write path.npz, risk.csv, manifest.json and a figure of the loss along the path."""
    connection.path.save(folder / "path.npz")
    connection.losses.to_csv(folder / "risk.csv", index=False)
    manifest = {"command": "connect", "request": asdict(request), "found": connection.losses.attrs, **provenance()}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    save_figure(loss_along_path(connection.losses), folder, FIGURE)


def save_baselines(connection: Connection, curves: Mapping[str, Baseline], folder: Path) -> None:
    """Write baselines.csv and comparison.csv, and the figure again with the curves in it."""
    losses = {name: curve.losses for name, curve in curves.items()}
    pd.concat(losses, names=["way", None]).reset_index(level="way").to_csv(folder / "baselines.csv", index=False)
    comparison(connection, curves).to_csv(folder / "comparison.csv", index=False)
    save_figure(loss_along_path(connection.losses, losses), folder, FIGURE)


def _check_fit(request: Request, file: str, network: Network, law: Empirical) -> None:
    if request.n_kept is not None and len(request.n_kept) not in (1, network.n_hidden):
        raise ValueError(
            f"n-kept must be one number for every hidden layer, or {network.n_hidden} separated by commas, one a "
            f"hidden layer of {file}, got {','.join(map(str, request.n_kept))}"
        )
    if network.widths[0] != law.dim:
        raise ValueError(
            f"{file} takes {network.widths[0]} inputs, but {request.data} has {law.dim}: give inputs as the networks "
            "were trained on; data sets by name have a constant input appended, files are taken as they are"
        )
    if network.widths[-1] != law.n_outputs:
        raise ValueError(
            f"{file} has {network.widths[-1]} outputs, but the target of {request.data} has {law.n_outputs}: integer "
            "classes take --target one-hot for an output each, or sign for one; value takes the columns of y"
        )


def _kept_sets(request: Request, ends: Sequence[Network], law: Empirical) -> dict[str, Any]:
    """Return the arguments of `connect` that say which neurons are kept."""
    rng = request.generator(0)
    second_keeps = {"second_keeps": request.second_keeps}
    if request.kept == "first" and request.n_kept is None:
        return second_keeps
    if request.second_keeps == "own":
        return {"kept": [_chosen(request, end, law, rng) for end in ends]}
    return {"kept": _chosen(request, ends[0], law, rng), **second_keeps}


def _chosen(request: Request, network: Network, law: Empirical, rng: np.random.Generator) -> list[NDArray[np.intp]]:
    n_kept = request.n_kept
    entry = n_kept[0] if n_kept is not None and len(n_kept) == 1 else n_kept
    if request.kept != "first":
        return choose_kept(network, law, entry, method=request.kept, loss=request.loss, rng=rng)
    (checked,) = checked_entries(network, [entry])
    return [np.arange(m) for m in by_layer(network, checked)]


def _bezier(first: Network, second: Network, law: Empirical, request: Request, progress: bool) -> BuiltCurve:
    options: dict[str, Any] = {
        "step_size": request.bezier_step_size,
        "n_steps": request.bezier_steps,
        "batch_size": BEZIER_BATCH,
        "loss": request.loss,
        "progress": progress,
        "rng": request.generator(2),
    }
    try:
        training = train_bezier(first, second, law, **options)
    except DivergenceError as divergence:
        warnings.warn(f"{divergence}; the curve before that is taken", MeanfieldWarning, stacklevel=2)
        training = divergence.trajectory
    return BuiltCurve(training.curve, training.n_gradients)


def _words_on_errors(losses: pd.DataFrame) -> list[str]:
    if "classification_error" not in losses:
        return []
    errors = losses["classification_error"]
    return [
        f"classification error: {errors.iloc[0]:.4g} and {errors.iloc[-1]:.4g} at the ends, {errors.max():.4g} or more "
        "along the path: it is not convex, so that it may be larger between the points evaluated"
    ]


def _meaning(facts: Mapping[Hashable, Any]) -> str:
    if facts["barrier"] == 0:
        return "the loss is nowhere on the path above that of the worse end"
    return (
        f"the loss rises by this much above that of the worse end, at vertex {facts['maximum_vertex']}, and nowhere on "
        "the path by more; other paths may have lower barriers"
    )
