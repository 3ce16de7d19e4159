"""What two tables share: files, image names, patients, lesions; so that what was learned is not scored."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
import numpy.typing as npt

from panderm.data.columns import Column
from panderm.data.rows import lesions_of
from panderm.data.table import Table
from panderm.errors import LeakError, plural, some

# Plain numbers count patients, lesions and files within one table; two tables have the same ones by chance.
_NUMBER = re.compile(r"[0-9]{1,6}")


@dataclass(frozen=True)
class Shared:
    """One thing that rows of two tables have in common.

    Attributes:
        what: image file, image name, patient or lesion.
        names: those that are in both, in the order of the other table's rows.
        first: how many rows of the first table have them.
        other: positions of the other table's rows that have them.
    """

    what: str
    names: tuple[str, ...]
    first: int
    other: npt.NDArray[np.intp]

    def __str__(self) -> str:
        held = f"{plural(len(self.other), 'row')} to be scored, {plural(self.first, 'row')} that are fitted"
        names = [name[:12] if self.what == "image file" else name for name in self.names[:6]]
        more = f" and {len(self.names) - 5:,} more" if len(self.names) > 5 else ""
        return f"{self.what}: {len(self.names):,} in both ({held}): {', '.join(names[:5])}{more}"


def find_shared(first: Table, other: Table) -> tuple[Shared, ...]:
    """Return what rows of two tables share.

    Files are the same by their SHA-256. Names of images are compared without folder and ending. Names that
    are plain numbers of at most six digits are passed over.

    Args:
        first: rows that are fitted, or that choose.
        other: rows that are to be scored.
    """
    pairs = [
        ("image file", first.sha256, other.sha256),
        ("image name", _stems(first.image), _stems(other.image)),
        ("patient", first.patient, other.patient),
        ("lesion", lesions_of(first.patient, first.group), lesions_of(other.patient, other.group)),
    ]
    found = (_shared(what, *columns) for what, *columns in pairs)
    return tuple(one for one in found if one is not None)


def require_apart(first: Table, other: Table) -> None:
    """Raise :class:`LeakError` naming the rows that two tables share."""
    found = find_shared(first, other)
    if found:
        rows = np.unique(np.concatenate([one.other for one in found]))
        lines = [f"{other.image[i]} (row {other.row[i]:,})" for i in rows[:5]]
        raise LeakError(
            "rows to be scored must not be among those that are fitted.",
            [
                f"{first.card.csv} and {other.card.csv} share:",
                *(str(one) for one in found),
                f"rows of {other.card.name}: {some([*lines, *rows[5:]], 5)}",
            ],
            "leave these rows out of one table (panderm embeddings select); or, where names are the same by "
            "chance, --allow-overlap",
        )


def _shared(what: str, first: Column, other: Column) -> Shared | None:
    names = {x for x in first if x is not None and not _NUMBER.fullmatch(x)}
    at = np.array([i for i, x in enumerate(other) if x in names], dtype=np.intp)
    if not len(at):
        return None
    both = tuple(dict.fromkeys(str(other[i]) for i in at))
    return Shared(what, both, sum(x in set(both) for x in first), at)


def _stems(image: Column) -> Column:
    return np.array(list(_each_stem(image)), dtype=object)


def _each_stem(image: Column) -> Iterator[str]:
    for name in image:
        yield PurePath(str(name)).stem
