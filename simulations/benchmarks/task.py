"""The work that every contestant does: one-sample SGD of a two-layer network, from given weights on given samples.

With W (N, d), A (C, N), both trained, no biases, square loss, mean-field scaling, step size s:

    z = W x,   h = sigma(z),   e = 2 s (y - A h / N),   c = (A^T e) sigma'(z),   A += e h^T,   W += c x^T

all from the values before the step. Samples are read from memory in order; drawing them is nobody's work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Cell", "Contestant", "Task", "Weights", "draw_task"]

Array = NDArray[np.floating[Any]]


class Weights(NamedTuple):
    """Arrays of shape (N, d) and (C, N)."""

    inner: Array
    outer: Array


@dataclass(frozen=True)
class Cell:
    """A network to be trained."""

    n_neurons: int
    dim: int
    n_outputs: int = 1
    activation: str = "relu"
    dtype: str = "float32"

    @property
    def operations(self) -> int:
        """Floating-point operations of a step in its two products with the inner weights, 4 N d."""
        return 4 * self.n_neurons * self.dim


@dataclass(frozen=True)
class Task:
    """Start, samples x (n, d) and y (n, C), and step size."""

    cell: Cell
    start: Weights
    x: Array
    y: Array
    step_size: float


class Contestant(Protocol):
    """Trains its own copy of a task's start."""

    def advance(self, n_passes: int) -> None:
        """Take a step a sample, all samples in order, ``n_passes`` times; return when the weights are there."""

    def weights(self) -> Weights:
        """Return the present weights."""


def draw_task(cell: Cell, n_steps: int, step_size: float = 0.01, seed: int = 0) -> Task:
    """Draw standard normal weights and targets, and inputs of length about 1."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(cell.dtype)

    start = Weights(normal(cell.n_neurons, cell.dim), normal(cell.n_outputs, cell.n_neurons))
    x = normal(n_steps, cell.dim) / np.sqrt(cell.dim, dtype=cell.dtype)
    return Task(cell, start, x, normal(n_steps, cell.n_outputs), step_size)
