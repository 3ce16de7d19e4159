"""How much each row counts: its own weight, and that of its class."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from panderm.errors import DataError
from panderm.training.features import Features
from panderm.training.settings import ClassWeight


def row_weights(features: Features, class_weight: ClassWeight = "none") -> npt.NDArray[np.float64]:
    """Return how much each row counts, float64 (n,): a row of weight 2 counts as two rows would.

    ``balanced`` multiplies by n / (K·n_c), n and n_c the weights of all rows and of the row's class, as
    scikit-learn does: the K classes present then weigh the same, and all rows together n.

    Args:
        features: rows, with or without weights.
        class_weight: ``none`` or ``balanced``.
    """
    weights = np.ones(len(features)) if features.weights is None else features.weights.astype(np.float64)
    if class_weight == "none" or not len(weights):
        return weights
    codes = features.codes()
    of_class = np.bincount(codes, weights)
    balanced: npt.NDArray[np.float64] = weights * (weights.sum() / (len(of_class) * of_class))[codes]
    return balanced


def checked_weights(given: npt.ArrayLike | None, n: int) -> npt.NDArray[np.float64] | None:
    """Return sample weights as float64 (n,); None where none are given.

    Raises:
        DataError: another number of them, not finite, below zero, or all zero.
    """
    if given is None:
        return None
    weights = np.asarray(given, dtype=np.float64)
    if weights.shape != (n,) or not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise DataError(
            f"sample weights must be {n:,} finite numbers, none below zero and not all zero.",
            f"found an array of shape {weights.shape}, from {weights.min():g} to {weights.max():g}"
            if weights.size
            else "found none",
        )
    return weights
