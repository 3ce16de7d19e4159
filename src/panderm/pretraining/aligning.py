"""What is learned in a step: two views, the teacher's tokens, and how far the student is from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from panderm.data.streams.source import ImageSource
from panderm.pretraining.feed import TwoViewBatch, TwoViewFeed
from panderm.pretraining.masks import MaskDrawer
from panderm.pretraining.objective import TokenWeights, alignment
from panderm.pretraining.target_cache import TargetCache
from panderm.pretraining.teacher import Teacher
from panderm.pretraining.views import TwoViews
from panderm.pretraining.weights_file import student_preprocess
from panderm.training.long.learner import Loss
from panderm.training.long.plan import Positions

_BLANK = -1  # the position of an image that is none


class Normalise(nn.Module):
    """From uint8 (n, S, S, 3) to the student's pixels, float32 (n, 3, S, S), on a device."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        made = student_preprocess()
        self.register_buffer("mean", 255 * torch.tensor(made.mean, device=device)[:, None, None])
        self.register_buffer("scale", 255 * torch.tensor(made.std, device=device)[:, None, None])

    def forward(self, rgb: torch.Tensor) -> torch.Tensor:
        pixels = rgb.to(self.mean.device, non_blocking=True).permute(0, 3, 1, 2).contiguous()
        return (pixels.float() - self.mean) / self.scale


class Aligning:
    """The learner of pretraining (:class:`panderm.training.long.learner.Learner`).

    Args:
        source: the images.
        views: how a crop is drawn and seen.
        masks: what the student does not see.
        teacher: gives the tokens.
        weights: of the tokens in the loss.
        seed: of crops and masks.
        device: of the student.
        workers: threads that decode.
        fixed_views: each image has so many views, which come in turn; None: a new one each epoch.

    Attributes:
        cache: the teacher's tokens of fixed views, once they are on disk; None: the teacher is asked.
    """

    cache: TargetCache | None = None

    def __init__(
        self,
        source: ImageSource,
        views: TwoViews,
        masks: MaskDrawer,
        teacher: Teacher,
        weights: TokenWeights,
        *,
        seed: int,
        device: torch.device,
        workers: int | None = None,
        fixed_views: int | None = None,
    ) -> None:
        self.source, self.views, self.masks, self.teacher = source, views, masks, teacher
        self.weights, self.seed, self.device, self.workers = weights, seed, device, workers
        self.fixed_views = fixed_views
        self._view = 0  # of the epoch that is learned from
        self.normalise = Normalise(device)

    def feed(self, epoch: int, groups: Sequence[Positions], *, teacher: bool = True) -> TwoViewFeed:
        """Return the batches of an epoch, decoded ahead; for the teacher too, unless it is not to look."""
        return TwoViewFeed(
            self.source,
            self.views if teacher else replace(self.views, teacher_size=0),
            self.masks,
            seed=self.seed,
            epoch=epoch,
            view_epoch=self._view_of(epoch),
            groups=groups,
            workers=self.workers,
            pinned=self.device.type == "cuda",
        )

    def _view_of(self, epoch: int) -> int:
        return epoch if self.fixed_views is None else epoch % self.fixed_views

    def batches(self, epoch: int, groups: Sequence[Positions]) -> Iterator[TwoViewBatch]:
        self._view = self._view_of(epoch)
        with self.feed(epoch, groups, teacher=self.cache is None) as feed:
            yield from feed

    def loss(self, model: nn.Module, batch: TwoViewBatch) -> Loss | None:
        target, student, mask = self._target(batch)
        if not len(target):
            return None
        predicted = model(self.normalise(student), mask)
        found = alignment(predicted, target, mask, self.weights)
        parts = {"cls": found.cls, "visible": found.visible}
        if self.masks.masked:
            parts["masked"] = found.masked
        return Loss(found.loss, len(target), parts)

    def _target(self, batch: TwoViewBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the teacher's tokens, and of what they are: the student's view and the mask."""
        if _BLANK in batch.positions:
            tokens = 1 + batch.mask.shape[1]
            return torch.zeros(1, tokens, self.teacher.dim, device=self.device), batch.student, batch.mask
        if self.cache is None or not len(batch.positions):
            with torch.autocast(self.device.type, enabled=False):  # the teacher has a precision of its own
                target = self.teacher.targets(batch.teacher)
            return target.to(self.device), batch.student, batch.mask
        target, known = self.cache.read(self._view, batch.positions)
        if not known.all():  # what could not be read when the teacher looked can be read now
            keep = torch.from_numpy(known)
            return target[keep].to(self.device), batch.student[keep], batch.mask[keep]
        return target.to(self.device, non_blocking=True), batch.student, batch.mask

    def blank(self) -> TwoViewBatch:
        rgb = [
            torch.zeros(1, side, side, 3, dtype=torch.uint8)
            for side in (self.views.student_size, self.views.teacher_size)
        ]
        mask = torch.from_numpy(self.masks.draw(np.random.default_rng(0)))[None]
        return TwoViewBatch(np.full(1, _BLANK, dtype=np.int64), rgb[0], rgb[1], mask)

    def names(self, batch: TwoViewBatch) -> list[str]:
        return [self.source.name(int(position)) for position in batch.positions]

    def unreadable(self, batch: TwoViewBatch) -> Sequence[tuple[str, str]]:
        return batch.bad
