"""Threads of our own inside compiled code: a barrier on an atomic counter, and who works on which tiles.

A step of SGD is a few microseconds long and needs all neurons' outputs at its middle. Entering a parallel region
at every step would cost as much as the step; instead each thread runs the whole loop and meets the others here.
"""

from __future__ import annotations

import os

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from meanfield.kernels._jit import jit

__all__ = ["available_threads", "spread_out", "wait_for_all"]

# Spinning for longer than about 20 microseconds means that another process has the core: give ours up too.
SPINS_BEFORE_YIELD = 4000

_sched_yield = types.ExternalFunction("sched_yield", types.int32())


def available_threads() -> int:
    """Number of threads a call may use: ``$MEANFIELD_NUM_THREADS`` or the CPUs this process may run on."""
    setting = os.environ.get("MEANFIELD_NUM_THREADS")
    if setting is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not setting.isdigit() or int(setting) < 1:
        raise ValueError(f"MEANFIELD_NUM_THREADS must be a positive integer, got {setting!r}")
    return int(setting)


def spread_out(thread: int, n_threads: int) -> None:
    """Move the calling thread, number ``thread`` of a team, to a processor apart from the others', and leave it free.

    A team that is woken on one processor otherwise spins there in turns until the scheduler notices, for milliseconds.
    Teams of other processes begin elsewhere.
    """
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {allowed[(os.getpid() * n_threads + thread) % len(allowed)]})
        os.sched_setaffinity(0, allowed)


def _counter(context, builder, kind, value):
    return context.make_array(kind)(context, builder, value).data


@intrinsic
def _fetch_add(typingctx, counter):
    """Add one to ``counter[0]`` atomically and return what it was."""

    def generate(context, builder, signature, values):
        address = _counter(context, builder, signature.args[0], values[0])
        return builder.atomic_rmw("add", address, ir.Constant(ir.IntType(64), 1), "seq_cst")

    return types.int64(counter), generate


@intrinsic
def _load(typingctx, counter):
    """Read ``counter[0]``, seeing all that other threads wrote before they added to it."""

    def generate(context, builder, signature, values):
        address = _counter(context, builder, signature.args[0], values[0])
        return builder.load_atomic(address, "seq_cst", 8)

    return types.int64(counter), generate


@jit
def wait_for_all(counter, n_threads):
    """Return once each of ``n_threads`` threads has come here as often as the caller; counter is (1,) int64."""
    if n_threads == 1:
        return
    round_end = (_fetch_add(counter) // n_threads + 1) * n_threads
    spins = 0
    while _load(counter) < round_end:
        spins += 1
        if spins > SPINS_BEFORE_YIELD:
            _sched_yield()
