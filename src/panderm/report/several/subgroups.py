"""Subgroups of several entries side by side: one table of scores and one of gaps for each column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from panderm.report.page import score_row
from panderm.report.several.beside import Beside, Measure, axis_of, difference_row, scale_of
from panderm.report.several.keys import Key
from panderm.report.subgroups import beneath
from panderm.report.words import score_words
from panderm.scores import LEVEL, Scores, SubgroupColumn, Subgroups, headline

_WITH = f", with {LEVEL:.0%} intervals".replace("%", " %")


@dataclass(frozen=True)
class ComparedSubgroups:
    """The section: the one score it shows, each column's two tables, and what is said beneath them."""

    score: str
    tables: list[tuple[str, Beside, Beside]]
    beneath: list[str]


def compared_subgroups(scores: Sequence[Scores], keys: Sequence[Key]) -> ComparedSubgroups | None:
    """Return what the page says about subgroups; None where not all entries have the same ones."""
    held = [one.subgroups for one in scores if one.subgroups is not None]
    if len(held) < len(scores) or any(_groups(one) != _groups(held[0]) for one in held):
        return None
    name = headline(held[0])
    tables = []
    for columns in zip(*(one.columns for one in held), strict=True):
        first: SubgroupColumn = columns[0]
        gaps = [level.gaps[name] for column in columns for level in column.levels]
        scale = scale_of(gaps)
        by_group, by_gap = [], []
        for i, level in enumerate(first.levels):
            levels = [column.levels[i] for column in columns]
            cells = [score_row(name, one.scores[name]) for one in levels]
            by_group.append(Measure(level.level, "", level.n, cells))
            cells = [difference_row(one.gaps[name], scale) for one in levels]
            by_gap.append(Measure(level.level, "", level.n, cells))
        of_score = f"{score_words(name).title} by {first.column}{_WITH}"
        heads = [(key, key.letter) for key in keys]
        on = f"drawn from −{scale:g} to +{scale:g}"
        tables.append(
            (
                first.column if first.cut is None else f"{first.column}, {first.cut}",
                Beside("Group", of_score, heads, ("0", "1"), by_group, counts=True),
                Beside("Gap", f"Gap by {first.column}{_WITH}; {on}", heads, axis_of(scale), by_gap),
            )
        )
    errors = [f"{column.column} is {column.error}." for column in held[0].columns if column.error]
    return ComparedSubgroups(score_words(name).title, tables, [*errors, *beneath(scores, name)])


def _groups(held: Subgroups) -> list[tuple[str, list[tuple[str, int]]]]:
    return [(column.column, [(level.level, level.n) for level in column.levels]) for column in held.columns]
