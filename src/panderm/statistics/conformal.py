"""Conformal prediction sets: every class that held-out rows do not rule out.

The score of a class is 1 less its probability; a class is in the set where held-out rows of the same kind
have scores as high often enough (Vovk, Gammerman and Shafer, 2005; by kind: Mondrian sets). Where held-out
rows and new ones are exchangeable, the truth is in the set with at least the coverage asked for, on average.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Flags = NDArray[np.bool_]


def prediction_sets(
    held_truth: ArrayLike, held: ArrayLike, probabilities: ArrayLike, coverage: float, *, by_class: bool
) -> Flags:
    """Return which classes are in the set of each row.

    Args:
        held_truth: (m,) class codes of rows that nothing was fitted on.
        held: (m, K) their probabilities.
        probabilities: (n, K) of the rows to predict.
        coverage: in (0, 1).
        by_class: rest a class on held-out rows of that class alone, so that each class is covered; one
            without such rows is in every set.

    Returns:
        bool (n, K).

    Raises:
        ValueError: coverage out of range, no held-out rows, or shapes that do not match.
    """
    from crepes import ConformalClassifier  # type: ignore[import-untyped]

    codes, own = np.asarray(held_truth), np.asarray(held, dtype=np.float64)
    p = np.asarray(probabilities, dtype=np.float64)
    if not 0 < coverage < 1:
        raise ValueError(f"coverage must be between 0 and 1, not {coverage}")
    if not len(codes) or own.shape != (len(codes), p.shape[1]):
        raise ValueError("held-out rows must be (m,) and (m, K), m >= 1")
    strange = 1 - own[np.arange(len(codes)), codes]
    if not by_class:
        return _within(ConformalClassifier().fit(strange), 1 - p, coverage)
    found = np.ones(p.shape, dtype=np.bool_)
    for k in range(p.shape[1]):
        if (codes == k).any():
            fitted = ConformalClassifier().fit(strange[codes == k])
            found[:, k] = _within(fitted, 1 - p[:, [k]], coverage)[:, 0]
    return found


def fewest_rows(coverage: float) -> int:
    """Return how many held-out rows it takes to rule anything out: with fewer, every set is of all classes.

    A class is ruled out where (1 + rows at least as strange) / (1 + m) falls below 1 - coverage.
    """
    return max(1, math.floor(1 / (1 - coverage) + 1e-9))


def strangest(strange: ArrayLike, coverage: float) -> float:
    """Return the score above which a class is ruled out: what is to be kept where held-out rows are not.

    Args:
        strange: (m,) scores of the true classes of held-out rows: 1 less their probability.
        coverage: in (0, 1).

    Returns:
        The largest score that stays in a set; infinite where too few rows rule out nothing.

    Example:
        >>> strangest([0.1, 0.2, 0.3, 0.4], 0.5)
        0.3
    """
    if not 0 < coverage < 1:
        raise ValueError(f"coverage must be between 0 and 1, not {coverage}")
    scores = np.sort(np.asarray(strange, dtype=np.float64))[::-1]
    # A score is kept where (1 + held-out rows at least as strange) / (1 + m) is 1 - coverage or more.
    enough = (1 + np.arange(len(scores) + 1)) / (1 + len(scores)) >= 1 - coverage
    needed = int(np.argmax(enough))
    return float("inf") if needed == 0 else float(scores[needed - 1])


def sets_by_group(
    held_truth: ArrayLike,
    held: ArrayLike,
    probabilities: ArrayLike,
    coverage: float,
    *,
    held_group: ArrayLike,
    group: ArrayLike,
) -> Flags:
    """Return sets that rest on held-out rows of the row's own group, so that each group is covered.

    A group of too few held-out rows (:func:`fewest_rows`) has the sets of all of them, with no promise of its
    own.

    Args:
        held_truth: as of :func:`prediction_sets`; likewise the next three.
        held: likewise.
        probabilities: likewise.
        coverage: likewise.
        held_group: (m,) group of each held-out row.
        group: (n,) group of each row to predict.

    Returns:
        bool (n, K).
    """
    codes, own, p = np.asarray(held_truth), np.asarray(held), np.asarray(probabilities)
    theirs, mine = np.asarray(held_group), np.asarray(group)
    found = prediction_sets(codes, own, p, coverage, by_class=False)
    for one in np.unique(mine).tolist():
        chosen, at = theirs == one, mine == one
        if chosen.sum() >= fewest_rows(coverage):
            found[at] = prediction_sets(codes[chosen], own[chosen], p[at], coverage, by_class=False)
    return found


def _within(fitted: object, strange: NDArray[np.float64], coverage: float) -> Flags:
    told = fitted.predict_set(strange, confidence=coverage, smoothing=False)  # type: ignore[attr-defined]
    return np.asarray(told, dtype=np.bool_)
