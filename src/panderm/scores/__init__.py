"""Predictions to scores: every number with an interval, its n, the unit resampled and the seed.

``scoring`` computes them and compares those of several predictions; ``subgroups`` scores the levels of the
columns that ``by_columns`` reads; ``multi_label`` scores several labels an image; ``record`` says what is
kept and how ``scores.json`` is laid out.
"""

from __future__ import annotations

from panderm.scores.evaluate import evaluate
from panderm.scores.multi_label import LabelScores, MultiLabelScores
from panderm.scores.record import (
    ClassScores,
    LevelScores,
    Scores,
    SubgroupColumn,
    Subgroups,
)
from panderm.scores.score import LEVEL, METHOD, Score
from panderm.scores.scoring import DRAWS, differences, require_same_rows
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
