"""The tone of the skin outside the lesion: the individual typology angle."""

from __future__ import annotations

import math

import cv2
import numpy as np

from panderm.data.artefacts.working import Mask, Working, median_colour

TONES = ("very light", "light", "intermediate", "tan", "brown", "dark")
EDGES = (55.0, 41.0, 28.0, 10.0, -30.0)
"""Degrees: very light above 55, light above 41, and so on; dark from −30 down (Chardin et al., Int. J.
Cosmet. Sci. 13, 1991; Del Bino and Bernerd, Br. J. Dermatol. 169, 2013)."""

_CLIPPED = 250  # of 255: glare and burnt-out skin have no colour
_LEAST = 0.02  # share of the picture that must be left


def typology_angle(working: Working, hair: Mask) -> float | None:
    """Return the individual typology angle, degrees: arctan((L* − 50) / b*) of the median skin colour.

    Skin is what lies outside the lesion, its surroundings of 4 pixels, the frame, hair, glare and clipped
    pixels. None where too little is left, or where b* is not positive: the light is then so blue that the
    angle means nothing.
    """
    red, green, blue = cv2.split(working.rgb)
    brightest = cv2.max(cv2.max(red, green), blue)
    lesion = cv2.dilate(working.lesion.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    skin = ~(lesion | working.frame | hair) & (brightest < _CLIPPED)
    if skin.mean() < _LEAST:
        return None
    light, _, yellow = median_colour(working.lab, skin).tolist()
    if yellow <= 0.5:
        return None
    return math.degrees(math.atan((light - 50) / yellow))


def tone_of(angle: float) -> str:
    """Return one of ``TONES``."""
    return TONES[sum(angle <= edge for edge in EDGES)]
