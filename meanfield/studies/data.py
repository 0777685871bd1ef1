"""The laws that studies train on, by name or file: the isotropic Gaussians, data sets, and users' tables."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from meanfield.checks import check_choice, check_file
from meanfield.model.datasets import DATASETS, TABLE_TYPES, find_data, standardise, table_splits
from meanfield.model.laws import IsotropicGaussians, Law

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
def held_out(data: str, target: str | None, digest: str | None) -> Law | None:
    """Return the law that is tested on: the test split of a data set or file, None where a file has none."""
    if data == "gaussians":
        return GAUSSIANS
    if is_file(data) and "test" not in table_splits(data):
        return None
    test = find_data(data, split="test", target=target)
    return standardise(test, find_data(data, split="train", target=target)) if is_file(data) else test


def is_file(data: str) -> bool:
    """Whether the data are named by the path of a table."""
    return Path(data).suffix.lower() in TABLE_TYPES


def _digest(data: str, target: str | None) -> str | None:
    if data == "gaussians":
        return None
    if is_file(data):
        return hashlib.sha256(check_file(data).read_bytes()).hexdigest()[:16]
    law = find_data(data, split="train", target=target)
    return hashlib.sha256(law.x.tobytes() + law.y.tobytes()).hexdigest()[:16]
