"""A table's rows to batches of augmented images, decoded ahead by threads, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from panderm.data.filled import Bad, FilledFeed, Numbers, unchanged_bytes
from panderm.data.table import Table
from panderm.finetuning.views import TrainViews

_VIEW = 1  # what tells the generator of an image's view from what else is drawn for its place


@dataclass(frozen=True)
class LabelledBatch:
    """Images of one group, augmented; those that could not be read are left out.

    Attributes:
        places: int64 (n,), in the epoch's list of draws; fewer than were asked for where some are bad, even
            none.
        rows: int64 (n,), of the table; a row that was drawn twice has two places.
        rgb: uint8 (n, S, S, 3), on the CPU, neither scaled nor normalised.
        bad: name of each image that could not be read, and why.
    """

    places: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    rgb: torch.Tensor
    bad: tuple[tuple[str, str], ...] = ()


class LabelledFeed(FilledFeed[LabelledBatch]):
    """Batches of augmented images, in the order of ``groups``.

    What an image looks like depends on the seed, the epoch, its place and its file, and on nothing else: not
    on the groups, the threads, or what was drawn before. Its view is drawn from
    ``default_rng([seed, epoch, place, 1])``: a row that is drawn twice in an epoch is seen in two ways.

    Args:
        table: its rows are what is learned from.
        views: how they are seen.
        seed: of the run.
        epoch: from which the draws are.
        rows_of_place: int64 (N,), the row of the table at each place of the epoch; None: row i at place i.
        groups: places, int64 (n,), one array a batch; drawn only when there is room.
        workers: threads; by default as many as there are cores.
        ahead: batches that are decoded while another is in use.
        pinned: put pixels in pinned memory, from where a GPU fetches them by itself; where there is one.

    Raises:
        UsageError: fewer than one worker.
        ParentsError: while iterating: a file is no longer what it was when the table was checked.
        DataError: while iterating: none of the first 256 images can be read.

    Example:
        >>> with LabelledFeed(table, views, seed=0, epoch=3, groups=groups) as feed:  # doctest: +SKIP
        ...     for batch in feed:
        ...         logits = network(preprocess.normalise(batch.rgb))
        ...         loss = objective(logits, targets[batch.rows])
    """

    def __init__(
        self,
        table: Table,
        views: TrainViews,
        *,
        seed: int,
        epoch: int,
        groups: Iterable[npt.NDArray[np.int64]],
        rows_of_place: npt.NDArray[np.int64] | None = None,
        workers: int | None = None,
        ahead: int = 2,
        pinned: bool = False,
    ) -> None:
        self._table, self._views, self._seed, self._epoch = table, views, seed, epoch
        self._rows_of_place = rows_of_place
        super().__init__(
            groups,
            [((views.size, views.size, 3), torch.uint8)],
            where=table.card.csv,
            workers=workers,
            ahead=ahead,
            pinned=pinned,
            none_is_error=False,  # the last groups of an epoch that goes on may be bad by accident
        )

    def fill(self, number: int, into: tuple[npt.NDArray[Any], ...]) -> None:
        row = int(self._rows(np.array([number]))[0])
        content = unchanged_bytes(self._table, row)
        rng = np.random.default_rng([self._seed, self._epoch, number, _VIEW])
        name, most = str(self._table.cells("path")[row]), self._table.card.max_megapixels
        into[0][:] = self._views.of_file(content, name, rng, max_megapixels=most)

    def name(self, number: int) -> str:
        return str(self._table.cells("image")[int(self._rows(np.array([number]))[0])])

    def batch(self, group: Numbers, tensors: tuple[torch.Tensor, ...], bad: Bad) -> LabelledBatch:
        return LabelledBatch(group, self._rows(group), tensors[0], bad)

    def _rows(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return places if self._rows_of_place is None else self._rows_of_place[places]
