"""The figure of label efficiency: a curve for each encoder, the draws of labels, and both kinds of doubt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from panderm.errors import plural
from panderm.report.drawing.figures import pen
from panderm.report.drawing.svg import SERIES, to_svg
from panderm.report.words import number, score_words, short, units
from panderm.scores.label_efficiency import LabelEfficiency, PointScores, grid

_WIDTH, _HEIGHT = 8.4, 4.7  # inches
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.62, 0.2, 0.12, 0.5
_ROW = 0.2  # inches a line of the legend takes


def label_curves(given: LabelEfficiency, *, name: str = "curves") -> str:
    """Draw mean scores over the number of labels, on a logarithmic axis.

    The inner band holds the mean if labels are drawn again, the outer if test units are drawn again too;
    each dot is one draw of labels.

    Args:
        given: what was scored.
        name: prefix of the ids inside, unique in the page.
    """
    x, ticks = axis(given)

    def draw() -> Figure:
        below = _BOTTOM + _ROW * (len(given.titles) + 0.6)
        height = _HEIGHT + below
        figure = Figure(figsize=(_WIDTH, height))
        box = (_LEFT / _WIDTH, below / height, 1 - (_LEFT + _RIGHT) / _WIDTH, 1 - (below + _TOP) / height)
        axes = figure.add_axes(box)
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xticks(x, ticks)
        by_percent = given.axis == "percent"
        axes.set_xlabel(
            "part of the training rows that is labelled" if by_percent else "images of each class"
        )
        axes.set_ylabel(score_words(given.score).title.lower())
        axes.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
        axes.tick_params(length=2.5)
        axes.grid(True)
        lines: list[Line2D] = []
        for i, points in enumerate(given.points):
            lines += _curve(axes, i, points, x, given.score)
        axes.margins(x=0.025)
        names = [
            f"{short(title, 60)}: {_mean(points[-1], given.score)} with all labels"
            for title, points in zip(given.titles, given.points, strict=True)
        ]
        figure.legend(
            lines,
            names,
            loc="lower left",
            bbox_to_anchor=((_LEFT - 0.08) / _WIDTH, 0),
            borderaxespad=0.2,
            borderpad=0,
            handlelength=2.6,
            labelspacing=_ROW * 72 / 8.5 - 0.98,
        )
        return figure

    ends = "; ".join(
        f"{short(title, 80)} from {_mean(points[0], given.score)} to {_mean(points[-1], given.score)}"
        for title, points in zip(given.titles, given.points, strict=True)
    )
    return to_svg(
        draw,
        name=name,
        title="Score over the number of labels",
        description=f"{score_words(given.score).title} with {ticks[0]} to {ticks[-1]} of the labels: {ends}.",
    )


def axis(given: LabelEfficiency) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Return where the points lie, and what is written beneath them; "all", beside shots, comes last."""
    points = given.points[0]
    at = grid(points)
    if len(at) < len(points):
        # All rows are no number of each class: one step further than the largest.
        at = [*at, at[-1] * (at[-1] / at[-2] if len(at) > 1 else 2)]
    shots = given.axis == "shots"
    titles = [
        f"{one.value:g}" if shots and np.isfinite(one.value) else given.point_title(one.value)
        for one in points
    ]
    return np.array(at), titles


def _mean(point: PointScores, score: str) -> str:
    mean = point.spreads[score].mean
    return "not computable" if np.isnan(mean) else number(mean)


def _curve(
    axes: Axes, i: int, points: Sequence[PointScores], x: npt.NDArray[np.float64], score: str
) -> list[Line2D]:
    colour = SERIES[i % len(SERIES)]
    spreads = [point.spreads[score] for point in points]
    for part, depth in (("total", 0.13), ("labels", 0.26)):
        low, high = np.array([getattr(spread, part) for spread in spreads], dtype=np.float64).T
        if part == "labels":  # where there is one draw only, or all is labelled, it has no width
            means = np.array([spread.mean for spread in spreads])
            low, high = np.where(np.isnan(low), means, low), np.where(np.isnan(high), means, high)
        axes.fill_between(x, low, high, color=colour, alpha=depth, linewidth=0)
    for at, point in zip(x, points, strict=True):
        values = np.array(point.values[score])
        if len(values) > 1:
            axes.plot(np.full(len(values), at), values, ".", color=colour, alpha=0.7, markersize=5, mew=0)
    return axes.plot(x, [spread.mean for spread in spreads], **pen(i), marker="o", markersize=4)


def described(given: LabelEfficiency) -> str:
    """Return the figure's caption."""
    drawn = plural(given.repeats, "draw")
    bands = (
        f"Lines are means over {drawn} of labels; each small dot is one of them. The inner band holds the "
        f"mean if labels were drawn again, the outer one if test {units(given.unit)} were drawn again too "
        "(95 %)."
    )
    if given.repeats == 1:
        bands = (
            f"Lines are one draw of labels; the band holds it if test {units(given.unit)} were drawn again "
            "(95 %). What another draw of labels would give cannot be told from one."
        )
    return bands
