"""What watches a fine-tuning run: the validation rows after each epoch, the best weights, curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from panderm.classifying.file import ClassifierRecord, finetuned_card, write_classifier
from panderm.finetuning.curves import CURVES_NAME, write_png
from panderm.finetuning.network import ClassifierNetwork, Started
from panderm.finetuning.rows import Rows
from panderm.finetuning.validation import Floats, Validation
from panderm.pretraining.followed import follow
from panderm.training.long.choosing import Choosing
from panderm.training.long.selection import Selection


class Watching(Choosing):
    """Scores the validation rows after each epoch, and keeps the best weights, as a classifier.

    Args:
        folder: of the run.
        started: what it began from.
        rows: who learns and who chooses.
        validation: the rows that choose.
        selection: how they choose.
        training: how it was trained, for the classifier's file.
        shift: float64 (K,), what undoes the sampling of classes; None: nothing.
        dtype: what the network computes in, where that is not float32.
        name: of the encoder on its card.
        board: write TensorBoard's files.
    """

    def __init__(
        self,
        folder: Path,
        started: Started,
        rows: Rows,
        validation: Validation,
        selection: Selection,
        *,
        training: dict[str, Any],
        shift: Floats | None = None,
        dtype: torch.dtype | None = None,
        name: str | None = None,
        board: bool = False,
    ) -> None:
        super().__init__(folder, selection, board=board)
        self.started, self.rows, self.validation = started, rows, validation
        self.training, self.shift, self.dtype, self.name = training, shift, dtype, name

    def look(self, model: nn.Module, rank: int, world: int) -> Any:
        return self.validation.share(model, self.dtype, rank=rank, world=world)

    def score(self, shares: Sequence[Any]) -> dict[str, Any]:
        return self.validation.score(self.validation.joined(shares))

    def after_lines(self) -> None:
        run = follow(self.folder)
        looks = [look for look in run.looks if "val" in look]
        write_png(run, looks, self.selection.score, self.selection.best, self.folder / CURVES_NAME)

    def write(self, path: Path, model: nn.Module, epoch: int, *, self_test: bool) -> Path:
        """Write a network as a classifier.

        Args:
            path: to write.
            model: the network.
            epoch: of its weights.
            self_test: as of :func:`panderm.classifying.file.write_classifier`.
        """
        assert isinstance(model, ClassifierNetwork)
        plain, began = model.plain(), self.started.record
        record = ClassifierRecord(
            classes=self.rows.classes,
            link="sigmoid" if self.rows.labels == "several" else "softmax",
            prior_shift=() if self.shift is None else tuple(float(x) for x in self.shift),
            training={**self.training, "epoch": epoch},
            began=began,
        )
        write_classifier(
            path,
            encoder=plain.encoder,
            weight=plain.weight,
            bias=plain.bias,
            card=finetuned_card(self.started.card, began, self.name),
            pool=self.started.pool,
            record=record,
            self_test=self_test,
            overwrite=True,
        )
        return path
