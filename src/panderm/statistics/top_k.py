"""Top-k accuracy: how often the true class is among the k most probable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from panderm.statistics.blocks import multiplicities

Floats = NDArray[np.float64]


def top_k_accuracy(
    truth: ArrayLike, probabilities: ArrayLike, k: Sequence[int], weights: ArrayLike | None = None
) -> dict[int, Floats]:
    """Return, for every k, the share of rows whose true class is among the k most probable.

    Of equal probabilities the first class counts as the more probable one, as everywhere here: k = 1 is
    accuracy.

    Args:
        truth: (n,) class codes, 0..K-1.
        probabilities: (n, K) finite, higher for the more likely class.
        k: each from 1 to K.
        weights: (B, n) integers >= 0, how often each row counts; None for once each, B = 1.

    Returns:
        By k, (B,) shares in [0, 1]; NaN where no row counts.

    Raises:
        ValueError: shapes that do not match, probabilities that are not finite, or a k that is no number of
            classes.
    """
    hits = top_k_hits(truth, probabilities, k)
    counts = multiplicities(weights, len(np.asarray(truth))).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return {one: counts @ hit / counts.sum(axis=1) for one, hit in hits.items()}


def top_k_hits(truth: ArrayLike, probabilities: ArrayLike, k: Sequence[int]) -> dict[int, NDArray[np.bool_]]:
    """Return, for every k, (n,) whether each row's true class is among the k most probable.

    Args:
        truth: as of `top_k_accuracy`.
        probabilities: likewise.
        k: likewise.

    Raises:
        ValueError: as there.
    """
    true, scores = np.asarray(truth, dtype=np.int64), np.asarray(probabilities, dtype=np.float64)
    if scores.ndim != 2 or true.shape != scores.shape[:1]:
        raise ValueError(f"probabilities must be (n, K) and truth (n,), not {scores.shape} and {true.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("probabilities must be finite")
    n_classes = scores.shape[1]
    if not all(1 <= one <= n_classes for one in k):
        raise ValueError(f"k must be from 1 to {n_classes}, not {list(k)}")
    own = scores[np.arange(len(true)), true][:, None]
    before = np.arange(n_classes) < true[:, None]
    ahead = ((scores > own) | ((scores == own) & before)).sum(axis=1)
    return {one: np.asarray(ahead < one) for one in k}
