"""Columns of a table as numbers for a probe: what the training rows hold decides how, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from panderm.data.columns import Column
from panderm.data.levels import EMPTY, MOST_NUMBERS

# A level seen in fewer rows shares one with its like: a probe would only learn those rows by heart.
FEWEST = 5
BANDS = 8
OTHER = "(other)"
# An outlier must not outshine all other columns.
_FARTHEST = 3.0
_LARGEST = 1e100  # squares and sums of such numbers are still finite
_UNIT = r"[^\W\d_].*|[%°].*"
_NUMBER = re.compile(rf"([-+]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][-+]?\d+)?)\s*({_UNIT})?", re.DOTALL)

Rows = npt.NDArray[np.bool_] | npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Words:
    """A column of words, flags or few numbers: one feature a level, 1 in its rows and else 0.

    Attributes:
        name: of the column.
        levels: those with rows enough; all others, and those that come later, share one more. An empty cell
            is a level as any other.
        numbers: whether they are numbers, so that ``1`` and ``1.0`` are the same.
    """

    name: str
    levels: tuple[str, ...]
    numbers: bool

    @property
    def features(self) -> list[str]:
        """What each feature stands for, ``sex: female``."""
        return [f"{self.name}: {level}" for level in (*self.levels, OTHER)]

    def encode(self, cells: Column) -> Floats:
        """Return (n, levels + 1)."""
        spelt = _levels(cells, numbers=self.numbers)
        parts = [spelt == level for level in self.levels]
        return np.column_stack([*parts, ~np.isin(spelt, self.levels)]).astype(np.float64)

    def unread(self, cells: Column) -> list[str]:  # noqa: ARG002
        """Return nothing: a word is read as it is."""
        return []


@dataclass(frozen=True)
class Numbers:
    """A column of many numbers: its value, bands of equal size so that a probe can bend, and a flag.

    Attributes:
        name: of the column.
        unit: what stands behind the numbers, ``mm``; empty for none.
        median: what stands for a cell without a number.
        mean, spread: of the training rows once these are filled; the value is centred and divided by these,
            and held within ±3.
        cuts: where the bands but the first begin, ascending: 1 to BANDS - 1 of them.
    """

    name: str
    unit: str
    median: float
    mean: float
    spread: float
    cuts: tuple[float, ...]

    @property
    def features(self) -> list[str]:
        """What each feature stands for: ``age``, ``age: under 35``, …, ``age: (empty)``."""
        edges = [f"{cut:.6g}" for cut in self.cuts]
        between = [f"{low} to under {high}" for low, high in pairwise(edges)]
        bands = [f"under {edges[0]}", *between, f"{edges[-1]} and over"]
        return [self.name, *(f"{self.name}: {band}" for band in (*bands, EMPTY))]

    def encode(self, cells: Column) -> Floats:
        """Return (n, cuts + 3)."""
        numbers = read_numbers(cells, self.unit)
        there = np.isfinite(numbers)
        filled = np.where(there, numbers, self.median)
        value = np.clip((filled - self.mean) / self.spread, -_FARTHEST, _FARTHEST)
        band = np.searchsorted(self.cuts, filled, side="right")
        parts = [there & (band == b) for b in range(len(self.cuts) + 1)]
        return np.column_stack([value, *parts, ~there])

    def unread(self, cells: Column) -> list[str]:
        """Return the cells that hold something which is no number in this unit, each once."""
        strange = np.isnan(read_numbers(cells, self.unit))
        return list(dict.fromkeys(cell for cell in cells[strange] if cell is not None))


class ColumnEncoder:
    """Turn columns into features, by what the training rows hold.

    More than 12 different numbers in the training rows make a column of numbers (:class:`Numbers`), where
    they fill more than half of its cells that are not empty; the rest of these count as empty, and
    :meth:`unread` tells them. Anything else is a column of words (:class:`Words`).

    Attributes:
        columns_: how each column is read, in their order.

    Example:
        >>> cells = {"sex": np.array(["f", "m"] * 5, dtype=object)}
        >>> ColumnEncoder().fit(cells).transform(cells).shape
        (10, 3)
    """

    columns_: tuple[Words | Numbers, ...]

    def fit(self, columns: Mapping[str, Column], rows: Rows | slice = slice(None)) -> Self:
        """Learn levels, medians, spreads and bands.

        Args:
            columns: by name (n,) strings, None where a cell is empty.
            rows: the training rows, mask or positions; by default all.
        """
        self.columns_ = tuple(_learned(name, cells[rows]) for name, cells in columns.items())
        return self

    @property
    def features_(self) -> list[str]:
        """What each of the D features stands for."""
        return [feature for one in self.columns_ for feature in one.features]

    def transform(self, columns: Mapping[str, Column]) -> npt.NDArray[np.float32]:
        """Return features (n, D) of the same columns of any rows: 0 or 1, or a number within ±3."""
        return np.hstack([one.encode(columns[one.name]) for one in self.columns_]).astype(np.float32)

    def unread(self, columns: Mapping[str, Column]) -> dict[str, list[str]]:
        """Return by column of numbers what stands in cells of some rows and is no number of its unit."""
        found = {one.name: one.unread(columns[one.name]) for one in self.columns_}
        return {name: cells for name, cells in found.items() if cells}

    def record(self) -> list[dict[str, Any]]:
        """Return all that was learned, as JSON."""
        return [{"as": _KIND[type(one)], **asdict(one)} for one in self.columns_]

    @classmethod
    def restored(cls, record: list[dict[str, Any]]) -> Self:
        """Return the encoder with this record.

        Raises:
            KeyError, TypeError: it is none.
        """
        made = cls()
        made.columns_ = tuple(_restored(dict(one)) for one in record)
        return made


def read_numbers(cells: Column, unit: str = "") -> Floats:
    """Return cells as float64 (n,), NaN where one holds no number in this unit, or a number without any.

    A comma is a decimal point, as in tables whose columns are parted by semicolons.
    """
    found = [_number(cell) for cell in cells]
    return np.array([x if own in ("", unit) else np.nan for x, own in found], dtype=np.float64)


def _number(cell: str | None) -> tuple[float, str]:
    """Return the number in a cell, and its unit."""
    match = _NUMBER.fullmatch(cell) if cell is not None else None
    if match is None:
        return float("nan"), ""
    value = float(match[1].replace(",", "."))
    return (value if abs(value) < _LARGEST else float("nan")), (match[2] or "").strip()


def _learned(name: str, cells: Column) -> Words | Numbers:
    known = [cell for cell in cells if cell is not None]
    units = [unit for value, unit in map(_number, known) if np.isfinite(value)]
    # The unit of most, where some cells have one.
    unit = max(sorted(set(units) - {""}), key=units.count, default="")
    numbers = read_numbers(cells, unit)
    there = numbers[np.isfinite(numbers)]
    if len(np.unique(there)) > MOST_NUMBERS and 2 * len(there) > len(known):
        median = float(np.median(there))
        filled = np.where(np.isfinite(numbers), numbers, median)
        cuts = np.unique(np.quantile(there, np.arange(1, BANDS) / BANDS))
        mean, spread = float(filled.mean()), float(filled.std())
        return Numbers(name, unit, median, mean, spread, tuple(float(cut) for cut in cuts))
    as_numbers = 0 < len(there) == len(known) and not unit
    names, often = np.unique(_levels(cells, numbers=as_numbers), return_counts=True)
    return Words(name, tuple(str(x) for x in names[often >= FEWEST]), as_numbers)


def _levels(cells: Column, *, numbers: bool) -> Column:
    if not numbers:
        return np.array([EMPTY if cell is None else cell for cell in cells], dtype=object)
    spelt = [(cell, _number(cell)[0]) for cell in cells]
    found = [EMPTY if cell is None else f"{x:.15g}" if np.isfinite(x) else cell for cell, x in spelt]
    return np.array(found, dtype=object)


_KIND: dict[type, str] = {Words: "words", Numbers: "numbers"}


def _restored(record: dict[str, Any]) -> Words | Numbers:
    kind = record.pop("as")
    if kind == "words":
        return Words(**{**record, "levels": tuple(record["levels"])})
    if kind == "numbers":
        return Numbers(**{**record, "cuts": tuple(record["cuts"])})
    raise KeyError(kind)
