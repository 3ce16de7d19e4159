"""What watches a run: a probe, the spread of features, pictures, alarms, weights of some epochs, the page."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from panderm.errors import PandermWarning
from panderm.pretraining.alarms import Spread, alarms, spread
from panderm.pretraining.aligning import Aligning
from panderm.pretraining.feed import TwoViewBatch
from panderm.pretraining.followed import PICTURES
from panderm.pretraining.online_probe import OnlineProbe
from panderm.pretraining.page import write_page
from panderm.pretraining.picture import draw_picture
from panderm.pretraining.student import PretrainingModel
from panderm.pretraining.tensorboard import TensorBoard
from panderm.pretraining.weights_file import write_encoder
from panderm.training.long.journal import JOURNAL_NAME, read_journal
from panderm.training.long.learner import Watch

_LOOKED_AT = 128  # images whose features are measured, where no probe has any
_BATCH = 64
_FIRST = 200  # steps of the beginning that later ones are held against


class Watching(Watch):
    """Looks at the student now and then, and writes what it sees.

    Args:
        folder: of the run.
        learner: gives images and the teacher.
        epochs: of the run.
        every: epochs between two looks; the last epoch has one in any case.
        save_every: epochs between two encoders that are kept; 0: none.
        name: of the encoder, on its card.
        probe: labelled images; only the first process has them.
        board: write TensorBoard's files.
    """

    def __init__(
        self,
        folder: Path,
        learner: Aligning,
        *,
        epochs: int,
        every: int,
        save_every: int = 0,
        name: str = "pretrained",
        probe: OnlineProbe | None = None,
        board: bool = False,
    ) -> None:
        self.folder, self.learner, self.epochs, self.every = folder, learner, epochs, every
        self.save_every, self.name, self.probe = save_every, name, probe
        self._board_wanted = board
        self._board: TensorBoard | None = None
        self._batch: TwoViewBatch | None = None
        self._spreads: list[Spread] = []
        self._first: list[Mapping[str, Any]] = []
        self._now: list[Mapping[str, Any]] = []
        self._best: float | None = None

    def began(self, step: int) -> None:
        if self._board_wanted:
            self._board = TensorBoard(self.folder / "tensorboard", resume_at=step + 1)
        for line in read_journal(self.folder / JOURNAL_NAME):
            if "loss" in line:
                self._note(line)
            elif "spread" in line:
                self._spreads.append(Spread(**line["spread"]))

    def _note(self, line: Mapping[str, Any]) -> None:
        if self._now and self._now[-1]["epoch"] != line["epoch"]:
            losses = [one["loss"] for one in self._now if one["loss"] is not None]
            if losses:
                self._best = min(self._best or math.inf, float(np.mean(losses)))
            self._now = []
        self._now.append(line)
        if len(self._first) < _FIRST and line["epoch"] == 1:
            self._first.append(line)

    def after_step(self, line: dict[str, Any]) -> None:
        self._note(line)
        if self._board is not None:
            self._board.step(line)

    def wants(self, epoch: int) -> bool:
        return epoch == self.epochs or not epoch % self.every or self._saves(epoch)

    def _saves(self, epoch: int) -> bool:
        return bool(self.save_every) and not epoch % self.save_every

    def after_epoch(
        self,
        epoch: int,
        model: nn.Module,
        averaged: nn.Module | None,  # noqa: ARG002 (there is none)
    ) -> list[dict[str, Any]]:
        assert isinstance(model, PretrainingModel)
        if self._saves(epoch):
            path = self.folder / "epochs" / f"encoder-{epoch:04d}.safetensors"
            write_encoder(model, path, f"{self.name}-epoch-{epoch}", overwrite=True)
        if epoch != self.epochs and epoch % self.every:
            return []
        training = model.training
        model.eval()
        line = self._look(epoch, model)
        model.train(training)
        if self._board is not None:
            self._board.epoch(line, step=self._now[-1]["step"])
        for text in line["alarms"]:
            warnings.warn(f"epoch {epoch}: {text}", PandermWarning, stacklevel=2)
        return [line]

    def _look(self, epoch: int, model: PretrainingModel) -> dict[str, Any]:
        batch = self._some()

        def encode(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            with torch.inference_mode():
                pixels = self.learner.normalise(torch.from_numpy(rgb))
                tokens = model.encode(pixels)
            return np.asarray(tokens[:, 0].float().cpu().numpy(), dtype=np.float32)

        line: dict[str, Any] = {}
        if self.probe is not None:
            features = self.probe.features(encode)
            line["probe"] = self.probe.score(features)
        else:
            rgb = batch.student.numpy()
            made = [encode(rgb[i : i + _BATCH]) for i in range(0, len(rgb), _BATCH)]
            features = np.concatenate(made) if made else np.empty((0, 0), np.float32)
        predicted = None
        if len(batch.positions):
            path = self.folder / PICTURES / f"epoch-{epoch:04d}.png"
            predicted = draw_picture(model, self.learner.teacher, batch, path, title=f"epoch {epoch}")
            line["predicted"] = predicted
            if self._board is not None:
                self._board.picture(path, step=self._now[-1]["step"])
        now = spread(features) if len(features) > 1 else None
        line["alarms"] = alarms(
            now,
            self._spreads,
            steps=self._now,
            first_steps=self._first if epoch > 1 else (),
            best_loss=self._best,
            predicted=predicted,
            masked_patches=self.learner.masks.masked,
        )
        if now is not None:
            line["spread"] = now.as_dict()
            self._spreads.append(now)
        return line

    def _some(self) -> TwoViewBatch:
        """Return the images that every look looks at, as every epoch sees them."""
        if self._batch is None:
            n = len(self.learner.source)
            chosen = np.random.default_rng([self.learner.seed, 0]).permutation(n)[:_LOOKED_AT]
            with self.learner.feed(0, [chosen.astype(np.int64)]) as feed:
                self._batch = next(iter(feed))
        return self._batch

    def last_losses(self) -> dict[str, float]:
        """Return the mean loss and its parts over the last epoch."""
        names = [key for key in ("loss", "cls", "visible", "masked") if self._now and key in self._now[-1]]
        found = {}
        for key in names:
            values = [one[key] for one in self._now if one.get(key) is not None]
            if values:
                found[key] = float(np.mean(values))
        return found

    def after_lines(self) -> None:
        if self._now[-1]["epoch"] < self.epochs:  # the last page comes with the weights
            write_page(self.folder)

    def finish(self) -> None:
        """Write what is left, and the page."""
        if self._board is not None:
            self._board.close()
        write_page(self.folder)
