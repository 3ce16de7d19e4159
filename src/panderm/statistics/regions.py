"""Does some part of the rows go wrong more often than the rest? Regions of a space, and a test of each.

Regions are the cells of k-means on the vectors alone: no error is looked at before they stand, so that the
tests that follow are not of a line drawn around the errors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from panderm.statistics.projection import BLOCK, VectorsLike

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

FITTED = 20_000  # rows that k-means is fitted on; of more a random sample, and every row is then placed
COMPONENTS = 50  # principal components it is fitted in
FEWEST_EXPECTED = 5.0
"""Errors, and rows without, that must be expected in a region and in the rest before a test is made."""


def kmeans_regions(vectors: VectorsLike, rows: Ints, k: int, *, seed: int = 0) -> tuple[Ints, Floats]:
    """Return the region of each row, and how near it lies to the region's middle.

    Vectors are centred and scaled to length 1, as for the cosine; k-means (10 starts, scikit-learn) is
    fitted in their first 50 principal components, on a random sample of 20,000 of more rows.

    Args:
        vectors: (n, D), in memory or mapped; read block by block.
        rows: positions, (r,), at least k of them.
        k: number of regions; fewer come back where vectors repeat.
        seed: of the sample and of k-means.

    Returns:
        region of each row, int64 (r,), numbered from 0 by size, the largest first; and its squared distance
        to the middle, float64 (r,).

    Raises:
        ValueError: k of less than 1, or more than there are rows.
    """
    if not 1 <= k <= len(rows):
        raise ValueError(f"k must be from 1 to the number of rows, {len(rows)}, not {k}")
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(seed)
    some = rows if len(rows) <= FITTED else np.sort(rng.choice(rows, FITTED, replace=False))
    sample = np.asarray(vectors[some], dtype=np.float64)
    middle = sample.mean(axis=0)
    sample = _unit(sample - middle)
    if not np.ptp(sample, axis=0).any():  # they are all one vector
        return np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows))
    pca = PCA(min(COMPONENTS, *sample.shape), random_state=seed).fit(sample)
    low = pca.transform(sample)
    distinct = len(np.unique(low.round(9), axis=0))
    found = KMeans(min(k, distinct), n_init=10, random_state=seed).fit(low)
    region, distance = np.empty(len(rows), dtype=np.int64), np.empty(len(rows))
    for start in range(0, len(rows), BLOCK):
        part = slice(start, start + BLOCK)
        block = pca.transform(_unit(np.asarray(vectors[rows[part]], dtype=np.float64) - middle))
        squares = found.transform(block) ** 2
        region[part] = squares.argmin(axis=1)
        distance[part] = squares.min(axis=1)
    sizes = np.bincount(region, minlength=found.n_clusters)
    order = np.argsort(-sizes, kind="stable")
    return np.argsort(order, kind="stable")[region], distance


def region_errors(
    wrong: Bools, region: Ints
) -> Callable[[npt.NDArray[np.int32] | None], Mapping[str, Floats]]:
    """Return the statistic of each region's error rate and its gaps, for a bootstrap.

    Args:
        wrong: bool (n,).
        region: int (n,), 0 to k - 1.

    Returns:
        from (B, n) weights, or None for all ones, to (B,) values: ``rate i``; ``gap i``, the rate minus that
        of all other rows. NaN where a draw has none of the rows.
    """
    k = int(region.max()) + 1
    inside = (region[:, None] == np.arange(k)).astype(np.float64)
    errors = inside * wrong[:, None]

    def statistic(weights: npt.NDArray[np.int32] | None) -> Mapping[str, Floats]:
        W = np.ones((1, len(wrong))) if weights is None else weights.astype(np.float64)
        n, bad = W @ inside, W @ errors
        with np.errstate(invalid="ignore", divide="ignore"):
            rate = bad / n
            others = bad.sum(axis=1, keepdims=True) - bad
            rest = others / (n.sum(axis=1, keepdims=True) - n)
        found = {f"rate {i}": rate[:, i] for i in range(k)}
        return found | {f"gap {i}": rate[:, i] - rest[:, i] for i in range(k)}

    return statistic


def share_test(wrong: npt.ArrayLike, inside: npt.ArrayLike, clusters: npt.ArrayLike) -> float | None:
    """Return the two-sided p-value of one share being equal inside and outside, rows in clusters.

    A score test: under the null every row is wrong with the pooled rate; the difference of the two shares is
    a sum over rows, summed within clusters first, whose squares are its variance (the sandwich of Liang and
    Zeger, Biometrika 73, 1986). A cluster may have rows on both sides. None where fewer than five errors, or
    five rows without, are to be expected on either side: its normal law would then not hold.

    Args:
        wrong: bool (n,).
        inside: bool (n,).
        clusters: int (n,), rows that are not independent of each other have the same number.
    """
    y, side = np.asarray(wrong, dtype=np.float64), np.asarray(inside, dtype=bool)
    n, m = len(y), int(side.sum())
    pooled = float(y.mean()) if n else 0.0
    if min(m, n - m) * min(pooled, 1 - pooled) < FEWEST_EXPECTED:
        return None
    pull = np.where(side, 1 / m, -1 / (n - m)) * (y - pooled)
    _, codes = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(codes, weights=pull)
    spread = float(np.sqrt((sums**2).sum()))
    if spread == 0:
        return None
    return float(2 * ndtr(-abs(float(pull.sum())) / spread))


def _unit(X: Floats) -> Floats:
    length = np.linalg.norm(X, axis=1, keepdims=True)
    scaled: Floats = np.divide(X, length, out=np.zeros_like(X), where=length > 0)
    return scaled
