"""Isotonic regression of each class: what was predicted higher stays at least as high."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Isotonic:
    """A step for every class, of two classes for the second only.

    Attributes:
        curves: probabilities as given, ascending, and what becomes of them; between them a straight line.
    """

    curves: tuple[tuple[Floats, Floats], ...]

    def apply(self, probabilities: ArrayLike) -> Floats:
        """Return (n, K) probabilities after each class's curve, rows summing to 1.

        With more than two classes rows are divided by their sum, so that the order of the classes of a row
        may change, and with it the most probable one. A row whose classes all become 0 stays as it is.
        """
        p = np.asarray(probabilities, dtype=np.float64)
        if p.shape[1] == 2:
            moved = np.interp(p[:, 1], *self.curves[0])
            return np.column_stack([1 - moved, moved])
        q = np.column_stack([np.interp(p[:, k], *curve) for k, curve in enumerate(self.curves)])
        total = q.sum(axis=1, keepdims=True)
        return np.where(total > 0, q / np.where(total > 0, total, 1), p)


def fit_isotonic(held: ArrayLike, codes: ArrayLike) -> Isotonic:
    """Fit each class against the rest (Zadrozny and Elkan, KDD 2002).

    Args:
        held: (m, K) probabilities of rows that nothing was fitted on.
        codes: (m,) their true classes, every class there.

    Raises:
        ValueError: a class without rows.
    """
    from sklearn.isotonic import IsotonicRegression

    p, true = np.asarray(held, dtype=np.float64), np.asarray(codes)
    K = p.shape[1]
    if len(np.unique(true)) < K:
        raise ValueError("every class must have rows")
    curves = []
    for k in (1,) if K == 2 else range(K):
        fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p[:, k], true == k)
        at, to = (np.asarray(x, dtype=np.float64) for x in (fitted.X_thresholds_, fitted.y_thresholds_))
        curves.append((at, to))
    return Isotonic(tuple(curves))
