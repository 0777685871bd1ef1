"""The steps of several layers in PyTorch, written by hand with operations in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from task import Task, Weights

__all__ = ["UPDATES", "MultilayerByHand"]

# W += c h^T for a sample as vectors, and W += c^T h for a batch with its samples as rows.
UPDATES = {
    "vectors, addr_": lambda w, c, h: w.addr_(c, h),
    "vectors, addmm_": lambda w, c, h: w.addmm_(c[:, None], h[None]),
    "rows, addmm_": lambda w, c, h: w.addmm_(c.t(), h),
}


class MultilayerByHand:
    """The steps of a network with relu: no graph, nothing allocated, every operation writes in place.

    Parameters
    ----------
    update : name in `UPDATES`; those of vectors are for one sample a step
    """

    def __init__(self, task: Task, *, update: str) -> None:
        cell, self._update = task.cell, UPDATES[update]
        if cell.activation != "relu":
            raise ValueError(f"steps of several layers are written for relu, got {cell.activation!r}")
        self._product = _times_vector if update.startswith("vectors") else _times_rows
        shape = () if update.startswith("vectors") else (cell.batch_size,)
        rate = 2 * task.step_size / cell.batch_size
        self._weights = [torch.tensor(w) for w in task.start]
        self._x = torch.tensor(task.x).reshape(-1, *shape, cell.dim).unbind()
        self._scaled_y = (rate * torch.tensor(task.y)).reshape(-1, *shape, cell.n_outputs).unbind()
        features = [torch.empty(*shape, n, dtype=self._weights[0].dtype) for n in cell.widths[1:]]
        self._features, self._coefficients = features, [torch.empty_like(h) for h in features]
        self._rate, self._average = rate, 1 / cell.n_neurons

    @torch.inference_mode()
    def advance(self, n_passes: int) -> None:
        """Take a step a batch, ``n_passes`` times."""
        for _ in range(n_passes):
            for x, scaled_y in zip(self._x, self._scaled_y, strict=True):
                self._forward(x)
                self._backward(scaled_y)
                for w, c, h in zip(self._weights, self._coefficients, [x, *self._features[:-1]], strict=True):
                    self._update(w, c, h)

    def weights(self) -> Weights:
        """Return the present weights."""
        return tuple(np.array(w) for w in self._weights)

    def _forward(self, x: Any) -> None:
        h, factor = x, 1.0
        for w, out in zip(self._weights[:-1], self._features[:-1], strict=True):
            h, factor = self._product(w, h, factor, out).clamp_min_(0), self._average
        self._product(self._weights[-1], h, factor, self._features[-1])

    def _backward(self, scaled_y: Any) -> None:
        last = len(self._weights) - 1
        torch.sub(scaled_y, self._features[last], alpha=self._rate, out=self._coefficients[last])
        for layer in range(last, 0, -1):
            c, out, factor = self._coefficients[layer], self._coefficients[layer - 1], self._average
            self._product(self._weights[layer].t(), c, 1.0 if layer == last else factor, out)
            # The gradient of max(z, 0): the same numbers where z > 0, else 0.
            torch.ops.aten.threshold_backward(out, self._features[layer - 1], 0, grad_input=out)


def _times_vector(w: Any, h: Any, factor: float, out: Any) -> Any:
    return torch.addmv(out, w, h, beta=0, alpha=factor, out=out)


def _times_rows(w: Any, h: Any, factor: float, out: Any) -> Any:
    return torch.addmm(out, h, w.t(), beta=0, alpha=factor, out=out)
