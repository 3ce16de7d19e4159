"""Embeddings a piece at a time, for what reads them once and keeps none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from panderm.embeddings.known import open_part
from panderm.embeddings.opened import Embeddings
from panderm.embeddings.parts import ROWS, PartFile, rows_of, vector_layout
from panderm.progress import Progress

_BYTES = 32 * 2**20  # of vectors and tokens held at once
_ROWS = tuple(ROWS.names)


@dataclass(frozen=True)
class Leaving:
    """Embeddings on their way into another file.

    Attributes:
        emb: in memory or mapped.
        folder: where they are all that a finished folder holds: its rows are then read a part at a time.
        card: the card, as JSON.
        tokens: whether patch tokens go along.
        progress: whether a bar is shown.
    """

    emb: Embeddings
    folder: Path | None
    card: str
    tokens: bool
    progress: bool

    def __len__(self) -> int:
        return len(self.emb)

    @property
    def dim(self) -> int:
        """Width D of a vector."""
        return self.emb.dim

    @property
    def token_shape(self) -> tuple[int, int, int]:
        """Grid rows, grid columns, numbers a token."""
        told = self.emb.card.tokens
        assert told is not None
        return (*told.grid, told.dim)

    def columns(self, names: Sequence[str] = _ROWS) -> Iterator[pa.Table]:
        """Yield the named columns, a piece of rows at a time."""
        schema = pa.schema([ROWS.field(name) for name in names])
        for file, bounds in self._pieces:
            held = None if file is None else file.read_rows(schema)
            for start, stop in bounds:
                if held is None:
                    yield rows_of(self.emb.rows.select(slice(start, stop)), schema)
                else:
                    yield held.slice(start - bounds[0][0], stop - start)

    def vectors(self) -> Iterator[npt.NDArray[np.float32]]:
        """Yield float32 (k, D), contiguous, in order, with a bar."""
        yield from self._in_turn(self.emb.vectors, np.float32, "vectors")

    def token_grids(self) -> Iterator[npt.NDArray[np.float16]]:
        """Yield float16 (k, h, w, D), contiguous, in order, with a bar."""
        yield from self._in_turn(self.emb.tokens, np.float16, "patch tokens")

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield rows, vectors and tokens as Arrow batches of :meth:`schema`, with a bar."""
        schema = self.schema()
        tokens = self._cut(self.emb.tokens, np.float16) if self.tokens else None
        vectors = self._cut(self.emb.vectors, np.float32)
        with Progress(len(self), "writing", "rows", shown=self.progress) as bar:
            for columns in self.columns():
                arrays = [pa.concat_arrays(column.chunks) for column in columns.columns]
                arrays += [_lists(next(numbers)) for numbers in (vectors, tokens) if numbers is not None]
                yield pa.record_batch(arrays, schema=schema)
                bar.advance(columns.num_rows)

    def schema(self) -> pa.Schema:
        """Return Arrow's schema of the rows; its metadata hold the card, and the shape of the tokens."""
        fields = [*ROWS, pa.field("vector", pa.list_(pa.float32(), self.dim))]
        told = {"panderm": self.card}
        if self.tokens:
            fields.append(pa.field("tokens", pa.list_(pa.float16(), int(np.prod(self.token_shape)))))
            told["token_shape"] = ",".join(str(n) for n in self.token_shape)
        return pa.schema(fields, metadata=told)

    @cached_property
    def _pieces(self) -> list[tuple[PartFile | None, list[tuple[int, int]]]]:
        """Return for each part the positions at which its pieces begin and end."""
        each = 4 * self.dim + (2 * int(np.prod(self.token_shape)) if self.tokens else 0)
        step = max(1, _BYTES // each)
        files: list[PartFile | None] = [None]
        if self.folder is not None:
            layout = vector_layout(self.dim)
            files = [open_part(self.folder, part, layout) for part in self.emb.card.parts]
        found, at = [], 0
        for file in files:
            end = len(self) if file is None else at + file.rows
            found.append((file, [(start, min(start + step, end)) for start in range(at, end, step)]))
            at = end
        return found

    def _cut(self, array: Any, dtype: Any) -> Iterator[npt.NDArray[Any]]:
        for _, bounds in self._pieces:
            for start, stop in bounds:
                yield np.ascontiguousarray(array[start:stop], dtype=dtype)

    def _in_turn(self, array: Any, dtype: Any, what: str) -> Iterator[npt.NDArray[Any]]:
        with Progress(len(self), f"writing {what}", "rows", shown=self.progress) as bar:
            for piece in self._cut(array, dtype):
                yield piece
                bar.advance(len(piece))


def _lists(array: npt.NDArray[Any]) -> pa.FixedSizeListArray:
    """Return (k, …) as k lists of one length."""
    return pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), int(np.prod(array.shape[1:])))
