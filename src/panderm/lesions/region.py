"""The region of a mask that is measured: which pieces, holes filled, and whether the image's edge cuts it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from panderm.errors import DataError

Mask = npt.NDArray[np.bool_]
Which = Literal["largest", "all"]


@dataclass(frozen=True)
class Region:
    """What is measured of one mask, cut out with a margin of one pixel or more.

    Attributes:
        inside: bool (h, w), holes filled; its outermost rows and columns are outside.
        given: bool (h, w), the same pieces as the mask has them, holes left open.
        x: column of the image at which the cut-out begins; -1 where the lesion touches the left edge.
        y: row likewise.
        pieces: how many pieces the mask has, pixels that touch at a corner being of one.
        share: of the mask's pixels, how many are in the pieces measured, in (0, 1].
        touches_edge: whether the region touches the edge of the image.
    """

    inside: Mask
    given: Mask
    x: int
    y: int
    pieces: int
    share: float
    touches_edge: bool


def region_of(mask: Mask, pieces: Which = "largest") -> Region | None:
    """Return the region of a mask that is measured, None where the mask is empty.

    Args:
        mask: bool (H, W).
        pieces: "largest": the piece of most pixels alone, pieces of as many the one further up; "all": all of
            them as one lesion, so that the diameter reaches from one to another.

    Raises:
        DataError: not a mask.
    """
    if mask.ndim != 2 or mask.dtype != np.bool_ or not mask.size:
        raise DataError("a mask must be bool (H, W).", f"found {mask.dtype} {mask.shape}")
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    y, x = int(rows[0]), int(columns[0])
    part = mask[y : rows[-1] + 1, x : columns[-1] + 1]
    count, labels, stats, _ = cv2.connectedComponentsWithStats(part.astype(np.uint8), connectivity=8)
    area = stats[1:, cv2.CC_STAT_AREA]
    if pieces == "largest":
        chosen = int(area.argmax()) + 1
        left, top, width, height = (int(v) for v in stats[chosen, :4])
        kept = labels[top : top + height, left : left + width] == chosen
    else:
        left, top, (height, width), kept = 0, 0, part.shape, part
    given = np.pad(kept, 1)
    left, top = left + x, top + y
    edge = left == 0 or top == 0 or left + width == mask.shape[1] or top + height == mask.shape[0]
    share = float(given.sum()) / float(area.sum())
    return Region(filled(given), given, left - 1, top - 1, count - 1, share, edge)


def filled(mask: Mask) -> Mask:
    """Return a mask with its holes filled: what the outside cannot reach over edges of pixels is inside.

    Args:
        mask: bool (h, w), its outermost rows and columns False.
    """
    count, labels = cv2.connectedComponents((~mask).astype(np.uint8), connectivity=4)
    if count <= 2:
        return mask
    full: Mask = labels != labels[0, 0]
    return full
