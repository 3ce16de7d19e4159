"""Groups of numbers to batches that threads fill ahead of who learns from them, in bounded memory."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from panderm.data.decoders import rows_of
from panderm.data.feed import cores
from panderm.data.images import ImageError, read_bytes
from panderm.data.table import Table
from panderm.errors import DataError, ParentsError, UsageError, plural

Batch = TypeVar("Batch")
Numbers = npt.NDArray[np.int64]
Bad = tuple[tuple[str, str], ...]

_HOPELESS = 256  # so many bad images, and none good before them, are no accident


@dataclass(frozen=True)
class _Ordered:
    """A group that is being filled, and the places its images go to."""

    group: Numbers
    tensors: tuple[torch.Tensor, ...]
    futures: list[Future[str | None]]


class FilledFeed(ABC, Generic[Batch]):
    """Batches in the order of ``groups``; each image fills its place of some tensors, whoever fills it.

    Args:
        groups: numbers that mean something to :meth:`fill`, int64 (n,), one array a batch; drawn only when
            there is room.
        shapes: of what one image fills, each with its type. Those of uint8 may be pinned.
        where: the images come from, for a message.
        workers: threads; by default as many as there are cores.
        ahead: batches that are decoded while another is in use.
        pinned: put pixels in pinned memory, from where a GPU fetches them by itself; where there is one.
        none_is_error: raise at the end where not one image was good.

    Raises:
        UsageError: fewer than one worker.
        DataError: while iterating: none of the first 256 images can be read.
    """

    def __init__(
        self,
        groups: Iterable[Numbers],
        shapes: Sequence[tuple[tuple[int, ...], torch.dtype]],
        *,
        where: str,
        workers: int | None = None,
        ahead: int = 2,
        pinned: bool = False,
        none_is_error: bool = True,
    ) -> None:
        if workers is not None and workers < 1:
            raise UsageError("there must be at least one worker.", f"found {workers}")
        self._groups, self._drawing = iter(groups), True
        self._shapes, self._where, self._none_is_error = tuple(shapes), where, none_is_error
        self._ahead, self._pinned = max(1, ahead), pinned and torch.cuda.is_available()
        self._pool = ThreadPoolExecutor(workers or cores(), thread_name_prefix="views")
        self._pending: deque[_Ordered] = deque()
        self._good = self._bad = 0
        self._first_bad: Bad = ()

    @abstractmethod
    def fill(self, number: int, into: tuple[npt.NDArray[Any], ...]) -> None:
        """Write what one image gives into its place of each tensor; called by threads.

        Raises:
            ImageError: it cannot be read; it is left out of its batch, and told.
        """

    @abstractmethod
    def name(self, number: int) -> str:
        """Return what an image is called."""

    @abstractmethod
    def batch(self, group: Numbers, tensors: tuple[torch.Tensor, ...], bad: Bad) -> Batch:
        """Return the batch of a group, without those that are bad."""

    def __iter__(self) -> Iterator[Batch]:
        try:
            while True:
                while self._drawing and len(self._pending) < self._ahead:
                    group = next(self._groups, None)
                    self._drawing = group is not None
                    if group is not None:
                        self._pending.append(self._order(np.asarray(group, dtype=np.int64)))
                if not self._pending:
                    break
                yield self._finish(self._pending.popleft())
            if self._none_is_error and self._bad and not self._good:
                raise self._hopeless()
        finally:
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the threads; images that are being decoded are finished, no other is begun."""
        self._drawing = False
        for ordered in self._pending:
            for future in ordered.futures:
                future.cancel()
        self._pool.shutdown(cancel_futures=True)
        self._pending.clear()

    def _order(self, group: Numbers) -> _Ordered:
        tensors = tuple(
            torch.empty((len(group), *shape), dtype=dtype, pin_memory=self._pinned and dtype == torch.uint8)
            for shape, dtype in self._shapes
        )
        # Written as arrays: torch would copy each image with a team of threads.
        arrays = [tensor.numpy() for tensor in tensors]
        futures = [
            self._pool.submit(self._make, int(number), tuple(array[k] for array in arrays))
            for k, number in enumerate(group)
        ]
        return _Ordered(group, tensors, futures)

    def _make(self, number: int, into: tuple[npt.NDArray[Any], ...]) -> str | None:
        """Fill one place of a batch; return why it cannot be filled."""
        try:
            self.fill(number, into)
        except ImageError as error:
            return error.reason
        return None

    def _hopeless(self) -> DataError:
        lines = [f"{name}: {reason}" for name, reason in self._first_bad]
        return DataError(
            "a source must have images that can be read.",
            [f"none of the first {plural(self._bad, 'image')} of {self._where} can:", *lines],
            "are these the right files? For a table, name the folder of its images with --images",
        )

    def _finish(self, ordered: _Ordered) -> Batch:
        reasons = [future.result() for future in ordered.futures]
        good = np.array([reason is None for reason in reasons], dtype=bool)
        bad = tuple(
            (self.name(int(number)), reason)
            for number, reason in zip(ordered.group, reasons, strict=True)
            if reason is not None
        )
        self._good += int(good.sum())
        self._bad += len(bad)
        self._first_bad = self._first_bad or bad[:5]
        if not self._good and self._bad >= _HOPELESS:
            raise self._hopeless()
        if not bad:
            return self.batch(ordered.group, ordered.tensors, ())
        keep = torch.from_numpy(good)
        kept = tuple(tensor[keep] for tensor in ordered.tensors)
        if self._pinned:
            kept = tuple(t.pin_memory() if t.dtype == torch.uint8 else t for t in kept)
        return self.batch(ordered.group[good], kept, bad)


def unchanged_bytes(table: Table, i: int) -> bytes:
    """Return the bytes of the file of a table's row.

    Raises:
        ImageError: it cannot be read.
        ParentsError: they are not those that the table was made of.
    """
    (row,) = rows_of(table, np.array([i]))
    return unchanged_file(row.path, row.sha256)


def unchanged_file(path: Path | str, sha256: str, what: str = "images") -> bytes:
    """Return the bytes of a file that was read before; raises as :func:`unchanged_bytes`."""
    content = read_bytes(path)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ParentsError(
            f"{what} must stay as they were when their table was checked.",
            f"{path}: changed since",
            "begin again: what was read then is no longer there",
        )
    return content
