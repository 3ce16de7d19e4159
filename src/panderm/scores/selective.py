"""Selective prediction: what is left of the errors where the least sure rows go to a person."""

from __future__ import annotations

from dataclasses import dataclass

from panderm.predictions import Predictions
from panderm.scores.resampled import Band, Resampling
from panderm.scores.score import Score


@dataclass(frozen=True)
class Selective:
    """The section "Selective prediction".

    Attributes:
        coverage: shares of rows that are answered, the surest first.
        risk: share of wrong answers among them.
        area: area under that curve.
        excess: that area less the one of the best order there could be.
        at: risk where 50, 80, 90 and 100 % are answered, by that share.
    """

    coverage: tuple[float, ...]
    risk: Band
    area: Score
    excess: Score
    at: dict[str, Score]


def score_selective(given: Predictions, resampling: Resampling) -> Selective | None:
    """Measure errors among the surest rows (Geifman and El-Yaniv, NeurIPS 2017)."""
    return None
