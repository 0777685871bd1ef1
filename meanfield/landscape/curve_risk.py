"""The loss along a curve of networks, and the highest value that could be found on it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from tqdm import tqdm

from meanfield.checks import check_integer
from meanfield.kernels.blas import single_threaded_blas
from meanfield.landscape.curves import Curve, checked_curve
from meanfield.landscape.evaluation import Evaluation, evaluation_on
from meanfield.model.laws import Law
from meanfield.model.losses import check_loss, hold_classes, per_sample_loss
from meanfield.model.risk import check_fit, mistakes

__all__ = ["curve_risk"]

GRID_MAXIMUM = "grid maximum: a lower bound"
REFINED_MAXIMUM = "grid maximum refined by bounded search: a lower bound"

# Accuracy in t of the bounded search, as a part of the interval searched.
SEARCH_ACCURACY = 1e-3


def curve_risk(
    curve: Curve,
    law: Law,
    *,
    loss: str = "square",
    n_grid: int = 51,
    refine: bool = True,
    n_samples: int = 10_000,
    progress: bool = False,
    rng: np.random.Generator | int | None = None,
) -> pd.DataFrame:
    """Return the risk L(theta(t)) along a curve, all on the same samples, and the highest value found.

    The maximum is that over an even grid on [0, 1], its ends included, and over a bounded search (Brent's method)
    between the neighbours of the grid's maximum. What happens between other grid points is not known: it is a lower
    bound of the curve's maximum on these samples. Two barriers are in use, and both are given:

        barrier = max_t L(t) - max(L(0), L(1)),      barrier_above_chord = max_t [L(t) - (1 - t) L(0) - t L(1)].

    Parameters
    ----------
    curve : `StraightLine`, `QuadraticBezier`, or any object with ``at(t)`` for t in [0, 1]
    law : rows of an `Empirical` are the population; of any other law ``n_samples`` fresh samples are drawn
    loss : see `meanfield.model.losses`
    n_grid : points of the grid, at least 2
    refine : whether to search between the grid points, separately for each barrier
    progress : show a bar with the time left on standard error
    rng : Generator or seed, needed where samples are drawn

    Returns
    -------
    DataFrame with one row a network evaluated, in order of t: t, risk, standard_error (0 for an `Empirical`), and,
    where the targets are classes (+1 and -1, or one-hot), classification_error. Its ``attrs``:

    - barrier, barrier_standard_error : its standard error is that of the paired difference at t_maximum, which was
      chosen on the same samples
    - barrier_above_chord
    - maximum, t_maximum, kind_of_maximum
    - method : "exact" or "sample"
    - n_evaluations : passes of a network over the samples, the cost

    Raises
    ------
    TypeError : no curve; no ``rng`` where samples are drawn
    ValueError : a law that does not fit the networks, targets that do not suit the loss, too few grid points

    References
    ----------
    Shevchenko & Mondelli 2020 for the barrier above the larger end; Entezari et al. 2022 for that above the chord.
    """
    checked_curve(curve)
    check_loss(loss)
    grid = np.linspace(0, 1, check_integer("n_grid", n_grid, least=2))
    check_fit(curve.at(0.0), law)
    along = _Along(curve, evaluation_on(law, loss, n_samples, rng))
    # Pinned once: each small forward pass would do it anew.
    with single_threaded_blas():
        for t in tqdm(grid, unit="network", disable=not progress):
            along.risk(t)
        if refine:
            _search(along.risk, grid)
            _search(along.above_chord, grid)
        barriers = along.barriers()
    table = along.table()
    table.attrs = {
        **barriers,
        "kind_of_maximum": REFINED_MAXIMUM if refine else GRID_MAXIMUM,
        "method": along.evaluation.method,
        "n_evaluations": along.n_evaluations,
    }
    return table


class _Along:
    """The networks of a curve evaluated so far."""

    def __init__(self, curve: Curve, evaluation: Evaluation) -> None:
        self.curve, self.evaluation, self.n_evaluations = curve, evaluation, 0
        self._classes = hold_classes(evaluation.y)
        self._rows: dict[float, dict[str, float]] = {}

    def risk(self, t: float) -> float:
        """Return L(theta(t)), evaluated only once."""
        time = float(t)
        if time not in self._rows:
            self._rows[time] = self._measured(time)
        return self._rows[time]["risk"]

    def above_chord(self, t: float) -> float:
        """Return L(theta(t)) - (1 - t) L(theta(0)) - t L(theta(1))."""
        return self.risk(t) - (1 - t) * self.risk(0.0) - t * self.risk(1.0)

    def table(self) -> pd.DataFrame:
        """Return what was measured in order of t."""
        return pd.DataFrame([{"t": t, **self._rows[t]} for t in sorted(self._rows)])

    def barriers(self) -> dict[Hashable, Any]:
        """Return the highest risk and the barriers."""
        highest, end = max(sorted(self._rows), key=self.risk), max((0.0, 1.0), key=self.risk)
        return {
            "barrier": self.risk(highest) - self.risk(end),
            "barrier_standard_error": self._paired_error(highest, end),
            "barrier_above_chord": max(map(self.above_chord, self._rows)),
            "maximum": self.risk(highest),
            "t_maximum": highest,
        }

    def _outputs(self, t: float) -> NDArray[np.floating[Any]]:
        self.n_evaluations += 1
        return self.curve.at(t).predict(self.evaluation.x)

    def _losses(self, outputs: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        return per_sample_loss(self.evaluation.loss, self.evaluation.y, outputs)

    def _measured(self, t: float) -> dict[str, float]:
        outputs = self._outputs(t)
        risk = self.evaluation.mean(self._losses(outputs))
        row = {"risk": risk.value, "standard_error": risk.standard_error}
        if self._classes:
            row["classification_error"] = float(mistakes(self.evaluation.y, outputs).mean())
        return row

    def _paired_error(self, highest: float, end: float) -> float:
        if highest == end or self.evaluation.method == "exact":
            return 0.0
        losses = [self._losses(self._outputs(t)) for t in (highest, end)]
        return self.evaluation.mean(losses[0] - losses[1]).standard_error


def _search(value: Callable[[float], float], grid: NDArray[np.float64]) -> None:
    """Evaluate ``value`` where Brent's method looks for its maximum, between the neighbours of the grid's."""
    best = int(np.argmax([value(t) for t in grid]))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    accuracy = SEARCH_ACCURACY * (high - low)
    minimize_scalar(lambda t: -value(t), bounds=(low, high), method="bounded", options={"xatol": accuracy})
