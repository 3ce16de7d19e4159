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
from panderm.finetuning.run_card import BEST_FOLDER
from panderm.finetuning.selection import Selection
from panderm.finetuning.validation import Floats, Validation
from panderm.pretraining.followed import follow
from panderm.training.long.checkpoint import last_checkpoint
from panderm.training.long.journal import JOURNAL_NAME, read_journal
from panderm.training.long.learner import Watch
from panderm.training.long.tensorboard import TensorBoard


class Watching(Watch):
    """Scores the validation rows after each epoch, and keeps the best weights.

    With a moving average it is the average that is scored, chosen and kept; the weights as they are, are
    scored beside it.

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
        self.folder, self.started, self.rows = folder, started, rows
        self.validation, self.selection = validation, selection
        self.training, self.shift, self.dtype, self.name = training, shift, dtype, name
        self._board_wanted = board
        self._board: TensorBoard | None = None
        self._steps: dict[int, int] = {}  # by epoch, the last step
        self._logits: list[Floats] = []  # of the validation rows, after an epoch

    def began(self, step: int) -> None:
        if self._board_wanted:
            self._board = TensorBoard(self.folder / "tensorboard", resume_at=step + 1)
        for line in read_journal(self.folder / JOURNAL_NAME):
            self._steps[line["epoch"]] = line["step"]
            if "val" in line:
                self.selection.hear(line)

    def after_step(self, line: dict[str, Any]) -> None:
        self._steps[line["epoch"]] = line["step"]
        if self._board is not None:
            self._board.step(line)

    def wants(self, epoch: int) -> bool:  # noqa: ARG002
        return True

    def share(
        self,
        epoch: int,  # noqa: ARG002
        model: nn.Module,
        averaged: nn.Module | None,
        rank: int,
        world: int,
    ) -> Any:
        looked_at = [model] if averaged is None else [averaged, model]
        return [self.validation.share(one, self.dtype, rank=rank, world=world) for one in looked_at]

    def shared(self, parts: Sequence[Any]) -> None:
        self._logits = [self.validation.joined(shares) for shares in zip(*parts, strict=True)]

    def after_epoch(self, epoch: int, model: nn.Module, averaged: nn.Module | None) -> list[dict[str, Any]]:
        kept = model if averaged is None else averaged
        names = ("val", "raw")  # the kept weights, and those as they are where others are kept
        told = zip(names, self._logits, strict=False)
        line: dict[str, Any] = {name: self.validation.score(logits) for name, logits in told}
        if self.selection.hear({"epoch": epoch, **line}):
            self._keep(epoch, kept)
        line["best"] = self.selection.best
        if self._board is not None:
            step = self._steps[epoch]
            self._board.scores("validation", line["val"]["scores"], step=step)
            if "raw" in line:
                self._board.scores("validation, weights as they are", line["raw"]["scores"], step=step)
        return [line]

    def enough(self, epoch: int) -> bool:
        return self.selection.enough(epoch)

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

    def best_file(self, epoch: int) -> Path:
        """Return where the weights of an epoch lie while the run goes on."""
        return self.folder / BEST_FOLDER / f"epoch-{epoch:04d}.safetensors"

    def close(self) -> None:
        """Write what is left."""
        if self._board is not None:
            self._board.close()
            self._board = None

    def _keep(self, epoch: int, model: nn.Module) -> None:
        """Keep the weights of the best epoch, and those that a run which goes on could need again."""
        self.write(self.best_file(epoch), model, epoch, self_test=False)
        needed = {self.best_file(epoch)}
        saved = last_checkpoint(self.folder)
        if saved is not None:
            done = [one for one, step in self._steps.items() if step <= saved.step]
            before = self.selection.best_by(max(done, default=0))
            needed |= {self.best_file(before)} if before is not None else set()
        for old in set((self.folder / BEST_FOLDER).glob("epoch-*.safetensors")) - needed:
            old.unlink(missing_ok=True)
