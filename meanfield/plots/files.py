"""Figures on disk: a vector and a bitmap of each."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from meanfield.plots.style import theme

__all__ = ["save_figure"]


def save_figure(figure: Figure, folder: str | Path, name: str) -> list[Path]:
    """Write ``folder``/``name``.pdf (vector) and .png (200 dpi); return both paths.

    The bytes depend on the figure and the library versions alone: no date is written. The folder is made if
    it is missing.
    """
    pdf, png = (Path(folder) / f"{name}.{kind}" for kind in ("pdf", "png"))
    pdf.parent.mkdir(parents=True, exist_ok=True)
    with theme():
        figure.savefig(pdf, metadata={"CreationDate": None})
        layout = figure.get_layout_engine()
        figure.set_layout_engine("none")  # drawn once already: the places found then serve for the second file
        figure.savefig(png, dpi=200)
        figure.set_layout_engine(layout)
    return [pdf, png]
