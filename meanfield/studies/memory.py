"""What memory a study will need, said before it starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from meanfield.kernels.threads import available_threads
from meanfield.landscape.dropout_moments import STRIP
from meanfield.model.network import CHUNK

__all__ = ["array_bytes", "expected_memory"]

# Interpreter, libraries and compiled kernels: 235 MB resident on Linux.
PROCESS_BYTES = 0.24e9


def array_bytes(widths: Sequence[int], n_samples: int, *, itemsize: int = 8) -> float:
    """Estimate the bytes of arrays that training and measuring a network takes at its peak, on one thread.

        (2 CHUNK + 3 STRIP) max(n_1, .., n_H) + 4 (number of weights) + 2 n (d + C)        numbers

    Features of a chunk of samples and their products, strips of rows of the pair matrix with their factors, the
    weights with their copies, and the n samples. Numbers of `itemsize` bytes. Within a factor 2 from N = 64 on.

    Parameters
    ----------
    widths : (d, n_1, .., n_H, C)
    n_samples : n, held at once
    """
    n_weights = sum(before * after for before, after in pairwise(widths))
    features = (2 * CHUNK + 3 * STRIP) * max(widths[1:-1])
    return itemsize * (features + 4 * n_weights + 2 * n_samples * (widths[0] + widths[-1]))


def expected_memory(arrays: Iterable[float], n_workers: int) -> str:
    """Say in one line what runs of these `array_bytes` need, ``n_workers`` processes at a time.

    The largest count, should they meet. Workers have one thread each; a single one is this process, with all threads.
    """
    largest = sorted(arrays, reverse=True)[:n_workers]
    together = sum(largest) * (available_threads() if n_workers == 1 else 1)
    n_processes = len(largest) + (n_workers > 1)
    return (
        f"expected memory: {(n_processes * PROCESS_BYTES + together) / 1e9:.2g} GB at most "
        f"(processes {n_processes} x {PROCESS_BYTES / 1e9:.2g} GB, arrays {together / 1e9:.2g} GB)"
    )
