"""Microseconds a step of exact one-sample SGD, beside this core's matrix-product rate measured in the same run.

A step of a network with N neurons and d inputs needs 4 N d floating-point operations in the two products with its
inner weights. The table gives the time of a step and these operations a second as a fraction of the rate of a large
matrix product, timed between the repetitions, on as many threads. Weights start and samples are read from memory;
drawing them is not counted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from meanfield import Network
from meanfield.dynamics.trainer import TwoLayerTrainer
from meanfield.kernels.blas import add_product, single_threaded_blas

CELLS = [(1000, 32), (1000, 784), (10_000, 32), (10_000, 784)]
PRODUCT_SIZE = 2048


def seconds(work: Callable[[], object]) -> float:
    """Return the wall time of ``work()``."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def product_rate(dtype: str) -> float:
    """Return the operations a second of one square matrix product on one thread, by the BLAS that training uses."""
    a = np.random.default_rng(0).standard_normal((PRODUCT_SIZE, PRODUCT_SIZE)).astype(dtype)
    out = np.zeros_like(a)
    with single_threaded_blas():
        elapsed = seconds(lambda: add_product(out, a, a, False, True, *a.shape, PRODUCT_SIZE))
    return 2 * PRODUCT_SIZE**3 / elapsed


def time_cell(
    n_neurons: int,
    dim: int,
    dtype: str,
    *,
    activation: str,
    n_outputs: int,
    n_threads: int,
    budget: float,
    repeats: int,
) -> dict[str, object]:
    """Time one network, its repetitions alternating with the matrix product; medians are reported."""
    rng = np.random.default_rng(1)
    operations = 4 * n_neurons * dim
    n_steps = max(256, int(budget * 2e10 / operations))
    x = (rng.standard_normal((n_steps, dim)) / np.sqrt(dim)).astype(dtype)
    y = rng.standard_normal((n_steps, n_outputs)).astype(dtype)
    network = Network.init((dim, n_neurons, n_outputs), activation=activation, dtype=dtype, rng=rng)
    sizes = np.full(n_steps, 1e-3)
    steps, rates = [], []
    with TwoLayerTrainer(network, frozenset({"weight_0", "weight_1"}), 1, n_threads) as trainer:
        trainer.advance(x[:128], y[:128], sizes[:128])
        for _ in range(repeats):
            rates.append(product_rate(dtype))
            steps.append(seconds(lambda: trainer.advance(x, y, sizes)) / n_steps)
    step, rate = float(np.median(steps)), float(np.median(rates))
    return {
        "N": n_neurons,
        "d": dim,
        "dtype": dtype,
        "us a step": 1e6 * step,
        "min": 1e6 * min(steps),
        "max": 1e6 * max(steps),
        "product GFLOP/s": rate / 1e9,
        "fraction of product": operations / step / (rate * n_threads),
    }


def main() -> None:
    """Time every cell in both precisions and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--activation", default="relu")
    parser.add_argument("--outputs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budget", type=float, default=1.0, help="about this many seconds a repetition")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    rows = [
        time_cell(
            n_neurons,
            dim,
            dtype,
            activation=options.activation,
            n_outputs=options.outputs,
            n_threads=options.threads,
            budget=options.budget,
            repeats=options.repeats,
        )
        for n_neurons, dim in CELLS
        for dtype in ("float32", "float64")
    ]
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.3g}".format))


if __name__ == "__main__":
    main()
