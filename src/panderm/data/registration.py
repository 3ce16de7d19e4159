"""Is this the same photograph, cropped, turned, mirrored or scaled? Two pictures laid over each other.

Points that can be told apart (SIFT, Lowe 2004) are matched by the ratio of their two nearest, and a
similarity (turn, scale, shift) that most of them agree on is found by RANSAC, for the second picture as it is
and for its mirror image. Then the finer picture is laid over the coarser, and what decides is how well their
fine structure correlates where they overlap. Two lesions of one outline have no pores, hairs and dots in
common; one photograph has, and so have two photographs of one lesion taken within seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

SIDE = 320
"""Longer side pictures are shrunk to, pixels."""
SMALL = 128
"""Side of the square that whole pictures are pressed into, pixels."""
POINTS = 400
RATIO = 0.8
"""Least distinct match: distance to the nearest point over that to the second nearest (Lowe 2004)."""
ERROR = 3.0
"""Pixels by which a match may miss the common similarity."""
HALF = 0.5
"""Pixels: OpenCV's points lie a quarter of one too far right, in a picture and in its mirror image."""
BLACK = 16
"""Brightness below which a pixel is taken for the frame of the lens, or of nothing: it is not compared."""

# A description is 4 × 4 places by 8 directions, turned to the point's own direction: in a mirror, places
# change sides across that direction, and directions their sign.
_MIRRORED = np.arange(128).reshape(4, 4, 8)[::-1, :, -np.arange(8) % 8].ravel()


@dataclass(frozen=True)
class Registration:
    """How the second of two pictures lies over the first.

    Attributes:
        correlation: of fine structure where they overlap, at most 1.
        overlap: share of the smaller picture that lies over the other, 0 to 1.
        points: matches that agree.
        scale: of the second to the first, both shrunk to :data:`SIDE`.
        turn: degrees, 0 to 360.
        mirrored: whether the second had to be mirrored.
    """

    correlation: float
    overlap: float
    points: int
    scale: float
    turn: float
    mirrored: bool


class Points:
    """What a picture is laid over others by, found when first asked for."""

    def __init__(self, rgb: npt.NDArray[np.uint8]) -> None:
        grey = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)
        share = SIDE / max(grey.shape)
        if share < 1:
            size = tuple(max(1, round(side * share)) for side in grey.shape[::-1])
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        self.grey: Grey = np.asarray(grey, dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.found[0])

    @cached_property
    def mirror(self) -> Points:
        """The mirror image's: the same points, for finding them anew costs as much as the first time."""
        other = object.__new__(Points)
        other.grey = np.ascontiguousarray(self.grey[:, ::-1])
        places, described = self.found
        across = (np.float32(self.grey.shape[1] - HALF) - places[:, 0], places[:, 1])
        other.found = np.stack(across, axis=1), np.ascontiguousarray(described[:, _MIRRORED])
        return other

    @cached_property
    def found(self) -> tuple[Floats, Floats]:
        """Places (n, 2) and descriptions (n, 128)."""
        return _points(self.grey)

    @cached_property
    def small(self) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Fine structure of the picture pressed into a small square, and where it shows something."""
        square = (SMALL, SMALL)
        grey = np.asarray(cv2.resize(self.grey, square, interpolation=cv2.INTER_AREA), np.uint8)
        return _fine(grey.astype(np.float32)), _shown(grey, margin=4)


def aligned(first: Points, second: Points) -> float:
    """Return how well fine structure correlates where both show something, the best of the eight turns.

    The whole of one picture is laid over the whole of the other, so this knows copies that were saved anew,
    resized, turned by right angles or mirrored, however smooth they are, and no crops.
    """
    (structure, shows), best = first.small, -1.0
    for quarter in range(4):
        for step in (1, -1):
            other = np.rot90(second.small[0][:, ::step], quarter)
            shared = shows & np.rot90(second.small[1][:, ::step], quarter)
            if shared.sum() >= 1000:
                best = max(best, _correlation(structure[shared], other[shared]))
    return best


def register(first: Points, second: Points, *, mirrors: bool = True) -> Registration | None:
    """Lay the second picture over the first; None where no turn, scale and shift does.

    Example:
        >>> register(Points(a), Points(np.rot90(a))).turn  # doctest: +SKIP
        90.0
    """
    plain = _laid_over(first, second, mirrored=False)
    if not mirrors or (plain and plain.correlation > 0.9):
        return plain
    turned = _laid_over(first, second.mirror, mirrored=True)
    return max((one for one in (plain, turned) if one), key=lambda one: one.correlation, default=None)


def _points(grey: Grey) -> tuple[Floats, Floats]:
    """Return places (n, 2) and descriptions (n, 128) of a picture's points, none at a black frame's edge."""
    sift = cv2.SIFT.create(nfeatures=POINTS, contrastThreshold=0.02)
    places, described = sift.detectAndCompute(grey, _shown(grey).astype(np.uint8) * 255)
    if not places:
        return np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32)
    # Root SIFT (Arandjelović & Zisserman 2012): Hellinger distance between the histograms.
    described = np.sqrt(described / np.maximum(described.sum(axis=1, keepdims=True), 1e-6))
    return np.array([p.pt for p in places], np.float32), described.astype(np.float32)


def _shown(grey: Grey, margin: int = 6) -> npt.NDArray[np.bool_]:
    """Return where a picture shows something: away from black, a margin of pixels off its edge."""
    bright = (cv2.medianBlur(grey, 5) >= BLACK).astype(np.uint8)
    side = 2 * margin + 1
    return np.asarray(cv2.erode(bright, np.ones((side, side), np.uint8)), dtype=bool)


def _laid_over(first: Points, second: Points, *, mirrored: bool) -> Registration | None:
    (places, described), (others, descriptions) = first.found, second.found
    if len(places) < 8 or len(others) < 8:
        return None
    products = descriptions @ described.T
    nearest = np.argpartition(-products, 1, axis=1)[:, :2]
    both = np.take_along_axis(products, nearest, axis=1)
    turn = both[:, 0] < both[:, 1]
    best, second_best = both.max(axis=1), both.min(axis=1)
    target = np.where(turn, nearest[:, 1], nearest[:, 0])
    good = np.sqrt(np.maximum(2 - 2 * best, 0)) < RATIO * np.sqrt(np.maximum(2 - 2 * second_best, 1e-12))
    if good.sum() < 8:
        return None
    matrix, agree = cv2.estimateAffinePartial2D(
        others[good], places[target[good]], method=cv2.RANSAC, ransacReprojThreshold=ERROR, maxIters=1000
    )
    if matrix is None or int(agree.sum()) < 8:
        return None
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if not 0.1 < scale < 10:
        return None
    if scale <= 1:
        correlation, overlap = _overlaid(first.grey, second.grey, matrix)
    else:
        back = cv2.invertAffineTransform(matrix)
        correlation, overlap = _overlaid(second.grey, first.grey, back)
    turned = float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])) % 360)
    return Registration(correlation, overlap, int(agree.sum()), scale, turned, mirrored)


def _overlaid(coarse: Grey, finer: Grey, matrix: npt.NDArray[Any]) -> tuple[float, float]:
    """Return how well fine structure correlates where the finer lies over the coarse, and how much does."""
    height, width = coarse.shape
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    smooth = finer.astype(np.float32)
    if scale < 0.95:
        smooth = _blurred(smooth, 0.5 * np.sqrt(1 / scale**2 - 1))
    laid = np.asarray(cv2.warpAffine(smooth, matrix, (width, height), flags=cv2.INTER_CUBIC), np.float32)
    whole = np.ones(finer.shape, np.float32)
    inside = np.asarray(cv2.warpAffine(whole, matrix, (width, height)) > 0.999, np.uint8)
    inside = np.asarray(cv2.erode(inside, np.ones((9, 9), np.uint8), borderValue=0))
    smaller = min(coarse.size, finer.size * scale**2)
    seen = np.asarray(cv2.warpAffine(_shown(finer).astype(np.float32), matrix, (width, height)) > 0.5)
    shared = (inside > 0) & seen & _shown(coarse)
    if shared.sum() < 1000:
        return 0.0, float(shared.sum() / smaller)
    correlation = _correlation(_fine(coarse.astype(np.float32))[shared], _fine(laid)[shared])
    return correlation, float(shared.sum() / smaller)


def _correlation(a: Floats, b: Floats) -> float:
    a, b = a - a.mean(), b - b.mean()
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length > 0 else 0.0


def _fine(grey: Floats) -> Floats:
    """Return structure of some 2 to 8 pixels, every part of the picture weighing about the same.

    The difference of two Gaussians, divided by its own spread nearby: else a ruler or a logo, the same in all
    pictures of a device, would outweigh the skin.
    """
    structure = _blurred(grey, 1.5) - _blurred(grey, 4.0)
    return np.asarray(structure / (np.sqrt(_blurred(structure**2, 8.0)) + 1.0), dtype=np.float32)


def _blurred(grey: Floats, sigma: float) -> Floats:
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), sigma), dtype=np.float32)
