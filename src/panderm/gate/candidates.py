"""What could predict a label without a look at the picture: columns, names and facts of files, order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from panderm.data.columns import Column, read_column

Source = Literal["column", "name", "file", "order"]
EMPTY = "(empty)"
# A column of at most so many different numbers is taken level by level; of more, by cuts that a tree finds.
FEW_NUMBERS = 12
# Of a column of words with more levels, the rarest share one: no level of theirs says anything by itself.
MOST_LEVELS = 1000
_NAMES_ROWS = re.compile(
    r"(^|_|\b)(id|ids|image|img|file|lesion|patient|uid|row|index)(_|\b|$)", re.IGNORECASE
)

# What was measured on the picture or its file: a baseline of these is not free of the image.
OF_THE_IMAGE = re.compile(
    r"(^|_)(width|height|mask|pixels?|bytes|file|jpeg|exif|hair|ruler|ink|gel|dark_?corners?|blur|blurred"
    r"|contrast|low_contrast|non_?skin|ita|prediction|probability|score)(_|$)",
    re.IGNORECASE,
)


@dataclass(frozen=True, eq=False)
class Candidate:
    """Something known of every row that is not in the picture.

    Attributes:
        name: as a reader knows it: ``age``, ``image: last number``, ``file: width``.
        source: a column of the table, a pattern in names, a fact of the file, or the order of the rows.
        values: (n,) strings, None where empty.
        numbers: (n,) float64, NaN where empty, of a column of more than a few numbers; else None.
    """

    name: str
    source: Source
    values: Column
    numbers: npt.NDArray[np.float64] | None = None

    def levels(self) -> tuple[npt.NDArray[np.int64], list[str]]:
        """Return the level of each row, (n,), and the levels' names; an empty cell is a level too."""
        names, codes = np.unique([EMPTY if v is None else v for v in self.values], return_inverse=True)
        often = np.bincount(codes)
        if len(often) > MOST_LEVELS:
            place = np.empty(len(often), dtype=np.int64)
            place[np.argsort(-often, kind="stable")] = np.arange(len(often))
            return np.minimum(place[codes], MOST_LEVELS).astype(np.int64), []
        return codes.astype(np.int64), [str(name) for name in names]

    def select(self, rows: npt.NDArray[np.bool_]) -> Candidate:
        """Return the same of some rows only."""
        numbers = None if self.numbers is None else self.numbers[rows]
        return Candidate(self.name, self.source, self.values[rows], numbers)

    @property
    def constant(self) -> bool:
        """Whether every row holds the same."""
        return len(set(self.values)) < 2


def candidate(name: str, source: Source, values: Column) -> Candidate:
    """Make a candidate of cells; of more than a few different numbers, the numbers are kept too."""
    numbers = as_numbers(values)
    if numbers is not None and len(np.unique(numbers[np.isfinite(numbers)])) <= FEW_NUMBERS:
        numbers = None
    return Candidate(name, source, values, numbers)


def as_numbers(values: Column) -> npt.NDArray[np.float64] | None:
    """Return cells as float64, NaN where empty; None unless every cell that is not empty is a number."""
    found = np.full(len(values), np.nan)
    for i, value in enumerate(values):
        if value is not None:
            # A decimal comma stands in tables whose columns are parted by semicolons.
            text = value.replace(",", ".") if "." not in value else value
            try:
                found[i] = float(text)
            except ValueError:
                return None
            if not np.isfinite(found[i]):
                return None if text.strip("+-").casefold() != "nan" else found
    return found if np.isfinite(found).any() else None


def is_identifier(name: str, values: Column) -> bool:
    """Say whether a column names rows or files rather than describes them.

    More than half of the cells that are not empty differ; and they are words, or whole numbers in a column
    whose name says so (``image``, ``file``, ``id``, ``row``).
    """
    known = [v for v in values if v is not None]
    distinct = len(set(known))
    if 2 * distinct <= len(known) or distinct < 3:
        return False
    if all(v.isdecimal() for v in known):
        return re.search(_NAMES_ROWS, name) is not None
    return as_numbers(values) is None


def name_patterns(name: str, values: Column) -> list[Candidate]:
    """Return what names of files or rows could give away: their folder, how they begin and end, numbers.

    Args:
        name: of the column that holds them.
        values: (n,) names, with or without folders and an ending.
    """
    found: dict[str, list[str | None]] = {
        key: [] for key in ("folder", "beginning", "end", "ending", "length", "first number", "last number")
    }
    for value in values:
        for key, part in _parts(value).items():
            found[key].append(part)
    patterns = []
    for key, parts in found.items():
        if key == "first number" and parts == found["last number"]:
            continue
        made = candidate(f"{name}: {key}", "name", np.array(parts, dtype=object))
        # What differs in every row is not a pattern, unless it is a number and has an order.
        differs = len(set(parts)) > 0.9 * len(parts) and made.numbers is None
        if not made.constant and not differs:
            patterns.append(made)
    return patterns


def _parts(value: str | None) -> dict[str, str | None]:
    path = PurePosixPath((value or "").replace("\\", "/"))
    stem = path.name.removesuffix(path.suffix)
    numbers = re.findall(r"\d+", stem)
    none = value is None
    return {
        "folder": None if none else str(path.parent) if str(path.parent) != "." else "",
        "beginning": None if none else re.split(r"\d", stem, maxsplit=1)[0],
        "end": None if none else re.split(r"\d", stem)[-1] if numbers else "",
        "ending": None if none else path.suffix,
        "length": None if none else str(len(stem)),
        "first number": numbers[0].lstrip("0") or "0" if numbers and len(numbers[0]) < 16 else None,
        "last number": numbers[-1].lstrip("0") or "0" if numbers and len(numbers[-1]) < 16 else None,
    }


def row_order(n: int) -> Candidate:
    """Return the place of each row in the table."""
    return Candidate(
        "order of the rows",
        "order",
        np.array([str(i) for i in range(n)], dtype=object),
        np.arange(n, dtype=np.float64),
    )


def file_candidates(facts: Mapping[str, Column]) -> list[Candidate]:
    """Return the facts of files that differ from row to row."""
    made = [candidate(f"file: {name}", "file", values) for name, values in facts.items()]
    return [one for one in made if not one.constant]


def without_twins(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Leave out patterns in names that part the rows just as an earlier one does, as of image and mask."""
    seen: set[bytes] = set()
    kept = []
    for one in candidates:
        codes = np.unique([v or "" for v in one.values], return_inverse=True)[1]
        first: dict[int, int] = {}
        key = np.array([first.setdefault(int(c), len(first)) for c in codes]).tobytes()
        if one.source == "name" and key in seen:
            continue
        seen.add(key)
        kept.append(one)
    return kept


def gather(
    frame: pd.DataFrame, roles: Mapping[str, str], named: Iterable[str]
) -> tuple[list[Candidate], list[Candidate], dict[str, str]]:
    """Part a table's columns into what is tested, patterns in names, and what is set aside.

    Args:
        frame: the cells as strings.
        roles: columns not to be tested, and why: their role.
        named: columns that name images, patients or lesions: their patterns are tested.

    Returns:
        Columns that describe; patterns in columns that name; by column, why it is not tested as it is.
    """
    described, patterns, aside = [], [], {}
    names = list(frame.columns)
    for name in dict.fromkeys(names):
        if name in roles:
            aside[name] = f"the {roles[name]}"
        elif names.count(name) > 1 or not name:
            aside[name or "(no name)"] = "stands in the header more than once" if name else "has no name"
        else:
            values = read_column(frame, name)
            if len(set(values)) < 2:
                aside[name] = "the same in every row"
            elif name in set(named) or is_identifier(name, values):
                aside[name] = "names rows or files; its patterns are tested"
                patterns += name_patterns(name, values)
            else:
                described.append(candidate(name, "column", values))
    return described, patterns, aside
