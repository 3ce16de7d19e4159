"""The nearest of many vectors to a few: cosines, block by block, so that memory does not grow with n."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from panderm.statistics.projection import BLOCK, VectorsLike

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def mean_vector(vectors: VectorsLike, rows: Ints) -> Floats:
    """Return the mean of some of (n, D) vectors, float64 (D,), read block by block.

    Args:
        vectors: (n, D), in memory or mapped.
        rows: positions, one or more.

    Raises:
        ValueError: no rows.
    """
    if not len(rows):
        raise ValueError("a mean needs at least one row")
    total = np.zeros(vectors.shape[1])
    for start in range(0, len(rows), BLOCK):
        block = np.asarray(vectors[rows[start : start + BLOCK]], dtype=np.float64)
        total += block.sum(axis=0)
    return total / len(rows)


def nearest_rows(
    asked: npt.ArrayLike, vectors: VectorsLike, rows: Ints, k: int, *, centre: npt.ArrayLike = 0.0
) -> tuple[Ints, Floats]:
    """Return for each vector asked after the k rows of largest cosine, the nearest first.

    One pass over the rows, at most 4,096 of them in memory at once. Of equals the earlier row comes first.

    Args:
        asked: (m, D) vectors.
        vectors: (n, D), in memory or mapped.
        rows: positions among them that may be neighbours, (r,).
        k: how many; of fewer rows all.
        centre: (D,), taken off every vector first: cosines of what is left are those a probe sees.

    Returns:
        positions int64 (m, min(k, r)) and cosines float64 in [-1, 1] likewise. The cosine with a vector of
        zeros is 0.

    Raises:
        ValueError: k of less than 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    middle = np.asarray(centre, dtype=np.float64)
    own = _unit(np.asarray(asked, dtype=np.float64) - middle)
    best_rows = np.empty((len(own), 0), dtype=np.int64)
    best = np.empty((len(own), 0))
    for start in range(0, len(rows), BLOCK):
        here = rows[start : start + BLOCK]
        cosine = own @ _unit(np.asarray(vectors[here], dtype=np.float64) - middle).T
        best = np.concatenate([best, cosine], axis=1)
        best_rows = np.concatenate([best_rows, np.broadcast_to(here, cosine.shape)], axis=1)
        order = np.argsort(-best, axis=1, kind="stable")[:, :k]
        best = np.take_along_axis(best, order, axis=1)
        best_rows = np.take_along_axis(best_rows, order, axis=1)
    return best_rows, np.clip(best, -1, 1)


def _unit(X: Floats) -> Floats:
    length = np.linalg.norm(X, axis=1, keepdims=True)
    scaled: Floats = np.divide(X, length, out=np.zeros_like(X), where=length > 0)
    return scaled
