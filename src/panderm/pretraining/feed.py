"""Groups of positions to batches of two views and masks, decoded ahead by threads, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from panderm.data.filled import Bad, FilledFeed, Numbers
from panderm.data.stored import MAX_MEGAPIXELS
from panderm.data.streams.source import ImageSource
from panderm.pretraining.views import TwoViews

_MASK = 1  # what tells the generator of an image's mask from that of its views


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


class TwoViewFeed(FilledFeed[TwoViewBatch]):
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
        self._source, self._views, self._masks = source, views, masks
        self._seed, self._epoch = seed, epoch
        self._view_epoch = epoch if view_epoch is None else view_epoch
        self._max_megapixels = max_megapixels
        rows, columns = masks.grid
        sides = (views.student_size, views.teacher_size)
        shapes = [((side, side, 3), torch.uint8) for side in sides]
        super().__init__(
            groups,
            [*shapes, ((rows * columns,), torch.bool)],
            where=source.record["where"],
            workers=workers,
            ahead=ahead,
            pinned=pinned,
        )

    def fill(self, number: int, into: tuple[npt.NDArray[Any], ...]) -> None:
        student, teacher, mask = into
        views = np.random.default_rng([self._seed, self._view_epoch, number])
        content = self._source.read(number)
        student[:], teacher[:] = self._views.of_file(
            content, self._source.name(number), views, max_megapixels=self._max_megapixels
        )
        mask[:] = self._masks.draw(np.random.default_rng([self._seed, self._epoch, number, _MASK]))

    def name(self, number: int) -> str:
        return self._source.name(number)

    def batch(self, group: Numbers, tensors: tuple[torch.Tensor, ...], bad: Bad) -> TwoViewBatch:
        student, teacher, mask = tensors
        return TwoViewBatch(group, student, teacher, mask, bad)
