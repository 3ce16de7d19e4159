"""What a probe is fitted on: features, labels, and what belongs together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from panderm.data.columns import Column
from panderm.data.table import Table
from panderm.embeddings import Embeddings
from panderm.embeddings.vectors import MappedVectors
from panderm.errors import DataError, plural, some
from panderm.statistics.resampling import cluster_codes


@dataclass(frozen=True, eq=False)
class Features:
    """Rows to fit, or to choose on.

    Attributes:
        X: float32 (n, D); of a probe that takes tokens (n, h, w, D), which may lie in files.
        labels: (n,) the class of each row.
        classes: all classes of the table in their stated order; some may have no row here.
        images: (n,) names, for messages.
        groups: int (n,) the patient, or lesion, of each row, kept whole by cross-validation; None where each
            row stands alone.
        weights: float64 (n,), how much each row counts, greater than 0; None for 1 each.
    """

    X: npt.NDArray[Any]
    labels: Column
    classes: tuple[str, ...]
    images: Column
    groups: npt.NDArray[np.int64] | None = None
    weights: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def present(self) -> tuple[str, ...]:
        """The classes that have a row, in the table's order."""
        there = set(self.labels.tolist())
        return tuple(c for c in self.classes if c in there)

    def codes(self, classes: tuple[str, ...] | None = None) -> npt.NDArray[np.int64]:
        """Return labels as positions in ``classes``, by default those that are present."""
        position = {name: i for i, name in enumerate(self.present if classes is None else classes)}
        return np.array([position[label] for label in self.labels], dtype=np.int64)

    def take(self, rows: npt.NDArray[Any]) -> Features:
        """Return some rows (mask or positions)."""
        held: Any = self.X
        X: Any = held.select(rows) if isinstance(held, MappedVectors) else held[rows]  # files stay unread
        return Features(
            X,
            self.labels[rows],
            self.classes,
            self.images[rows],
            None if self.groups is None else self.groups[rows],
            None if self.weights is None else self.weights[rows],
        )


def features_of(emb: Embeddings) -> Features:
    """Return all rows of embeddings with their stored vectors."""
    return Features(emb.vectors, emb.rows.label, emb.rows.classes, emb.rows.image, groups_of(emb.rows))


def groups_of(table: Table) -> npt.NDArray[np.int64] | None:
    """Return the patient, or lesion, of each row, int (n,); None where the table knows neither."""
    codes, unit = cluster_codes(table.patient, table.group, len(table))
    return None if unit == "image" else codes


def require_finite(X: npt.NDArray[Any], images: Column | None = None) -> None:
    """Raise :class:`DataError`, naming the images, where some features (n, D) are NaN or infinite."""
    step = max(1, 2**22 // max(1, int(np.prod(X.shape[1:]))))  # rows that lie in files are never held whole
    blocks = (X[start : start + step] for start in range(0, len(X), step))
    bad = np.concatenate([~np.isfinite(b).all(axis=tuple(range(1, b.ndim))) for b in blocks] or [[]]) > 0
    if not bad.any():
        return
    found = f"{plural(int(bad.sum()), 'row')} of {len(X):,} hold NaN or infinite values"
    if images is not None:
        found += f": {some([str(x) for x in images[bad]])}"
    raise DataError("features must be finite.", found, "embed these images again, or leave them out")
