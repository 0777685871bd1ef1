"""The command line: options in, studies run, words out; no science."""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meanfield.checks import check_integer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meanfield.studies.report import Study, StudyResult

__all__ = ["app", "errors_in_one_line", "main"]

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


def _at_least(least: int, option: str) -> Callable[[int | None], int | None]:
    return lambda value: None if value is None else check_integer(option, value, least=least)


# Options that every study has.
Seeds = Annotated[int, typer.Option(help="Replicas of each network.")]
Output = Annotated[Path, typer.Option(help="Folder of the results.")]
Workers = Annotated[
    int | None, typer.Option(help="Processes.", show_default="one a CPU", callback=_at_least(1, "--workers"))
]
RootSeed = Annotated[
    int, typer.Option(help="Seed that all replicas' seeds come from.", callback=_at_least(0, "--root-seed"))
]


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
            help="Of gaussians, digits, mnist, fashion-mnist, cifar10, cifar10-subset, *.npz (arrays x, y), *.csv "
            "(the last column is the target); comma-separated."
        ),
    ] = "gaussians,digits",
    target: Annotated[
        str | None,
        typer.Option(
            help="What is learnt of a data set: one-hot or sign of its classes, or value.", show_default="its own"
        ),
    ] = None,
    widths: Annotated[str, typer.Option(help="Numbers of neurons N, comma-separated.")] = "64,128,256,512,1024,2048",
    seeds: Seeds = 4,
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
    output: Output = Path("results/dropout"),
    workers: Workers = None,
    root_seed: RootSeed = 0,
) -> None:
    """Does the loss change depend on N? Train at many widths, keep m of N neurons, judge whether c_N settles.

    Finished runs are kept in the output folder and not run again; Ctrl-C loses only the runs under way.
    """
    from meanfield.studies.dropout import grid
    from meanfield.studies.dropout_report import STUDY

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
    _run(STUDY, runs, output, root_seed, workers)


@studies.command("dropout-regime")
def run_dropout_regime(
    widths: Annotated[
        str, typer.Option(help="Numbers of neurons N, comma-separated; the largest is the reference.")
    ] = "4,8,16,32,64,128,256,512,1024",
    kept: Annotated[str, typer.Option(help="Kept numbers m of the reference, comma-separated.")] = "16,64,256",
    seeds: Seeds = 4,
    horizon: Annotated[
        float, typer.Option(help="Time T = steps x alpha; a quarter for step sizes and dimensions.")
    ] = 20.0,
    samples: Annotated[int, typer.Option(help="Samples of a measurement.")] = 1500,
    output: Output = Path("results/dropout-regime"),
    workers: Workers = None,
    root_seed: RootSeed = 0,
) -> None:
    """How tight is the theorem's bound? Within its assumptions: along the training, by T, step size and dimension.

    Finished runs are kept in the output folder and not run again; Ctrl-C loses only the runs under way.
    """
    from meanfield.studies.dropout_regime import grid
    from meanfield.studies.dropout_regime_report import STUDY

    runs = grid(
        widths=_integers("widths", widths),
        n_kept=_integers("kept", kept),
        n_seeds=seeds,
        horizon=horizon,
        n_samples=samples,
    )
    _run(STUDY, runs, output, root_seed, workers)


@studies.command("dropout-bounds")
def run_dropout_bounds(
    data: Annotated[str, typer.Option(help="As of dropout.")] = "gaussians,digits",
    target: Annotated[str | None, typer.Option(help="As of dropout.", show_default="its own")] = None,
    widths: Annotated[str, typer.Option(help="Numbers of neurons N, comma-separated.")] = "32,64,128,256,512,1024",
    seeds: Seeds = 4,
    step_size: Annotated[
        float | None, typer.Option(help="Step size alpha.", show_default="0.001 for gaussians, else 0.02")
    ] = None,
    horizon: Annotated[
        float | None, typer.Option(help="Time T = steps x alpha.", show_default="4 for gaussians, else 20")
    ] = None,
    delta: Annotated[float, typer.Option(help="Probability with which a bound may fail.")] = 0.05,
    orders: Annotated[int, typer.Option(help="Random orders of the neurons; a set of every size from each.")] = 400,
    samples: Annotated[int, typer.Option(help="Samples of a measurement; a smaller data set is taken whole.")] = 1400,
    output: Output = Path("results/dropout-bounds"),
    workers: Workers = None,
    root_seed: RootSeed = 0,
) -> None:
    """Do bounds on the loss change hold, and how tight are they? Three computable ones and the theorem's form.

    Finished runs are kept in the output folder and not run again; Ctrl-C loses only the runs under way.
    """
    from meanfield.studies.dropout_bounds import grid
    from meanfield.studies.dropout_bounds_report import STUDY

    runs = grid(
        data=_list(data),
        target=target,
        widths=_integers("widths", widths),
        n_seeds=seeds,
        step_size=step_size,
        horizon=horizon,
        delta=delta,
        n_orders=orders,
        n_samples=samples,
        root_seed=root_seed,
    )
    _run(STUDY, runs, output, root_seed, workers)


@studies.command("width-check")
def run_width_check(
    widths: Annotated[str, typer.Option(help="Neurons N of a hidden layer, comma-separated.")] = "64,128,256,512,1024",
    hidden_layers: Annotated[str, typer.Option(help="Numbers of hidden layers, comma-separated.")] = "1,2",
    seeds: Seeds = 4,
    step_size: Annotated[float, typer.Option(help="Step size alpha, at every width.")] = 0.01,
    steps: Annotated[int, typer.Option(help="Steps of training, few.")] = 4,
    output: Output = Path("results/width-check"),
    workers: Workers = None,
    root_seed: RootSeed = 0,
) -> None:
    """Is one step size right at every width? Movement of weights and pre-activations after a few steps, against N.

    Finished runs are kept in the output folder and not run again; Ctrl-C loses only the runs under way.
    """
    from meanfield.studies.width_check import grid
    from meanfield.studies.width_check_report import STUDY

    runs = grid(
        widths=_integers("widths", widths),
        n_hidden=_integers("hidden layers", hidden_layers),
        n_seeds=seeds,
        step_size=step_size,
        n_steps=steps,
    )
    _run(STUDY, runs, output, root_seed, workers)


@studies.command("dropout-multilayer")
def run_dropout_multilayer(
    data: Annotated[
        str, typer.Option(help="One of digits, mnist, fashion-mnist, cifar10, cifar10-subset, *.npz, *.csv.")
    ] = "digits",
    target: Annotated[str | None, typer.Option(help="As of dropout.", show_default="its own")] = None,
    settings: Annotated[
        str, typer.Option(help="What is trained, all or internal layers, or control; comma-separated.")
    ] = "all,internal,control",
    widths: Annotated[
        str | None,
        typer.Option(
            help="Neurons N of a hidden layer, comma-separated.",
            show_default="32,64,128,256,512; images 64,128,256,512,1024",
        ),
    ] = None,
    hidden_layers: Annotated[
        str | None,
        typer.Option(help="Numbers of hidden layers, comma-separated.", show_default="2,3; images 2"),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Replicas of each network.", show_default="4; images 3")] = None,
    activation: Annotated[str, typer.Option(help="Activation.")] = "relu",
    step_size: Annotated[
        float | None, typer.Option(help="Step size alpha, at every width.", show_default="0.05; images 1, control 0.1")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of training.", show_default="2000; images 4000")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Samples a step.", show_default="10; images 100")] = None,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    samples: Annotated[
        int | None,
        typer.Option(
            help="Samples of a measurement; a smaller data set is taken whole.", show_default="400; images 1000"
        ),
    ] = None,
    orders: Annotated[int, typer.Option(help="Random orders of the neurons; a set of every size from each.")] = 40,
    output: Output = Path("results/dropout-multilayer"),
    workers: Workers = None,
    root_seed: RootSeed = 0,
) -> None:
    """Does the loss change fall with N in deeper networks? Keep m of N neurons of one hidden layer, or of all.

    Finished runs are kept in the output folder and not run again; Ctrl-C loses only the runs under way.
    """
    from meanfield.studies.dropout_multilayer import grid
    from meanfield.studies.dropout_multilayer_report import STUDY

    runs = grid(
        data=data,
        target=target,
        settings=_list(settings),
        widths=None if widths is None else _integers("widths", widths),
        n_hidden=None if hidden_layers is None else _integers("hidden layers", hidden_layers),
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


@studies.command("dimension")
def run_dimension(
    dimensions: Annotated[str, typer.Option(help="Dimensions d, comma-separated.")] = "8,16,32,64,128,256",
    neurons: Annotated[int, typer.Option(help="Neurons N of every hidden layer.")] = 512,
    seeds: Seeds = 4,
    horizon: Annotated[float, typer.Option(help="Time T = steps x alpha.")] = 4.0,
    samples: Annotated[int, typer.Option(help="Fresh samples of a measurement.")] = 500,
    orders: Annotated[int, typer.Option(help="Random orders of the neurons; a set of every size from each.")] = 40,
    output: Output = Path("results/dimension"),
    workers: Workers = None,
    root_seed: RootSeed = 0,
) -> None:
    """Must more neurons be kept in higher dimensions? Two layers of weights against three, at fixed alpha d and T.

    Finished runs are kept in the output folder and not run again; Ctrl-C loses only the runs under way.
    """
    from meanfield.studies.dimension import grid
    from meanfield.studies.dimension_report import STUDY

    runs = grid(
        dimensions=_integers("dimensions", dimensions),
        n_neurons=neurons,
        n_seeds=seeds,
        horizon=horizon,
        n_samples=samples,
        n_orders=orders,
    )
    _run(STUDY, runs, output, root_seed, workers)


def _run(study: Study, runs: Sequence[Any], output: Path, root_seed: int, workers: int | None) -> None:
    from meanfield.studies.report import run_study

    _say(run_study(study, runs, output, root_seed=root_seed, n_workers=workers, say=_aside), output)


@app.command("connect")
def connect(
    first: Annotated[Path, typer.Argument(help="An .npz file with weight_0, bias_0, .., activation and scaling.")],
    second: Annotated[Path, typer.Argument(help="Another one, of as many inputs, outputs and hidden layers.")],
    data: Annotated[
        str, typer.Option(help="digits, mnist, fashion-mnist, cifar10, cifar10-subset, *.npz (arrays x, y) or *.csv.")
    ],
    split: Annotated[str, typer.Option(help="train or test, if the data has both.")] = "train",
    target: Annotated[
        str | None, typer.Option(help="What y says: one-hot, sign or value.", show_default="its own")
    ] = None,
    loss: Annotated[str, typer.Option(help="square, logistic or cross-entropy.")] = "square",
    kept: Annotated[
        str,
        typer.Option(
            help="Which neurons an end keeps: first, random, best-of, greedy, swaps, exhaustive, adversarial-norm or "
            "adversarial-greedy; greedy and swaps take time in deep networks."
        ),
    ] = "first",
    n_kept: Annotated[
        str | None, typer.Option(help="How many, or one number a hidden layer, comma-separated.", show_default="half")
    ] = None,
    second_keeps: Annotated[
        str, typer.Option(help="What the second end keeps: its own, the same, or half of the complement.")
    ] = "own",
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also measure straight line, aligned line and a trained Bezier curve.")
    ] = False,
    bezier_steps: Annotated[int, typer.Option(help="Steps that train the Bezier curve, of 100 samples each.")] = 2000,
    bezier_step_size: Annotated[float, typer.Option(help="Their step size alpha; momentum is 0.9.")] = 0.01,
    output: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("results/connect"),
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
        n_kept=None if n_kept is None else tuple(_integers("n-kept", n_kept)),
        second_keeps=second_keeps,
        bezier_steps=bezier_steps,
        bezier_step_size=bezier_step_size,
        seed=seed,
    )
    make_folder(output, output)
    progress = sys.stderr.isatty()
    connection = study.join(request, progress=progress)
    _say_lines(study.words(connection))
    study.save(connection, request, output)
    if baselines:
        curves = dict(study.baselines(connection, request, progress=progress))
        _say_lines(["", study.comparison(connection, curves).to_string(index=False)])
        study.save_baselines(connection, curves, output)
    _say_lines(["", f"results: {output.resolve()}"])


def _say_lines(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(line)


@studies.command("connectivity")
def run_connectivity(
    data: Annotated[
        str,
        typer.Option(help="gaussians, digits, mnist, fashion-mnist, cifar10, cifar10-subset, or an .npz or .csv file."),
    ] = "digits",
    target: Annotated[
        str | None, typer.Option(help="What is learnt of a data set: one-hot, sign or value.", show_default="its own")
    ] = None,
    widths: Annotated[
        str | None,
        typer.Option(
            help="Numbers of neurons N of each hidden layer, comma-separated.",
            show_default="32,64,128,256,512,1024; with several hidden layers to 512",
        ),
    ] = None,
    hidden_layers: Annotated[int, typer.Option(help="Hidden layers H, of N neurons each; of gaussians 1.")] = 1,
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
    output: Output = Path("results/connectivity"),
    workers: Workers = None,
    root_seed: RootSeed = 0,
) -> None:
    """Are solutions connected? Train pairs at many widths, join each by several ways, judge whether barriers fall.

    Finished runs are kept in the output folder and not run again; Ctrl-C loses only the runs under way.
    """
    from meanfield.studies.connectivity import grid
    from meanfield.studies.connectivity_report import STUDY

    runs = grid(
        data=data,
        target=target,
        widths=None if widths is None else _integers("widths", widths),
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


def _list(words: str) -> list[str]:
    return [word.strip() for word in words.split(",") if word.strip()]


def _integers(option: str, words: str) -> list[int]:
    return [_integer(option, word) for word in _list(words)]


def _integer(option: str, word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise ValueError(f"{option} must be integers separated by commas, got {word!r}") from None


def _aside(line: str) -> None:
    typer.echo(line, err=True)


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
    _aside(f"warning: {message}")


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Say what the user can mend in one line, without a traceback, and exit with 2; warnings are a line each too."""
    warnings.showwarning = _one_line
    try:
        yield
    except (ValueError, TypeError, OSError, ArithmeticError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


@errors_in_one_line()
def main() -> None:
    """Run the command line."""
    app()
