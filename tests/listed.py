"""A law without randomness."""

from __future__ import annotations


class Listed:
    """A user's law that deals out fixed samples in order and remembers how it was asked."""

    def __init__(self, x, y):
        self.x, self.y, self.asked = x, y, []
        self.dim, self.n_outputs = x.shape[1], y.shape[1]

    def sample(self, n, rng):
        start = sum(self.asked)
        self.asked.append(n)
        return self.x[start : start + n], self.y[start : start + n]
