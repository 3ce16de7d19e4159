"""What a segmenter will see, as one picture: images with their outlines, as scored, and augmented."""

from __future__ import annotations

from pathlib import Path

from panderm.segmenting.learning.pairs import Pairs
from panderm.segmenting.learning.views import MaskViews

SHEET_NAME = "sample-sheet.png"
IMAGES, VIEWS = 8, 5


def draw_sheet(
    path: Path | str, pairs: Pairs, views: MaskViews, *, seed: int = 0, images: int = IMAGES
) -> Path | None:
    """Write a picture of some training images as the network will see them, each with its mask's outline.

    Args:
        path: of the PNG; replaced where it exists.
        pairs: what is learned from.
        views: how it is augmented.
        seed: of the run.
        images: how many, at most.

    Returns:
        The path; None where not one pair can be read.
    """
    raise NotImplementedError
