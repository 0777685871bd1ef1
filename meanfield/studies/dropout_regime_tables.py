"""The study of the theorem's regime in tables: each quantity beside what it is held against, a row a seed."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from meanfield.studies.dropout_regime import DIM, STEP_SIZE, SWEEP_PART, RegimeRun
from meanfield.theory.bounds import cantelli_bound
from meanfield.theory.forms import theorem_form
from meanfield.theory.horizon import log_prefactor, needed_constant
from meanfield.theory.scaling import finite_population_factor, settled_from

__all__ = [
    "BOUND_DELTA",
    "FIT_FACTOR",
    "Measured",
    "bound_from_first",
    "changes_by_dimension",
    "deviations",
    "excesses_over_first",
    "exponents_in_width",
    "needed_constants",
    "peaks",
]

BOUND_DELTA = 0.05
FIT_FACTOR = 16  # growth with T is fitted on [T/16, T]
LARGEST_LOG = 20.0  # the bound soon overflows


class Measured(NamedTuple):
    """The finished runs by the one thing they vary, and what the reference keeps of its way."""

    reference: RegimeRun
    gaps: pd.DataFrame
    widths: pd.DataFrame
    step_sizes: pd.DataFrame
    dimensions: pd.DataFrame

    @classmethod
    def from_frames(cls, reference: RegimeRun, gaps: pd.DataFrame, trajectory: pd.DataFrame) -> Measured:
        """Sort the rows of ``trajectory`` into the three sweeps, which share the reference."""
        widest = trajectory["n_neurons"] == reference.n_neurons
        of_dim, of_step = trajectory["dim"] == DIM, trajectory["step_size"] == STEP_SIZE
        of_noise = trajectory["step_size"] * trajectory["dim"] == STEP_SIZE * DIM
        early = trajectory["time"] <= SWEEP_PART * reference.horizon
        return cls(
            reference,
            gaps.assign(mean_plus_std=gaps["mean_change"] + gaps["std_change"]),
            widths=trajectory[of_dim & of_step],
            step_sizes=trajectory[widest & of_dim & early],
            dimensions=trajectory[widest & of_noise & early],
        )

    @property
    def middle(self) -> int:
        """The middle kept number m."""
        return self.reference.kept_numbers[len(self.reference.kept_numbers) // 2]

    def late(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of times in [T/16, T]."""
        return rows[rows["time"] >= self.reference.horizon / FIT_FACTOR]

    @property
    def late_changes(self) -> pd.DataFrame:
        """The late changes of the reference at the middle kept number."""
        late = self.late(self.gaps)
        return late[late["n_kept"] == self.middle]


def peaks(gaps: pd.DataFrame) -> pd.DataFrame:
    """Return, for every seed and m, when mean and mean + std are largest, and how large beside their end."""
    rows = []
    for (seed, n_kept), group in gaps.sort_values("time").groupby(["seed", "n_kept"]):
        for quantity in ("mean_change", "mean_plus_std"):
            values = group[quantity].to_numpy()
            largest = {"time": group["time"].iloc[values.argmax()], "ratio": values.max() / values[-1]}
            rows.append({"seed": seed, "n_kept": n_kept, "quantity": quantity, **largest})
    return pd.DataFrame(rows)


def exponents_in_width(measured: Measured) -> pd.DataFrame:
    """Return, for every time and each of c_N and risk, its exponent in N and the width it has settled from.

    The exponent is that of the shortest range of `settled_from`, the widest networks; NaN, and why, where it fails.
    """
    rows = [
        {"time": time, "quantity": quantity, **_settling(group, quantity)}
        for time, group in measured.widths.groupby("time")
        for quantity in ("c_n", "risk")
    ]
    return pd.DataFrame(rows, columns=["time", "quantity", *SETTLING])


SETTLING = ("exponent", "low", "high", "x_min", "x_max", "settled_from", "not_judged")


def _settling(rows: pd.DataFrame, quantity: str) -> dict[str, Any]:
    try:
        verdict = settled_from(rows["n_neurons"], rows[quantity], rows["seed"])
    except ValueError as error:
        return {"not_judged": str(error)}
    shortest = {name: verdict.table[name].iloc[0] for name in SETTLING[:5]}
    return {**shortest, "settled_from": verdict.from_width}


def deviations(sweep: pd.DataFrame) -> pd.DataFrame:
    """Return sup_t |q(t; alpha)/q(t; smallest alpha) - 1| for q the gap and the risk, a row a seed and alpha."""
    finest = sweep["step_size"].min()
    reference = sweep[sweep["step_size"] == finest]
    pairs = sweep[sweep["step_size"] > finest].merge(reference, on=["seed", "time"], suffixes=("", "_finest"))
    for quantity, name in (("c_n", "gap"), ("risk", "risk")):
        pairs[name] = (pairs[quantity] / pairs[f"{quantity}_finest"] - 1).abs()
    largest = pairs.groupby(["seed", "step_size"])[["gap", "risk"]].max().reset_index()
    return largest.assign(alpha_d=largest["step_size"] * DIM, finest_alpha_d=finest * DIM)


def changes_by_dimension(measured: Measured) -> pd.DataFrame:
    """Return the mean change at fixed m, itself and in units of L(0) - L(t), a row a seed, dimension and time > 0."""
    sweep, n_kept = measured.dimensions, measured.middle
    start = sweep.loc[sweep["time"] == 0, ["seed", "dim", "risk"]].rename(columns={"risk": "initial_risk"})
    table = sweep[sweep["time"] > 0].merge(start, on=["seed", "dim"])
    table["gained"] = table["initial_risk"] - table["risk"]
    table["gap"] = table["c_n"] * float(finite_population_factor(measured.reference.n_neurons, n_kept))
    table["relative_gap"] = table["gap"] / table["gained"]
    columns = ["seed", "dim", "time", "gap", "gained", "relative_gap"]
    return table[columns].sort_values(columns[:3], ignore_index=True).assign(n_kept=n_kept)


def needed_constants(measured: Measured) -> pd.DataFrame:
    """Return what the theorem's form must be multiplied by at every late time to hold, and the K for that.

    What must be bounded is Cantelli's bound, exact moments in it, of the worst seed and kept number: the loss change
    exceeds it with probability delta at most.
    """
    needed = _needed_prefactors(measured).groupby("time")["prefactor"].max()
    constants = needed_constant(needed, needed.index)
    return pd.DataFrame({"time": needed.index, "prefactor": needed.to_numpy(), "constant": constants})


def excesses_over_first(measured: Measured) -> pd.DataFrame:
    """Return log10 of what the form needs at later times over what it has with the K of the shortest, a row a seed.

    Columns seed, time, excess: positive where a seed's own K of the shortest of the late horizons fails.
    """
    needed = _needed_prefactors(measured)
    rows = []
    for seed, group in needed.groupby("seed"):
        (first, *_), times = group["prefactor"], group["time"].to_numpy()
        constant = float(needed_constant(first, times[0]))
        excess = (np.log(group["prefactor"].to_numpy()) - log_prefactor(constant, times)) / np.log(10)
        rows.append(pd.DataFrame({"seed": seed, "time": times[1:], "excess": excess[1:]}))
    return pd.concat(rows, ignore_index=True)


def _needed_prefactors(measured: Measured) -> pd.DataFrame:
    """Return the prefactor that the worst kept number needs, a row a seed and late time, in their order."""
    late = measured.late(measured.gaps)
    change = cantelli_bound(late["mean_change"], late["std_change"], BOUND_DELTA)
    needed = late.assign(prefactor=change / _form(measured.reference, late["n_kept"]))
    return needed.groupby(["seed", "time"])["prefactor"].max().reset_index()


def bound_from_first(measured: Measured) -> pd.DataFrame:
    """Return the theorem's form at the middle kept number, K from the shortest of the late horizons."""
    first = needed_constants(measured).iloc[0]
    times = np.geomspace(first["time"], measured.reference.horizon, 400)
    log_value = log_prefactor(first["constant"], times) + np.log(_form(measured.reference, measured.middle))
    shown = log_value < LARGEST_LOG
    return pd.DataFrame({"time": times[shown], "value": np.exp(log_value[shown])})


def _form(run: RegimeRun, n_kept: pd.Series | int) -> NDArray[np.float64]:
    return theorem_form(n_kept, run.n_neurons, step_size=run.step_size, n_parameters=run.dim, delta=BOUND_DELTA)
