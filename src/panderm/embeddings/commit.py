"""The last step of a run: rows from wherever they lie into the store's parts, in the table's order."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from panderm.data.table import Table
from panderm.embeddings.card import EmbeddingsCard, Part
from panderm.embeddings.known import Known, Places
from panderm.embeddings.made import MADE
from panderm.embeddings.parts import KEYS, Layout, rows_of, write_part
from panderm.embeddings.vectors import Array
from panderm.storage import explain_write_errors, flush, new_file, sha256_of_file, sha256_of_json

_PART = re.compile(r"(part|tokens)-\d{5,}-[0-9a-f]{12}\.parquet")
_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")


def write_parts(
    folder: Path,
    layout: Layout,
    table: Table,
    known: Known,
    places: Places,
    before: Sequence[Part],
    seen: Callable[[int], None],
) -> tuple[Part, ...]:
    """Write the parts of one layout, each of a fixed number of rows; those that would be the same are kept.

    At most a row group's numbers are in memory at a time. ``seen`` is told how many rows each part holds.
    """
    parts = []
    for number, start in enumerate(range(0, len(table), layout.part_rows)):
        chosen = slice(start, start + layout.part_rows)
        rows, at = table.select(chosen), places[chosen]
        kept = _unchanged(folder, layout, rows, known, at, number, before)
        if kept is None:
            groups = _groups(layout, partial(_rows_between, rows, layout), known, at)
            kept = write_one(folder, layout, number, groups)
        parts.append(kept)
        seen(len(rows))
    return tuple(parts)


def write_one(folder: Path, layout: Layout, number: int, groups: Iterable[tuple[pa.Table, Array]]) -> Part:
    """Write one part, whole or not at all, under a name that says its number and its content."""
    stem = f"{_stem(layout)}-{number:05d}"
    with explain_write_errors(folder / f"{stem}.parquet"):
        temporary = folder / f".{stem}.{os.getpid()}.tmp"
        try:
            rows = write_part(temporary, layout, groups)
            flush(temporary)
            sha256 = sha256_of_file(temporary)
            size = temporary.stat().st_size
            name = f"{stem}-{sha256[:12]}.parquet"
            temporary.replace(folder / name)  # of the same name is of the same content
            flush(folder)
        finally:
            temporary.unlink(missing_ok=True)
    return Part(name=name, rows=rows, bytes=size, sha256=sha256)


def keep_aside(folder: Path, vectors: Layout, tokens: Layout | None, known: Known, places: Places) -> None:
    """Write rows that the table no longer has to ``removed-….parquet``; a name says which rows."""
    if not len(places):
        return
    keys = known.rows_at(places, KEYS)
    name = sha256_of_json([keys["image"].to_pylist(), keys["sha256"].to_pylist()])[:12]
    for layout, ending in ((tokens, ".tokens.parquet"), (vectors, ".parquet")):
        path = folder / f"removed-{name}{ending}"
        if layout is None or path.exists():
            continue
        with new_file(path) as temporary:
            beside = known.rows_at(places, layout.rows)
            write_part(temporary, layout, _groups(layout, partial(_slice, beside), known, places))


def tidy(folder: Path, card: EmbeddingsCard, *, made: bool = True) -> None:
    """Remove what is of no account once a card is written: parts that it does not name, and shards."""
    with contextlib.suppress(OSError):  # what stays is of no account, and goes another time
        for path in unnamed(folder, card):
            path.unlink(missing_ok=True)
        if made:
            shutil.rmtree(folder / MADE, ignore_errors=True)


def unnamed(folder: Path, card: EmbeddingsCard) -> list[Path]:
    """Return the parts that a card does not name, and what is half-written; never a user's own files."""
    named = {part.name for part in (*card.parts, *card.token_parts)}
    ours = (
        path for path in folder.iterdir() if _PART.fullmatch(path.name) or _TEMPORARY.fullmatch(path.name)
    )
    return [path for path in ours if path.name not in named and path.is_file()]


def sweep(folder: Path) -> None:
    """Remove half-written files of runs that were killed; only for who holds the folder's lock."""
    for where in (folder, folder / MADE):
        for path in where.iterdir() if where.is_dir() else ():
            if _TEMPORARY.fullmatch(path.name) and path.is_file():
                with explain_write_errors(path):
                    path.unlink(missing_ok=True)


def _groups(
    layout: Layout, beside: Callable[[int, int], pa.Table], known: Known, places: Places
) -> Iterator[tuple[pa.Table, Array]]:
    for start in range(0, len(places), layout.group_rows):
        chosen = places[start : start + layout.group_rows]
        yield beside(start, len(chosen)), known.numbers(chosen, layout)


def _rows_between(rows: Table, layout: Layout, start: int, n: int) -> pa.Table:
    return rows_of(rows.select(slice(start, start + n)), layout.rows)


def _slice(rows: pa.Table, start: int, n: int) -> pa.Table:
    return rows.slice(start, n)


def _unchanged(
    folder: Path,
    layout: Layout,
    rows: Table,
    known: Known,
    places: Places,
    number: int,
    before: Sequence[Part],
) -> Part | None:
    """Return the part of the card that holds just these rows in this order, if there is one."""
    if number >= len(before) or before[number].rows != len(rows):
        return None
    part, path = before[number], folder / before[number].name
    start = sum(earlier.rows for earlier in before[:number])
    wanted = np.arange(start, start + len(rows))
    if not np.array_equal(places, wanted) or known.sources[0].kind != "parts":
        return None
    if not path.exists() or path.stat().st_size != part.bytes:
        return None
    held = known.sources[0].read_rows(wanted, layout.rows)
    return part if held.equals(rows_of(rows, layout.rows)) else None


def _stem(layout: Layout) -> str:
    return "part" if layout.column == "vector" else "tokens"
