"""Several tests at once: Holm's step-down correction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct p-values for being several, so that all claims together are wrong with the level's chance.

    The smallest of m is multiplied by m, the next by m - 1 and so on; none may fall below one before it
    (Holm, Scand. J. Statist. 6, 1979). It presumes nothing about how the tests depend on each other.

    Args:
        p_values: in [0, 1]; None for a test that could not be made, which is not counted among them.

    Returns:
        Corrected p-values in the same order, at most 1; None where None was given.

    Raises:
        ValueError: a value outside [0, 1].
    """
    given = [(p, i) for i, p in enumerate(p_values) if p is not None]
    if not all(0 <= p <= 1 for p, _ in given):
        raise ValueError(f"p-values must be in [0, 1], not {[p for p, _ in given]}")
    found: list[float | None] = [None] * len(p_values)
    order = sorted(given)
    scaled = np.array([(len(order) - k) * p for k, (p, _) in enumerate(order)])
    for (_, i), corrected in zip(order, np.minimum(1.0, np.maximum.accumulate(scaled)), strict=True):
        found[i] = float(corrected)
    return found
