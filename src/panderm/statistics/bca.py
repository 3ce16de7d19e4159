"""Bias-corrected and accelerated bootstrap intervals (BCa), by draws and by what each cluster is worth.

Percentiles of the draws presume that they lie around the value as the value lies around the truth. BCa
measures how far they do not: the bias by the share of draws below the value, the acceleration, how the
spread moves with the truth, by leaving out one cluster after the other (Efron, J. Am. Stat. Assoc. 82, 1987;
DiCiccio and Efron, Stat. Sci. 11, 1996). Leaving out is a row of weights too: the statistics are those of the
draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from panderm.statistics.resampling import (
    Statistic,
    Weights,
    over_weights,
    piece_size,
    stratum_of_clusters,
)

GROUPS = 1_000
"""With more clusters, so many groups of them are left out: the acceleration then errs by about 6e-4."""


@dataclass(frozen=True, eq=False)
class Jackknife:
    """A statistic without each cluster, or each group of clusters, in turn.

    Attributes:
        values: by name, (G, ...).
        strata: (G,) the stratum of what was left out; all 0 without strata.
    """

    values: dict[str, NDArray[Any]]
    strata: NDArray[np.int64]


def jackknife(
    statistic: Statistic,
    clusters: ArrayLike,
    *,
    strata: ArrayLike | None = None,
    groups: int = GROUPS,
    seed: int = 0,
    chunk: int | None = None,
    threads: int | None = None,
    advance: Callable[[int], None] | None = None,
) -> Jackknife:
    """Compute a statistic without each cluster in turn.

    Args:
        statistic: from (b, n) weights to names and (b, ...) values.
        clusters: (n,) integers, rows with equal values are left out together; n >= 1.
        strata: (n,) integers, equal within a cluster, where draws are made within them. A stratum of one
            cluster is the same in every draw, so that cluster is never left out.
        groups: with more clusters than this, so many groups of about equal size, made by chance within
            strata, are left out instead of single clusters.
        seed: of the groups.
        chunk: rows of weights at a time; None for pieces of about 16 MB.
        threads: as of `bootstrap`.
        advance: likewise.

    Raises:
        ValueError: clusters that are no integers, a cluster in two strata, or fewer than two groups.
    """
    codes = np.asarray(clusters)
    if codes.ndim != 1 or not len(codes) or not np.issubdtype(codes.dtype, np.integer):
        raise ValueError(f"clusters must be (n,) integers with n >= 1, not {codes.dtype} {codes.shape}")
    if groups < 2:
        raise ValueError(f"groups must be at least 2, not {groups}")
    names, cluster = np.unique(codes, return_inverse=True)
    m = len(names)
    stratum = np.zeros(m, dtype=np.int64)
    if strata is not None:
        stratum = np.unique(stratum_of_clusters(cluster, strata), return_inverse=True)[1]
    group, group_strata = _groups(stratum, groups, np.random.default_rng(seed))
    left_out = group[cluster]  # of each row; -1: never
    step = piece_size(len(codes)) if chunk is None else chunk

    def pieces() -> Iterator[Weights]:
        for start in range(0, len(group_strata), step):
            these = np.arange(start, min(start + step, len(group_strata)))
            yield (left_out[:, None] != these).astype(np.int32).T

    values = over_weights(statistic, pieces(), threads=threads, advance=advance)
    return Jackknife(values, group_strata)


def acceleration(left_out: ArrayLike, strata: ArrayLike | None = None) -> float:
    """Return Efron's acceleration: a sixth of the skewness of what each cluster adds to a statistic.

    Args:
        left_out: (G,) values without each of the clusters.
        strata: (G,) integers; each stratum is centred by itself (Davison and Hinkley, "Bootstrap Methods and
            their Application", 1997, section 5.3.3).

    Returns:
        0 where all are equal: the statistic rests on no single cluster. NaN where one is not finite.
    """
    values = np.asarray(left_out, dtype=np.float64)
    if not np.isfinite(values).all():
        return float("nan")
    codes = np.zeros(len(values), dtype=np.int64) if strata is None else np.asarray(strata)
    third = second = 0.0
    for code in np.unique(codes):
        own = values[codes == code]
        added = (len(own) - 1) / len(own) * (own.mean() - own)
        third, second = third + float((added**3).sum()), second + float((added**2).sum())
    # What sums in another order leave in the last digits is no spread.
    if second <= len(values) * (1e-12 * max(1.0, float(np.abs(values).max(initial=0)))) ** 2:
        return 0.0
    return float(third / (6 * second**1.5))


def bca_interval(
    draws: ArrayLike,
    value: float,
    left_out: ArrayLike,
    level: float = 0.95,
    *,
    strata: ArrayLike | None = None,
) -> tuple[float, float, int]:
    """Return the BCa interval of one score, and how many draws it rests on.

    Args:
        draws: (B,) values of the score; those that are not finite are left out.
        value: on the rows as they are.
        left_out: (G,) values of the score of :func:`jackknife`.
        level: in (0, 1).
        strata: (G,) of :class:`Jackknife`.

    Returns:
        low, high and the number of finite draws. low and high are NaN where percentiles would be
        (:func:`panderm.statistics.resampling.percentile_interval`), and where there is no correction: the
        value lies outside of all draws, the score cannot be computed without some cluster, or the correction
        passes its pole.

    Raises:
        ValueError: draws of another shape, or a level out of range.
    """
    values = np.asarray(draws, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"draws must be (B,), not {values.shape}")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, not {level}")
    finite = values[np.isfinite(values)]
    used = len(finite)
    if used < 2 or 2 * used < len(values) or not np.isfinite(value):
        return np.nan, np.nan, used
    # Equal draws count half, as many scores have few values only.
    below = ((finite < value).sum() + (finite <= value).sum()) / (2 * used)
    bias, a = float(ndtri(below)), acceleration(left_out, strata)
    if not (np.isfinite(bias) and np.isfinite(a)):
        return np.nan, np.nan, used
    z = bias + ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    if (1 - a * z <= 0).any():
        return np.nan, np.nan, used
    low, high = np.quantile(finite, ndtr(bias + z / (1 - a * z)))
    return float(low), float(high), used


def _groups(
    stratum: NDArray[np.int64], groups: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the group of each cluster, -1 where it is never left out, and the stratum of each group."""
    group, strata, taken = np.full(len(stratum), -1, dtype=np.int64), [], 0
    for code, size in enumerate(np.bincount(stratum)):
        if size < 2:
            continue
        made = size if len(stratum) <= groups else min(int(size), max(2, round(groups * size / len(stratum))))
        own = np.flatnonzero(stratum == code)
        turns = np.arange(size) if made == size else rng.permutation(size) % made
        group[own] = taken + turns
        strata += [code] * int(made)
        taken += int(made)
    return group, np.array(strata, dtype=np.int64)
