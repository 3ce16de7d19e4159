"""One score of two predictors of the same rows: their difference, its interval, and a permutation test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from panderm.errors import UsageError, did_you_mean
from panderm.predictions import Predictions
from panderm.scores.folds import fold_codes
from panderm.scores.score import Score
from panderm.scores.scoring import DRAWS, differences, require_same_rows
from panderm.statistics.classification import classification_scorer, score_names
from panderm.statistics.permutation import paired_permutation, ranked_within
from panderm.statistics.resampling import cluster_codes

PERMUTATIONS = 2000
# What depends on the order of each column's probabilities alone, not on their size.
_OF_RANKS = {
    *("auroc", "auroc_ovo", "auroc_ovr", "average_precision", "macro_auroc", "macro_average_precision"),
}


@dataclass(frozen=True)
class PairedTest:
    """One score of another predictor minus that of the first, on the same rows.

    Attributes:
        score: which.
        difference: with the 95 % interval on the same bootstrap draws.
        p: two-sided, of the permutation test; None where the difference is not computable.
        worlds: how many swaps were compared.
        exact: whether these are all there are.
        clusters: independent units that were resampled, and swapped.
        unit: patient, lesion group or image.
    """

    score: str
    difference: Score
    p: float | None
    worlds: int
    exact: bool
    clusters: int
    unit: str

    @property
    def holds_zero(self) -> bool:
        """Whether the interval does, or there is none."""
        low, high = self.difference.low, self.difference.high
        return low is None or high is None or low <= 0 <= high

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers and text."""
        told = {name: getattr(self, name) for name in ("score", "p", "worlds", "exact", "clusters", "unit")}
        return told | {"difference": self.difference.as_dict()}

    @classmethod
    def from_dict(cls, held: dict[str, Any]) -> PairedTest:
        """Return what :meth:`as_dict` was made of."""
        return cls(**{**held, "difference": Score(**held["difference"])})


def paired_test(
    first: Predictions,
    other: Predictions,
    score: str,
    *,
    draws: int = DRAWS,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> PairedTest:
    """Compare one score of two predictors of the same rows.

    The interval is that of :func:`panderm.scores.differences`. The p-value is of a permutation test that
    swaps the two predictors' answers for whole patients (or lesions): see
    :mod:`panderm.statistics.permutation`.

    Args:
        first: the one compared with.
        other: of the same rows; its score minus that of ``first`` is what is tested.
        score: a name that both have.
        draws: of the bootstrap.
        permutations: swaps to draw, 1,000 or more for a p-value to publish.
        seed: of both.

    Raises:
        ParentsError: predictions of other rows.
        UsageError: no such score for these classes.
    """
    names = score_names(len(first.classes))
    if score not in names:
        raise UsageError(
            f"no score of {len(first.classes)} classes is called {score!r}{did_you_mean(score, names)}",
            f"there are: {', '.join(names)}",
        )
    require_same_rows([first, other])
    difference = differences([first, other], draws=draws, seed=seed)[0][score]
    clusters, unit = cluster_codes(first.patient, first.group, len(first))
    truth, folds = np.tile(first.truth_codes(), 2), fold_codes(first)
    folds = None if folds is None else np.tile(folds, 2)
    both = np.concatenate([ranked(one.probabilities, score) for one in (first, other)])
    scorer = classification_scorer(truth, both, folds=folds)
    tested = paired_permutation(
        lambda weights: scorer(weights)[score],
        clusters,
        permutations=permutations,
        seed=seed,
    )
    return PairedTest(
        score=score,
        difference=difference,
        p=float(tested.p) if np.isfinite(tested.p) else None,
        worlds=tested.worlds,
        exact=tested.exact,
        clusters=int(clusters.max()) + 1,
        unit=unit,
    )


def ranked(probabilities: npt.NDArray[np.float64], score: str) -> npt.NDArray[np.float64]:
    """Return the ranks of probabilities where a score asks for no more, else the probabilities themselves."""
    return ranked_within(probabilities) if score in _OF_RANKS else probabilities
