"""Two masks as contours on their image: the truth in one line, what was predicted broken in another."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from panderm.errors import DataError

Image8 = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

TRUTH = (0, 255, 255)
PREDICTED = (255, 150, 0)
_DASH = 6  # pixels of a dash, and of the gap behind it


def contours(rgb: Image8, truth: Mask, predicted: Mask, *, side: int | None = None) -> Image8:
    """Draw the outlines of two masks on their image: the truth cyan, what was predicted orange and broken.

    Each line has a dark rim, so that it is seen on any skin; a broken line is told from a whole one without
    its colour.

    Args:
        rgb: uint8 (H, W, 3).
        truth: bool (h, w), of the image's shape but for rounding; scaled to it without smoothing.
        predicted: likewise.
        side: scale the image to at most so many pixels before lines are drawn, so that they stay as wide.

    Returns:
        uint8, of the image's shape or scaled.

    Raises:
        DataError: not an RGB image, or not two masks of one shape.

    Example:
        >>> picture = contours(rgb, truth, predicted, side=192)  # doctest: +SKIP
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
        raise DataError("the image must be RGB, uint8 (H, W, 3).", f"found {rgb.shape} of {rgb.dtype}")
    if truth.shape != predicted.shape or truth.ndim != 2 or truth.dtype != bool or predicted.dtype != bool:
        raise DataError(
            "masks must be bool (h, w), of one shape.",
            f"found {truth.dtype} {truth.shape} and {predicted.dtype} {predicted.shape}",
        )
    by = 1.0 if side is None else min(1.0, side / max(rgb.shape[:2]))
    size = (max(1, round(rgb.shape[1] * by)), max(1, round(rgb.shape[0] * by)))
    laid = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    laid = np.ascontiguousarray(laid)
    lines = []
    for mask, colour, dash in ((truth, TRUTH, 0), (predicted, PREDICTED, _DASH)):
        small = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        found, _ = cv2.findContours(small, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        lines += [(piece, colour, not dash) for line in found for piece in _pieces(line[:, 0], dash)]
    for piece, _, closed in lines:  # every rim lies under every line
        cv2.polylines(laid, [piece], closed, (0, 0, 0), 3, cv2.LINE_AA)
    for piece, colour, closed in lines:
        cv2.polylines(laid, [piece], closed, colour, 2)
    return np.asarray(laid, dtype=np.uint8)


def _pieces(line: npt.NDArray[Any], dash: int) -> list[npt.NDArray[Any]]:
    """Return a closed line whole, or as dashes."""
    if not dash or len(line) <= 2 * dash:
        return [line]
    return [line[start : start + dash + 1] for start in range(0, len(line), 2 * dash)]
