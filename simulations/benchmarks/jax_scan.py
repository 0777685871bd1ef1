"""The steps in JAX: `lax.scan` over the samples, compiled whole, the weights donated and updated in place."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf
from task import Task, Weights

__all__ = ["JaxScan"]

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_platforms", "cpu")


class JaxScan:
    """One of four ways to write the steps.

    Parameters
    ----------
    transposed : hold W^T, so that neurons and not inputs lie side by side in memory
    delayed : apply the update of a step in the next one, just before its product, the weights still in cache
    """

    def __init__(self, task: Task, *, transposed: bool, delayed: bool) -> None:
        scan = partial(
            _delayed_scan if delayed else _plain_scan,
            partial(_output_layer, task.cell.activation, task.cell.n_neurons, task.step_size),
            _TRANSPOSED if transposed else _ROWS,
        )
        self._transposed = transposed
        self._scan = jax.jit(scan, donate_argnums=(0, 1))
        inner, outer = task.start
        self._inner, self._outer = jnp.array(inner.T if transposed else inner), jnp.array(outer)
        self._x, self._y = jnp.array(task.x), jnp.array(task.y)

    def advance(self, n_passes: int) -> None:
        """Take a step a sample, ``n_passes`` times."""
        for _ in range(n_passes):
            self._inner, self._outer = self._scan(self._inner, self._outer, self._x, self._y)
        jax.block_until_ready(self._inner)

    def weights(self) -> Weights:
        """Return the present weights."""
        inner = np.array(self._inner)
        return inner.T if self._transposed else inner, np.array(self._outer)


# W x and W + c x^T for W held by rows and by columns.
_ROWS = (lambda w, x: w @ x, lambda w, c, x: w + c[:, None] * x)
_TRANSPOSED = (lambda w, x: x @ w, lambda w, c, x: w + x[:, None] * c)


def _activate(activation: str, z: Any) -> tuple[Any, Any]:
    if activation == "relu":
        return jnp.maximum(z, 0), (z > 0).astype(z.dtype)
    u = z / math.sqrt(2)
    return erf(u), math.sqrt(2 / math.pi) * jnp.exp(-u * u)


def _output_layer(activation: str, n_neurons: int, step_size: float, outer: Any, z: Any, y: Any) -> tuple[Any, Any]:
    """Return the coefficients c of the inner update, and the outer weights after the step."""
    h, slope = _activate(activation, z)
    signal = 2 * step_size * (y - outer @ h / n_neurons)
    return (signal @ outer) * slope, outer + signal[:, None] * h


def _plain_scan(output_layer: Any, layout: Any, inner: Any, outer: Any, x: Any, y: Any) -> Any:
    product, add_outer = layout

    def step(carry: Any, sample: Any) -> tuple[Any, None]:
        inner, outer = carry
        coefficients, outer = output_layer(outer, product(inner, sample[0]), sample[1])
        return (add_outer(inner, coefficients, sample[0]), outer), None

    return jax.lax.scan(step, (inner, outer), (x, y))[0]


def _delayed_scan(output_layer: Any, layout: Any, inner: Any, outer: Any, x: Any, y: Any) -> Any:
    product, add_outer = layout

    def step(carry: Any, sample: Any) -> tuple[Any, None]:
        inner, outer, coefficients, previous = carry
        inner = add_outer(inner, coefficients, previous)
        coefficients, outer = output_layer(outer, product(inner, sample[0]), sample[1])
        return (inner, outer, coefficients, sample[0]), None

    nothing = jnp.zeros_like(outer[0]), jnp.zeros_like(x[0])
    (inner, outer, coefficients, last), _ = jax.lax.scan(step, (inner, outer, *nothing), (x, y))
    return add_outer(inner, coefficients, last), outer
