"""Vectors as they are made → shards on the disk, written in a thread while the network goes on."""

from __future__ import annotations

import queue
import threading
import time
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from panderm.data.table import Table
from panderm.errors import DataError, some

# What a shard may hold: at most this much work is lost when a run is killed, and three are in memory.
_SHARD_SECONDS = 60.0
_SHARD_ROWS = 8192
_SHARD_BYTES = 4 * 2**20
_TOKEN_BYTES = 64 * 2**20  # with patch tokens, of which a batch alone may have 25 MiB

Positions = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.float16]


class Keeper(Protocol):
    """Where the vectors of whole groups go."""

    def add(self, positions: Positions, vectors: Vectors, tokens: Tokens | None) -> None: ...


class Writes(Protocol):
    """What writes one shard."""

    def write(self, rows: Table, vectors: Vectors, tokens: Tokens | None = None) -> None: ...


class Shards:
    """Collects whole groups and has them written as one shard, when it is large or old enough.

    In memory are at most the shard that grows, one that waits, and one that is being written: a disk that is
    slower than the network holds the network up. Left by an error, what was made is written all the same,
    unless writing is what failed.

    Args:
        writer: what writes a shard, in the thread.
        table: whose rows they are.

    Raises:
        ArtifactError: from :meth:`add`, or at the end: a shard could not be written.
    """

    def __init__(self, writer: Writes, table: Table) -> None:
        self._writer = writer
        self._table = table
        self._growing: _Growing | None = None
        self._begun = time.monotonic()
        self._waiting: queue.Queue[tuple[Positions, Vectors, Tokens | None] | None] = queue.Queue(1)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._write_all, name="shards", daemon=True)
        self._thread.start()

    def add(self, positions: Positions, vectors: Vectors, tokens: Tokens | None) -> None:
        """Take the vectors (n, D) float32, and tokens (n, h, w, D) float16, of one group."""
        self._raise()
        if self._growing is not None and not self._growing.has_room(len(positions)):
            self._close_shard()
        if self._growing is None:
            self._growing = _Growing(vectors, tokens)
        self._growing.add(positions, vectors, tokens)
        if self._growing.is_full() or time.monotonic() - self._begun > _SHARD_SECONDS:
            self._close_shard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._error is None:
            self._close_shard()
        self._waiting.put(None)
        self._thread.join()
        if error is None:
            self._raise()

    def _close_shard(self) -> None:
        growing, self._growing, self._begun = self._growing, None, time.monotonic()
        if growing is not None:
            self._waiting.put(growing.shard())

    def _write_all(self) -> None:
        while (shard := self._waiting.get()) is not None:
            if self._error is not None:
                continue  # taken all the same, so that nobody waits for room
            positions, vectors, tokens = shard
            try:
                self._writer.write(self._table.select(positions), vectors, tokens)
            except BaseException as error:
                self._error = error

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error


class _Growing:
    """One shard in the making, in memory that is taken once.

    Vectors kept batch by batch would lie between the batches' own memory, and none of that could be given
    back or used again: 150 kB an image.
    """

    def __init__(self, vectors: Vectors, tokens: Tokens | None) -> None:
        self._row_bytes = vectors[0].nbytes + (0 if tokens is None else tokens[0].nbytes)
        self._most = _SHARD_BYTES if tokens is None else _TOKEN_BYTES
        room = min(_SHARD_ROWS, -(-self._most // self._row_bytes)) + len(vectors)
        self._positions = np.empty(room, np.int64)
        self._vectors = np.empty((room, *vectors.shape[1:]), np.float32)
        self._tokens = None if tokens is None else np.empty((room, *tokens.shape[1:]), np.float16)
        self._rows = 0

    def has_room(self, rows: int) -> bool:
        return self._rows + rows <= len(self._positions)

    def is_full(self) -> bool:
        return self._rows >= _SHARD_ROWS or self._rows * self._row_bytes >= self._most

    def add(self, positions: Positions, vectors: Vectors, tokens: Tokens | None) -> None:
        here = slice(self._rows, self._rows + len(positions))
        self._positions[here], self._vectors[here] = positions, vectors
        if self._tokens is not None:
            self._tokens[here] = tokens
        self._rows = here.stop

    def shard(self) -> tuple[Positions, Vectors, Tokens | None]:
        tokens = None if self._tokens is None else self._tokens[: self._rows]
        return self._positions[: self._rows], self._vectors[: self._rows], tokens


class InMemory:
    """Keeps vectors in one array: for those who write nothing.

    Attributes:
        vectors: float32 (n, D) of all rows of the table.
    """

    def __init__(self, rows: int, dim: int) -> None:
        self.vectors = np.full((rows, dim), np.nan, dtype=np.float32)

    def add(self, positions: Positions, vectors: Vectors, tokens: Tokens | None) -> None:
        """Take the vectors (n, D) float32 of one group; tokens would not fit."""
        del tokens
        self.vectors[positions] = vectors


def require_finite(rows: Table, vectors: Vectors) -> Vectors:
    """Return vectors (n, D) as they came, or name the images whose are not finite."""
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        raise DataError(
            "every embedding must be finite.",
            f"{some(rows.image[bad].tolist())}: NaN or infinite numbers came out",
            "use --precision fp32; if it stays so, the weights are damaged",
        )
    return vectors
