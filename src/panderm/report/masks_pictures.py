"""Images under the outlines of their masks, as small pictures: the true one and what was predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from panderm.data.contours import contours
from panderm.data.images import ImageError, read_image
from panderm.data.masks import name_of_image, read_mask
from panderm.data.stored import MAX_MEGAPIXELS
from panderm.errors import TableError, some
from panderm.predictions.masks import MaskPredictions
from panderm.report.mistakes.pictures import Picture, thumbnail

SIDE = 288  # pixels: an outline that is a pixel wide at 192 hides what it is beside
_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")

Images = Mapping[str, Path] | Path | str | None


def images_of(images: Images, masks: MaskPredictions) -> Mapping[str, Path]:
    """Return the file of each image, by the name under which its masks met.

    Args:
        images: a folder that has them by these names, their files by name, or None for no image.
        masks: whose images are wanted.

    Raises:
        TableError: no such folder, or none of the images in it.
    """
    if images is None:
        return {}
    return images_in(images, masks) if isinstance(images, Path | str) else images


def images_in(folder: Path | str, masks: MaskPredictions) -> dict[str, Path]:
    """Return the file of each image that a folder has, by the name under which its masks met.

    Raises:
        TableError: no such folder, or none of the images in it.
    """
    source = Path(folder)
    there = sorted(source.iterdir()) if source.is_dir() else []
    wanted = {str(name) for name in masks.image}
    found = {
        name_of_image(file.name): file
        for file in there
        if file.suffix.lower() in _SUFFIXES and name_of_image(file.name) in wanted
    }
    if not found:
        raise TableError(
            "--images must be a folder that holds the images of the masks.",
            f"{source}: {'none of ' + some(sorted(wanted), 3) if source.is_dir() else 'no such folder'}",
            "images are found by their names: ISIC_0027419.jpg of ISIC_0027419_segmentation.png",
        )
    return found


def outlined(
    several: Sequence[MaskPredictions],
    row: int,
    files: Mapping[str, Path],
    *,
    side: int = SIDE,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> Picture:
    """Return an image under the true outline and those that one or several predictors drew.

    Args:
        several: masks of the same images in the same order, at most three.
        row: which image.
        files: of images by name; a grey ground stands for one that is not there.
        side: of the picture, pixels.
        max_megapixels: larger files are refused.
    """
    masks = several[0]
    try:
        truth = read_mask(masks.truth[row], max_megapixels=max_megapixels)
        found = [read_mask(one.predicted[row], max_megapixels=max_megapixels) for one in several]
        file = files.get(str(masks.image[row]))
        rgb = np.full((*truth.shape, 3), 90, dtype=np.uint8)
        if file is not None:
            rgb = read_image(file, max_megapixels=max_megapixels)
    except ImageError as error:
        return Picture(None, error.reason)
    own, theirs = rgb.shape[1] / rgb.shape[0], truth.shape[1] / truth.shape[0]
    if abs(own / theirs - 1) > 0.02:  # but for rounding
        return Picture(None, f"the image is {rgb.shape[1]} × {rgb.shape[0]}, its mask another shape")
    return Picture(thumbnail(contours(rgb, truth, *found, side=side), side, quality=85))
