"""Are two predictors right equally often on the same rows? McNemar's test, and its form for clustered rows.

Only rows on which one is right and the other wrong tell them apart. Where rows are independent, those are
tosses of a coin (McNemar, Psychometrika 12, 1947). Where several rows are of one patient they are not, and
the variance must come from the patients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom, chi2


@dataclass(frozen=True)
class McNemar:
    """What McNemar's test found; two-sided p-values in [0, 1].

    Attributes:
        only_first: rows on which the first alone is right.
        only_other: rows on which the other alone is right.
        exact: the binomial p-value; it presumes independent rows and errs on the side of caution.
        mid_p: the same, with half the weight of what was observed (Fagerland, Lydersen and Laake, BMC Med.
            Res. Methodol. 13, 2013, recommend it): nearer to its level, and rarely above.
    """

    only_first: int
    only_other: int
    exact: float
    mid_p: float


@dataclass(frozen=True)
class ClusteredMcNemar:
    """McNemar's test of clustered rows: chi-squared with one degree of freedom, for many clusters.

    Attributes:
        discordant: clusters in which one of the two is right more often; with fewer than ten or so, neither
            p-value is to be trusted.
        obuchowski: p-value of Obuchowski (Stat. Med. 17, 1998, section 2): every row counts alike, so it is
            the difference in accuracy that is tested.
        durkalski: p-value of Durkalski and others (Stat. Med. 22, 2003): every cluster counts alike, however
            many rows it has.
    """

    discordant: int
    obuchowski: float
    durkalski: float


def mcnemar(first_right: ArrayLike, other_right: ArrayLike) -> McNemar:
    """Test whether two predictors are right equally often, of independent rows.

    Args:
        first_right: (n,) bool.
        other_right: (n,) bool, of the same rows.

    Returns:
        Both p-values; they are 1 where no row tells the two apart.

    Raises:
        ValueError: not two columns of equal length, or nothing in them.
    """
    one, two = _pair(first_right, other_right)
    only_first, only_other = int((one & ~two).sum()), int((two & ~one).sum())
    n, fewer = only_first + only_other, min(only_first, only_other)
    tied = only_first == only_other
    exact = 1.0 if tied else float(2 * binom.cdf(fewer, n, 0.5))
    observed = float(binom.pmf(fewer, n, 0.5))
    mid = exact - (observed / 2 if tied else observed)
    return McNemar(only_first, only_other, exact, mid if n else 1.0)


def clustered_mcnemar(
    first_right: ArrayLike, other_right: ArrayLike, clusters: ArrayLike
) -> ClusteredMcNemar:
    """Test whether two predictors are right equally often, where rows of one cluster belong together.

    With one row a cluster, `durkalski` is McNemar's test without continuity correction, and `obuchowski` that
    with (m - 1) / m times its statistic, m being the number of clusters.

    Args:
        first_right: (n,) bool.
        other_right: (n,) bool, of the same rows.
        clusters: (n,) integers; rows with equal values belong together.

    Returns:
        Both p-values: 1 where no cluster tells the two apart, NaN for `obuchowski` with one cluster only.

    Raises:
        ValueError: columns that are not of equal length, or nothing in them.
    """
    one, two = _pair(first_right, other_right)
    codes = np.asarray(clusters)
    if codes.shape != one.shape:
        raise ValueError(f"clusters must be {one.shape}, not {codes.shape}")
    cluster = np.unique(codes, return_inverse=True)[1]
    gained = np.bincount(cluster, weights=two.astype(np.float64) - one)
    m, share = len(gained), gained / np.bincount(cluster)
    return ClusteredMcNemar(
        discordant=int((gained != 0).sum()),
        obuchowski=_tail(gained.astype(np.float64), (m - 1) / m) if m > 1 else np.nan,
        durkalski=_tail(share, 1.0),
    )


def _tail(gained: NDArray[np.float64], factor: float) -> float:
    if not gained.any():
        return 1.0
    return float(chi2.sf(factor * gained.sum() ** 2 / np.square(gained).sum(), 1))


def _pair(first: ArrayLike, other: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    one, two = np.asarray(first, dtype=np.bool_), np.asarray(other, dtype=np.bool_)
    if one.ndim != 1 or one.shape != two.shape or not len(one):
        raise ValueError(f"both must be (n,) with n >= 1, not {one.shape} and {two.shape}")
    return one, two
