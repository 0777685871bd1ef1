"""The plane through the ends of a way and its bend: a picture, and what it hides."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from meanfield.plots.connectivity import WAYS, check_ways
from meanfield.plots.dropout import check_columns
from meanfield.plots.style import GUIDE, PANEL_HEIGHT, PANEL_WIDTH, Style, ThemedFigure, add_legend, theme

__all__ = ["loss_on_plane"]

COLOURS = "viridis"

# The dashes of one fill the gaps of the other: both are seen where they coincide.
DASHES: Style = {"line": (0, (2, 2)), "bezier": (2, (2, 2))}


@theme()
def loss_on_plane(plane: pd.DataFrame, projection: pd.DataFrame) -> Figure:
    """Draw the loss on the plane through both ends and the bend of the Bezier curve, and what lies above it.

    Left the loss on the plane, and the ways projected onto it. A mark's fill is the loss of the network itself, the
    colour around it that of its foot on the plane: where they differ, the picture shows what is not there. Right the
    distance of the ways from the plane, which the projection hides.

    Parameters
    ----------
    plane : columns n_neurons, u, v, risk on a full grid
    projection : columns way, t, vertex, u, v, off_plane, risk

    Raises
    ------
    ValueError, TypeError : as `barrier_against_width`
    """
    check_columns("plane", plane, ["n_neurons", "u", "v", "risk"], ["n_neurons", "u", "v", "risk"])
    numbers = ["t", "u", "v", "off_plane", "risk"]
    check_columns("projection", projection, ["way", "vertex", *numbers], numbers)
    check_ways(projection["way"])
    figure = ThemedFigure(figsize=(2 * PANEL_WIDTH, _height(plane)), layout="constrained")
    on_plane, off_plane = figure.subplots(1, 2, width_ratios=(1.5, 1))
    limits = plane["risk"].min(), max(plane["risk"].quantile(0.9), projection["risk"].max())
    _draw_contours(figure, on_plane, plane, limits)
    for way, rows in projection.groupby("way", sort=False):
        look = {"color": WAYS[str(way)]["color"], "linestyle": DASHES.get(str(way), "-"), "linewidth": 1.4}
        _draw_projected(on_plane, rows, look, limits)
        off_plane.plot(rows["t"], rows["off_plane"], label=WAYS[str(way)]["label"], **look)
    _name_plane(on_plane, off_plane, plane["n_neurons"].iloc[0], projection)
    add_legend(figure)
    return figure


def _height(plane: pd.DataFrame) -> float:
    """Return the height of a figure whose left panel, with equal units along both axes, is full."""
    wide, high = (plane[axis].max() - plane[axis].min() for axis in ("u", "v"))
    return PANEL_HEIGHT * (0.8 + 1.35 * min(high / wide, 1))


def _draw_contours(figure: Figure, panel: Axes, plane: pd.DataFrame, limits: tuple[float, float]) -> None:
    table = plane.pivot(index="v", columns="u", values="risk")
    levels = np.geomspace(max(limits[0], 1e-12), limits[1], 13)
    look: Style = {"levels": levels, "cmap": COLOURS, "norm": LogNorm(levels[0], levels[-1]), "extend": "max"}
    filled = panel.contourf(table.columns, table.index, table.to_numpy(), **look)
    bar = figure.colorbar(filled, ax=panel, label="loss", ticks=levels[::3], location="bottom", aspect=40)
    bar.ax.set_xticklabels([f"{level:.2g}" for level in levels[::3]])
    bar.ax.minorticks_off()


def _draw_projected(panel: Axes, rows: pd.DataFrame, style: Style, limits: tuple[float, float]) -> None:
    panel.plot(rows["u"], rows["v"], **style)
    vertices = rows[rows["vertex"]]
    look: Style = {"cmap": COLOURS, "norm": LogNorm(max(limits[0], 1e-12), limits[1]), "edgecolors": "black"}
    panel.scatter(vertices["u"], vertices["v"], c=vertices["risk"], s=22, linewidths=0.7, zorder=4, **look)


def _name_plane(on_plane: Axes, off_plane: Axes, n_neurons: int, projection: pd.DataFrame) -> None:
    on_plane.set_title(
        f"plane through both ends and the bend, $N={n_neurons}$\n(marks: vertices off it, filled by their own loss)"
    )
    on_plane.set(xlabel="$u$", ylabel="$v$", aspect="equal")
    apart = projection.loc[projection["t"] == 1, "u"].max()
    off_plane.set(title="what the projection hides", xlabel="position along the way, $t$", xlim=(0, 1))
    off_plane.set_ylabel("distance off the plane")
    off_plane.axhline(apart, label="distance of the ends", linestyle=":", **GUIDE)
