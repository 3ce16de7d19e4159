"""One of the evaluations that a page shows."""

from __future__ import annotations

from dataclasses import dataclass, field

from panderm.predictions import Predictions
from panderm.scores import Score, Scores


@dataclass(frozen=True)
class Entry:
    """One evaluation: its title, its numbers, and how far they lie from the first entry's."""

    title: str
    predictions: Predictions
    scores: Scores
    differences: dict[str, Score] = field(default_factory=dict)
