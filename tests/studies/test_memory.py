"""The memory that studies announce: beside what a run was seen to take, and as words."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from meanfield.studies import dimension, dropout, dropout_bounds, dropout_multilayer, dropout_regime
from meanfield.studies.dimension_report import STUDY as DIMENSION
from meanfield.studies.dropout_bounds_report import STUDY as BOUNDS
from meanfield.studies.dropout_multilayer_report import STUDY as MULTILAYER
from meanfield.studies.dropout_regime_report import STUDY as REGIME
from meanfield.studies.dropout_report import STUDY as DROPOUT
from meanfield.studies.engine import run_rng
from meanfield.studies.memory import expected_memory
from meanfield.studies.report import run_study

QUICK = {"n_seeds": 1, "horizon": 0.25}
RUNS = {
    "dropout": (DROPOUT, dropout.grid(data=["digits"], widths=[256], **QUICK)[0]),
    "bounds": (BOUNDS, dropout_bounds.grid(data=["gaussians"], widths=[512], **QUICK)[0]),
    "regime": (REGIME, dropout_regime.grid(widths=[256], n_kept=[16], **QUICK)[0]),
    "multilayer": (MULTILAYER, dropout_multilayer.grid(widths=[512], n_hidden=[3], n_seeds=1, n_steps=20)[0]),
    "dimension": (DIMENSION, dimension.grid(dimensions=[32], **QUICK)[1]),
}


@pytest.mark.parametrize("name", RUNS)
def test_the_estimate_is_within_a_factor_two_of_the_peak(name, monkeypatch):
    monkeypatch.setenv("MEANFIELD_NUM_THREADS", "1")
    study, run = RUNS[name]
    study.one_run(run, run_rng(0, 0))  # loads the kernels, which are no arrays
    tracemalloc.start()
    study.one_run(run, run_rng(0, 0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.5 < study.memory(run) / peak < 2


def test_the_largest_runs_are_counted_once_a_process(monkeypatch):
    monkeypatch.setenv("MEANFIELD_NUM_THREADS", "3")
    arrays = [1e9, 4e9, 2e9]
    assert expected_memory(arrays, 2) == "expected memory: 6.7 GB at most (processes 3 x 0.24 GB, arrays 6 GB)"
    assert "(processes 1 x 0.24 GB, arrays 12 GB)" in expected_memory(arrays, 1)
    assert "(processes 4 x 0.24 GB, arrays 7 GB)" in expected_memory(arrays, 8)


@pytest.mark.long
def test_it_is_said_once_before_the_first_run_and_not_if_none_is_missing(tmp_path):
    runs = dropout.grid(data=["gaussians"], widths=[4, 8], n_seeds=1, horizon=0.01, n_samples=100)
    said: list[str] = []
    for _ in range(2):
        run_study(DROPOUT, runs, tmp_path, n_workers=1, say=said.append)
    assert len(said) == 1
    assert said[0].startswith("expected memory: ")


def test_single_precision_and_data_sets_count():
    double, single = (dropout.grid(data=["digits"], widths=[64], dtype=dtype)[0] for dtype in ("float64", "float32"))
    digits = 1400 * 75 * 8
    assert dropout.memory(double) - digits == pytest.approx(2 * (dropout.memory(single) - digits), rel=1e-12)
    assert np.isfinite(dropout.memory(single))
