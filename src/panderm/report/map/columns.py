"""What a map can be coloured by: the roles of its rows, and the other columns of their table."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from panderm.data.columns import Column, in_order, read_cells, whole_numbers
from panderm.data.join import join_columns
from panderm.data.levels import MOST_NUMBERS, is_number
from panderm.data.table import Table
from panderm.errors import ArtifactError, PandermWarning, TableError, UsageError, did_you_mean, plural, some
from panderm.statistics.projection import spread
from panderm.storage import sha256_of_file

ROLES = ("label", "split", "patient", "group")
MOST_CATEGORIES = 20  # with a colour of their own; the others share one
_MANY = 0.5  # a column of text with more values than this share of its rows names each row, and no group


@dataclass(frozen=True)
class Categories:
    """A column of names.

    Attributes:
        name: of the column.
        names: K values, those with a colour of their own first; at most 20 have one.
        own: how many have one.
        codes: int64 (n,), position in ``names``; -1 where the cell is empty.
    """

    name: str
    names: tuple[str, ...]
    own: int
    codes: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Numbers:
    """A column of numbers.

    Attributes:
        name: of the column.
        values: float64 (n,), NaN where the cell is empty.
        low, high: where the scale of colours begins and ends; what lies beyond has the colour of the end.
    """

    name: str
    values: npt.NDArray[np.float64]
    low: float
    high: float


Colouring = Categories | Numbers


@dataclass(frozen=True)
class Colourings:
    """All columns a map can be coloured by, those asked for first; and why others are not among them."""

    columns: tuple[Colouring, ...]
    asked: int
    left_out: tuple[str, ...] = ()


def read_colourings(
    rows: Table,
    color: Sequence[str] | None = None,
    *,
    columns: Path | str | None = None,
    image_column: str | None = None,
    only: bool = False,
) -> Colourings:
    """Return the columns that rows can be coloured by.

    Args:
        rows: of the embeddings.
        color: names of columns, the first to be shown first; by default label, or split where there is none.
            Each is a role (label, split, patient, group), a role's column in the table, or another column.
        columns: the table that has the other columns, by default the one that was embedded, where it is
            still the same file.
        image_column: its column with the images' names; by default the name it has in that table.
        only: nothing but the columns of ``color``.

    Raises:
        UsageError: a column named twice.
        TableError: a column, or an image, that is not there.
        ArtifactError: a column is asked for and the table that was embedded is gone, or another file now.
    """
    wanted = [_role(name, rows) for name in color] if color else _by_default(rows)
    twice = [name for name, times in Counter(wanted).items() if times > 1]
    if twice:
        raise UsageError("--color must name a column once.", f"named more than once: {some(twice)}")
    roles = _roles(rows)
    beside = _beside(rows, [name for name in wanted if name not in roles], columns, image_column, only=only)
    every = {**roles, **beside}
    found, left_out = [], []
    for name in [*wanted, *(() if only else (n for n in every if n not in wanted))]:
        cells = every[name]
        if name not in wanted and name not in ROLES and (reason := _tells_nothing(cells)):
            left_out.append(f"{name} ({reason})")
        else:
            classes = rows.classes if name == "label" else None
            found.append(_colouring(_title(name, rows), cells, classes, role=name in ROLES))
    return Colourings(tuple(found), len(wanted), tuple(left_out))


def _role(name: str, rows: Table) -> str:
    """Return the role that a column of the table plays, or else its name."""
    return next((role for role in ROLES if rows.card.roles.get(role) == name), name)


def _title(name: str, rows: Table) -> str:
    """Return ``label (dx)`` for a role whose column has another name."""
    column = rows.card.roles.get(name) if name in ROLES else None
    return f"{name} ({column})" if column and column != name else name


def _by_default(rows: Table) -> list[str]:
    return [name for name in ("label", "split") if (getattr(rows, name) != None).any()][:1]  # noqa: E711


def _roles(rows: Table) -> dict[str, Column]:
    """Return the roles that have values; where the table names a role's column otherwise, under its role."""
    held = {name: getattr(rows, name) for name in ROLES}
    return {name: cells for name, cells in held.items() if any(cell is not None for cell in cells)}


def _beside(
    rows: Table,
    asked: list[str],
    columns: Path | str | None,
    image_column: str | None,
    *,
    only: bool,
) -> dict[str, Column]:
    """Return the columns of the table that are no roles, in the order of the rows."""
    if only and not asked:
        return {}
    card = rows.card
    source = Path(columns if columns is not None else card.csv)
    if columns is None and (problem := _moved(source, card.csv_sha256)):
        if asked:
            raise ArtifactError(
                "the table that was embedded must be there as it was, for its other columns.",
                [problem, f"asked for: {some(asked)}; the embeddings have: {some(list(_roles(rows)))}"],
                "name the table where it is now, or another one of these images: --columns FILE",
            )
        warnings.warn(
            f"the map can be coloured by {some(list(_roles(rows)))} only: {problem}",
            PandermWarning,
            stacklevel=3,
        )
        return {}
    key = image_column or card.roles.get("image") or "image"
    have = [str(name) for name in read_cells(source).columns]
    for name in asked:
        if name not in have:
            raise TableError(
                f"column {name!r} must exist{did_you_mean(name, [*ROLES, *have])}",
                f"{source.name} has: {', '.join(have)}; the embeddings have: {some(list(_roles(rows)))}",
                "name the column with --color",
            )
    taken = {key, *(name for name in card.roles.values() if name), *ROLES}
    single = [name for name in have if have.count(name) == 1 and name]
    others = [] if only else [name for name in single if name not in taken and name not in asked]
    joined = join_columns(source, rows.image, [*asked, *others], image_column=key)
    return joined.columns


def _moved(source: Path, sha256: str) -> str | None:
    if not source.is_file():
        return f"found no file {source}"
    now = sha256_of_file(source)
    return None if now == sha256 else f"{source}: sha256 {sha256[:12]} when it was embedded, {now[:12]} now"


def _tells_nothing(cells: Column) -> str | None:
    """Say why a column would colour nothing, or None where it may."""
    known = [cell for cell in cells if cell is not None]
    different = set(known)
    if len(different) < 2:
        return "one value" if different else "empty"
    numbers = all(is_number(cell) for cell in different)
    if numbers and len(different) == len(cells) and all("." not in cell for cell in different):
        return "another whole number in every row"
    if not numbers and len(different) > max(MOST_CATEGORIES, _MANY * len(known)):
        return f"{plural(len(different), 'value')} in {plural(len(known), 'row')}"
    return None


def _colouring(name: str, cells: Column, classes: tuple[str, ...] | None, *, role: bool) -> Colouring:
    known = {cell for cell in cells if cell is not None}
    # Patients, lesions and classes may be called by numbers, and are none.
    numbers = not role and bool(known) and all(is_number(cell) for cell in known)
    if numbers and len({float(cell) for cell in known}) > MOST_NUMBERS:
        values = np.array([np.nan if cell is None else float(cell) for cell in cells])
        return Numbers(name, values, *spread(values[~np.isnan(values)]))
    if numbers:
        cells = whole_numbers(cells)
    counts = Counter(cell for cell in cells if cell is not None)
    order = [c for c in classes if c in counts] if classes else _ordered(set(counts), numbers=numbers)
    if len(order) > MOST_CATEGORIES:
        place = {value: i for i, value in enumerate(order)}
        often = sorted(order, key=lambda value: (-counts[value], place[value]))
        first = sorted(often[:MOST_CATEGORIES], key=lambda value: place[value])
        order = [*first, *often[MOST_CATEGORIES:]]
    code = {value: i for i, value in enumerate(order)}
    codes = np.array([-1 if cell is None else code[cell] for cell in cells], dtype=np.int64)
    return Categories(name, tuple(order), min(len(order), MOST_CATEGORIES), codes)


def _ordered(values: set[str], *, numbers: bool) -> list[str]:
    return sorted(values, key=lambda x: (float(x), x)) if numbers else list(in_order(values))
