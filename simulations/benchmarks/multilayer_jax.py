"""The steps of several layers in JAX: `lax.scan` over the batches, compiled whole, the weights donated."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from task import Task, Weights

__all__ = ["SCANS", "MultilayerScan"]

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_platforms", "cpu")


class MultilayerScan:
    """The steps of a network with relu; one sample is a vector, a batch has its samples as rows.

    Parameters
    ----------
    scan : name in `SCANS`
    """

    def __init__(self, task: Task, *, scan: str) -> None:
        if task.cell.activation != "relu":
            raise ValueError(f"steps of several layers are written for relu, got {task.cell.activation!r}")
        rate = 2 * task.step_size / task.cell.batch_size
        self._scan = jax.jit(partial(SCANS[scan], task.cell.n_neurons, rate), donate_argnums=0)
        self._weights = tuple(jnp.array(w) for w in task.start)
        self._x, self._y = (_batches(samples, task.cell.batch_size) for samples in (task.x, task.y))

    def advance(self, n_passes: int) -> None:
        """Take a step a batch, ``n_passes`` times."""
        for _ in range(n_passes):
            self._weights = self._scan(self._weights, self._x, self._y)
        jax.block_until_ready(self._weights)

    def weights(self) -> Weights:
        """Return the present weights."""
        return tuple(np.array(w) for w in self._weights)


def _batches(samples: Any, batch_size: int) -> Any:
    return jnp.array(samples if batch_size == 1 else samples.reshape(-1, batch_size, samples.shape[1]))


def _forward(n_neurons: int, weights: Any, x: Any) -> list[Any]:
    """Return x, the features of every hidden layer, and the outputs."""
    layers = [x]
    for layer, w in enumerate(weights):
        z = layers[-1] @ w.T / (n_neurons if layer else 1)
        layers.append(z if layer == len(weights) - 1 else jnp.maximum(z, 0))
    return layers


def _coefficients(n_neurons: int, rate: float, weights: Any, x: Any, y: Any) -> Any:
    """Return the update coefficients of every layer, and what each of them reads."""
    *inputs, outputs = _forward(n_neurons, weights, x)
    coefficients = [rate * (y - outputs)]
    for layer in range(len(weights) - 1, 0, -1):
        factor = 1 if layer == len(weights) - 1 else 1 / n_neurons
        coefficients.insert(0, factor * (coefficients[0] @ weights[layer]) * (inputs[layer] > 0))
    return coefficients, inputs


def _moved(weights: Any, coefficients: Any, inputs: Any) -> Any:
    return tuple(w + _sum_of_outer(c, h) for w, c, h in zip(weights, coefficients, inputs, strict=True))


def _sum_of_outer(c: Any, h: Any) -> Any:
    return c[:, None] * h if c.ndim == 1 else c.T @ h


def _scan_by_hand(n_neurons: int, rate: float, weights: Any, x: Any, y: Any) -> Any:
    def step(weights: Any, sample: Any) -> tuple[Any, None]:
        return _moved(weights, *_coefficients(n_neurons, rate, weights, *sample)), None

    return jax.lax.scan(step, weights, (x, y))[0]


def _scan_delayed(n_neurons: int, rate: float, weights: Any, x: Any, y: Any) -> Any:
    """Apply the update of a step in the next one, so that no step needs its weights before and after."""

    def step(carry: Any, sample: Any) -> tuple[Any, None]:
        weights = _moved(*carry)
        return (weights, *_coefficients(n_neurons, rate, weights, *sample)), None

    nothing = jax.tree.map(jnp.zeros_like, _coefficients(n_neurons, rate, weights, x[0], y[0]))
    return _moved(*jax.lax.scan(step, (weights, *nothing), (x, y))[0])


def _scan_by_grad(n_neurons: int, rate: float, weights: Any, x: Any, y: Any) -> Any:
    last = len(weights) - 1
    multipliers = [n_neurons ** (1 if layer in (0, last) else 2) for layer in range(last + 1)]

    def loss(weights: Any, x: Any, y: Any) -> Any:
        return rate / 2 * jnp.square(y - _forward(n_neurons, weights, x)[-1]).sum()

    def step(weights: Any, sample: Any) -> tuple[Any, None]:
        gradients = jax.grad(loss)(weights, *sample)
        return tuple(w - n * g for w, n, g in zip(weights, multipliers, gradients, strict=True)), None

    return jax.lax.scan(step, weights, (x, y))[0]


SCANS = {"by hand": _scan_by_hand, "by hand, delayed update": _scan_delayed, "grad": _scan_by_grad}
