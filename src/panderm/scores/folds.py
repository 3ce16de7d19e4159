"""Scores of a cross-validation fold by fold, and over the folds: mean, SD, SE and two intervals."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from panderm.data.columns import in_order
from panderm.predictions import Predictions
from panderm.statistics.classification import classification_scores, not_computable
from panderm.statistics.over_folds import OverFolds, over_folds
from panderm.statistics.resampling import cluster_codes

METHOD = "within folds: AUROC and average precision rank rows of one fold only"
# Agreement below chance is negative; everything else is a share.
_LEAST = {"quadratic_kappa": -1.0}


@dataclass(frozen=True)
class FoldScores:
    """One fold: its rows, and the scores of the probe that never saw them.

    Attributes:
        fold: its name.
        n: rows.
        clusters: independent units among them.
        classes: rows by true class, in the classes' order.
        scores: by name; None where the fold does not allow it.
        reasons: by name, why not.
    """

    fold: str
    n: int
    clusters: int
    classes: dict[str, int]
    scores: dict[str, float | None]
    reasons: dict[str, str]


@dataclass(frozen=True)
class Folds:
    """Scores by fold, and each score over the folds.

    Attributes:
        each: the folds, in order.
        over: by name of the score.
        method: how the scores of all rows together are computed.
    """

    each: tuple[FoldScores, ...]
    over: dict[str, OverFolds]
    method: str = METHOD

    def as_dict(self) -> dict[str, Any]:
        """Return what ``scores.json`` holds under ``folds``."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))  # lists for tuples
        return plain


def fold_codes(given: Predictions) -> npt.NDArray[np.int64] | None:
    """Return the fold of each row, int64 (n,) from 0; None where all were predicted by one probe."""
    if given.fold is None:
        return None
    place = {name: i for i, name in enumerate(fold_names(given.fold))}
    return np.array([place[name] for name in given.fold], dtype=np.int64)


def fold_names(fold: Sequence[str] | npt.NDArray[np.object_]) -> tuple[str, ...]:
    """Return the names of folds in their order: whole numbers ascending, anything else A to Z."""
    return in_order({str(name) for name in fold})


def score_folds(given: Predictions) -> Folds | None:
    """Score the rows of every fold on their own; None where the predictions are not out of fold.

    A score that needs a class of which a fold has no row is not computable there; the mean is over the folds
    that have it, and says how many.
    """
    codes = fold_codes(given)
    if codes is None or given.fold is None:
        return None
    truth, predicted, K = given.truth_codes(), given.predicted_codes(), len(given.classes)
    clusters, _ = cluster_codes(given.patient, given.group, len(given))
    each = []
    for code, name in enumerate(fold_names(given.fold)):
        rows = np.flatnonzero(codes == code)
        reasons = not_computable(truth[rows], K, given.classes, predicted=predicted[rows])
        values = classification_scores(truth[rows], given.probabilities[rows])
        counts = np.bincount(truth[rows], minlength=K).tolist()
        each.append(
            FoldScores(
                fold=name,
                n=len(rows),
                clusters=len(np.unique(clusters[rows])),
                classes=dict(zip(given.classes, counts, strict=True)),
                scores={one: float(v[0]) if np.isfinite(v[0]) else None for one, v in values.items()},
                reasons=reasons,
            )
        )
    names = list(each[0].scores)
    over = {
        name: over_folds(
            [np.nan if (value := fold.scores[name]) is None else value for fold in each],
            least=_LEAST.get(name, 0.0),
        )
        for name in names
    }
    return Folds(tuple(each), over)
