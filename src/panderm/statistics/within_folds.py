"""AUROC of scores that come from cross-validation: rows are compared within their fold only.

Each fold's scores come from a model of its own. Put into one ranking, those of a column that knows nothing
fall below 0.5: a positive row raises the score that all folds but its own give to rows like it (Parker,
Günter and Bedo, BMC Bioinformatics 8, 2007; Airola et al., Comput. Stat. Data Anal. 55, 2011).
Two rows of one fold were scored by one model that saw neither, and have no such bias. Won pairs, and pairs,
are summed over the folds before they are divided, so that a fold weighs as much as it has pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from panderm.statistics.ranking import grouping

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class WithinFolds:
    """Scores of K classes, sorted once and counted for many row weightings.

    With two classes the AUROC is that of class 1; with more, the unweighted mean over classes against the
    rest.

    Args:
        truth: (n,) class codes, 0..K-1.
        scores: (n, K) finite, higher for the more likely class; K >= 2.
        folds: (n,) integers; only rows of one fold are compared.

    Raises:
        ValueError: shapes that do not match.

    Example:
        >>> WithinFolds([0, 1, 0, 1], [[0.9, 0.1], [0.2, 0.8]] * 2, [0, 0, 1, 1]).auroc()
        array([1.])
    """

    def __init__(self, truth: ArrayLike, scores: ArrayLike, folds: ArrayLike) -> None:
        true, fold = (np.asarray(x, dtype=np.int64) for x in (truth, folds))
        values = np.asarray(scores, dtype=np.float64)
        n = len(true)
        if values.ndim != 2 or values.shape[1] < 2 or len(values) != n or fold.shape != (n,):
            raise ValueError(f"scores must be ({n}, K) and folds ({n},), not {values.shape} and {fold.shape}")
        self.n, K = n, values.shape[1]
        # Rows of one fold, score and class count as one: of a column with few levels hardly any are left.
        cells = np.column_stack([fold, true, values])
        kept, cell = np.unique(cells, axis=0, return_inverse=True)
        self._pooled = grouping(cell.ravel().astype(np.int64), len(kept)) if len(kept) < n else None
        at = kept if self._pooled is not None else cells
        self._classes = [
            _sorted(at[:, 0].astype(np.int64), at[:, 1] == c, at[:, 2 + c])
            for c in ((1,) if K == 2 else range(K))
        ]

    def auroc(self, weights: ArrayLike | None = None) -> Floats:
        """Return the AUROC for each of B weightings.

        Args:
            weights: (B, n) integers >= 0, how often each row counts; None for once each.

        Returns:
            (B,) in [0, 1]; NaN where some class has no pair in any fold.
        """
        given = np.ones((1, self.n)) if weights is None else np.asarray(weights)
        block = np.ascontiguousarray(given.T, dtype=np.float64)
        if self._pooled is not None:
            block = self._pooled @ block
        found = np.zeros(block.shape[1])
        with np.errstate(invalid="ignore", divide="ignore"):
            for own, sums, first, by_fold in self._classes:
                positive = sums @ (block * own[:, None])
                negative = sums @ block - positive
                below = np.zeros((len(first) + 1, block.shape[1]))
                np.cumsum(negative, axis=0, out=below[1:])
                ahead = below[:-1] - below[first] + negative / 2
                pairs = ((by_fold @ positive) * (by_fold @ negative)).sum(axis=0)
                found += (positive * ahead).sum(axis=0) / pairs
        return found / len(self._classes)


def _sorted(fold: Integers, own: NDArray[np.bool_], score: Floats) -> tuple[Any, Any, Integers, Any]:
    """Return own rows, sums of equal scores (fold by fold, ascending), each one's fold's first, fold sums."""
    groups, of = np.unique(np.column_stack([fold, score]), axis=0, return_inverse=True)
    names, of_fold = np.unique(groups[:, 0], return_inverse=True)
    first = np.searchsorted(of_fold, np.arange(len(names)))[of_fold]
    sums = grouping(of.ravel().astype(np.int64), len(groups))
    return own, sums, first.astype(np.int64), grouping(of_fold.astype(np.int64), len(names))


def level_scores(levels: ArrayLike, truth: ArrayLike, folds: ArrayLike, n_classes: int) -> Floats:
    """Predict the class of each row from its level alone, learned from the rows of all other folds.

    The score of a class is its smoothed frequency among the rows of that level: (count + a·p) / (rows + a),
    p being the frequency of the class among all rows learned from and a = 5 rows (the m-estimate of Cestnik,
    ECAI 1990). A level that was never seen gets p.

    Args:
        levels: (n,) integers >= 0; or (n, F), column f holding the levels as fold f is to see them.
        truth: (n,) class codes, 0..K-1.
        folds: (n,) integers 0..F-1.
        n_classes: K.

    Returns:
        (n, K) scores; rows sum to 1.
    """
    level, true, fold = (np.asarray(x, dtype=np.int64) for x in (levels, truth, folds))
    scores = np.empty((len(true), n_classes))
    for f in np.unique(fold):
        held = fold == f
        own = level if level.ndim == 1 else level[:, f]
        cells = own[~held] * n_classes + true[~held]
        counts = np.bincount(cells, minlength=(own.max() + 1) * n_classes).reshape(-1, n_classes)
        prior = np.bincount(true[~held], minlength=n_classes) / max(1, int((~held).sum()))
        smoothed = (counts + _PRIOR_ROWS * prior) / (counts.sum(axis=1, keepdims=True) + _PRIOR_ROWS)
        scores[held] = smoothed[own[held]]
    return scores


_PRIOR_ROWS = 5.0
