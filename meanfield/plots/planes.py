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


@theme()
def loss_on_plane(plane: pd.DataFrame, projection: pd.DataFrame) -> Figure:
    """Draw the loss on the plane through both ends and the bend of the Bezier curve, and what lies above it.

    Left the loss on the plane, and the ways projected onto it. A mark's fill is the loss of the network itself, the
    colour around it that of its foot on the plane: where they differ, the picture shows what is not there. Right the
    distance of the ways from the plane, which the projection hides.

    Parameters
    ----------
    plane : columns u, v, risk on a full grid
    projection : columns way, t, vertex, u, v, off_plane, risk

    Raises
    ------
    ValueError, TypeError : as `barrier_against_width`
    """
    check_columns("plane", plane, ["u", "v", "risk"], ["u", "v", "risk"])
    numbers = ["t", "u", "v", "off_plane", "risk"]
    check_columns("projection", projection, ["way", "vertex", *numbers], numbers)
    check_ways(projection["way"])
    figure = ThemedFigure(figsize=(2 * PANEL_WIDTH, 1.5 * PANEL_HEIGHT), layout="constrained")
    on_plane, off_plane = figure.subplots(1, 2, width_ratios=(1.5, 1))
    limits = plane["risk"].min(), max(plane["risk"].quantile(0.9), projection["risk"].max())
    _draw_contours(figure, on_plane, plane, limits)
    for way, rows in projection.groupby("way", sort=False):
        style = WAYS[str(way)]
        _draw_projected(on_plane, rows, style, limits)
        off_plane.plot(rows["t"], rows["off_plane"], color=style["color"], label=style["label"])
    _name_plane(on_plane, off_plane, projection)
    add_legend(figure)
    return figure


def _draw_contours(figure: Figure, panel: Axes, plane: pd.DataFrame, limits: tuple[float, float]) -> None:
    table = plane.pivot(index="v", columns="u", values="risk")
    levels = np.geomspace(max(limits[0], 1e-12), limits[1], 13)
    look: Style = {"levels": levels, "cmap": COLOURS, "norm": LogNorm(levels[0], levels[-1]), "extend": "max"}
    filled = panel.contourf(table.columns, table.index, table.to_numpy(), **look)
    bar = figure.colorbar(filled, ax=panel, label="loss", ticks=levels[::3], location="bottom", aspect=40)
    bar.ax.set_xticklabels([f"{level:.2g}" for level in levels[::3]])
    bar.ax.minorticks_off()


def _draw_projected(panel: Axes, rows: pd.DataFrame, style: Style, limits: tuple[float, float]) -> None:
    panel.plot(rows["u"], rows["v"], color=style["color"], linewidth=1.4)
    vertices = rows[rows["vertex"]]
    look: Style = {"cmap": COLOURS, "norm": LogNorm(max(limits[0], 1e-12), limits[1]), "edgecolors": "black"}
    panel.scatter(vertices["u"], vertices["v"], c=vertices["risk"], s=22, linewidths=0.7, zorder=4, **look)


def _name_plane(on_plane: Axes, off_plane: Axes, projection: pd.DataFrame) -> None:
    on_plane.set_title("plane through both ends and the bend\n(marks: vertices off it, filled by their own loss)")
    on_plane.set(xlabel="$u$", ylabel="$v$", aspect="equal")
    apart = projection.loc[projection["t"] == 1, "u"].max()
    off_plane.set(title="what the projection hides", xlabel="position along the way, $t$", xlim=(0, 1))
    off_plane.set_ylabel("distance off the plane")
    off_plane.axhline(apart, label="distance of the ends", linestyle=":", **GUIDE)
