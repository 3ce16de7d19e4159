"""``card.json`` of a segmentation run: what it begins from, what it learns, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from panderm.training.long import card as long
from panderm.training.long.card import LongRunCard
from panderm.training.long.choosing import BEST_FOLDER

NAME, LAST_NAME = "segmenter.safetensors", "last.safetensors"
SCORES_NAME, VAL_SCORES_NAME, PAGE_NAME = "scores.json", "val_scores.json", "report.html"


class SegmentationRunCard(LongRunCard):
    """What a segmentation run is."""

    kind: Literal["segmentation"] = "segmentation"
    format: Literal[1] = 1
    recipe: str
    rows: dict[str, Any]
    encoder: dict[str, Any] | None
    network: dict[str, Any]
    recipe_settings: dict[str, Any]
    views: dict[str, Any]
    selection: dict[str, Any]

    def decided(self) -> dict[str, Any]:
        """Return what a run that goes on must have in common with its beginning, besides its plan."""
        kept = ("name", "weights_sha256", "image_size", "preprocess")
        return {
            "rows": self.rows,
            "encoder": None if self.encoder is None else {key: self.encoder[key] for key in kept},
            "network": self.network,
            "settings": self.recipe_settings,
            "views": self.views,
            "selection": self.selection,
        }


def held_run(folder: Path, *, overwrite: bool) -> SegmentationRunCard | None:
    """Return the card of the run a folder holds, see :func:`panderm.training.long.card.held_run`."""
    return long.held_run(folder, SegmentationRunCard, overwrite=overwrite)


def begin(folder: Path, card: SegmentationRunCard, held: SegmentationRunCard | None) -> None:
    """Make the folder of a run, or go on with it, see :func:`panderm.training.long.card.begin`."""
    long.begin(folder, card, held, fresh=(BEST_FOLDER,))
