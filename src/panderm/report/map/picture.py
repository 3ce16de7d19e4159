"""A map for print: one panel for each column asked for, every class by colour and shape, as PNG."""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from panderm.errors import UsageError, plural
from panderm.report.drawing.svg import INK, LINE, MUTED, SERIES, house_style
from panderm.report.map.columns import Categories, Colouring, Numbers
from panderm.report.map.page import NAMES, settings_in_words
from panderm.report.words import number, short
from panderm.statistics.projection import drawing_order

if TYPE_CHECKING:
    from panderm.report.map.embedding_map import EmbeddingMap

MARKERS = ("o", "s", "^", "D")  # with six colours these tell 24 classes apart
MOST_PANELS = 6
_PLOT, _LEGEND, _TITLE, _EDGE = 4.4, 2.0, 0.6, 0.3  # inches
_WIDE = 94  # characters of a line beneath the title, for each panel
_SCALE = "viridis"  # even in lightness, the same to every eye, and never grey as empty cells are


def draw_map(given: EmbeddingMap, *, dpi: int = 300) -> bytes:
    """Return the map as PNG, a panel for each column that was asked for.

    Args:
        given: the map.
        dpi: dots per inch; 300 is what journals ask for.

    Raises:
        UsageError: more than 6 columns were asked for.
    """
    columns = given.colourings.columns[: given.colourings.asked] or (None,)
    require_panels(len(columns))
    with house_style():
        figure = _figure(given, columns)
        target = io.BytesIO()
        figure.savefig(target, format="png", dpi=dpi, facecolor="white", metadata={"Software": "panderm"})
    return target.getvalue()


def require_panels(asked: int) -> None:
    """Raise :class:`UsageError` where more columns are asked for than one picture holds."""
    if asked > MOST_PANELS:
        raise UsageError(
            f"--color must name at most {MOST_PANELS} columns.",
            f"found {asked}",
            "the page's menu has the others as well",
        )


def _figure(given: EmbeddingMap, columns: tuple[Colouring | None, ...]) -> Figure:
    across = 1 if len(columns) == 1 else 2
    down = -(-len(columns) // across)
    heading, beneath = _heading(given, across)
    top = _TITLE + 0.17 * beneath.count("\n")
    span = np.ptp(given.coordinates, axis=0)
    tall = _PLOT * float(np.clip(span[1] / max(span[0], 1e-9), 0.6, 1.1))
    width = across * (_PLOT + _LEGEND + _EDGE) + _EDGE
    height = top + down * (tall + _EDGE + 0.25)
    figure = Figure(figsize=(width, height))
    figure.text(_EDGE / width, 1 - 0.14 / height, heading, va="top", fontsize=11.5, fontweight="bold")
    figure.text(_EDGE / width, 1 - 0.42 / height, beneath, va="top", fontsize=8.5, color=MUTED)
    for i, column in enumerate(columns):
        left = _EDGE + (i % across) * (_PLOT + _LEGEND + _EDGE)
        bottom = height - top - (i // across + 1) * (tall + _EDGE + 0.25) + _EDGE + 0.1
        axes = figure.add_axes((left / width, bottom / height, _PLOT / width, tall / height))
        _panel(figure, axes, given, column)
    return figure


def _heading(given: EmbeddingMap, across: int) -> tuple[str, str]:
    table, encoder = given.card.table.name, given.card.encoder.name
    kept = f"trustworthiness {number(given.trustworthiness)} (k = {given.kept.k})"
    told = f"n = {plural(len(given), 'image')}; {NAMES[given.method]} ({settings_in_words(given)}); {kept}"
    told = told.replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}")
    if given.card.encoder.random:
        told += "; the encoder's weights are random numbers"
    lines = textwrap.wrap(told, across * _WIDE)
    return short(f"{table} by {encoder}", 60 * across), "\n".join(lines)


def _panel(figure: Figure, axes: Axes, given: EmbeddingMap, column: Colouring | None) -> None:
    order = drawing_order(len(given))
    x, y = given.coordinates[order].T
    size = marker_area(len(given))
    look: dict[str, Any] = {"s": size, "alpha": 0.85, "edgecolors": "white", "rasterized": True}
    look["linewidths"] = 0.25 if size > 5 else 0.0
    if column is None:
        axes.scatter(x, y, color=SERIES[0], **look)
    elif isinstance(column, Numbers):
        _numbers(figure, axes, column, x, y, order, look)
    else:
        _categories(axes, column, x, y, order, look)
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.04)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set(visible=True, color=LINE)
    axes.set_xlabel(_axis(given, 0))
    axes.set_ylabel(_axis(given, 1))


def marker_area(n: int) -> float:
    """Return a marker's area in points², smaller for more rows: 22 at 100, 7 at 1,000, 0.7 at 100,000."""
    return float(np.clip(220 * n**-0.5, 0.7, 36))


def _axis(given: EmbeddingMap, which: int) -> str:
    if given.explained_variance is None:
        return f"UMAP {which + 1}"
    share = f"{given.explained_variance[which]:.1%}".replace("%", " %")
    return f"PC {which + 1} ({share} of the variance)"


def _categories(
    axes: Axes,
    column: Categories,
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    order: npt.NDArray[np.int64],
    look: dict[str, Any],
) -> None:
    # 0 … own-1: classes with a colour of their own; own: all others; own + 1: empty cells.
    code = np.where(column.codes < 0, column.own + 1, np.minimum(column.codes, column.own))[order]
    others = plural(len(column.names) - column.own, "other value")
    names = [*column.names[: column.own], others, "(empty)"]
    keys = []
    for k in np.unique(code).tolist():
        colour, marker = _pen(k, column.own)
        one = code == k
        axes.scatter(x[one], y[one], color=colour, marker=marker, **look)
        text = f"{short(names[k], 24)}  ({int(one.sum()):,})"
        keys.append(Line2D([], [], color=colour, marker=marker, linestyle="", markersize=5, label=text))
    axes.legend(
        handles=keys,
        title=short(column.name, 28),
        loc="upper left",
        bbox_to_anchor=(1.01, 1.01),
        alignment="left",
        fontsize=8.5 if len(keys) <= 14 else 7,
        labelspacing=0.45 if len(keys) <= 14 else 0.3,
        handletextpad=0.2,
    )


def _pen(k: int, own: int) -> tuple[str, str]:
    if k == own:
        return MUTED, "o"
    if k > own:
        return LINE, "o"
    return SERIES[k % len(SERIES)], MARKERS[k // len(SERIES) % len(MARKERS)]


def _numbers(
    figure: Figure,
    axes: Axes,
    column: Numbers,
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    order: npt.NDArray[np.int64],
    look: dict[str, Any],
) -> None:
    values = column.values[order]
    known = ~np.isnan(values)
    axes.scatter(x[~known], y[~known], color=LINE, **look)
    drawn = axes.scatter(
        x[known], y[known], c=values[known], cmap=_SCALE, vmin=column.low, vmax=column.high, **look
    )
    below, above = values[known].min() < column.low, values[known].max() > column.high
    extend = "both" if below and above else "min" if below else "max" if above else "neither"
    beside = axes.inset_axes((1.04, 0.3, 0.035, 0.6))
    bar = figure.colorbar(drawn, cax=beside, extend=extend)
    if bar.solids is not None:
        bar.solids.set_alpha(1)
    bar.outline.set_visible(False)
    bar.set_label(short(column.name, 28), color=INK)
    if not known.all():
        empty = f"{int((~known).sum()):,} (empty) in pale grey"
        axes.text(1.04, 0.2, empty, transform=axes.transAxes, color=MUTED, fontsize=8)
