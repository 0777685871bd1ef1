"""Image data sets from a folder, fetched into it from a mirror where they are missing.

The folder is $MEANFIELD_DATA, whose files are the user's and never replaced, or else the platform's cache, where a
damaged file is fetched again. A file is written whole or not at all, and once however many processes want it.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from numpy.typing import NDArray
from tqdm import tqdm

from meanfield.model.npz import read_npz, write_npz
from meanfield.model.published import KEYS, PUBLISHED, Source, published_files, verify

__all__ = ["N_CLASSES", "read_images"]

N_CLASSES = 10
CHUNK = 2**16

Array = NDArray[Any]

# Name, path, time and size of files whose content this process has verified.
_verified: set[tuple[str, str, int, int]] = set()


def read_images(name: str) -> dict[str, Array]:
    """Return the arrays x_train, y_train, x_test and y_test of an image data set: x uint8 (n, ...), y (n,) in 0..9.

    Raises
    ------
    FileNotFoundError : no such file, and no mirror where one can be had: the message has each one's reason
    OSError : a folder that cannot be written
    ValueError : a file that does not hold what it should; of a published data set with both checksums

    See Also
    --------
    meanfield.model.published : the data sets that are fetched and verified
    """
    path = _path(name)
    arrays = _kept(name, path)
    if arrays is not None:
        return arrays
    if name not in PUBLISHED:
        raise FileNotFoundError(f"{_needs(name)}, but there is no file {str(path)!r}")
    with _sole_writer(name, path):
        arrays = _kept(name, path)
        if arrays is None:
            arrays = _fetched(name, path)
            write_npz(path, arrays)
    return arrays


def _path(name: str) -> Path:
    if folder := _users_folder():
        return Path(folder) / _file(name)
    if name in PUBLISHED:
        return Path(platformdirs.user_cache_dir("meanfield")) / "data" / _file(name)
    raise FileNotFoundError(f"{_needs(name)}, but MEANFIELD_DATA is not set: set it to the folder of {_file(name)}")


def _users_folder() -> str | None:
    return os.environ.get("MEANFIELD_DATA") or None


def _file(name: str) -> str:
    return f"{name.replace('-', '_')}.npz"


def _needs(name: str) -> str:
    return f"data set {name!r} is read from $MEANFIELD_DATA/{_file(name)} with the arrays {', '.join(KEYS)}"


def _kept(name: str, path: Path) -> dict[str, Array] | None:
    """Return the arrays of the file; None if there is no file, or one in the cache that is damaged."""
    if not path.is_file():
        return None
    try:
        return _read(name, path)
    except ValueError as error:
        if not _users_folder():
            return None
        if name not in PUBLISHED:
            raise
        raise ValueError(f"{error}; replace the file, or delete it so that it is fetched again") from error


def _read(name: str, path: Path) -> dict[str, Array]:
    state = path.stat()
    arrays = _checked(path, read_npz(path))
    stamp = (name, str(path), state.st_mtime_ns, state.st_size)
    if name in PUBLISHED and stamp not in _verified:
        try:
            verify(PUBLISHED[name], arrays)
        except ValueError as error:
            raise ValueError(f"{str(path)!r} is not data set {name!r}: {error}") from error
        _verified.add(stamp)
    return arrays


def _checked(path: Path, arrays: dict[str, Array]) -> dict[str, Array]:
    if missing := [key for key in KEYS if key not in arrays]:
        raise ValueError(
            f"{str(path)!r} must hold the arrays {', '.join(KEYS)}, but lacks {', '.join(missing)}; "
            f"it holds {sorted(arrays)}"
        )
    checked: dict[str, Array] = {}
    for split in ("train", "test"):
        x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
        _check_images(path, x, y)
        checked |= {f"x_{split}": x, f"y_{split}": y.ravel()}
    return checked


def _check_images(path: Path, x: Array, y: Array) -> None:
    if x.dtype != np.uint8 or x.ndim < 2 or x.size == 0 or len(x) != y.size:
        raise ValueError(
            f"{str(path)!r} must hold uint8 images (n, ...) and n labels, "
            f"got images of {x.dtype} {x.shape} and labels {y.shape}"
        )
    if y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= N_CLASSES:
        raise ValueError(
            f"labels of {str(path)!r} must be integers in 0..{N_CLASSES - 1}, got {y.dtype} in {y.min()}..{y.max()}"
        )


@contextmanager
def _sole_writer(name: str, path: Path) -> Iterator[None]:
    """Make other processes that want the same file wait; where files cannot be locked, they fetch it too."""
    try:
        if not _users_folder():
            path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f".{path.name}.lock").open("wb")
    except OSError as error:
        raise OSError(
            f"data set {name!r} cannot be kept in {str(path.parent)!r} ({error.strerror}): "
            f"set MEANFIELD_DATA to a folder that can be written, or put {_file(name)} there"
        ) from error
    with lock:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetched(name: str, path: Path) -> dict[str, Array]:
    source = PUBLISHED[name]
    files: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        for download in source.downloads:
            files |= _from_mirrors(name, source, Path(folder) / download)
    return source.arrays(files)


def _from_mirrors(name: str, source: Source, path: Path) -> dict[str, bytes]:
    """Return the files in a download, from the first mirror that has them as they were published."""
    failures = []
    for mirror in source.mirrors:
        url = f"{mirror}/{path.name}"
        try:
            _download(url, path, f"{name}: {path.name}")
            return published_files(source, path)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            failures.append(f"{url}: {_reason(error)}")
    raise FileNotFoundError(
        f"data set {name!r} could not be fetched ({'; '.join(failures)}): check the network, or set MEANFIELD_DATA to "
        f"a folder with {_file(name)}, which holds {', '.join(KEYS)}: uint8 images and their classes 0..9"
    )


def _download(url: str, path: Path, description: str) -> None:
    import pooch  # not needed for what is in the folder already

    # Pooch sets the total; until then it must not be 0 or unknown, for such a bar counts as none.
    with tqdm(desc=description, total=1, unit="B", unit_scale=True, disable=None, leave=False) as bar:
        pooch.HTTPDownloader(progressbar=bar, chunk_size=CHUNK)(url, str(path), None)


def _reason(error: Exception) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP status {response.status_code}"
    # Messages of requests nest those of the libraries below it.
    if type(error).__module__.startswith("requests"):
        return f"connection failed ({type(error).__name__})"
    return str(error)
