"""A section of the page: sentences, tables, and figures with the points they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from panderm.report.words import interval, number, verdict
from panderm.scores import Score


@dataclass(frozen=True)
class Points:
    """What a figure plots: one row a point, None where there is nothing."""

    header: tuple[str, ...]
    rows: tuple[tuple[str | float | None, ...], ...]


@dataclass(frozen=True)
class Drawing:
    """One figure as it stands in the page; ``svg`` is None where there is nothing to draw."""

    title: str
    caption: str
    svg: str | None
    wide: bool = False
    points: Points | None = None


@dataclass(frozen=True)
class Rows:
    """A table in words, its first column naming the rows."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A section: what must be read first, tables and figures."""

    name: str
    title: str
    intro: Sequence[str]
    tables: Sequence[Rows] = ()
    drawings: Sequence[Drawing] = ()


def told(score: Score | None) -> str:
    """Return ``"0.912 (0.881–0.939)"``, or why there is no value or no interval."""
    if score is None:
        return "—"
    if score.value is None:
        reason = (score.reason or "").replace("too few to say: ", "")
        return f"{verdict(score)}: {reason}" if reason else verdict(score)
    return f"{number(score.value)} ({interval(score) or score.reason or 'no interval'})"
