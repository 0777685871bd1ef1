"""The command line: options in, studies run, words out; no science."""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from meanfield.studies.report import StudyResult

__all__ = ["app", "main"]

app = typer.Typer(
    help="SGD of neural networks in the mean-field regime: simulate, drop neurons, compare with the theory.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
studies = typer.Typer(
    help="Run a study: simulate what has no record yet, then write tables and figures.", no_args_is_help=True
)
app.add_typer(studies, name="run")


def _version(shown: bool) -> None:
    if shown:
        import meanfield

        typer.echo(f"meanfield {meanfield.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@studies.command("dropout")
def run_dropout(
    data: Annotated[
        str,
        typer.Option(
            help="Of gaussians, digits, mnist, fashion-mnist, cifar10, cifar10-subset, *.npz, *.csv; comma-separated."
        ),
    ] = "gaussians,digits",
    target: Annotated[
        str | None, typer.Option(help="What is learnt of a data set: one-hot, sign or value.", show_default="its own")
    ] = None,
    widths: Annotated[str, typer.Option(help="Numbers of neurons N, comma-separated.")] = "64,128,256,512,1024,2048",
    seeds: Annotated[int, typer.Option(help="Replicas of each network.")] = 4,
    activation: Annotated[
        str | None, typer.Option(help="Activation.", show_default="truncated-relu for gaussians, else relu")
    ] = None,
    step_size: Annotated[
        float | None, typer.Option(help="Step size alpha.", show_default="0.001 for gaussians, else 0.02")
    ] = None,
    horizon: Annotated[
        float | None, typer.Option(help="Time T = steps x alpha.", show_default="4 for gaussians, else 20")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    samples: Annotated[int, typer.Option(help="Samples of a measurement; a smaller data set is taken whole.")] = 1400,
    output: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("results/dropout"),
    workers: Annotated[int | None, typer.Option(help="Processes.", show_default="one a CPU")] = None,
    root_seed: Annotated[int, typer.Option(help="Seed that all replicas' seeds come from.")] = 0,
) -> None:
    """Does the loss change depend on N? Train at many widths, keep m of N neurons, judge whether c_N settles.

    Finished runs are kept in the output folder and not run again; Ctrl-C loses only the runs under way.
    """
    from meanfield.studies.dropout import grid
    from meanfield.studies.dropout_report import STUDY
    from meanfield.studies.report import run_study

    runs = grid(
        data=_list(data),
        target=target,
        widths=_integers("widths", widths),
        n_seeds=seeds,
        activation=activation,
        step_size=step_size,
        horizon=horizon,
        dtype=dtype,
        n_samples=samples,
        root_seed=root_seed,
    )
    _say(run_study(STUDY, runs, output, root_seed=root_seed, n_workers=workers), output)


@studies.command("dropout-regime")
def run_dropout_regime(
    widths: Annotated[
        str, typer.Option(help="Numbers of neurons N, comma-separated; the largest is the reference.")
    ] = "4,8,16,32,64,128,256,512,1024",
    kept: Annotated[str, typer.Option(help="Kept numbers m of the reference, comma-separated.")] = "16,64,256",
    seeds: Annotated[int, typer.Option(help="Replicas of each network.")] = 4,
    horizon: Annotated[
        float, typer.Option(help="Time T = steps x alpha; a quarter for step sizes and dimensions.")
    ] = 20.0,
    output: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("results/dropout-regime"),
    workers: Annotated[int | None, typer.Option(help="Processes.", show_default="one a CPU")] = None,
    root_seed: Annotated[int, typer.Option(help="Seed that all replicas' seeds come from.")] = 0,
) -> None:
    """How tight is the theorem's bound? Within its assumptions: along the training, by T, step size and dimension.

    Finished runs are kept in the output folder and not run again; Ctrl-C loses only the runs under way.
    """
    from meanfield.studies.dropout_regime import grid
    from meanfield.studies.dropout_regime_report import STUDY
    from meanfield.studies.report import run_study

    runs = grid(
        widths=_integers("widths", widths),
        n_kept=_integers("kept", kept),
        n_seeds=seeds,
        horizon=horizon,
    )
    _say(run_study(STUDY, runs, output, root_seed=root_seed, n_workers=workers), output)


@studies.command("connectivity")
def run_connectivity(
    data: Annotated[
        str,
        typer.Option(help="gaussians, digits, mnist, fashion-mnist, cifar10, cifar10-subset, or an .npz or .csv file."),
    ] = "digits",
    target: Annotated[
        str | None, typer.Option(help="What is learnt of a data set: one-hot, sign or value.", show_default="its own")
    ] = None,
    widths: Annotated[str, typer.Option(help="Numbers of neurons N, comma-separated.")] = "32,64,128,256,512,1024",
    pairs: Annotated[int, typer.Option(help="Pairs of networks of each width.")] = 4,
    activation: Annotated[
        str | None, typer.Option(help="Activation.", show_default="truncated-relu for gaussians, else relu")
    ] = None,
    step_size: Annotated[
        float | None, typer.Option(help="Step size alpha.", show_default="0.001 for gaussians, else 0.02")
    ] = None,
    horizon: Annotated[
        float | None, typer.Option(help="Time T = steps x alpha.", show_default="4 for gaussians, else 400")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    samples: Annotated[int, typer.Option(help="Samples of a measurement; a smaller data set is taken whole.")] = 1400,
    output: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("results/connectivity"),
    workers: Annotated[int | None, typer.Option(help="Processes.", show_default="one a CPU")] = None,
    root_seed: Annotated[int, typer.Option(help="Seed that all pairs' seeds come from.")] = 0,
) -> None:
    """Are solutions connected? Train pairs at many widths, join each by several ways, judge whether barriers fall.

    Finished runs are kept in the output folder and not run again; Ctrl-C loses only the runs under way.
    """
    from meanfield.studies.connectivity import grid
    from meanfield.studies.connectivity_report import STUDY
    from meanfield.studies.report import run_study

    runs = grid(
        data=data,
        target=target,
        widths=_integers("widths", widths),
        n_pairs=pairs,
        activation=activation,
        step_size=step_size,
        horizon=horizon,
        dtype=dtype,
        n_samples=samples,
        root_seed=root_seed,
    )
    _say(run_study(STUDY, runs, output, root_seed=root_seed, n_workers=workers), output)


def _list(words: str) -> list[str]:
    return [word.strip() for word in words.split(",") if word.strip()]


def _integers(option: str, words: str) -> list[int]:
    return [_integer(option, word) for word in _list(words)]


def _integer(option: str, word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise ValueError(f"{option} must be integers separated by commas, got {word!r}") from None


def _say(result: StudyResult, output: Path) -> None:
    """Print the table, the verdict, what was run and where it lies; exit 1 if a run failed, 130 if interrupted."""
    if result.report is not None:
        if len(result.report.table):
            typer.echo(result.report.table.to_string(index=False, na_rep="-"))
            typer.echo()
        for line in result.report.words:
            typer.echo(line)
        typer.echo()
    failures = Counter(f"{failure.kind}: {failure.message}" for failure in result.summary.failures)
    for failure, count in failures.items():
        typer.echo(f"failed: {failure} ({count} runs)", err=True)
    typer.echo(str(result.summary))
    typer.echo(f"results: {output.resolve()}")
    if result.summary.interrupted:
        raise typer.Exit(130)
    if failures or result.report is None or not len(result.report.table):
        raise typer.Exit(1)


def _one_line(message: Warning | str, *place: Any, **stream: Any) -> None:
    typer.echo(f"warning: {message}", err=True)


def main() -> None:
    """Run the command line; what the user can mend is said in one line, without a traceback."""
    warnings.showwarning = _one_line
    try:
        app()
    except (ValueError, TypeError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
