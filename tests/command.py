"""The command line, called in this process."""

from __future__ import annotations

import sys
import warnings
from typing import NamedTuple

from meanfield.cli import main


class Done(NamedTuple):
    """Exit code and what was printed."""

    code: int
    out: str
    err: str


def run_command(monkeypatch, capsys, *arguments):
    """Run ``meanfield`` with these arguments; warnings are printed, as a user sees them, and no errors here."""
    monkeypatch.setattr(sys, "argv", ["meanfield", *map(str, arguments)])
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code
    return Done(code, *capsys.readouterr())
