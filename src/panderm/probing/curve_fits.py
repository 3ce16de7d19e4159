"""Fits from few labels to all, as scoring takes them: which rows were labelled, and what was predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from panderm.data.table import Table
from panderm.embeddings import Embeddings
from panderm.probing.kept import KeptFit

Axis = Literal["percent", "shots"]
Rows = npt.NDArray[np.intp]
ALONE = "the labelled rows alone"
SUBSETS = {
    "nested": "nested, stratified by class, whole {units}",
    "shots": "nested, so many of each class, from different {units} where there are enough",
    "published": "the published rule: shuffled with seed 42, the first taken; one draw of labels",
}


@dataclass(frozen=True, eq=False)
class CurvePoint:
    """A number of labels.

    Attributes:
        value: percent of the training rows, or rows of each class; infinity for all rows beside shots.
        rows: by repeat, the positions in the table that are labelled.
        units: by repeat, of how many patients, lesions or images.
        cannot: why it is not fitted, where it is not.
    """

    value: float
    rows: tuple[Rows, ...]
    units: tuple[int, ...]
    cannot: str | None = None

    def of_each_class(self, table: Table) -> list[dict[str, int]]:
        """Return by repeat the number of rows of each class."""
        return [{c: int((table.label[rows] == c).sum()) for c in table.classes} for rows in self.rows]


@dataclass(frozen=True, eq=False)
class FittedCurve:
    """Predictions of the same test rows from few labels to all.

    Attributes:
        embeddings: what was compared, in their order.
        axis: what the points count.
        points: ascending; the last is all training rows.
        repeats: draws of labels.
        fits: by encoder, by point, by repeat; none where a point cannot be; one where it is all rows.
        test: positions of the rows that were predicted; ``split`` is what they are called.
        unit: what was labelled as a whole.
        method: what was decided, for the record.
        fitted: how many fits this run made, beside those that were there.
    """

    embeddings: tuple[Embeddings, ...]
    axis: Axis
    points: tuple[CurvePoint, ...]
    repeats: int
    fits: tuple[tuple[tuple[KeptFit, ...], ...], ...]
    test: Rows
    split: str
    unit: str
    method: dict[str, Any]
    fitted: int
