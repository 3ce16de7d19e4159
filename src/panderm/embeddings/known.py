"""All rows that a store has vectors of, wherever they lie, known by image and sha256."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from panderm.data.cells import keys_of
from panderm.data.table import Table
from panderm.embeddings.card import EmbeddingsCard, Part
from panderm.embeddings.made import open_shard, shards, tokens_beside
from panderm.embeddings.parts import KEYS, ROWS, Layout, PartFile, token_layout, vector_layout
from panderm.embeddings.vectors import Array, Block, MappedVectors
from panderm.errors import ArtifactError

_KEY = 16  # bytes of the hash that a row is known by: of its image's name and sha256
_SHIFT = 40  # a place is the number of its source and the row there, in one integer
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """A file, or all the parts of the card: rows that lie together.

    Attributes:
        kind: ``parts`` of the card, a shard just ``made``, or rows ``removed`` from the table and kept aside.
        files: of the vectors.
        starts: the row at which each of them begins.
        vectors: their numbers.
        tokens: their patch tokens, where the store has them.
    """

    kind: Literal["parts", "made", "removed"]
    files: tuple[PartFile, ...]
    starts: tuple[int, ...]
    vectors: MappedVectors
    tokens: MappedVectors | None

    def read_rows(self, at: npt.NDArray[np.int64], schema: pa.Schema) -> pa.Table:
        """Read the columns beside the vectors, of some rows in ascending order."""
        pieces = [schema.empty_table()]
        for file, start in zip(self.files, self.starts, strict=True):
            here = at[(at >= start) & (at < start + file.rows)] - start
            if len(here):
                pieces.append(file.read_rows(schema).take(pa.array(here)))
        return pa.concat_tables(pieces).combine_chunks()


class Known:
    """The rows of a store: of its card's parts, in the making, and kept aside.

    Args:
        folder: the store.
        card: its card.
        mend: set shards that are damaged aside; only for who holds the folder's lock.

    Attributes:
        sources: where they lie.
        twice: images that were made more than once; the first counts.

    Of each row 33 bytes are in memory: two hashes, the place, and whether it is kept aside.

    Raises:
        ArtifactError: a part of the card cannot be read. One that is gone is made again.
    """

    def __init__(self, folder: Path, card: EmbeddingsCard, *, mend: bool = False) -> None:
        self._vectors = vector_layout(card.encoder.dim)
        self._tokens = None if card.tokens is None else token_layout(card.tokens)
        self.sources: list[Source] = []
        self._gathered: list[_Rows] = []
        if card.parts:
            self._add_parts(folder, card)
        for path in shards(folder):
            opened = open_shard(path, self._vectors, self._tokens, mend=mend)
            if opened is not None:
                self._add_file("made", *opened)
        for path in sorted(folder.glob("removed-*.parquet")):
            if not path.name.endswith(".tokens.parquet"):
                self._add_removed(path)
        self._rows = _joined_rows(self._gathered)
        del self._gathered
        # Each key once, by its first row; whoever kept a row of it aside, it is aside.
        order = np.argsort(self._rows.keys, kind="stable")
        keys = self._rows.keys[order]
        first = np.append(True, keys[1:] != keys[:-1])[: len(keys)]
        self._keys, self._places = keys[first], self._rows.places[order][first]
        starts = np.flatnonzero(first)
        self._aside = np.logical_or.reduceat(self._rows.aside[order], starts) if len(starts) else first
        again = self._rows.places[np.sort(order[~first])]
        self.twice = self._names_at(again[self._is_made(again)])

    def __len__(self) -> int:
        return len(self._places)

    def locate(self, table: Table) -> Places:
        """Return the place of each row of a table, -1 where there is none."""
        wanted = _keys(table.cells("image"), table.cells("sha256"))
        if not len(self):
            return np.full(len(table), -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(self._keys, wanted), len(self) - 1)
        return np.where(self._keys[at] == wanted, self._places[at], -1)

    def have_names(self, names: npt.NDArray[np.uint64], *, aside: bool = False) -> npt.NDArray[np.bool_]:
        """Say of images, by the keys of their names, which have vectors, of whatever file of that name.

        Rows that are kept aside count only where ``aside``.
        """
        return np.isin(names, self._rows.names if aside else self._rows.names[~self._rows.aside])

    def images_but(self, names: npt.NDArray[np.uint64]) -> list[str]:
        """Return the images that have vectors, not kept aside, and are none of some names; sorted."""
        others = ~self._rows.aside & ~np.isin(self._rows.names, names)
        return sorted(set(self._names_at(np.sort(self._rows.places[others]))))

    def in_shards(self) -> bool:
        """Say whether rows are in shards that are nowhere else."""
        return bool(self._is_made(self._places).any())

    def left_over(self, used: Places) -> Places:
        """Return the places of rows that are neither used nor kept aside already."""
        return np.setdiff1d(self._places[~self._aside], used)

    def numbers(self, places: Places, layout: Layout) -> Array:
        """Return the vectors or tokens at some places."""
        rows = np.empty((len(places), *layout.tail), layout.dtype)
        for number, source, here in self.by_source(places):
            held = source.vectors if layout.column == "vector" else source.tokens
            assert held is not None, number
            rows[here] = held[_row(places[here])]
        return rows

    def by_source(self, places: Places) -> list[tuple[int, Source, npt.NDArray[np.int64]]]:
        """Return, for each source that some places lie in, which of them lie there."""
        numbers = places >> _SHIFT
        return [(int(n), self.sources[n], np.flatnonzero(numbers == n)) for n in np.unique(numbers)]

    def rows_at(self, places: Places, schema: pa.Schema) -> pa.Table:
        """Read the columns beside the numbers at some places that are in ascending order."""
        pieces = [source.read_rows(_row(places[here]), schema) for _, source, here in self.by_source(places)]
        return pa.concat_tables([schema.empty_table(), *pieces]).combine_chunks()

    def made(self) -> tuple[pa.Table, MappedVectors, MappedVectors | None]:
        """Return what lies in shards, each row once, in the table's order: rows, vectors, tokens."""
        places = np.sort(self._places[self._is_made(self._places)])
        rows = self.rows_at(places, ROWS)
        held = [source for source in self.sources if source.kind == "made"]
        vectors = _joined(self._vectors, [source.vectors for source in held])
        tokens = None
        if self._tokens is not None:
            tokens = _joined(self._tokens, [source.tokens for source in held if source.tokens is not None])
        starts, at, begun = np.zeros(len(self.sources), np.int64), _row(places), 0
        for number, source in enumerate(self.sources):
            if source.kind == "made":
                starts[number] = begun
                begun += len(source.vectors)
        order = np.argsort(rows["row"].to_numpy(), kind="stable")
        at = (at + starts[places >> _SHIFT])[order] if len(at) else at
        return rows.take(pa.array(order)), vectors.select(at), None if tokens is None else tokens.select(at)

    def _add_parts(self, folder: Path, card: EmbeddingsCard) -> None:
        files, starts, blocks = [], [], []
        there = np.ones(sum(part.rows for part in card.parts), dtype=bool)
        for part, start in zip(card.parts, starts_of(card.parts), strict=True):
            stop = start + part.rows
            if not (folder / part.name).exists():
                there[start:stop] = False
                blocks.append(Block(part.rows, lambda: np.empty(0)))
                continue
            file = open_part(folder, part, self._vectors)
            files.append(file)
            starts.append(start)
            blocks += file.blocks()
        tokens = None
        if self._tokens is not None:
            held = []
            for part, start in zip(card.token_parts, starts_of(card.token_parts), strict=True):
                if not (folder / part.name).exists():
                    there[start : start + part.rows] = False
                    held.append(Block(part.rows, lambda: np.empty(0)))
                    continue
                held += open_part(folder, part, self._tokens).blocks()
            tokens = MappedVectors(held, self._tokens.tail, self._tokens.dtype)
        vectors = MappedVectors(blocks, self._vectors.tail, self._vectors.dtype)
        self.sources.append(Source("parts", tuple(files), tuple(starts), vectors, tokens))
        for file, start in zip(files, starts, strict=True):
            self._add(file, start, there[start : start + file.rows])

    def _add_file(self, kind: Literal["made", "removed"], file: PartFile, beside: PartFile | None) -> None:
        vectors = MappedVectors(file.blocks(), self._vectors.tail, self._vectors.dtype)
        tokens = None
        if beside is not None:
            tokens = MappedVectors(beside.blocks(), beside.layout.tail, beside.layout.dtype)
        self.sources.append(Source(kind, (file,), (0,), vectors, tokens))
        self._add(file, 0, np.ones(file.rows, dtype=bool))

    def _add_removed(self, path: Path) -> None:
        """Take in rows kept aside; what cannot be used is left alone."""
        beside = tokens_beside(path)
        try:
            file = PartFile(path, self._vectors)
            tokens = None if self._tokens is None else PartFile(beside, self._tokens)
        except ArtifactError:
            return
        if file.sound() and (tokens is None or tokens.rows == file.rows):
            self._add_file("removed", file, tokens)

    def _add(self, file: PartFile, start: int, there: npt.NDArray[np.bool_]) -> None:
        number = len(self.sources) - 1
        rows = file.read_rows(KEYS)
        at = np.flatnonzero(there)
        keys, names = [], []
        for begun in range(0, len(at), _TURN):
            some = rows.take(pa.array(at[begun : begun + _TURN]))
            image, sha256 = some["image"].to_pylist(), some["sha256"].to_pylist()
            keys.append(_keys(image, sha256))
            names.append(keys_of(image))
        places = (number << _SHIFT) + start + at
        aside = np.full(len(at), self.sources[number].kind == "removed")
        self._gathered.append(_Rows(_one(keys, _NO_KEYS), _one(names, _NO_NAMES), places, aside))

    def _is_made(self, places: Places) -> npt.NDArray[np.bool_]:
        kinds = np.array([source.kind == "made" for source in self.sources] or [False])
        return np.asarray(kinds[places >> _SHIFT])

    def _names_at(self, places: Places) -> list[str]:
        """Return the images at some places, in their order."""
        order = np.argsort(places, kind="stable")
        names = self.rows_at(places[order], KEYS)["image"].to_pylist()
        return [names[i] for i in np.argsort(order, kind="stable")]


@dataclass(frozen=True)
class _Rows:
    """What is kept of rows: the hash of name and sha256, that of the name, the place, whether aside."""

    keys: npt.NDArray[np.bytes_]
    names: npt.NDArray[np.uint64]
    places: Places
    aside: npt.NDArray[np.bool_]


_TURN = 4096  # rows that are strings at a time
_NO_KEYS = np.empty(0, f"S{_KEY}")
_NO_NAMES = np.empty(0, np.uint64)


def _one(pieces: list[npt.NDArray[Any]], empty: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.concatenate(pieces) if pieces else empty


def _joined_rows(pieces: list[_Rows]) -> _Rows:
    return _Rows(
        _one([piece.keys for piece in pieces], _NO_KEYS),
        _one([piece.names for piece in pieces], _NO_NAMES),
        _one([piece.places for piece in pieces], np.empty(0, np.int64)),
        _one([piece.aside for piece in pieces], np.empty(0, bool)),
    )


def _joined(layout: Layout, held: list[MappedVectors]) -> MappedVectors:
    return MappedVectors([block for one in held for block in one.held], layout.tail, layout.dtype)


def starts_of(parts: tuple[Part, ...]) -> list[int]:
    """Return the row at which each part begins."""
    return list(accumulate((part.rows for part in parts[:-1]), initial=0)) if parts else []


def open_part(folder: Path, part: Part, layout: Layout) -> PartFile:
    """Open a part that the card names, and see that it holds the rows that the card says.

    Raises:
        ArtifactError: it is not there, cannot be read, or holds another number of rows.
    """
    file = PartFile(folder / part.name, layout)
    if file.rows != part.rows:
        raise ArtifactError(
            "an embeddings folder must hold every row its card names.",
            f"{file.path} holds {file.rows:,} of {part.rows:,} rows",
            "remove this file and run panderm embed again; it makes only what is missing",
        )
    return file


def _row(places: Places) -> npt.NDArray[np.int64]:
    return places & ((1 << _SHIFT) - 1)


def _keys(images: Iterable[str | None], hashes: Iterable[str | None]) -> npt.NDArray[np.bytes_]:
    pairs = zip(images, hashes, strict=True)
    digests = (
        hashlib.blake2b(f"{sha256}{image}".encode(), digest_size=_KEY).digest() for image, sha256 in pairs
    )
    return np.frombuffer(b"".join(digests), f"S{_KEY}")
