"""From a split to its lock, and both to the disk: the table and its lock, or neither."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from panderm.data.columns import Column
from panderm.data.examine import Examined
from panderm.data.lock import (
    LETTERS,
    Lock,
    LockedPair,
    LockedRow,
    bytes_hash,
    code_labels,
    lock_path,
    name_hash,
    pixels_hash,
)
from panderm.data.parts import Parts, Units
from panderm.gate.twins import Twin
from panderm.storage import flush, new_file


def joined_by(
    patient: Column, lesion: Column, roles: dict[str, str | None], twins: Sequence[Twin], *, looked: bool
) -> dict[str, int]:
    """Return by what rows are joined: how many patients and lesions with several rows, how many pairs."""
    told = {}
    for role, word, column in (("patient", "patient", patient), ("group", "lesion", lesion)):
        if roles[role]:
            _, times = np.unique([x for x in column if x is not None], return_counts=True)
            told[word] = int((times > 1).sum())
    kinds: list[str] = [t.how for t in twins]
    looked_for = ("same pixels", "near", *(["embeddings"] if "embeddings" in kinds else []))
    return told | ({kind: kinds.count(kind) for kind in looked_for} if looked else {})


def locked_rows(
    rows: npt.NDArray[np.int64],
    columns: dict[str, Column],
    classes: Sequence[str],
    units: Units,
    parts: Parts,
    looked: Sequence[Examined],
) -> Iterator[LockedRow]:
    """Yield the rows as the lock holds them."""
    labels = code_labels(columns["label"], classes)
    for i, row in enumerate(rows.tolist()):
        seen = looked[i].fingerprint if looked else None
        yield LockedRow(
            row=row,
            image=name_hash(columns["image"][i]),
            label=labels[i],
            patient=name_hash(columns["patient"][i]),
            lesion=name_hash(columns["group"][i]),
            parts="".join(LETTERS[part[i]] for part in parts.columns.values()),
            fold=0 if parts.fold is None else int(parts.fold[i]),
            group=int(units.group[i]),
            bytes=bytes_hash(looked[i].sha256) if seen else "",
            pixels=pixels_hash(seen.pixels) if seen else "",
        )


def chain(twins: Iterable[Twin], rows: npt.NDArray[np.int64]) -> list[LockedPair]:
    """Return the pairs that join images into one group, the likest first, none that are joined already."""
    parent: dict[int, int] = {}

    def root(i: int) -> int:
        while (above := parent.get(i, i)) != i:
            parent[i] = parent.get(above, above)
            i = parent[i]
        return i

    kept = []
    order = ("same pixels", "near", "embeddings")
    for twin in sorted(twins, key=lambda t: (order.index(t.how), -t.similarity, t.first, t.second)):
        a, b = root(twin.first), root(twin.second)
        if a != b:
            parent[b] = a
            kept.append(LockedPair(int(rows[twin.first]), int(rows[twin.second]), twin.how, twin.similarity))
    return sorted(kept)


def write_both(
    frame: pd.DataFrame, columns: dict[str, Column], target: Path, lock: Lock, *, overwrite: bool
) -> None:
    """Write table and lock, both or neither.

    Args:
        frame: the cells as they were read.
        columns: the columns to put in their place, or after the others.
        target: where the table goes, as a CSV.
        lock: goes beside it.
        overwrite: replace what is there.
    """
    separator = frame.attrs.get("separator", ",")
    frame = frame.assign(**columns)
    locked = lock_path(target)
    before = locked.read_bytes() if locked.is_file() else None
    placed = False
    try:
        with new_file(target, overwrite=overwrite) as temporary:
            with temporary.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, delimiter=separator, lineterminator="\n")
                writer.writerow(frame.columns)
                writer.writerows(frame.to_numpy().tolist())
            flush(temporary)
            # The lock first: alone it is a stray file, but a table without its lock looks unlocked.
            with new_file(locked, overwrite=overwrite) as sealed:
                lock.write(sealed)
            placed = True
    except BaseException:
        if placed and before is None:
            locked.unlink(missing_ok=True)
        elif placed and before is not None:
            locked.write_bytes(before)
        raise
