"""Who decodes: threads of this process, or processes of their own. Batches come as the groups do."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.context import BaseContext
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from panderm.data.fast import pixels
from panderm.data.images import ImageError, read_bytes
from panderm.data.preprocess import Preprocess
from panderm.data.table import Table
from panderm.errors import PandermError

Positions = npt.NDArray[np.int64]
Groups = Iterable[Positions]


@dataclass(frozen=True)
class Batch:
    """Images of one group, decoded.

    Attributes:
        positions: int64 (n,), their rows in the table, in the group's order.
        rgb: uint8 (n, S, S, 3), contiguous, on the CPU; in pinned memory where that was asked for.
        bad: why images of the group could not be decoded, by position; those are not in ``positions``.
    """

    positions: Positions
    rgb: torch.Tensor
    bad: dict[int, str] = field(default_factory=dict)


class Row(NamedTuple):
    """What a decoder has to know of a row."""

    position: int
    path: str
    sha256: str


@dataclass(frozen=True)
class Recipe:
    """How files become squares of 8-bit pixels: small, so that it can be sent to another process."""

    preprocess: Preprocess
    exact: bool
    max_megapixels: float

    def square(self, row: Row, content: bytes) -> npt.NDArray[np.uint8] | str:
        """Return the pixels (S, S, 3) of a file, or why it cannot be decoded.

        Raises:
            ImageError: its bytes are not those that the table was made of.
        """
        if hashlib.sha256(content).hexdigest() != row.sha256:
            raise ImageError(
                row.path,
                "changed since the table was checked",
                "run the same command again; it notices what changed",
            )
        try:
            return pixels(
                content, row.path, self.preprocess, exact=self.exact, max_megapixels=self.max_megapixels
            )
        except ImageError as error:
            return error.reason


def rows_of(table: Table, group: Positions) -> list[Row]:
    """Return what a decoder has to know of a group's rows."""
    path, sha256 = table.cells("path"), table.cells("sha256")
    return [Row(int(i), str(path[i]), str(sha256[i])) for i in group]


def batch_of(group: Positions, rgb: torch.Tensor, reasons: Sequence[str | None], *, pinned: bool) -> Batch:
    """Return a group's batch; where images are bad, without them."""
    bad = {int(i): reason for i, reason in zip(group, reasons, strict=True) if reason is not None}
    if bad:
        good = np.array([reason is None for reason in reasons])
        group, rgb = group[good], rgb[torch.from_numpy(good)]
        rgb = rgb.pin_memory() if pinned else rgb
    return Batch(group, rgb, bad)


@dataclass
class Clock:
    """What decoding took so far: images, and seconds of a thread's life, of processor and of reading."""

    images: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    read: float = 0.0


class Threads:
    """Batches decoded by threads: they start at once and share memory; the decoders leave the lock alone."""

    def __init__(
        self, table: Table, recipe: Recipe, groups: Groups, *, workers: int, ahead: int, pinned: bool
    ) -> None:
        self._table, self._recipe = table, recipe
        self._groups, self._drawing = iter(groups), True
        self._ahead, self._pinned = ahead, pinned
        self._pending: deque[tuple[Positions, torch.Tensor, list[Future[tuple[str | None, Clock]]]]] = deque()
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
        self.clock = Clock()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        while self._drawing and len(self._pending) <= self._ahead:
            group = next(self._groups, None)
            self._drawing = group is not None
            if group is not None:
                self._order(np.asarray(group, dtype=np.int64))
        if not self._pending:
            raise StopIteration
        group, rgb, futures = self._pending.popleft()
        answers = [future.result() for future in futures]
        for _, took in answers:
            self.clock.images += took.images
            self.clock.wall += took.wall
            self.clock.cpu += took.cpu
            self.clock.read += took.read
        return batch_of(group, rgb, [reason for reason, _ in answers], pinned=self._pinned)

    def resize(self, workers: int) -> None:
        """Go on with so many threads; what was ordered is still decoded by those there were."""
        if workers != self._workers:
            old, self._workers = self._pool, workers
            self._pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
            old.shutdown(wait=False)

    def stop_drawing(self) -> None:
        """Take no more groups: what was ordered is the last."""
        self._drawing = False

    def close(self) -> None:
        """Finish the images that are being decoded, begin no other."""
        self._drawing = False
        for _, _, futures in self._pending:
            for future in futures:
                future.cancel()
        self._pool.shutdown(cancel_futures=True)
        self._pending.clear()

    def _order(self, group: Positions) -> None:
        side = self._recipe.preprocess.crop
        rgb = torch.empty(len(group), side, side, 3, dtype=torch.uint8, pin_memory=self._pinned)
        # Written as an array: torch would copy each image with a team of threads.
        into = rgb.numpy()
        rows = rows_of(self._table, group)
        futures = [self._pool.submit(self._decode, row, into[k]) for k, row in enumerate(rows)]
        self._pending.append((group, rgb, futures))

    def _decode(self, row: Row, into: npt.NDArray[np.uint8]) -> tuple[str | None, Clock]:
        started, cpu = time.perf_counter(), time.thread_time()
        content = read_bytes(row.path)
        read = time.perf_counter() - started
        found = self._recipe.square(row, content)
        reason = found if isinstance(found, str) else None
        if not isinstance(found, str):
            into[:] = found
        return reason, Clock(1, time.perf_counter() - started, time.thread_time() - cpu, read)


@dataclass(frozen=True)
class Piece:
    """What one process made of a part of a group: pixels of the good rows, reasons of all, or an error."""

    rgb: torch.Tensor | npt.NDArray[np.uint8]
    reasons: list[str | None]
    error: PandermError | None = None


class _Squares(Dataset[Piece]):
    """What runs in the other processes: a list of rows to a piece."""

    def __init__(self, recipe: Recipe, *, shared: bool) -> None:
        self._recipe, self._shared = recipe, shared

    def __getitems__(self, rows: list[Row]) -> Piece:
        side = self._recipe.preprocess.crop
        rgb = np.zeros((len(rows), side, side, 3), dtype=np.uint8)
        reasons: list[str | None] = []
        for k, row in enumerate(rows):
            try:
                found = self._recipe.square(row, read_bytes(row.path))
            except PandermError as error:  # sent as it is: the loader would make another of it
                return Piece(rgb[:0], [], error)
            reasons.append(found if isinstance(found, str) else None)
            if not isinstance(found, str):
                rgb[k] = found
        return Piece(torch.from_numpy(rgb) if self._shared else rgb, reasons)


class Processes:
    """Batches decoded by processes of their own, for what the interpreter's lock holds back in threads.

    PyTorch's DataLoader runs them. They are not forks of this process, so that it may use a GPU, and do not
    import the user's script, so that it needs no ``if __name__ == "__main__"``. They get rows, not the table.
    """

    def __init__(
        self, table: Table, recipe: Recipe, groups: Groups, *, workers: int, ahead: int, pinned: bool
    ) -> None:
        self._table, self._recipe, self._workers, self._pinned = table, recipe, workers, pinned
        self._groups, self._ahead = groups, ahead
        self._drawn: deque[Positions] = deque()
        self._pieces: Iterator[Piece] | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        if self._pieces is None:
            self._pieces = self._start()
        pieces: list[Piece] = []
        for _ in range(self._workers):
            try:
                piece = next(self._pieces, None)
            except (RuntimeError, OSError, EOFError) as error:  # EOFError: it died while it sent
                self.close()
                raise PandermError(
                    "the processes that decode images must live until they are told to end.",
                    f"one of them was ended from outside ({_first_line(error)})",
                    "was it killed, or did memory run out? The same command goes on where this run stopped; "
                    "with fewer --workers it needs less memory",
                ) from None
            if piece is None:
                raise StopIteration
            if piece.error is not None:
                raise piece.error
            pieces.append(piece)
        group = self._drawn.popleft()
        side = self._recipe.preprocess.crop
        rgb = torch.empty(len(group), side, side, 3, dtype=torch.uint8, pin_memory=self._pinned)
        np.concatenate([np.asarray(piece.rgb) for piece in pieces], out=rgb.numpy())
        reasons = [reason for piece in pieces for reason in piece.reasons]
        return batch_of(group, rgb, reasons, pinned=self._pinned)

    def close(self) -> None:
        """End the processes."""
        pieces, self._pieces = self._pieces, None
        end = getattr(pieces, "_shutdown_workers", None)  # what its __del__ calls, whoever still holds it
        if end is not None:
            end()

    def _start(self) -> Iterator[Piece]:
        loader = DataLoader(
            _Squares(self._recipe, shared=self._has_room_to_share()),
            batch_sampler=_Parts(self),
            num_workers=self._workers,
            collate_fn=_as_it_is,
            prefetch_factor=self._ahead,
            worker_init_fn=_end_with_parent,
            multiprocessing_context=_context(),
        )
        with _without_main():
            return iter(loader)

    def parts(self) -> Iterator[list[Row]]:
        """Draw the groups, one after the other, each in as many parts as there are processes."""
        for group in self._groups:
            taken = np.asarray(group, dtype=np.int64)
            self._drawn.append(taken)
            for part in np.array_split(taken, self._workers):
                yield rows_of(self._table, part)

    def _has_room_to_share(self) -> bool:
        """Say whether pixels fit into shared memory, which containers often keep at 64 MB."""
        shared = Path("/dev/shm")
        images = 64 * (self._ahead + 2)
        bytes_ = images * self._recipe.preprocess.crop**2 * 3
        return not shared.is_dir() or shutil.disk_usage(shared).free > 4 * bytes_


class _Parts:
    """The loader's sampler: groups are drawn when it has room for them."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    def __iter__(self) -> Iterator[list[Row]]:
        return self._processes.parts()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _end_with_parent(_: int) -> None:
    """End this process with the one that started it, even if that is killed.

    The loader's own watch is on the fork server, which lives as long as its children.
    """
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _as_it_is(piece: Any) -> Any:
    return piece


def _context() -> BaseContext:
    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])  # torch is imported once for all of them
        return context
    return multiprocessing.get_context("spawn")


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Let new processes find an empty main module: what they run is all here."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
