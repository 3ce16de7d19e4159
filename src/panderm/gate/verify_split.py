"""Is a table still as it was when it was split? Its cells and its images, against its lock."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from panderm.data.columns import read_cells, read_column
from panderm.data.examine import examine
from panderm.data.images import ImageError, read_bytes
from panderm.data.lock import (
    Lock,
    Moved,
    lock_path,
    moved_images,
    moved_rows,
    name_hash,
    pixels_hash,
    read_lock,
)
from panderm.data.rows import images_folder
from panderm.data.stored import MAX_MEGAPIXELS
from panderm.errors import ArtifactError, TableError
from panderm.progress import in_threads
from panderm.storage import sha256_of_file


@dataclass(frozen=True)
class Verified:
    """What :func:`verify_split` found.

    Attributes:
        holds: nothing moved.
        moved: what did, by row.
        lock: the lock's file.
        sha256: of the lock's file.
        rows: how many rows the table has.
        images: how many files were compared; 0 where they were not to be, or not when it was split.
    """

    holds: bool
    moved: tuple[Moved, ...]
    lock: Path
    sha256: str
    rows: int
    images: int


def verify_split(
    table: Path | str,
    *,
    images: Path | str | None = None,
    image_column: str = "image",
    label: str | None = None,
    split_column: str = "split",
    patient: str | None = None,
    group: str | None = None,
    no_images: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
    progress: bool = True,
) -> Verified:
    """Compare a table that :func:`panderm.split` wrote with its lock.

    Rows may stand in another order, and other columns may change. What must not: which rows there are, their
    labels, patients, lesions and splits, and the bytes of their images.

    Args:
        table: the CSV with its split; its lock lies beside it.
        images: the folder that the image column is relative to; by default the table's own.
        image_column: where the column was renamed since; likewise ``label``, ``patient``, ``group`` and
            ``split_column``.
        label: likewise.
        split_column: likewise.
        patient: likewise.
        group: likewise.
        no_images: compare the cells only.
        max_megapixels: an image of more millions of pixels counts as one that cannot be read.
        progress: show progress on standard error.

    Raises:
        ArtifactError: there is no lock, or it is damaged.
        TableError: the table cannot be read, or none of its images is where it should be.

    Example:
        >>> panderm.verify_split("ham_split.csv", images="images/").holds  # doctest: +SKIP
        True
    """
    source = Path(table)
    frame = read_cells(source)
    path = lock_path(source)
    _require_lock(path, source)
    lock = read_lock(path)
    asked = {"image": image_column, "label": label, "split": split_column, "patient": patient, "group": group}
    roles = {role: name if name in frame.columns else None for role, name in asked.items()}
    moved = moved_rows(lock, frame, roles)
    compared = 0
    name = lock.head.roles["image"]
    name = name if name in frame.columns else roles["image"]
    if lock.head.images_read and not no_images and name is not None:
        names = [x or "" for x in read_column(frame, name)]
        folder = images_folder(source, images)
        found = _images(lock, [int(n) for n in frame.index], names, folder, max_megapixels, progress=progress)
        moved = moved + found
        compared = len(names)
    return Verified(not moved, tuple(moved), path, sha256_of_file(path), len(frame), compared)


def _require_lock(path: Path, source: Path) -> None:
    if os.path.lexists(path):
        return
    beside = source.with_name(f"{source.stem}_split.csv")
    hint = "panderm split writes it: panderm split " + source.name
    if lock_path(beside).is_file():
        hint = f"did you mean {beside.name}?"
    raise ArtifactError("a split must have its lock beside it.", f"found no {path}", hint)


def _images(
    lock: Lock, rows: Sequence[int], names: Sequence[str], folder: Path, most: float, *, progress: bool
) -> list[Moved]:
    """Compare the files' bytes with the lock; where they differ, their pixels."""
    paths = [folder / name for name in names]
    workers = min(8, os.cpu_count() or 1)
    digests = list(in_threads(_sha256, paths, "hashing images", "images", workers=workers, shown=progress))
    if not any(digests):
        raise TableError(
            "the images must be there to be compared.",
            f"none of {len(paths):,} files is in {folder}",
            "name their folder with --images, or compare the cells only with --no-images",
        )
    was = {row.image: row for row in lock.rows}
    found = []
    for i, moved in moved_images(lock, rows, names, digests):
        before = was[name_hash(names[i])]
        now = examine(paths[i], max_megapixels=most)
        if now.problem and not before.bytes:
            continue  # it could not be read then either
        if now.problem:
            found.append(replace(moved, what=f"its file cannot be read: {now.problem}"))
        elif now.fingerprint and pixels_hash(now.fingerprint.pixels) == before.pixels:
            found.append(replace(moved, what="its file is another, with the same pixels"))
        else:
            found.append(replace(moved, what="its pixels are others") if before.bytes else moved)
    return found


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest()
    except ImageError:
        return ""
