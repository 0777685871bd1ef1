"""What commands print: findings on stdout, all else on stderr."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from meanfield.studies.report import StudyResult

__all__ = ["aside", "say", "say_lines"]


def aside(line: str) -> None:
    """Print a line on stderr."""
    typer.echo(line, err=True)


def say_lines(lines: Iterable[str]) -> None:
    """Print lines on stdout."""
    for line in lines:
        typer.echo(line)


def say(result: StudyResult, output: Path) -> None:
    """Print the table, the verdict, what was run and where it lies; exit 1 if a run failed, 130 if interrupted."""
    if result.report is not None:
        if len(result.report.table):
            say_lines([result.report.table.to_string(index=False, na_rep="-"), ""])
        say_lines([*result.report.words, ""])
    failures = Counter(f"{failure.kind}: {failure.message}" for failure in result.summary.failures)
    for failure, count in failures.items():
        aside(f"failed: {failure} ({count} runs)")
    say_lines([str(result.summary), f"results: {output.resolve()}"])
    if result.summary.interrupted:
        raise typer.Exit(130)
    if failures or result.report is None or not len(result.report.table):
        raise typer.Exit(1)
