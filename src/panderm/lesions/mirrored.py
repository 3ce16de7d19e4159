"""Asymmetry: how far a lesion differs from its mirror image, about every axis through its centre at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Plane = npt.NDArray[np.float32]

_AROUND = 360  # directions: axes are half a degree apart
_ALONG = 128  # distances from the centre


@dataclass(frozen=True)
class Asymmetry:
    """How far a lesion differs from its mirror image.

    Attributes:
        long: about the long principal axis: the two halves on its sides.
        short: about the short principal axis, at right angles.
        lowest: mean of two axes at right angles, turned so that it is as low as can be.
        lowest_axis: the one of those two about which the difference is smaller, degrees in [0, 180), from the
            image's x axis upwards.
    """

    long: float
    short: float
    lowest: float
    lowest_axis: float


def shape_asymmetry(inside: npt.NDArray[np.bool_], centre: tuple[float, float], axis: float) -> Asymmetry:
    """Return which share of a lesion's area does not lie on itself when it is folded, 0 to 1.

    About a principal axis: Stoecker et al., Comput. Med. Imaging Graph. 16, 1992. Two axes at right angles,
    laid so that asymmetry is lowest: the ABCD rule (Stolz et al., Eur. J. Dermatol. 4, 1994); principal axes
    of a shape that is nearly round lie anywhere, the lowest is then the one to trust.

    Args:
        inside: bool (h, w).
        centre: (x, y) of ``inside``.
        axis: the long principal axis, degrees from the x axis upwards.
    """
    soft = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 1.0)
    reach = _reach(inside, centre)
    weight, around = _around(np.asarray(soft, dtype=np.float32), centre, reach)
    # Where the softened mask is a half lies the border without its staircase; soft shares would hide slivers.
    around = (around > 0.5).astype(np.float64)
    same = _with_mirror(around, around, weight)
    whole = float((weight[None] * around).sum())
    return _of(np.clip(1 - same / whole, 0, 1), axis)


def colour_asymmetry(
    lab: Plane, inside: npt.NDArray[np.bool_], centre: tuple[float, float], axis: float
) -> Asymmetry:
    """Return how far the colours of mirrored points differ: root mean square ΔE*ab, where both are inside.

    Args:
        lab: float32 (h, w, 3), CIELAB.
        inside: bool (h, w), pixels whose colour counts.
        centre: (x, y) of ``inside``.
        axis: the long principal axis, degrees from the x axis upwards.
    """
    held = inside.astype(np.float32)
    reach = _reach(inside, centre)
    # Colours of the inside alone, over a few hundredths of the lesion: hair and grain are no asymmetry.
    size = max(1.0, 0.04 * math.sqrt(float(held.sum())))
    below = np.maximum(cv2.GaussianBlur(held, (0, 0), size), 1e-6)
    mean = lab[inside].mean(axis=0)
    weight, there = _around(held, centre, reach)
    there = (there > 0.5).astype(np.float64)
    planes = []
    for k in range(3):
        soft = cv2.GaussianBlur((lab[:, :, k] - mean[k]) * held, (0, 0), size) / below
        planes.append(_around(np.asarray(soft, dtype=np.float32), centre, reach)[1] * there)
    both = np.maximum(_with_mirror(there, there, weight), 1e-9)
    square = 2 * _with_mirror(np.sum([p**2 for p in planes], axis=0), there, weight)
    square -= 2 * sum(_with_mirror(p, p, weight) for p in planes)
    return _of(np.sqrt(np.maximum(square / both, 0)), axis)


def _reach(inside: npt.NDArray[np.bool_], centre: tuple[float, float]) -> float:
    """Return the distance from the centre to the farthest pixel: the first or the last of its row."""
    y = np.flatnonzero(inside.any(axis=1))
    first, last = inside[y].argmax(axis=1), inside.shape[1] - 1 - inside[y, ::-1].argmax(axis=1)
    across = np.maximum(np.abs(first - centre[0]), np.abs(last - centre[0]))
    return float(np.hypot(across, y - centre[1]).max()) + 2


def _around(plane: Plane, centre: tuple[float, float], reach: float) -> tuple[Floats, Floats]:
    """Return the area that a place stands for, and a plane by direction and distance from the centre."""
    radius = (np.arange(_ALONG, dtype=np.float32) + np.float32(0.5)) * np.float32(reach / _ALONG)
    angle = np.arange(_AROUND, dtype=np.float32) * np.float32(2 * math.pi / _AROUND)
    x = centre[0] + np.cos(angle)[:, None] * radius[None]
    y = centre[1] + np.sin(angle)[:, None] * radius[None]
    taken = cv2.remap(
        plane, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
    )
    return radius.astype(np.float64), np.asarray(taken, dtype=np.float64)


def _with_mirror(one: Floats, other: Floats, weight: Floats) -> Floats:
    """Return the sum of one plane times the mirrored other, for an axis at every half degree.

    A direction θ is mirrored at an axis φ to 2φ − θ: over all axes that is a circular convolution.
    """
    first = np.fft.rfft(one, axis=0)
    second = first if other is one else np.fft.rfft(other, axis=0)
    # einsum: a matrix product would wake BLAS's threads, and several workers' would wait for each other.
    return np.fft.irfft(np.einsum("kr,kr,r->k", first, second, weight), _AROUND)


def _of(by_axis: Floats, axis: float) -> Asymmetry:
    step = 360 / _AROUND / 2  # degrees from one axis to the next
    half = len(by_axis) // 2
    pairs = (by_axis[:half] + by_axis[half:]) / 2
    best = int(pairs.argmin())
    lowest = best + half if by_axis[best + half] < by_axis[best] else best
    # Rows of an image count downwards, angles upwards.
    long = round(-axis / step) % len(by_axis)
    return Asymmetry(
        long=float(by_axis[long]),
        short=float(by_axis[(long + half) % len(by_axis)]),
        lowest=float(pairs[best]),
        lowest_axis=float(-lowest * step % 180),
    )
