"""The part of an image around a lesion, in CIELAB, at a size at which colours are looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from panderm.lesions.region import Mask, Region

Image8 = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]

_ACROSS = 144.0  # pixels of the equivalent diameter at most: finer than that is grain
_MARGIN = 0.4  # of the equivalent diameter that is kept around the lesion
_NEAR, _FAR = 0.05, 0.35  # of the equivalent diameter: from where to where skin is taken
_FRAME = 0.35  # of the brightness of the surroundings: what is darker is a frame or a corner, no skin
_BLACK = 12.0  # L* below which nothing is skin
_FEWEST = 100  # pixels of skin


@dataclass(frozen=True)
class Patch:
    """A lesion and its surroundings.

    Attributes:
        rgb: float32 (h, w, 3), sRGB from 0 to 1.
        lab: float32 (h, w, 3): CIELAB, D65; L* from 0 to 100.
        inside: bool (h, w), the lesion, holes of its mask left open.
        away: float32 (h, w), distance in pixels from the lesion's border, negative inside.
        equivalent: the lesion's equivalent diameter in pixels of this patch.
        skin: float32 (3,), the median sRGB of the skin around, None where too little of it is in the image.
    """

    rgb: Plane
    lab: Plane
    inside: Mask
    away: Plane
    equivalent: float
    skin: Plane | None

    @property
    def skin_lab(self) -> Plane | None:
        """CIELAB of the skin, float32 (3,)."""
        return None if self.skin is None else to_lab(self.skin[None, None])[0, 0]


def patch_of(rgb: Image8, region: Region) -> Patch:
    """Cut a lesion and its surroundings out of its image.

    Skin is what lies 5 to 35 % of the equivalent diameter beyond the border, without what is black or much
    darker than the rest: corners and frames.

    Args:
        rgb: uint8 (H, W, 3), the image that the region's mask is of.
        region: the lesion.
    """
    equivalent = 2 * math.sqrt(float(np.count_nonzero(region.inside)) / math.pi)
    margin = math.ceil(_MARGIN * equivalent) + 2
    height, width = region.inside.shape
    top, left = max(0, region.y - margin), max(0, region.x - margin)
    bottom = min(rgb.shape[0], region.y + height + margin)
    right = min(rgb.shape[1], region.x + width + margin)
    part = rgb[top:bottom, left:right]
    full, given = (_laid(m, region, (top, left), part.shape[:2]) for m in (region.inside, region.given))
    by = min(1.0, _ACROSS / equivalent)
    if by < 1:
        size = (max(1, round(part.shape[1] * by)), max(1, round(part.shape[0] * by)))
        part = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        full, given = (_smaller(m, size) for m in (full, given))
    scaled = part.astype(np.float32) / np.float32(255)
    lab = to_lab(scaled)
    away = _away(full)
    equivalent *= by
    return Patch(scaled, lab, given, away, equivalent, _skin(scaled, lab[:, :, 0], away, equivalent))


def to_lab(rgb: Plane) -> Plane:
    """Return CIELAB (D65, L* from 0 to 100) of sRGB from 0 to 1, float32 (h, w, 3)."""
    return np.asarray(cv2.cvtColor(rgb.astype(np.float32), cv2.COLOR_RGB2Lab), dtype=np.float32)


def _laid(mask: Mask, region: Region, at: tuple[int, int], shape: tuple[int, ...]) -> Mask:
    """Return a region's mask in the frame of a part of its image."""
    laid = np.zeros(shape[:2], dtype=bool)
    # The outermost rows and columns of a region are outside it, and may be outside the image.
    held = mask[1:-1, 1:-1]
    y, x = region.y + 1 - at[0], region.x + 1 - at[1]
    laid[y : y + held.shape[0], x : x + held.shape[1]] = held
    return laid


def _smaller(mask: Mask, size: tuple[int, int]) -> Mask:
    small: Mask = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) >= 0.5
    return small


def _away(full: Mask) -> Plane:
    outside = cv2.distanceTransform((~full).astype(np.uint8), cv2.DIST_L2, 5)
    within = cv2.distanceTransform(np.pad(full, 1, mode="edge").astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    # Centres of pixels lie half a pixel from the border between them.
    return np.where(full, 0.5 - within, outside - 0.5).astype(np.float32)


def _skin(rgb: Plane, lightness: Plane, away: Plane, equivalent: float) -> Plane | None:
    around = (away > max(2.0, _NEAR * equivalent)) & (away < max(6.0, _FAR * equivalent))
    if not around.any():
        return None
    bright = float(np.percentile(lightness[around], 75))
    around &= lightness > max(_BLACK, _FRAME * bright)
    if np.count_nonzero(around) < _FEWEST:
        return None
    return np.median(rgb[around], axis=0).astype(np.float32)
