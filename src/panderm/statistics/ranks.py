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
        ranks: (k,) mean rank of each method, 1 the best, equals sharing their mean; NaN of a method without
            any score, and of all without a dataset.
        used: (N,) which datasets count: those where every method that has any has a score.
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
        Ranks over the datasets where all that have any score have one. Friedman's chi-square is an
        approximation that needs more datasets than most tables have (N > 10 and k > 5 by Demšar): a small p
        here is a hint.

    Raises:
        ValueError: not a table of numbers.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"scores must be (k, N), not {values.shape}")
    some = np.isfinite(values).any(axis=1)
    used = np.asarray(np.isfinite(values[some]).all(axis=0) & some.any(), dtype=np.bool_)
    held, ranks = values[some][:, used], np.full(len(values), np.nan)
    if not held.size:
        return AverageRanks(ranks, used, None, "no dataset where all have a score")
    ranked = rankdata(-held, axis=0)
    ranks[some] = ranked.mean(axis=1)
    if len(held) < 3:
        return AverageRanks(ranks, used, None, "Friedman's test needs three or more to compare")
    if held.shape[1] < 2:
        return AverageRanks(ranks, used, None, "Friedman's test needs two or more datasets")
    if (ranked == ranked[0]).all():
        return AverageRanks(ranks, used, None, "all are equal on every dataset")
    return AverageRanks(ranks, used, float(friedmanchisquare(*held).pvalue), None)
