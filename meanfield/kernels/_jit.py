"""The one place that knows how kernels are compiled and where the compiled code is kept.

Numba's own cache checks only the file of the cached function: after an edit to a helper in another file it
serves stale arithmetic. Here the cache folder is named by a hash of every kernel source and of the versions of
Numba, llvmlite and NumPy, so that any change starts an empty folder. A folder that cannot be written costs a
compilation in each process, never an import error.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
from functools import cache
from pathlib import Path

import llvmlite
import numba
import numpy as np
import platformdirs
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator

__all__ = ["CONTRACT", "cache_folder", "jit", "jit_inline", "jit_sum", "jit_view"]

# nnan and ninf are never allowed: divergence would go unnoticed.
CONTRACT = {"contract"}


@cache
def _source_hash(folder: Path = Path(__file__).parent) -> str:
    digest = hashlib.sha256("|".join((numba.__version__, llvmlite.__version__, np.__version__)).encode())
    for source in sorted(folder.glob("*.py")):
        digest.update(source.name.encode())
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


@cache
def cache_folder() -> Path | None:
    """Folder of the compiled kernels: ``$MEANFIELD_CACHE`` or the platform's; None where it cannot be written."""
    base = Path(os.environ.get("MEANFIELD_CACHE") or platformdirs.user_cache_dir("meanfield"))
    folder = base / f"kernels-{_source_hash()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".write-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        logging.getLogger("meanfield").warning(
            "kernels are compiled anew in each process: cannot write to %s (%s); set MEANFIELD_CACHE", folder, error
        )
        return None
    return folder


class _Locator(_CacheLocator):
    """Places a function's compiled code in `cache_folder`, stamped by the hash of all kernel sources."""

    def __init__(self, py_func, py_file):
        self._line = py_func.__code__.co_firstlineno

    def get_cache_path(self):
        return str(cache_folder())

    def get_source_stamp(self):
        return _source_hash()

    def get_disambiguator(self):
        return str(self._line)

    @classmethod
    def from_function(cls, py_func, py_file):
        return cls(py_func, py_file)


class _CacheImpl(CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012 - the type that Numba declares


class _KernelCache(FunctionCache):
    """A cache whose faults cost a compilation and never a call."""

    _impl_class = _CacheImpl

    def load_overload(self, sig, target_context):
        """Return the compiled code, or None where there is none or it cannot be read."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:
            logging.getLogger("meanfield").warning("a compiled kernel cannot be read and is made anew: %s", error)
            return None

    def save_overload(self, sig, data):
        """Keep the compiled code; processes take turns, lest one's index name another's code."""
        try:
            with (cache_folder() / "lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                super().save_overload(sig, data)
        except OSError as error:
            logging.getLogger("meanfield").warning("a compiled kernel cannot be kept: %s", error)


def _compile(function, fastmath, forceinline=False):
    # Without Numba's runtime, which would count the references to every slice by atomic operations: a third of the
    # time of a step at (N, d) = (1000, 32). The price is that kernels cannot allocate.
    dispatcher = numba.njit(nogil=True, error_model="numpy", fastmath=fastmath, _nrt=False, forceinline=forceinline)(
        function
    )
    if cache_folder() is not None and not numba.config.DISABLE_JIT:
        dispatcher._cache = _KernelCache(function)
    return dispatcher


def jit(function):
    """Compile ``function`` without the interpreter lock, on NumPy's error model, cached across processes."""
    return _compile(function, CONTRACT)


def jit_sum(function):
    """Compile like `jit`, with the order of summation left free, so that sums run along the vector lanes."""
    return _compile(function, CONTRACT | {"reassoc"})


def jit_inline(function):
    """Compile like `jit`, for a helper that is to vanish in its callers: passing it arrays would cost as much as it."""
    return _compile(function, CONTRACT, forceinline=True)


def jit_view(function):
    """Copy the body of ``function``, which makes a view, into its callers: compiled kernels cannot return arrays."""
    return numba.njit(inline="always", _nrt=False)(function)
