"""The laws that studies train and test on, by the name or file of their data."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from meanfield.model.datasets import TABLE_TYPES, find_data, standardise, table_splits
from meanfield.model.laws import IsotropicGaussians, Law

__all__ = ["GAUSSIANS", "digest_of", "held_out_law", "is_file", "training_law"]

GAUSSIANS = IsotropicGaussians(dim=32, delta=0.8)


@cache
def training_law(data: str, target: str | None, digest: str | None) -> Law:
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
def held_out_law(data: str, target: str | None, digest: str | None) -> Law | None:
    """Return the law that is tested on; None for a user's file without a test split."""
    if data == "gaussians":
        return GAUSSIANS
    if is_file(data) and "test" not in table_splits(data):
        return None
    test = find_data(data, split="test", target=target)
    return standardise(test, find_data(data, split="train", target=target)) if is_file(data) else test


def is_file(data: str) -> bool:
    """Tell a user's file from a name."""
    return Path(data).suffix.lower() in TABLE_TYPES


def digest_of(data: str, target: str | None) -> str | None:
    """Return the SHA-256 of a data set's training rows, or of a user's whole file; None for the Gaussians."""
    if data == "gaussians":
        return None
    if is_file(data):
        return hashlib.sha256(Path(data).read_bytes()).hexdigest()[:16]
    law = find_data(data, split="train", target=target)
    return hashlib.sha256(law.x.tobytes() + law.y.tobytes()).hexdigest()[:16]
