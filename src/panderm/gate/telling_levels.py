"""Single values of a column that give the answer away, whatever the column does elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

# A level speaks where it has so many rows, of so many patients or lesions, ...
ROWS, UNITS = 30, 20
# ... holds a tenth of the rows of the classes it leaves, ...
COVERS = 0.10
# ... and nearly none of those it rules out: at most 1 % of its rows and 5 % of what chance would bring, ...
PURE, OF_EXPECTED = 0.99, 0.05
# ... where chance would bring enough for that to be no luck, and they are no small part of the table.
EXPECTED, SHARE = 10, 0.40


@dataclass(frozen=True)
class TellingLevel:
    """A level of a column and what it says of the class.

    Attributes:
        level: the value; ``(empty)`` for empty cells.
        rows: how many rows have it.
        held: how many of these are of the classes it leaves.
        classes: the classes it leaves, one or more.
        ruled_out: all others.
        expected: rows of the classes ruled out that chance would bring.
    """

    level: str
    rows: int
    held: int
    classes: tuple[str, ...]
    ruled_out: tuple[str, ...]
    expected: float

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {
            "level": self.level,
            "rows": self.rows,
            "held": self.held,
            "classes": list(self.classes),
            "ruled_out": list(self.ruled_out),
            "expected": round(self.expected, 1),
        }

    def sentence(self, column: str) -> str:
        """Return ``"2,964 of 2,964 rows with dx_type=follow_up are nv"``, and what chance would bring."""
        told = f"{self.held:,} of {self.rows:,} rows with {column}={self.level} are {_either(self.classes)}"
        if len(self.classes) == 1:
            return told
        return f"{told}, {'none' if self.held == self.rows else 'hardly any'} {_either(self.ruled_out)}"


def telling_levels(
    levels: Integers,
    names: list[str],
    codes: Integers,
    classes: tuple[str, ...],
    clusters: Integers,
) -> list[TellingLevel]:
    """Return the levels that rule out classes, most rows first.

    A level gives the answer away where it has at least 30 rows of at least 20 patients (or lesions, or rows
    where neither is known) and 99 % of them are of a few classes only, while the others are to be expected
    there: at least 10 rows of them by chance, and at most a twentieth of that is seen. The others must be all
    classes but one, or at least two fifths of the table: that a site never has one rare disease is anatomy.
    Last, the level must hold a tenth of the rows of the classes it leaves.

    Args:
        levels: (n,) level of each row, 0..L-1.
        names: L names.
        codes: (n,) class codes, 0..K-1.
        classes: K names.
        clusters: (n,) number of each row's patient, lesion or row.
    """
    K, n = len(classes), len(codes)
    counts = np.bincount(levels * K + codes, minlength=len(names) * K).reshape(-1, K)
    of_class = counts.sum(axis=0)
    found = []
    for level in np.flatnonzero(counts.sum(axis=1) >= ROWS):
        here = counts[level]
        rows = int(here.sum())
        if rows == n or len(np.unique(clusters[levels == level])) < UNITS:
            continue
        # The rarest classes here go first, for as long as they are next to nothing.
        order = np.argsort(here, kind="stable")
        out = order[np.cumsum(here[order]) <= (1 - PURE) * rows]
        left = np.setdiff1d(np.arange(K), out)
        expected = rows * of_class[out].sum() / n
        small = len(left) > 1 and of_class[out].sum() < SHARE * n
        if not len(out) or small or expected < EXPECTED or here[out].sum() > OF_EXPECTED * expected:
            continue
        if here[left].sum() < COVERS * of_class[left].sum():
            continue
        found.append(
            TellingLevel(
                names[level],
                rows,
                int(here[left].sum()),
                tuple(classes[c] for c in left),
                tuple(classes[c] for c in out if of_class[c]),
                float(expected),
            )
        )
    return sorted(found, key=lambda one: -one.rows)


def _either(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
