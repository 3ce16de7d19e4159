"""The rows that choose: what a network says of them after an epoch, every image once, with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from panderm.data.feed import Feed
from panderm.data.label_cells import PRESENT
from panderm.data.preprocess import Preprocess
from panderm.errors import DataError, plural
from panderm.finetuning.rows import Rows
from panderm.finetuning.scoring import scorer_of
from panderm.scores.resampled import Resampling

Floats = npt.NDArray[np.float64]

DRAWS = 500  # an epoch: the chosen one's scores are told with more at the end
_IN_MEMORY = 512 * 2**20  # bytes of pixels that are kept; of more rows all are decoded each time


class Validation:
    """Validation rows, and scores of what a network says of them.

    Every row counts once: there are no padded batches, and no row is left out but those that cannot be read,
    which is an error when they are first looked at.

    Args:
        rows: of the run.
        preprocess: from file to pixels, the encoder's own: nothing is drawn.
        shift: float64 (K,), is added to the logits, where the sampling of classes is undone; None: nothing.
        seed: of the bootstrap.
        batch: images at once.
        workers: threads that decode; by default measured.
        draws: of the bootstrap.
    """

    def __init__(
        self,
        rows: Rows,
        preprocess: Preprocess,
        *,
        shift: Floats | None = None,
        seed: int = 0,
        batch: int = 32,
        workers: int | None = None,
        draws: int = DRAWS,
    ) -> None:
        self.rows, self.preprocess, self.shift = rows, preprocess, shift
        self.table = rows.table.select(rows.val)
        self.truth = rows.truth[rows.val]
        self._batch, self._workers = batch, workers
        self._kept: list[npt.NDArray[np.uint8]] | None = None
        # Within classes: of a class of three, plain draws would often have none, and no score of all classes.
        within = self.truth == PRESENT if rows.labels == "one" else None
        self._engine = Resampling.of(self.table, draws=draws, seed=seed, within=within)

    def __len__(self) -> int:
        return len(self.table)

    def missing(self) -> list[str]:
        """Return the classes that no row shows, or that every row shows: they cannot be told apart here."""
        has = (self.truth == PRESENT).any(axis=0)
        lacks = (self.truth == 0).any(axis=0)
        return [name for k, name in enumerate(self.rows.classes) if not (has[k] and lacks[k])]

    def share(
        self, model: nn.Module, dtype: torch.dtype | None = None, *, rank: int = 0, world: int = 1
    ) -> list[list[list[float]]]:
        """Return what a network says of one process's batches: every ``world``-th, from ``rank`` on.

        Whoever looks, a row is in a batch with the same others: the numbers do not depend on how many share.

        Args:
            model: on its device; it is put into evaluation for it, and back.
            dtype: what it computes in, where that is not float32.
            rank: of this process, always the same.
            world: how many there are.

        Raises:
            DataError: a row that cannot be read.
        """
        device = next(model.parameters()).device
        training = model.training
        model.eval()
        parts = []
        try:
            for rgb in self._pixels(rank, world):
                with (
                    torch.inference_mode(),
                    nullcontext() if dtype is None else torch.autocast(device.type, dtype),
                ):
                    pixels = self.preprocess.normalise(torch.from_numpy(rgb).to(device))
                    parts.append(model(pixels).float().cpu().tolist())
        finally:
            model.train(training)
        return parts

    def joined(self, shares: Sequence[list[list[list[float]]]]) -> Floats:
        """Return the logits of all rows, (n, K), of what all processes said of theirs, in their order.

        Raises:
            DataError: numbers that are not finite.
        """
        rows = [row for batch in zip_longest(*shares, fillvalue=[]) for part in batch for row in part]
        found = np.asarray(rows, dtype=np.float64)
        if len(found) != len(self) or not np.isfinite(found).all():
            strange = int((~np.isfinite(found)).any(axis=1).sum())
            raise DataError(
                "every validation row must get finite logits.",
                f"{plural(strange, 'row')} of {len(self):,} did not",
                "lower the learning rate, or compute in fp32",
            )
        return found if self.shift is None else found + self.shift

    def score(self, logits: Floats) -> dict[str, Any]:
        """Return the scores of logits (n, K) with intervals, and the loss, JSON-able.

        Returns:
            ``scores`` by name, each ``value``, ``low``, ``high`` or the ``reason``; ``n``, ``unit``,
            ``units``, ``draws``, ``seed``. ``loss`` is the mean log loss in nats, of several labels over the
            cells that are known: nothing is smoothed or mixed.
        """
        engine = self._engine
        statistic, reasons = scorer_of(
            self.truth, logits, self.rows.classes, several=self.rows.labels == "several"
        )
        scores = engine.scores(statistic, reasons)
        return {
            "scores": {name: score.as_dict() for name, score in scores.items()},
            "n": len(self),
            "unit": engine.unit,
            "units": engine.units,
            "draws": engine.draws,
            "seed": engine.seed,
            "within classes": engine.strata is not None,
        }

    def _pixels(self, rank: int, world: int) -> Iterator[npt.NDArray[np.uint8]]:
        """Yield the pixels of one process's batches, in their order."""
        if self._kept is not None:
            yield from self._kept
            return
        side = self.preprocess.crop
        kept: list[npt.NDArray[np.uint8]] = []
        keeps = len(self) * side * side * 3 <= _IN_MEMORY * world
        groups = [np.arange(s, min(s + self._batch, len(self))) for s in range(0, len(self), self._batch)]
        groups = groups[rank::world]
        if not groups:
            return
        with Feed(
            self.table, self.preprocess, groups=groups, workers=self._workers, kind="threads", exact=True
        ) as feed:
            for batch in feed:
                if batch.bad:
                    named = [f"{self.table.image[i]}: {reason}" for i, reason in batch.bad.items()]
                    raise DataError(
                        "every validation image must be readable: all epochs are compared on the same rows.",
                        named,
                        "mend them, or add --skip-bad to leave these rows out",
                    )
                rgb = batch.rgb.numpy().copy()
                if keeps:
                    kept.append(rgb)
                yield rgb
        self._kept = kept if keeps else None
