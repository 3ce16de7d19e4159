"""The journal's numbers as TensorBoard shows them; needs ``pip install 'panderm[tensorboard]'``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np

from panderm.errors import UsageError


class TensorBoard:
    """A folder of event files of a long run.

    Args:
        folder: to write into, the run's ``tensorboard/``.
        resume_at: the first step that comes: what an interrupted run wrote beyond it is no longer shown.

    Attributes:
        titles: by name of a number in a step's journal line, what it is called.

    Raises:
        UsageError: TensorBoard is not installed.

    Example:
        >>> with TensorBoard("run/tensorboard") as board:  # doctest: +SKIP
        ...     board.step({"step": 1, "loss": 0.9})
    """

    titles: ClassVar[Mapping[str, str]] = {
        "loss": "loss/all",
        "rate": "optimiser/rate",
        "norm": "optimiser/gradient norm",
        "seconds": "speed/seconds a step",
    }

    def __init__(self, folder: Path | str, *, resume_at: int | None = None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UsageError(
                "TensorBoard must be installed to write its files.",
                f"found none ({error})",
                "pip install 'panderm[tensorboard]', or leave it out: journal.jsonl holds the same numbers",
            ) from error
        self._writer: Any = SummaryWriter(str(folder), purge_step=resume_at)

    def step(self, line: Mapping[str, Any]) -> None:
        """Write the numbers of a journal line of a step."""
        for name, title in self.titles.items():
            if line.get(name) is not None:
                self._writer.add_scalar(title, float(line[name]), int(line["step"]))
        if line.get("weight") and line.get("seconds"):
            pace = float(line["weight"]) / float(line["seconds"])
            self._writer.add_scalar("speed/images per second", pace, int(line["step"]))

    def scores(self, title: str, scores: Mapping[str, Mapping[str, Any]], *, step: int) -> None:
        """Write scores by name, each with the ends of its interval where there are any."""
        for name, score in scores.items():
            for end in ("value", "low", "high"):
                if score.get(end) is not None:
                    self._writer.add_scalar(f"{title}/{name}/{end}", score[end], step)

    def number(self, title: str, value: float, *, step: int) -> None:
        """Write one number."""
        self._writer.add_scalar(title, float(value), step)

    def picture(self, path: Path | str, *, step: int, title: str = "masks") -> None:
        """Show a picture of the run's."""
        from PIL import Image

        with Image.open(path) as image:
            self._writer.add_image(title, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
