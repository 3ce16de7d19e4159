"""Calibration: whether a probability of .8 is right eight times in ten, before and after recalibration."""

from __future__ import annotations

from dataclasses import dataclass

from panderm.predictions import Predictions
from panderm.scores.resampled import Resampling
from panderm.scores.score import Score


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows of about one probability.

    Attributes:
        low, high: edges of the bin.
        n: rows.
        predicted: mean probability; None where there are none.
        observed: share that are so, with its interval.
    """

    low: float
    high: float
    n: int
    predicted: float | None
    observed: Score


@dataclass(frozen=True)
class CalibrationOf:
    """One set of probabilities.

    Attributes:
        of: "as given", "temperature", "isotonic" or "prior shift".
        how: what was fitted on which rows, in words.
        scores: ece (debiased), brier, log_loss, and of two classes calibration_slope and
            calibration_intercept.
        bins: of two classes those of the positive one, else of the most probable class.
        parameters: by name, as the temperature.
    """

    of: str
    how: str
    scores: dict[str, Score]
    bins: tuple[ReliabilityBin, ...]
    parameters: dict[str, float]


@dataclass(frozen=True)
class Calibration:
    """The section "Calibration".

    Attributes:
        probability: of what, in words: "of mel" or "of the most probable class".
        given: the probabilities as they are.
        recalibrated: after each recalibration fitted on validation rows.
        differences: by its name, each score minus that as given, on the same draws.
        fitted_on: which rows, in words; None where there are none.
    """

    probability: str
    given: CalibrationOf
    recalibrated: tuple[CalibrationOf, ...] = ()
    differences: dict[str, dict[str, Score]] | None = None
    fitted_on: str | None = None


def score_calibration(
    given: Predictions, validation: Predictions | None, resampling: Resampling
) -> Calibration | None:
    """Measure calibration on the rows scored, and that of recalibrations fitted on validation rows."""
    return None
