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
    starts = np.flatnonzero(np.r_[True, np.diff(sure[order]) != 0]) if len(sure) else np.zeros(0, int)

    def compute(block: Floats) -> dict[str, Floats]:
        w, e = (np.add.reduceat(v[order], starts, axis=0) for v in (block, block * bad[:, None]))
        risk, area, excess = [], [], []
        for rows, errors in zip(w.T, e.T, strict=True):
            n, total = rows.sum(), errors.sum()
            k = np.arange(1, int(n) + 1)
            upto = np.interp(k, np.r_[0, rows.cumsum()], np.r_[0, errors.cumsum()])
            risk.append(np.interp(shares * n, np.r_[0, k], np.r_[0, upto]) / (shares * n))
            area.append((upto / k).mean())
            excess.append(area[-1] - (np.maximum(k - (n - total), 0) / k).mean())
        return {"risk": np.array(risk), "area": np.array(area), "excess": np.array(excess)}

    return over_blocks(compute, multiplicities(weights, len(bad)), 2 * len(bad))
