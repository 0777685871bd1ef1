"""Repetitions in, Markdown out, and into a file between two marker comments."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Collection, Iterable
from pathlib import Path

import llvmlite.binding
import pandas as pd
import scipy.linalg.cython_blas  # so that the BLAS in use is among the libraries that are found
from contest import LIMIT, OURS
from threadpoolctl import threadpool_info

__all__ = ["BEGIN", "END", "around_table", "figures_table", "machine", "replace_table", "speed_table"]

BEGIN, END = "<!-- benchmark table: begin -->", "<!-- benchmark table: end -->"
LIBRARIES = ("numpy", "numba", "scipy", "jax", "torch")


def speed_table(measured: pd.DataFrame, peers: Collection[str]) -> str:
    """Return a row a cell and number of threads: times in microseconds, median [min, max] over repetitions."""
    columns = ["cell", "dtype", "threads", "us a step", "of the limit", *peers, "fastest peer / ours"]
    place = measured.groupby(["cell", "dtype"], sort=False).ngroup()
    ordered = measured.assign(place=place).sort_values(["place", "n_threads"], kind="stable")
    groups = ordered.groupby(["cell", "dtype", "n_threads"], sort=False)
    return _markdown(columns, [[*map(str, key), *_speed_row(rows, peers)] for key, rows in groups])


def _speed_row(rows: pd.DataFrame, peers: Collection[str]) -> list[str]:
    times = rows.pivot(index="repetition", columns="contestant", values="us")
    present = [peer for peer in peers if peer in times]
    fraction = f"{(times[LIMIT] / times[OURS]).median():.0%}"
    ratio = "-"
    if present:
        fastest = times[present].median().idxmin()
        ratio = _spread(times[fastest] / times[OURS])
    return [_spread(times[OURS]), fraction, *(_spread(times[peer]) if peer in times else "-" for peer in peers), ratio]


def figures_table(measured: pd.DataFrame) -> str:
    """Return a row a figure of `workloads`, median [min, max] over repetitions."""
    groups = measured.groupby(["figure", "unit"], sort=False)["value"]
    return _markdown(
        ["figure", "value", "unit"], [[str(figure), _spread(value), str(unit)] for (figure, unit), value in groups]
    )


def machine(missing: Iterable[str]) -> str:
    """Name processor, BLAS and versions, and the peers that were not there; no date."""
    blas = {f"OpenBLAS {pool['version']} ({pool['architecture']} kernels)" for pool in _pools()}
    versions = [f"Python {platform.python_version()}", *(f"{name} {v}" for name in LIBRARIES if (v := _version(name)))]
    absent = [f"{peer} is not installed and was not compared" for peer in missing]
    return "; ".join([_processor(), ", ".join(sorted(blas)), ", ".join(versions), *absent]) + "."


def _pools() -> list[dict[str, str]]:
    """The BLAS libraries that SciPy brought: training multiplies with them."""
    folder = Path(scipy.linalg.cython_blas.__file__).parents[2]
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return [pool for pool in pools if Path(pool["filepath"]).is_relative_to(folder / "scipy.libs")] or pools


def _processor() -> str:
    names = [line.partition(":")[2].strip() for line in _cpu_lines() if line.startswith("model name")]
    name = names[0] if names else platform.machine()
    return f"{name} ({llvmlite.binding.get_host_cpu_name()}), {max(1, len(names))} processors"


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _spread(values: pd.Series) -> str:
    median, low, high = (_digits(value) for value in (values.median(), values.min(), values.max()))
    return median if len(values) == 1 else f"{median} [{low}, {high}]"


def _digits(value: float) -> str:
    """Write three significant digits, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _markdown(columns: list[str], rows: Iterable[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def around_table(path: Path) -> tuple[str, str]:
    """Return what stands in ``path`` before and after the markers; SystemExit unless each is there once, in order."""
    text = path.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    if text.count(BEGIN) != 1 or text.count(END) != 1 or END not in rest:
        raise SystemExit(f"{path} must hold the lines {BEGIN} and {END}, once each and in this order")
    return before, after


def replace_table(path: Path, content: str) -> None:
    """Put ``content`` between the two markers in ``path``."""
    before, after = around_table(path)
    path.write_text(f"{before}{BEGIN}\n\n{content}\n\n{END}{after}", encoding="utf-8")
