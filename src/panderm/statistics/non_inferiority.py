"""Is one predictor not worse than another by more than a margin? Read from the draws of their difference.

A p-value that is not small says nothing about two predictors being alike. Non-inferiority turns the
question round: the null hypothesis is that the other is worse by the margin or more, and the interval of the
difference must lie above it altogether (Piaggio and others, JAMA 308, 2012, the CONSORT extension).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class NonInferiority:
    """What is known of a difference and a margin.

    Attributes:
        margin: the largest loss that would not matter, in units of the score, > 0.
        p: one-sided, in (0, 1]; None where there is no interval.
        holds: whether the 95 % interval lies on the better side of the margin, which is a one-sided test at
            2.5 %; None where there is no interval.
    """

    margin: float
    p: float | None
    holds: bool | None


def non_inferiority(
    differences: ArrayLike,
    margin: float,
    *,
    low: float | None,
    high: float | None,
    lower_is_better: bool = False,
) -> NonInferiority:
    """Hold the interval of a difference, and its draws, against a margin.

    The p-value is the interval turned round: the share of draws that lose by the margin or more, the rows as
    they are counted as one draw (Davison and Hinkley, 1997, section 5.5 for this duality). It estimates a
    probability and does not shrink as draws are added.

    Args:
        differences: (B,) draws of the other's score minus the first's; those not finite are left out.
        margin: > 0.
        low: lower end of the 95 % interval; None where there is none.
        high: upper end.
        lower_is_better: whether a higher score is a loss.

    Raises:
        ValueError: a margin that is not above 0.
    """
    if not (np.isfinite(margin) and margin > 0):
        raise ValueError(f"margin must be above 0, not {margin}")
    if low is None or high is None:
        return NonInferiority(margin, None, None)
    draws = np.asarray(differences, dtype=np.float64)
    draws = draws[np.isfinite(draws)]
    gained = -draws if lower_is_better else draws
    worst = -high if lower_is_better else low
    p = (1 + int((gained <= -margin).sum())) / (1 + len(gained))
    return NonInferiority(margin, float(p), bool(worst > -margin))
