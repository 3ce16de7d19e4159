"""The learning rate, step by step: a straight rise, then half a cosine."""

from __future__ import annotations

import math


def rate_at(step: int, *, steps: int, warm_up: int, peak: float, least: float) -> float:
    """Return the learning rate of a step.

    It rises on a straight line from 0 at step 0 to the peak at step ``warm_up - 1``, and falls from the peak,
    at step ``warm_up``, along half a cosine towards ``least``, which the step after the last would have.

    Args:
        step: from 0.
        steps: of the whole run.
        warm_up: steps of the rise; with 0 there is none, with 1 the first step has the peak.
        peak: the highest rate.
        least: the lowest.

    Example:
        >>> rate_at(109, steps=550, warm_up=110, peak=5e-4, least=1e-6)
        0.0005
    """
    if step < warm_up:
        return peak * step / (warm_up - 1) if warm_up > 1 else peak
    done = (step - warm_up) / max(1, steps - warm_up)
    return least + (peak - least) / 2 * (1 + math.cos(math.pi * done))
