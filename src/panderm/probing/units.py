"""Several images of one lesion or patient taken together: which they are, and that they agree."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from panderm.data.columns import Column
from panderm.data.rows import lesions_of
from panderm.data.table import Table
from panderm.errors import DataError, UsageError, plural

Unit = Literal["image", "lesion", "patient"]
UnitPool = Literal["embedding", "probability"]
Floats = npt.NDArray[Any]


class Units:
    """Rows by the lesion or patient they show; a row of no known one stands alone.

    Args:
        rows: n rows of a table; of these only patient and lesion are looked at.
        unit: ``lesion`` or ``patient``.

    Attributes:
        unit: ``lesion`` or ``patient``.
        names: (n,) which one, None where unknown.
        codes: int (n,) its number, in the order in which they first appear.
    """

    def __init__(self, rows: Table, unit: Literal["lesion", "patient"]) -> None:
        self.unit: str = unit
        self.names: Column = rows.patient if unit == "patient" else lesions_of(rows.patient, rows.group)
        number: dict[object, int] = {}
        keys = [(i, None) if name is None else name for i, name in enumerate(self.names)]
        self.codes = np.array([number.setdefault(key, len(number)) for key in keys], dtype=np.int64)

    def select(self, rows: npt.NDArray[np.intp]) -> Units:
        """Return those of some rows."""
        chosen = object.__new__(Units)
        chosen.unit, chosen.names, chosen.codes = self.unit, self.names[rows], self.codes[rows]
        return chosen

    def first(self) -> npt.NDArray[np.intp]:
        """Return the position of each unit's first row, ascending, (u,)."""
        return np.sort(np.unique(self.codes, return_index=True)[1])

    def mean(self, values: Floats) -> Floats:
        """Return the mean of each unit's rows, (u, …) of (n, …) in the order of :meth:`first`."""
        _, first, place, often = np.unique(
            self.codes, return_index=True, return_inverse=True, return_counts=True
        )
        together = values[np.argsort(place, kind="stable")]
        total = np.add.reduceat(together, np.cumsum(often) - often, axis=0, dtype=np.float64)
        mean = total / often.reshape(-1, *[1] * (values.ndim - 1))
        return mean[np.argsort(first)].astype(values.dtype, copy=False)

    def told(self) -> dict[str, int]:
        """Return how many rows and units there are, for a card."""
        often = np.unique(self.codes, return_counts=True)[1]
        return {
            "images": len(self.codes),
            f"{self.unit}s": len(often),
            f"most images of one {self.unit}": int(often.max(initial=0)),
            f"images of no known {self.unit}": sum(name is None for name in self.names),
        }


def units_of(rows: Table, unit: Unit) -> Units | None:
    """Return the units of some rows; None where each image is one."""
    if unit not in ("image", "lesion", "patient"):
        raise UsageError(f"unit must be image, lesion or patient, not {unit!r}.")
    return None if unit == "image" else Units(rows, unit)


def require_agreement(rows: Table, unit: Unit, parts: Column | None = None) -> None:
    """Raise where rows that are to be taken together differ in what they must share.

    Args:
        rows: n rows that are fitted, chosen on or predicted.
        unit: what is taken together.
        parts: (n,) the part each row plays; by default its split.

    Raises:
        DataError: no row has a lesion (patient); images of one in several splits, of several classes, or a
            lesion of several patients.
    """
    units = units_of(rows, unit)
    if units is None:
        return
    if all(name is None for name in units.names):
        role = "group" if unit == "lesion" else "patient"
        raise DataError(
            f"--unit {unit} needs rows that say which {unit} they show.",
            f"{rows.card.name} names none",
            f"say which column it is with --{role} when the table is read",
        )
    torn = f"every image of one {unit} must be in one split."
    _require_one(units, rows.split if parts is None else parts, torn, "correct the split: panderm split")
    several = f"every image of one {unit} must have one label."
    hint = (
        "take lesions instead: --unit lesion"
        if unit == "patient" and any(rows.group)
        else "correct the labels, or take each image by itself: --unit image"
    )
    _require_one(units, rows.label, several, hint)
    if unit == "lesion":
        alone = "every image of one lesion must be of one patient."
        _require_one(units, rows.patient, alone, "correct the table, or take each image by itself")


def _require_one(units: Units, values: Column, must: str, hint: str) -> None:
    """Raise where rows of one unit differ in a value, naming the units."""
    seen: dict[str, dict[str | None, int]] = {}
    for name, value in zip(units.names, values, strict=True):
        if name is not None:
            often = seen.setdefault(name, {})
            often[value] = often.get(value, 0) + 1
    torn = {name: often for name, often in seen.items() if len(often) > 1}
    if not torn:
        return
    lines = [
        f"{name}: {', '.join(f'{n} {value}' for value, n in often.items())}"
        for name, often in list(torn.items())[:5]
    ]
    raise DataError(must, [f"{plural(len(torn), units.unit)} of {len(seen):,} differ:", *lines], hint)
