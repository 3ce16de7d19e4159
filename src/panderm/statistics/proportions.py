"""Intervals of a share that hold where a bootstrap does not: at few cases, and at none or all of them.

Of 12 melanomas all found, every draw of a bootstrap finds all; the exact interval still reaches down to 74 %.
Where cases come in clusters, as the images of one patient do, both intervals are those of fewer cases: as
many independent ones as would vary as much (Rao and Scott, Biometrics 48, 1992).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri
from scipy.stats import beta


def wilson_interval(hits: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a share (J. Am. Stat. Assoc. 22, 1927).

    Args:
        hits: in [0, n]; no whole number where it is of an effective n.
        n: cases, above 0; or :func:`effective_n`.
        level: in (0, 1).

    Returns:
        low and high in [0, 1].
    """
    _check(hits, n, level)
    z2, share = float(ndtri((1 + level) / 2) ** 2), hits / n
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    reach = np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    low = 0.0 if hits == 0 else max(0.0, float(middle - reach))
    return low, 1.0 if hits == n else min(1.0, float(middle + reach))


def exact_interval(hits: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a share (Clopper and Pearson, Biometrika 26, 1934).

    Args:
        hits: in [0, n]; no whole number where it is of an effective n.
        n: cases, above 0; or :func:`effective_n`.
        level: in (0, 1).

    Returns:
        low and high in [0, 1].
    """
    _check(hits, n, level)
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, n - hits + 1))
    return low, 1.0 if hits == n else float(beta.ppf(1 - tail, hits + 1, n - hits))


def effective_n(hit: ArrayLike, clusters: ArrayLike) -> float:
    """Return of how many independent cases a share would vary as much as of these in clusters.

    Cases over the design effect, the ratio of the share's variance between clusters to that of independent
    cases. It never counts more than the cases. Where all or none are hits no variance is seen, and every
    cluster counts once: the cautious end.

    Args:
        hit: (n,) 1 or True for a hit; n >= 1.
        clusters: (n,) integers, rows with equal values belong together.

    Raises:
        ValueError: shapes that do not match, or no cases.
    """
    hits, codes = np.asarray(hit, dtype=np.float64), np.asarray(clusters)
    if hits.ndim != 1 or hits.shape != codes.shape or not len(hits):
        raise ValueError(f"hit and clusters must both be (n,), n >= 1, not {hits.shape} and {codes.shape}")
    _, of = np.unique(codes, return_inverse=True)
    n, m, share = len(hits), int(of.max()) + 1, hits.mean()
    if share in (0.0, 1.0) or m in (1, n):
        return float(m)
    residuals = np.bincount(of, hits - share)
    between = m / (m - 1) * (residuals**2).sum() / n**2
    effect = between / (share * (1 - share) / n)
    return float(n / max(1.0, effect))


def clustered_interval(
    hit: ArrayLike, clusters: ArrayLike, level: float = 0.95, *, exact: bool = True
) -> tuple[float, float]:
    """Return the interval of a share of cases in clusters, by their effective n.

    Args:
        hit: (n,) 1 or True for a hit; n >= 1.
        clusters: (n,) integers, rows with equal values belong together.
        level: in (0, 1).
        exact: Clopper and Pearson's; else Wilson's.
    """
    n = effective_n(hit, clusters)
    interval = exact_interval if exact else wilson_interval
    return interval(float(np.mean(np.asarray(hit, dtype=np.float64))) * n, n, level)


def _check(hits: float, n: float, level: float) -> None:
    if not (n > 0 and 0 <= hits <= n):
        raise ValueError(f"hits must be in [0, n] and n above 0, not {hits} of {n}")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, not {level}")
