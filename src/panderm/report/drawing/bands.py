"""Curves with bands, and scores on a line, as figures: numbers in, SVG text out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from panderm.report.drawing.figures import pen
from panderm.report.drawing.svg import INK, LINE, MUTED, SERIES, to_svg
from panderm.report.section import Points
from panderm.report.words import number, short
from panderm.scores import Score
from panderm.scores.calibration import CalibrationOf
from panderm.scores.resampled import Band

# Inches: the plot, what is left of it and beneath it, right and above; a row of the legend.
_WIDE, _TALL, _LEFT, _BELOW, _EDGE, _ROW = 3.2, 2.75, 0.6, 0.47, 0.12, 0.18
_LANE = 0.17  # inches between the lines of one group in a forest of several


@dataclass(frozen=True)
class Line:
    """One curve with its band.

    Attributes:
        title: what it is called.
        at: (m,) where it is known.
        band: (m,) its values.
        colour: position of its colour, from 0; None of one that the others are held against.
        label: what the legend calls it, if not the same.
    """

    title: str
    at: Sequence[float]
    band: Band
    colour: int | None
    label: str = ""


def curves(
    lines: Sequence[Line], *, across: str, up: str, name: str, floor: float | None
) -> tuple[str, Points]:
    """Draw curves, each with the band of its pointwise intervals.

    Args:
        lines: the curves.
        across: over what.
        up: what they are.
        name: prefix of the ids inside, unique in the page.
        floor: lowest value shown; None shows all.
    """

    def draw() -> Figure:
        figure, axes = _axes(len(lines))
        for line in lines:
            value, low, high = (
                np.array(part, dtype=np.float64) for part in (line.band.value, line.band.low, line.band.high)
            )
            how = _REFERENCE if line.colour is None else pen(line.colour)
            shade = {"color": how["color"], "alpha": _shade(len(lines)), "linewidth": 0}
            axes.fill_between(line.at, low, high, **shade)
            axes.plot(line.at, value, label=short(line.label or line.title, 42), **how)
        axes.axhline(0, color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
        axes.set(xlabel=across, ylabel=up)
        if floor is not None:  # below it a curve may run far away, and its band with it
            tops = [v for line in lines for v in (*line.band.value, *line.band.high) if v is not None]
            shown = [v for line in lines for v in line.band.value if v is not None]
            axes.set_ylim(floor, min(max(tops, default=1), 1.5 * max(shown, default=1)) * 1.05 or 1)
        axes.grid(True)
        _legend(figure)
        return figure

    rows = tuple(
        (line.title, at, *values)
        for line in lines
        for at, *values in zip(line.at, line.band.value, line.band.low, line.band.high, strict=True)
    )
    description = f"{up} over {across}: {', '.join(line.title for line in lines)}."
    return to_svg(draw, name=name, title=up, description=description), Points(
        ("curve", across, up, "low", "high"), rows
    )


def reliability(lines: Sequence[tuple[str, str, CalibrationOf, int]], *, name: str) -> tuple[str, Points]:
    """Draw the share observed over the mean probability of each bin, with intervals.

    Args:
        lines: title, what the legend calls it, what was measured, and position of the colour, from 0.
        name: prefix of the ids inside, unique in the page.
    """

    def draw() -> Figure:
        figure, axes = _axes(len(lines))
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
        for _, label, one, colour in lines:
            bins = [b for b in one.bins if b.predicted is not None and b.observed.low is not None]
            ends = [
                np.array([getattr(b.observed, end) for b in bins], dtype=np.float64)
                for end in ("value", "low", "high")
            ]
            at = np.array([b.predicted for b in bins], dtype=np.float64)
            how = pen(colour)
            shade = {"color": how["color"], "alpha": _shade(len(lines)), "linewidth": 0}
            axes.fill_between(at, ends[1], ends[2], **shade)
            axes.plot(at, ends[0], label=short(label, 42), marker="o", markersize=3.5, **how)
        axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="mean probability", ylabel="share observed")
        axes.grid(True)
        _legend(figure)
        return figure

    rows = tuple(
        (title, b.predicted, b.observed.value, b.observed.low, b.observed.high, b.n)
        for title, _, one, _ in lines
        for b in one.bins
    )
    description = f"Share observed over mean probability: {', '.join(title for title, *_ in lines)}."
    return to_svg(draw, name=name, title="Reliability diagram", description=description), Points(
        ("probabilities", "mean probability", "share observed", "low", "high", "n"), rows
    )


def forest(
    groups: Sequence[str], models: Sequence[tuple[str, Score, Sequence[Score]]], *, across: str, name: str
) -> tuple[str, Points]:
    """Draw each group's score and interval on one line, the score of all as a dotted one.

    Args:
        groups: names of g groups.
        models: of each model its title, the score of all rows, and (g,) those of the groups; one without a
            value keeps its line and says so.
        across: what the score is.
        name: prefix of the ids inside, unique in the page.
    """
    several = len(models) > 1
    places = [(i + 0.5) / len(models) - 0.5 for i in range(len(models))] if several else [0.0]

    def draw() -> Figure:
        tall = 0.25 if not several else 0.08 + _LANE * len(models)
        below = 0.2 * len(models) if several else 0
        figure = Figure(figsize=(7.4, 0.6 + tall * len(groups) + below), layout="constrained")
        axes = figure.add_subplot()
        for k, (title, whole, scores) in enumerate(models):
            colour, dot = (pen(k)["color"], 4) if several else (SERIES[0], 5)
            line = colour if several else INK
            if whole.value is not None:
                dotted = colour if several else MUTED
                axes.axvline(whole.value, color=dotted, linewidth=0.9, linestyle=(0, (2, 2)))
            for i, score in enumerate(scores):
                at = i + 0.82 * places[k]
                nothing = all(those[i].value is None for _, _, those in models)
                if score.value is None and nothing and k:
                    continue
                if score.value is None:
                    at = i if nothing else at
                    middle = axes.get_yaxis_transform()
                    size = 6.5 if several and not nothing else 8
                    axes.text(0.02, at, "no value", transform=middle, color=MUTED, va="center", fontsize=size)
                    continue
                if score.low is not None and score.high is not None:
                    axes.plot([score.low, score.high], [at, at], color=line, linewidth=1.2)
                axes.plot([score.value], [at], "s", color=colour, markersize=dot)
            if several:
                axes.plot([], [], "s-", color=colour, markersize=dot, label=short(title, 60))
        axes.set_yticks(range(len(groups)), [short(title, 36) for title in groups])
        axes.set(ylim=(len(groups) - 0.5, -0.5), xlabel=across)
        for edge in range(1, len(groups)) if several else ():
            axes.axhline(edge - 0.5, color=LINE, linewidth=0.6)
        axes.grid(True, axis="x")
        if several:
            figure.legend(loc="outside lower left")
        return figure

    known = "; ".join(
        f"{f'{short(title, 60)}, ' if several else ''}{short(group, 60)} {number(score.value)}"
        for title, _, scores in models
        for group, score in zip(groups, scores, strict=True)
        if score.value is not None
    )
    points = tuple(
        (title, group, score.value, score.low, score.high)
        for title, whole, scores in models
        for group, score in [("all", whole), *zip(groups, scores, strict=True)]
    )
    svg = to_svg(draw, name=name, title=f"{across} by group", description=f"{across}: {known}.")
    return svg, Points(("model", "group", across, "low", "high"), points)


def _axes(lines: int) -> tuple[Figure, Axes]:
    """Return axes with room for a legend of so many lines beneath; a layout of its own would draw twice."""
    below = _BELOW + _ROW * (lines + 0.4)
    width, height = _LEFT + _WIDE + _EDGE, below + _TALL + _EDGE
    figure = Figure(figsize=(width, height))
    return figure, figure.add_axes((_LEFT / width, below / height, _WIDE / width, _TALL / height))


def _legend(figure: Figure) -> None:
    figure.legend(
        loc="lower left",
        bbox_to_anchor=((_LEFT - 0.08) / figure.get_figwidth(), 0),
        borderaxespad=0.2,
        borderpad=0,
        labelspacing=_ROW * 72 / 8.5 - 0.98,
    )


_REFERENCE: dict[str, Any] = {"color": MUTED, "linestyle": "-", "linewidth": 1.2}


def _shade(lines: int) -> float:
    """Return how dense a band is: of many that lie over each other, each is lighter."""
    return 0.18 if lines < 3 else 0.09
