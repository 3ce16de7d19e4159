"""The diagnosis hierarchy, level by level: probabilities of the classes of a group added up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from panderm.predictions import Predictions
from panderm.scores.resampled import Resampling
from panderm.scores.score import Score


@dataclass(frozen=True)
class HierarchyLevel:
    """One level.

    Attributes:
        level: its name: diagnosis, group, malignant.
        groups: by group, the classes it is made of.
        left_out: classes that have no group here, with the reason.
        n: rows scored.
        scores: as of the whole.
        per_group: sensitivity by group.
        counts: rows by true group.
    """

    level: str
    groups: dict[str, tuple[str, ...]]
    left_out: dict[str, str]
    n: int
    scores: dict[str, Score]
    per_group: dict[str, Score]
    counts: dict[str, int]


@dataclass(frozen=True)
class Hierarchy:
    """The section "Diagnosis hierarchy": levels, finest first, and whose words the classes are."""

    source: str
    levels: tuple[HierarchyLevel, ...]


def score_hierarchy(given: Predictions, resampling: Resampling, *, hierarchy: Path | str) -> Hierarchy | None:
    """Score every level of a hierarchy.

    Args:
        given: the rows scored.
        resampling: of them.
        hierarchy: the taxonomy of the diagnosis map, or a CSV with a column ``class`` and one a level.
    """
    return None
