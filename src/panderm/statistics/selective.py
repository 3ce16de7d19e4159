"""Errors among the surest rows, over row weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from panderm.statistics.blocks import multiplicities, over_blocks

Floats = NDArray[np.float64]


def risk_coverage(
    wrong: ArrayLike, confidence: ArrayLike, coverage: ArrayLike, weights: ArrayLike | None = None
) -> dict[str, Floats]:
    """Return ``risk`` (B, m) at each coverage, and ``area`` and ``excess`` (B,), all in [0, 1].

    Rows of equal confidence are answered together, each in part (their mean error). The area is the mean risk
    over the rows answered (AURC); the excess is it less that of the best order (Geifman et al., ICLR 2019).

    Args:
        wrong: (n,) 0 or 1.
        confidence: (n,) higher for the surer.
        coverage: (m,) shares in (0, 1].
        weights: (B, n) integers; None for once each.
    """
    sure, bad, shares = np.asarray(confidence), np.asarray(wrong, dtype=np.float64), np.asarray(coverage)
    order = np.argsort(-sure, kind="stable")
    ordered = bad[order]
    starts = np.flatnonzero(np.r_[True, np.diff(sure[order]) != 0]) if len(sure) else np.zeros(0, int)

    def compute(block: Floats) -> dict[str, Floats]:
        block = np.take(block, order, axis=0)
        rows = np.add.reduceat(block, starts, axis=0)
        errors = np.add.reduceat(block * ordered[:, None], starts, axis=0)
        n, total = rows.sum(axis=0), errors.sum(axis=0)
        # Errors rise evenly from the first to the last row of equal confidence, "before" to "upto".
        upto, done = errors.cumsum(axis=0), rows.cumsum(axis=0)
        slope = np.divide(errors, rows, out=np.zeros_like(rows), where=rows > 0)
        harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, int(n.max(initial=0)) + 1))])
        parts = np.diff(np.take(harmonic, done.astype(np.int64)), axis=0, prepend=0.0)
        # The sum of the risk over k answers: of slope + (before - slope * rows before) / k.
        summed = total + ((upto - errors - slope * (done - rows)) * parts).sum(axis=0)
        right = n - total
        best = total - right * (harmonic[n.astype(np.int64)] - harmonic[right.astype(np.int64)])
        zero, risk = np.zeros(1), []
        for at, held, wrong_upto in zip(
            n, np.ascontiguousarray(done.T), np.ascontiguousarray(upto.T), strict=True
        ):
            asked = shares * at
            risk.append(np.interp(asked, np.r_[zero, held], np.r_[zero, wrong_upto]) / asked)
        return {"risk": np.array(risk), "area": summed / n, "excess": (summed - best) / n}

    return over_blocks(compute, multiplicities(weights, len(bad)), 3 * len(bad))
