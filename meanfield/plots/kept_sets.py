"""The figure of how the kept neurons are chosen: searches by the weights, and random sets under several losses."""

from __future__ import annotations

from itertools import cycle

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from meanfield.plots.dropout import KEPT, check_rows, draw_slopes
from meanfield.plots.style import (
    CONTROL,
    MEAN_FIELD,
    draw_points,
    finished,
    mark_widths,
    panels,
    theme,
)
from meanfield.theory.seeds import mean_over_seeds

__all__ = ["changes_by_choice"]

MARKERS = "osD^vPX*"
STATISTICS = {"std_change": ("std over sets", "white"), "magnitude": ("95% quantile of $|L_A-L|$", None)}
LOSSES = (MEAN_FIELD, CONTROL)


@theme()
def changes_by_choice(ladders: pd.DataFrame, quantiles: pd.DataFrame) -> Figure:
    """Draw the loss change against the kept number: a panel a width, a colour a method; then random sets by loss.

    Points are means over seeds with their 90% intervals; changes that are not positive are left out: a good choice
    can lower the loss. In the last panel open points are the standard deviation over random sets, full ones the
    quantile of |L_A - L|, beside the slopes -1/2 and -1.

    Parameters
    ----------
    ladders : tables of `meanfield.subset_ladder` with a column ``seed``: columns seed, n_neurons, n_kept, method,
        change
    quantiles : tables of `meanfield.dropout_quantiles` of one width and one quantile with columns ``seed`` and
        ``loss``, at most two losses: columns seed, loss, n_kept, std_change, magnitude

    Raises
    ------
    ValueError : a frame is empty, lacks or repeats something; more than two losses
    TypeError : a column that must hold numbers does not
    """
    check_rows("ladders", ladders, ["n_neurons", "method", "n_kept"], ["change"])
    check_rows("quantiles", quantiles, ["loss", "n_kept"], list(STATISTICS))
    losses = list(quantiles["loss"].unique())
    if len(losses) > len(LOSSES):
        raise ValueError(f"quantiles must hold at most {len(LOSSES)} losses, got {losses}: select some")
    widths = sorted(ladders["n_neurons"].unique())
    titles = [f"chosen sets, $N={width}$, square loss" for width in widths]
    figure, axes = panels([*titles, "random sets"], KEPT, ["change of the loss"])
    for panel, width in zip(axes[0], widths, strict=False):
        _draw_methods(panel, ladders[ladders["n_neurons"] == width], list(ladders["method"].unique()))
    _draw_losses(axes[0, -1], quantiles, losses)
    return finished(figure)


def _draw_methods(panel: Axes, rows: pd.DataFrame, methods: list[str]) -> None:
    """Draw bad choices on purpose in vermilion, all others from dark to light; coinciding points show as rings."""
    shades = colormaps["viridis"]
    for k, (method, marker) in enumerate(zip(methods, cycle(MARKERS))):
        rank = k / max(len(methods) - 1, 1)
        colour = CONTROL["color"] if method.startswith("adversarial") else shades(0.85 * rank)
        style = {"color": colour, "marker": marker, "markersize": 6.5 - 3.5 * rank}
        draw_points(panel, rows[rows["method"] == method], "n_kept", "change", label=method, **style)
    mark_widths(panel, rows["n_kept"])


def _draw_losses(panel: Axes, quantiles: pd.DataFrame, losses: list[str]) -> None:
    for loss, style in zip(losses, LOSSES, strict=False):
        rows = quantiles[quantiles["loss"] == loss]
        for column, (name, fill) in STATISTICS.items():
            look = {**style, "markerfacecolor": fill or style["color"], "markeredgewidth": 0.8}
            draw_points(panel, rows, "n_kept", column, label=f"{loss}: {name}", **look)
    mark_widths(panel, quantiles["n_kept"])
    means = mean_over_seeds(quantiles, ["n_kept", "loss"], "magnitude")
    first = means[means["n_kept"] == means["n_kept"].min()]
    draw_slopes(panel, means["n_kept"], (first["n_kept"].iloc[0], 2 * first["mean"].max()))
