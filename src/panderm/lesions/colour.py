"""The colours of one lesion: which of the ABCD rule's six, how varied, and how far from the skin around."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from panderm.lesions.patch import Patch, to_lab

Floats = npt.NDArray[np.float64]
Plane = npt.NDArray[np.float32]

COLOURS = ("white", "red", "light_brown", "dark_brown", "blue_grey", "black")
"""The six colours of the ABCD rule (Stolz et al., Eur. J. Dermatol. 4, 1994)."""

REFERENCES = np.array(
    [
        [85.0, 4.0, 6.0],
        [48.0, 42.0, 24.0],
        [58.0, 18.0, 30.0],
        [30.0, 18.0, 20.0],
        [46.0, 2.0, -8.0],
        [10.0, 3.0, 3.0],
    ]
)
"""L*, a*, b* of each. The rule names colours without values; these are this package's own, set by eye."""

SKIN = np.array([72.0, 16.0, 14.0])
"""L*, a*, b* to which the skin around is brought for the relative colours: light skin in dermoscopy."""

SHARE = 0.05
"""A colour counts from this share of the lesion on."""

_GAIN = (0.4, 2.5)  # of linear light: more is no illumination but another picture


@dataclass(frozen=True)
class Colours:
    """The colours of a lesion.

    Attributes:
        count: how many of the six colours hold ``SHARE`` of the lesion or more, 1 to 6.
        shares: of each of the six, in [0, 1], 1 together.
        relative_count: likewise after the skin around has been brought to one colour, and without what is
            nearer to skin than to any of the six: 0 to 6. None where no skin is seen.
        relative_shares: of each of the six, in [0, 1], at most 1 together.
        variegation: root mean square distance of the lesion's colours from their mean, ΔE*ab.
        lesion: mean L*, a*, b*.
        skin: median L*, a*, b* of the skin around; None where none is seen.
        contrast: ΔE*ab of the two; None likewise.
    """

    count: int
    shares: tuple[float, ...]
    relative_count: int | None
    relative_shares: tuple[float, ...] | None
    variegation: float
    lesion: tuple[float, float, float]
    skin: tuple[float, float, float] | None
    contrast: float | None


def colours_of(patch: Patch) -> Colours:
    """Say which colours a lesion has.

    Each pixel is of the colour nearest to it in CIELAB (ΔE*ab, CIE 1976), after a Gaussian of 1 % of the
    equivalent diameter. Relative colours come of the same pixels after von Kries' rule: each channel of
    linear light is scaled so that the skin around gets the colour ``SKIN``. Hair, glare and gel in the lesion
    are counted as what they look like.

    Args:
        patch: the lesion and its surroundings.
    """
    pixels = _soft(patch.rgb, patch.inside, patch.equivalent)
    lab = to_lab(pixels[None])[0].astype(np.float64)
    shares = _shares(lab, REFERENCES)
    mean = lab.mean(axis=0)
    skin = patch.skin_lab
    relative = None
    if patch.skin is not None:
        there = to_lab(_under_one_light(pixels, patch.skin)[None])[0].astype(np.float64)
        relative = _shares(there, np.vstack([REFERENCES, SKIN]))[: len(COLOURS)]
    return Colours(
        count=_count(shares),
        shares=shares,
        relative_count=None if relative is None else _count(relative),
        relative_shares=relative,
        variegation=math.sqrt(float(((lab - mean) ** 2).sum(axis=1).mean())),
        lesion=_three(mean),
        skin=None if skin is None else _three(skin),
        contrast=None if skin is None else float(np.linalg.norm(mean - skin)),
    )


def _soft(rgb: Plane, inside: npt.NDArray[np.bool_], equivalent: float) -> Plane:
    """Return the lesion's pixels, (n, 3), each a mean over what is inside around it."""
    size = 0.01 * equivalent
    if size < 0.5:
        return rgb[inside]
    held = inside.astype(np.float32)
    below = cv2.GaussianBlur(held, (0, 0), size)
    soft = cv2.GaussianBlur(rgb * held[:, :, None], (0, 0), size)
    return np.asarray(soft[inside] / below[inside][:, None], dtype=np.float32)


def _shares(lab: Floats, references: Floats) -> tuple[float, ...]:
    """Return which share of pixels (n, 3) is nearest to each reference."""
    # einsum: a matrix product would wake BLAS's threads, and several workers' would wait for each other.
    far = (references**2).sum(axis=1)[None] - 2 * np.einsum("nc,kc->nk", lab, references)
    nearest = np.bincount(far.argmin(axis=1), minlength=len(references))
    return tuple(float(n) / len(lab) for n in nearest)


def _count(shares: tuple[float, ...]) -> int:
    return sum(share >= SHARE for share in shares)


def _under_one_light(pixels: Plane, skin: Plane) -> Plane:
    """Return pixels (n, 3) as they would be if the skin around had the colour ``SKIN``."""
    wanted = cv2.cvtColor(SKIN.astype(np.float32)[None, None], cv2.COLOR_Lab2RGB)[0, 0]
    gain = np.clip(_linear(np.asarray(wanted)) / np.maximum(_linear(skin), 1e-3), *_GAIN)
    light = np.clip(_linear(pixels) * gain, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055).astype(np.float32)


def _linear(rgb: Plane) -> Plane:
    """Return linear light of sRGB (IEC 61966-2-1)."""
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _three(lab: npt.NDArray[np.floating]) -> tuple[float, float, float]:
    return float(lab[0]), float(lab[1]), float(lab[2])
