"""The command that joins two networks of a user's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from meanfield.commands import options
from meanfield.commands.options import any_of, integers
from meanfield.commands.output import say_lines

__all__ = ["connect"]


def connect(
    first: Annotated[Path, typer.Argument(help="An .npz file with weight_0, bias_0, .., activation and scaling.")],
    second: Annotated[Path, typer.Argument(help="Another one, of as many inputs, outputs and hidden layers.")],
    data: options.DataSet,
    split: Annotated[str, typer.Option(help=f"{any_of(options.SPLITS)}, if the data has both.")] = "train",
    target: options.Target = None,
    loss: Annotated[str, typer.Option(help=f"{any_of(options.LOSSES)}.")] = "square",
    kept: Annotated[
        str,
        typer.Option(
            help=f"Which neurons an end keeps: {any_of(options.KEPT)}; greedy and swaps take time in deep networks."
        ),
    ] = "first",
    n_kept: Annotated[
        str | None,
        typer.Option(
            help="How many: one number for every hidden layer, or one a hidden layer with commas between, as 16,32.",
            show_default="half",
        ),
    ] = None,
    second_keeps: Annotated[
        str,
        typer.Option(
            help=f"What the second end keeps: {any_of(options.SECOND_KEEPS)}; chosen as the first end's are, the same "
            "neurons, or half of those that the first drops."
        ),
    ] = "own",
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also measure straight line, aligned line and a trained Bezier curve.")
    ] = False,
    bezier_steps: Annotated[int, typer.Option(help="Steps that train the Bezier curve, of 100 samples each.")] = 2000,
    bezier_step_size: Annotated[float, typer.Option(help="Their step size alpha; momentum is 0.9.")] = 0.01,
    output: options.Output = Path("results/connect"),
    seed: Annotated[int, typer.Option(help="Seed of all that is drawn.")] = 0,
) -> None:
    """Join two networks of your own by an explicit path, and certify how far the loss rises along it.

    simulations/users_networks.md says how networks of PyTorch, JAX and scikit-learn become such files.
    """
    from meanfield.studies import connect as study
    from meanfield.studies.store import make_folder

    request = study.Request(
        first=str(first),
        second=str(second),
        data=data,
        split=split,
        target=target,
        loss=loss,
        kept=kept,
        n_kept=None if n_kept is None else tuple(integers("n-kept", n_kept)),
        second_keeps=second_keeps,
        bezier_steps=bezier_steps,
        bezier_step_size=bezier_step_size,
        seed=seed,
    )
    make_folder(output, output)
    progress = sys.stderr.isatty()
    connection = study.join(request, progress=progress)
    say_lines(study.words(connection))
    study.save(connection, request, output)
    if baselines:
        curves = dict(study.baselines(connection, request, progress=progress))
        say_lines(["", study.comparison(connection, curves).to_string(index=False)])
        study.save_baselines(connection, curves, output)
    say_lines(["", f"results: {output.resolve()}"])
