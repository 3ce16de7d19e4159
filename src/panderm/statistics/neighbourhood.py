"""How much of the neighbourhood a map keeps: of those near on the plane, who was near among the vectors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from panderm.statistics.projection import Metric, Plane, VectorsLike, as_measured, blocks

K = 10
MOST = 1000  # images asked after; each is compared with all
_TOGETHER = 128  # of them in one block, so that 128 × 4,096 distances are held
_Z = 1.959963984540054


@dataclass(frozen=True)
class Kept:
    """How much of the neighbourhood a map keeps.

    Attributes:
        trustworthiness: 1 where every neighbour on the map is one among the vectors; about 0.5 by chance.
        low, high: its 95 % interval for the sample of images; None where every image was asked after.
        shared: share of the k nearest on the map that are among the k nearest vectors, in [0, 1].
        k: neighbours of each image.
        asked: images asked after, each compared with all.
        n: all images.
    """

    trustworthiness: float
    low: float | None
    high: float | None
    shared: float
    k: int
    asked: int
    n: int


def neighbourhood_kept(
    vectors: VectorsLike,
    plane: Plane,
    *,
    k: int = K,
    metric: Metric = "euclidean",
    most: int = MOST,
    seed: int = 0,
) -> Kept:
    """Return the trustworthiness of a map (Venna and Kaski, Neural Networks 14, 2001, 485-499).

    For each image asked after, every neighbour on the map costs as much as its rank among the vectors lies
    beyond k. Of a large table a random sample is asked after, but always about all rows: the value estimates
    that of the whole map, and memory does not grow with n.

    Args:
        vectors: (n, D), n >= 4.
        plane: float (n, 2), the map of these rows.
        k: neighbours; of few rows as many as can be had, less than n / 2.
        metric: of the vectors.
        most: rows asked after.
        seed: of the sample.

    Example:
        >>> neighbourhood_kept(vectors, plane).trustworthiness  # doctest: +SKIP
        0.953
    """
    n = len(plane)
    k = max(1, min(k, (n - 1) // 2))
    asked = np.arange(n)
    if n > most:
        asked = np.sort(np.random.default_rng(seed).choice(n, most, replace=False))
    near = nearest_on_plane(plane, asked, k)
    penalty, shared = np.empty(len(asked)), np.empty(len(asked))
    for start in range(0, len(asked), _TOGETHER):
        some = slice(start, start + _TOGETHER)
        ranks = _ranks(vectors, asked[some], near[some], metric)
        penalty[some] = np.maximum(ranks - k, 0).sum(axis=1)
        shared[some] = (ranks <= k).mean(axis=1)
    each = 1 - penalty * 2 / (k * (2 * n - 3 * k - 1))
    value, low, high = float(each.mean()), None, None
    if n > most:
        half = _Z * float(each.std(ddof=1)) / len(each) ** 0.5
        low, high = value - half, min(1.0, value + half)
    return Kept(value, low, high, float(shared.mean()), k, len(asked), n)


def nearest_on_plane(plane: Plane, asked: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int64]:
    """Return for each row asked after its k nearest others on the map, int64 (m, k)."""
    found = cKDTree(plane).query(plane[asked], k=k + 1)[1]
    # Of rows that lie on one spot, a row itself need not be the first found, nor be found at all.
    others = np.argsort(found == asked[:, None], axis=1, kind="stable")[:, :k]
    return np.take_along_axis(found, others, axis=1).astype(np.int64)


def _ranks(
    vectors: VectorsLike, asked: npt.NDArray[np.int64], near: npt.NDArray[np.int64], metric: Metric
) -> npt.NDArray[np.int64]:
    """Return for each row asked after the ranks, from 1, of its neighbours on the map among all vectors."""
    own = as_measured(vectors[asked], metric)
    theirs = as_measured(vectors[near.ravel()], metric).reshape(*near.shape, -1)
    # Near vectors far from 0 differ in bits that |x|² + |y|² − 2xy would lose.
    centre = own.mean(axis=0)
    own, theirs = own - centre, theirs - centre
    limit = _squares(own[:, None], theirs)[:, 0]
    closer = np.zeros(near.shape, dtype=np.int64)
    start = 0
    for block in blocks(vectors, metric):
        distance = _squares(own[None], (block - centre)[None])[0]
        here = (asked >= start) & (asked < start + len(block))
        distance[here, asked[here] - start] = np.inf
        # A neighbour is not closer than itself, whatever the last bit says.
        rows, columns = np.nonzero((near >= start) & (near < start + len(block)))
        at = near[rows, columns] - start
        for j in range(near.shape[1]):
            mine = columns == j
            saved = distance[rows[mine], at[mine]].copy()
            distance[rows[mine], at[mine]] = np.inf
            closer[:, j] += (distance < limit[:, j, None]).sum(axis=1)
            distance[rows[mine], at[mine]] = saved
        start += len(block)
    return closer + 1


def _squares(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return squared distances of stacks of rows, (s, p, D) and (s, q, D) to (s, p, q)."""
    lengths = (a * a).sum(axis=-1)[..., :, None] + (b * b).sum(axis=-1)[..., None, :]
    found: npt.NDArray[np.float32] = lengths - 2 * (a @ b.swapaxes(-1, -2))
    return found
