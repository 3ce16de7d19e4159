"""Ink: strokes in the blue and violet of surgical pens, bluer than any shade of this skin."""

from __future__ import annotations

import cv2
import numpy as np

from panderm.data.artefacts.working import SIDE, Mask, Working, inside_of

_BLUER = 10.0  # b* below that of skin in the same shade
_DARKER = 4.0  # L* below skin: glare and white scale are bluish too, but lighter
_GREENER = 2.0  # a* below that of skin in the same shade, at most
_DRAWN = 5.0  # squared diagonal by area: 2 for a filled square, 5 for a bar four times as long as wide
_LEAST = 4  # pixels


def ink(working: Working) -> float:
    """Return the diagonal of the largest stroke of ink, in short sides of the picture, 0 where there is none.

    Dark blue lesions are as blue as ink, but compact: a patch counts if it is long for its area, as lines,
    rings and letters are. A blot of ink is missed.
    """
    _, _, stats, _ = cv2.connectedComponentsWithStats(ink_mask(working).astype(np.uint8), connectivity=8)
    size = np.hypot(stats[1:, cv2.CC_STAT_WIDTH], stats[1:, cv2.CC_STAT_HEIGHT])
    area = stats[1:, cv2.CC_STAT_AREA]
    drawn = (size**2 >= _DRAWN * area) & (area >= _LEAST)
    return float(size[drawn].max(initial=0.0)) / SIDE


def ink_mask(working: Working) -> Mask:
    """Return the pixels of ink, bool (h, w).

    Shade takes L*, a* and b* of skin towards 0 together; ink takes b* further, below 0. Black ink is found
    only where it is bluish, and red or yellow marks are not.
    """
    soft = cv2.GaussianBlur(working.lab, (0, 0), 1.0)
    light, red, yellow = soft[:, :, 0], soft[:, :, 1], soft[:, :, 2]
    skin = working.skin
    shade = np.clip(light / max(float(skin[0]), 1.0), 0.2, 1.1)
    found: Mask = (yellow - skin[2] * shade < -_BLUER) & (yellow < 0)
    found &= (red - skin[1] * shade > -_GREENER) & (light < skin[0] - _DARKER)
    return found & inside_of(working.frame, 7, border=0)
