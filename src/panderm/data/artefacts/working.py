"""The one size at which every artefact is looked for, and what all detectors share of an image."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from panderm.errors import DataError

Image8 = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Plane = npt.NDArray[np.float32]

SIDE = 256
"""Pixels of the short side at which images are looked at: a picture, larger or smaller, gives the same."""

_LONGEST = 8  # times the short side: what is longer is a strip, and only its beginning is looked at
_DARK = 0.35  # of the picture's brightness: what is darker, and touches the border, is no skin but a frame
_BLACK = 12.0  # L* below which a border pixel is black however dark the picture


@dataclass(frozen=True)
class Working:
    """An image at the working size, short side ``SIDE``.

    Attributes:
        rgb: uint8 (h, w, 3).
        lab: float32 (h, w, 3): CIELAB, D65; L* from 0 to 100.
        frame: bool (h, w): dark, and connected to the border: black corners, frames, the end of the tube.
        lesion: bool (h, w): darker or redder than the skin around it; a rough guess, for exclusion only.
        skin: float32 (3,): median L*, a*, b* outside frame and lesion.
        enlarged: how many times the image had to be enlarged; 1 where it was large enough.
    """

    rgb: Image8
    lab: Plane
    frame: Mask
    lesion: Mask
    skin: Plane
    enlarged: float

    @property
    def lightness(self) -> Plane:
        """L*, float32 (h, w), 0 to 100."""
        return self.lab[:, :, 0]


def prepare(rgb: Image8, *, lesion: Mask | None = None) -> Working:
    """Bring an image to the working size, and find its frame and, roughly, its lesion.

    Args:
        rgb: uint8 (H, W, 3), RGB.
        lesion: bool (H, W), where the lesion is, if that is known.

    Raises:
        DataError: another shape or type, or a mask of another size.
    """
    image = np.asarray(rgb)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise DataError("the image must be RGB, uint8 (H, W, 3).", f"found {image.shape} of {image.dtype}")
    if lesion is not None and np.shape(lesion) != image.shape[:2]:
        raise DataError(
            "a mask must be as large as its image.",
            f"the image is {image.shape[1]} × {image.shape[0]}, the mask {np.shape(lesion)[::-1]}",
        )
    longest = _LONGEST * min(image.shape[:2])
    image = image[:longest, :longest]
    lesion = None if lesion is None else lesion[:longest, :longest]
    scale = SIDE / min(image.shape[:2])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = np.asarray(cv2.resize(image, size, interpolation=way), dtype=np.uint8)
    lab = to_lab(small)
    frame = _frame(lab[:, :, 0])
    if lesion is None:
        inside = _guess_lesion(lab, frame)
    else:
        inside = cv2.resize(lesion.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
    outside = ~frame & ~inside
    if outside.mean() < 0.05:
        outside = ~frame if frame.mean() < 0.95 else np.ones_like(frame)
    return Working(small, lab, frame, inside, median_colour(lab, outside), max(1.0, scale))


def to_lab(rgb: Image8) -> Plane:
    """Return CIELAB of sRGB pixels, D65, float32 (h, w, 3); L* from 0 to 100."""
    scaled: Plane = rgb.astype(np.float32) / np.float32(255)
    return np.asarray(cv2.cvtColor(scaled, cv2.COLOR_RGB2Lab), dtype=np.float32)


def median_colour(lab: Plane, where: Mask) -> Plane:
    """Return the median L*, a*, b* of some pixels, float32 (3,); of one in four, which is as good."""
    some = lab[::2, ::2][where[::2, ::2]]
    return np.median(some if len(some) else lab[where], axis=0).astype(np.float32)


def _frame(lightness: Plane) -> Mask:
    soft = cv2.blur(lightness, (3, 3))
    height, width = soft.shape
    centre = soft[height // 4 : -(height // 4), width // 4 : -(width // 4)]
    dark = soft < max(_BLACK, _DARK * float(np.percentile(centre, 75)))
    count, labels = cv2.connectedComponents(dark.astype(np.uint8), connectivity=4)
    rim = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    touches = np.zeros(count, dtype=bool)
    touches[rim] = True
    touches[0] = False
    found: Mask = touches[labels]
    return found


def _guess_lesion(lab: Plane, frame: Mask) -> Mask:
    """Otsu's threshold on the distance in colour from the median of the border ring, outside the frame."""
    height, width = frame.shape
    soft = cv2.GaussianBlur(lab, (0, 0), 3)
    ring = np.ones_like(frame)
    ring[height // 6 : -(height // 6), width // 6 : -(width // 6)] = False
    ring &= ~frame
    if ring.sum() < 50:
        return np.zeros_like(frame)
    skin = np.median(soft[ring], axis=0)
    # Darker or redder counts, lighter does not: glare is no lesion.
    away = np.maximum(skin[0] - soft[:, :, 0], 0) + 0.5 * np.maximum(soft[:, :, 1] - skin[1], 0)
    away[frame] = 0
    scaled = np.clip(away * 4, 0, 255).astype(np.uint8)
    level, _ = cv2.threshold(scaled[~frame].reshape(-1, 1), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    inside = (scaled > max(level, 16.0)).astype(np.uint8)
    grown = cv2.dilate(inside, np.ones((9, 9), np.uint8))
    guess: Mask = grown.astype(bool) & ~frame
    return guess


def inside_of(frame: Mask, away: int, *, border: int = 4) -> Mask:
    """Return the pixels at least ``away // 2`` from the frame and ``border`` from the edge, bool (h, w)."""
    usable: Mask = ~cv2.dilate(frame.astype(np.uint8), np.ones((away, away), np.uint8)).astype(bool)
    if border:
        usable[:border] = usable[-border:] = False
        usable[:, :border] = usable[:, -border:] = False
    return usable
