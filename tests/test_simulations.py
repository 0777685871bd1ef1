"""The scripts that have no study of their own run at smoke scale, and leave what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd

SIMULATIONS = Path(__file__).parents[1] / "simulations"


def test_kept_sets_leaves_exponents_with_intervals_and_a_figure(tmp_path):
    small = ["--widths", "8", "32", "--seeds", "2", "--horizon", "0.4", "--orders", "80", "--output", str(tmp_path)]
    command = [sys.executable, str(SIMULATIONS / "kept_sets.py"), *small]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    by_method = pd.read_csv(tmp_path / "ladder-exponents.csv").set_index(["n_neurons", "method"])
    assert set(by_method.loc[8].index) - set(by_method.loc[32].index) == {"exhaustive"}
    assert {"random", "best-of", "greedy", "swaps", "adversarial-norm", "adversarial-greedy"} == set(
        by_method.loc[32].index
    )
    ladders = pd.read_csv(tmp_path / "ladders.csv").query("n_neurons == 8").groupby("method")["change"].mean()
    assert ladders["exhaustive"] <= ladders[["greedy", "swaps", "best-of"]].min() + 1e-12
    assert ladders["adversarial-greedy"] > ladders["random"]
    by_loss = pd.read_csv(tmp_path / "quantile-exponents.csv")
    assert by_loss["loss"].tolist() == ["square", "square", "cross-entropy", "cross-entropy"]
    assert (by_loss["low"] < by_loss["exponent"]).all()
    assert (by_loss["exponent"] < by_loss["high"]).all()
    assert (tmp_path / "kept-sets.png").is_file()
    assert "adversarial-greedy" in done.stdout
