"""Measure everything and write the tables of the README: ``run_all.py --update README.md``.

Each part runs in a process of its own, one after the other: on a machine that does nothing else meanwhile. With
``--resume`` the parts whose repetitions lie in the output folder are not measured again.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
from peers import MULTILAYER_PEERS, PEERS, missing_peers
from report import around_table, figures_table, machine, replace_table, speed_table
from timing import n_processors
from workloads import WORKLOADS

HERE = Path(__file__).parent
SPEEDS = ("sgd_speed", "multilayer_speed")
PARTS = ("workloads.csv", *(f"{name}_{n_threads}.csv" for name in SPEEDS for n_threads in (1, 2)))
EXPLANATION = (
    "Microseconds a step of one-sample SGD, median [min, max] of repetitions in turns, in cells (N, d). "
    "All contestants start from the same weights and end with the same; of each peer the fastest formulation counts. "
    "The limit is 4 N d operations at the rate of large matrix products on as many threads, measured in turns."
)
MULTILAYER_EXPLANATION = (
    "The same for three layers of weights, all trained, in cells of widths (d, N, N, C). The limit of a step on one "
    "sample is that of the method: two reads of the N x N weights at the measured memory bandwidth, and at the rate of "
    "matrix products the 4 N d + 2 N^2 operations that many steps share; that of a step on a batch, 4 N d + 6 N^2 "
    "operations a sample at this rate."
)


def run(script: str, *arguments: str) -> str:
    """Run a script of this folder and return what it prints."""
    command = [sys.executable, str(HERE / script), *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def measure_speed(name: str, folder: Path, scale: list[str]) -> pd.DataFrame:
    """Return the repetitions of the script ``name`` on one thread, and on two where there are two processors."""
    files = {n_threads: folder / f"{name}_{n_threads}.csv" for n_threads in range(1, min(n_processors(), 2) + 1)}
    for n_threads, file in files.items():
        if not file.exists():
            run(f"{name}.py", "--threads", str(n_threads), "--output", str(file), *scale)
    return pd.concat(map(pd.read_csv, files.values()))


def measure_workloads(file: Path, scale: list[str]) -> pd.DataFrame:
    """Return the repetitions of all workloads, which ``file`` keeps."""
    if not file.exists():
        measured = [pd.read_csv(io.StringIO(run("workloads.py", name, *scale))) for name in WORKLOADS]
        pd.concat(measured).to_csv(file, index=False)
    return pd.read_csv(file)


def measure_all(folder: Path, scale: list[str]) -> str:
    """Measure all tables, keep the repetitions in ``folder``, and return them with what they were measured on."""
    speed = speed_table(measure_speed("sgd_speed", folder, scale), PEERS)
    multilayer = speed_table(measure_speed("multilayer_speed", folder, scale), MULTILAYER_PEERS)
    figures = figures_table(measure_workloads(folder / "workloads.csv", scale))
    parts = [EXPLANATION, speed, MULTILAYER_EXPLANATION, multilayer, figures, machine(missing_peers())]
    return "\n\n".join(parts)


def main() -> None:
    """Measure, print the tables and put them into the file asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", type=Path, metavar="FILE", help="Markdown file with the two marker comments")
    parser.add_argument("--output", type=Path, default="results/benchmarks", help="folder of the repetitions")
    parser.add_argument("--resume", action="store_true", help="keep the parts that the folder holds")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see that everything runs")
    options = parser.parse_args()
    for peer, library in missing_peers().items():
        print(f'{peer} is not compared: {library} is not installed (python -m pip install ".[peers]")')
    if (load := os.getloadavg()[0]) > 0.5:
        print(f"other work is going on (load {load:.1f}): all times will be too long")
    if options.update:
        around_table(options.update)
    options.output.mkdir(parents=True, exist_ok=True)
    if not options.resume:
        for part in PARTS:
            (options.output / part).unlink(missing_ok=True)
    content = measure_all(options.output, ["--smoke"] if options.smoke else [])
    print(content)
    if options.update:
        replace_table(options.update, content)


if __name__ == "__main__":
    main()
