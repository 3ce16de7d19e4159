"""Scores over the number of labels: what the draw of labels did, what the draw of test rows did, crossings.

At each point of a curve R draws of labels were fitted (repeats) and scored on B bootstrap draws of the test
units, the same for all. Repeats and test units are crossed: every repeat meets every unit. Both are resampled
at once and independently, whole rows and whole columns: the pigeonhole bootstrap (Owen, Ann. Appl. Stat. 1,
2007; McCullagh, Bernoulli 6, 2000), whose variance is right for either part and a little too large for what
they have in common. Of R repeats R − 1 are drawn: with R, a few repeats would seem more certain than they are
(Rao and Wu, J. Am. Stat. Assoc. 83, 1988).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

from panderm.statistics.resampling import percentile_interval

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]
LEVEL = 0.95


def repeat_weights(repeats: int, draws: int, seed: int) -> Floats:
    """Return how much each repeat counts in each draw, (draws, repeats), rows that sum to 1.

    Weighted means of R values vary over the draws as the mean of R independent values does: by s²/R.
    One repeat alone counts 1 throughout.
    """
    if repeats < 1 or draws < 1:
        raise ValueError(f"repeats and draws must be at least 1, not {repeats} and {draws}")
    if repeats == 1:
        return np.ones((draws, 1))
    # Another stream than that of the test units, which begins at the same seed.
    drawn = np.random.default_rng([seed, repeats]).integers(0, repeats, size=(draws, repeats - 1))
    drawn += np.arange(draws)[:, None] * repeats
    counts = np.bincount(drawn.ravel(), minlength=draws * repeats).reshape(draws, repeats)
    return np.asarray(counts / (repeats - 1))


@dataclass(frozen=True)
class Spread:
    """A mean over draws of labels, and how sure it is.

    Attributes:
        mean: over the repeats, on the test rows as they are.
        sd_labels: standard deviation between repeats: what one draw of labels instead of another does.
            NaN of one repeat.
        sd_test: standard deviation of the mean over bootstrap draws of the test units.
        labels: interval of the mean where labels are drawn again, test rows as they are; NaN of one repeat.
        test: interval of the mean where test units are drawn again, labels as they are.
        total: interval of the mean where both are.
    """

    mean: float
    sd_labels: float
    sd_test: float
    labels: Interval
    test: Interval
    total: Interval


def separate(values: npt.ArrayLike, drawn: npt.ArrayLike, weights: Floats, level: float = LEVEL) -> Spread:
    """Tell the draw of labels from the draw of test units.

    Args:
        values: (R,) the score of each repeat on the test rows as they are.
        drawn: (R, B) the same on each bootstrap draw of the test units; NaN where it cannot be computed.
        weights: (B, R) of :func:`repeat_weights`.
        level: of the intervals.

    Raises:
        ValueError: shapes that do not match.
    """
    value, on_draws = np.asarray(values, dtype=np.float64), np.asarray(drawn, dtype=np.float64)
    R = len(value)
    if on_draws.shape != (R, len(weights)) or weights.shape[1] != R:
        raise ValueError(
            f"values (R,), drawn (R, B) and weights (B, R) do not match: "
            f"{value.shape}, {on_draws.shape}, {weights.shape}"
        )
    over_test = on_draws.mean(axis=0)
    finite = over_test[np.isfinite(over_test)]
    labels = (np.nan, np.nan) if R == 1 else percentile_interval(weights @ value, level)[:2]
    return Spread(
        mean=float(value.mean()),
        sd_labels=float(value.std(ddof=1)) if R > 1 else np.nan,
        sd_test=float(finite.std()) if len(finite) > 1 else np.nan,
        labels=labels,
        test=percentile_interval(over_test, level)[:2],
        total=percentile_interval(weighted_means(on_draws, weights), level)[:2],
    )


def weighted_means(drawn: Floats, weights: Floats) -> Floats:
    """Return the mean over repeats on every draw of both: ``drawn`` (R, B), ``weights`` (B, R), to (B,)."""
    return np.asarray(np.einsum("rb,br->b", drawn, weights))


def smoothed(curves: Floats) -> Floats:
    """Return the nearest curves that never fall, (B, P): isotonic least squares, row by row.

    More labels do not make a probe worse but by chance. Rows with a NaN stay as they are.
    """
    found = np.array(curves, dtype=np.float64)
    falls = (np.diff(found, axis=1) < 0).any(axis=1) & np.isfinite(found).all(axis=1)
    for row in np.flatnonzero(falls):
        found[row] = isotonic_regression(found[row]).x
    return found


def least_labels(x: npt.ArrayLike, curves: Floats, targets: npt.ArrayLike) -> Floats:
    """Return the least x at which each smoothed curve reaches its target, by a straight line in log x.

    Args:
        x: (P,) ascending, positive.
        curves: (B, P) scores at x.
        targets: (B,).

    Returns:
        (B,): ``x[0]`` where the first point is there already, infinity where the last is not, NaN where curve
        or target is.

    Raises:
        ValueError: x that does not ascend.
    """
    at = np.asarray(x, dtype=np.float64)
    if at.ndim != 1 or not len(at) or at[0] <= 0 or (np.diff(at) <= 0).any():
        raise ValueError(f"x must be positive and ascend, not {at}")
    curve, target = smoothed(curves), np.asarray(targets, dtype=np.float64)
    rows = np.arange(len(curve))
    reached = curve >= target[:, None]
    first = reached.argmax(axis=1)
    before = np.maximum(first - 1, 0)
    rise = curve[rows, first] - curve[rows, before]
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.where(first > 0, (target - curve[rows, before]) / rise, 0.0)
    logs = np.log(at)
    found = np.exp(logs[before] + part * (logs[first] - logs[before]))
    found = np.where(first == 0, at[0], found)
    found[~reached.any(axis=1)] = np.inf
    found[~np.isfinite(target) | ~np.isfinite(curve).all(axis=1)] = np.nan
    return np.asarray(found, dtype=np.float64)


@dataclass(frozen=True)
class Crossing:
    """How many labels one curve needs for the score that another has with all.

    Attributes:
        value: the least x; the first point where that is there already, infinity where the last is not.
        low, high: 95 % interval over the draws, of the same kind; NaN where it has none.
        draws: those in which both scores can be computed.
        at_first: of these, how many are there at the first point already.
        never: of these, how many are not there at the last.
    """

    value: float
    low: float
    high: float
    draws: int
    at_first: int
    never: int


def crossing(
    x: npt.ArrayLike, curve: Floats, target: float, curves: Floats, targets: Floats, level: float = LEVEL
) -> Crossing:
    """Find the least x at which a mean curve reaches a target, with its interval over draws.

    Args:
        x: (P,) ascending.
        curve: (P,) mean scores on the test rows as they are.
        target: what is to be reached there.
        curves: (B, P) the same on draws of test units and repeats.
        targets: (B,) on the same draws.
        level: of the interval: order statistics, for an x may be infinite.
    """
    value = float(least_labels(x, curve[None], np.array([target]))[0])
    found = least_labels(x, curves, targets)
    found = np.sort(found[~np.isnan(found)])
    n = len(found)
    low = high = np.nan
    if n > 1 and 2 * n >= len(targets):
        tail = (1 - level) / 2
        low, high = found[int(tail * n)], found[int(np.ceil((1 - tail) * n)) - 1]
    at_first = int((found <= np.asarray(x, dtype=np.float64)[0]).sum())
    return Crossing(value, float(low), float(high), n, at_first, int(np.isinf(found).sum()))
