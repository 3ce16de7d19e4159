"""A CSV (or Parquet file) of images to typed rows with roles: image, label, split, patient, group."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from panderm.data.columns import Column, find_roles, in_order, read_cells, read_column, whole_numbers
from panderm.data.images import ImageFacts, inspect_all
from panderm.data.lock import (
    Lock,
    LockRecord,
    Moved,
    in_lines,
    lock_path,
    moved_images,
    moved_rows,
    read_lock,
    record_of,
    split_columns,
)
from panderm.data.rows import SPLITS as SPLITS
from panderm.data.rows import (
    described,
    images_folder,
    other_ending,
    require_known_splits,
    require_unique_images,
)
from panderm.data.stored import MAX_MEGAPIXELS
from panderm.errors import PandermWarning, TableError, plural, some
from panderm.provenance import Record
from panderm.storage import sha256_of_file


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

    def select(self, chosen: npt.NDArray[Any] | slice) -> Self:
        """Return the chosen rows (boolean mask, positions or slice) under the same card."""
        columns = {f.name: getattr(self, f.name)[chosen] for f in fields(self) if f.name != "card"}
        return replace(self, **columns)

    def in_split(self, name: str) -> Self:
        """Return the rows of one split."""
        return self.select(self.split == name)


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
    paths = [Path(file) for file in rows.path]
    workers = min(8, os.cpu_count() or 1)
    looked = inspect_all(
        paths, workers=workers, progress=progress, max_megapixels=max_megapixels, decode=decode
    )
    facts = list(looked)
    return check_rows(
        rows, facts, classes=classes, skip_bad=skip_bad, max_megapixels=max_megapixels, note=note
    )


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a table before any of its images is opened; columns as of :class:`Table`.

    Attributes:
        name: the table's, for messages.
        csv: where its file is.
        csv_sha256: of its file's bytes.
        images: the folder that its images are relative to.
        row: int (n,), as a spreadsheet numbers them.
        path: absolute path or address of each image.
        columns: image, split, label, patient, group.
        roles: which column each of them is; None where there is none.
        lock, lock_file: the lock beside the table, whose rows agree with it, and its file.
        unlocked: why the lock does not hold the split that is read.
    """

    name: str
    csv: str
    csv_sha256: str
    images: str
    row: npt.NDArray[np.int64]
    path: Column
    columns: dict[str, Column]
    roles: dict[str, str | None]
    lock: Lock | None = None
    lock_file: Path | None = None
    unlocked: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.row)


def read_rows(
    path: Path | str,
    *,
    images: Path | str | None = None,
    image_column: str = "image",
    label: str | None = None,
    split_column: str = "split",
    patient: str | None = None,
    group: str | None = None,
) -> Rows:
    """Read a table's cells and find its roles; no image is opened. Arguments as of :func:`read_table`.

    Example:
        >>> rows = read_rows("ham_clean.csv", images="images/")  # doctest: +SKIP
        >>> table = check_rows(rows, [inspect(Path(path)) for path in rows.path])  # doctest: +SKIP
    """
    source = Path(path)
    frame = read_cells(source)
    roles = find_roles(frame, source, image_column, label, split_column, patient, group)
    folder = images_folder(source, images)
    columns, number = cells_of_roles(frame, roles, folder, source)
    lock, unlocked = _lock_of(source, frame, roles)
    return Rows(
        name=source.name,
        csv=str(source.resolve()),
        csv_sha256=sha256_of_file(source),
        images=str(folder),
        row=number,
        path=np.array([str(folder / (name or "")) for name in columns["image"]], dtype=object),
        columns=columns,
        roles=roles,
        lock=lock,
        lock_file=None if lock is None else lock_path(source),
        unlocked=tuple(unlocked),
    )


def cells_of_roles(
    frame: pd.DataFrame, roles: dict[str, str | None], folder: Path, source: Path
) -> tuple[dict[str, Column], npt.NDArray[np.int64]]:
    """Return the roles' columns and the rows' numbers: each image named once, each split a known one."""
    columns = {role: read_column(frame, name) for role, name in roles.items()}
    number = frame.index.to_numpy(dtype=np.int64)
    if roles["label"]:
        columns["label"] = whole_numbers(columns["label"])
    require_unique_images(columns["image"], folder, number, roles["image"])
    if roles["split"]:
        require_known_splits(columns["split"], number, roles["split"], source)
    return columns, number


def check_rows(
    rows: Rows,
    facts: Sequence[ImageFacts],
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
    bad = []
    for i, fact in enumerate(facts):
        if not columns["image"][i]:
            bad.append(Skipped(row=int(number[i]), image="", reason="no image is named"))
        elif fact.problem:
            near = other_ending(Path(rows.path[i])) if fact.problem == "no such file" else ""
            bad.append(Skipped(row=int(number[i]), image=columns["image"][i], reason=fact.problem + near))
        elif roles["label"] and columns["label"][i] is None:
            bad.append(Skipped(row=int(number[i]), image=columns["image"][i], reason="no label"))
    keep = ~np.isin(number, [b.row for b in bad])
    refuse_bad(bad, rows.name, rows.images, roles, of=len(rows), skip_bad=skip_bad)
    columns = {role: values[keep] for role, values in columns.items()}
    hashes = np.array([fact.sha256 for fact in facts], dtype=object)[keep]
    order = _classes(columns["label"], classes, roles["label"])
    held = None
    if rows.lock is not None and rows.lock_file is not None:
        held = record_of(rows.lock, rows.lock_file, roles["split"])
        changed = moved_images(rows.lock, number[keep].tolist(), columns["image"].tolist(), hashes.tolist())
        _refuse_moved([moved for _, moved in changed], rows.name)

    facts_of_rows = described(columns | {"sha256": hashes}, order)
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
    return Table(row=number[keep], path=rows.path[keep], sha256=hashes, card=card, **columns)


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


def _lock_of(
    source: Path, frame: pd.DataFrame, roles: dict[str, str | None]
) -> tuple[Lock | None, list[str]]:
    """Return the lock beside a table whose rows agree with it, or why it does not hold the split read."""
    path = lock_path(source)
    if not os.path.lexists(path):
        return None, []
    lock = read_lock(path)
    column = roles["split"]
    if column is not None and column not in split_columns(lock, frame, column).values():
        return None, [f"{path.name} holds column {some(lock.head.columns)}: column {column!r} is not locked"]
    _refuse_moved(moved_rows(lock, frame, roles), source.name)
    return lock, []


def _refuse_moved(moved: list[Moved], name: str) -> None:
    if moved:
        raise TableError(
            "a table must be as its lock says.",
            [f"{name} is not as it was when it was split:", *in_lines(moved)],
            f"panderm split {name} --verify lists all; or split the table again",
        )


def _classes(label: Column, stated: Sequence[str] | None, name: str | None) -> tuple[str, ...]:
    present = {x for x in label if x is not None}
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
