"""Selective prediction: what is left of the errors where the least sure rows go to a person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from panderm.predictions import Predictions
from panderm.scores.resampled import Band, Resampling
from panderm.scores.score import Score
from panderm.statistics.selective import risk_coverage

COVERAGE = tuple(round(0.05 * step, 2) for step in range(1, 21))
TOLD = (0.5, 0.8, 0.9, 1.0)


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
    wrong = given.predicted_codes() != given.truth_codes()
    sure = given.probabilities.max(axis=1)

    def measured(weights: npt.NDArray[np.int32] | None) -> dict[str, npt.NDArray[np.float64]]:
        return risk_coverage(wrong, sure, COVERAGE, weights)

    drawn = resampling.drawn(measured)
    return Selective(
        coverage=COVERAGE,
        risk=drawn.band("risk"),
        area=drawn.score("area"),
        excess=drawn.score("excess"),
        at={f"{share:g}": drawn.score("risk", column=COVERAGE.index(share)) for share in TOLD},
    )
