"""One of the evaluations that a page shows."""

from __future__ import annotations

from dataclasses import dataclass, field

from panderm.predictions import Predictions
from panderm.report.mistakes.looks import Look
from panderm.scores import Score, Scores


@dataclass(frozen=True)
class Entry:
    """One evaluation: its title, its numbers, and how far they lie from the first entry's.

    ``look`` holds what else the page may look at: the embeddings, and the encoder.
    """

    title: str
    predictions: Predictions
    scores: Scores
    differences: dict[str, Score] = field(default_factory=dict)
    look: Look = field(default_factory=Look)
