"""What masks are asked of, opened by its name: a segmenter, or what stands behind a prefix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from panderm.errors import UsageError
from panderm.models.precision import PrecisionChoice
from panderm.segmenting.predicting.answers import Answers, Image8, Probability, PromptedAnswers
from panderm.segmenting.segmenter import Segmenter, load_segmenter
from panderm.storage import sha256_of_file

Anything = Answers | PromptedAnswers


class OfSegmenter:
    """A segmenter's answers."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self.name, self.size, self.threshold = segmenter.name, segmenter.size, segmenter.threshold
        self.notes: tuple[str, ...] = ()
        self._sha256 = sha256_of_file(segmenter.path)

    def told(self) -> dict[str, Any]:
        """Return its file, the file's hash, precision and kind of device."""
        return {
            "source": str(self._segmenter.path.resolve()),
            "sha256": self._sha256,
            "size": self.size,
            "precision": self._segmenter.precision,
            "device": self._segmenter.device.type,
        }

    def pixels_of(self, rgb: Image8) -> Image8:
        """Return an image as the square that the segmenter sees."""
        return self._segmenter.pixels_of(rgb)

    def probabilities(self, rgb: Image8) -> Probability:
        """Return P(lesion), float32 (B, S, S)."""
        return np.asarray(self._segmenter.probabilities(rgb), dtype=np.float32)


def open_answers(
    model: Path | str | Segmenter | Anything, *, precision: PrecisionChoice = "fp32", device: str = "auto"
) -> Anything:
    """Open what masks are asked of.

    Args:
        model: a segmenter's file, the folder of its run, a checkpoint of the published segmentation code; or
            what is open already.
        precision: as of :func:`panderm.load_segmenter`.
        device: likewise.

    Raises:
        WeightsError: a segmenter that is not there, or not whole.
        UsageError: something else.
    """
    if isinstance(model, Segmenter):
        return OfSegmenter(model)
    if not isinstance(model, Path | str):
        if isinstance(model, Answers | PromptedAnswers):
            return model
        raise UsageError("masks must be asked of a segmenter.", f"found {type(model).__name__}")
    return OfSegmenter(load_segmenter(model, precision=precision, device=device))
