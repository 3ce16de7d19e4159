"""Predictions to scores: every number with an interval, its n, the unit resampled and the seed.

``scoring`` computes them and compares those of several predictions; ``subgroups`` scores the levels of the
columns that ``by_columns`` reads; ``multi_label`` scores several labels an image; ``record`` says what is
kept and how ``scores.json`` is laid out.
"""

from __future__ import annotations

from panderm.scores.multi_label import LabelScores, MultiLabelScores
from panderm.scores.record import (
    LEVEL,
    METHOD,
    ClassScores,
    LevelScores,
    Score,
    Scores,
    SubgroupColumn,
    Subgroups,
)
from panderm.scores.scoring import DRAWS, differences, evaluate, require_same_rows
from panderm.scores.subgroups import headline, subgroup_score_names

__all__ = [
    "DRAWS",
    "LEVEL",
    "METHOD",
    "ClassScores",
    "LabelScores",
    "LevelScores",
    "MultiLabelScores",
    "Score",
    "Scores",
    "SubgroupColumn",
    "Subgroups",
    "differences",
    "evaluate",
    "headline",
    "require_same_rows",
    "subgroup_score_names",
]
