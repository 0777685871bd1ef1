"""Update and product in one pass over the weights, for networks whose inner weights fit the caches.

With few inputs the two matrix products of a block are too thin to run at their full rate. Here each vector of weights
is loaded once, moved by the updates of eight past samples, stored, and multiplied into the pre-activations of eight
coming samples while it is still in a register: sixteen multiply-adds a load and a store. Neurons lie along the lanes,
and the weights of one vector of neurons one after the other: with rows of whole tiles instead, a load in float64 waits
for the store before it, whose address ends in the same twelve bits. A bias is the weight of one more input, always 1.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from meanfield.kernels._jit import jit
from meanfield.kernels.lanes import Lanes

__all__ = ["FUSED_SAMPLES", "update_and_multiply"]

FUSED_SAMPLES = 8


@intrinsic
def _pass_over_weights(typingctx, coefficients, weights, past, coming, shrink):
    """Generate the loop; see `update_and_multiply`."""
    signature = types.void(coefficients, weights, past, coming, shrink)

    def generate(context, builder, signature, values):
        kinds = signature.args[:4]
        arrays = [context.make_array(kind)(context, builder, value) for kind, value in zip(kinds, values, strict=False)]
        _, width = cgutils.unpack_tuple(builder, arrays[0].shape, 2)
        vectors, dim, _ = cgutils.unpack_tuple(builder, arrays[1].shape, 3)
        _Generator(context, builder, kinds[0].dtype, arrays, width).loops(vectors, dim, values[4])
        return context.get_dummy_value()

    return signature, generate


class _Generator(Lanes):
    """Emits the loop for weights that shrink, and for those that do not."""

    def __init__(self, context, builder, kind, arrays, width):
        super().__init__(context, builder, kind)
        self.width = width
        self.rows, self.weights, self.past, self.coming = (array.data for array in arrays)

    def loops(self, vectors, dim, shrink):
        """Emit the loops for weights that shrink, and for those that do not and can do without a multiplication."""
        one = ir.Constant(shrink.type, 1)
        with self.builder.if_else(self.builder.fcmp_ordered("==", shrink, one)) as (constant, shrinking):
            with constant:
                self.loop_over_neurons(vectors, dim, None)
            with shrinking:
                self.loop_over_neurons(vectors, dim, self.splat(shrink))

    def loop_over_neurons(self, vectors, dim, factor):
        """Emit the loop over vectors of neurons around the loop over inputs."""
        builder = self.builder
        sums = [cgutils.alloca_once(builder, self.vector) for _ in range(FUSED_SAMPLES)]
        lanes = vectors.type(self.lanes)
        with cgutils.for_range(builder, vectors) as vector:
            neuron = builder.mul(vector.index, lanes)
            places = [
                self.place(self.rows, builder.add(builder.mul(vectors.type(k), self.width), neuron))
                for k in range(FUSED_SAMPLES)
            ]
            moves = self.load_all(places)
            for total in sums:
                builder.store(self.zero, total)
            first = builder.mul(vector.index, dim)
            with cgutils.for_range(builder, dim) as loop:
                place = self.place(self.weights, builder.mul(builder.add(first, loop.index), lanes))
                weight = self.moved(self.load(place), moves, list(self.samples(self.past, loop.index)))
                if factor is not None:
                    weight = builder.fmul(weight, factor)
                self.store(weight, place)
                for total, value in zip(sums, self.samples(self.coming, loop.index), strict=True):
                    self.add_product(total, weight, value)
            self.store_all([builder.load(total) for total in sums], places)

    def moved(self, weight, moves, values):
        """Return the weights after the updates, in two chains of additions that do not wait for each other."""
        half = FUSED_SAMPLES // 2
        change = self.builder.fmul(moves[half], values[half])
        for move, value in zip(moves[:half], values[:half], strict=True):
            weight = self.multiply_add(move, value, weight)
        for move, value in zip(moves[half + 1 :], values[half + 1 :], strict=True):
            change = self.multiply_add(move, value, change)
        return self.builder.fadd(weight, change)

    def samples(self, data, component):
        """Load one component of all eight samples, each into every lane of a vector."""
        first = self.builder.mul(component, component.type(FUSED_SAMPLES))
        for k in range(FUSED_SAMPLES):
            yield self.splat_from(data, self.builder.add(first, component.type(k)))


@jit
def update_and_multiply(coefficients, weights, past, coming, shrink):
    """Apply the updates of eight past samples and form the products with eight coming ones.

        W <- shrink (W + sum_k past_k c_k^T),      then c_k <- coming_k W

    Parameters
    ----------
    coefficients : (8, T) c_k on entry, products on return
    weights : (V, d, lanes), of V lanes <= T neurons, overwritten
    past, coming : (d, 8)
    """
    _pass_over_weights(coefficients, weights, past, coming, shrink)
