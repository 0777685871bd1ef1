"""The plane through three networks: the loss on it, and what a projection onto it hides."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from meanfield.checks import check_integer, check_nonnegative
from meanfield.kernels.blas import single_threaded_blas
from meanfield.landscape.evaluation import evaluation_on
from meanfield.landscape.parameters import check_same_form, parameters, with_parameters
from meanfield.model.laws import Law
from meanfield.model.losses import check_loss
from meanfield.model.network import Network
from meanfield.model.risk import check_fit

__all__ = ["Plane", "Projection", "plane_risk"]

# Below this part of its length, what is left of a vector beside the line of the first two networks is rounding.
LEAST_ANGLE = 1e-6

Vector = NDArray[np.float64]


class Projection(NamedTuple):
    """Where a network lies over a plane: its foot (u, v), and its distance from there, all Euclidean."""

    u: float
    v: float
    distance: float


@dataclass(frozen=True)
class Plane:
    """The plane through three networks in the space of all weights and biases.

        theta(u, v) = theta_0 + u e_1 + v e_2,     e_1 along theta_1 - theta_0,  e_2 orthogonal to it, on theta_2's side

    with Euclidean unit vectors: distances on the plane are those of `WeightPath.lengths`. The straight line between
    ``first`` and ``second`` lies on it, and so does the Bezier curve whose bend is ``third``. A dropout path does
    not, and there are as many directions off the plane as weights, but two.

    Parameters
    ----------
    first, second, third : of the same widths, activation, scaling and dtype, all with biases or all without; not on
        one line

    Raises
    ------
    TypeError, ValueError : networks that differ in shape; three on one line

    References
    ----------
    Garipov et al. 2018, figure 1.
    """

    first: Network
    second: Network
    third: Network

    def __post_init__(self) -> None:
        check_same_form("first and second", self.first, self.second)
        check_same_form("first and third", self.first, self.third)
        _ = self._axes

    def at(self, u: float, v: float) -> Network:
        """Return theta(u, v), in the dtype of the networks."""
        flat = self._origin + u * self._axes[0] + v * self._axes[1]
        sizes = np.cumsum([array.size for array in parameters(self.first)])
        arrays = [
            part.reshape(array.shape).astype(array.dtype)
            for part, array in zip(np.split(flat, sizes[:-1]), parameters(self.first), strict=True)
        ]
        return with_parameters(self.first, arrays)

    def project(self, network: Network) -> Projection:
        """Return where ``network`` lies over the plane.

        Raises
        ------
        TypeError, ValueError : a network of another shape
        """
        check_same_form("first and network", self.first, network)
        offset = _flat(network) - self._origin
        u, v = (float((offset * axis).sum()) for axis in self._axes)
        return Projection(u, v, float(np.linalg.norm(offset - u * self._axes[0] - v * self._axes[1])))

    @property
    def corners(self) -> list[Projection]:
        """Where the three networks are."""
        return [self.project(network) for network in (self.first, self.second, self.third)]

    @cached_property
    def _origin(self) -> Vector:
        return _flat(self.first)

    @cached_property
    def _axes(self) -> tuple[Vector, Vector]:
        along, towards = (_flat(network) - self._origin for network in (self.second, self.third))
        length = np.linalg.norm(along)
        across = towards if length == 0 else towards - (towards * along).sum() / length**2 * along
        height = np.linalg.norm(across)
        if length == 0 or height <= LEAST_ANGLE * np.linalg.norm(towards):
            raise ValueError("a plane needs three networks that are not on one line: choose another third one")
        return along / length, across / height


def plane_risk(
    plane: Plane,
    law: Law,
    *,
    loss: str = "square",
    n_grid: int = 25,
    margin: float = 0.15,
    also: Iterable[Network] = (),
    n_samples: int = 10_000,
    rng: np.random.Generator | int | None = None,
) -> pd.DataFrame:
    """Return the risk L(theta(u, v)) on a grid over a plane, all on the same samples.

    Parameters
    ----------
    law : rows of an `Empirical` are the population; of any other law ``n_samples`` fresh samples are drawn
    loss : see `meanfield.model.losses`
    n_grid : points a side, at least 2
    margin : how far the grid reaches beyond the three networks, in parts of their extent
    also : networks off the plane over whose feet the grid is to reach too
    rng : Generator or seed, needed where samples are drawn

    Returns
    -------
    DataFrame with one row a point, v by v: u, v, risk

    Raises
    ------
    TypeError : no Plane; no ``rng`` where samples are drawn
    ValueError : a law that does not fit the networks; an unknown loss; a grid of one point; a negative margin
    """
    if not isinstance(plane, Plane):
        raise TypeError(f"plane must be a Plane, got {type(plane).__name__}: Plane(first, second, third) makes one")
    check_fit(plane.first, law)
    check_loss(loss)
    check_integer("n_grid", n_grid, least=2)
    check_nonnegative("margin", margin)
    evaluation = evaluation_on(law, loss, n_samples, rng)
    held = pd.DataFrame([*plane.corners, *map(plane.project, also)])
    v, u = (grid.ravel() for grid in np.meshgrid(*(_ticks(held[axis], n_grid, margin) for axis in "vu"), indexing="ij"))
    # Pinned once: each small forward pass would do it anew.
    with single_threaded_blas():
        risks = [evaluation.losses(plane.at(*point)).mean() for point in zip(u, v, strict=True)]
    return pd.DataFrame({"u": u, "v": v, "risk": risks})


def _ticks(held: pd.Series[float], n_grid: int, margin: float) -> NDArray[np.float64]:
    reach = margin * (held.max() - held.min())
    return np.linspace(held.min() - reach, held.max() + reach, n_grid)


def _flat(network: Network) -> Vector:
    return np.concatenate([array.ravel() for array in parameters(network)], dtype=np.float64)
