"""What memory a study will need, said before it starts."""

from __future__ import annotations

from collections.abc import Iterable

from meanfield.kernels.threads import available_threads
from meanfield.landscape.dropout_moments import STRIP
from meanfield.model.network import CHUNK

__all__ = ["array_bytes", "expected_memory"]

# Interpreter, libraries and compiled kernels: 235 MB resident on Linux.
PROCESS_BYTES = 0.24e9


def array_bytes(dim: int, n_neurons: int, n_outputs: int, n_samples: int, *, itemsize: int = 8) -> float:
    """Estimate the bytes of arrays that training and measuring a network takes at its peak, on one thread.

        (2 CHUNK + 3 STRIP) N + 4 N (d + C) + 2 n (d + C)        numbers

    Features of a chunk of samples and their products, strips of rows of the pair matrix with their factors, the
    weights with their copies, and the n samples. Numbers of `itemsize` bytes. Within a factor 2 from N = 64 on.
    """
    ends = dim + n_outputs
    return itemsize * (n_neurons * (2 * CHUNK + 3 * STRIP + 4 * ends) + 2 * n_samples * ends)


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
