"""Vector instructions for kernels that are emitted, where no compiler turns loops over numbers into the best ones."""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

__all__ = ["LANE_BYTES", "VECTORS_PER_RUN", "Lanes"]

LANE_BYTES = 64

# Vectors that a loop over neurons works on side by side, lest each wait for its own last addition.
VECTORS_PER_RUN = 4


class Lanes:
    """Emits loads, stores and arithmetic for vectors of one kind of number."""

    def __init__(self, context, builder, kind):
        self.builder, self.scalar = builder, context.get_value_type(kind)
        self.size = kind.bitwidth // 8
        self.lanes = LANE_BYTES // self.size
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.zero = ir.Constant(self.vector, None)

    def place(self, data, offset):
        """Pointer to the vector that begins ``offset`` numbers into ``data``."""
        return self.builder.bitcast(self.builder.gep(data, [offset]), self.vector.as_pointer())

    def load(self, place):
        """Load a vector that need not be aligned to its own size."""
        return self.builder.load(place, align=self.size)

    def store(self, value, place):
        """Store a vector that need not be aligned to its own size."""
        self.builder.store(value, place, align=self.size)

    def load_all(self, places):
        """Load a vector from each of the places."""
        return [self.load(place) for place in places]

    def store_all(self, values, places):
        """Store each of the vectors in its place."""
        for value, place in zip(values, places, strict=True):
            self.store(value, place)

    def variable(self, value):
        """Return a register that begins as the vector ``value`` and may change in a loop."""
        return cgutils.alloca_once_value(self.builder, value)

    def multiply_add(self, a, b, c):
        """Return a b + c, in one instruction where the processor has it."""
        product = self.builder.fmul(a, b, flags=("contract",))
        return self.builder.fadd(product, c, flags=("contract",))

    def add_product(self, total, a, b):
        """Add a b to the register ``total``."""
        self.builder.store(self.multiply_add(a, b, self.builder.load(total)), total)

    def splat(self, scalar):
        """Put one number into every lane."""
        vector, numbers = ir.VectorType(scalar.type, self.lanes), ir.VectorType(ir.IntType(32), self.lanes)
        single = self.builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.IntType(32)(0))
        return self.builder.shuffle_vector(single, single, ir.Constant(numbers, None))

    def splat_from(self, data, offset):
        """Load the number ``offset`` numbers into ``data`` into every lane."""
        return self.splat(self.builder.load(self.builder.gep(data, [offset])))

    def leading(self, vector, count):
        """Return the vector with zeros from lane ``count`` on."""
        numbers = ir.VectorType(ir.IntType(32), self.lanes)
        lane, end = ir.Constant(numbers, list(range(self.lanes))), self.splat(self.builder.trunc(count, ir.IntType(32)))
        return self.builder.select(self.builder.icmp_signed("<", lane, end), vector, self.zero)

    def minimum(self, a, b):
        """Return the smaller number in each lane, or ``a`` where one is NaN."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), b, a)

    def maximum(self, a, b):
        """Return the larger number in each lane, or ``a`` where one is NaN."""
        return self.builder.select(self.builder.fcmp_ordered("<", a, b), b, a)

    def sum(self, vectors):
        """Return the sum of all lanes of a power of two of vectors, in a fixed order."""
        while len(vectors) > 1:
            vectors = [self.builder.fadd(a, b) for a, b in zip(vectors[::2], vectors[1::2], strict=True)]
        name = f"llvm.vector.reduce.fadd.v{self.lanes}f{8 * self.size}"
        kind = ir.FunctionType(self.scalar, [self.scalar, self.vector])
        reduction = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(reduction, [self.scalar(0.0), vectors[0]], fastmath=("reassoc",))
