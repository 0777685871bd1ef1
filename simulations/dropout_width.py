"""Does the loss change depend on N? Shevchenko & Mondelli 2020, Theorem 1(A), on data of your choice.

Trains two-layer networks of several widths on the same samples for the same time, keeps m of N neurons, and judges
whether the neuron variance c_N, the constant of the mean loss change, settles as N grows. The same as
`meanfield run dropout`, with its main parameters in sight to be changed.
"""

from __future__ import annotations

import argparse

from meanfield.cli import errors_in_one_line
from meanfield.studies.dropout import grid
from meanfield.studies.dropout_report import STUDY
from meanfield.studies.report import run_study

WIDTHS = [64, 128, 256, 512, 1024, 2048]


@errors_in_one_line()
def main() -> None:
    """Parse the parameters, run the study and print its verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["gaussians", "digits"], help="names or files (default: both)")
    parser.add_argument("--widths", nargs="+", type=int, default=WIDTHS, metavar="N", help="numbers of neurons")
    parser.add_argument("--seeds", type=int, default=4, help="replicas of each network")
    parser.add_argument("--step-size", type=float, help="alpha")
    parser.add_argument("--horizon", type=float, help="time T = steps x alpha")
    parser.add_argument("--output", default="results/dropout", help="folder of the results")
    options = parser.parse_args()

    runs = grid(
        data=options.data,
        widths=options.widths,
        n_seeds=options.seeds,
        step_size=options.step_size,
        horizon=options.horizon,
    )
    result = run_study(STUDY, runs, options.output, say=print)
    print(*result.report.words if result.report else (), result.summary, sep="\n")
    if result.report is None:
        raise SystemExit("\n".join(map(str, result.summary.failures)) or 1)
    print("figures:", *(path for path in result.files if path.suffix == ".png"), sep="\n  ")


if __name__ == "__main__":
    main()
