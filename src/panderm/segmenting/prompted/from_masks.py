"""Prompts from the masks of a first segmenter: the box around each lesion, with some room."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from panderm.data.columns import read_cells, read_column
from panderm.data.images import ImageError
from panderm.data.masks import masks_in, read_mask
from panderm.data.stored import MAX_MEGAPIXELS
from panderm.errors import TableError, UsageError, did_you_mean, plural
from panderm.progress import in_threads
from panderm.segmenting.prompted.prompts import Box, Prompt, Prompts

PAD = 0.1


def box_of_mask(mask: npt.NDArray[np.bool_], *, pad: float = PAD, where: str = "") -> Box | None:
    """Return the box around the largest connected part of a mask.

    Args:
        mask: (H, W) bool; parts are connected along edges and corners.
        pad: room on each side, as a share of the box's longer side; cut off at the image's edges.
        where: who asked for it, for messages.

    Returns:
        The box, its right and bottom edges behind the last pixel; None of an empty mask.
    """
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    if count < 2:
        return None
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    x, y, width, height = (int(one) for one in stats[largest, :4])
    room = pad * max(width, height)
    return Box(
        x0=max(0.0, x - room),
        y0=max(0.0, y - room),
        x1=min(float(mask.shape[1]), x + width + room),
        y1=min(float(mask.shape[0]), y + height + room),
        where=where,
    )


def prompts_of_masks(
    masks: Path | str,
    *,
    pad: float = PAD,
    whole_image: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
    progress: bool = True,
) -> Prompts:
    """Return a box for each image that a first segmenter found a lesion in.

    Args:
        masks: folder of masks, of the images' own sizes, named after them; or a CSV with the columns image
            and mask, paths relative to it, as ``panderm segment predict`` writes it.
        pad: room on each side of the box, as a share of its longer side.
        whole_image: where a mask is empty, or missing, the box around the whole image.
        max_megapixels: a mask of more millions of pixels is refused.
        progress: show progress on standard error.

    Raises:
        TableError: no masks, or masks that cannot be read.
        UsageError: a negative ``pad``.
    """
    if not 0 <= pad < 10:
        raise UsageError("--pad must be a share of the box's longer side: 0.1 is a tenth.", f"found {pad}")
    source = Path(masks)
    files = masks_in(source, "first") if source.is_dir() else _of_table(source)

    def look(file: Path) -> tuple[Box | None, tuple[int, int]] | str:
        try:
            mask = read_mask(file, max_megapixels=max_megapixels)
        except ImageError as error:
            return f"{error.path}: {error.reason}"
        return box_of_mask(mask, pad=pad, where=f"the box of {file.name}"), mask.shape

    looked = in_threads(look, list(files.values()), "reading masks", "masks", workers=4, shown=progress)
    found = dict(zip(files, looked, strict=True))
    if bad := [one for one in found.values() if isinstance(one, str)]:
        raise TableError(
            "the first masks must be readable, black and white.",
            [f"{len(bad):,} of {plural(len(found), 'mask')} are not:", *bad[:5]],
        )
    good = {name: one for name, one in found.items() if not isinstance(one, str)}
    return Prompts(
        {name: (Prompt(box),) for name, (box, _) in good.items() if box is not None},
        whole_image=whole_image,
        sizes={name: size for name, (_, size) in good.items()},
        source=source.name,
        reasons={name: "its first mask is empty" for name, (box, _) in good.items() if box is None},
    )


def _of_table(source: Path) -> Mapping[str, Path]:
    cells = read_cells(source)
    for column in ("image", "mask"):
        if column not in cells.columns:
            raise TableError(
                f"column {column!r} must exist{did_you_mean(column, list(cells.columns))}",
                f"{source.name} has: {', '.join(cells.columns)}",
                "name the folder of the masks, or the masks.csv of panderm segment predict",
            )
    images, masks = read_column(cells, "image"), read_column(cells, "mask")
    named = {str(image): source.parent / str(mask) for image, mask in zip(images, masks, strict=True) if mask}
    if not named:
        raise TableError("the first masks must be named.", f"{source.name} names none in its column mask")
    return named
