"""Shards in the making: ``made/<rank>-<number>.parquet``, whole or absent, each of some rows of the table."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from panderm.data.table import Table
from panderm.embeddings.parts import KEYS, Layout, PartFile, rows_of, write_part
from panderm.embeddings.vectors import Array
from panderm.errors import ArtifactError, PandermWarning
from panderm.storage import explain_write_errors, new_file

MADE = "made"
_SHARD = re.compile(r"(\d+)-(\d+)(\.tokens)?\.parquet")


def write_shard(
    path: Path, rows: Table, vectors: tuple[Layout, Array], tokens: tuple[Layout, Array] | None
) -> None:
    """Write the vectors of some rows, and their tokens before them.

    The folder is not listed: it may hold very many, at the other end of a network.
    """
    if tokens is not None:
        with new_file(tokens_beside(path), sweep=False) as temporary:
            write_part(temporary, tokens[0], _groups(rows_of(rows, KEYS), *tokens))
    with new_file(path, sweep=False) as temporary:
        write_part(temporary, vectors[0], _groups(rows_of(rows), *vectors))


def shard_path(folder: Path, rank: int, number: int) -> Path:
    """Return where a shard lies."""
    return folder / MADE / f"{rank}-{number:05d}.parquet"


def next_number(folder: Path, rank: int) -> int:
    """Return the number of the next shard of a rank."""
    return 1 + max((int(m[2]) for m in _matches(folder / MADE) if int(m[1]) == rank), default=-1)


def next_rank(folder: Path) -> int:
    """Return a rank above those of all shards."""
    return 1 + max((int(m[1]) for m in _matches(folder / MADE)), default=-1)


def shards(folder: Path) -> list[Path]:
    """Return the shards of all ranks, in order; tokens without their vectors are none."""
    found = [m for m in _matches(folder / MADE) if not m[3]]
    return [folder / MADE / m[0] for m in sorted(found, key=lambda m: (int(m[1]), int(m[2])))]


def tokens_beside(path: Path) -> Path:
    """Return where the tokens of a shard's rows lie."""
    return path.with_name(f"{path.name.removesuffix('.parquet')}.tokens.parquet")


def open_shard(
    path: Path, vectors: Layout, tokens: Layout | None, *, mend: bool
) -> tuple[PartFile, PartFile | None] | None:
    """Open a shard; the rows of one that is damaged count as not made; to mend is to set it aside by name."""
    try:
        opened = PartFile(path, vectors)
        if not opened.sound():
            raise opened.damaged(f"{path} is damaged")
        if tokens is None:
            return opened, None
        beside = PartFile(tokens_beside(path), tokens)
        if beside.rows != opened.rows:
            raise opened.damaged(f"{beside.path} holds other rows than {path.name}")
    except ArtifactError as error:
        if mend:
            _set_aside(path, error)
        return None
    return opened, beside


def _set_aside(path: Path, error: ArtifactError) -> None:
    for one in (path, tokens_beside(path)):
        if one.exists():
            with explain_write_errors(one):
                one.replace(one.with_name(f"{one.name}.damaged"))
    warnings.warn(
        f"{'; '.join(error.found)}: set aside as {path.name}.damaged, its rows are made again",
        PandermWarning,
        stacklevel=2,
    )


def _groups(beside: pa.Table, layout: Layout, numbers: Array) -> Iterator[tuple[pa.Table, Array]]:
    """Yield row groups: pyarrow needs several times the memory of the one it writes."""
    step = layout.group_rows
    for start in range(0, len(numbers), step):
        yield beside.slice(start, step), numbers[start : start + step]


def _matches(made: Path) -> list[re.Match[str]]:
    if not made.is_dir():
        return []
    return [m for p in made.iterdir() if (m := _SHARD.fullmatch(p.name))]
