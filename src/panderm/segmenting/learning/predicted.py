"""Masks of a run's own rows, made as a user would make them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from panderm.data.images import read_image
from panderm.segmenting.predicting.native import at_native
from panderm.segmenting.predicting.packed import PackedMask
from panderm.segmenting.predicting.regions import Tidying, tidied
from panderm.segmenting.segmenter import Segmenter
from panderm.storage import new_file


def predicted_masks(
    segmenter: Segmenter,
    files: Sequence[Path],
    folder: Path,
    *,
    largest: bool,
    fill_holes: bool,
    max_megapixels: float,
    progress: bool,
) -> list[Path]:
    """Write the mask of each image, and return their files in the images' order."""
    made = []
    for file in files:
        rgb = read_image(file, max_megapixels=max_megapixels)
        probability = segmenter.probabilities(segmenter.pixels_of(rgb)[None])[0]
        mask = at_native(np.asarray(probability), *rgb.shape[:2]) >= segmenter.threshold
        mask = tidied(PackedMask.of(mask), Tidying(largest=largest, fill_holes=fill_holes))[0].whole()
        path = folder / "masks" / f"{file.stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path, overwrite=True) as temporary:
            Image.fromarray(np.asarray(mask, dtype=np.uint8) * np.uint8(255)).save(temporary, "PNG")
        made.append(path)
    return made
