"""The lock of a split, ``x.lock.json`` beside ``x.csv``: what every row was when it was split, as hashes.

No cell of the table is in the lock but the names of its classes and columns: an image, a patient and a lesion
are there as the first 16 hex digits of the SHA-256 of their names. A lock may therefore leave the house where
the table may not, and two houses can see whether they share a patient. It is no secret: who guesses an
identifier can check the guess.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import ValidationError

from panderm.data.columns import Column, read_column, whole_number
from panderm.data.rows import HELD, SPLITS
from panderm.errors import ArtifactError, plural, some
from panderm.provenance import Provenance, Record
from panderm.storage import sha256_of_file, sha256_of_json

LETTERS = {"train": "T", "val": "V", "test": "E", HELD: "H"}
"""How the lock writes a part."""
_PARTS = {letter: part for part, letter in LETTERS.items()}
_NAME, _BYTES = 16, 32  # hex digits kept of a name's hash, of a file's


class LockedRow(NamedTuple):
    """One row of the table as it was split.

    Attributes:
        row: its number as a spreadsheet showed it.
        image: hash of the image's name.
        label: position in the lock's classes, None where it had no label.
        patient, lesion: hashes of their names, empty where there were none.
        parts: a letter for each split column, see :data:`LETTERS`.
        fold: 1 to K, 0 where there were no folds or the row was held back.
        group: number of its group.
        bytes: the first 32 hex digits of the file's SHA-256; empty where the image was not looked at.
        pixels: the first 16 of the SHA-256 of its decoded pixels; empty likewise.
    """

    row: int
    image: str
    label: int | None
    patient: str
    lesion: str
    parts: str
    fold: int
    group: int
    bytes: str
    pixels: str


class LockedPair(NamedTuple):
    """Two rows, by their numbers, that are one group because their images are one."""

    first: int
    second: int
    why: Literal["same pixels", "near", "embeddings"]
    similarity: float


class GroupFacts(Record):
    """How many groups there are, how many rows the largest has, and what joined rows into groups."""

    groups: int
    largest: int
    joined_by: tuple[str, ...]
    joined: dict[str, int]


class LockHead(Record):
    """All of a lock but its rows."""

    kind: Literal["split lock"] = "split lock"
    format: Literal[1] = 1
    provenance: Provenance
    table: str
    roles: dict[str, str | None]
    columns: tuple[str, ...]
    fold: str | None
    seed: int
    options: dict[str, Any]
    method: dict[str, str]
    images_read: bool
    classes: tuple[str, ...]
    counts: dict[str, dict[str, dict[str, int]]]
    groups: GroupFacts


class LockRecord(Record):
    """What an artifact says of the lock its table was under."""

    file: str
    sha256: str
    created: str
    seed: int
    method: str
    column: str | None
    joined_by: tuple[str, ...]
    groups: int
    largest: int
    images_read: bool


@dataclass(frozen=True)
class Lock:
    """A lock: its head, its rows in the table's order, and the pairs of images that are one."""

    head: LockHead
    rows: Sequence[LockedRow]
    pairs: Sequence[LockedPair]

    def write(self, path: Path) -> None:
        """Write the lock as JSON, one line a row, sealed by the SHA-256 of its content."""
        head = self.head.model_dump(mode="json")
        with path.open("w", encoding="utf-8") as file:
            file.write(json.dumps(head, indent=1, ensure_ascii=False)[:-2] + ",\n")
            file.write(f' "row_fields": {json.dumps(LockedRow._fields)},\n')
            for name, lines in (("rows", self.rows), ("pairs", self.pairs)):
                file.write(f' "{name}": [')
                for i, line in enumerate(lines):
                    file.write((",\n  " if i else "\n  ") + json.dumps(line, separators=(",", ":")))
                file.write("\n ],\n")
            file.write(f' "seal": "{_seal(head, self.rows, self.pairs)}"\n}}\n')


@dataclass(frozen=True)
class Moved:
    """Something that is not as it was: the row as it is numbered now, its image, and what moved.

    ``row`` is None where it concerns the whole table.
    """

    row: int | None
    image: str
    what: str

    def __str__(self) -> str:
        where = [] if self.row is None else [f"row {self.row}"]
        return ": ".join([*where, *([self.image] if self.image else []), self.what])


def lock_path(table: Path) -> Path:
    """Return where the lock of a table lies: ``x.lock.json`` beside ``x.csv``."""
    return table.with_name(f"{table.stem}.lock.json")


def name_hash(name: str | None) -> str:
    """Return the hash under which a lock knows an image, a patient or a lesion; empty for None."""
    return hashlib.sha256(name.encode()).hexdigest()[:_NAME] if name else ""


def bytes_hash(sha256: str) -> str:
    """Return what a lock keeps of the SHA-256 of a file."""
    return sha256[:_BYTES]


def pixels_hash(sha256: str) -> str:
    """Return what a lock keeps of the SHA-256 of decoded pixels."""
    return sha256[:_NAME]


def read_lock(path: Path) -> Lock:
    """Open a lock.

    Raises:
        ArtifactError: there is none, or it is damaged, edited, or of another version.
    """
    try:
        held = json.loads(path.read_bytes())
        seal, fields = held.pop("seal"), held.pop("row_fields")
        rows = [LockedRow(*row) for row in held.pop("rows")]
        pairs = [LockedPair(*pair) for pair in held.pop("pairs")]
        if seal != _seal(held, rows, pairs) or fields != list(LockedRow._fields):
            raise ValueError("its content is not what was sealed")
        return Lock(LockHead.model_validate(held), rows, pairs)
    except FileNotFoundError:
        must, found = "a split must have its lock.", f"found no {path}"
    except OSError as error:
        must, found = "the lock of a split must be readable.", f"{path}: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError):
        must = "the lock of a split must be as panderm wrote it."
        found = f"{path} is damaged, or was edited, or is of another version"
    raise ArtifactError(must, found, "restore it, or split the table again: panderm split")


def _seal(head: dict[str, Any], rows: Sequence[LockedRow], pairs: Sequence[LockedPair]) -> str:
    return sha256_of_json([head, rows, pairs])


def record_of(lock: Lock, path: Path, column: str | None) -> LockRecord:
    """Return what an artifact says of a lock that its table agrees with."""
    head = lock.head
    return LockRecord(
        file=path.name,
        sha256=sha256_of_file(path),
        created=head.provenance.created,
        seed=head.seed,
        method=head.method["assignment"],
        column=column,
        joined_by=head.groups.joined_by,
        groups=head.groups.groups,
        largest=head.groups.largest,
        images_read=head.images_read,
    )


def split_columns(lock: Lock, frame: pd.DataFrame, read: str | None) -> dict[str, str | None]:
    """Return under which name each split column of the lock is in the table, None where it is gone."""
    found: dict[str, str | None] = {c: c if c in frame.columns else None for c in lock.head.columns}
    if len(found) == 1 and None in found.values() and read in frame.columns:
        return dict.fromkeys(found, read)  # renamed, and named by --split-column
    return found


def moved_rows(lock: Lock, frame: pd.DataFrame, roles: dict[str, str | None]) -> list[Moved]:
    """Compare the cells of a table with its lock: rows, labels, patients, lesions, splits, groups.

    Args:
        lock: of the table as it was split.
        frame: the table as it is now.
        roles: the columns chosen now; they serve where a column of the lock has been renamed.
    """
    names, gone = {}, []
    for role, name in lock.head.roles.items():
        names[role] = name if name is None or name in frame.columns else roles.get(role)
        if name is not None and names[role] is None:
            gone.append(Moved(None, "", f"column {name!r} ({role}) is gone"))
    splits = split_columns(lock, frame, roles.get("split"))
    gone += [Moved(None, "", f"column {c!r} (split) is gone") for c, now in splits.items() if now is None]
    fold = lock.head.fold
    if fold is not None and fold not in frame.columns:
        gone.append(Moved(None, "", f"column {fold!r} is gone"))
    if gone:
        return gone
    columns = {role: read_column(frame, name) for role, name in names.items()}
    now = {c: read_column(frame, name) for c, name in splits.items()}
    folds = read_column(frame, fold)
    held = {row.image: row for row in lock.rows}
    moved, seen = [], set()
    numbers = [int(n) for n in frame.index]
    for i, number in enumerate(numbers):
        image = columns["image"][i]
        was = held.get(name_hash(image))
        if was is None:
            moved.append(Moved(number, image or "", "not in the lock: a new row, or another image name"))
            continue
        if was.image in seen:
            moved.append(Moved(number, image, "a second row of this image"))
            continue
        seen.add(was.image)
        changed = _changed(lock, was, {role: column[i] for role, column in columns.items()})
        changed += [
            f"{c} was {_PARTS.get(letter, letter)}, is {now[c][i] or 'empty'}"
            for c, letter in zip(now, was.parts, strict=True)
            if LETTERS.get(now[c][i] or "") != letter
        ]
        if fold is not None and (folds[i] or "0") != str(was.fold):
            changed.append(f"{fold} was {was.fold or 'empty'}, is {folds[i] or 'empty'}")
        moved += [Moved(number, image, what) for what in changed]
    left = [row.row for row in lock.rows if row.image not in seen]
    moved += [Moved(None, "", f"row {row} of the table as it was split is gone") for row in left]
    return moved + _torn(lock, columns["image"], numbers, now)


def _changed(lock: Lock, was: LockedRow, cells: dict[str, str | None]) -> list[str]:
    label = None if was.label is None else lock.head.classes[was.label]
    is_now = cells["label"]
    same = whole_number(is_now) == whole_number(label)
    found = [] if same else [f"label was {label or 'empty'}, is {is_now or 'empty'}"]
    roles = (("patient", "patient", was.patient), ("group", "lesion", was.lesion))
    return found + [f"another {word} than before" for r, word, old in roles if name_hash(cells[r]) != old]


def _torn(lock: Lock, image: Column, numbers: list[int], now: dict[str, Column]) -> list[Moved]:
    """Name the groups whose rows are in several parts of one column."""
    group = {row.image: row.group for row in lock.rows}
    found = []
    for name, split in now.items():
        rows: dict[int, dict[str, list[int]]] = {}
        for i, number in enumerate(numbers):
            mine = group.get(name_hash(image[i]))
            if mine is not None and split[i]:
                rows.setdefault(mine, {}).setdefault(split[i], []).append(number)
        for mine, parts in rows.items():
            if len(parts) > 1:
                where = "; ".join(f"{p}: rows {some(parts[p])}" for p in (*SPLITS, HELD) if p in parts)
                found.append(Moved(None, "", f"group {mine} is torn apart in column {name!r}: {where}"))
    return found


def moved_images(
    lock: Lock, rows: Iterable[int], images: Iterable[str], sha256: Iterable[str]
) -> list[tuple[int, Moved]]:
    """Compare files with the lock; return what moved, each with its position among the rows given.

    Args:
        lock: of the table as it was split.
        rows: their numbers in the table.
        images: their names in the table; rows that the lock does not know are passed over.
        sha256: of their files, empty where a file cannot be read.
    """
    if not lock.head.images_read:
        return []
    held = {row.image: row.bytes for row in lock.rows}
    found = []
    for i, (number, image, digest) in enumerate(zip(rows, images, sha256, strict=True)):
        was = held.get(name_hash(image))
        if was is None or was == bytes_hash(digest):
            continue
        what = "its file is another" if was else "could not be read when the table was split, and now can"
        found.append((i, Moved(number, image, what if digest else "its file cannot be read")))
    return found


def in_lines(moved: Sequence[Moved], most: int = 20) -> list[str]:
    """Return the first findings, one line each, and how many more there are."""
    more = [f"and {plural(len(moved) - most, 'more', 'more')}"] if len(moved) > most else []
    return [str(one) for one in moved[:most]] + more


def code_labels(label: Column, classes: Sequence[str]) -> list[int | None]:
    """Return each label as its position in the classes."""
    position = {name: i for i, name in enumerate(classes)}
    return [None if x is None else position[x] for x in np.asarray(label)]
