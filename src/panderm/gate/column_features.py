"""Columns of a table as numbers for a linear probe: levels as 0 and 1, an empty cell being a level too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

from panderm.gate.candidates import EMPTY, Candidate
from panderm.training.linear_probe import LinearProbe

# A level seen in fewer rows shares one with its like: a probe would only learn those rows by heart.
FEWEST = 5
BANDS = 8
# A mild penalty, not tuned: with a few dozen features the choice hardly matters.
STRENGTH = 0.1


class ColumnFeatures:
    """Turn columns into features, by what the training rows hold.

    A column of words or few numbers becomes one number a level: 1 in its rows, else 0; rare levels, and those
    that the training rows do not know, share one. A column of many numbers becomes its value, centred and
    scaled, and eight bands of equal size, so that a probe can bend; empty cells have a number of their own.

    Example:
        >>> ColumnFeatures().fit(columns, train).transform(columns)  # doctest: +SKIP
    """

    def fit(self, columns: Sequence[Candidate], rows: npt.NDArray[np.bool_]) -> Self:
        """Learn levels and bands.

        Args:
            columns: k of them, of n rows each.
            rows: bool (n,), the rows to learn from.
        """
        self.known_: list[list[str] | tuple[float, float, npt.NDArray[np.float64]]] = []
        for one in columns:
            if one.numbers is None:
                names, often = np.unique(_cells(one)[rows], return_counts=True)
                self.known_.append([str(x) for x in names[often >= FEWEST]])
            else:
                seen = one.numbers[rows]
                seen = seen[np.isfinite(seen)]
                middle, spread = (float(seen.mean()), float(seen.std())) if len(seen) else (0.0, 0.0)
                cuts = np.unique(np.quantile(seen, np.arange(1, BANDS) / BANDS)) if len(seen) else np.empty(0)
                self.known_.append((middle, spread or 1.0, cuts))
        return self

    def transform(self, columns: Sequence[Candidate]) -> npt.NDArray[np.float32]:
        """Return features (n, D) of the same columns, for all their rows."""
        parts = []
        for one, known in zip(columns, self.known_, strict=True):
            if isinstance(known, list):
                cells = _cells(one)
                parts += [cells == name for name in known]
                parts.append(~np.isin(cells, known))
            else:
                middle, spread, cuts = known
                numbers = one.numbers if one.numbers is not None else np.full(len(one.values), np.nan)
                there = np.isfinite(numbers)
                filled = np.where(there, numbers, middle)
                # An outlier must not outshine all other columns.
                parts.append(np.clip((filled - middle) / spread, -3, 3))
                band = np.searchsorted(cuts, filled, side="right")
                parts += [there & (band == b) for b in range(len(cuts) + 1)]
                parts.append(~there)
        return np.column_stack(parts).astype(np.float32)


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
    scores = np.zeros((len(codes), n_classes))
    for f in np.unique(folds):
        learned = folds != f
        X = ColumnFeatures().fit(columns, learned).transform(columns)
        probe = LinearProbe(C=STRENGTH).fit(X[learned], codes[learned])
        scores[np.ix_(~learned, probe.classes_)] = probe.predict_proba(X[~learned])
    return scores


def _cells(one: Candidate) -> npt.NDArray[np.object_]:
    return np.array([EMPTY if v is None else v for v in one.values], dtype=object)
