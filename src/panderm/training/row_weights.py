"""How much each row counts: its own weight, and that of its class."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

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
