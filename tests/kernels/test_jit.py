"""The cache of compiled kernels serves nothing stale and breaks nothing; BLAS is released after its use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import meanfield
from meanfield.kernels._jit import _source_hash
from meanfield.kernels.blas import single_threaded_blas

SCRIPT = """
import numpy as np
from meanfield import Empirical, Network, run_sgd
network = Network([np.ones((3, 2)), np.ones((1, 3))], activation="tanh", scaling="mean-field")
final = run_sgd(network, Empirical([[1.0, 2.0]], [3.0]), step_size=0.1, n_steps=5, rng=0).final
print(final.weights[1][0, 0])
"""


def _run(cache: Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the script, in ``folder`` with the package that lies there."""
    environment = os.environ | {"MEANFIELD_CACHE": str(cache)}
    command = [sys.executable, "-c", SCRIPT]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)


def test_the_hash_sees_every_kernel_source(tmp_path):
    (tmp_path / "a.py").write_text("A = 1")
    first = _source_hash.__wrapped__(tmp_path)
    (tmp_path / "b.py").write_text("B = 1")
    second = _source_hash.__wrapped__(tmp_path)
    (tmp_path / "b.py").write_text("B = 2")
    assert len({first, second, _source_hash.__wrapped__(tmp_path)}) == 3


@pytest.mark.long
def test_an_edit_to_a_helper_in_another_file_is_not_served_stale(tmp_path):
    shutil.copytree(Path(meanfield.__file__).parent, tmp_path / "meanfield")
    before = _run(tmp_path / "cache", tmp_path).stdout
    losses = tmp_path / "meanfield" / "kernels" / "losses.py"
    text = losses.read_text()
    assert "outputs[c] = two * residual" in text
    losses.write_text(text.replace("outputs[c] = two * residual", "outputs[c] = residual"))
    assert _run(tmp_path / "cache", tmp_path).stdout != before


@pytest.mark.long
def test_a_cache_that_cannot_be_written_costs_time_alone(tmp_path):
    (tmp_path / "file").touch()
    blocked = _run(tmp_path / "file" / "cache")
    assert blocked.stdout == _run(tmp_path / "cache").stdout


def test_blas_gets_its_threads_back():
    def threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    with threadpool_limits(2, user_api="blas"):
        with single_threaded_blas():
            with single_threaded_blas():
                assert threads() == {1}
            assert threads() == {1}
        assert threads() == {2}
