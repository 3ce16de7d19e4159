"""Rows × Preprocess → batches of 8-bit pixels, in order, decoded ahead by threads or processes."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import torch

from panderm.data.fast import pixels
from panderm.data.images import ImageError, read_bytes
from panderm.data.preprocess import Preprocess
from panderm.data.table import Table
from panderm.errors import UsageError

Kind = Literal["auto", "threads", "processes"]


@dataclass(frozen=True)
class Batch:
    """Images of one group, decoded.

    Attributes:
        positions: int64 (n,), their rows in the table, in the group's order.
        rgb: uint8 (n, S, S, 3), contiguous, on the CPU; in pinned memory where that was asked for.
        bad: why images of the group could not be decoded, by position; those are not in ``positions``.
    """

    positions: npt.NDArray[np.int64]
    rgb: torch.Tensor
    bad: dict[int, str] = field(default_factory=dict)


@dataclass
class _Pending:
    group: npt.NDArray[np.int64]
    rgb: torch.Tensor
    reasons: list[Future[str | None]]


class Feed:
    """Batches of a table's images, in the order of ``groups``.

    Args:
        table: from :func:`panderm.read_table`.
        preprocess: what the pixels must look like; they are not normalised yet.
        groups: positions in the table, int64 (n,), one array a batch; drawn only when there is room.
        workers: threads or processes; by default chosen by measurement.
        kind: what they are.
        exact: decode as the reference does, bit for bit; see :mod:`panderm.data.fast`.
        pinned: put the batches in pinned memory, from where a GPU fetches them by itself.
        ahead: at most so many batches are decoded in advance.

    Raises:
        UsageError: fewer than one worker.
        ImageError: while iterating: a file is no longer what it was when the table was checked.

    Example:
        >>> with Feed(table, encoder.preprocess, groups=np.array_split(np.arange(len(table)), 4)) as feed:
        ...     for batch in feed:
        ...         vectors = encoder.forward_rgb(batch.rgb)  # doctest: +SKIP
    """

    def __init__(
        self,
        table: Table,
        preprocess: Preprocess,
        *,
        groups: Iterable[npt.NDArray[np.int64]],
        workers: int | None = None,
        kind: Kind = "auto",
        exact: bool = False,
        pinned: bool = False,
        ahead: int = 2,
    ) -> None:
        if workers is not None and workers < 1:
            raise UsageError("there must be at least one worker.", f"found {workers}")
        self._table, self._preprocess, self._exact = table, preprocess, exact
        self._groups = iter(groups)
        self._pinned = pinned and torch.cuda.is_available()
        self._ahead = max(1, ahead)
        self.workers = workers or min(8, os.cpu_count() or 1)
        self.kind: Literal["threads", "processes"] = "processes" if kind == "processes" else "threads"
        self._pending: deque[_Pending] = deque()
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="decode")

    def __iter__(self) -> Iterator[Batch]:
        try:
            while self._order():
                yield self._collect(self._pending.popleft())
        finally:
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all threads and processes; images that are being decoded are finished, no other is begun."""
        self._pool.shutdown(cancel_futures=True)
        self._pending.clear()

    def _order(self) -> bool:
        """Draw groups until there is one to collect and as many ahead of it as there may be."""
        while len(self._pending) <= self._ahead:
            group = next(self._groups, None)
            if group is None:
                break
            side = self._preprocess.crop
            rgb = torch.empty(len(group), side, side, 3, dtype=torch.uint8, pin_memory=self._pinned)
            # Written as an array: torch would copy with a team of threads for each image.
            into = rgb.numpy()
            reasons = [self._pool.submit(self._decode, int(i), into[k]) for k, i in enumerate(group)]
            self._pending.append(_Pending(np.asarray(group, np.int64), rgb, reasons))
        return bool(self._pending)

    def _decode(self, i: int, into: npt.NDArray[np.uint8]) -> str | None:
        """Decode one row; return why it cannot be decoded."""
        path = self._table.path[i]
        content = read_bytes(path)
        if hashlib.sha256(content).hexdigest() != self._table.sha256[i]:
            raise ImageError(
                path, "changed since the table was checked", "run the same command again; it notices what changed"
            )
        try:
            into[:] = pixels(
                content,
                path,
                self._preprocess,
                exact=self._exact,
                max_megapixels=self._table.card.max_megapixels,
            )
        except ImageError as error:
            return error.reason
        return None

    def _collect(self, pending: _Pending) -> Batch:
        reasons = [future.result() for future in pending.reasons]
        bad = {int(i): reason for i, reason in zip(pending.group, reasons, strict=True) if reason}
        if not bad:
            return Batch(pending.group, pending.rgb)
        good = np.array([reason is None for reason in reasons])
        rgb = pending.rgb[torch.from_numpy(good)]
        return Batch(pending.group[good], rgb.pin_memory() if self._pinned else rgb, bad)
