"""Commands that run a study: options in, the grid of its runs, words out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from meanfield.commands import options
from meanfield.commands.options import any_of, integers, words
from meanfield.commands.output import aside, say

if TYPE_CHECKING:
    from meanfield.studies.report import Study

__all__ = ["studies"]

Command = TypeVar("Command", bound=Callable[..., None])

studies = typer.Typer(
    help="Run a study: simulate what has no record yet, then write tables and figures.", no_args_is_help=True
)


def _study(name: str, time: str) -> Callable[[Command], Command]:
    """Make a function the command of a study, which takes so much processor time with its defaults."""
    return studies.command(
        name,
        epilog=f"About {time} of processor time with the defaults. Finished runs are kept in the output folder and not "
        "run again; Ctrl-C loses only the runs under way.",
    )


@_study("dropout", "20 seconds")
def run_dropout(
    data: options.DataList = "gaussians,digits",
    target: options.Target = None,
    widths: options.Widths = "64,128,256,512,1024,2048",
    seeds: options.Seeds = 4,
    activation: options.UsualActivation = None,
    step_size: options.StepSize = None,
    horizon: options.UsualHorizon = None,
    dtype: options.Dtype = "float64",
    samples: options.Samples = 1400,
    output: options.Output = Path("results/dropout"),
    workers: options.Workers = None,
    root_seed: options.RootSeed = 0,
) -> None:
    """Does the loss change depend on N? Train at many widths, keep m of N neurons, judge whether c_N settles."""
    from meanfield.studies.dropout import grid
    from meanfield.studies.dropout_report import STUDY

    runs = grid(
        data=words(data),
        target=target,
        widths=integers("widths", widths),
        n_seeds=seeds,
        activation=activation,
        step_size=step_size,
        horizon=horizon,
        dtype=dtype,
        n_samples=samples,
        root_seed=root_seed,
    )
    _run(STUDY, runs, output, root_seed, workers)


@_study("dropout-regime", "40 seconds")
def run_dropout_regime(
    widths: Annotated[
        str, typer.Option(help="Numbers of neurons N, comma-separated; the largest is the reference.")
    ] = "4,8,16,32,64,128,256,512,1024",
    kept: Annotated[str, typer.Option(help="Kept numbers m of the reference, comma-separated.")] = "16,64,256",
    seeds: options.Seeds = 4,
    horizon: Annotated[
        float, typer.Option(help="Time T = steps x alpha; a quarter for step sizes and dimensions.")
    ] = 20.0,
    samples: options.FreshSamples = 1500,
    output: options.Output = Path("results/dropout-regime"),
    workers: options.Workers = None,
    root_seed: options.RootSeed = 0,
) -> None:
    """How tight is the theorem's bound? Within its assumptions: along the training, by T, step size and dimension."""
    from meanfield.studies.dropout_regime import grid
    from meanfield.studies.dropout_regime_report import STUDY

    runs = grid(
        widths=integers("widths", widths),
        n_kept=integers("kept", kept),
        n_seeds=seeds,
        horizon=horizon,
        n_samples=samples,
    )
    _run(STUDY, runs, output, root_seed, workers)


@_study("dropout-bounds", "30 seconds")
def run_dropout_bounds(
    data: options.DataList = "gaussians,digits",
    target: options.Target = None,
    widths: options.Widths = "32,64,128,256,512,1024",
    seeds: options.Seeds = 4,
    step_size: options.StepSize = None,
    horizon: options.UsualHorizon = None,
    delta: Annotated[float, typer.Option(help="Probability with which a bound may fail.")] = 0.05,
    orders: options.Orders = 400,
    samples: options.Samples = 1400,
    output: options.Output = Path("results/dropout-bounds"),
    workers: options.Workers = None,
    root_seed: options.RootSeed = 0,
) -> None:
    """Do bounds on the loss change hold, and how tight are they? Three computable ones and the theorem's form."""
    from meanfield.studies.dropout_bounds import grid
    from meanfield.studies.dropout_bounds_report import STUDY

    runs = grid(
        data=words(data),
        target=target,
        widths=integers("widths", widths),
        n_seeds=seeds,
        step_size=step_size,
        horizon=horizon,
        delta=delta,
        n_orders=orders,
        n_samples=samples,
        root_seed=root_seed,
    )
    _run(STUDY, runs, output, root_seed, workers)


@_study("dropout-multilayer", "95 seconds (of --data mnist 750)")
def run_dropout_multilayer(
    data: options.DataSet = "digits",
    target: options.Target = None,
    settings: Annotated[
        str,
        typer.Option(
            help=f"{any_of(options.SETTINGS)}: all layers are trained, internal ones alone, or all in the standard "
            "scaling; comma-separated."
        ),
    ] = "all,internal,control",
    widths: Annotated[
        str | None,
        typer.Option(help=options.WIDTHS, show_default="32,64,128,256,512; images 64,128,256,512,1024"),
    ] = None,
    hidden_layers: Annotated[
        str | None,
        typer.Option(help="Numbers of hidden layers, comma-separated.", show_default="2,3; images 2"),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Replicas of each network.", show_default="4; images 3")] = None,
    activation: options.Activation = "relu",
    step_size: Annotated[
        float | None, typer.Option(help="Step size alpha, at every width.", show_default="0.05; images 1, control 0.1")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of training.", show_default="2000; images 4000")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Samples a step.", show_default="10; images 100")] = None,
    dtype: options.Dtype = "float32",
    samples: Annotated[
        int | None,
        typer.Option(
            help="Samples of a measurement; a smaller data set is taken whole.", show_default="400; images 1000"
        ),
    ] = None,
    orders: options.Orders = 40,
    output: options.Output = Path("results/dropout-multilayer"),
    workers: options.Workers = None,
    root_seed: options.RootSeed = 0,
) -> None:
    """Does the loss change fall with N in deeper networks? Keep m of N neurons of one hidden layer, or of all."""
    from meanfield.studies.dropout_multilayer import grid
    from meanfield.studies.dropout_multilayer_report import STUDY

    runs = grid(
        data=data,
        target=target,
        settings=words(settings),
        widths=None if widths is None else integers("widths", widths),
        n_hidden=None if hidden_layers is None else integers("hidden layers", hidden_layers),
        n_seeds=seeds,
        activation=activation,
        step_size=step_size,
        n_steps=steps,
        batch_size=batch_size,
        dtype=dtype,
        n_samples=samples,
        n_orders=orders,
    )
    _run(STUDY, runs, output, root_seed, workers)


@_study("dimension", "95 seconds")
def run_dimension(
    dimensions: Annotated[str, typer.Option(help="Dimensions d, comma-separated.")] = "8,16,32,64,128,256",
    neurons: Annotated[int, typer.Option(help="Neurons N of every hidden layer.")] = 512,
    seeds: options.Seeds = 4,
    horizon: Annotated[float, typer.Option(help="Time T = steps x alpha.")] = 4.0,
    samples: options.FreshSamples = 500,
    orders: options.Orders = 40,
    output: options.Output = Path("results/dimension"),
    workers: options.Workers = None,
    root_seed: options.RootSeed = 0,
) -> None:
    """Must more neurons be kept in higher dimensions? Two layers of weights against three, at fixed alpha d and T."""
    from meanfield.studies.dimension import grid
    from meanfield.studies.dimension_report import STUDY

    runs = grid(
        dimensions=integers("dimensions", dimensions),
        n_neurons=neurons,
        n_seeds=seeds,
        horizon=horizon,
        n_samples=samples,
        n_orders=orders,
    )
    _run(STUDY, runs, output, root_seed, workers)


@_study("connectivity", "75 seconds")
def run_connectivity(
    data: options.Data = "digits",
    target: options.Target = None,
    widths: Annotated[
        str | None,
        typer.Option(help=options.WIDTHS, show_default="32,64,128,256,512,1024; with several hidden layers to 512"),
    ] = None,
    hidden_layers: Annotated[int, typer.Option(help="Hidden layers H, of N neurons each; of gaussians 1.")] = 1,
    pairs: Annotated[int, typer.Option(help="Pairs of networks of each width.")] = 4,
    activation: options.UsualActivation = None,
    step_size: options.StepSize = None,
    horizon: Annotated[
        float | None, typer.Option(help="Time T = steps x alpha.", show_default="4 for gaussians, else 400")
    ] = None,
    dtype: options.Dtype = "float64",
    samples: options.Samples = 1400,
    output: options.Output = Path("results/connectivity"),
    workers: options.Workers = None,
    root_seed: options.RootSeed = 0,
) -> None:
    """Are solutions connected? Train pairs at many widths, join each by several ways, judge whether barriers fall."""
    from meanfield.studies.connectivity import grid
    from meanfield.studies.connectivity_report import STUDY

    runs = grid(
        data=data,
        target=target,
        widths=None if widths is None else integers("widths", widths),
        n_hidden=hidden_layers,
        n_pairs=pairs,
        activation=activation,
        step_size=step_size,
        horizon=horizon,
        dtype=dtype,
        n_samples=samples,
        root_seed=root_seed,
    )
    _run(STUDY, runs, output, root_seed, workers)


@_study("width-check", "15 seconds")
def run_width_check(
    widths: options.Widths = "64,128,256,512,1024",
    hidden_layers: Annotated[str, typer.Option(help="Numbers of hidden layers, comma-separated.")] = "1,2",
    seeds: options.Seeds = 4,
    step_size: Annotated[float, typer.Option(help="Step size alpha, at every width.")] = 0.01,
    steps: Annotated[int, typer.Option(help="Steps of training, few.")] = 4,
    output: options.Output = Path("results/width-check"),
    workers: options.Workers = None,
    root_seed: options.RootSeed = 0,
) -> None:
    """Is one step size right at every width? Movement of weights and pre-activations after a few steps, against N."""
    from meanfield.studies.width_check import grid
    from meanfield.studies.width_check_report import STUDY

    runs = grid(
        widths=integers("widths", widths),
        n_hidden=integers("hidden layers", hidden_layers),
        n_seeds=seeds,
        step_size=step_size,
        n_steps=steps,
    )
    _run(STUDY, runs, output, root_seed, workers)


def _run(study: Study, runs: Sequence[Any], output: Path, root_seed: int, workers: int | None) -> None:
    from meanfield.studies.report import run_study

    say(run_study(study, runs, output, root_seed=root_seed, n_workers=workers, say=aside), output)
