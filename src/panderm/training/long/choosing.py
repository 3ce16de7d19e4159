"""What chooses among epochs: validation rows are scored after each, the best weights kept, curves drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from panderm.training.long.checkpoint import last_checkpoint
from panderm.training.long.journal import JOURNAL_NAME, read_journal
from panderm.training.long.learner import Watch
from panderm.training.long.selection import Selection
from panderm.training.long.tensorboard import TensorBoard

BEST_FOLDER = "best"


class Choosing(Watch):
    """Scores the validation rows after each epoch, and keeps the best weights, whatever is learned.

    With a moving average it is the average that is scored, chosen and kept; the weights as they are, are
    scored beside it. What the scores are of, and how weights are written, others say.

    Args:
        folder: of the run.
        selection: how the validation rows choose.
        board: write TensorBoard's files.
    """

    def __init__(self, folder: Path, selection: Selection, *, board: bool = False) -> None:
        self.folder, self.selection = folder, selection
        self._board_wanted = board
        self._board: TensorBoard | None = None
        self._steps: dict[int, int] = {}  # by epoch, the last step
        self._looks: list[dict[str, Any]] = []  # of the epoch that has just ended

    def look(self, model: nn.Module, rank: int, world: int) -> Any:
        """Return what one process's part of the validation rows says of a network, JSON-able."""
        raise NotImplementedError

    def score(self, shares: Sequence[Any]) -> dict[str, Any]:
        """Return the scores, of what all processes said of their parts, in their order, JSON-able.

        Returns:
            ``scores`` by name, each with ``value``, ``low``, ``high``, and what they rest on.
        """
        raise NotImplementedError

    def write(self, path: Path, model: nn.Module, epoch: int, *, self_test: bool) -> Path:
        """Write the weights of an epoch as a file that can be used, and return its path."""
        raise NotImplementedError

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
        return [self.look(one, rank, world) for one in looked_at]

    def shared(self, parts: Sequence[Any]) -> None:
        self._looks = [self.score(shares) for shares in zip(*parts, strict=True)]

    def after_epoch(self, epoch: int, model: nn.Module, averaged: nn.Module | None) -> list[dict[str, Any]]:
        kept = model if averaged is None else averaged
        names = ("val", "raw")  # the kept weights, and those as they are where others are kept
        line: dict[str, Any] = dict(zip(names, self._looks, strict=False))
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
