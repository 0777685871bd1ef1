"""Are solutions connected? Shevchenko & Mondelli 2020, Theorem 1(B), on data of your choice.

Trains pairs of networks of several widths, joins the two of a pair by explicit paths with a certified maximum, by
straight lines and by a Bezier curve, and judges whether the barrier falls as N grows; of two hidden layers or more
beside the form of Theorem 2. The same as `meanfield run connectivity`, with its main parameters in sight to be changed.
"""

from __future__ import annotations

import argparse

from meanfield.studies.connectivity import grid
from meanfield.studies.connectivity_report import STUDY
from meanfield.studies.report import run_study


def main() -> None:
    """Parse the parameters, run the study and print its verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="name or file")
    parser.add_argument("--widths", nargs="+", type=int, metavar="N", help="numbers of neurons of each hidden layer")
    parser.add_argument("--hidden-layers", type=int, default=1, metavar="H", help="of N neurons each")
    parser.add_argument("--pairs", type=int, default=4, help="pairs of networks of each width")
    parser.add_argument("--step-size", type=float, help="alpha")
    parser.add_argument("--horizon", type=float, help="time T = steps x alpha")
    parser.add_argument("--output", default="results/connectivity", help="folder of the results")
    options = parser.parse_args()

    runs = grid(
        data=options.data,
        widths=options.widths,
        n_hidden=options.hidden_layers,
        n_pairs=options.pairs,
        step_size=options.step_size,
        horizon=options.horizon,
    )
    result = run_study(STUDY, runs, options.output)
    print(*result.report.words if result.report else (), result.summary, sep="\n")
    if result.report is None:
        raise SystemExit("\n".join(map(str, result.summary.failures)) or 1)
    print("figures:", *(path for path in result.files if path.suffix == ".png"), sep="\n  ")


if __name__ == "__main__":
    main()
