"""A CSV (or Parquet file) of images to typed rows with roles: image, label, split, patient, group."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt

from panderm.data.cells import Cells, Column, cells, hashes
from panderm.data.columns import in_order, whole_numbers
from panderm.data.images import ImageFacts, inspect_all
from panderm.data.lock import LockRecord, moved_images, record_of
from panderm.data.rows import SPLITS as SPLITS
from panderm.data.rows import described, other_ending
from panderm.data.stored import MAX_MEGAPIXELS
from panderm.data.unopened import Rows as Rows
from panderm.data.unopened import cells_of_roles as cells_of_roles
from panderm.data.unopened import read_rows as read_rows
from panderm.data.unopened import refuse_moved
from panderm.errors import PandermWarning, TableError, plural, some
from panderm.provenance import Record


class Skipped(Record):
    """A row that was left out: its number as a spreadsheet shows it, its image, and why."""

    row: int
    image: str
    reason: str


class TableCard(Record):
    """What a table is: its file, its roles, its classes in order, and how many of each."""

    name: str
    csv: str
    csv_sha256: str
    images: str
    sha256: str
    rows: int
    roles: dict[str, str | None]
    classes: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    patients: int | None
    groups: int | None
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    note: str | None = None
    max_megapixels: float = MAX_MEGAPIXELS
    lock: LockRecord | None = None


@dataclass(frozen=True, eq=False)
class Table:
    """Rows with roles; object arrays of n strings, None where a role or a value is absent.

    Columns are kept in a few bytes a row (:meth:`cells`), and become arrays of strings when they are first
    asked for. Arrays that a table is made of stay as they are.

    Attributes:
        row: int (n,), the row as a spreadsheet numbers it (the header is row 1).
        image: the image's name in the CSV, unique.
        path: the absolute path of its file.
        sha256: hex SHA-256 of the file's bytes.
        split: train, val or test.
        label: the class, as a string.
        patient: who is in the picture.
        group: which lesion, or any other unit that must not be torn apart.
        card: the whole table these rows belong to.

    Example:
        >>> table = panderm.read_table("ham_clean.csv", images="images/")  # doctest: +SKIP
        >>> len(table.in_split("test")), table.classes  # doctest: +SKIP
        (1232, ('0', '1', '2', '3', '4', '5', '6'))
    """

    row: npt.NDArray[np.int64]
    image: Column
    path: Column
    sha256: Column
    split: Column
    label: Column
    patient: Column
    group: Column
    card: TableCard

    def __len__(self) -> int:
        return len(self.image)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes in their stated order."""
        return self.card.classes

    def codes(self) -> npt.NDArray[np.int64]:
        """Labels as positions in ``classes``, int64 (n,)."""
        position = {name: i for i, name in enumerate(self.classes)}
        return np.array([position[label] for label in self.label], dtype=np.int64)

    def cells(self, name: str) -> Cells:
        """Return a column as it is kept, for those who need not have all its strings at once."""
        held: Cells = vars(self)[name]
        return held

    def select(self, chosen: npt.NDArray[Any] | slice) -> Self:
        """Return the chosen rows (boolean mask, positions or slice) under the same card."""
        columns: dict[str, Any] = {name: self.cells(name).take(chosen) for name in COLUMNS}
        return type(self)(row=self.row[chosen], card=self.card, **columns)

    def under(self, card: TableCard) -> Self:
        """Return the same rows under another card."""
        return type(self)(**{**vars(self), "card": card})

    def in_split(self, name: str) -> Self:
        """Return the rows of one split."""
        return self.select(self.split == name)


class _Strings:
    """A column of a table: kept as cells, seen as strings."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, table: Table | None, _: type | None = None) -> Any:
        return self if table is None else table.cells(self._name).strings()

    def __set__(self, table: Table, column: Column | Cells) -> None:
        vars(table)[self._name] = cells(column)


COLUMNS = ("image", "path", "sha256", "split", "label", "patient", "group")
for _name in COLUMNS:
    setattr(Table, _name, _Strings(_name))


def read_table(
    path: Path | str,
    *,
    images: Path | str | None = None,
    image_column: str = "image",
    label: str | None = None,
    split_column: str = "split",
    patient: str | None = None,
    group: str | None = None,
    classes: Sequence[str] | None = None,
    skip_bad: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
    note: str | None = None,
    decode: bool = True,
    progress: bool = True,
) -> Table:
    """Read and check a CSV of images; nothing is checked again later.

    Without options the published contract holds: columns ``image``, ``split`` (train, val, test) and
    ``label`` or ``binary_label``; columns named ``patient_id`` or ``patient``, ``lesion_id`` or
    ``lesion`` are taken as patient and group. Every file is decoded once here, so that a bad one is
    known before any compute. Where a lock lies beside the table (``x.lock.json`` beside ``x.csv``, as
    :func:`panderm.split` writes it), rows and images must be as they were when the table was split.

    Args:
        path: the CSV; comma, semicolon or tab between columns, UTF-8. Or a ``.parquet`` file.
        images: the folder that the image column is relative to; by default the CSV's own folder.
        image_column: column with the file name (or an absolute path); unique.
        label: column with the class, strings or integers.
        split_column: column with train, val or test.
        patient: column that says who is in the picture.
        group: column that says which lesion it is.
        classes: all classes, in the order wanted; by default integers ascending, strings A to Z.
            Of two classes the second is the positive one.
        skip_bad: leave out rows whose image cannot be read or whose label is empty, and say so on the card.
        max_megapixels: an image of more millions of pixels counts as bad.
        note: a sentence that travels with the table to the report.
        decode: decode every file; without it only those that are no JPEG or PNG with a header and an end,
            and damage between the two is found by who decodes them.
        progress: show progress on standard error.

    Returns:
        The rows, in the CSV's order.

    Raises:
        TableError: with every finding of its kind, by row.
        ArtifactError: the lock beside the table is damaged.

    Example:
        >>> table = panderm.read_table("ham_clean.csv", images="images/", group="lesion_id")  # doctest: +SKIP
    """
    rows = read_rows(
        path,
        images=images,
        image_column=image_column,
        label=label,
        split_column=split_column,
        patient=patient,
        group=group,
    )
    workers = min(8, os.cpu_count() or 1)
    paths = cast("Collection[str]", rows.path)
    facts = inspect_all(
        paths, workers=workers, progress=progress, max_megapixels=max_megapixels, decode=decode
    )
    return check_rows(
        rows, facts, classes=classes, skip_bad=skip_bad, max_megapixels=max_megapixels, note=note
    )


def check_rows(
    rows: Rows,
    facts: Iterable[ImageFacts],
    *,
    classes: Sequence[str] | None = None,
    skip_bad: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
    note: str | None = None,
) -> Table:
    """Make a table of rows and what was found in their files, in the same order; as :func:`read_table` does.

    Raises:
        TableError: rows without a readable image or a label; classes; images that are not the lock's.
    """
    columns, roles, number = rows.columns, rows.roles, rows.row
    bad: list[Skipped] = []
    keep = np.ones(len(rows), dtype=bool)

    def digests() -> Iterator[str]:
        asked = zip(columns["image"], columns["label"], facts, strict=True)
        for i, (image, label, fact) in enumerate(asked):
            reason = fact.problem
            if not image:
                reason = "no image is named"
            elif fact.problem:
                near = other_ending(Path(rows.path[i] or "")) if fact.problem == "no such file" else ""
                reason = fact.problem + near
            elif roles["label"] and label is None:
                reason = "no label"
            if reason:
                keep[i] = False
                bad.append(Skipped(row=int(number[i]), image=image or "", reason=reason))
            yield fact.sha256

    sha256 = hashes(digests(), len(rows))
    refuse_bad(bad, rows.name, rows.images, roles, of=len(rows), skip_bad=skip_bad)
    path = rows.path
    if bad:
        columns = {role: column.take(keep) for role, column in columns.items()}
        sha256, path, number = sha256.take(keep), path.take(keep), number[keep]
    order = _classes(columns["label"], classes, roles["label"])
    held = None
    if rows.lock is not None and rows.lock_file is not None:
        held = record_of(rows.lock, rows.lock_file, roles["split"])
        names = (str(image) for image in columns["image"])
        changed = moved_images(rows.lock, number.tolist(), names, (str(x) for x in sha256))
        refuse_moved([moved for _, moved in changed], rows.name)

    facts_of_rows = described(columns | {"sha256": sha256}, order)
    leaks = [*facts_of_rows.pop("warnings"), *rows.unlocked]
    for leak in leaks:
        warnings.warn(leak, PandermWarning, stacklevel=3)
    card = TableCard(
        name=rows.name.split(".")[0],
        csv=rows.csv,
        csv_sha256=rows.csv_sha256,
        images=rows.images,
        roles=roles,
        skipped=tuple(bad),
        warnings=tuple(leaks),
        note=note,
        max_megapixels=max_megapixels,
        lock=held,
        **facts_of_rows,
    )
    held_columns: dict[str, Any] = {**columns, "path": path, "sha256": sha256}
    return Table(row=number, card=card, **held_columns)


def refuse_bad(
    bad: Sequence[Skipped],
    name: str,
    images: str,
    roles: dict[str, str | None],
    *,
    of: int,
    skip_bad: bool,
) -> None:
    """Raise :class:`TableError` with every bad row, unless they may be left out and others are left."""
    sound = "a readable image and a label" if roles["label"] else "a readable image"
    lines = [f"row {one.row}: {one.image or '(empty)'}: {one.reason}" for one in bad]
    if len(bad) == of:
        # Thousands of lines of the same kind would hide what is wrong: most likely the folder.
        more = [f"and {len(bad) - 20:,} more"] if len(bad) > 20 else []
        raise TableError(
            f"a table must have at least one row with {sound}.",
            [f"none of {plural(of, 'row')} of {name} has:", *lines[:20], *more],
            f"images are looked for in {images}: name their folder with --images",
        )
    if bad and not skip_bad:
        raise TableError(
            f"every row must have {sound}.",
            [f"{plural(len(bad), 'row')} of {name} {'does' if len(bad) == 1 else 'do'} not:", *lines],
            "mend them, or add --skip-bad to leave these rows out",
        )


def _classes(label: Cells, stated: Sequence[str] | None, name: str | None) -> tuple[str, ...]:
    present = {x for x in label.distinct() if x is not None}
    if stated is not None:
        order = tuple(whole_numbers(np.array([str(x) for x in stated], dtype=object)))
        unlisted = sorted(present - set(order))
        if unlisted or len(set(order)) != len(order) or name is None:
            raise TableError(
                "--classes must list every class of the label column, each once.",
                f"not listed: {some(unlisted)}" if unlisted else f"listed: {', '.join(order)}",
            )
        return order
    return in_order(present)
