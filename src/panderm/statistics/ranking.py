"""Who scores higher than whom, sorted once and counted for many row weightings.

A weighted AUROC is a share of won pairs (Mann and Whitney, Ann. Math. Stat. 18, 1947), and average precision
a mean over the positive rows of the precision at their score. The order of the rows depends on no weights:
a score is sorted once, after which a draw of the bootstrap is sums of its weights in that order. Won pairs
are whole numbers or halves, exact in float64 up to 2^53.

Weights here are (n, b), one row per image, so that b draws at a time move through memory side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Ranking:
    """One class's score, sorted. The rows of that class are its "own", m of them."""

    own: Integers  # (m,) own rows, best score first
    ahead: Integers  # (n,) how many own rows score higher than each row
    level: Integers  # (n,) how many own rows score at least as high
    tied: Integers  # the rows for which the two differ
    bins: Any  # (m + 1, n) sparse: sums the rows that have 0, 1, ... m own rows ahead


def rank(score: Floats, is_own: NDArray[np.bool_]) -> Ranking:
    """Sort a score.

    Args:
        score: (n,) finite, higher for rows more likely to be own.
        is_own: (n,) the rows of the class that the score is for.
    """
    own = np.flatnonzero(is_own)
    own = own[np.argsort(-score[own], kind="stable")]
    ahead = np.searchsorted(-score[own], -score, side="left")
    level = np.searchsorted(-score[own], -score, side="right")
    return Ranking(own, ahead, level, np.flatnonzero(ahead != level), grouping(ahead, len(own) + 1))


def won_pairs_and_precision(weights: Floats, ranking: Ranking, members: Any) -> tuple[Floats, Floats]:
    """Compare the own rows of a ranking with the rows of every class.

    Args:
        weights: (n, b), how often each row counts.
        ranking: of one class's score.
        members: (K, n) sparse, from `grouping`: sums rows by class.

    Returns:
        (K, b) pairs in which an own row scores higher than a row of each class, ties counting half: AUROC
        once divided by the number of pairs; and (b,) the sum over own rows of the precision at their score:
        average precision once divided by the weight of the own rows.
    """
    own_weights = weights[ranking.own]
    best = _running_sums(own_weights)  # row k: weight of the best k own rows
    beaten_by = np.take(best, ranking.ahead, axis=0)
    if len(ranking.tied):
        beaten_by[ranking.tied] += best[ranking.level[ranking.tied]]
        beaten_by[ranking.tied] *= 0.5
    beaten_by *= weights
    won: Floats = members @ beaten_by

    # A row scores at least as high as an own row just if it has no more own rows ahead of it than that one.
    called = _running_sums(ranking.bins @ weights)[1 + ranking.ahead[ranking.own]]
    hits = best[ranking.level[ranking.own]]
    precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
    return won, np.einsum("ib,ib->b", own_weights, precision)


def grouping(group: Integers, n_groups: int) -> Any:
    """Return a sparse (n_groups, n) matrix G, so that ``G @ rows`` sums the rows of each group.

    Args:
        group: (n,) group of each row, 0..n_groups-1.
        n_groups: number of groups, including those without rows.
    """
    n = len(group)
    return scipy.sparse.csr_array((np.ones(n), (group, np.arange(n))), shape=(n_groups, n))


def _running_sums(rows: Floats) -> Floats:
    """Return (m + 1, b): row k is the sum of the first k of m rows."""
    sums = np.zeros((len(rows) + 1, rows.shape[1]))
    np.cumsum(rows, axis=0, out=sums[1:])
    return sums
