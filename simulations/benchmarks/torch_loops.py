"""The steps in PyTorch: written by hand with operations in place, and by automatic differentiation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from task import Task, Weights
from torch.nn.functional import linear

__all__ = ["UPDATES", "Autograd", "ByHand"]

# W += scale c x^T, three ways.
UPDATES = {
    "addr_": lambda w, c, x, scale: w.addr_(c, x, alpha=scale),
    "addmm_": lambda w, c, x, scale: w.addmm_(c[:, None], x[None], alpha=scale),
    "addcmul_": lambda w, c, x, scale: w.addcmul_(c[:, None], x, value=scale),
}


class ByHand:
    """No graph, nothing allocated: every operation writes in place.

    Parameters
    ----------
    transposed : hold W^T, so that neurons and not inputs lie side by side in memory
    update : name in `UPDATES`
    """

    def __init__(self, task: Task, *, transposed: bool, update: str) -> None:
        cell, dtype = task.cell, getattr(torch, task.cell.dtype)
        self._inner, self._outer = (torch.tensor(w) for w in task.start)
        if transposed:
            self._inner = self._inner.t().contiguous().t()
        self._update = UPDATES[update]
        self._x, self._scaled_y = torch.tensor(task.x), 2 * task.step_size * torch.tensor(task.y)
        self._output_scale = -2 * task.step_size / cell.n_neurons
        self._z, self._h, self._back = (torch.empty(cell.n_neurons, dtype=dtype) for _ in range(3))
        self._signal = torch.empty(cell.n_outputs, dtype=dtype)
        self._step = self._relu_step if cell.activation == "relu" else self._erf_step

    @torch.inference_mode()
    def advance(self, n_passes: int) -> None:
        """Take a step a sample, ``n_passes`` times."""
        for _ in range(n_passes):
            for x, scaled_y in zip(self._x.unbind(), self._scaled_y.unbind(), strict=True):
                self._step(x, scaled_y)

    def weights(self) -> Weights:
        """Return the present weights."""
        return np.array(self._inner), np.array(self._outer)

    def _relu_step(self, x: Any, scaled_y: Any) -> None:
        torch.mv(self._inner, x, out=self._z)
        torch.clamp_min(self._z, 0, out=self._h)
        self._pull_back(scaled_y)
        # The gradient of max(z, 0): the same numbers where z > 0, else 0.
        torch.ops.aten.threshold_backward(self._back, self._z, 0, grad_input=self._back)
        self._move(x, 1.0)

    def _erf_step(self, x: Any, scaled_y: Any) -> None:
        torch.addmv(self._z, self._inner, x, beta=0, alpha=math.sqrt(0.5), out=self._z)
        torch.erf(self._z, out=self._h)
        self._pull_back(scaled_y)
        self._back.mul_(self._z.square_().neg_().exp_())
        self._move(x, math.sqrt(2 / math.pi))

    def _pull_back(self, scaled_y: Any) -> None:
        torch.addmv(scaled_y, self._outer, self._h, alpha=self._output_scale, out=self._signal)
        torch.mv(self._outer.t(), self._signal, out=self._back)

    def _move(self, x: Any, slope_scale: float) -> None:
        self._outer.addr_(self._signal, self._h)
        self._update(self._inner, self._back, x, slope_scale)


class Autograd:
    """The loss as its formula, ``backward()``, and a step of SGD with the multiplier N."""

    def __init__(self, task: Task) -> None:
        self._inner, self._outer = (torch.tensor(w, requires_grad=True) for w in task.start)
        self._x, self._y = torch.tensor(task.x), torch.tensor(task.y)
        self._n_neurons, self._step_size = task.cell.n_neurons, task.step_size
        self._activate = torch.relu if task.cell.activation == "relu" else _erf

    def advance(self, n_passes: int) -> None:
        """Take a step a sample, ``n_passes`` times."""
        for _ in range(n_passes):
            for x, y in zip(self._x, self._y, strict=True):
                self._step(x, y)

    def weights(self) -> Weights:
        """Return the present weights."""
        return np.array(self._inner.detach()), np.array(self._outer.detach())

    def _step(self, x: Any, y: Any) -> None:
        output = linear(self._activate(linear(x, self._inner)), self._outer) / self._n_neurons
        (y - output).square().sum().backward()
        with torch.no_grad():
            for weights in (self._inner, self._outer):
                weights.sub_(weights.grad, alpha=self._n_neurons * self._step_size)
                weights.grad = None


def _erf(z: Any) -> Any:
    return torch.erf(z / math.sqrt(2))
