"""A section of the page: sentences, tables, and figures with the points they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from panderm.report.mistakes.pictures import Sheet
from panderm.report.several.keys import Key
from panderm.report.words import interval, number, verdict
from panderm.scores import Score


@dataclass(frozen=True)
class Points:
    """What a figure plots: one row a point, None where there is nothing."""

    header: tuple[str, ...]
    rows: tuple[tuple[str | float | None, ...], ...]


@dataclass(frozen=True)
class Drawing:
    """One figure as it stands in the page; ``svg`` is None where there is nothing to draw.

    What is drawn has ``points``: they leave the page as a CSV, called ``name`` or, without one, by the title.
    """

    title: str
    caption: str
    svg: str | None
    wide: bool = False
    points: Points | None = None
    name: str = ""


@dataclass(frozen=True)
class Rows:
    """A table in words, its first column naming the rows.

    Where its other columns are the entries of a page, ``keys`` are theirs.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    keys: Sequence[Key] = ()


@dataclass(frozen=True)
class Paste:
    """Sentences that an author takes along, under a heading of their own."""

    title: str
    paragraphs: Sequence[str]


@dataclass(frozen=True)
class Folded:
    """A table under a heading that is opened by who wants it; on paper it is open. ``kind`` is its class."""

    title: str
    table: Rows
    kind: str = "values"


@dataclass(frozen=True)
class Section:
    """A section: what must be read first, tables, figures and sheets of pictures."""

    name: str
    title: str
    intro: Sequence[str]
    tables: Sequence[Rows] = ()
    drawings: Sequence[Drawing] = ()
    pastes: Sequence[Paste] = ()
    folded: Sequence[Folded] = ()
    sheets: Sequence[Sheet] = ()


def told(score: Score | None) -> str:
    """Return ``"0.912 (0.881–0.939)"``, or why there is no value or no interval."""
    if score is None:
        return "—"
    if score.value is None:
        reason = (score.reason or "").replace("too few to say: ", "")
        return f"{verdict(score)}: {reason}" if reason else verdict(score)
    return f"{number(score.value)} ({interval(score) or score.reason or 'no interval'})"
