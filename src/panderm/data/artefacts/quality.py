"""What the picture as a whole is like: dark corners, blur, contrast, and how much of it is skin."""

from __future__ import annotations

import cv2
import numpy as np

from panderm.data.artefacts.working import Working, inside_of

_CORNER = 4  # pixels
_GREEN, _BLUE = 15.0, 30.0  # a* and b* below that of skin in the same shade
_FAR = 25.0  # colour distance from the skin at which a pixel is no skin, outside the lesion


def dark_corners(working: Working) -> float:
    """Return the share of the picture, 0 to 1, that is dark and connected to a corner."""
    _, labels = cv2.connectedComponents(working.frame.astype(np.uint8), connectivity=4)
    held = np.zeros(int(labels.max()) + 1, dtype=bool)
    for rows in (slice(0, _CORNER), slice(-_CORNER, None)):
        for columns in (slice(0, _CORNER), slice(-_CORNER, None)):
            held[np.unique(labels[rows, columns])] = True
    held[0] = False
    return float(held[labels].mean())


def blur(working: Working) -> float:
    """Return how many times the coarse edges are stronger than the fine ones; a sharp picture has about 1.5.

    99th percentiles of the detail between 1.4 and 2 pixels and of that between 0.7 and 1 pixel: contrast
    takes both alike. An image whose short side is below the working size has no finer detail to lose, and
    is soft by this measure.
    """
    light = working.lightness
    scales = [cv2.GaussianBlur(light, (0, 0), sigma) for sigma in (0.7, 1.0, 1.4, 2.0)]
    usable = inside_of(working.frame, 9)
    if not usable.any():
        usable = np.ones_like(usable)
    fine = float(np.percentile(np.abs(scales[0] - scales[1])[usable], 99))
    coarse = float(np.percentile(np.abs(scales[2] - scales[3])[usable], 99))
    return min(coarse / max(fine, 0.02), 10.0)


def contrast(working: Working) -> float:
    """Return how far the lesion's colour lies from the skin's, in ΔE*ab (CIE 1976).

    The distance that 2 % of the middle of the picture exceed, after smoothing over 3 pixels.
    """
    soft = cv2.GaussianBlur(working.lab, (0, 0), 3)
    distance = np.sqrt(((soft - working.skin) ** 2).sum(axis=2))
    height, width = working.frame.shape
    middle = inside_of(working.frame, 9, border=0)
    middle[: height // 8], middle[-(height // 8) :] = False, False
    middle[:, : width // 8], middle[:, -(width // 8) :] = False, False
    return float(np.percentile(distance[middle], 98)) if middle.any() else 0.0


def non_skin(working: Working) -> float:
    """Return the share of the picture, 0 to 1, whose colour is not this skin's and that is not the lesion.

    Dark borders count; a* and b* count fully, L* half, since skin is lit unevenly. Of what is taken for the
    lesion, green and blue count, which no pigment and no vessel is. Black and brown cloth passes for a
    lesion.
    """
    soft = cv2.GaussianBlur(working.lab, (0, 0), 2)
    skin = working.skin
    away = (soft - skin) * np.array([0.5, 1, 1], np.float32)
    far = np.sqrt((away**2).sum(axis=2)) > _FAR
    shade = np.clip(soft[:, :, 0] / max(float(skin[0]), 1.0), 0.2, 1.1)
    dyed = (soft[:, :, 1] - skin[1] * shade < -_GREEN) | (soft[:, :, 2] - skin[2] * shade < -_BLUE)
    return float((far & (~working.lesion | dyed) | working.frame).mean())
