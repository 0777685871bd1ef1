"""The laws that studies train on, by name or file: the isotropic Gaussians, data sets, and users' tables."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import numpy as np

from meanfield.checks import check_choice
from meanfield.model.datasets import DATASETS, TABLE_TYPES, find_data, standardise, table_splits
from meanfield.model.laws import Empirical, IsotropicGaussians, Law

__all__ = ["GAUSSIANS", "checked_digest", "held_out", "is_file", "law_of"]

GAUSSIANS = IsotropicGaussians(dim=32, delta=0.8)


def checked_digest(data: str, target: str | None) -> str | None:
    """Return the SHA-256 of a data set's training rows, or of a user's whole file; None for the Gaussians.

    ValueError, TypeError or FileNotFoundError where the data cannot be had or cannot be learnt.
    """
    if not is_file(data):
        check_choice("data set", data, ("gaussians", *DATASETS))
    digest = _digest(data, target)
    law_of(data, target, digest)
    if data != "gaussians":
        held_out(data, target, digest)
    return digest


@cache
def law_of(data: str, target: str | None, digest: str | None) -> Law:
    """Return the law of a data set's name or file; a file's columns are standardised like the digits' pixels.

    ``digest`` tells apart what one name or path holds at different times.
    """
    if data == "gaussians":
        if target is not None:
            raise ValueError(f"target {target!r} is for data sets; the Gaussians' labels are +1 and -1")
        return GAUSSIANS
    train = find_data(data, split="train", target=target)
    return standardise(train, train) if is_file(data) else train


@cache
def held_out(data: str, target: str | None, digest: str | None) -> Empirical | None:
    """Return the test split of a data set or file whose targets are classes; None where there is none."""
    if is_file(data) and "test" not in table_splits(data):
        return None
    test = find_data(data, split="test", target=target)
    if not _holds_classes(test):
        return None
    return standardise(test, find_data(data, split="train", target=target)) if is_file(data) else test


def _holds_classes(law: Empirical) -> bool:
    """Whether the targets are signs, or one-hot rows."""
    if law.n_outputs == 1:
        return bool((np.abs(law.y) == 1).all())
    return bool(np.isin(law.y, (0, 1)).all() and (law.y.sum(axis=1) == 1).all())


def is_file(data: str) -> bool:
    """Whether the data are named by the path of a table."""
    return Path(data).suffix.lower() in TABLE_TYPES


def _digest(data: str, target: str | None) -> str | None:
    if data == "gaussians":
        return None
    if is_file(data):
        return hashlib.sha256(Path(data).read_bytes()).hexdigest()[:16]
    law = find_data(data, split="train", target=target)
    return hashlib.sha256(law.x.tobytes() + law.y.tobytes()).hexdigest()[:16]
