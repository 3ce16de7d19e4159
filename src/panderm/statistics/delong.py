"""How sure an AUROC is without a bootstrap: DeLong's variance, and the test of two on the same cases.

Every row has a placement: the share of the other class's rows that it is ranked right against. The AUROC is
their mean, and its variance that of the placements (DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988),
found from midranks in O(n log n) (Sun and Xu, IEEE Signal Process. Lett. 21, 2014). Where rows come in
clusters, as the images of one patient do, placements are summed within a cluster first, of both classes at
once (Obuchowski, Biometrics 53, 1997).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DelongTest:
    """Two AUROC on the same cases.

    Attributes:
        difference: the second minus the first, in [-1, 1].
        low: lower end of its interval.
        high: upper end.
        z: the difference over its standard error; NaN where that is 0.
        p: two-sided p-value; 1 where both rank alike throughout, NaN where only the standard error is 0.
    """

    difference: float
    low: float
    high: float
    z: float
    p: float


def delong(truth: ArrayLike, scores: ArrayLike, clusters: ArrayLike | None = None) -> tuple[Floats, Floats]:
    """Return the AUROC of M models on the same rows, and the covariance of these.

    Args:
        truth: (n,) 1 or True for the class sought, 0 for the other; both must have rows.
        scores: (M, n), or (n,) of one model; finite, higher for the class sought.
        clusters: (n,) integers, rows with equal values belong together; None for independent rows.

    Returns:
        (M,) AUROC in [0, 1] and their (M, M) covariance. NaN where it cannot be told: with one row of a class
        or, of clusters, with one cluster that shows it.

    Raises:
        ValueError: shapes that do not match, a class without rows, scores that are not finite.
    """
    positive, values, codes = _checked(truth, scores, clusters)
    first, other = values[:, positive], values[:, ~positive]
    m, n = first.shape[1], other.shape[1]
    every = rankdata(np.hstack([first, other]), axis=1)
    of_first = (every[:, :m] - rankdata(first, axis=1)) / n
    of_other = 1 - (every[:, m:] - rankdata(other, axis=1)) / m
    auroc = of_first.mean(axis=1)
    if codes is None:
        return auroc, _covariance(of_first) / m + _covariance(of_other) / n
    centred = (of_first - auroc[:, None], of_other - auroc[:, None])
    return auroc, _clustered(centred, (codes[positive], codes[~positive]))


def delong_interval(
    auroc: float, variance: float, level: float = 0.95, *, logit: bool = True
) -> tuple[float, float]:
    """Return the interval of one AUROC by its variance.

    Args:
        auroc: in [0, 1].
        variance: of :func:`delong`.
        level: in (0, 1).
        logit: on the scale of log odds, which stays in [0, 1] and covers better near 1 (Pepe, "The
            Statistical Evaluation of Medical Tests", 2003); else the normal interval, cut at 0 and 1.

    Returns:
        low and high; NaN for an AUROC of exactly 0 or 1, whose variance says nothing.
    """
    _check_level(level)
    if not (0 < auroc < 1 and variance >= 0):
        return np.nan, np.nan
    reach = float(ndtri((1 + level) / 2) * np.sqrt(variance))
    if not logit:
        return max(0.0, float(auroc - reach)), min(1.0, float(auroc + reach))
    middle, reach = np.log(auroc / (1 - auroc)), reach / (auroc * (1 - auroc))
    low, high = 1 / (1 + np.exp(-(middle + np.array([-reach, reach]))))
    return float(low), float(high)


def delong_test(
    truth: ArrayLike,
    first: ArrayLike,
    other: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    level: float = 0.95,
) -> DelongTest:
    """Test whether two models on the same cases have the same AUROC.

    Args:
        truth: (n,) 1 or True for the class sought.
        first: (n,) scores of one model.
        other: (n,) scores of another.
        clusters: (n,) integers, as of :func:`delong`.
        level: of the difference's interval, in (0, 1).

    Raises:
        ValueError: as :func:`delong`.
    """
    _check_level(level)
    auroc, covariance = delong(truth, np.stack([np.asarray(first), np.asarray(other)]), clusters)
    difference = float(auroc[1] - auroc[0])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    error = np.sqrt(max(variance, 0.0))
    if np.isnan(variance) or error < 1e-12:
        same = error < 1e-12 and abs(difference) < 1e-12
        return DelongTest(difference, np.nan, np.nan, np.nan, 1.0 if same else np.nan)
    z = difference / float(error)
    reach = float(ndtri((1 + level) / 2) * error)
    p = float(2 * ndtr(-abs(z)))
    return DelongTest(difference, max(-1.0, difference - reach), min(1.0, difference + reach), z, p)


def _covariance(placements: Floats) -> Floats:
    rows = placements.shape[1]
    centred = placements - placements.mean(axis=1, keepdims=True)
    return centred @ centred.T / (rows - 1) if rows > 1 else np.full((len(placements),) * 2, np.nan)


def _clustered(centred: tuple[Floats, Floats], codes: tuple[NDArray[Any], NDArray[Any]]) -> Floats:
    """Obuchowski's equation 4: of both classes' sums within a cluster, and the covariance of the two."""
    names, index = np.unique(np.concatenate(codes), return_inverse=True)
    split, total = len(codes[0]), np.zeros((len(centred[0]),) * 2)
    sums, scale = [], []
    for placements, of in zip(centred, (index[:split], index[split:]), strict=True):
        showing = len(np.unique(of))
        if showing < 2:
            return np.full_like(total, np.nan)
        sums.append(np.stack([np.bincount(of, row, len(names)) for row in placements]) / len(of))
        scale.append(showing / (showing - 1))
    both = sums[0] @ sums[1].T * len(names) / (len(names) - 1)
    return np.asarray(scale[0] * sums[0] @ sums[0].T + scale[1] * sums[1] @ sums[1].T + both + both.T)


def _checked(
    truth: ArrayLike, scores: ArrayLike, clusters: ArrayLike | None
) -> tuple[NDArray[np.bool_], Floats, NDArray[Any] | None]:
    positive = np.asarray(truth).astype(bool)
    values = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    if positive.ndim != 1 or values.ndim != 2 or values.shape[1] != len(positive):
        raise ValueError(f"truth must be (n,) and scores (M, n), not {positive.shape} and {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("scores must be finite")
    if positive.all() or not positive.any():
        raise ValueError("both classes must have rows")
    codes = None if clusters is None else np.asarray(clusters)
    if codes is not None and codes.shape != positive.shape:
        raise ValueError(f"clusters must be ({len(positive)},), not {codes.shape}")
    return positive, values, codes


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, not {level}")
