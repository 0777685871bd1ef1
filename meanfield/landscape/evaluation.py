"""The samples on which networks are compared: all rows of a data set, or fresh ones drawn once for all."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from meanfield.checks import check_integer, check_rng
from meanfield.model.laws import Empirical, Law, checked_sample
from meanfield.model.losses import per_sample_loss
from meanfield.model.network import Network
from meanfield.model.risk import Estimate

__all__ = ["Evaluation", "Spread", "check_no_overflow", "check_outputs", "evaluation_on"]

Array = NDArray[np.floating[Any]]


class Evaluation(NamedTuple):
    """A loss on samples x (n, d), y (n, C): a whole population ("exact") or drawn from one ("sample")."""

    x: Array
    y: Array
    loss: str
    method: str

    def losses(self, network: Network) -> NDArray[np.float64]:
        """Return the loss of each sample, (n,)."""
        return per_sample_loss(self.loss, self.y, network.predict(self.x))

    def mean(self, values: Array) -> Estimate:
        """Return the mean of ``values`` (n,), one a sample, with its standard error."""
        return Estimate(float(values.mean()), math.sqrt(self.variance_of_mean(values)), self.method)

    def variance_of_mean(self, values: Array) -> float:
        """Return the squared standard error of the mean of ``values`` (n,); 0 for a whole population."""
        return 0.0 if self.method == "exact" else float(values.var(ddof=1)) / len(values)


def check_outputs(network: Network, evaluation: Evaluation) -> None:
    """Raise ArithmeticError if the loss of a sample is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        losses = evaluation.losses(network)
    check_no_overflow("the loss of a sample", losses)


def check_no_overflow(name: str, values: Array) -> None:
    """Raise ArithmeticError unless all ``values``, computed from finite weights and samples, are finite."""
    bad = values[~np.isfinite(values)]
    if bad.size:
        raise ArithmeticError(
            f"{name} is {bad[0]}, which no search can compare: numbers overflow; scale inputs or weights down, or use "
            "float64"
        )


class Spread:
    """Mean and sum of squared deviations over samples, part by part (Chan, Golub & LeVeque 1983)."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, np.zeros(()), np.zeros(())

    def add(self, values: Array) -> None:
        """Add ``values`` (S, s) of s samples."""
        part, size = values.mean(axis=1), values.shape[1]
        gap, total = part - self.mean, self.count + size
        deviations = values - part[:, np.newaxis]
        self.squares = self.squares + (deviations**2).sum(axis=1) + gap**2 * (self.count * size / total)
        self.mean, self.count = self.mean + gap * (size / total), total


def evaluation_on(law: Law, loss: str, n_samples: int, rng: np.random.Generator | int | None) -> Evaluation:
    """Return the rows of an `Empirical`, which are its population, or ``n_samples`` samples of another law.

    Raises
    ------
    TypeError : no ``rng`` where samples are drawn
    ValueError : fewer than 2 samples to draw
    """
    if isinstance(law, Empirical):
        return Evaluation(law.x, law.y, loss, "exact")
    check_integer("n_samples", n_samples, least=2)
    x, y = checked_sample(law, n_samples, check_rng(rng, "evaluation on fresh samples"))
    return Evaluation(x, y, loss, "sample")
