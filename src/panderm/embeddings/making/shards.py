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

# What a shard may hold: at most this much work is lost when a run is killed.
_SHARD_SECONDS = 60.0
_SHARD_ROWS = 8192
_SHARD_BYTES = 64 * 2**20

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
        self._kept: list[tuple[Positions, Vectors, Tokens | None]] = []
        self._begun = time.monotonic()
        self._waiting: queue.Queue[tuple[Positions, Vectors, Tokens | None] | None] = queue.Queue(1)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._write_all, name="shards", daemon=True)
        self._thread.start()

    def add(self, positions: Positions, vectors: Vectors, tokens: Tokens | None) -> None:
        """Take the vectors (n, D) float32, and tokens (n, h, w, D) float16, of one group."""
        self._raise()
        self._kept.append((positions, vectors, tokens))
        rows = sum(len(one[0]) for one in self._kept)
        size = sum(one[1].nbytes + (0 if one[2] is None else one[2].nbytes) for one in self._kept)
        old = time.monotonic() - self._begun > _SHARD_SECONDS
        if rows >= _SHARD_ROWS or size >= _SHARD_BYTES or old:
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
        kept, self._kept, self._begun = self._kept, [], time.monotonic()
        if kept:
            positions, vectors = (np.concatenate([one[i] for one in kept]) for i in (0, 1))
            tokens = [one[2] for one in kept if one[2] is not None]
            self._waiting.put((positions, vectors, np.concatenate(tokens) if tokens else None))

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
