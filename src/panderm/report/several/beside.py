"""Tables that put the numbers of several entries side by side, and where they lie on one line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from panderm.report.page import ScoreRow
from panderm.report.several.keys import Key
from panderm.report.words import signed, verdict
from panderm.scores import Score

_SCALES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0)


@dataclass(frozen=True)
class Measure:
    """One quantity, with the value of each entry."""

    title: str
    meaning: str
    n: int | None
    cells: list[ScoreRow]


@dataclass(frozen=True)
class Beside:
    """A table with a column for each of some entries, and one where all stand on the same line."""

    first: str
    caption: str
    heads: list[tuple[Key, str]]
    axis: tuple[str, ...]
    rows: list[Measure]
    counts: bool = False


def scale_of(differences: Iterable[Score]) -> float:
    """Return how far a line must reach to either side of 0 to hold all of these."""
    found = [x for d in differences for x in (d.low, d.high, d.value) if x is not None]
    widest = max((abs(x) for x in found), default=0.0)
    return next((scale for scale in _SCALES if widest <= scale), _SCALES[-1])


def axis_of(scale: float) -> tuple[str, ...]:
    """Return what is written above a line from ``-scale`` to ``scale``."""
    return f"−{scale:g}", "0", f"+{scale:g}"


def difference_row(difference: Score, scale: float) -> ScoreRow:
    """Put one difference into words; its bar runs from ``-scale`` to ``scale``, 0 in the middle."""
    low, value, high = difference.low, difference.value, difference.high
    between, bar = None, None
    if value is not None and low is not None and high is not None:
        between = f"{signed(low)} to {signed(high)}"
        left, middle, right = (50 + 50 * x / scale for x in (low, value, high))
        bar = (left, middle, right) if 0 <= left <= right <= 100 and 0 <= middle <= 100 else None
    return ScoreRow(
        title="",
        meaning="",
        value=None if value is None else signed(value),
        interval=between,
        reason=difference.reason and difference.reason.removeprefix("no interval: "),
        bar=bar,
        verdict=verdict(difference),
        holds_zero=low is None or high is None or low <= 0 <= high,
    )
