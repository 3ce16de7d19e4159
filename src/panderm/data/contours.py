"""Masks as contours on their image: the truth in one line, what was predicted broken in others."""

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
# What several predicted: each in a colour and in dashes of its own.
_BROKEN = ((PREDICTED, _DASH), ((255, 90, 255), 3), ((120, 255, 60), 12))


def contours(rgb: Image8, truth: Mask, *predicted: Mask, side: int | None = None) -> Image8:
    """Draw the outlines of masks on their image: the truth cyan, what was predicted orange and broken.

    Each line has a dark rim, so that it is seen on any skin; a broken line is told from a whole one without
    its colour.

    Args:
        rgb: uint8 (H, W, 3).
        truth: bool (h, w), of the image's shape but for rounding; its outline is found, and then scaled.
        predicted: likewise; of several the second is magenta in short dashes, the third green in long ones.
        side: scale the image to at most so many pixels before lines are drawn, so that they stay as wide.

    Returns:
        uint8, of the image's shape or scaled.

    Raises:
        DataError: not an RGB image, not masks of one shape, or more than three that were predicted.

    Example:
        >>> picture = contours(rgb, truth, predicted, side=192)  # doctest: +SKIP
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
        raise DataError("the image must be RGB, uint8 (H, W, 3).", f"found {rgb.shape} of {rgb.dtype}")
    given = (truth, *predicted)
    if truth.ndim != 2 or any(mask.shape != truth.shape or mask.dtype != bool for mask in given):
        raise DataError(
            "masks must be bool (h, w), of one shape.",
            f"found {' and '.join(f'{mask.dtype} {mask.shape}' for mask in given)}",
        )
    if len(predicted) > len(_BROKEN):
        raise DataError(
            f"at most {len(_BROKEN)} predicted masks can be told apart.", f"found {len(predicted)}"
        )
    by = 1.0 if side is None else min(1.0, side / max(rgb.shape[:2]))
    size = (max(1, round(rgb.shape[1] * by)), max(1, round(rgb.shape[0] * by)))
    laid = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    laid = np.ascontiguousarray(laid)
    lines = []
    drawn = ((TRUTH, 0), *_BROKEN)
    for mask, (colour, dash) in zip(given, drawn, strict=False):
        found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        by_side = np.array([size[0] / mask.shape[1], size[1] / mask.shape[0]])
        placed = [_scaled(line[:, 0], by_side) for line in found]
        lines += [(piece, colour, not dash) for line in placed for piece in _pieces(line, dash)]
    for piece, _, closed in lines:  # every rim lies under every line
        cv2.polylines(laid, [piece], closed, (0, 0, 0), 3, cv2.LINE_AA)
    for piece, colour, closed in lines:
        cv2.polylines(laid, [piece], closed, colour, 2)
    return np.asarray(laid, dtype=np.uint8)


def _scaled(line: npt.NDArray[Any], by: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """Return a line's points on the picture, each once where several of the mask fall on it in turn."""
    points = np.floor((line + 0.5) * by).astype(np.int32)
    fresh = np.ones(len(points), dtype=bool)
    fresh[1:] = (np.diff(points, axis=0) != 0).any(axis=1)
    return np.ascontiguousarray(points[fresh])


def _pieces(line: npt.NDArray[Any], dash: int) -> list[npt.NDArray[Any]]:
    """Return a closed line whole, or as dashes."""
    if not dash or len(line) <= 2 * dash:
        return [line]
    return [line[start : start + dash + 1] for start in range(0, len(line), 2 * dash)]
