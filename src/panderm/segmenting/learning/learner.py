"""What is learned in a step: augmented images and masks, and the loss of what is said of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from panderm.segmenting.learning.feed import MaskedBatch, MaskedFeed
from panderm.segmenting.learning.objective import SegmentationLoss
from panderm.segmenting.learning.pairs import Pairs
from panderm.segmenting.learning.views import MaskViews
from panderm.segmenting.network import SegmentationInput
from panderm.training.long.learner import Loss
from panderm.training.long.plan import Positions

_DRAWS = 3  # what tells the generator of an epoch's rows from that of views


class Segmenting:
    """The learner of segmentation (:class:`panderm.training.long.learner.Learner`).

    Args:
        pairs: what is learned from.
        views: how images and masks are seen.
        objective: the loss.
        preprocess: mean and std of the network's pixels.
        seed: of the views.
        device: of the network.
        places: images of an epoch, see :meth:`rows_of`; None: each pair once.
        workers: threads that decode.
    """

    def __init__(
        self,
        pairs: Pairs,
        views: MaskViews,
        objective: SegmentationLoss,
        preprocess: SegmentationInput,
        *,
        seed: int,
        device: torch.device,
        places: int | None = None,
        workers: int | None = None,
    ) -> None:
        self.pairs, self.views, self.objective, self.preprocess = pairs, views, objective, preprocess
        self.seed, self.device, self.workers = seed, device, workers
        self.places = len(pairs) if places is None else places

    def rows_of(self, epoch: int) -> Positions | None:
        """Return the pair at each place of an epoch, int64 (N,); None where pair i is at place i.

        With more places than pairs each is seen as often as any other, or once more; with fewer, other ones
        each epoch. They are drawn from ``default_rng([seed, epoch, 3])``.
        """
        n = len(self.pairs)
        if self.places == n:
            return None
        rng = np.random.default_rng([self.seed, epoch, _DRAWS])
        rounds = [rng.permutation(n) for _ in range(-(-self.places // n))]
        return np.concatenate(rounds)[: self.places].astype(np.int64)

    def batches(self, epoch: int, groups: Sequence[Positions]) -> Iterator[MaskedBatch]:
        with MaskedFeed(
            self.pairs,
            self.views,
            seed=self.seed,
            epoch=epoch,
            groups=groups,
            rows_of_place=self.rows_of(epoch),
            distances=self.objective.wants_distances,
            workers=self.workers,
            pinned=self.device.type == "cuda",
        ) as feed:
            yield from feed

    def loss(self, model: nn.Module, batch: MaskedBatch) -> Loss | None:
        if not len(batch.rows):
            return None
        pixels = self.preprocess.normalise(batch.rgb.to(self.device, non_blocking=True))
        masks = batch.masks.to(self.device, non_blocking=True)
        distances = None
        if batch.distances is not None:
            distances = batch.distances.to(self.device, non_blocking=True)
        return self.objective(model(pixels), masks, distances)

    def blank(self) -> MaskedBatch:
        side = self.views.size
        nothing = np.full(1, -1, dtype=np.int64)
        rgb = torch.zeros(1, side, side, 3, dtype=torch.uint8)
        return MaskedBatch(nothing, nothing, rgb, torch.zeros(1, side, side, dtype=torch.bool))

    def names(self, batch: MaskedBatch) -> list[str]:
        image = self.pairs.table.cells("image")
        return [str(image[int(row)]) for row in batch.rows]

    def unreadable(self, batch: MaskedBatch) -> Sequence[tuple[str, str]]:
        return batch.bad
