"""Draw the time of a step against the number of inputs, beside what arithmetic and memory ask of it.

The arithmetic: the time of a large matrix product of as many operations as the two products of a step, 4 N d. The
memory: the time of one pass that reads and writes the N d inner weights; a loop that touches them at every step takes
at least as long, and the plain one, which reads them once more for the pre-activations, longer. One thread; the three
are measured in turns. Points are medians, bars the range of the repetitions.
"""

from __future__ import annotations

import argparse
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from contest import OURS, ours
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from task import Array, Cell, draw_task
from timing import MatrixProduct, on_processors, seconds

from meanfield.plots.files import save_figure
from meanfield.plots.style import CONTROL, MEAN_FIELD, THEORY, add_legend, panels, theme

DIMS = [8, 16, 32, 64, 128, 256, 512, 784, 1024, 2048]
PASS, PRODUCT = "pass over the weights", "matrix product"
LOOKS = {
    OURS: {**MEAN_FIELD, "linestyle": "none", "label": "exact SGD by blocks"},
    PASS: {**CONTROL, "linewidth": 1.0, "label": "reading and writing all inner weights once"},
    PRODUCT: {**THEORY, "label": "matrix product of $4Nd$ operations"},
}


def measure(cell: Cell, *, operations: float, product_size: int, repeats: int) -> pd.DataFrame:
    """Return microseconds of a step, of the pass and of the product, a row a repetition."""
    n_steps = 128 * math.ceil(operations / cell.operations / 128)
    task, product = draw_task(cell, n_steps), MatrixProduct(cell.dtype, product_size, 1)
    weights, n_passes = task.start[0].copy(), math.ceil(n_steps / 8)
    rows = []
    with ours(task, 1) as contestant:
        contestant.advance(1)
        for _ in range(repeats):
            rows.append((PRODUCT, cell.operations / product.rate()))
            rows.append((OURS, seconds(partial(contestant.advance, 1)) / n_steps))
            rows.append((PASS, seconds(partial(_pass_over, weights, n_passes)) / n_passes))
    times = pd.DataFrame(rows, columns=["what", "us"])
    return times.assign(us=1e6 * times["us"], dim=cell.dim, dtype=cell.dtype)


def _pass_over(weights: Array, n_passes: int) -> None:
    one = weights.dtype.type(1)
    for _ in range(n_passes):
        np.multiply(weights, one, out=weights)


@theme()
def draw(measured: pd.DataFrame, n_neurons: int) -> Figure:
    """Draw a panel a precision."""
    dtypes = list(measured["dtype"].unique())
    titles = [f"{dtype}, $N={n_neurons}$, one thread" for dtype in dtypes]
    figure, ((*axes,),) = panels(titles, "inputs, $d$", [r"time of a step ($\mu$s)"])
    for panel, dtype in zip(axes, dtypes, strict=True):
        for what, look in LOOKS.items():
            _draw_range(panel, measured[(measured["dtype"] == dtype) & (measured["what"] == what)], look)
    add_legend(figure)
    return figure


def _draw_range(panel: Axes, rows: pd.DataFrame, look: dict[str, Any]) -> None:
    times = rows.groupby("dim")["us"].agg(["median", "min", "max"])
    bars = [times["median"] - times["min"], times["max"] - times["median"]]
    panel.errorbar(times.index, times["median"], yerr=bars, elinewidth=0.8, **look)


def main() -> None:
    """Measure, write the figure and its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neurons", type=int, default=10_000, metavar="N")
    parser.add_argument("--dims", type=int, nargs="+", default=DIMS, metavar="d")
    parser.add_argument("--operations", type=float, default=4e9, help="about as many a repetition")
    parser.add_argument("--product-size", type=int, default=2048, help="of the square matrix product")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "figures", help="folder")
    options = parser.parse_args()
    work = partial(measure, operations=options.operations, product_size=options.product_size, repeats=options.repeats)
    cells = [Cell(options.neurons, dim, dtype=dtype) for dtype in ("float32", "float64") for dim in options.dims]
    with on_processors(1):
        measured = pd.concat(work(cell) for cell in cells)
    table = measured.groupby(["dtype", "dim", "what"])["us"].median().unstack()
    print(table.to_string(float_format="{:.3g}".format))
    print(*save_figure(draw(measured, options.neurons), options.output, "sgd-roofline"), sep="\n")


if __name__ == "__main__":
    main()
