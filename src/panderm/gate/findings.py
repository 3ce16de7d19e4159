"""What the gate says: findings and notes, each with the rows it speaks of and what to do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from panderm.data.columns import Column
from panderm.data.examine import Examined
from panderm.provenance import Record

Severity = Literal["finding", "note"]
Chapter = Literal["files", "pictures", "duplicates", "splits", "labels", "columns"]


class Place(Record):
    """One place where something was found: one row, or the rows that belong together.

    Attributes:
        rows: as a spreadsheet numbers them; the header is row 1.
        images: what these rows name, in the same order.
        text: what was found here, in a few words.
    """

    rows: tuple[int, ...]
    images: tuple[str, ...]
    text: str = ""


class Measure(Record):
    """A number with its interval, its n, the unit resampled and the seed; a reason where there is none.

    Attributes:
        name: what was measured: a column, a split, a class.
        of: the quantity: ``AUROC``, ``rows``.
    """

    name: str
    of: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int
    unit: str | None = None
    clusters: int | None = None
    draws: int | None = None
    seed: int | None = None
    reason: str | None = None


class Finding(Record):
    """One kind of thing that was found, with every place of it.

    Attributes:
        kind: its name for programs: ``missing-file``, ``same-pixels``.
        severity: ``finding``: something is wrong, or makes numbers wrong; ``note``: worth knowing.
        chapter: the part of the page it stands in.
        title: a heading: ``Files that are not there``.
        sentence: what was found, with its count, and why it matters.
        hint: what to do; empty where nothing has to be done.
        count: how many there are, in the unit the sentence names.
        places: all of them.
        measures: numbers behind it.
    """

    kind: str
    severity: Severity
    chapter: Chapter
    title: str
    sentence: str
    hint: str = ""
    count: int
    places: tuple[Place, ...] = ()
    measures: tuple[Measure, ...] = ()

    @classmethod
    def of(
        cls,
        kind: str,
        severity: Severity,
        chapter: Chapter,
        title: str,
        sentence: str,
        hint: str = "",
        *,
        places: Iterable[Place] = (),
        measures: Iterable[Measure] = (),
        count: int | None = None,
    ) -> Self:
        """Make a finding; its count is that of its places, where none is given."""
        every = tuple(places)
        return cls(
            kind=kind,
            severity=severity,
            chapter=chapter,
            title=title,
            sentence=sentence,
            hint=hint,
            count=len(every) if count is None else count,
            places=every,
            measures=tuple(measures),
        )


@dataclass(frozen=True, eq=False)
class Inspected:
    """A table as it stands, nothing left out, and what each of its n files turned out to be.

    Attributes:
        source: the CSV.
        folder: the folder images are relative to.
        frame: its cells as strings, "" where empty; the index is the row as a spreadsheet numbers it.
        roles: the column of image, label, split, patient and group; None where there is none.
        row: int (n,), the index.
        image: what the row names, or None.
        path: where that lies.
        split: as written, or None: neither known nor complete.
        label: the class, or None.
        patient: who is in the picture, or None.
        group: which lesion, or None.
        examined: n files, in the same order.
    """

    source: Path
    folder: Path
    frame: pd.DataFrame
    roles: dict[str, str | None]
    row: npt.NDArray[np.int64]
    image: Column
    path: tuple[Path, ...]
    split: Column
    label: Column
    patient: Column
    group: Column
    examined: tuple[Examined, ...]

    def __len__(self) -> int:
        return len(self.row)

    def place(self, *rows: int, text: str = "") -> Place:
        """Return the place that positions 0 to n − 1 stand for."""
        return Place(
            rows=tuple(int(self.row[i]) for i in rows),
            images=tuple(self.image[i] or "" for i in rows),
            text=text,
        )

    def rows_by(self, column: Column) -> dict[str, list[int]]:
        """Return the positions of each value of a column; empty cells are left out."""
        found: dict[str, list[int]] = defaultdict(list)
        for i, value in enumerate(column):
            if value is not None:
                found[value].append(i)
        return found


class Inspection(Protocol):
    """A look at a whole table: whatever is wrong with the table is told, never raised."""

    def __call__(
        self, inspected: Inspected, /, *, draws: int = ..., seed: int = ..., progress: bool = ...
    ) -> list[Finding]:
        """Return what was found; an empty list where all is well."""
