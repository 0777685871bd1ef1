"""Data sets by name, and a user's own tables, as empirical laws.

| name | train / test | inputs d | read from |
| --- | --- | --- | --- |
| digits | 1400 / 397 | 65 | scikit-learn's bundled file, in file order |
| mnist | 60000 / 10000 | 785 | mnist.npz, fetched where it is missing |
| fashion-mnist | 60000 / 10000 | 785 | fashion_mnist.npz, the same |
| cifar10 | 50000 / 10000 | 3073 | cifar10.npz, the same |
| cifar10-subset | 5085 / 1017 | 3073 | cifar10_subset.npz, a part of CIFAR-10 that is not fetched |

Files lie in $MEANFIELD_DATA, or in the platform's cache folder if that is not set. They hold the arrays x_train,
x_test (uint8 pixels, one image a row) and y_train, y_test (classes 0..9); those of published data sets are verified
by checksum.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from meanfield.checks import check_choice, check_file
from meanfield.model.downloads import N_CLASSES, read_images
from meanfield.model.laws import Empirical
from meanfield.model.npz import read_npz
from meanfield.model.published import KEYS

__all__ = [
    "DATASETS",
    "TABLE_TYPES",
    "find_data",
    "load_dataset",
    "load_table",
    "standardise",
    "table_splits",
]

DATASETS = ("digits", "mnist", "fashion-mnist", "cifar10", "cifar10-subset")
SPLITS = ("train", "test")
TABLE_TYPES = (".csv", ".npz")
N_DIGITS_TRAIN = 1400

Array = NDArray[Any]
Target = str | tuple[int, int]


class _Rows(NamedTuple):
    """One split as it is stored: x (n, ...) and y (n, ...)."""

    x: Array
    y: Array


def load_dataset(name: str, *, split: str = "train", target: Target = "one-hot") -> Empirical:
    """Return a split of a data set of ten classes, standardised, with inputs of length about 1.

        x = ((pixels - mean) / std / sqrt(n_pixels), 1)

    Mean and standard deviation are those of the training split, whichever split is asked for: of each pixel
    by itself for "digits" (pixels that never change become 0), one number each over all pixels and images for
    the others, so that contrast within an image is kept. The constant 1 stands in for first-layer biases.

    Parameters
    ----------
    name : one of `DATASETS`
    split : "train" or "test"
    target : y of shape (n, C)
        "one-hot": C = 10, 1 in the column of the class, 0 elsewhere;
        "sign": C = 1, +1 for the classes 0..4, -1 for 5..9;
        (a, b): C = 1, only the samples of the two classes, +1 for a, -1 for b

    Returns
    -------
    Empirical, rows in file order; float64 for "digits", float32 for the others, whose training inputs take
    190 MB (MNIST) and 610 MB (CIFAR-10)

    Raises
    ------
    FileNotFoundError : the file is not there, and cannot be fetched
    OSError : the folder for a fetched file cannot be written
    ValueError : unknown name, split or target, or a file that does not hold what it should
    """
    check_choice("data set", name, DATASETS, besides="; load_table reads files of your own")
    check_choice("split", split, SPLITS)
    x, labels = _digits(split) if name == "digits" else _images(name, split)
    return _labelled(x, labels, np.arange(N_CLASSES), target)


def load_table(
    path: str | os.PathLike[str],
    *,
    split: str = "train",
    target: Target = "value",
    target_column: str | None = None,
) -> Empirical:
    """Return the rows of a user's own file, inputs as they are: nothing is scaled, no constant is appended.

    Parameters
    ----------
    path : .npz with the arrays x (n, d) and y (n,) or (n, C), or x_train, y_train [, x_test, y_test];
        or .csv with a line of column names and numbers below, which is the split "train"
    split : "train" or "test"
    target : "value" takes y as it is; "one-hot", "sign" and (a, b) treat it as integer class labels as in
        `load_dataset`, the classes being the distinct labels of the file (both splits) in increasing order
    target_column : of a .csv file; its last column by default

    Raises
    ------
    FileNotFoundError : no such file
    ValueError : a file of another kind, without the split, with text or missing entries
    TypeError : a target that holds text, or labels that are not integers
    """
    check_choice("split", split, SPLITS)
    splits = _read_table(Path(path), target_column)
    if split not in splits:
        raise ValueError(f"{str(path)!r} has no split {split!r}: write an .npz file with the arrays {', '.join(KEYS)}")
    x, y = splits[split]
    if y.dtype.kind not in "iuf":
        raise TypeError(
            f"the target of {str(path)!r} must hold numbers, got {y.ravel()[:1].tolist()}: "
            "give each class an integer, e.g. by pandas.factorize"
        )
    if target == "value":
        return Empirical(x, y)
    return _labelled(x, y, np.unique(np.concatenate([rows.y.ravel() for rows in splits.values()])), target)


def find_data(name_or_path: str, *, split: str = "train", target: Target | None = None) -> Empirical:
    """Return a data set by name, or a table by its path, which ends in .npz or .csv.

    See Also
    --------
    load_dataset, load_table : whose default target None stands for
    """
    if Path(name_or_path).suffix.lower() in TABLE_TYPES:
        return load_table(name_or_path, split=split, target="value" if target is None else target)
    return load_dataset(name_or_path, split=split, target="one-hot" if target is None else target)


def standardise(law: Empirical, reference: Empirical) -> Empirical:
    """Return ``law`` with inputs of length about 1 and a constant 1 appended, as the digits have them.

        x = ((x - mean) / std / sqrt(d), 1)

    with mean and standard deviation of each column of ``reference``; columns constant there become 0.

    See Also
    --------
    load_table : whose inputs are as they are in the file
    """
    if law.dim != reference.dim:
        raise ValueError(f"law and reference must have equally many inputs, got {law.dim} and {reference.dim}")
    return Empirical(_standardised(law.x, *_column_moments(reference.x), law.x.dtype.type), law.y)


def table_splits(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the splits that a user's file holds, "train" and perhaps "test"."""
    return tuple(_read_table(Path(path), None))


def _column_moments(x: Array) -> tuple[Array, Array]:
    """Return each column's mean and inverse standard deviation, 0 for a constant column."""
    std = x.std(axis=0)
    # Rounding of the mean gives most constant columns a tiny standard deviation.
    varies = x.max(axis=0) > x.min(axis=0)
    return x.mean(axis=0), np.divide(1, std, out=np.zeros_like(std), where=varies)


def _digits(split: str) -> _Rows:
    table = np.loadtxt(_digits_file(), delimiter=",")
    pixels, labels = table[:, :-1], table[:, -1].astype(int)
    moments = _column_moments(pixels[:N_DIGITS_TRAIN])
    rows = slice(N_DIGITS_TRAIN) if split == "train" else slice(N_DIGITS_TRAIN, None)
    return _Rows(_standardised(pixels[rows], *moments, np.float64), labels[rows])


def _digits_file() -> Path:
    """Find scikit-learn's bundled file without importing scikit-learn, which takes two seconds."""
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise FileNotFoundError("data set 'digits' is part of scikit-learn, which is not installed: install it")
    return Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"


def _images(name: str, split: str) -> _Rows:
    arrays = read_images(name)
    train, pixels = (arrays[key].reshape(len(arrays[key]), -1) for key in ("x_train", f"x_{split}"))
    # The 256 counts give the moments exactly, without a floating copy of all the images.
    counts = sum(np.bincount(image, minlength=256) for image in train)
    mean = np.average(np.arange(256), weights=counts)
    variance = np.average((np.arange(256) - mean) ** 2, weights=counts)
    if variance == 0:
        raise ValueError(f"x_train of data set {name!r} must not be constant, but all pixels are {mean:.0f}")
    return _Rows(_standardised(pixels, mean, variance**-0.5, np.float32), arrays[f"y_{split}"])


def _standardised(pixels: Array, mean: Any, scale: Any, dtype: type[np.floating[Any]]) -> Array:
    n, n_pixels = pixels.shape
    x = np.empty((n, n_pixels + 1), dtype)
    np.subtract(pixels, mean, out=x[:, :-1])
    x[:, :-1] *= scale / np.sqrt(n_pixels)
    x[:, -1] = 1
    return x


def _labelled(x: Array, labels: Array, classes: Array, target: Target) -> Empirical:
    """Encode integer ``labels``, all among the increasing ``classes``, as `load_dataset` describes."""
    kind = np.float32 if x.dtype == np.float32 else np.float64
    if labels.dtype.kind not in "iu":
        raise TypeError(f"target {target!r} needs integer class labels, got {labels.dtype}: convert with .astype(int)")
    if labels.size != len(x):
        raise ValueError(f"target {target!r} needs one class label a row, got y of shape {labels.shape}")
    labels = labels.ravel()
    if target == "one-hot":
        return Empirical(x, (labels[:, np.newaxis] == classes).astype(kind))
    if target == "sign":
        first_half = classes[: (len(classes) + 1) // 2]
        return Empirical(x, np.where(np.isin(labels, first_half), kind(1), kind(-1)))
    positive, negative = _checked_pair(target, classes.tolist())
    rows = np.isin(labels, (positive, negative))
    if not rows.any():
        raise ValueError(f"no sample of this split is of class {positive} or {negative}")
    return Empirical(x[rows], np.where(labels[rows] == positive, kind(1), kind(-1)))


def _checked_pair(target: Any, classes: list[int]) -> tuple[int, int]:
    is_pair = isinstance(target, tuple | list) and len(target) == 2 and target[0] != target[1]
    if not is_pair or not all(label in classes for label in target):
        raise ValueError(
            f"target must be 'one-hot', 'sign' or a pair of different classes of {classes}, got {target!r}"
        )
    return target[0], target[1]


def _read_table(path: Path, target_column: str | None) -> dict[str, _Rows]:
    kind = check_choice("file type", path.suffix.lower(), TABLE_TYPES)
    check_file(path)
    if kind == ".csv":
        return {"train": _read_csv(path, target_column)}
    if target_column is not None:
        raise ValueError(f"target_column={target_column!r} is for .csv files: in an .npz file the target is y")
    arrays = read_npz(path)
    keys = {"train": ("x", "y")} if "x" in arrays else {s: (f"x_{s}", f"y_{s}") for s in SPLITS}
    splits = {s: _Rows(arrays[x], arrays[y]) for s, (x, y) in keys.items() if x in arrays and y in arrays}
    if "train" not in splits:
        raise ValueError(
            f"{str(path)!r} must hold the arrays x and y, or x_train and y_train, but holds {sorted(arrays)}"
        )
    return splits


def _read_csv(path: Path, target_column: str | None) -> _Rows:
    try:
        frame = pd.read_csv(path, low_memory=False)
    except ValueError as error:
        raise ValueError(f"cannot read {str(path)!r}: {error}") from error
    columns = list(frame.columns)
    _check_header(path, columns)
    if frame.empty:
        raise ValueError(f"{str(path)!r} has no rows below its column names")
    target = columns[-1] if target_column is None else check_choice("target_column", target_column, columns)
    inputs = frame.drop(columns=target)
    if text := [name for name in inputs if not pd.api.types.is_numeric_dtype(inputs[name])]:
        raise ValueError(
            f"input columns of {str(path)!r} must be numeric, but {text} are not: "
            "drop them or encode them, e.g. by pandas.get_dummies"
        )
    if gaps := [name for name in columns if frame[name].isna().any()]:
        raise ValueError(f"columns {gaps} of {str(path)!r} have missing entries: fill or drop these first")
    return _Rows(inputs.to_numpy(np.float64), frame[target].to_numpy())


def _check_header(path: Path, columns: list[str]) -> None:
    """Raise if the first line holds numbers, which would be lost, or an index, which would be an input."""
    if len(columns) < 2:
        raise ValueError(f"{str(path)!r} must have at least one input column and a target, got {columns}")
    if numbers := [name for name in columns if _is_number(name)]:
        raise ValueError(f"the first line of {str(path)!r} must name the columns, got the numbers {numbers}")
    if unnamed := [name for name in columns if name.startswith("Unnamed:")]:
        raise ValueError(
            f"{str(path)!r} has columns without a name, {unnamed}: name them; "
            "if it is the index of a DataFrame, write it with index=False"
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
