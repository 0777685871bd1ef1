"""The loss along a path, with the certificate that its maximum is at a vertex."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from meanfield.checks import check_integer
from meanfield.landscape.evaluation import Evaluation, Spread, evaluation_on
from meanfield.landscape.idle_segments import is_idle
from meanfield.landscape.path_losses import PathPoints, PathSums, path_points, sums_along
from meanfield.landscape.weight_path import WeightPath
from meanfield.model.laws import Law
from meanfield.model.losses import check_loss, check_targets, hold_classes
from meanfield.model.network import Network
from meanfield.model.risk import check_fit

__all__ = ["path_risk"]

# Idle segments may move outputs by this many units in the last place of the terms they are sums of, a hidden layer.
ROUNDING_UNITS = 100

Array = NDArray[np.floating[Any]]
Rng = np.random.Generator | int | None


def path_risk(
    path: WeightPath,
    law: Law,
    *,
    loss: str = "square",
    n_grid: int = 11,
    n_samples: int = 10_000,
    rng: Rng = None,
    progress: bool = False,
) -> pd.DataFrame:
    """Return the loss along ``path``, all on the same samples, and certify that its maximum is at a vertex.

    On a readout segment y_hat is affine in u, so that a convex loss is convex and the larger end is the maximum;
    the grid is for the picture. The square loss is there, exactly,

        L(u) = (1 - u) L(0) + u L(1) - u (1 - u) E|y_hat(1) - y_hat(0)|^2.

    On an idle segment nothing may move but what outputs do not depend on, for any input, and weights from a neuron
    to its copy. Outputs inside must be those of both ends to rounding, too. There the arrays are compared, and neurons
    that have moved, or read one that may say something else, are evaluated anew: one forward pass at the first vertex
    and then, in an idle segment, only what it changes. All losses of `meanfield.model.losses` are convex. The
    classification error is not: its maximum over the rows is a lower bound.

    Parameters
    ----------
    law : rows of an `Empirical` are the population; of any other law ``n_samples`` fresh samples are drawn once
    loss : see `meanfield.model.losses`
    n_grid : points of a readout segment, its ends included; idle segments have three
    rng : Generator or seed, needed where samples are drawn
    progress : whether to show a bar, over chunks of samples

    Returns
    -------
    DataFrame with one row a point, in order along the path:

    - segment, kind : number 0..S-1 and ``path.kinds[segment]``
    - t : ``path.at(t)`` is the network; a vertex between two segments has a row in both
    - risk, standard_error : mean loss; 0 on all rows of an `Empirical`
    - classification_error : where targets are +-1 (one output) or one-hot (several)

    ``attrs`` holds plain numbers, lists and strings:

    - barrier, barrier_standard_error : maximum over the path less the larger end, and the standard error of the mean
      over the samples of l(maximum_vertex) - l(larger end), sample by sample; 0 for an `Empirical`, or where they are
      one network. Both are chosen on the same samples, which the error leaves out: where vertices lie closer together
      than their errors, the maximum over them is too large on average, and a barrier of 0 has an error of 0
    - barrier_above_chord : maximum over the path of the risk less (1 - t) L(first) + t L(last), at a vertex too: less
      an affine function a convex one is convex
    - vertex_maximum, maximum_vertex : the maximum over the path, and the number of the vertex that has it
    - path_maximum : the largest risk in the table; above vertex_maximum by rounding alone
    - vertex_risks : at all vertices; the first and the last are the ends of the path
    - quadratics : {segment: (L(0), L(1), E|y_hat(1) - y_hat(0)|^2)} of readout segments, for the square loss
    - certificate : how the maximum was obtained, in words
    - idle_deviation : largest movement of outputs on idle segments, in parts of the terms they are sums of
    - n_evaluations : networks evaluated, at vertices and inside idle segments; most share features and cost less than
      a pass over the samples
    - loss, method, n_samples : method "exact" (all rows) or "sample"

    Raises
    ------
    TypeError : ``path`` is no `WeightPath`; no ``rng`` where samples are drawn
    ValueError : a law that does not fit the networks; an unknown loss or targets that do not suit it; an idle
        segment on which the outputs may change
    ArithmeticError : outputs that overflow; a risk above the vertex maximum, which no convex loss has

    See Also
    --------
    connect : builds paths.
    """
    if not isinstance(path, WeightPath):
        raise TypeError(f"path must be a WeightPath, got {type(path).__name__}: connect(first, second) makes one")
    check_fit(path.vertices[0], law)
    check_loss(loss)
    points = path_points(path, check_integer("n_grid", n_grid, least=2))
    evaluation = evaluation_on(law, loss, n_samples, rng)
    check_targets(loss, evaluation.y)
    sums = sums_along(points, evaluation, with_errors=hold_classes(evaluation.y), progress=progress)
    table = _as_table(points, evaluation, sums)
    _check_overflow(table)
    _check_idle(path, sums.deviation)
    attributes = _attributes(path, evaluation, sums, table["risk"].to_numpy(), points.vertex_rows)
    _check_certificate(attributes, _tolerance(path.vertices[0]) * sums.terms * math.sqrt(law.n_outputs))
    table.attrs.update(attributes)
    return table


def _tolerance(network: Network) -> float:
    return ROUNDING_UNITS * network.n_hidden * float(np.finfo(network.dtype).eps)


def _check_overflow(table: pd.DataFrame) -> None:
    bad = table[~np.isfinite(table["risk"])]
    if len(bad):
        raise ArithmeticError(
            f"the risk on segment {bad['segment'].iloc[0]} is {bad['risk'].iloc[0]}: outputs overflow there; scale "
            "inputs or weights down, or use float64"
        )


def _check_idle(path: WeightPath, deviation: Array) -> None:
    allowed = _tolerance(path.vertices[0])
    for segment in np.flatnonzero(~(deviation <= allowed)):
        raise ValueError(
            f"segment {segment} is of kind 'idle', but its outputs move by {deviation[segment]:.3g} of their size, "
            f"beyond the rounding allowed, {allowed:.3g}: only what the function does not depend on may move there"
        )
    for number, kind in enumerate(path.kinds):
        if kind == "idle" and not is_idle(*path.ends(number)):
            raise ValueError(
                f"segment {number} is of kind 'idle', but moves what its outputs may depend on: only neurons without "
                "outgoing weights may move there, and weights from a neuron to its copy; use 'readout' where the "
                "output layer alone moves, and curve_risk for other curves"
            )


def _as_table(points: PathPoints, evaluation: Evaluation, sums: PathSums) -> pd.DataFrame:
    numbers, lengths = range(points.path.n_segments), [len(u) for u in points.u]
    starts = np.repeat(numbers, lengths)
    columns = {
        "segment": starts,
        "kind": np.repeat(points.path.kinds, lengths),
        "t": (starts + np.concatenate(points.u)) / points.path.n_segments,
        "risk": sums.losses.mean,
        "standard_error": _standard_errors(sums.losses, evaluation),
    }
    if sums.errors.mean.size:
        columns["classification_error"] = sums.errors.mean
    return pd.DataFrame(columns)


def _standard_errors(spread: Spread, evaluation: Evaluation) -> Array:
    if evaluation.method == "exact":
        return np.zeros_like(spread.squares)
    return np.sqrt(spread.squares / (spread.count * (spread.count - 1)))


def _attributes(
    path: WeightPath, evaluation: Evaluation, sums: PathSums, all_risks: Array, vertex_rows: NDArray[np.intp]
) -> dict[str, Any]:
    risks = all_risks[vertex_rows]
    highest = int(risks.argmax())
    above_end = sums.above_last if risks[-1] > risks[0] else sums.above_first
    deviation = float(sums.deviation.max())
    attributes = {
        "barrier": float(above_end.mean[highest]),
        "barrier_standard_error": float(_standard_errors(above_end, evaluation)[highest]),
        "barrier_above_chord": float((risks - np.linspace(risks[0], risks[-1], len(risks))).max()),
        "vertex_maximum": float(risks[highest]),
        "maximum_vertex": highest,
        "path_maximum": float(all_risks.max()),
        "vertex_risks": risks.tolist(),
        "certificate": f"maximum at vertex {highest}: the {evaluation.loss} loss is convex on readout segments, and on "
        "idle ones nothing moves that outputs depend on, but for weights between copies of neurons (at the points "
        f"evaluated, outputs moved by at most {deviation:.1e} of the terms they are sums of)",
        "idle_deviation": deviation,
        "n_evaluations": len(risks) + path.kinds.count("idle"),
        "loss": evaluation.loss,
        "method": evaluation.method,
        "n_samples": len(evaluation.x),
    }
    if evaluation.loss == "square":
        attributes["quadratics"] = _quadratics(path.kinds, risks, sums.moves.mean)
    return attributes


def _quadratics(kinds: list[str], risks: Array, moves: Array) -> dict[int, tuple[float, float, float]]:
    return {
        segment: (float(risks[segment]), float(risks[segment + 1]), float(moves[segment]))
        for segment, kind in enumerate(kinds)
        if kind == "readout"
    }


def _check_certificate(attributes: dict[str, Any], moved: float) -> None:
    """Raise if a risk is above the vertex maximum by more than outputs ``moved`` by rounding explain.

    For all losses |l(y, y_hat + e) - l(y, y_hat)| <= 2 max(sqrt(l), 1) |e| + |e|^2.
    """
    highest, found = attributes["vertex_maximum"], attributes["path_maximum"]
    allowed = 1e-12 * abs(highest) + moved * (2 * max(math.sqrt(max(highest, 0)), 1) + moved)
    if not found <= highest + allowed:
        raise ArithmeticError(
            f"the largest risk on the path, {found}, is above that of all vertices, {highest}, by more than rounding, "
            f"{allowed:.3g}: the loss is not convex along it"
        )
