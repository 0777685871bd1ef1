"""Does dropout get cheaper as deeper networks get wider? Shevchenko & Mondelli 2020, Theorem 2, on data of your choice.

Trains networks of two and three hidden layers of several widths, all layers or the internal ones alone, keeps m of N
neurons in one hidden layer or in all of them, and fits how the loss change goes with N at m = N/2, beside a control in
standard scaling; the form of the theorem has its prefactor fitted at one width and is required at the others. The same
as `meanfield run dropout-multilayer`, with its main parameters in sight to be changed.
"""

from __future__ import annotations

import argparse

from meanfield.studies.dropout_multilayer import SETTINGS, grid
from meanfield.studies.dropout_multilayer_report import STUDY
from meanfield.studies.report import run_study


def main() -> None:
    """Parse the parameters, run the study and print its verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="name or file")
    parser.add_argument("--settings", nargs="+", default=SETTINGS, choices=SETTINGS, help="what is trained, or control")
    parser.add_argument("--widths", nargs="+", type=int, metavar="N", help="neurons of a hidden layer")
    parser.add_argument("--hidden-layers", nargs="+", type=int, metavar="H", help="numbers of hidden layers")
    parser.add_argument("--seeds", type=int, help="replicas of each network")
    parser.add_argument("--step-size", type=float, help="alpha")
    parser.add_argument("--steps", type=int, help="steps of training")
    parser.add_argument("--batch-size", type=int, help="samples a step")
    parser.add_argument("--output", default="results/dropout-multilayer", help="folder of the results")
    options = parser.parse_args()

    runs = grid(
        data=options.data,
        settings=options.settings,
        widths=options.widths,
        n_hidden=options.hidden_layers,
        n_seeds=options.seeds,
        step_size=options.step_size,
        n_steps=options.steps,
        batch_size=options.batch_size,
    )
    result = run_study(STUDY, runs, options.output, say=print)
    print(*result.report.words if result.report else (), result.summary, sep="\n")
    print("figures:", *(path for path in result.files if path.suffix == ".png"), sep="\n  ")


if __name__ == "__main__":
    main()
