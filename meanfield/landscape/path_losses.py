"""The losses of samples at points along a path: at vertices, between them where the output layer moves, and inside
idle segments, where the neurons that have moved and that the outputs depend on are evaluated once more."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from meanfield.kernels.blas import single_threaded_blas
from meanfield.landscape.dropout_moments import in_order
from meanfield.landscape.evaluation import Evaluation, Spread
from meanfield.landscape.reused_features import hidden_features, live_neurons, stale_neurons, updated_features
from meanfield.landscape.rounding import size_of_terms
from meanfield.landscape.weight_path import WeightPath
from meanfield.model.losses import per_sample_loss
from meanfield.model.network import Network, row_chunks
from meanfield.model.risk import mistakes

__all__ = ["PathPoints", "PathSums", "path_points", "sums_along"]

# Where idle segments are evaluated inside: no symmetry of a path singles this point out.
INSIDE = (3 - 5**0.5) / 2

Array = NDArray[np.floating[Any]]
Indices = NDArray[np.intp]


class IdlePoints(NamedTuple):
    """The network inside an idle segment, and the neurons of each hidden layer to evaluate anew, inside and at the end.

    Only the outputs count inside: neurons on which these do not depend are left out there.
    """

    inside: Network
    anew_inside: list[Indices]
    anew_at_end: list[Indices]


class PathPoints(NamedTuple):
    """Where a path is evaluated: points u in [0, 1] of each segment, three of idle ones (None of readout ones)."""

    path: WeightPath
    u: list[Array]
    idle: list[IdlePoints | None]

    @property
    def vertex_rows(self) -> NDArray[np.intp]:
        """Row of each vertex among all points of all segments: where its segment begins, for the last one the end."""
        lengths = np.cumsum([0, *map(len, self.u)])
        return np.array([*lengths[:-1], lengths[-1] - 1])


class _ChunkLosses(NamedTuple):
    """On s samples, at P points of S segments."""

    losses: Array  # (P, s)
    errors: Array  # (P, s), or (0, s) where they are not asked for
    moves: Array  # (S, s): |y_hat(1) - y_hat(0)|^2 of readout segments, 0 of idle ones
    deviation: Array  # (S,): largest movement of outputs on idle segments, in parts of `size_of_terms`
    terms: float  # the largest such sum, of absolute values


class PathSums:
    """What the chunks of samples add up to; names and shapes are those of one chunk, without samples."""

    def __init__(self, n_segments: int) -> None:
        self.losses, self.errors, self.moves = Spread(), Spread(), Spread()
        self.above_first, self.above_last = Spread(), Spread()
        self.deviation, self.terms = np.zeros(n_segments), 0.0

    def add(self, chunk: _ChunkLosses, vertex_rows: NDArray[np.intp]) -> None:
        """Add a chunk; losses at the vertices (S + 1,) are also compared with those at the first and the last."""
        self.losses.add(chunk.losses)
        self.errors.add(chunk.errors)
        self.moves.add(chunk.moves)
        at_vertices = chunk.losses[vertex_rows]
        self.above_first.add(at_vertices - at_vertices[0])
        self.above_last.add(at_vertices - at_vertices[-1])
        self.deviation = np.maximum(self.deviation, chunk.deviation)
        self.terms = max(self.terms, chunk.terms)


def path_points(path: WeightPath, n_grid: int) -> PathPoints:
    """Return ``n_grid`` points of each readout segment; the ends of each idle one and a point inside."""
    points = {"readout": np.linspace(0, 1, n_grid), "idle": np.array([0, INSIDE, 1])}
    idle = [_idle_points(path, segment) if kind == "idle" else None for segment, kind in enumerate(path.kinds)]
    return PathPoints(path, [points[kind] for kind in path.kinds], idle)


def _idle_points(path: WeightPath, segment: int) -> IdlePoints:
    start, end = path.ends(segment)
    inside = path.at((segment + INSIDE) / path.n_segments)
    needed = zip(stale_neurons(start, inside), live_neurons(inside), strict=True)
    return IdlePoints(
        inside,
        [np.flatnonzero(stale & live) for stale, live in needed],
        [np.flatnonzero(stale) for stale in stale_neurons(start, end)],
    )


# Overflow shows as a risk that is not finite; warnings of the arithmetic on the way would say less.
@np.errstate(over="ignore", invalid="ignore")
def sums_along(points: PathPoints, evaluation: Evaluation, *, with_errors: bool, progress: bool) -> PathSums:
    """Return the sums over all samples of ``evaluation``; memory is that of a few forward passes of one chunk."""
    work = partial(_chunk_losses, points, evaluation, with_errors)
    chunks, vertex_rows = list(row_chunks(len(evaluation.x))), points.vertex_rows
    sums = PathSums(points.path.n_segments)
    with single_threaded_blas():
        for chunk in tqdm(in_order(work, chunks), total=len(chunks), unit="chunk", disable=not progress):
            sums.add(chunk, vertex_rows)
    return sums


@np.errstate(over="ignore", invalid="ignore")
def _chunk_losses(points: PathPoints, evaluation: Evaluation, with_errors: bool, rows: slice) -> _ChunkLosses:
    path, outputs = points.path, []
    x, y = path.vertices[0].check_inputs(evaluation.x[rows]), evaluation.y[rows]
    moves, deviation, terms = np.zeros((path.n_segments, len(x))), np.zeros(path.n_segments), 0.0
    features = hidden_features(path.vertices[0], x)
    for segment, idle in enumerate(points.idle):
        start, end = path.ends(segment)
        if idle is None:
            outputs.append(_interpolated(start.readout(features[-1]), end.readout(features[-1]), points.u[segment]))
            moves[segment] = np.square(outputs[-1][-1] - outputs[-1][0]).sum(axis=1)
        else:
            size = size_of_terms(start, x)
            three, features = _along_idle(start, idle, end, x, features)
            outputs.append(three)
            deviation[segment], terms = _largest_part(three, size), max(terms, float(size.max()))
    at_points = np.concatenate(outputs)
    losses = _at_points(partial(per_sample_loss, evaluation.loss), y, at_points)
    errors = _at_points(mistakes, y, at_points) if with_errors else np.empty((0, len(x)))
    return _ChunkLosses(losses, errors, moves, deviation, terms)


def _along_idle(
    start: Network, idle: IdlePoints, end: Network, x: Array, features: list[Array]
) -> tuple[Array, list[Array]]:
    """Return the outputs at the three points (3, s, C), and the hidden features at the end."""
    inside = updated_features(idle.inside, x, features, idle.anew_inside)
    after = updated_features(end, x, features, idle.anew_at_end)
    outputs = [start.readout(features[-1]), idle.inside.readout(inside[-1]), end.readout(after[-1])]
    return np.stack(outputs, dtype=np.float64), after


def _interpolated(before: Array, after: Array, u: Array) -> Array:
    """Return (1 - u) before + u after in float64, (points, s, C), the ends exactly."""
    weights = u[:, np.newaxis, np.newaxis]
    return (1 - weights) * before + weights * after


def _at_points(per_sample: Callable[[Array, Array], NDArray[Any]], y: Array, outputs: Array) -> NDArray[Any]:
    """Return ``per_sample(y, y_hat)`` as (P, s) for outputs (P, s, C)."""
    targets = np.broadcast_to(y, outputs.shape).reshape(-1, y.shape[1])
    return per_sample(targets, outputs.reshape(targets.shape)).reshape(outputs.shape[:2])


def _largest_part(outputs: Array, size: Array) -> float:
    """Return the largest movement over three points (3, s, C), in parts of ``size`` (s,)."""
    moved = np.abs(outputs - outputs[0]).max(axis=(0, 2))
    return float(np.max(moved / np.maximum(size, np.finfo(np.float64).tiny)))
