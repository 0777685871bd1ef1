"""Must more neurons be kept in higher dimensions? Shevchenko & Mondelli 2020, Theorem 1 against Theorem 2.

Trains networks of two and of three layers of weights on isotropic Gaussians in several dimensions, at fixed alpha d, T
and N, and measures how many neurons must be kept for the loss to change by a tenth of what training gained; holds the
theorems' forms, fitted in the smallest dimension, against all others. The same as `meanfield run dimension`, with its
main parameters in sight to be changed.
"""

from __future__ import annotations

import argparse

from meanfield.studies.dimension import grid
from meanfield.studies.dimension_report import STUDY
from meanfield.studies.report import run_study

DIMENSIONS = [8, 16, 32, 64, 128, 256]


def main() -> None:
    """Parse the parameters, run the study and print its verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimensions", nargs="+", type=int, default=DIMENSIONS, metavar="d", help="inputs")
    parser.add_argument("--neurons", type=int, default=512, help="N of every hidden layer; bounds at N/4, N/16 too")
    parser.add_argument("--seeds", type=int, default=4, help="replicas of each network")
    parser.add_argument("--horizon", type=float, default=4.0, help="time T = steps x alpha")
    parser.add_argument("--output", default="results/dimension", help="folder of the results")
    options = parser.parse_args()

    runs = grid(
        dimensions=options.dimensions,
        n_neurons=options.neurons,
        n_seeds=options.seeds,
        horizon=options.horizon,
    )
    result = run_study(STUDY, runs, options.output, say=print)
    print(*result.report.words if result.report else (), result.summary, sep="\n")
    print("figures:", *(path for path in result.files if path.suffix == ".png"), sep="\n  ")


if __name__ == "__main__":
    main()
