"""Groups of positions to batches of two views and masks, decoded ahead by threads, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import torch

from panderm.data.feed import cores
from panderm.data.images import ImageError
from panderm.data.stored import MAX_MEGAPIXELS
from panderm.data.streams.source import ImageSource
from panderm.errors import DataError, UsageError, plural
from panderm.pretraining.views import TwoViews

_MASK = 1  # what tells the generator of an image's mask from that of its views
_HOPELESS = 256  # so many bad images, and none good before them, are no accident


class Drawer(Protocol):
    """What draws masks: :class:`panderm.pretraining.masks.MaskDrawer`."""

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""

    def draw(self, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
        """Return which patches are masked, bool (N,)."""


@dataclass(frozen=True)
class TwoViewBatch:
    """Images of one group; those that could not be read are left out.

    Attributes:
        positions: int64 (n,), in the source; fewer than were asked for where some are bad, even none.
        student: uint8 (n, S, S, 3), on the CPU.
        teacher: uint8 (n, T, T, 3), of the same crops.
        mask: bool (n, N), True where a patch is hidden from the student.
        bad: name of each image that could not be read, and why.
    """

    positions: npt.NDArray[np.int64]
    student: torch.Tensor
    teacher: torch.Tensor
    mask: torch.Tensor
    bad: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class _Ordered:
    """A group that is being decoded, and the places its images go to."""

    group: npt.NDArray[np.int64]
    student: torch.Tensor
    teacher: torch.Tensor
    mask: torch.Tensor
    futures: list[Future[str | None]]


class TwoViewFeed:
    """Batches of two views, in the order of ``groups``.

    What an image looks like depends on the seed, the epoch and its position in the source, and on nothing
    else: not on the groups, the threads, or what was drawn before. Its views are drawn from
    ``default_rng([seed, epoch, position])``, its mask from ``default_rng([seed, epoch, position, 1])``.

    Args:
        source: the images.
        views: how they are seen.
        masks: draws what is hidden.
        seed: of the run.
        epoch: from which the draws are.
        groups: positions in the source, int64 (n,), one array a batch; drawn only when there is room.
        workers: threads; by default as many as there are cores.
        ahead: batches that are decoded while another is in use.
        view_epoch: from which the views are drawn, where it is not ``epoch``: fixed views, fresh masks.
        pinned: put pixels in pinned memory, from where a GPU fetches them by itself; where there is one.
        max_megapixels: images of more millions of pixels are bad.

    Raises:
        UsageError: fewer than one worker.
        DataError: while iterating: not one image can be read.

    Example:
        >>> with TwoViewFeed(source, views, masks, seed=0, epoch=3, groups=groups) as feed:  # doctest: +SKIP
        ...     for batch in feed:
        ...         loss = step(batch.student, batch.teacher, batch.mask)
    """

    def __init__(
        self,
        source: ImageSource,
        views: TwoViews,
        masks: Drawer,
        *,
        seed: int,
        epoch: int,
        groups: Iterable[npt.NDArray[np.int64]],
        workers: int | None = None,
        ahead: int = 2,
        view_epoch: int | None = None,
        pinned: bool = False,
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> None:
        if workers is not None and workers < 1:
            raise UsageError("there must be at least one worker.", f"found {workers}")
        self._source, self._views, self._masks = source, views, masks
        self._seed, self._epoch = seed, epoch
        self._view_epoch = epoch if view_epoch is None else view_epoch
        self._groups, self._drawing = iter(groups), True
        self._ahead, self._pinned = max(1, ahead), pinned and torch.cuda.is_available()
        self._max_megapixels = max_megapixels
        self._pool = ThreadPoolExecutor(workers or cores(), thread_name_prefix="views")
        self._pending: deque[_Ordered] = deque()
        self._good = self._bad = 0
        self._first_bad: tuple[tuple[str, str], ...] = ()

    def __iter__(self) -> Iterator[TwoViewBatch]:
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
            if self._bad and not self._good:
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

    def _order(self, group: npt.NDArray[np.int64]) -> _Ordered:
        n, rows, columns = len(group), *self._masks.grid
        sides = (self._views.student_size, self._views.teacher_size)
        student, teacher = (
            torch.empty(n, side, side, 3, dtype=torch.uint8, pin_memory=self._pinned) for side in sides
        )
        mask = torch.zeros(n, rows * columns, dtype=torch.bool)
        # Written as arrays: torch would copy each image with a team of threads.
        into = (student.numpy(), teacher.numpy(), mask.numpy())
        futures = [self._pool.submit(self._make, int(position), k, into) for k, position in enumerate(group)]
        return _Ordered(group, student, teacher, mask, futures)

    def _make(
        self,
        position: int,
        k: int,
        into: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.bool_]],
    ) -> str | None:
        """Fill the k-th place of a batch; return why it cannot be filled."""
        student, teacher, mask = into
        views = np.random.default_rng([self._seed, self._view_epoch, position])
        try:
            content = self._source.read(position)
            student[k], teacher[k] = self._views.of_file(
                content, self._source.name(position), views, max_megapixels=self._max_megapixels
            )
        except ImageError as error:
            return error.reason
        mask[k] = self._masks.draw(np.random.default_rng([self._seed, self._epoch, position, _MASK]))
        return None

    def _hopeless(self) -> DataError:
        lines = [f"{name}: {reason}" for name, reason in self._first_bad]
        return DataError(
            "a source must have images that can be read.",
            [
                f"none of the first {plural(self._bad, 'image')} of {self._source.record['where']} can:",
                *lines,
            ],
            "are these the right files? For a table, name the folder of its images with --images",
        )

    def _finish(self, ordered: _Ordered) -> TwoViewBatch:
        reasons = [future.result() for future in ordered.futures]
        good = np.array([reason is None for reason in reasons], dtype=bool)
        bad = tuple(
            (self._source.name(int(position)), reason)
            for position, reason in zip(ordered.group, reasons, strict=True)
            if reason is not None
        )
        self._good += int(good.sum())
        self._bad += len(bad)
        self._first_bad = self._first_bad or bad[:5]
        if not self._good and self._bad >= _HOPELESS:
            raise self._hopeless()
        if not bad:
            return TwoViewBatch(ordered.group, ordered.student, ordered.teacher, ordered.mask)
        keep = torch.from_numpy(good)
        student, teacher = ordered.student[keep], ordered.teacher[keep]
        if self._pinned:
            student, teacher = student.pin_memory(), teacher.pin_memory()
        return TwoViewBatch(ordered.group[good], student, teacher, ordered.mask[keep], bad)
