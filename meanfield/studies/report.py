"""From a grid to a finished study: run what is missing, then write tables, figures, manifest and words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from meanfield.kernels.threads import available_threads
from meanfield.plots.files import save_figure
from meanfield.studies.engine import OneRun, RunSummary, run_all
from meanfield.studies.interrupts import lasting_interrupts
from meanfield.studies.memory import expected_memory
from meanfield.studies.store import Store
from meanfield.theory.scaling import ExponentFit, fit_exponent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "LAYERS",
    "Report",
    "Study",
    "StudyResult",
    "diverged_runs",
    "exponent_in_words",
    "plus_minus",
    "run_study",
]

LAYERS = "weights[l], l = 0, 1, .., lead to hidden layer l + 1, the last ones to the output"


@dataclass(frozen=True)
class Report:
    """Conclusions drawn from records: tables and figures by name, one short table to print, the verdict in words."""

    tables: Mapping[str, pd.DataFrame]
    figures: Mapping[str, Figure]
    table: pd.DataFrame
    words: Sequence[str]


@dataclass(frozen=True)
class Study:
    """A study by its parts: how one run is made, its work and its `array_bytes`, and what all runs say together."""

    name: str
    one_run: OneRun
    cost: Callable[[Any], float]
    memory: Callable[[Any], float]
    report: Callable[[Store, Sequence[Any]], Report]


@dataclass(frozen=True)
class StudyResult:
    """What `run_study` did, what it found (None if interrupted or no run is finished), and which files it wrote."""

    summary: RunSummary
    report: Report | None
    files: Sequence[Path]


def run_study(
    study: Study,
    runs: Sequence[Any],
    folder: str | Path,
    *,
    root_seed: int = 0,
    n_workers: int | None = None,
    progress: bool | None = None,
    say: Callable[[str], None] | None = None,
) -> StudyResult:
    """Run what has no record yet in ``folder``, then report on all that is finished; interrupted, do not report.

    Ctrl-C, in the runs or in drawing, returns the summary of what is kept, and the same call goes on from there.
    ``say`` is told, in one line, the memory expected of the runs that are missing.

    See Also
    --------
    meanfield.studies.engine.run_all : for the arguments
    """
    available_threads()  # a bad setting is an error now, not in every run
    store = Store(folder)

    def before(pending: list[Any], n_processes: int) -> None:
        if say is not None:
            say(expected_memory(map(study.memory, pending), n_processes))

    summary = run_all(
        study.one_run,
        runs,
        store,
        root_seed=root_seed,
        n_workers=n_workers,
        cost=study.cost,
        progress=progress,
        before=before,
    )
    finished = [run for run in runs if store.has(run, root_seed=root_seed)]
    if summary.interrupted or not finished:
        return StudyResult(summary, None, [])
    try:
        with lasting_interrupts():
            return StudyResult(summary, *_reported(study, store, finished, root_seed))
    except KeyboardInterrupt:
        return StudyResult(replace(summary, interrupted=True), None, [])


def _reported(study: Study, store: Store, finished: Sequence[Any], root_seed: int) -> tuple[Report, list[Path]]:
    """Draw the report and write it, the manifest last."""
    report = study.report(store, finished)
    files = [store.export_csv(name, frame) for name, frame in report.tables.items()]
    for name, figure in report.figures.items():
        files += save_figure(figure, store.folder / "figures", name)
    files.append(store.write_manifest(finished, study=study.name, root_seed=root_seed, verdict=list(report.words)))
    return report, files


def diverged_runs(store: Store, runs: Sequence[Any]) -> dict[Any, str]:
    """Return the status of the runs that did not finish: a column of their frame ``summary``, of one row each."""
    status = zip(runs, store.frames("summary", runs)["status"], strict=True)
    return {run: words for run, words in status if words != "finished"}


def exponent_in_words(
    rows: pd.DataFrame, x: str, y: str, symbol: str, describe: Callable[[ExponentFit], str] = ExponentFit.describe
) -> str:
    """Say the exponent of the column y in x, ``symbol`` in formulas, by ``describe``; or why it is not judged."""
    try:
        return describe(fit_exponent(rows[x], rows[y], rows["seed"], x_name=symbol)).replace("x in", f"{symbol} in")
    except ValueError as error:
        return f"not judged: {error}"


def plus_minus(mean: float, half_width: float) -> str:
    """Write a mean to the digits that its interval leaves meaningful, at most six; tiny and huge ones as (..)e-31."""
    if not half_width > 0:
        return f"{mean:.3g}"
    order = _order(max(abs(mean), half_width))
    if not -5 < order < 7:
        return f"({plus_minus(mean / 10.0**order, half_width / 10.0**order)})e{order:+03d}"
    wanted, most = 1 - _order(half_width), 5 - order
    if wanted > most:
        return f"{mean:.{most}f} +- {half_width:.2g}"
    digits = max(0, wanted)
    return f"{mean:.{digits}f} +- {half_width:.{digits}f}"


def _order(value: float) -> int:
    """Return the decimal exponent of a positive number, of the tiniest ones -300."""
    return max(-300, math.floor(math.log10(value)))
