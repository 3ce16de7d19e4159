"""The page's section on subgroups: each level of a column, and its gap to all other images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from panderm.errors import plural, some
from panderm.report.words import interval, number, score_words, signed
from panderm.scores import LevelScores, Score, Scores, SubgroupColumn, headline, subgroup_score_names

# Above this many classes their counts have no room beside the scores.
_COUNTED_CLASSES = 8


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
    rows: list[LevelRow]


@dataclass(frozen=True)
class AllScores:
    """Every score of one level, for those who want more than the first."""

    title: str
    rows: list[tuple[str, Cell, Cell]]


@dataclass(frozen=True)
class SubgroupSection:
    """All that the section says.

    ``score`` and ``meaning`` are of the one score that the tables show, ``counted`` the classes whose images
    are counted beside it, ``gaps`` how many gaps with an interval the tables show, and ``apart`` how many of
    these leave out 0.
    """

    score: str
    meaning: str
    counted: list[str]
    whole: Cell
    tables: list[ColumnTable]
    details: list[AllScores]
    gaps: int
    apart: int
    rule: str
    source: str
    moves_with_mix: bool


def subgroup_section(scores: Scores) -> SubgroupSection | None:
    """Return what the page says about subgroups; None where none were scored."""
    held = scores.subgroups
    if held is None:
        return None
    name = headline(held)
    counted = list(scores.classes[1:] if len(scores.classes) == 2 else scores.classes)
    counted = counted if len(counted) <= _COUNTED_CLASSES else []
    levels = [level for column in held.columns for level in column.levels]
    gaps = [gap for level in levels if (gap := level.gaps[name]).low is not None]
    units = plural(held.fewest_units, scores.unit)
    of_a_class = plural(held.fewest_units_of_a_class, scores.unit)
    return SubgroupSection(
        score=score_words(name).title,
        meaning=score_words(name).meaning,
        counted=counted,
        whole=_cell(scores.scores[name]),
        tables=[_table(column, name, counted) for column in held.columns],
        details=[_all_scores(column, level) for column in held.columns for level in column.levels],
        gaps=len(gaps),
        apart=sum(_apart(gap) for gap in gaps),
        rule=f"under {units}, or under {of_a_class} with an image of a class that the score needs",
        source=f"{Path(held.file).name}, by its column {held.image_column}; SHA-256 {held.sha256}",
        moves_with_mix=name not in ("auroc", "auroc_ovo", "balanced_accuracy"),
    )


def _table(column: SubgroupColumn, name: str, counted: list[str]) -> ColumnTable:
    rows = [
        LevelRow(
            name=level.level,
            n=level.n,
            units=level.clusters,
            classes=[level.classes[one] for one in counted],
            score=_cell(level.scores[name]),
            gap=_cell(level.gaps[name], gap=True),
        )
        for level in column.levels
    ]
    unseen = some(column.unseen, 8) if column.unseen else None
    return ColumnTable(column.column, column.cut, unseen, rows)


def _all_scores(column: SubgroupColumn, level: LevelScores) -> AllScores:
    names = [name for name in level.scores if name in subgroup_score_names(len(level.classes))]
    rows = [
        (score_words(name).title, _cell(level.scores[name]), _cell(level.gaps[name], gap=True))
        for name in names
    ]
    return AllScores(f"{column.column}: {level.level}", rows)


def _cell(score: Score, *, gap: bool = False) -> Cell:
    between = interval(score)
    if gap and score.low is not None and score.high is not None:
        between = f"{signed(score.low)} to {signed(score.high)}"
    return Cell(
        value=None if score.value is None else (signed if gap else number)(score.value),
        interval=between,
        verdict="too few to say" if score.too_few else "not computable",
        reason=_reason(score),
        apart=gap and _apart(score),
    )


def _reason(score: Score) -> str:
    return (score.reason or "").replace("too few to say: ", "").removeprefix("no interval: ")


def _apart(gap: Score) -> bool:
    return gap.low is not None and gap.high is not None and not gap.low <= 0 <= gap.high
