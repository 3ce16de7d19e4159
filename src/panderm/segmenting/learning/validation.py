"""The rows that choose: masks at the network's own size after an epoch, every image once, with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from panderm.errors import DataError, plural, some
from panderm.scores.resampled import Resampling
from panderm.segmenting.learning.feed import MaskedFeed
from panderm.segmenting.learning.objective import SegmentationLoss
from panderm.segmenting.learning.pairs import Pairs
from panderm.segmenting.learning.views import MaskViews
from panderm.segmenting.network import SegmentationInput
from panderm.statistics.masks import overlaps

Floats = npt.NDArray[np.float64]

DRAWS = 500  # an epoch: the chosen one's masks are scored with more at the end
THRESHOLD = 0.5
_OF_COUNTS = ("jaccard", "dice", "thresholded_jaccard", "sensitivity", "specificity")
_IN_MEMORY = 512 * 2**20  # bytes of pixels that are kept; of more rows all are decoded each time


class Whole(NamedTuple):
    """Some validation images as they are scored: uint8 (n, S, S, 3), bool (n, S, S)."""

    rgb: torch.Tensor
    masks: torch.Tensor


class Validation:
    """Validation images with masks, and scores of what a network says of them.

    Image and mask are squashed to the network's S×S, where a mask is what is at least half inside; what is
    predicted is inside from a probability of 1/2. That is enough to choose an epoch by, and not what is
    reported: the masks of the chosen one are scored at each image's native size.

    Args:
        pairs: the validation rows.
        preprocess: of the network.
        objective: the loss.
        seed: of the bootstrap.
        batch: images at once: the same whoever looks, so that the numbers do not depend on how many share.
        workers: threads that decode.
        draws: of the bootstrap.
    """

    def __init__(
        self,
        pairs: Pairs,
        preprocess: SegmentationInput,
        objective: SegmentationLoss,
        *,
        seed: int = 0,
        batch: int = 16,
        workers: int | None = None,
        draws: int = DRAWS,
    ) -> None:
        self.pairs, self.preprocess, self.objective = pairs, preprocess, objective
        self._batch, self._workers = batch, workers
        self._views = MaskViews.whole(preprocess.size, preprocess.interpolation)
        self._kept: list[Whole] | None = None
        self._engine = Resampling.of(pairs.table, draws=draws, seed=seed)

    def __len__(self) -> int:
        return len(self.pairs)

    def share(
        self, model: nn.Module, dtype: torch.dtype | None = None, *, rank: int = 0, world: int = 1
    ) -> list[list[list[float]]]:
        """Return what one process counts of its batches: every ``world``-th, from ``rank`` on.

        Args:
            model: on its device; it is put into evaluation for it, and back.
            dtype: what it computes in, where that is not float32.
            rank: of this process, always the same.
            world: how many there are.

        Returns:
            Of each image of each batch: pixels true positive, false positive, false negative, true negative,
            and its loss.

        Raises:
            DataError: an image or a mask that cannot be read.
        """
        device = next(model.parameters()).device
        training = model.training
        model.eval()
        parts = []
        try:
            for rgb, masks in self._pixels(rank, world):
                inside = masks.to(device)
                with (
                    torch.inference_mode(),
                    nullcontext() if dtype is None else torch.autocast(device.type, dtype),
                ):
                    logits = model(self.preprocess.normalise(rgb.to(device))).float()
                parts.append(self._counted(logits, inside))
        finally:
            model.train(training)
        return parts

    def _counted(self, logits: torch.Tensor, inside: torch.Tensor) -> list[list[float]]:
        predicted = logits.softmax(dim=1)[:, -1] >= THRESHOLD
        pairs = ((predicted & inside), (predicted & ~inside), (~predicted & inside), (~predicted & ~inside))
        counts = torch.stack([one.sum(dim=(1, 2)) for one in pairs], dim=1).tolist()
        # One by one: the loss of an image is then its own, whatever it is defined over.
        losses = [
            float(self.objective(logits[i : i + 1], inside[i : i + 1]).mean) for i in range(len(logits))
        ]
        return [[*map(float, row), loss] for row, loss in zip(counts, losses, strict=True)]

    def joined(self, shares: Sequence[list[list[list[float]]]]) -> Floats:
        """Return counts and loss of all images, (n, 5), of what all processes counted, in their order.

        Raises:
            DataError: numbers that are not finite; it names the images.
        """
        rows = [row for batch in zip_longest(*shares, fillvalue=[]) for part in batch for row in part]
        found = np.asarray(rows, dtype=np.float64).reshape(-1, 5)
        strange = np.flatnonzero(~np.isfinite(found).all(axis=1))
        if len(found) != len(self) or len(strange):
            names = [str(self.pairs.table.image[i]) for i in strange]
            named = some(names) if names else f"{len(found):,} were counted"
            raise DataError(
                "every validation image must get a finite loss.",
                f"{plural(len(strange), 'image')} of {len(self):,} did not: {named}",
                "lower the learning rate, or compute in fp32",
            )
        return found

    def score(self, counted: Floats) -> dict[str, Any]:
        """Return the scores of (n, 5) counts and losses with intervals, JSON-able.

        Returns:
            ``scores`` by name, means over images: ``loss``, ``jaccard``, ``dice`` …, each ``value``, ``low``,
            ``high`` or the ``reason``; ``n``, ``unit``, ``units``, ``draws``, ``seed``, ``side``: pixels of
            the square in which masks were compared.
        """
        engine = self._engine
        each = overlaps(counted[:, :4])
        table = np.column_stack([counted[:, 4], *(each[name] for name in _OF_COUNTS)])
        known = np.isfinite(table)

        def statistic(weights: Any) -> dict[str, Floats]:
            w = np.ones((1, len(table))) if weights is None else np.asarray(weights, dtype=np.float64)
            sums, images = w @ np.where(known, table, 0.0), w @ known.astype(np.float64)
            means = np.divide(sums, images, out=np.full(sums.shape, np.nan), where=images > 0)
            return dict(zip(("loss", *_OF_COUNTS), means.T, strict=True))

        scores = engine.scores(statistic)
        return {
            "scores": {name: score.as_dict() for name, score in scores.items()},
            "n": len(self),
            "unit": engine.unit,
            "units": engine.units,
            "draws": engine.draws,
            "seed": engine.seed,
            "within classes": False,
            "side": self.preprocess.size,
        }

    def _pixels(self, rank: int, world: int) -> Iterator[Whole]:
        """Yield the pixels of one process's batches, in their order."""
        if self._kept is not None:
            yield from self._kept
            return
        side = self.preprocess.size
        kept: list[Whole] = []
        keeps = len(self) * side * side * 4 <= _IN_MEMORY * world
        groups = [np.arange(s, min(s + self._batch, len(self))) for s in range(0, len(self), self._batch)]
        groups = groups[rank::world]
        if not groups:
            return
        with MaskedFeed(
            self.pairs, self._views, seed=0, epoch=0, groups=groups, workers=self._workers
        ) as feed:
            for batch in feed:
                if batch.bad:
                    raise DataError(
                        "every validation image must be readable: all epochs are compared on the same rows.",
                        [f"{name}: {reason}" for name, reason in batch.bad],
                        "mend them, or add --skip-bad to leave these rows out",
                    )
                whole = Whole(batch.rgb.clone(), batch.masks.clone())
                if keeps:
                    kept.append(whole)
                yield whole
        self._kept = kept if keeps else None
