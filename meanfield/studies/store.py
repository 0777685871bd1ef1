"""Results on disk: a record a run, written whole, trusted only if unharmed and made by the present sources.

`<folder>/records/<configuration hash>/` holds `run.json` (what was run, by which code, where and when) and a
parquet file a frame; `<folder>/tables/` the exports; `<folder>/manifest.json` describes the whole study.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import platform
import re
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from meanfield.checks import MeanfieldWarning, check_choice
from meanfield.studies.provenance import provenance, source_hash

__all__ = ["Store", "canonical_json", "config_hash", "make_folder"]


def canonical_json(config: Any) -> str:
    """Write a configuration as JSON that depends on the name of its class and its values alone.

    ``config`` is an instance of a frozen dataclass whose fields hold str, int, float, bool, None or tuples of
    these; keys are sorted and floats read back to the same bits. TypeError for anything else, ValueError for
    a float that is not finite.
    """
    traits = getattr(config, "__dataclass_params__", None)
    if traits is None or not traits.frozen or isinstance(config, type):
        raise TypeError(
            f"a configuration must be an instance of a frozen dataclass, got {config!r}: "
            "declare its class with @dataclass(frozen=True)"
        )
    values = {field.name: _plain(field.name, getattr(config, field.name)) for field in fields(config)}
    return json.dumps({"class": type(config).__qualname__, **values}, sort_keys=True, separators=(",", ":"))


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(f"{name}[{i}]", item) for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"configuration field {name} must be finite, got {value}: use None for 'not given'")
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(
        f"configuration field {name} must be a str, int, float, bool, None or a tuple of these, "
        f"got {value!r} of type {type(value).__name__}: convert it first, e.g. with int(...) or tuple(...)"
    )


def config_hash(config: Any) -> str:
    """Name a configuration by the first 16 hexadecimal digits of the SHA-256 of its `canonical_json`."""
    return hashlib.sha256(canonical_json(config).encode()).hexdigest()[:16]


def make_folder(folder: Path, results: Path) -> None:
    """Make ``folder``, which is ``results`` or in it, if missing; OSError if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            f"cannot write results to {results}: {error.strerror}; choose another folder with --output"
        ) from error


def _scalars(config: Any) -> dict[str, Any]:
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    return {name: value for name, value in values.items() if not isinstance(value, tuple)}


def _check_frames(config: Any, frames: Any) -> None:
    if not isinstance(frames, Mapping) or not frames:
        raise TypeError(f"a run must return its DataFrames in a dict by name, at least one, got {frames!r}")
    for name, frame in frames.items():
        if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ValueError(f"a frame's name must be of lower-case letters, digits and _, got {name!r}")
        if not isinstance(frame, pd.DataFrame):
            raise TypeError(f"frame {name!r} must be a DataFrame, got type {type(frame).__name__}")
        if frame.index.names != [None]:
            raise ValueError(f"frame {name!r} has the index {list(frame.index.names)}: call reset_index()")
        if shared := sorted(set(frame.columns) & set(_scalars(config))):
            raise ValueError(f"frame {name!r} repeats the configuration fields {shared}: leave them out")


def _write_file(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _json_bytes(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


class Store:
    """A folder of results, one record a run, named by the `config_hash` of the run's configuration.

    ``folder`` is made if missing; OSError, before any work is done, if it cannot be written.

    See Also
    --------
    meanfield.studies.engine.run_all : fills a store.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._records = self.folder / "records"
        self._said: set[str] = set()
        make_folder(self._records, self.folder)
        self._remove_leftovers()

    def has(self, config: Any, *, root_seed: int | None = None) -> bool:
        """Tell whether a run is finished: its record is unharmed, by the present sources and from this seed.

        ``root_seed`` None accepts any. A record that does not count is reported, once, by a MeanfieldWarning.
        """
        if not self._record(config).is_dir():
            return False
        fault = self._fault(config, root_seed)
        if fault is not None and fault not in self._said:
            self._said.add(fault)
            warnings.warn(f"{fault}: counted as unfinished", MeanfieldWarning, stacklevel=2)
        return fault is None

    def write(self, config: Any, frames: Mapping[str, pd.DataFrame], *, root_seed: int, **facts: Any) -> None:
        """Keep the frames of a finished run, whole or not at all; an equal finished record stays as it is.

        Columns are kept, the index is not. No column may repeat a scalar field of the configuration, which
        `frames` adds. ``facts`` (study, wall seconds) are plain JSON values. TypeError or ValueError if a
        frame cannot be kept.
        """
        _check_frames(config, frames)
        contents = {name: frame.to_parquet(index=False) for name, frame in frames.items()}
        run = {
            **facts,
            "status": "finished",
            "configuration": json.loads(canonical_json(config)),
            "root_seed": root_seed,
            **provenance(),
            "frames": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
        }
        with self._temporary_folder() as temporary:
            record = Path(temporary, "record")
            record.mkdir()
            for name, content in contents.items():
                _write_file(record / f"{name}.parquet", content)
            _write_file(record / "run.json", _json_bytes(run))
            self._put_in_place(record, config, root_seed)

    def read(self, config: Any) -> dict[str, pd.DataFrame]:
        """Return the frames of a finished run by name; LookupError if `has` says that there is none."""
        return {name: self._frame(config, name) for name in self._frame_names(config)}

    def frames(self, name: str, configs: Sequence[Any]) -> pd.DataFrame:
        """Stack the frame ``name`` of these runs, the scalar fields of their configurations first."""
        if not configs:
            raise ValueError("configs must hold at least one configuration, got none")
        parts = [self._frame(config, check_choice("frame", name, self._frame_names(config))) for config in configs]
        origin = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        columns = pd.DataFrame([_scalars(config) for config in configs]).iloc[origin].reset_index(drop=True)
        return pd.concat([columns, pd.concat(parts, ignore_index=True)], axis=1)

    def export_csv(self, name: str, frame: pd.DataFrame) -> Path:
        """Write a frame, without its index, to ``tables/<name>.csv`` and return the path."""
        (self.folder / "tables").mkdir(exist_ok=True)
        return self._replace_file(self.folder / "tables" / f"{name}.csv", frame.to_csv(index=False).encode())

    def write_manifest(self, configs: Sequence[Any], **details: Any) -> Path:
        """Write ``manifest.json``: ``details`` (plain JSON values), code, machine and the runs by hash."""
        runs = {config_hash(config): json.loads(canonical_json(config)) for config in configs}
        content = _json_bytes({**details, **provenance(), "runs": runs})
        return self._replace_file(self.folder / "manifest.json", content)

    def _record(self, config: Any) -> Path:
        return self._records / config_hash(config)

    def _frame_names(self, config: Any) -> list[str]:
        if not self.has(config):
            raise LookupError(f"no finished record of {config} in {self.folder}: run it first")
        return list(self._run(config)["frames"])

    def _frame(self, config: Any, name: str) -> pd.DataFrame:
        return pd.read_parquet(self._record(config) / f"{name}.parquet")

    def _run(self, config: Any) -> Any:
        return json.loads((self._record(config) / "run.json").read_bytes())

    def _fault(self, config: Any, root_seed: int | None) -> str | None:
        """Say why a record does not count as finished; None if it does."""
        try:
            run = self._run(config)
            for name, written in run["frames"].items():
                content = (self._record(config) / f"{name}.parquet").read_bytes()
                if hashlib.sha256(content).hexdigest() != written:
                    raise ValueError(f"{name}.parquet is not what was written")
            made_by, made_from = run["source_hash"], run["root_seed"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return f"damaged record {self._record(config)} ({type(error).__name__}: {error})"
        if made_by != source_hash():
            return f"records in {self.folder} made by other sources of the package ({made_by})"
        if root_seed is not None and made_from != root_seed:
            return f"records in {self.folder} made from root seed {made_from}, not {root_seed}"
        return None

    def _put_in_place(self, record: Path, config: Any, root_seed: int) -> None:
        while True:
            try:
                os.rename(record, self._record(config))
                return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            if self._fault(config, root_seed) is None:
                return  # another process finished the same run, with the same bits
            with self._temporary_folder() as discarded, suppress(FileNotFoundError):
                os.rename(self._record(config), Path(discarded, "record"))

    def _replace_file(self, path: Path, content: bytes) -> Path:
        with self._temporary_folder() as temporary:
            _write_file(Path(temporary, path.name), content)
            os.replace(Path(temporary, path.name), path)
        return path

    def _temporary_folder(self) -> tempfile.TemporaryDirectory[str]:
        # The name tells what a killed process of this host left behind from what a living one is writing.
        prefix = f".{platform.node()}.{os.getpid()}."
        return tempfile.TemporaryDirectory(prefix=prefix, dir=self._records, ignore_cleanup_errors=True)

    def _remove_leftovers(self) -> None:
        for folder in self._records.glob(f".{platform.node()}.*"):
            try:
                os.kill(int(folder.name.split(".")[-2]), 0)
            except ProcessLookupError:
                shutil.rmtree(folder, ignore_errors=True)
            except PermissionError:
                pass  # another user's process, at work
