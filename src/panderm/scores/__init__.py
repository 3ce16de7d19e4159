"""Predictions to scores: every number with an interval, its n, the unit resampled and the seed.

``scoring`` computes them and compares those of several predictions; ``record`` says what is kept and how
``scores.json`` is laid out.
"""

from __future__ import annotations

from panderm.scores.record import LEVEL, METHOD, ClassScores, Score, Scores
from panderm.scores.scoring import DRAWS, differences, evaluate, require_same_rows

__all__ = [
    "DRAWS",
    "LEVEL",
    "METHOD",
    "ClassScores",
    "Score",
    "Scores",
    "differences",
    "evaluate",
    "require_same_rows",
]
