"""A threshold on one probability: where to put it, and what it then does.

A row is called positive where its probability is at least the threshold, so that a threshold is always one
of the probabilities seen. Thresholds are chosen on rows as they are; what they do is counted under row
weights, one row of integers for each draw of a bootstrap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from panderm.statistics.blocks import multiplicities, over_blocks
from panderm.statistics.ranking import grouping

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cuts:
    """Every threshold that changes anything, and what it does; from the highest to the lowest.

    Attributes:
        thresholds: (m,) the different probabilities, descending.
        sensitivity: (m,) share of positives at or above each.
        specificity: (m,) share of negatives below each.
        positives: rows that are positive.
        negatives: all others.
    """

    thresholds: Floats
    sensitivity: Floats
    specificity: Floats
    positives: int
    negatives: int


def cuts(positive: ArrayLike, probability: ArrayLike) -> Cuts:
    """Return what every threshold does on some rows.

    Args:
        positive: (n,) bool.
        probability: (n,) finite, of being positive.

    Raises:
        ValueError: other shapes, numbers that are not finite, or rows of one kind only.
    """
    is_positive, score = _checked(positive, probability)
    order = np.argsort(-score, kind="stable")
    descending, hits = score[order], is_positive[order]
    last = np.flatnonzero(np.append(np.diff(descending) != 0, True))  # the last row of each group of equals
    found, alarms = np.cumsum(hits)[last], np.cumsum(~hits)[last]
    positives, negatives = int(hits.sum()), int((~hits).sum())
    if not positives or not negatives:
        raise ValueError(f"rows must be of both kinds, not {positives} positive and {negatives} negative")
    return Cuts(descending[last], found / positives, 1 - alarms / negatives, positives, negatives)


def for_sensitivity(at: Cuts, least: float) -> int | None:
    """Return the highest threshold of at least this sensitivity: of those the most specific."""
    reached = np.flatnonzero(at.sensitivity >= least - 1e-12)
    return int(reached[0]) if len(reached) else None


def for_specificity(at: Cuts, least: float) -> int | None:
    """Return the lowest threshold of at least this specificity: of those the most sensitive; None if none."""
    reached = np.flatnonzero(at.specificity >= least - 1e-12)
    return int(reached[-1]) if len(reached) else None


def for_youden(at: Cuts) -> int:
    """Return the threshold of largest sensitivity + specificity (Youden, 1950), of equals the highest."""
    return int(np.argmax(at.sensitivity + at.specificity))


def for_cost(at: Cuts, ratio: float) -> int:
    """Return the threshold of least cost where a missed positive costs ``ratio`` false alarms.

    Counted on these rows as they are, so at their share of positives; of equals the highest.
    """
    missed = (1 - at.sensitivity) * at.positives
    alarms = (1 - at.specificity) * at.negatives
    return int(np.argmin(ratio * missed + alarms))


def threshold_scores(
    positive: ArrayLike, probability: ArrayLike, threshold: float, weights: ArrayLike | None = None
) -> dict[str, Floats]:
    """Count what a threshold does under every weighting of the rows.

    Args:
        positive: (n,) bool.
        probability: (n,) of being positive.
        threshold: rows of this probability or more are called positive.
        weights: (B, n) integers >= 0; None for once each, B = 1.

    Returns:
        (B,) of sensitivity, specificity, ppv, npv, called_positive (the share), number_needed_to_biopsy
        (rows called positive for one that is), youden, likelihood_ratio_positive and
        likelihood_ratio_negative. NaN where a draw does not allow it; a likelihood ratio or number needed
        that would be infinite is NaN too.
    """
    is_positive, score = _checked(positive, probability)
    cells = grouping(2 * is_positive + (score >= threshold), 4)
    counted = over_blocks(
        lambda block: {"": (cells @ block).T}, multiplicities(weights, len(score)), len(score)
    )
    tn, fp, fn, tp = counted[""].T
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity, specificity = tp / (tp + fn), tn / (tn + fp)
        found = {
            "sensitivity": sensitivity,
            "specificity": specificity,
            "ppv": tp / (tp + fp),
            "npv": tn / (tn + fn),
            "called_positive": (tp + fp) / (tp + fp + fn + tn),
            "number_needed_to_biopsy": (tp + fp) / tp,
            "youden": sensitivity + specificity - 1,
            "likelihood_ratio_positive": sensitivity / (1 - specificity),
            "likelihood_ratio_negative": (1 - sensitivity) / specificity,
        }
    return {name: np.where(np.isfinite(values), values, np.nan) for name, values in found.items()}


def at_prevalence(
    sensitivity: ArrayLike, specificity: ArrayLike, prevalence: float
) -> dict[str, NDArray[Any]]:
    """Return PPV, NPV and the number needed to biopsy among rows of another share of positives (Bayes).

    Args:
        sensitivity: (B,) in [0, 1].
        specificity: (B,) likewise.
        prevalence: share of positives, in (0, 1).
    """
    if not 0 < prevalence < 1:
        raise ValueError(f"prevalence must be between 0 and 1, not {prevalence}")
    se, sp = np.asarray(sensitivity, dtype=np.float64), np.asarray(specificity, dtype=np.float64)
    tp, fp = se * prevalence, (1 - sp) * (1 - prevalence)
    tn, fn = sp * (1 - prevalence), (1 - se) * prevalence
    with np.errstate(invalid="ignore", divide="ignore"):
        needed = np.where(tp > 0, (tp + fp) / tp, np.nan)
        return {"ppv": tp / (tp + fp), "npv": tn / (tn + fn), "number_needed_to_biopsy": needed}


def net_benefit(
    positive: ArrayLike, probability: ArrayLike, thresholds: ArrayLike, weights: ArrayLike | None = None
) -> dict[str, Floats]:
    """Return the net benefit at threshold probabilities (Vickers and Elkin, Med. Decis. Making 26, 2006).

    True positives less false ones, each of these weighing the odds of the threshold, over all rows.

    Args:
        positive: (n,) bool.
        probability: (n,) of being positive.
        thresholds: (m,) in (0, 1), ascending.
        weights: (B, n) integers >= 0; None for once each, B = 1.

    Returns:
        ``model`` and ``everyone`` (all called positive), each (B, m). That of calling none is 0.
    """
    is_positive, score = _checked(positive, probability)
    at = np.asarray(thresholds, dtype=np.float64)
    if at.ndim != 1 or not ((at > 0) & (at < 1)).all() or (np.diff(at) <= 0).any():
        raise ValueError("thresholds must ascend between 0 and 1")
    # Rows by the number of thresholds they reach, summed from the top: those called at each threshold.
    reached, m = np.searchsorted(at, score, side="right"), len(at)
    cells = grouping(np.where(is_positive, m + 1, 0) + reached, 2 * (m + 1))
    counted = over_blocks(
        lambda block: {"": (cells @ block).T}, multiplicities(weights, len(score)), len(score)
    )
    false, true = (side[:, ::-1].cumsum(axis=1)[:, ::-1] for side in np.split(counted[""], 2, axis=1))
    odds, total = at / (1 - at), true[:, :1] + false[:, :1]
    with np.errstate(invalid="ignore"):
        share = true[:, :1] / total
        return {
            "model": (true[:, 1:] - odds * false[:, 1:]) / total,
            "everyone": share - odds * (1 - share),
        }


def _checked(positive: ArrayLike, probability: ArrayLike) -> tuple[NDArray[np.bool_], Floats]:
    is_positive, score = np.asarray(positive), np.asarray(probability, dtype=np.float64)
    if is_positive.dtype != np.bool_ or score.ndim != 1 or is_positive.shape != score.shape:
        raise ValueError(f"positive must be bool (n,) and probability (n,), not {score.shape}")
    if not np.isfinite(score).all():
        raise ValueError("probabilities must be finite")
    return is_positive, score
