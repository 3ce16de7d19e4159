"""Pictures side by side on grey paper, as one PNG: what a network learns from, for an eye to check."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from panderm.storage import new_file

Pixels: TypeAlias = npt.NDArray[np.uint8]

# Grey paper: black corners and white skin are seen on it.
_PAPER, _TEXT, _FAINT = "#2b3036", "#f2f4f6", "#b9c1ca"
_DPI = 100
_CELL, _GAP, _SIDE, _TOP, _BENEATH, _FOOT = 1.7, 0.08, 0.15, 0.62, 0.34, 0.3  # inches
_LINE, _LETTERS = 0.15, 16  # inches of a line of words, letters to an inch


def contact_sheet(
    columns: Sequence[tuple[str, Sequence[Pixels], Sequence[str]]], words: str, title: str
) -> Figure:
    """Draw pictures in columns, a row an image.

    Args:
        columns: of each its heading, its pictures, uint8 (H, W, 3) of any sizes, and the text under each.
        words: stand beneath all of them.
        title: stands above.
    """
    n = len(columns[0][1])
    lines = max((text.count("\n") + 1 for _, _, under in columns for text in under), default=1)
    beneath = max(_BENEATH, 0.15 * lines + 0.05)
    width = 2 * _SIDE + len(columns) * _CELL + (len(columns) - 1) * _GAP
    said = textwrap.wrap(words, max(20, int(_LETTERS * (width - 2 * _SIDE))))
    foot = _FOOT + _LINE * max(0, len(said) - 1)
    height = _TOP + n * (_CELL + beneath) + foot
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    for column, (heading, pictures, under) in enumerate(columns):
        for row, picture in enumerate(pictures):
            left = _SIDE + column * (_CELL + _GAP)
            bottom = height - _TOP - (row + 1) * _CELL - row * beneath
            axes = figure.add_axes((left / width, bottom / height, _CELL / width, _CELL / height))
            _show(axes, picture, under[row])
            if row == 0:
                figure.text(
                    (left + _CELL / 2) / width,
                    1 - (_TOP - 0.08) / height,
                    heading,
                    color=_TEXT,
                    size=9.5,
                    ha="center",
                    va="bottom",
                )
    figure.text(_SIDE / width, 1 - 0.1 / height, title, color=_TEXT, size=11, va="top", weight="bold")
    figure.text(_SIDE / width, 0.1 / height, "\n".join(said), color=_FAINT, size=8.5, va="bottom")
    return figure


def save_sheet(figure: Figure, path: Path) -> None:
    """Write a sheet as PNG, in the place of one that exists."""
    with new_file(path, overwrite=True) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI, facecolor=_PAPER)


def _show(axes: Axes, picture: Pixels, under: str) -> None:
    axes.set_axis_off()
    axes.imshow(picture)
    # Under the cell, not under the picture, which may be less tall than its cell.
    axes.set_anchor("C")
    if under:
        axes.annotate(
            under,
            (0.5, 0),
            (0, -3),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            va="top",
            color=_FAINT,
            size=7.5,
            linespacing=1.15,
            annotation_clip=False,
        )
