"""Loops over one row of numbers, inlined where they are used."""

from __future__ import annotations

from meanfield.kernels._jit import jit_inline, jit_sum

__all__ = ["add_multiple", "copy", "dot", "scale"]


@jit_inline
def add_multiple(target, source, multiple):
    """Add ``multiple`` times ``source`` to ``target``, as far as both reach."""
    for i in range(min(target.size, source.size)):
        target[i] += multiple * source[i]


@jit_sum
def dot(a, b):
    """Return the sum of products, in an order of the compiler's."""
    total = a.dtype.type(0)
    for i in range(a.size):
        total += a[i] * b[i]
    return total


@jit_inline
def copy(target, source):
    """Write ``source`` into ``target``, as far as both reach."""
    for i in range(min(target.size, source.size)):
        target[i] = source[i]


@jit_inline
def scale(values, factor):
    """Multiply ``values`` by ``factor``."""
    for i in range(values.size):
        values[i] *= factor
