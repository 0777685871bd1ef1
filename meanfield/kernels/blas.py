"""Matrix products from inside compiled code, and the guard that keeps them on one thread.

`numpy.dot` inside a kernel allocates a temporary for ``out += a @ b``; here the accumulating BLAS call itself is
used, through SciPy's C entry points, registered by name with LLVM so that kernels calling them can be cached.
OpenBLAS returns other bits at two threads than at one for some shapes: `single_threaded_blas` pins it.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

import llvmlite.binding
import scipy.linalg.cython_blas as cython_blas
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from threadpoolctl import ThreadpoolController

from meanfield.kernels._jit import jit

__all__ = ["add_product", "single_threaded_blas"]

_SYMBOLS = {types.float32: "meanfield_sgemm", types.float64: "meanfield_dgemm"}


def _address(name: str) -> int:
    """Address of SciPy's C entry point for the BLAS function ``name``."""
    api = ctypes.pythonapi
    api.PyCapsule_GetName.restype, api.PyCapsule_GetName.argtypes = ctypes.c_char_p, [ctypes.py_object]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    capsule = cython_blas.__pyx_capi__[name]
    return api.PyCapsule_GetPointer(capsule, api.PyCapsule_GetName(capsule))


for _symbol in _SYMBOLS.values():
    llvmlite.binding.add_symbol(_symbol, _address(_symbol.removeprefix("meanfield_")))


@intrinsic
def _gemm(typingctx, out, a, b, transpose_a, transpose_b, m, n, k, alpha, beta):
    """Column-major BLAS call for row-major operands: out^T = alpha op(b)^T op(a)^T + beta out^T."""
    signature = types.void(out, a, b, transpose_a, transpose_b, m, n, k, alpha, beta)

    def generate(context, builder, signature, values):
        int32, int8 = ir.IntType(32), ir.IntType(8)
        scalar = context.get_value_type(out.dtype)
        arrays = [
            context.make_array(kind)(context, builder, value)
            for kind, value in zip((out, a, b), values[:3], strict=True)
        ]

        def reference(value):
            return cgutils.alloca_once_value(builder, value)

        def integer(value):
            return reference(builder.trunc(value, int32))

        def flag(value):
            return reference(builder.select(value, ir.Constant(int8, ord("T")), ir.Constant(int8, ord("N"))))

        def leading(array):
            step = builder.sdiv(cgutils.unpack_tuple(builder, array.strides, 2)[0], array.itemsize)
            return integer(step)

        target, left, right = arrays
        arguments = [
            flag(values[4]), flag(values[3]), integer(values[6]), integer(values[5]), integer(values[7]),
            reference(values[8]), right.data, leading(right), left.data, leading(left),
            reference(values[9]), target.data, leading(target),
        ]  # fmt: skip
        pointer = scalar.as_pointer()
        byte, size = int8.as_pointer(), int32.as_pointer()
        function_type = ir.FunctionType(
            ir.VoidType(),
            [byte, byte, size, size, size, pointer, pointer, size, pointer, size, pointer, pointer, size],
        )
        gemm = cgutils.get_or_insert_function(builder.module, function_type, _SYMBOLS[out.dtype])
        builder.call(gemm, arguments)
        return context.get_dummy_value()

    return signature, generate


@jit
def add_product(out, a, b, transpose_a, transpose_b, rows, columns, inner):
    """Add op(a) op(b) to the leading ``rows x columns`` part of ``out``; rows of all three are contiguous.

    op(a) is ``rows x inner`` and op(b) ``inner x columns``, read from the leading parts of ``a`` and ``b``.
    """
    one = out.dtype.type(1)
    _gemm(out, a, b, transpose_a, transpose_b, rows, columns, inner, one, one)


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


class _Guard:
    """Counts the holders, so that the first one pins BLAS and only the last one releases it."""

    def __init__(self) -> None:
        self.lock, self.holders, self.stack = threading.Lock(), 0, ExitStack()

    def acquire(self) -> None:
        with self.lock:
            if self.holders == 0:
                self.stack.enter_context(_controller().limit(limits=1))
            self.holders += 1

    def release(self) -> None:
        with self.lock:
            self.holders -= 1
            if self.holders == 0:
                self.stack.close()


_GUARD = _Guard()


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Pin every BLAS of the process to one thread; nested and concurrent uses release it together."""
    _GUARD.acquire()
    try:
        yield
    finally:
        _GUARD.release()
