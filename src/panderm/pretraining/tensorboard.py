"""The journal's numbers as TensorBoard shows them; needs ``pip install 'panderm[tensorboard]'``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from panderm.errors import UsageError

_TITLES = {
    "loss": "loss/all",
    "cls": "loss/class token",
    "visible": "loss/visible",
    "masked": "loss/masked",
    "rate": "optimiser/rate",
    "norm": "optimiser/gradient norm",
    "seconds": "speed/seconds a step",
}


class TensorBoard:
    """A folder of event files.

    Args:
        folder: to write into, the run's ``tensorboard/``.
        resume_at: the first step that comes: what an interrupted run wrote beyond it is no longer shown.

    Raises:
        UsageError: TensorBoard is not installed.

    Example:
        >>> with TensorBoard("run/tensorboard") as board:  # doctest: +SKIP
        ...     board.step({"step": 1, "loss": 0.9})
    """

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
        for name, title in _TITLES.items():
            if line.get(name) is not None:
                self._writer.add_scalar(title, float(line[name]), int(line["step"]))
        if line.get("weight") and line.get("seconds"):
            pace = float(line["weight"]) / float(line["seconds"])
            self._writer.add_scalar("speed/images per second", pace, int(line["step"]))

    def epoch(self, line: Mapping[str, Any], *, step: int) -> None:
        """Write the probe's scores, the spread and the alarms of a journal line of an epoch."""
        for kind in ("knn", "linear"):
            for name, score in ((line.get("probe") or {}).get(kind) or {}).get("scores", {}).items():
                for end in ("value", "low", "high"):
                    if score.get(end) is not None:
                        self._writer.add_scalar(f"probe {kind}/{name}/{end}", score[end], step)
        for name, value in (line.get("spread") or {}).items():
            if name not in ("n", "dim"):
                self._writer.add_scalar(f"spread/{name}", float(value), step)
        for sentence in line.get("alarms") or ():
            self._writer.add_text("alarms", sentence, step)

    def picture(self, path: Path | str, *, step: int) -> None:
        """Show a picture of the run's."""
        from PIL import Image

        with Image.open(path) as image:
            self._writer.add_image("masks", np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
