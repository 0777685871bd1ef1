"""Made-up image data sets in the published formats, written out from the formats' definitions."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile

import numpy as np

from meanfield.model.published import KEYS, CifarArchive, IdxFiles

IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
BATCHES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")


def arrays_of(shape, n_train=20, n_test=6):
    rng = np.random.default_rng(0)
    x = [rng.integers(0, 256, (n, *shape), dtype=np.uint8) for n in (n_train, n_test)]
    y = [rng.integers(0, 10, n, dtype=np.uint8) for n in (n_train, n_test)]
    return dict(zip(KEYS, (x[0], y[0], x[1], y[1]), strict=True))


def idx_bytes(array):
    """An IDX file as LeCun's page defines it: magic number, sizes, then the bytes in C order."""
    return struct.pack(f">i{array.ndim}i", 0x0800 + array.ndim, *array.shape) + bytes(array.ravel().tolist())


def cifar_bytes(x, y):
    """Records as Krizhevsky's page defines them: label, then the rows of the red, green and blue plane."""
    out = bytearray()
    for image, label in zip(x, y, strict=True):
        out.append(label)
        for colour in range(3):
            for row in image:
                out += bytes(row[:, colour].tolist())
    return bytes(out)


def md5(content):
    return hashlib.md5(content).hexdigest()


def idx_source(arrays, mirrors=()):
    files = {name: idx_bytes(arrays[key]) for name, key in zip(IDX, KEYS, strict=True)}
    return IdxFiles(tuple(mirrors), {name: md5(content) for name, content in files.items()}), files


def cifar_source(arrays, mirrors=()):
    x, y = arrays["x_train"].reshape(5, -1, 32, 32, 3), arrays["y_train"].reshape(5, -1)
    contents = [*map(cifar_bytes, x, y), cifar_bytes(arrays["x_test"], arrays["y_test"])]
    files = dict(zip(BATCHES, contents, strict=True))
    archive = tar_of(files)
    sums = {name: md5(content) for name, content in files.items()}
    return CifarArchive(tuple(mirrors), "cifar-10-binary.tar.gz", md5(archive), sums), files, archive


def tar_of(files):
    """The archive of the published files, in another order and with others among them."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        folder = tarfile.TarInfo("cifar-10-batches-bin")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in sorted({**files, "readme.html": b"<html>"}.items(), reverse=True):
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()
