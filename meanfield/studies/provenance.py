"""What the bits of a result depend on besides its configuration and seed: sources, versions, machine."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding
import threadpoolctl

__all__ = ["provenance", "source_hash"]

PACKAGE = Path(__file__).resolve().parents[1]
READERS = ("plots/*", "studies/*report.py", "studies/*tables.py", "commands/*", "cli.py", "__main__.py")
BLAS_TRAITS = ("internal_api", "version", "architecture")
LIBRARIES = ("numpy", "numba", "scipy", "pandas", "pyarrow")


@cache
def source_hash() -> str:
    """Name the code that makes records by 16 digits of the SHA-256 of its files, read once a process.

    Plots, reports and the command line only read records: editing them leaves finished runs finished.
    """
    digest = hashlib.sha256()
    for source in sorted(PACKAGE.rglob("*.py")):
        if any(source.relative_to(PACKAGE).match(pattern) for pattern in READERS):
            continue
        content = source.read_bytes()
        digest.update(f"{source.relative_to(PACKAGE).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


@cache
def _commit() -> str | None:
    """Return the checked-out commit if the package lies at the top of the work tree: else it is another's."""
    command = ["git", "-C", str(PACKAGE), "rev-parse", "--show-toplevel", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    top, commit = answer.splitlines()
    return commit if Path(top).resolve() == PACKAGE.parent else None


@cache
def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def provenance() -> dict[str, Any]:
    """Collect what the bits of a result depend on besides its configuration and seed."""
    pools = threadpoolctl.threadpool_info()
    return {
        "package_version": _version("meanfield-sgd"),
        "commit": _commit(),
        "source_hash": source_hash(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in LIBRARIES}},
        "cpu": {"architecture": platform.machine(), "name": llvmlite.binding.get_host_cpu_name()},
        "blas": sorted({" ".join(str(pool.get(key)) for key in BLAS_TRAITS) for pool in pools}),
        "time_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }
