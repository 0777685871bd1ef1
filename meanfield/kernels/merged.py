"""One pass over a tile's neurons from the error signal of a sample to its outputs for the next.

Between the error signal e_j and the barrier of step j + 1 no neuron needs another. For samples taken one by one, one
output and a piecewise linear activation, all that a neuron does there is a few operations:

    c_j = e_j a sigma'(z_j),   a <- a + e_j sigma(z_j),   z_{j+1} <- z_{j+1} + sum_{k <= j} G_{j+1,k} c_k,

and a sigma(z_{j+1}), added up over the neurons. Here they are done in registers: c_j, a and z_{j+1} are all that is
stored. Passes over one array after the other store features and slopes too and load most numbers again, which with few
inputs is up to a third of the products with the inner weights.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from meanfield.kernels._jit import jit
from meanfield.kernels.activations import RELU
from meanfield.kernels.lanes import VECTORS_PER_RUN, Lanes

__all__ = ["merged_pass"]

INDEX = ir.IntType(64)


class _Relu:
    """Emits max(z, 0) and its slope for vectors of neurons."""

    def __init__(self, lanes, *_):
        self.lanes, self.builder, self.zero = lanes, lanes.builder, lanes.zero

    def values(self, inputs, _):
        """Return sigma(z)."""
        return [self.lanes.maximum(z, self.zero) for z in inputs]

    def times_slopes(self, factors, inputs):
        """Return the factors times sigma'(z)."""
        pairs = zip(factors, inputs, strict=True)
        return [self.builder.select(self.builder.fcmp_ordered(">", z, self.zero), f, self.zero) for f, z in pairs]


class _PiecewiseLinear:
    """Emits the sums of `meanfield.kernels.activations` for vectors of neurons, zeros for those that fill up a tile."""

    def __init__(self, lanes, knots, slopes, level, n_neurons):
        self.lanes, self.builder, self.n_neurons = lanes, lanes.builder, n_neurons
        (self.n_knots,) = cgutils.unpack_tuple(self.builder, knots.shape, 1)
        self.knots, self.slopes, self.level = knots.data, slopes.data, level.data

    def values(self, inputs, neurons):
        """Return sigma(z)."""
        lanes, builder = self.lanes, self.builder
        totals = [lanes.variable(self.outer_pieces(z)) for z in inputs]
        with cgutils.for_range(builder, self.n_knots, start=INDEX(1)) as knot:
            low = lanes.splat_from(self.knots, builder.sub(knot.index, INDEX(1)))
            high, rise = (lanes.splat_from(data, knot.index) for data in (self.knots, self.slopes))
            for z, total in zip(inputs, totals, strict=True):
                clipped = lanes.maximum(lanes.minimum(z, high), low)
                lanes.add_product(total, rise, builder.fsub(clipped, low))
        counts = [builder.sub(self.n_neurons, neuron) for neuron in neurons]
        return [lanes.leading(builder.load(total), count) for total, count in zip(totals, counts, strict=True)]

    def outer_pieces(self, z):
        """Return what the pieces before the first and after the last knot add up to."""
        lanes, builder = self.lanes, self.builder
        first, last = INDEX(0), builder.sub(self.n_knots, INDEX(1))
        below = lanes.minimum(builder.fsub(z, lanes.splat_from(self.knots, first)), lanes.zero)
        above = lanes.maximum(builder.fsub(z, lanes.splat_from(self.knots, last)), lanes.zero)
        left, right = (lanes.splat_from(self.slopes, piece) for piece in (first, self.n_knots))
        value = lanes.multiply_add(left, below, lanes.splat_from(self.level, first))
        return lanes.multiply_add(right, above, value)

    def times_slopes(self, factors, inputs):
        """Return the factors times sigma'(z)."""
        lanes, builder = self.lanes, self.builder
        slopes = [lanes.variable(lanes.splat_from(self.slopes, INDEX(0))) for _ in inputs]
        with cgutils.for_range(builder, self.n_knots) as loop:
            knot = lanes.splat_from(self.knots, loop.index)
            after = lanes.splat_from(self.slopes, builder.add(loop.index, INDEX(1)))
            for z, slope in zip(inputs, slopes, strict=True):
                beyond = builder.fcmp_ordered(">", z, knot)
                builder.store(builder.select(beyond, after, builder.load(slope)), slope)
        return [builder.fmul(factor, builder.load(slope)) for factor, slope in zip(factors, slopes, strict=True)]


class _Pass(Lanes):
    """Emits the loop over the neurons of a tile; see `merged_pass`."""

    def __init__(self, context, builder, kind, arrays, scalars, activation):
        super().__init__(context, builder, kind)
        rows, weights, gram, knots, slopes, level = arrays
        self.rows, self.weights, self.gram = rows.data, weights.data, gram.data
        _, self.width = cgutils.unpack_tuple(builder, rows.shape, 2)
        _, self.gram_width = cgutils.unpack_tuple(builder, gram.shape, 2)
        self.step, self.steps, push, n_neurons = scalars
        self.push, self.next = self.splat(push), builder.add(self.step, INDEX(1))
        self.activation = activation(self, knots, slopes, level, n_neurons)

    def loops(self):
        """Emit the loop over the neurons for a step between two others, and for the first and the last; see `loop`."""
        builder, outputs = self.builder, cgutils.alloca_once_value(self.builder, self.scalar(0.0))
        starts = builder.icmp_signed("<", self.step, INDEX(0))
        ends = builder.icmp_signed(">=", self.next, self.steps)
        with builder.if_else(ends) as (at_the_end, before):
            with at_the_end:
                self.loop(True, False)
            with before, builder.if_else(starts) as (at_the_start, between):
                with at_the_start:
                    builder.store(self.loop(False, True), outputs)
                with between:
                    builder.store(self.loop(True, True), outputs)
        return builder.load(outputs)

    def loop(self, goes_back, goes_on):
        """Emit a loop backward through the step, forward through the next one, or both; return the outputs."""
        builder, run = self.builder, INDEX(VECTORS_PER_RUN * self.lanes)
        totals = [self.variable(self.zero) for _ in range(VECTORS_PER_RUN)]
        with cgutils.for_range(builder, builder.sdiv(self.width, run)) as loop:
            first = builder.mul(loop.index, run)
            neurons = [builder.add(first, INDEX(k * self.lanes)) for k in range(VECTORS_PER_RUN)]
            weights, moves = self.load_all(self.places(self.weights, neurons)), None
            if goes_back:
                weights, moves = self.backward(neurons, weights)
            if goes_on:
                features = self.forward(neurons, moves)
                for total, weight, feature in zip(totals, weights, features, strict=True):
                    self.add_product(total, weight, feature)
        return self.sum([builder.load(total) for total in totals])

    def backward(self, neurons, weights):
        """Return the output weights after the step and its coefficients; store both."""
        inputs = self.load_all(self.row(self.step, neurons))
        moves = self.activation.times_slopes([self.builder.fmul(self.push, weight) for weight in weights], inputs)
        pairs = zip(self.activation.values(inputs, neurons), weights, strict=True)
        weights = [self.multiply_add(self.push, feature, weight) for feature, weight in pairs]
        self.store_all(moves, self.row(self.step, neurons))
        self.store_all(weights, self.places(self.weights, neurons))
        return weights, moves

    def forward(self, neurons, moves):
        """Return the features of the next step, whose inputs the step's coefficients and all earlier ones correct."""
        places = self.row(self.next, neurons)
        inputs = self.load_all(places)
        if moves is not None:
            inputs = self.corrected(inputs, neurons, moves)
            self.store_all(inputs, places)
        return self.activation.values(inputs, neurons)

    def corrected(self, inputs, neurons, moves):
        """Return the next step's inputs plus its products with earlier samples times their coefficients."""
        inputs = [self.variable(z) for z in inputs]
        row = self.builder.mul(self.next, self.gram_width)
        self.correct(inputs, self.builder.add(row, self.step), moves)
        with cgutils.for_range(self.builder, self.step) as past:
            self.correct(inputs, self.builder.add(row, past.index), self.load_all(self.row(past.index, neurons)))
        return [self.builder.load(z) for z in inputs]

    def correct(self, inputs, entry, moves):
        """Add an entry of the Gram matrix times a step's coefficients."""
        factor = self.splat_from(self.gram, entry)
        for z, move in zip(inputs, moves, strict=True):
            self.add_product(z, factor, move)

    def row(self, step, neurons):
        """Return the places of the neurons' numbers of a step."""
        start = self.builder.mul(step, self.width)
        return self.places(self.rows, [self.builder.add(start, neuron) for neuron in neurons])

    def places(self, data, offsets):
        """Return the places of the vectors that begin so far into ``data``."""
        return [self.place(data, offset) for offset in offsets]


def _emitted(activation):
    """Return the pass for one kind of activation, to be called from compiled code; see `merged_pass`."""

    @intrinsic
    def emit(typingctx, coefficients, weights, gram, knots, slopes, level, step, steps, push, n_neurons):
        kinds = (coefficients, weights, gram, knots, slopes, level, step, steps, push, n_neurons)

        def generate(context, builder, signature, values):
            pairs = zip(kinds[:6], values[:6], strict=True)
            arrays = [context.make_array(kind)(context, builder, value) for kind, value in pairs]
            return _Pass(context, builder, coefficients.dtype, arrays, values[6:], activation).loops()

        return coefficients.dtype(*kinds), generate

    return emit


_relu_pass, _piecewise_linear_pass = _emitted(_Relu), _emitted(_PiecewiseLinear)


# Not inlined: in the loop over steps it would leave fewer registers to the passes of other runs.
@jit
def merged_pass(coefficients, weights, gram, activation, step, steps, push, n_neurons):
    """Go back through ``step`` and on to the next one, as far as either is among the ``steps`` of the block.

    Parameters
    ----------
    coefficients : (S, T) c_k for k < step, then pre-activations, of which ``step`` becomes c and the next is corrected
    weights : (T,) output weights a, overwritten
    gram : (S, S)
    activation : piecewise linear
    step : -1 before the first
    push : step size times e_j
    n_neurons : those beyond, which fill up the tile, stay zero

    Returns
    -------
    sum of a sigma(z) of the next step, or 0 after the last
    """
    code, knots, slopes, level = activation
    if code == RELU:
        return _relu_pass(coefficients, weights, gram, knots, slopes, level, step, steps, push, n_neurons)
    return _piecewise_linear_pass(coefficients, weights, gram, knots, slopes, level, step, steps, push, n_neurons)
