"""Reading .npz files that strangers made: sizes are checked before unpacking, nothing is executed."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meanfield.checks import check_file

__all__ = ["read_npz", "write_npz"]

# Weights hardly compress and images about fivefold; a file made to exhaust memory compresses a thousandfold.
UNPACKED_AT_LEAST = 2**30
UNPACKED_RATIO = 100

_HEADER_READERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npz(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz file by name.

    Raises
    ------
    FileNotFoundError : no such file
    ValueError : not an .npz file, damaged, holding Python objects, unpacking to more than 1 GiB and 100 times
        its own size, or declaring other array sizes than it has
    """
    place = check_file(path)
    arrays: dict[str, NDArray[Any]] = {}
    name = ""
    try:
        with zipfile.ZipFile(place) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
            _check_total(entries, place.stat().st_size)
            for entry in entries:
                name = entry.filename.removesuffix(".npy")
                _check_header(archive, entry)
                with archive.open(entry) as stream:
                    arrays[name] = np.lib.format.read_array(stream, allow_pickle=False)
    # On damaged bytes the parsers raise nearly anything: zlib.error, struct.error, OverflowError, SyntaxError
    except Exception as error:
        where = f"array {name!r} of " if name else ""
        raise ValueError(
            f"cannot read {where}{str(place)!r}: {error}. It must be an .npz file as numpy.savez writes it"
        ) from error
    return arrays


def write_npz(path: str | os.PathLike[str], arrays: dict[str, NDArray[Any]]) -> None:
    """Write ``arrays`` whole: to a temporary neighbour first, then moved into place."""
    place = Path(path)
    if objects := [name for name, array in arrays.items() if array.dtype.hasobject]:
        raise TypeError(f"array {objects[0]!r} holds Python objects, which are never written: convert it to numbers")
    if not place.parent.is_dir():
        raise FileNotFoundError(f"cannot write {str(place)!r}: there is no folder {str(place.parent)!r}")
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
        os.replace(temporary, place)
    finally:
        temporary.unlink(missing_ok=True)


def _check_total(entries: list[zipfile.ZipInfo], packed: int) -> None:
    total = sum(entry.file_size for entry in entries)
    allowed = max(UNPACKED_AT_LEAST, UNPACKED_RATIO * packed)
    if total > allowed:
        raise ValueError(f"its {packed} bytes unpack to {total}, more than the {allowed} allowed")


def _check_header(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Raise unless the array header of ``entry`` agrees with the bytes that follow it."""
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in _HEADER_READERS:
            raise ValueError(f"npy format version {version} is not known")
        shape, _, dtype = _HEADER_READERS[version](stream)
        held = entry.file_size - stream.tell()
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never loaded")
    declared = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if declared != held:
        raise ValueError(f"its header declares shape {shape} ({declared} bytes) but {held} bytes follow")
