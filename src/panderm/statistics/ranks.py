"""Several methods on several datasets: average ranks, and Friedman's test of whether they differ at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import friedmanchisquare, rankdata


@dataclass(frozen=True)
class AverageRanks:
    """How methods rank over datasets (Demšar, J. Mach. Learn. Res. 7, 2006).

    Attributes:
        ranks: (k,) mean rank of each method, 1 the best, equals sharing their mean; NaN without a dataset.
        used: (N,) which datasets count: those where every method has a score.
        p: of Friedman's test that all methods rank alike; None where it cannot be made.
        reason: why there is no p.
    """

    ranks: NDArray[np.float64]
    used: NDArray[np.bool_]
    p: float | None
    reason: str | None


def average_ranks(scores: ArrayLike) -> AverageRanks:
    """Rank methods within each dataset, the highest score first, and average over datasets.

    Args:
        scores: (k, N), methods down the rows, datasets across; NaN where there is none.

    Returns:
        Ranks over the datasets where all k have a score. Friedman's chi-square is an approximation that
        needs more datasets than most tables have (N > 10 and k > 5 by Demšar): a small p here is a hint.

    Raises:
        ValueError: not a table of numbers.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"scores must be (k, N), not {values.shape}")
    used = np.asarray(np.isfinite(values).all(axis=0), dtype=np.bool_)
    held = values[:, used]
    if not held.size:
        return AverageRanks(np.full(len(values), np.nan), used, None, "no dataset where all have a score")
    ranked = rankdata(-held, axis=0)
    ranks = np.asarray(ranked.mean(axis=1), dtype=np.float64)
    if len(values) < 3:
        return AverageRanks(ranks, used, None, "Friedman's test needs three or more to compare")
    if held.shape[1] < 2:
        return AverageRanks(ranks, used, None, "Friedman's test needs two or more datasets")
    if (ranked == ranked[0]).all():
        return AverageRanks(ranks, used, None, "all are equal on every dataset")
    return AverageRanks(ranks, used, float(friedmanchisquare(*held).pvalue), None)
