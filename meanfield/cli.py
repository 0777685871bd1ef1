"""The command line: the commands together, and errors in one line."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from meanfield.commands.connect import connect
from meanfield.commands.output import aside
from meanfield.commands.studies import studies

__all__ = ["app", "errors_in_one_line", "main"]

app = typer.Typer(
    help="SGD of neural networks in the mean-field regime: simulate, drop neurons, compare with the theory.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(studies, name="run")
app.command("connect")(connect)


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


def _one_line(message: Warning | str, *place: Any, **stream: Any) -> None:
    aside(f"warning: {message}")


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Say what the user can mend in one line, without a traceback, and exit with 2; warnings are a line each too."""
    warnings.showwarning = _one_line
    try:
        yield
    except (ValueError, TypeError, OSError, ArithmeticError) as error:
        aside(f"error: {error}")
        sys.exit(2)


@errors_in_one_line()
def main() -> None:
    """Run the command line."""
    app()
