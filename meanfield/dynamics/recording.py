"""What is recorded of a run, apart from what is simulated."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from meanfield.checks import check_integer, check_sequence
from meanfield.model.network import Network

__all__ = ["Recorder", "Recording", "Trajectory", "check_recording", "log_spaced_steps"]


@dataclass(frozen=True)
class Recording:
    """What `run_sgd` writes down, and when; recording never changes the run.

    Parameters
    ----------
    steps : steps 0..n_steps to record at, 0 being the start; None takes `log_spaced_steps`
    networks : keep the network of each of these steps
    measure : function of a network giving numbers by name, evaluated at each of these steps and written to columns
        of these names; if it draws, it must own its generator
    """

    steps: Sequence[int] | None = None
    networks: bool = False
    measure: Callable[[Network], Mapping[str, float]] | None = None

    def resolved_steps(self, n_steps: int) -> list[int]:
        """Return the recorded steps in order, the last one always among them."""
        if self.steps is None:
            return log_spaced_steps(n_steps)
        given = check_sequence("record.steps", self.steps, "integers", example=[1])
        chosen = {check_integer("record.steps", step, least=0, most=n_steps) for step in given}
        return sorted(chosen | {n_steps})

    @property
    def needs_networks(self) -> bool:
        """Whether a network has to be made at each recorded step."""
        return self.networks or self.measure is not None


def check_recording(record: Any) -> Recording:
    """Return ``record`` if it is a Recording, the default one for None."""
    if not isinstance(record, Recording | None):
        raise TypeError(f"record must be a Recording, got {record!r}: pass e.g. Recording(steps=[0, 100])")
    return record or Recording()


@dataclass(frozen=True)
class Trajectory:
    """Result of `run_sgd`.

    Attributes
    ----------
    final : the trained network; after a divergence, the last one known to be finite
    records : one row a recorded step: step, time = step * step_size, loss (mean loss of the fresh samples of all
        steps since the previous row, each taken before its step; NaN at step 0), and the columns of the measure
    status : "finished", or "diverged at step ..." with the remedy
    networks : recorded networks by step, empty unless asked for
    """

    final: Network
    records: pd.DataFrame
    status: str
    networks: Mapping[int, Network]

    @property
    def diverged(self) -> bool:
        """Whether training left the finite numbers."""
        return self.status != "finished"

    def __repr__(self) -> str:
        last = f" to step {self.records['step'].iloc[-1]}" if len(self.records) else ""
        return (
            f"Trajectory({self.final!r}, {self.status}: {len(self.records)} records{last}, "
            f"{len(self.networks)} recorded networks)"
        )


class Recorder:
    """Collects the rows of the records, the networks asked for, and the losses of the last ``n_latest`` steps."""

    def __init__(self, record: Recording, step_size: float, n_steps: int, n_latest: int) -> None:
        self._record, self._step_size, self._n_latest = record, step_size, n_latest
        self._steps = record.resolved_steps(n_steps)
        self._measured: dict[int, dict[str, float]] = {}
        self._rows: list[dict[str, Any]] = []
        self._step, self._sum, self._count = 0, 0.0, 0
        self.networks: dict[int, Network] = {}
        self.latest = np.empty(0)

    def network_steps(self, start: int, stop: int) -> list[int]:
        """Return the steps in start..stop whose network is asked for."""
        return [step for step in self._steps if self._record.needs_networks and start <= step <= stop]

    def measure(self, step: int, network: Network) -> None:
        """Keep and measure the network at ``step``."""
        if self._record.networks:
            self.networks[step] = network
        if self._record.measure is not None:
            self._measured[step] = dict(self._record.measure(network))

    def add_losses(self, losses: NDArray[np.float64]) -> None:
        """Take in the losses of the next steps; close a row at each recorded one."""
        start, stop, used = self._step, self._step + losses.size, 0
        for step in (step for step in self._steps if start < step <= stop):
            part = losses[used : step - start]
            self._close_row(step, (self._sum + part.sum()) / (self._count + part.size))
            used = step - start
        self._sum += losses[used:].sum()
        self._count += losses.size - used
        self._step = stop
        self.latest = np.concatenate([self.latest, losses])[-self._n_latest :]

    def _close_row(self, step: int, loss: float) -> None:
        self._rows.append({"step": step, "time": step * self._step_size, "loss": loss})
        self._sum, self._count = 0.0, 0

    def table(self) -> pd.DataFrame:
        """Return the records, one row a recorded step."""
        first = [{"step": 0, "time": 0.0, "loss": math.nan}] if self._steps[0] == 0 else []
        rows = [row | self._measured.get(int(row["step"]), {}) for row in first + self._rows]
        return pd.DataFrame(rows or {"step": [], "time": [], "loss": []})


def log_spaced_steps(n_steps: int, per_decade: int = 8) -> list[int]:
    """Return steps from 1 to ``n_steps``, about ``per_decade`` a factor of ten."""
    count = 2 + int(np.ceil(per_decade * np.log10(n_steps)))
    return sorted({int(step) for step in np.rint(np.geomspace(1, n_steps, count))})
