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
    """One class's score, sorted. The rows of that class are its "own", m of them; the others come in groups.

    Other rows of one group with the same own rows ahead win and lose alike: they are one "cell", of C.
    """

    own: Integers  # (m,) own rows, best score first
    ahead: Integers  # (m,) how many own rows score higher than each of them
    level: Integers  # (m,) how many own rows score at least as high
    cells: Any  # (C, n) sparse: sums the other rows of each cell
    cell_ahead: Integers  # (C,) how many own rows score higher than the rows of a cell
    tied: Integers  # cells that share their score with own rows
    tied_level: Integers  # of these, how many own rows score at least as high
    by_group: Any  # (G, C) sparse: sums the cells of each group
    by_ahead: Any  # (m + 1, C) sparse: sums the cells that have 0, 1, ... m own rows ahead


def rank(score: Floats, is_own: NDArray[np.bool_], group: Integers, n_groups: int) -> Ranking:
    """Sort a score.

    Args:
        score: (n,) finite, higher for rows more likely to be own.
        is_own: (n,) the rows of the class that the score is for.
        group: (n,) group of each row, 0..n_groups-1; those of own rows are not looked at.
        n_groups: number of groups.
    """
    own, other = np.flatnonzero(is_own), np.flatnonzero(~is_own)
    own = own[np.argsort(-score[own], kind="stable")]
    other = other[np.argsort(-score[other], kind="stable")]  # in order they are found much faster
    best = -score[own]
    ahead = np.searchsorted(best, -score[other], side="left")
    level = np.searchsorted(best, -score[other], side="right")
    stride = len(own) + 1
    key, cell = np.unique((group[other] * stride + ahead) * 2 + (ahead != level), return_inverse=True)
    of_cell = np.zeros(len(key), dtype=np.int64)
    of_cell[cell] = level
    tied, cell_ahead = np.flatnonzero(key % 2), key // 2 % stride
    cells = scipy.sparse.csr_array((np.ones(len(other)), (cell, other)), shape=(len(key), len(score)))
    return Ranking(
        own=own,
        ahead=np.searchsorted(best, best, side="left"),
        level=np.searchsorted(best, best, side="right"),
        cells=cells,
        cell_ahead=cell_ahead,
        tied=tied,
        tied_level=of_cell[tied],
        by_group=grouping(key // 2 // stride, n_groups),
        by_ahead=grouping(cell_ahead, stride),
    )


def won_pairs_and_precision(weights: Floats, ranking: Ranking) -> tuple[Floats, Floats]:
    """Compare the own rows of a ranking with the others of every group.

    Args:
        weights: (n, b), how often each row counts.
        ranking: of one class's score.

    Returns:
        (G, b) pairs in which an own row scores higher than another row of each group, ties counting half:
        AUROC once divided by the number of pairs; and (b,) the sum over own rows of the precision at their
        score: average precision once divided by the weight of the own rows.
    """
    own_weights = np.take(weights, ranking.own, axis=0)  # several times faster than weights[own]
    best = _running_sums(own_weights)  # row k: weight of the best k own rows
    counts = ranking.cells @ weights
    beaten_by = np.take(best, ranking.cell_ahead, axis=0)
    if len(ranking.tied):
        beaten_by[ranking.tied] += np.take(best, ranking.tied_level, axis=0)
        beaten_by[ranking.tied] *= 0.5
    beaten_by *= counts
    won: Floats = ranking.by_group @ beaten_by

    # Another row scores at least as high as an own row just if it has no more own rows ahead of it.
    precision = np.take(best, ranking.level, axis=0)
    called = np.take(_running_sums(ranking.by_ahead @ counts), ranking.ahead + 1, axis=0)
    called += precision
    precision /= np.maximum(called, 1, out=called)  # where none is called no own row counts either
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
    sums = np.empty((len(rows) + 1, rows.shape[1]))
    sums[0] = 0
    np.cumsum(rows, axis=0, out=sums[1:])
    return sums
