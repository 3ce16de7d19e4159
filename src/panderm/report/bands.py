"""Curves with bands, and scores on a line, as figures: numbers in, SVG text out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from panderm.report.figures import pen
from panderm.report.section import Points
from panderm.report.svg import INK, MUTED, SERIES, to_svg
from panderm.report.words import number, short
from panderm.scores import Score
from panderm.scores.calibration import CalibrationOf
from panderm.scores.resampled import Band

_WIDTH, _HEIGHT = 3.9, 3.3  # inches


def curves(
    x: Sequence[float],
    bands: Sequence[tuple[str, Band]],
    *,
    across: str,
    up: str,
    name: str,
    floor: float | None,
) -> tuple[str, Points]:
    """Draw curves over the same points, each with the band of its pointwise intervals.

    Args:
        x: (m,) where the curves are known.
        bands: title and (m,) values of each curve.
        across: what x is.
        up: what the curves are.
        name: prefix of the ids inside, unique in the page.
        floor: lowest value shown; None shows all.
    """

    def draw() -> Figure:
        figure = Figure(figsize=(_WIDTH, _HEIGHT + 0.18 * len(bands)), layout="constrained")
        axes = figure.add_subplot()
        for i, (title, band) in enumerate(bands):
            value, low, high = (
                np.array(part, dtype=np.float64) for part in (band.value, band.low, band.high)
            )
            axes.fill_between(x, low, high, color=SERIES[i % len(SERIES)], alpha=0.18, linewidth=0)
            axes.plot(x, value, label=short(title, 40), **pen(i))
        axes.axhline(0, color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
        axes.set(xlabel=across, ylabel=up)
        if floor is not None:  # below it a curve may run far away, and its band with it
            tops = [v for _, band in bands for v in (*band.value, *band.high) if v is not None]
            shown = [v for _, band in bands for v in band.value if v is not None]
            axes.set_ylim(floor, min(max(tops, default=1), 1.5 * max(shown, default=1)) * 1.05 or 1)
        axes.grid(True)
        figure.legend(loc="outside lower left")
        return figure

    rows = tuple(
        (title, at, *values)
        for title, band in bands
        for at, *values in zip(x, band.value, band.low, band.high, strict=True)
    )
    description = f"{up} over {across}: {', '.join(title for title, _ in bands)}."
    return to_svg(draw, name=name, title=up, description=description), Points(
        ("curve", across, up, "low", "high"), rows
    )


def reliability(ones: Sequence[CalibrationOf], *, name: str) -> tuple[str, Points]:
    """Draw the share observed over the mean probability of each bin, with intervals.

    Args:
        ones: probabilities as given, and after recalibrations.
        name: prefix of the ids inside, unique in the page.
    """

    def draw() -> Figure:
        figure = Figure(figsize=(_WIDTH, _HEIGHT + 0.18 * len(ones)), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
        for i, one in enumerate(ones):
            bins = [b for b in one.bins if b.predicted is not None and b.observed.low is not None]
            ends = [
                np.array([getattr(b.observed, end) for b in bins], dtype=np.float64)
                for end in ("value", "low", "high")
            ]
            at = np.array([b.predicted for b in bins], dtype=np.float64)
            axes.fill_between(at, ends[1], ends[2], color=SERIES[i % len(SERIES)], alpha=0.18, linewidth=0)
            axes.plot(at, ends[0], label=one.of, marker="o", markersize=3.5, **pen(i))
        axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="mean probability", ylabel="share observed")
        axes.grid(True)
        figure.legend(loc="outside lower left")
        return figure

    rows = tuple(
        (one.of, b.predicted, b.observed.value, b.observed.low, b.observed.high, b.n)
        for one in ones
        for b in one.bins
    )
    description = f"Share observed over mean probability: {', '.join(one.of for one in ones)}."
    return to_svg(draw, name=name, title="Reliability diagram", description=description), Points(
        ("probabilities", "mean probability", "share observed", "low", "high", "n"), rows
    )


def forest(rows: Sequence[tuple[str, Score]], whole: Score, *, across: str, name: str) -> tuple[str, Points]:
    """Draw each group's score and interval on one line, the score of all as a dotted one.

    Args:
        rows: name and score of each group; one without a value keeps its line and says so.
        whole: of all rows.
        across: what the score is.
        name: prefix of the ids inside, unique in the page.
    """

    def draw() -> Figure:
        figure = Figure(figsize=(7.4, 0.6 + 0.25 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        if whole.value is not None:
            axes.axvline(whole.value, color=MUTED, linewidth=0.9, linestyle=(0, (2, 2)))
        for i, (_, score) in enumerate(rows):
            if score.value is None:
                middle = axes.get_yaxis_transform()
                axes.text(0.02, i, "no value", color=MUTED, va="center", fontsize=8, transform=middle)
                continue
            if score.low is not None and score.high is not None:
                axes.plot([score.low, score.high], [i, i], color=INK, linewidth=1.2)
            axes.plot([score.value], [i], "s", color=SERIES[0], markersize=5)
        axes.set_yticks(range(len(rows)), [short(title, 36) for title, _ in rows])
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlabel=across)
        axes.grid(True, axis="x")
        return figure

    known = "; ".join(f"{short(t, 60)} {number(s.value)}" for t, s in rows if s.value is not None)
    points = tuple((title, s.value, s.low, s.high) for title, s in [("all", whole), *rows])
    svg = to_svg(draw, name=name, title=f"{across} by group", description=f"{across}: {known}.")
    return svg, Points(("group", across, "low", "high"), points)
