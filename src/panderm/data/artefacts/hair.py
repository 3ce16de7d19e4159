"""Hair: long thin lines, dark or pale, that cross whatever lies below."""

from __future__ import annotations

import cv2
import numpy as np

from panderm.data.artefacts.lines import dark_and_pale, directions
from panderm.data.artefacts.working import SIDE, Mask, Plane, Working, inside_of

_LENGTH = 21  # pixels along which a line must hold: the network of a nevus and most vessels do not
_BESIDE = 2  # pixels to the sides it is compared with: hair is thin, a wrinkle is not
_DIRECTIONS = 20
_ONE_WAY = 4.0  # how many times a line must stand out more in its own direction than in the mean of all
_STRONG, _WEAK = (
    5.0,
    0.5,
)  # times the picture's own texture; where it goes on from a strong part, half of that
_LEAST = 2.5  # hundredths of the red channel's range
_SHORTEST = 25.0  # pixels, diagonal of the box around a line
_WIDEST = 5.0  # pixels of area for each pixel of length
_TANGLE = 128.0  # pixels: hairs that cross are one piece this large, and then counted by their area


def hair(working: Working) -> tuple[float, Mask]:
    """Return how much hair is in the picture, and where.

    Thin structures are sought in several directions, as in DullRazor (Lee et al., Comput. Biol. Med. 27,
    1997), here by the mean along a straight stroke against the strokes beside it. The red channel is used:
    hair takes red as it takes all colours, vessels and pigment take less of it.

    Returns:
        The length of all hairs together, in short sides of the picture, and bool (h, w), their pixels.
    """
    red = working.rgb[:, :, 0].astype(np.float32) / np.float32(2.55)
    line = line_strength(np.asarray(cv2.GaussianBlur(red, (0, 0), 0.5), dtype=np.float32))
    usable = inside_of(working.frame, 9)
    line[~usable] = 0
    texture = float(np.percentile(line[usable], 60)) + 0.3 if usable.any() else 1.0
    strong = max(_STRONG * texture, _LEAST)
    weak = (line > _WEAK * strong).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(weak, connectivity=8)
    keep = np.zeros(count, dtype=bool)
    keep[np.unique(labels[line > strong])] = True
    keep[0] = False
    extent = np.hypot(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT])
    area = stats[:, cv2.CC_STAT_AREA]
    keep &= (extent >= _SHORTEST) & ((area < _WIDEST * extent) | (extent > _TANGLE))
    length = np.where(keep, np.maximum(extent, area / _WIDEST), 0.0)
    return float(length.sum()) / SIDE, keep[labels]


def line_strength(plane: Plane) -> Plane:
    """Return how much a dark or pale line stands out at each pixel, in one direction only; (h, w) >= 0."""
    dark_most = np.zeros_like(plane)
    pale_most, dark_sum, pale_sum = dark_most.copy(), dark_most.copy(), dark_most.copy()
    for direction in directions(_LENGTH, _DIRECTIONS, _BESIDE):
        dark, pale = dark_and_pale(plane, direction)
        np.maximum(dark_most, dark, out=dark_most)
        np.maximum(pale_most, pale, out=pale_most)
        dark_sum += np.maximum(dark, 0)
        pale_sum += np.maximum(pale, 0)
    share = np.float32(_ONE_WAY / _DIRECTIONS)
    only = np.maximum(dark_most - share * dark_sum, pale_most - share * pale_sum)
    return np.maximum(only, 0)
