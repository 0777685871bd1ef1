"""Measuring networks on samples that stay the same through a run and over widths."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from meanfield.landscape.counts import Entry
from meanfield.landscape.dropout import dropout_curve
from meanfield.landscape.dropout_bounds import dropout_bounds
from meanfield.landscape.evaluation import evaluation_on
from meanfield.landscape.orders import DrawnChanges, drawn_changes
from meanfield.model.laws import Empirical, Law
from meanfield.model.losses import hold_classes
from meanfield.model.network import Network
from meanfield.model.risk import classification_error

__all__ = ["FixedSamples", "fixed_rows", "held_out_error", "without_overflow_warnings"]


@contextmanager
def without_overflow_warnings() -> Iterator[None]:
    """Leave warnings of overflow out, as a context or a decorator: a run that diverges says so in its status."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def fixed_rows(law: Law, n_samples: int, rng: np.random.Generator) -> Empirical:
    """Return a data set no larger than ``n_samples`` as it is, else as many samples as a population of their own."""
    if isinstance(law, Empirical) and law.n_samples <= n_samples:
        return law
    return Empirical(*law.sample(n_samples, rng))


class FixedSamples:
    """The samples of one replica's measurements: a data set no larger than that, else samples of a seed's stream.

    Parameters
    ----------
    law : a data set of more than ``n_samples`` rows is measured on as many of them
    n_samples : at least 2
    rng : Generator that the seed of the stream is drawn from
    """

    def __init__(self, law: Law, n_samples: int, rng: np.random.Generator) -> None:
        whole = isinstance(law, Empirical) and law.n_samples <= n_samples
        self._law: Law = law if whole else _Sampled(law)
        self._options: dict[str, Any] = {"n_samples": n_samples, "rng": int(rng.integers(2**62))}

    def curve(
        self, network: Network, n_kept: Sequence[Entry], *, std: bool | None, n_subsets: int = 200
    ) -> pd.DataFrame:
        """Return the `dropout_curve` of a network."""
        return dropout_curve(network, self._law, n_kept, std=std, n_subsets=n_subsets, **self._options)

    def bounds(self, network: Network, n_kept: Sequence[int], *, delta: float) -> pd.DataFrame:
        """Return the `dropout_bounds` of a network."""
        return dropout_bounds(network, self._law, n_kept, delta=delta, **self._options)

    def drawn(self, network: Network, n_kept: Sequence[Entry], n_orders: int, rng: np.random.Generator) -> DrawnChanges:
        """Return the changes in square loss that sets of ``n_orders`` random orders of the neurons make."""
        evaluation = evaluation_on(self._law, "square", **self._options)
        return drawn_changes(network, evaluation, list(n_kept), n_orders, rng)

    def snapshot(self, network: Network) -> dict[str, float]:
        """Return risk and c_N of a network, the latter of its last hidden layer."""
        curve = self.curve(network, [network.widths[1:-1]], std=False)
        return {"risk": curve["risk"].item(), "c_n": curve.attrs["c_n"]}


def held_out_error(network: Network, test: Law | None, rng: np.random.Generator) -> float:
    """Return the classification error on fresh samples or a test split; NaN without classes or split."""
    if test is None or (isinstance(test, Empirical) and not hold_classes(test.y)):
        return float("nan")
    return classification_error(network, test, n_samples=4000, rng=rng).value


@dataclass(frozen=True)
class _Sampled:
    """A law seen through its samples alone, so that a large data set is measured on part of its rows."""

    law: Law

    @property
    def dim(self) -> int:
        return self.law.dim

    @property
    def n_outputs(self) -> int:
        return self.law.n_outputs

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Any, Any]:
        return self.law.sample(n, rng)
