"""The options that commands share, one type each, with the names that they take.

The names are written out: to ask the package for them would make `meanfield --help` import all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "ACTIVATIONS",
    "DATA_SETS",
    "DTYPES",
    "KEPT",
    "LOSSES",
    "SECOND_KEEPS",
    "SETTINGS",
    "SPLITS",
    "TARGETS",
    "WIDTHS",
    "Activation",
    "Data",
    "DataList",
    "DataSet",
    "Dtype",
    "FreshSamples",
    "Orders",
    "Output",
    "RootSeed",
    "Samples",
    "Seeds",
    "StepSize",
    "Target",
    "UsualActivation",
    "UsualHorizon",
    "Widths",
    "Workers",
    "any_of",
    "integers",
    "words",
]

ACTIVATIONS = ("relu", "tanh", "erf", "sigmoid", "softplus", "linear", "quadratic", "truncated-relu")
DATA_SETS = ("digits", "mnist", "fashion-mnist", "cifar10", "cifar10-subset")
DTYPES = ("float64", "float32")
KEPT = ("first", "random", "best-of", "greedy", "swaps", "exhaustive", "adversarial-norm", "adversarial-greedy")
LOSSES = ("square", "logistic", "cross-entropy")
SECOND_KEEPS = ("own", "same", "complement")
SETTINGS = ("all", "internal", "control")
SPLITS = ("train", "test")
TARGETS = ("one-hot", "sign", "value")


def words(text: str) -> list[str]:
    """Return the words between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


def integers(option: str, text: str) -> list[int]:
    """Return the integers between commas; ValueError quotes what is none."""
    return [_integer(option, word) for word in words(text)]


def any_of(names: Sequence[str]) -> str:
    """Say a choice: "a, b or c"."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def _integer(option: str, word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise ValueError(f"{option} must be integers separated by commas, got {word!r}") from None


def _at_least(least: int, option: str) -> Callable[[int | None], int | None]:
    def checked(value: int | None) -> int | None:
        from meanfield.checks import check_integer

        return None if value is None else check_integer(option, value, least=least)

    return checked


FILES = ("an .npz file (arrays x, y)", "a .csv file (the last column is the target)")
WIDTHS = "Numbers N of neurons in every hidden layer, a network for each; comma-separated."

Data = Annotated[str, typer.Option(help=f"{any_of(('gaussians', *DATA_SETS, *FILES))}.")]
DataList = Annotated[str, typer.Option(help=f"{any_of(('gaussians', *DATA_SETS, *FILES))}; comma-separated.")]
DataSet = Annotated[str, typer.Option(help=f"{any_of((*DATA_SETS, *FILES))}.")]
Target = Annotated[
    str | None,
    typer.Option(
        help=f"What is learnt: {any_of(TARGETS)}; unit vectors or +1 and -1 for the classes, or a file's numbers.",
        show_default="one-hot, of a file value",
    ),
]
Widths = Annotated[str, typer.Option(help=WIDTHS)]
Seeds = Annotated[int, typer.Option(help="Replicas of each network.")]
Activation = Annotated[str, typer.Option(help=f"{any_of(ACTIVATIONS)}.")]
UsualActivation = Annotated[
    str | None,
    typer.Option(help=f"{any_of(ACTIVATIONS)}.", show_default="truncated-relu for gaussians, else relu"),
]
StepSize = Annotated[float | None, typer.Option(help="Step size alpha.", show_default="0.001 for gaussians, else 0.02")]
UsualHorizon = Annotated[
    float | None, typer.Option(help="Time T = steps x alpha.", show_default="4 for gaussians, else 20")
]
Dtype = Annotated[str, typer.Option(help=f"{any_of(DTYPES)}.")]
Samples = Annotated[int, typer.Option(help="Samples of a measurement; a smaller data set is taken whole.")]
FreshSamples = Annotated[int, typer.Option(help="Fresh samples of a measurement.")]
Orders = Annotated[int, typer.Option(help="Random orders of the neurons; a set of every size from each.")]
Output = Annotated[Path, typer.Option(help="Folder of the results.")]
Workers = Annotated[
    int | None, typer.Option(help="Processes.", show_default="one a CPU", callback=_at_least(1, "--workers"))
]
RootSeed = Annotated[
    int, typer.Option(help="Seed that all replicas' seeds come from.", callback=_at_least(0, "--root-seed"))
]
