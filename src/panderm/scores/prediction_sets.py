"""Conformal prediction sets: all classes that cannot be ruled out, and how often the truth is among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from panderm.errors import UsageError
from panderm.predictions import Predictions
from panderm.scores.resampled import Resampling, Weights
from panderm.scores.score import Score
from panderm.statistics.conformal import prediction_sets


@dataclass(frozen=True)
class CoverageRow:
    """Some rows: how often the truth is in the set, and how large the sets are.

    Attributes:
        of: "all" or a class.
        column: "" of all, else "class".
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
    """Sets of one kind: one threshold for all rows, or one for each class."""

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
    given: Predictions, validation: Predictions | None, resampling: Resampling, *, coverage: float = 0.9
) -> PredictionSets | None:
    """Fit conformal sets on validation rows and measure what they cover on the rows scored.

    Args:
        given: the rows scored.
        validation: rows to fit on; without any there are no sets.
        resampling: of the rows scored.
        coverage: share of rows whose set is to hold the truth.

    Raises:
        UsageError: a coverage that is no share.
    """
    if not 0 < coverage < 1:
        raise UsageError("--coverage must be a share between 0 and 1.", f"found {coverage:g}", "0.9 is 90 %")
    if validation is None or not len(validation):
        return None
    held = validation.truth_codes()
    kinds = []
    for by, by_class in (("all", False), ("class", True)):
        sets = prediction_sets(
            held, validation.probabilities, given.probabilities, coverage, by_class=by_class
        )
        kinds.append(_measured(by, sets, given, held, resampling))
    return PredictionSets(coverage, f"the {validation.card.split} rows", len(validation), tuple(kinds))


def _measured(
    by: str,
    sets: npt.NDArray[np.bool_],
    given: Predictions,
    held: npt.NDArray[np.int64],
    resampling: Resampling,
) -> SetsBy:
    truth, size = given.truth_codes(), sets.sum(axis=1)
    of_row = {
        "coverage": sets[np.arange(len(truth)), truth],
        "size": size,
        "single": size == 1,
        "empty": size == 0,
    }
    groups = {"all": np.ones(len(truth), dtype=np.bool_)}
    groups |= {name: truth == k for k, name in enumerate(given.classes)}

    def means(weights: Weights | None) -> dict[str, npt.NDArray[np.float64]]:
        counts = np.ones((1, len(truth))) if weights is None else weights.astype(np.float64)
        found = {}
        with np.errstate(invalid="ignore"):
            for group, mask in groups.items():
                rows = counts[:, mask].sum(axis=1)
                for name, value in of_row.items():
                    found[f"{name} {group}"] = counts[:, mask] @ value[mask].astype(np.float64) / rows
        return found

    scores = resampling.scores(means)
    rows = []
    for k, (group, mask) in enumerate(groups.items()):
        calibrated = len(held) if k == 0 or by == "all" else int((held == k - 1).sum())
        told = [scores[f"{name} {group}"] for name in of_row]
        column = "class" if k else ""
        rows.append(CoverageRow(group, column, int(mask.sum()), calibrated, *told))
    return SetsBy(by, tuple(rows), {int(n): int((size == n).sum()) for n in np.unique(size)})
