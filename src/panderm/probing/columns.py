"""What a probe sees of a row: columns of the table, alone or beside the embedding of its image."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from panderm.data.columns import Column
from panderm.data.encoding import ColumnEncoder
from panderm.embeddings import Embeddings
from panderm.errors import PandermWarning, plural, some
from panderm.probing.inputs import Inputs, Positions
from panderm.probing.table_columns import columns_of

# What weight is best depends on how many columns there are, how much they tell, and how few rows there are:
# from next to nothing beside the embedding to next to no penalty. They are tried on held-out rows.
WEIGHTS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def weighed(names: Sequence[str], images: Inputs) -> dict[str, Inputs]:
    """Return columns beside an image at each of several weights, for whoever chooses among inputs."""
    read: list[_Read] = []
    return {
        f"columns × {weight:g}": WithColumns(names, images=images, weight=weight, read=read)
        for weight in WEIGHTS
    }


class WithColumns:
    """Columns as :class:`panderm.data.encoding.ColumnEncoder` reads them, beside other inputs or alone.

    A linear probe has one penalty for all its features, so their scale decides how dear each is. The
    features of the image stay as they are. Those of the columns (0 or 1, or a number of unit spread) are
    multiplied by ``weight`` × the root mean square of the image's features about their mean in the training
    rows: at a weight of 1 a column is as dear as an average feature of the image, at 10 a hundredth of that.

    Args:
        names: the columns.
        images: what is seen of the image; None: nothing.
        weight: of the columns beside the image, greater than 0.
        read: what was read of tables before, shared by several inputs of one question.

    Attributes:
        encoder_: how the columns are read, learned from training rows only.
        scale_: what the features of the columns are multiplied by.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        images: Inputs | None,
        weight: float = 1.0,
        read: list[_Read] | None = None,
    ) -> None:
        self.names = list(names)
        self.images = images
        self.weight = weight
        self._read = [] if read is None else read

    def fit(self, emb: Embeddings, train: Positions) -> Self:
        """Learn levels, medians, spreads and the scale from the training rows, and no others."""
        cells = self._cells(emb)
        self.encoder_ = ColumnEncoder().fit(cells, train)
        self.images_, self.scale_ = None, 1.0
        if self.images is not None:
            self.images_ = self.images.fit(emb, train)
            self.scale_ = self.weight * _root_mean_square(self.images_.of(emb, train))
        return self

    def of(self, emb: Embeddings, rows: Positions) -> npt.NDArray[Any]:
        """Return float32 (n, D + C): the image's features, then the columns'."""
        cells = {name: column[rows] for name, column in self._cells(emb).items()}
        told = self.encoder_.transform(cells) * np.float32(self.scale_)
        if self.images_ is None:
            return told
        return np.hstack([np.asarray(self.images_.of(emb, rows), dtype=np.float32), told])

    def record(self) -> dict[str, Any]:
        """Return how the columns are read, their scale, and what is seen of the image."""
        told: dict[str, Any] = {"kind": "columns", "columns": self.encoder_.record(), "scale": self.scale_}
        return told if self.images_ is None else {**told, "images": self.images_.record()}

    @classmethod
    def restored(cls, record: dict[str, Any], images: Inputs | None) -> Self:
        """Return the inputs with this record, fitted.

        Args:
            record: of :meth:`record`.
            images: its part ``images``, restored; None where it has none.
        """
        encoder = ColumnEncoder.restored(record["columns"])
        made = cls([one.name for one in encoder.columns_], images=images)
        made.encoder_, made.scale_, made.images_ = encoder, float(record["scale"]), images
        return made

    def warn_of_unread(self, emb: Embeddings, rows: Positions) -> None:
        """Warn where a column of numbers holds, in some rows, what is no number of its unit."""
        cells = {name: column[rows] for name, column in self._cells(emb).items()}
        units = {one.name: getattr(one, "unit", "") for one in self.encoder_.columns_}
        for name, strange in self.encoder_.unread(cells).items():
            n = int(np.isin(cells[name], strange).sum())
            of = f" of {units[name]}" if units[name] else ""
            warnings.warn(
                f"{name}: {plural(n, 'cell')} of {len(rows):,} hold no number{of} and count as empty: "
                f"{some(strange)}",
                PandermWarning,
                stacklevel=2,
            )

    def _cells(self, emb: Embeddings) -> dict[str, Column]:
        for other, cells in self._read:
            if other is emb:
                return cells
        cells = columns_of(emb.rows, self.names, option="--with")
        self._read.append((emb, cells))
        return cells


_Read = tuple[Embeddings, dict[str, Column]]


def _root_mean_square(X: npt.NDArray[Any]) -> float:
    """Return that of features (n, D) about their means; 1 where they do not differ."""
    features = np.asarray(X, dtype=np.float64)
    return float(np.sqrt(features.var(axis=0).mean())) or 1.0
