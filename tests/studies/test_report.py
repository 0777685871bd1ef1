"""A study draws its report of what is finished, and an interrupt meanwhile loses no run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from interruption import interrupt, interrupt_in_a_finaliser

from meanfield.studies.report import Report, Study, run_study


@dataclass(frozen=True)
class ToyRun:
    seed: int


def toy_run(run: ToyRun, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    return {"draws": pd.DataFrame({"value": rng.normal(size=2)})}


def toy_report(store, runs) -> Report:
    table = store.frames("draws", runs)
    return Report(tables={"draws": table}, figures={}, table=table, words=["drawn"])


STUDY = Study("toy", toy_run, cost=lambda run: 1.0, memory=lambda run: 8.0, report=toy_report)
RUNS = [ToyRun(seed) for seed in range(3)]


def interrupted_by(interrupted) -> Study:
    def report(store, runs) -> Report:
        interrupted()
        return toy_report(store, runs)

    return Study("toy", toy_run, STUDY.cost, STUDY.memory, report)


@pytest.mark.parametrize("interrupted", [interrupt, interrupt_in_a_finaliser])
def test_an_interrupt_while_the_report_is_drawn_is_said_and_the_same_call_draws_it(tmp_path, interrupted):
    first = run_study(interrupted_by(interrupted), RUNS, tmp_path, n_workers=1, progress=False)
    assert first.report is None
    assert str(first.summary) == "interrupted: all 3 runs are finished and kept; the same command draws their report"
    second = run_study(STUDY, RUNS, tmp_path, n_workers=1, progress=False)
    assert second.summary.n_finished_before == 3
    assert second.report.words == ["drawn"]
    assert [path.name for path in second.files] == ["draws.csv", "manifest.json"]
