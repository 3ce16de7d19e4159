"""Bubbles in the gel: thin bright rings."""

from __future__ import annotations

import math

import cv2
import numpy as np

from panderm.data.artefacts.working import Image8, Working, inside_of

_AROUND = 24  # places on a ring that are looked at
_RADII = (4, 5, 6, 7, 8, 9, 10, 12, 14, 16)  # pixels at the working size
_BRIGHT = 6.0  # L* per pixel²: curvature of a bright ridge across the ring
_FEWEST = 0.005  # share of pixels taken for ridges where there are hardly any


def gel(working: Working) -> float:
    """Return how far the most complete bright ring stands above chance, in standard deviations.

    Of each possible ring 24 places are looked at: is there a bright ridge that runs along the ring? Chance
    is a binomial with the share of such ridges in this picture.
    """
    ridges = _ridges(working)
    share = min(0.5, max(1.3 * float(np.mean([r.mean() for r in ridges])), _FEWEST))
    height, width = working.frame.shape
    margin = max(_RADII)
    padded = [np.pad(r, margin) for r in ridges]
    most = 0
    for radius in _RADII:
        count = np.zeros((height, width), np.uint8)
        for k in range(_AROUND):
            angle = 2 * math.pi * k / _AROUND
            x = margin + round(radius * math.cos(angle))
            y = margin + round(radius * math.sin(angle))
            count += padded[k % (_AROUND // 2)][y : y + height, x : x + width]
        most = max(most, int(count.max()))
    return (most - _AROUND * share) / math.sqrt(_AROUND * share * (1 - share))


def _ridges(working: Working) -> list[Image8]:
    """Return for each radial direction where the lightness is bent sharply down along it, uint8 (h, w)."""
    soft = cv2.GaussianBlur(working.lightness, (0, 0), 0.8)
    xx = cv2.Sobel(soft, cv2.CV_32F, 2, 0, ksize=3) / 4
    yy = cv2.Sobel(soft, cv2.CV_32F, 0, 2, ksize=3) / 4
    xy = cv2.Sobel(soft, cv2.CV_32F, 1, 1, ksize=3) / 4
    usable = inside_of(working.frame, 9, border=3)
    made = []
    for k in range(_AROUND // 2):
        angle = 2 * math.pi * k / _AROUND
        c, s = math.cos(angle), math.sin(angle)
        bent = -(c * c * xx + 2 * c * s * xy + s * s * yy)
        made.append(((bent > _BRIGHT) & usable).astype(np.uint8))
    return made
