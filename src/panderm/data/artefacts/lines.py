"""Straight strokes, short and long: how far a line lies below or above what is on both its sides."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np

from panderm.data.artefacts.working import Plane

_SHORT = 7  # pixels of the kernel: longer strokes are put together from it, which is many times as fast


class Direction(NamedTuple):
    """One direction in which strokes are sought."""

    angle: float  # radians from the x axis, y downwards
    kernel: Plane  # the mean along a stroke of 7 pixels
    along: tuple[tuple[int, int], ...]  # (dx, dy) to the short strokes that the whole one is made of
    beside: tuple[int, int]  # (dx, dy) to the parallel stroke on one side


@cache
def directions(length: int, count: int, beside: int) -> tuple[Direction, ...]:
    """Return ``count`` directions over half a turn; ``length`` of a stroke is 7, 21 or 35 pixels."""
    made = []
    middle = _SHORT // 2
    reach = length // (2 * _SHORT)
    for i in range(count):
        angle = math.pi * i / count
        c, s = math.cos(angle), math.sin(angle)
        kernel = np.zeros((_SHORT, _SHORT), np.float32)
        ends = [
            (round((middle + e * middle * c) * 16), round((middle + e * middle * s) * 16)) for e in (-1, 1)
        ]
        cv2.line(kernel, ends[0], ends[1], (1.0,), 1, cv2.LINE_8, 4)
        along = tuple((round(n * _SHORT * c), round(n * _SHORT * s)) for n in range(-reach, reach + 1))
        made.append(Direction(angle, kernel / kernel.sum(), along, (round(-s * beside), round(c * beside))))
    return tuple(made)


def dark_and_pale(plane: Plane, direction: Direction) -> tuple[Plane, Plane]:
    """Return how far the stroke through each pixel is darker, and paler, than the nearer of its two sides.

    Args:
        plane: float32 (h, w).
        direction: of the strokes.

    Returns:
        Two float32 (h, w), negative where it is not. The edge of a lesion is no stroke: one side is like it.
    """
    filtered = cv2.filter2D(plane, -1, direction.kernel, borderType=cv2.BORDER_REPLICATE)
    mean = np.asarray(filtered, dtype=np.float32)
    if len(direction.along) > 1:
        short = _Shifted(mean, direction.along)
        mean = np.zeros_like(mean)
        for step in direction.along:
            mean += short(*step)
        mean *= np.float32(1 / len(direction.along))
    sides = _Shifted(mean, (direction.beside,))
    dx, dy = direction.beside
    one, other = sides(dx, dy), sides(-dx, -dy)
    return np.minimum(one, other) - mean, mean - np.maximum(one, other)


class _Shifted:
    """A plane that can be looked at from a few pixels to the side."""

    def __init__(self, plane: Plane, steps: tuple[tuple[int, int], ...]) -> None:
        self._margin = max(abs(d) for step in steps for d in step)
        self._shape = plane.shape
        m = self._margin
        padded = cv2.copyMakeBorder(plane, m, m, m, m, cv2.BORDER_REPLICATE)
        self._padded: Plane = np.asarray(padded, dtype=np.float32)

    def __call__(self, dx: int, dy: int) -> Plane:
        height, width = self._shape
        y, x = self._margin + dy, self._margin + dx
        return self._padded[y : y + height, x : x + width]
