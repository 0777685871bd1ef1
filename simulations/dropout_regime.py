"""How tight is the bound on dropout? Shevchenko & Mondelli 2020, Theorem 1(A), within its assumptions.

Follows one reference network along its whole training, and others that differ from it in width, step size or dimension;
judges how the loss change when m of N neurons are kept goes with time, horizon, width, step size and dimension. The
same as `meanfield run dropout-regime`, with every parameter in sight to be changed.
"""

from __future__ import annotations

import argparse

from meanfield.cli import errors_in_one_line
from meanfield.studies.dropout_regime import grid
from meanfield.studies.dropout_regime_report import STUDY
from meanfield.studies.report import run_study

WIDTHS = [4, 8, 16, 32, 64, 128, 256, 512, 1024]
KEPT = [16, 64, 256]


@errors_in_one_line()
def main() -> None:
    """Parse the parameters, run the study and print its verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", nargs="+", type=int, default=WIDTHS, metavar="N", help="numbers of neurons")
    parser.add_argument("--kept", nargs="+", type=int, default=KEPT, metavar="m", help="kept numbers of the reference")
    parser.add_argument("--seeds", type=int, default=4, help="replicas of each network")
    parser.add_argument("--horizon", type=float, default=20.0, help="time T = steps x alpha")
    parser.add_argument("--output", default="results/dropout-regime", help="folder of the results")
    options = parser.parse_args()

    runs = grid(widths=options.widths, n_kept=options.kept, n_seeds=options.seeds, horizon=options.horizon)
    result = run_study(STUDY, runs, options.output, say=print)
    print(*result.report.words if result.report else (), result.summary, sep="\n")
    print("figures:", *(path for path in result.files if path.suffix == ".png"), sep="\n  ")


if __name__ == "__main__":
    main()
