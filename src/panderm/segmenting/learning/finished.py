"""How a run ends: the best weights as a segmenter, masks and scores, and the page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from panderm.scores.masks import MaskScores
from panderm.training.long.card import LongRunCard

NAME, LAST_NAME = "segmenter.safetensors", "last.safetensors"
SCORES_NAME, PAGE_NAME = "scores.json", "report.html"


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        folder: of the run.
        card: what it was.
        now: whether anything was learned by this call.
    """

    folder: Path
    card: LongRunCard
    now: bool = True

    @property
    def segmenter(self) -> Path:
        """The file of the best weights, which :func:`panderm.load_segmenter` opens."""
        return self.folder / NAME

    @property
    def last(self) -> Path:
        """The file of the weights after the last epoch."""
        return self.folder / LAST_NAME

    @property
    def masks_folder(self) -> Path:
        """Masks of the test rows at native size, or of the validation rows where there are none."""
        raise NotImplementedError

    @property
    def scores(self) -> MaskScores:
        """Scores of these masks."""
        return MaskScores.open(self.folder / SCORES_NAME)

    @property
    def report(self) -> Path:
        """The page."""
        return self.folder / PAGE_NAME

    def in_words(self) -> list[str]:
        """Return what came of it, a line each."""
        raise NotImplementedError
