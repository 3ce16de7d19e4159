"""What watches a segmentation run: the validation rows after each epoch, the best weights, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from panderm.finetuning.curves import CURVES_NAME, write_png
from panderm.pretraining.followed import follow
from panderm.segmenting.file import record_of, write_segmenter
from panderm.segmenting.learning.validation import THRESHOLD, Validation
from panderm.segmenting.network import StartedSegmenter
from panderm.training.long.choosing import Choosing
from panderm.training.long.selection import Selection


class Watching(Choosing):
    """Scores the validation rows after each epoch, and keeps the best weights, as a segmenter.

    Args:
        folder: of the run.
        started: what it began from.
        validation: the rows that choose.
        selection: how they choose.
        training: how it was trained, for the segmenter's file.
        dtype: what the network computes in, where that is not float32.
        board: write TensorBoard's files.
    """

    def __init__(
        self,
        folder: Path,
        started: StartedSegmenter,
        validation: Validation,
        selection: Selection,
        *,
        training: Mapping[str, Any],
        dtype: torch.dtype | None = None,
        board: bool = False,
    ) -> None:
        super().__init__(folder, selection, board=board)
        self.started, self.validation = started, validation
        self.training, self.dtype = training, dtype

    def look(self, model: nn.Module, rank: int, world: int) -> Any:
        return self.validation.share(model, self.dtype, rank=rank, world=world)

    def score(self, shares: Sequence[Any]) -> dict[str, Any]:
        return self.validation.score(self.validation.joined(shares))

    def after_lines(self) -> None:
        run = follow(self.folder)
        looks = [look for look in run.looks if "val" in look]
        write_png(run, looks, self.selection.score, self.selection.best, self.folder / CURVES_NAME)

    def write(self, path: Path, model: nn.Module, epoch: int, *, self_test: bool) -> Path:
        """Write a network as a segmenter."""
        record = record_of(self.started, threshold=THRESHOLD, training={**self.training, "epoch": epoch})
        write_segmenter(
            path,
            state=model.state_dict(),
            started=self.started,
            record=record,
            self_test=self_test,
            overwrite=True,
        )
        return path
