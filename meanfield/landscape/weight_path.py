"""Piecewise linear paths through the weights of networks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from meanfield.checks import check_choice, check_integer
from meanfield.landscape.curves import checked_time
from meanfield.landscape.parameters import (
    check_same_form,
    is_shared,
    memory_of,
    moved_neurons,
    parameters,
    with_parameters,
)
from meanfield.model.network import Network
from meanfield.model.npz import read_npz, write_npz

__all__ = ["SEGMENT_KINDS", "WeightPath"]

SEGMENT_KINDS = ("idle", "readout")

Array = NDArray[np.floating[Any]]


class WeightPath:
    """A piecewise linear path through networks of the same form, with the kind of each segment.

    On a "readout" segment only the output layer moves, weights[-1] and biases[-1]: outputs are affine in t and a
    convex loss is convex. On an "idle" one the function does not change, which `path_risk` verifies: neurons that
    the output does not depend on move, or outgoing weights from a neuron to its copy. Vertices share the arrays
    that a segment leaves alone.

    Parameters
    ----------
    vertices : S + 1 networks of the same widths, activation, scaling, dtype and presence of biases
    kinds : S names, "readout" or "idle"

    Raises
    ------
    TypeError : vertices or kinds that are no list or tuple; a vertex that is no Network
    ValueError : no segment; numbers of vertices and kinds that do not fit; an unknown kind; vertices of different
        form; a readout segment that moves more than the output layer

    See Also
    --------
    connect : builds paths between two networks.
    path_risk : the loss along a path.
    """

    __slots__ = ("_kinds", "_vertices")

    def __init__(self, vertices: Sequence[Network], kinds: Sequence[str]) -> None:
        for name, given in (("vertices", vertices), ("kinds", kinds)):
            if not isinstance(given, list | tuple):
                raise TypeError(f"{name} must be a list or tuple, got {type(given).__name__}")
        self._vertices = tuple(vertices)
        self._kinds = tuple(check_choice("kind", kind, SEGMENT_KINDS) for kind in kinds)
        if not self._kinds or len(self._vertices) != len(self._kinds) + 1:
            raise ValueError(
                f"a path of S >= 1 kinds has S + 1 vertices, got {len(self._kinds)} and {len(self._vertices)}"
            )
        for number, vertex in enumerate(self._vertices):
            check_same_form(f"vertices 0 and {number}", self._vertices[0], vertex)
        for segment, kind in enumerate(self._kinds):
            if kind == "readout":
                _check_readout(segment, *self.ends(segment))

    @property
    def vertices(self) -> list[Network]:
        """The S + 1 networks where segments begin and end; the first and the last are the ends of the path."""
        return list(self._vertices)

    @property
    def kinds(self) -> list[str]:
        """Of each segment: "readout" or "idle"."""
        return list(self._kinds)

    @property
    def n_segments(self) -> int:
        """Number of segments S."""
        return len(self._kinds)

    @property
    def lengths(self) -> list[float]:
        """Euclidean length of each segment over all weights and biases."""
        return [_distance(*self.ends(segment)) for segment in range(self.n_segments)]

    def ends(self, segment: int) -> tuple[Network, Network]:
        """Return the networks where a segment, 0..S-1, begins and ends."""
        number = check_integer("segment", segment, least=0, most=self.n_segments - 1)
        return self._vertices[number], self._vertices[number + 1]

    def at(self, t: float) -> Network:
        """Return the network at ``t`` in [0, 1]: each segment takes 1/S of it, whatever its length.

        At t = k / S that is vertex k itself; on segment k, with u = S t - k, the weights are v_k + u (v_{k+1} - v_k).
        """
        place = checked_time(t) * self.n_segments
        nearest = round(place)
        if nearest / self.n_segments == t:
            return self._vertices[nearest]
        segment = min(int(place), self.n_segments - 1)
        return _between(*self.ends(segment), place - segment)

    def reversed(self) -> WeightPath:
        """Return the same path walked from its last vertex to its first."""
        return WeightPath(self._vertices[::-1], self._kinds[::-1])

    def __add__(self, other: object) -> WeightPath:
        if not isinstance(other, WeightPath):
            return NotImplemented
        if self._vertices[-1] != other._vertices[0]:
            raise ValueError(
                f"the second path must begin where the first one ends, but {self._vertices[-1]} and "
                f"{other._vertices[0]} differ: connect them first"
            )
        return WeightPath(self._vertices + other._vertices[1:], self._kinds + other._kinds)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WeightPath):
            return NotImplemented
        return self._kinds == other._kinds and self._vertices == other._vertices

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        counts = ", ".join(f"{self._kinds.count(kind)} {kind}" for kind in ("readout", "idle"))
        return f"WeightPath({self.n_segments} segments, {counts}, through {self._vertices[0]})"

    def summary(self) -> str:
        """Return the path in words, one line a segment, numbered from 0."""
        lengths = self.lengths
        lines = [f"{self!r}, length {sum(lengths):.4g}"]
        for segment, (kind, length) in enumerate(zip(self._kinds, lengths, strict=True)):
            lines.append(f"{segment:>3} {kind:<7} length {length:<10.4g} {_in_words(kind, *self.ends(segment))}")
        return "\n".join(lines)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an .npz file, whole or not at all; arrays that vertices share are written once.

        It holds ``kinds`` (S,), activation and scaling as `Network.save` has them, and the arrays weight_0, ..,
        bias_0, .. of vertex v as ``vertex_{v}_weight_0`` and so on. ``stored_at`` (S + 1, arrays of a network) says
        for each vertex and array under which vertex it is found.
        """
        n_arrays = len(parameters(self._vertices[0]))
        named = dict(self._vertices[0].arrays())
        names, settings = list(named)[:n_arrays], dict(list(named.items())[n_arrays:])
        stored_at, stored = _stored_once(self._vertices)
        arrays = {f"vertex_{vertex}_{names[k]}": array for (vertex, k), array in stored.items()}
        write_npz(path, {"kinds": np.array(self._kinds), "stored_at": stored_at, **settings, **arrays})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a path that `save` wrote.

        Raises
        ------
        FileNotFoundError : no such file
        ValueError : no .npz file, damaged, or one that does not hold a path
        """
        arrays, source = read_npz(path), repr(str(path))
        names = _checked_names(arrays, source)
        settings = {name: array for name, array in arrays.items() if name.startswith(("scaling", "activation"))}
        vertices = []
        for number, row in enumerate(arrays["stored_at"].tolist()):
            places = {name: f"vertex_{vertex}_{name}" for name, vertex in zip(names, row, strict=True)}
            if missing := set(places.values()) - set(arrays):
                raise ValueError(f"{source} is not a saved path: it lacks {', '.join(sorted(missing))}")
            mine = {name: arrays[place] for name, place in places.items()}
            vertices.append(Network.from_arrays(mine | settings, f"vertex {number} of {source}"))
        try:
            return cls(vertices, arrays["kinds"].tolist())
        except ValueError as error:
            raise ValueError(f"{source} is not a saved path: {error}") from error


def _check_readout(segment: int, start: Network, end: Network) -> None:
    for layer, moved in enumerate(moved_neurons(start, end)[:-1]):
        if moved.any():
            raise ValueError(
                f"segment {segment} is of kind 'readout' but moves weights or biases of hidden layer {layer + 1}: "
                "only weights[-1] and biases[-1] may move"
            )


def _in_words(kind: str, start: Network, end: Network) -> str:
    *below, output = (int(moved.sum()) for moved in moved_neurons(start, end))
    hidden = [f"{n} neurons of hidden layer {layer}" for layer, n in enumerate(below, start=1) if n]
    if output:
        hidden.append("the output weights" if kind == "idle" else "the output layer")
    return f"{' and '.join(hidden) or 'nothing'} moved" + (", function unchanged" if kind == "idle" else "")


def _between(start: Network, end: Network, u: float) -> Network:
    pairs = zip(parameters(start), parameters(end), strict=True)
    return with_parameters(start, [a if is_shared(a, b) else a + a.dtype.type(u) * (b - a) for a, b in pairs])


def _distance(start: Network, end: Network) -> float:
    pairs = zip(parameters(start), parameters(end), strict=True)
    moves = [np.subtract(b, a, dtype=np.float64) for a, b in pairs if not is_shared(a, b)]
    return float(np.sqrt(sum(np.square(move).sum() for move in moves)))


def _stored_once(vertices: Sequence[Network]) -> tuple[NDArray[np.int64], dict[tuple[int, int], Array]]:
    """Return for each vertex and array the first vertex that has it, and these arrays by vertex and position."""
    seen: dict[Any, int] = {}
    rows = [
        [seen.setdefault((k, memory_of(array)), number) for k, array in enumerate(parameters(vertex))]
        for number, vertex in enumerate(vertices)
    ]
    stored = {(v, k): array for v, vertex in enumerate(vertices) for k, array in enumerate(parameters(vertex))}
    return np.array(rows), {(v, k): array for (v, k), array in stored.items() if rows[v][k] == v}


def _checked_names(arrays: Mapping[str, NDArray[Any]], source: str) -> list[str]:
    """Return the names weight_0, .., bias_0, .. of a vertex's arrays, in the order of the columns of stored_at."""
    if missing := {"kinds", "stored_at"} - set(arrays):
        raise ValueError(f"{source} is not a saved path: it lacks {', '.join(sorted(missing))}")
    counts = {kind: sum(name.startswith(f"vertex_0_{kind}_") for name in arrays) for kind in ("weight", "bias")}
    names = [f"{kind}_{layer}" for kind, count in counts.items() for layer in range(count)]
    stored_at, kinds = arrays["stored_at"], arrays["kinds"]
    if stored_at.ndim != 2 or stored_at.shape[1] != len(names) or kinds.ndim != 1 or stored_at.dtype.kind != "i":
        raise ValueError(
            f"{source} is not a saved path: stored_at must hold integers, one row a vertex and one column for each of "
            f"{names}, and kinds one name a segment, got {stored_at.dtype} {stored_at.shape} and {kinds.shape}"
        )
    return names
