"""What is shipped agrees with itself: one version everywhere, a command that starts fast, no large files."""

from __future__ import annotations

import configparser
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

import meanfield.cli

ROOT = Path(__file__).parents[1]
LARGEST_FILE = 2**20

HELP = """
import sys
from meanfield.cli import main
sys.argv = ["meanfield", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
heavy = {"numba", "matplotlib", "sklearn", "pandas"} & sys.modules.keys()
assert not heavy, heavy
"""


def _version() -> str:
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg")
    return config["metadata"]["version"]


def _first(pattern: str, file: str) -> str:
    found = re.search(pattern, (ROOT / file).read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert found, f"{file} has no line like {pattern}"
    return found[1]


@pytest.mark.parametrize(
    ("file", "pattern"), [("CITATION.cff", r"^version: (\S+)$"), ("CHANGELOG.md", r"^## \[(.+?)\]")]
)
def test_version_is_that_of_setup_cfg(file, pattern):
    assert _first(pattern, file) == _version()


def test_installed_version_is_that_of_setup_cfg():
    assert importlib.metadata.version("meanfield-sgd") == _version()


def test_console_script_is_the_command_line():
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="meanfield")
    assert script.load() is meanfield.cli.main


def test_help_starts_without_heavy_imports():
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage" in done.stdout


def test_no_large_files_are_tracked():
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    tracked = [ROOT / name for name in listing.stdout.split("\0") if name]
    assert tracked
    assert not [path for path in tracked if path.is_file() and path.stat().st_size > LARGEST_FILE]
