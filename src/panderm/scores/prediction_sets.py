"""Conformal prediction sets: all classes that cannot be ruled out, and how often the truth is among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from panderm.data.levels import Levels
from panderm.predictions import Predictions
from panderm.scores.resampled import Resampling
from panderm.scores.score import Score


@dataclass(frozen=True)
class CoverageRow:
    """Some rows: how often the truth is in the set, and how large the sets are.

    Attributes:
        of: "all", a class, or a level of a column.
        column: "" of all, "class", or the column's name.
        n: rows.
        calibrated: validation rows that the sets of these rest on.
        coverage: share with the truth in the set.
        size: mean classes in a set.
        single: share of sets of one class.
        empty: share of empty sets.
    """

    of: str
    column: str
    n: int
    calibrated: int
    coverage: Score
    size: Score
    single: Score
    empty: Score


@dataclass(frozen=True)
class SetsBy:
    """Sets of one kind: thresholds for all rows together, for each class, or for each level of a column."""

    by: str
    rows: tuple[CoverageRow, ...]
    sizes: dict[int, int]


@dataclass(frozen=True)
class PredictionSets:
    """The section "Prediction sets": the coverage asked for, and what was achieved."""

    asked: float
    fitted_on: str
    n: int
    kinds: tuple[SetsBy, ...]


def score_prediction_sets(
    given: Predictions,
    validation: Predictions | None,
    resampling: Resampling,
    *,
    coverage: float = 0.9,
    columns: Mapping[str, tuple[Levels, Levels]] | None = None,
) -> PredictionSets | None:
    """Fit conformal sets on validation rows and measure what they cover on the rows scored.

    Args:
        given: the rows scored.
        validation: rows to fit on; without any there are no sets.
        resampling: of the rows scored.
        coverage: share of rows whose set is to hold the truth.
        columns: by name, levels of the validation rows and of the rows scored, for sets by level.
    """
    return None
