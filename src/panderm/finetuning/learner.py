"""What is learned in a step: augmented images, perhaps mixed, and the loss of what is said of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from panderm.data.preprocess import Preprocess
from panderm.data.table import Table
from panderm.finetuning.feed import LabelledBatch, LabelledFeed
from panderm.finetuning.mixing import Mix
from panderm.finetuning.objective import Objective
from panderm.finetuning.views import TrainViews
from panderm.training.long.learner import Loss
from panderm.training.long.plan import Positions

_DRAWS = 3  # what tells the generator of an epoch's rows from those of views and mixes


class Classifying:
    """The learner of fine-tuning (:class:`panderm.training.long.learner.Learner`).

    An epoch has as many places as there are rows. Without weights a place is a row; with them the rows of an
    epoch are drawn with replacement from ``default_rng([seed, epoch, 3])``: nothing but the seed, the epoch
    and the place decides what is seen.

    Args:
        table: the rows that are learned from.
        targets: float32 (N, K), as the objective makes them of the truth.
        views: how images are seen.
        objective: the loss.
        mix: of images and targets; one that does nothing leaves them.
        preprocess: of the encoder: mean and std.
        seed: of views, mixes and draws.
        device: of the network.
        workers: threads that decode.
        row_weights: float64 (N,), how often a row is drawn; None: each once an epoch.
    """

    def __init__(
        self,
        table: Table,
        targets: torch.Tensor,
        views: TrainViews,
        objective: Objective,
        mix: Mix,
        preprocess: Preprocess,
        *,
        seed: int,
        device: torch.device,
        workers: int | None = None,
        row_weights: npt.NDArray[np.float64] | None = None,
    ) -> None:
        self.table, self.targets, self.views = table, targets, views
        self.objective, self.mix, self.preprocess = objective, mix, preprocess
        self.seed, self.device, self.workers = seed, device, workers
        self._chances = None if row_weights is None else row_weights / row_weights.sum()
        self._epoch = 0

    def rows_of(self, epoch: int) -> Positions | None:
        """Return the row at each place of an epoch, int64 (N,); None where row i is at place i."""
        if self._chances is None:
            return None
        rng = np.random.default_rng([self.seed, epoch, _DRAWS])
        return rng.choice(len(self._chances), len(self._chances), p=self._chances).astype(np.int64)

    def feed(self, epoch: int, groups: Sequence[Positions]) -> LabelledFeed:
        """Return the batches of an epoch, decoded ahead."""
        return LabelledFeed(
            self.table,
            self.views,
            seed=self.seed,
            epoch=epoch,
            groups=groups,
            rows_of_place=self.rows_of(epoch),
            workers=self.workers,
            pinned=self.device.type == "cuda",
        )

    def batches(self, epoch: int, groups: Sequence[Positions]) -> Iterator[LabelledBatch]:
        self._epoch = epoch
        with self.feed(epoch, groups) as feed:
            yield from feed

    def loss(self, model: nn.Module, batch: LabelledBatch) -> Loss | None:
        if not len(batch.rows):
            return None
        pixels = self.preprocess.normalise(batch.rgb.to(self.device, non_blocking=True))
        if batch.places[0] < 0:  # an image of nothing, so that all processes take part
            return self.objective(model(pixels), self.targets[:1].nan_to_num().to(self.device))
        targets = self.targets[torch.from_numpy(batch.rows)].to(self.device)
        key = (self.seed, self._epoch, int(batch.places[0]))
        mixed = self.mix.apply(pixels, targets, key=key)
        return self.objective(model(mixed.pixels), mixed.targets)

    def blank(self) -> LabelledBatch:
        rgb = torch.zeros(1, self.views.size, self.views.size, 3, dtype=torch.uint8)
        nothing = np.full(1, -1, dtype=np.int64)
        return LabelledBatch(nothing, nothing, rgb)

    def names(self, batch: LabelledBatch) -> list[str]:
        image = self.table.cells("image")
        return [str(image[int(row)]) for row in batch.rows]

    def unreadable(self, batch: LabelledBatch) -> Sequence[tuple[str, str]]:
        return batch.bad
