"""The page's section on subgroups: each level of a column, and its gap to all other images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from panderm.errors import plural, some
from panderm.report.words import interval, number, score_words, signed, verdict
from panderm.scores import LevelScores, Score, Scores, SubgroupColumn, headline

# Above this many classes their counts have no room beside the scores.
_COUNTED_CLASSES = 8
# These do not depend on how many images of each class a group has.
_FREE_OF_THE_MIX = ("auroc", "auroc_ovo", "balanced_accuracy")


@dataclass(frozen=True)
class Cell:
    """A score or a gap in words; ``apart`` where the interval of a gap leaves out 0."""

    value: str | None
    interval: str | None
    verdict: str
    reason: str
    apart: bool = False


@dataclass(frozen=True)
class LevelRow:
    """One level: how many images, units and images of a class, its score and its gap."""

    name: str
    n: int
    units: int
    classes: list[int]
    score: Cell
    gap: Cell


@dataclass(frozen=True)
class ColumnTable:
    """One column's levels in order, and what is said beneath them."""

    title: str
    cut: str | None
    unseen: str | None
    error: str | None
    rows: list[LevelRow]


@dataclass(frozen=True)
class AllScores:
    """Every score of one level, for those who want more than the first."""

    title: str
    rows: list[tuple[str, Cell, Cell]]


@dataclass(frozen=True)
class SubgroupSection:
    """All that the section says.

    Its tables show one ``score``, and the images of the ``counted`` classes beside it.
    """

    score: str
    meaning: str
    counted: list[str]
    whole: Cell
    tables: list[ColumnTable]
    details: list[AllScores]
    beneath: list[str]


def subgroup_section(scores: Scores) -> SubgroupSection | None:
    """Return what the page says about subgroups; None where none were scored."""
    held = scores.subgroups
    if held is None:
        return None
    name = headline(held)
    counted = {one: [one] for one in scores.classes}
    if len(counted) > _COUNTED_CLASSES:
        positive = scores.operating.positive if scores.operating else ()
        counted = {"positive": list(positive)} if positive else {}
    return SubgroupSection(
        score=score_words(name).title,
        meaning=score_words(name).meaning,
        counted=list(counted),
        whole=_cell(scores.scores[name]),
        tables=[_table(column, name, counted) for column in held.columns],
        details=[_all_scores(column, level) for column in held.columns for level in column.levels],
        beneath=beneath([scores], name),
    )


def beneath(scores: Sequence[Scores], name: str) -> list[str]:
    """Return what must be said beneath tables of a score by subgroup.

    Args:
        scores: of one or several, with the same subgroups.
        name: of the score.
    """
    held, unit = scores[0].subgroups, scores[0].unit
    if held is None:
        return []
    found = [
        f"Too few to say: fewer than {plural(held.fewest_units, unit)} in the group, or fewer that show a "
        "class which the score needs. A group without a number is not a group without a gap."
    ]
    gaps = [
        level.gaps[name]
        for one in scores
        for column in (one.subgroups.columns if one.subgroups else ())
        for level in column.levels
    ]
    known = [gap for gap in gaps if gap.low is not None]
    if known:
        apart = sum(_apart(gap) for gap in known)
        found.append(
            f"Of {plural(len(known), 'gap')} with an interval {apart or 'none'} "
            f"{'leave' if apart > 1 else 'leaves'} out 0; where groups are equal, one in twenty does so by "
            "chance alone, and their number was not corrected for."
        )
    if name not in _FREE_OF_THE_MIX:
        title = score_words(name).title
        found.append(f"{title} also moves with the mix of classes in a group: a gap may come from that.")
    found.append(
        f"The groups come from {Path(held.file).name}, by its column {held.image_column} "
        f"(SHA-256 {held.sha256[:12]}…)."
    )
    if any(column.error for column in held.columns):
        found.append(
            "Where groups are estimated, images stand in the wrong one; that usually makes a gap look "
            "smaller than it is."
        )
    return found


def _table(column: SubgroupColumn, name: str, counted: Mapping[str, Sequence[str]]) -> ColumnTable:
    rows = [
        LevelRow(
            name=level.level,
            n=level.n,
            units=level.clusters,
            classes=[sum(level.classes[one] for one in ones) for ones in counted.values()],
            score=_cell(level.scores[name]),
            gap=_gap_cell(level, name),
        )
        for level in column.levels
    ]
    unseen = some(column.unseen, 8) if column.unseen else None
    return ColumnTable(column.column, column.cut, unseen, column.error, rows)


def _all_scores(column: SubgroupColumn, level: LevelScores) -> AllScores:
    rows = [
        (score_words(name).title, _cell(level.scores[name]), _gap_cell(level, name)) for name in level.scores
    ]
    return AllScores(f"{column.column}: {level.level}", rows)


def _cell(score: Score, *, gap: bool = False) -> Cell:
    between = interval(score)
    if gap and score.low is not None and score.high is not None:
        between = f"{signed(score.low)} to {signed(score.high)}"
    return Cell(
        value=None if score.value is None else (signed if gap else number)(score.value),
        interval=between,
        verdict=verdict(score),
        reason=_reason(score),
        apart=gap and _apart(score),
    )


def _gap_cell(level: LevelScores, name: str) -> Cell:
    """Return a gap in words, without a reason that the score beside it gives already."""
    score, gap = level.scores[name], level.gaps[name]
    cell = _cell(gap, gap=True)
    return replace(cell, reason="") if gap.value is None and gap.reason == score.reason else cell


def _reason(score: Score) -> str:
    return (score.reason or "").replace("too few to say: ", "").removeprefix("no interval: ")


def _apart(gap: Score) -> bool:
    return gap.low is not None and gap.high is not None and not gap.low <= 0 <= gap.high
