"""The work that every contestant does: SGD of a network of any depth, from given weights on given samples.

With weights W_l (n_{l+1}, n_l), l = 0..H, all trained, no biases, square loss, mean-field scaling, step size s; in a
step on the samples of a batch of B, f_0 = 1 and f_l = 1 / n_l for l >= 1:

    h_0 = x,   z_l = f_l W_l h_l,   h_{l+1} = sigma(z_l),   y_hat = z_H
    c_H = (2 s / B) (y - y_hat),   c_{l-1} = q_l (W_l^T c_l) sigma'(z_{l-1}),   W_l += sum over the batch of c_l h_l^T

all from the values before the step, with q_H = 1 and q_l = 1 / n_{l+1} for l < H: the gradient times the widths that a
weight is averaged over. Samples are read from memory in order; drawing them is nobody's work.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Cell", "Contestant", "Task", "Weights", "draw_task"]

Array = NDArray[np.floating[Any]]
Weights = tuple[Array, ...]


@dataclass(frozen=True)
class Cell:
    """A network to be trained, all hidden layers of the same width, and the samples of a step."""

    n_neurons: int
    dim: int
    n_outputs: int = 1
    activation: str = "relu"
    dtype: str = "float32"
    n_hidden: int = 1
    batch_size: int = 1

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths from the inputs to the outputs."""
        return self.dim, *[self.n_neurons] * self.n_hidden, self.n_outputs

    @property
    def label(self) -> str:
        """Name of the cell, its precision apart."""
        batch = f", batches of {self.batch_size}" if self.batch_size > 1 else ""
        if self.n_hidden > 1:
            return f"{self.widths} {self.activation}{batch}"
        outputs = f", {self.n_outputs} outputs" if self.n_outputs > 1 else ""
        return f"({self.n_neurons}, {self.dim}) {self.activation}{outputs}{batch}"

    @property
    def first_operations(self) -> int:
        """Floating-point operations of a step in its two products with the first weights, 4 N d a sample."""
        return 4 * self.n_neurons * self.dim * self.batch_size

    @property
    def later_weights(self) -> int:
        """Numbers in the weights between hidden layers, (H - 1) N^2."""
        return (self.n_hidden - 1) * self.n_neurons**2

    @property
    def blocked_operations(self) -> int:
        """Of `operations` those that many steps share: with the first weights, and the update of the others."""
        return self.first_operations + 2 * self.later_weights * self.batch_size

    @property
    def operations(self) -> int:
        """Floating-point operations of a step in its products with the weights of hidden layers.

        Two products with the first ones and three with the others: 4 N d + 6 (H - 1) N^2 a sample.
        """
        return self.first_operations + 6 * self.later_weights * self.batch_size


@dataclass(frozen=True)
class Task:
    """Start, samples x (n, d) and y (n, C), n a multiple of the batch size, and step size."""

    cell: Cell
    start: Weights
    x: Array
    y: Array
    step_size: float

    @property
    def n_steps(self) -> int:
        """Steps in a pass over the samples."""
        return len(self.x) // self.cell.batch_size


class Contestant(Protocol):
    """Trains its own copy of a task's start."""

    def advance(self, n_passes: int) -> None:
        """Take a step a batch, all samples in order, ``n_passes`` times; return when the weights are there."""

    def weights(self) -> Weights:
        """Return the present weights."""


def draw_task(cell: Cell, n_steps: int, step_size: float = 0.01, seed: int = 0) -> Task:
    """Draw standard normal weights and targets, and inputs of length about 1."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(cell.dtype)

    start = tuple(normal(n_out, n_in) for n_in, n_out in pairwise(cell.widths))
    n_samples = n_steps * cell.batch_size
    x = normal(n_samples, cell.dim) / np.sqrt(cell.dim, dtype=cell.dtype)
    return Task(cell, start, x, normal(n_samples, cell.n_outputs), step_size)
