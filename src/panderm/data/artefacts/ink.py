"""Ink: the blue and violet of surgical pens, bluer than any shade of this skin."""

from __future__ import annotations

import cv2
import numpy as np

from panderm.data.artefacts.working import SIDE, Mask, Working, inside_of

_BLUER = 10.0  # b* below that of skin in the same shade
_DARKER = 4.0  # L* below skin: glare and white scale are bluish too, but lighter
_GREENER = 2.0  # a* below that of skin in the same shade, at most


def ink(working: Working) -> float:
    """Return the diagonal of the largest patch of ink, in short sides of the picture, 0 where none is."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(ink_mask(working).astype(np.uint8), connectivity=8)
    sizes = np.hypot(stats[1:, cv2.CC_STAT_WIDTH], stats[1:, cv2.CC_STAT_HEIGHT])
    return float(sizes.max(initial=0.0)) / SIDE


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
