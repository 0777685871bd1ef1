"""The ways from one network to another that the connectivity study goes, and what it measures along them.

Explicit paths have their maximum at a vertex, which is certified; on the other ways it is the highest value found.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from meanfield.checks import BlowUpWarning, DivergenceError
from meanfield.landscape.bezier import BezierTraining, train_bezier
from meanfield.landscape.curve_risk import curve_risk
from meanfield.landscape.curves import Curve, QuadraticBezier, StraightLine
from meanfield.landscape.kept_sets import choose_kept
from meanfield.landscape.path_risk import path_risk
from meanfield.landscape.paths import connect
from meanfield.landscape.planes import Plane, plane_risk
from meanfield.landscape.subsets import subset_ladder
from meanfield.landscape.weight_path import WeightPath
from meanfield.model.laws import Empirical, Law
from meanfield.model.network import Network
from meanfield.studies.built_curves import BuiltCurve, aligned_line

__all__ = ["CERTIFIED", "LADDER", "N_CANDIDATES", "UNTRAINED", "WAYS", "Pair", "Walk", "ladder", "over_plane", "walk"]

LADDER = ("random", "best-of", "greedy", "swaps")
N_SUBSETS = 100  # random halves that "best-of" chooses from
N_CANDIDATES = 8  # neurons that a step of "greedy" tries where each takes a pass
N_GRID = 21  # points of a curve before the bounded search
BEND_BATCH = 100
BEND_STEPS = (10.0, 1.0, 0.1)  # step sizes of the bend, in units of that of the ends, which took a sample a step

# On a plane through the ends and the bend lie these two but not the path.
PROJECTED = ("dropout", "line", "bezier")


class Pair(NamedTuple):
    """Two trained networks, where they started, their rows and law, and how the bend between them is trained."""

    first: Network
    second: Network
    starts: tuple[Network, Network]
    rows: Empirical
    law: Law
    step_size: float
    n_steps: int
    for_search: np.random.Generator
    for_bend: np.random.Generator


class Walk(NamedTuple):
    """A way with the loss along it on each split, and the time that building and measuring it took."""

    way: str
    built: BuiltCurve
    tables: Mapping[str, pd.DataFrame]
    seconds: float

    @property
    def curve(self) -> Curve:
        """Of networks."""
        return self.built.curve

    @property
    def n_segments(self) -> int:
        """Straight pieces of a path; 1 for other curves."""
        return self.curve.n_segments if isinstance(self.curve, WeightPath) else 1

    def barriers(self) -> pd.DataFrame:
        """Return one row a split: way, split, barrier, above_chord, error_barrier, larger_end."""
        rows = [{"way": self.way, "split": split, **_barriers(table)} for split, table in self.tables.items()]
        return pd.DataFrame(rows)

    def cost(self) -> dict[str, Any]:
        """Return the work for the training rows, and the class of the curve it was spent on.

        Columns way, n_passes (networks evaluated on them along the way, none of those that a search for kept neurons
        tries; most of a path share features and cost less than a pass), n_gradients (of samples), n_assignments
        (problems solved), seconds (of all, searches among them) and curve.
        """
        work = {
            "n_passes": self.tables["train"].attrs["n_evaluations"],
            "n_gradients": self.built.n_gradients,
            "n_assignments": self.built.n_assignments,
        }
        return {"way": self.way, **work, "seconds": self.seconds, "curve": type(self.curve).__name__}

    def profile(self) -> pd.DataFrame:
        """Return the loss along the way on the training rows: way, segment, kind, t, risk, classification_error."""
        table = self.tables["train"].drop(columns="standard_error")
        if not isinstance(self.curve, WeightPath):
            table = table.assign(segment=0, kind="curve")
        return table.assign(way=self.way)


def walk(way: str, pair: Pair, splits: Mapping[str, Empirical]) -> Walk:
    """Build one of `WAYS` and measure the loss along it on each split, "train" among them."""
    started = time.perf_counter()
    built = _BUILDERS[way](pair)
    tables = {"train": _along(built.curve, splits["train"])}
    seconds = time.perf_counter() - started
    tables |= {name: _along(built.curve, rows) for name, rows in splits.items() if name != "train"}
    return Walk(way, built, tables, seconds)


def ladder(pair: Pair) -> pd.DataFrame:
    """Return the barrier of the dropout path that keeps m <= N/2 neurons of each end, by how they are chosen.

    Of networks with one hidden layer:

        barrier = max_k L(theta_k, A_k) - max_k L(theta_k),  at least 0,    k = the two ends,

    an identity. Columns n_kept, method, change (mean over the ends of L_A - L) and barrier.
    """
    n_neurons = pair.first.widths[1]
    sizes = sorted({*(2**k for k in range((n_neurons // 2).bit_length())), n_neurons // 2})
    options: dict[str, Any] = {"methods": LADDER, "n_subsets": N_SUBSETS, "rng": pair.for_search}
    ends = [subset_ladder(end, pair.rows, sizes, **options) for end in (pair.first, pair.second)]
    changes, risks = (np.stack([end[column] for end in ends]) for column in ("change", "risk"))
    barriers = (risks + changes).max(axis=0) - risks.max(axis=0)
    return ends[0][["n_kept", "method"]].assign(change=changes.mean(axis=0), barrier=np.maximum(barriers, 0))


def over_plane(walks: Iterable[Walk], rows: Empirical, n_grid: int) -> dict[str, pd.DataFrame]:
    """Return the loss on the plane through both ends and the bend, and where the walks lie over it.

    Frame ``plane`` has columns u, v, risk; ``projection`` way, t, vertex (whether one is there), u, v, off_plane
    (distance from the plane), risk. There are none where no bend was trained or it did not
    leave the line of the ends: three networks are then on one line.
    """
    by_way = {one.way: one for one in walks}
    bezier = by_way["bezier"].curve
    if not isinstance(bezier, QuadraticBezier):
        return {}
    try:
        plane = Plane(bezier.first, bezier.second, bezier.bend)
    except ValueError:  # gradients of dead neurons are zero: the bend stays where it began, half way along the line
        return {}
    projections = [_projection(by_way[way], plane) for way in PROJECTED]
    path = by_way["dropout"].curve
    vertices = path.vertices if isinstance(path, WeightPath) else []
    return {
        "plane": plane_risk(plane, rows, n_grid=n_grid, also=vertices),
        "projection": pd.concat(projections, ignore_index=True),
    }


def _projection(one: Walk, plane: Plane) -> pd.DataFrame:
    times = one.tables["train"][["t", "risk"]].drop_duplicates("t")
    feet = pd.DataFrame([plane.project(one.curve.at(t)) for t in times["t"]], index=times.index)
    places = times["t"] * one.n_segments
    vertex = np.isclose(places, places.round(), rtol=0, atol=1e-9)
    return times.join(feet.rename(columns={"distance": "off_plane"})).assign(way=one.way, vertex=vertex)


def _along(curve: Curve, rows: Empirical) -> pd.DataFrame:
    """Return the loss along a way, with both barriers and the number of networks evaluated among its attributes."""
    if not isinstance(curve, WeightPath):
        return curve_risk(curve, rows, n_grid=N_GRID)
    return path_risk(curve, rows)


def _barriers(table: pd.DataFrame) -> dict[str, float]:
    ends = table.iloc[[0, -1]]
    barriers = {
        "barrier": table.attrs["barrier"],
        "above_chord": table.attrs["barrier_above_chord"],
        "larger_end": ends["risk"].max(),
        "error_barrier": np.nan,
    }
    if "classification_error" in table:
        barriers["error_barrier"] = table["classification_error"].max() - ends["classification_error"].max()
    return barriers


def _untrained(pair: Pair) -> BuiltCurve:
    return BuiltCurve(connect(*pair.starts))


def _dropout(pair: Pair, second_keeps: str) -> BuiltCurve:
    return BuiltCurve(connect(pair.first, pair.second, second_keeps=second_keeps))


def _chosen(pair: Pair, method: str) -> BuiltCurve:
    options: dict[str, Any] = {
        "method": method,
        "n_subsets": N_SUBSETS,
        "n_candidates": N_CANDIDATES,
        "rng": pair.for_search,
    }
    kept = [choose_kept(end, pair.rows, **options) for end in (pair.first, pair.second)]
    return BuiltCurve(connect(pair.first, pair.second, kept=kept))


def _line(pair: Pair) -> BuiltCurve:
    return BuiltCurve(StraightLine(pair.first, pair.second))


def _aligned(pair: Pair) -> BuiltCurve:
    return aligned_line(pair.first, pair.second, pair.for_search)


def _bezier(pair: Pair) -> BuiltCurve:
    """Train the bend on as many samples as both ends together; where it diverges, again by a tenth of the step.

    Where all step sizes fail the way is the straight line, and no Bezier curve.
    """
    n_gradients = 0
    for step_size in pair.step_size * np.array(BEND_STEPS):
        training, diverged = _bend(pair, float(step_size))
        n_gradients += training.n_gradients
        if not diverged:
            return BuiltCurve(training.curve, n_gradients)
    return BuiltCurve(StraightLine(pair.first, pair.second), n_gradients)


def _bend(pair: Pair, step_size: float) -> tuple[BezierTraining, bool]:
    """Return the training of the bend, and whether it diverged, to infinity or to a loss far above the first."""
    options: dict[str, Any] = {"batch_size": BEND_BATCH, "rng": pair.for_bend}
    options["n_steps"] = max(1, 2 * pair.n_steps // BEND_BATCH)
    with warnings.catch_warnings(record=True, action="always", category=BlowUpWarning) as seen:
        try:
            training = train_bezier(pair.first, pair.second, pair.law, step_size=step_size, **options)
        except DivergenceError as divergence:
            return divergence.trajectory, True
    others = [warning for warning in seen if not issubclass(warning.category, BlowUpWarning)]
    for warning in others:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return training, len(others) < len(seen)


_BUILDERS: dict[str, Callable[[Pair], BuiltCurve]] = {
    "dropout": partial(_dropout, second_keeps="same"),
    "complement": partial(_dropout, second_keeps="complement"),
    "best-of": partial(_chosen, method="best-of"),
    "greedy": partial(_chosen, method="greedy"),
    "line": _line,
    "aligned": _aligned,
    "bezier": _bezier,
    "untrained": _untrained,
}
CERTIFIED = ("dropout", "complement", "best-of", "greedy", "untrained")
UNTRAINED = "untrained"
WAYS = tuple(way for way in _BUILDERS if way != UNTRAINED)
