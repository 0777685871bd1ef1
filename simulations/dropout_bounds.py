"""Which bounds on dropout hold, and how tight are they? Shevchenko & Mondelli 2020, Theorem 1(A), made computable.

Trains two-layer networks of several widths, draws random sets of m of N neurons, and holds their loss change against
three bounds with explicit constants, their values at N = infinity, and the form of the theorem, its prefactor fitted
at one width. The same as `meanfield run dropout-bounds`, with its main parameters in sight to be changed.
"""

from __future__ import annotations

import argparse

from meanfield.cli import errors_in_one_line
from meanfield.studies.dropout_bounds import grid
from meanfield.studies.dropout_bounds_report import STUDY
from meanfield.studies.report import run_study

WIDTHS = [32, 64, 128, 256, 512, 1024]


@errors_in_one_line()
def main() -> None:
    """Parse the parameters, run the study and print its verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["gaussians", "digits"], help="names or files (default: both)")
    parser.add_argument("--widths", nargs="+", type=int, default=WIDTHS, metavar="N", help="numbers of neurons")
    parser.add_argument("--seeds", type=int, default=4, help="replicas of each network")
    parser.add_argument("--delta", type=float, default=0.05, help="probability with which a bound may fail")
    parser.add_argument(
        "--orders", type=int, default=400, help="random orders of the neurons, a set of every size each"
    )
    parser.add_argument("--output", default="results/dropout-bounds", help="folder of the results")
    options = parser.parse_args()

    runs = grid(
        data=options.data,
        widths=options.widths,
        n_seeds=options.seeds,
        delta=options.delta,
        n_orders=options.orders,
    )
    result = run_study(STUDY, runs, options.output, say=print)
    print(*result.report.words if result.report else (), result.summary, sep="\n")
    print("figures:", *(path for path in result.files if path.suffix == ".png"), sep="\n  ")


if __name__ == "__main__":
    main()
