"""Several columns of a table at once: how well a linear probe on them tells the classes apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from panderm.data.encoding import ColumnEncoder
from panderm.gate.candidates import Candidate
from panderm.training.linear_probe import LinearProbe

# A mild penalty, not tuned: with a few dozen features the choice hardly matters.
STRENGTH = 0.1


def probe_scores(
    columns: Sequence[Candidate],
    codes: npt.NDArray[np.int64],
    folds: npt.NDArray[np.int64],
    n_classes: int,
) -> npt.NDArray[np.float64]:
    """Predict each row's class from several columns at once, by a linear probe on the other folds, (n, K).

    Args:
        columns: of the same n rows.
        codes: (n,) class codes, 0..K-1.
        folds: (n,) integers.
        n_classes: K.
    """
    cells = {one.name: one.values for one in columns}
    scores = np.zeros((len(codes), n_classes))
    for f in np.unique(folds):
        learned = folds != f
        X = ColumnEncoder().fit(cells, learned).transform(cells)
        probe = LinearProbe(C=STRENGTH).fit(X[learned], codes[learned])
        scores[np.ix_(~learned, probe.classes_)] = probe.predict_proba(X[~learned])
    return scores
