"""The rows of a table before any of its images is opened: cells, roles, and the lock beside them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from panderm.data.cells import Cells, Made, nothing, texts
from panderm.data.columns import cells_in_turn, find_roles, read_cells, read_column, whole_numbers_in
from panderm.data.lock import Lock, Moved, in_lines, lock_path, moved_rows, read_lock, split_columns
from panderm.data.rows import images_folder, require_known_splits, require_unique_images
from panderm.errors import TableError, some
from panderm.storage import sha256_of_file


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a table before any of its images is opened; columns as of :meth:`Table.cells`.

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
    path: Cells
    columns: dict[str, Cells]
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
    frames = cells_in_turn(source)
    first = next(frames)
    roles = find_roles(first, source, image_column, label, split_column, patient, group)
    folder = images_folder(source, images)
    columns, number = cells_of_roles(chain([first], frames), roles, folder, source)
    lock, unlocked = _lock_of(source, roles)
    return Rows(
        name=source.name,
        csv=str(source.resolve()),
        csv_sha256=sha256_of_file(source),
        images=str(folder),
        row=number,
        path=Made(columns["image"], partial(_in_folder, folder)),
        columns=columns,
        roles=roles,
        lock=lock,
        lock_file=None if lock is None else lock_path(source),
        unlocked=tuple(unlocked),
    )


def _in_folder(folder: Path, name: str | None) -> str:
    return str(folder / (name or ""))


def cells_of_roles(
    frames: Iterable[pd.DataFrame], roles: dict[str, str | None], folder: Path, source: Path
) -> tuple[dict[str, Cells], npt.NDArray[np.int64]]:
    """Return the roles' columns and the rows' numbers: each image named once, each split a known one."""
    held: dict[str, list[pa.Array]] = {role: [] for role, name in roles.items() if name is not None}
    numbers = []
    for frame in frames:
        numbers.append(frame.index.to_numpy(dtype=np.int64))
        for role in held:
            held[role].append(pa.array(read_column(frame, roles[role]), pa.string()))
    number = np.concatenate(numbers)
    columns = {
        role: texts(held.pop(role), repeat=role != "image") if role in held else nothing(len(number))
        for role in roles
    }
    if roles["label"]:
        columns["label"] = whole_numbers_in(columns["label"])
    require_unique_images(columns["image"], folder, number, roles["image"])
    if roles["split"]:
        require_known_splits(columns["split"], number, roles["split"], source)
    return columns, number


def _lock_of(source: Path, roles: dict[str, str | None]) -> tuple[Lock | None, list[str]]:
    """Return the lock beside a table whose rows agree with it, or why it does not hold the split read."""
    path = lock_path(source)
    if not os.path.lexists(path):
        return None, []
    lock, frame = read_lock(path), read_cells(source)
    column = roles["split"]
    if column is not None and column not in split_columns(lock, frame, column).values():
        return None, [f"{path.name} holds column {some(lock.head.columns)}: column {column!r} is not locked"]
    refuse_moved(moved_rows(lock, frame, roles), source.name)
    return lock, []


def refuse_moved(moved: list[Moved], name: str) -> None:
    """Raise :class:`TableError` where a table is not as its lock says."""
    if moved:
        raise TableError(
            "a table must be as its lock says.",
            [f"{name} is not as it was when it was split:", *in_lines(moved)],
            f"panderm split {name} --verify lists all; or split the table again",
        )
