"""Pairs of images and masks to batches of augmented ones, decoded ahead by threads, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from panderm.data.filled import Bad, FilledFeed, Numbers, unchanged_bytes
from panderm.segmenting.learning.objective import signed_distance
from panderm.segmenting.learning.pairs import Pairs
from panderm.segmenting.learning.views import MaskViews

_VIEW = 1  # what tells the generator of an image's view from what else is drawn for its place


@dataclass(frozen=True)
class MaskedBatch:
    """Images and masks of one group, augmented alike; those that could not be read are left out.

    Attributes:
        places: int64 (n,), in the epoch's list of draws; fewer than were asked for where some are bad, even
            none.
        rows: int64 (n,), of the pairs; a row that was drawn twice has two places.
        rgb: uint8 (n, S, S, 3), on the CPU, neither scaled nor normalised.
        masks: bool (n, S, S), True inside, on the CPU.
        distances: float32 (n, S, S), signed, of each pixel from its mask's boundary; None where they were not
            asked for.
        bad: name of each image that could not be read, or whose mask could not, and why.
    """

    places: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    rgb: torch.Tensor
    masks: torch.Tensor
    distances: torch.Tensor | None = None
    bad: tuple[tuple[str, str], ...] = ()


class MaskedFeed(FilledFeed[MaskedBatch]):
    """Batches of augmented images and masks, in the order of ``groups``.

    What a pair looks like depends on the seed, the epoch, its place and its two files, and on nothing else:
    not on the groups, the threads, or what was drawn before. Its view is drawn from
    ``default_rng([seed, epoch, place, 1])``.

    Args:
        pairs: what is learned from.
        views: how they are seen; :meth:`MaskViews.whole` as they are scored.
        seed: of the run.
        epoch: from which the draws are.
        rows_of_place: int64 (N,), the row of the pairs at each place of the epoch; None: row i at place i.
        groups: places, int64 (n,), one array a batch; drawn only when there is room.
        distances: measure how far each pixel lies from its mask's boundary, for a boundary loss.
        workers: threads; by default as many as there are cores.
        ahead: batches that are decoded while another is in use.
        pinned: put pixels in pinned memory, from where a GPU fetches them by itself; where there is one.

    Raises:
        UsageError: fewer than one worker.
        ParentsError: while iterating: an image or a mask is no longer what it was when the pairs were made.
        DataError: while iterating: none of the first 256 pairs can be read.

    Example:
        >>> with MaskedFeed(pairs, views, seed=0, epoch=3, groups=groups) as feed:  # doctest: +SKIP
        ...     for batch in feed:
        ...         found = loss(network(normalise(batch.rgb)), batch.masks, batch.distances)
    """

    def __init__(
        self,
        pairs: Pairs,
        views: MaskViews,
        *,
        seed: int,
        epoch: int,
        groups: Iterable[npt.NDArray[np.int64]],
        rows_of_place: npt.NDArray[np.int64] | None = None,
        distances: bool = False,
        workers: int | None = None,
        ahead: int = 2,
        pinned: bool = False,
    ) -> None:
        self._pairs, self._views, self._seed, self._epoch = pairs, views, seed, epoch
        self._rows_of_place, self._distances = rows_of_place, distances
        side = views.size
        shapes = [((side, side, 3), torch.uint8), ((side, side), torch.bool)]
        super().__init__(
            groups,
            [*shapes, ((side, side), torch.float32)] if distances else shapes,
            where=pairs.table.card.csv,
            workers=workers,
            ahead=ahead,
            pinned=pinned,
            none_is_error=False,  # the last groups of an epoch that goes on may be bad by accident
        )

    def fill(self, number: int, into: tuple[npt.NDArray[Any], ...]) -> None:
        table, row = self._pairs.table, int(self._rows(np.array([number]))[0])
        mask = self._pairs.read_mask(row)
        content = unchanged_bytes(table, row)
        rng = np.random.default_rng([self._seed, self._epoch, number, _VIEW])
        name, most = str(table.cells("path")[row]), table.card.max_megapixels
        into[0][:], into[1][:] = self._views.of_file(content, mask, name, rng, max_megapixels=most)
        if self._distances:
            into[2][:] = signed_distance(into[1])

    def name(self, number: int) -> str:
        return str(self._pairs.table.cells("image")[int(self._rows(np.array([number]))[0])])

    def batch(self, group: Numbers, tensors: tuple[torch.Tensor, ...], bad: Bad) -> MaskedBatch:
        distances = tensors[2] if self._distances else None
        return MaskedBatch(group, self._rows(group), tensors[0], tensors[1], distances, bad)

    def _rows(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return places if self._rows_of_place is None else self._rows_of_place[places]
