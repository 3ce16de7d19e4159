"""Rulers: strokes of one direction, equally far apart, on a straight line."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from panderm.data.artefacts.lines import dark_and_pale, directions
from panderm.data.artefacts.working import Mask, Plane, Working, inside_of

_LENGTH, _DIRECTIONS, _BESIDE = 7, 12, 2  # of one tick, in pixels at the working size
_CONTRASTS = (2.5, 5.0, 10.0)  # L*: faint scales, and few but black ticks
_LONGEST = 28.0  # pixels of a tick
_CLOSEST, _FARTHEST = 4.0, 48.0  # pixels from tick to tick
_MOST_TICKS = 30
_MOST_STROKES = 150  # of one direction; more is texture
_MOST_PIXELS = 4000  # likewise
_AROUND = 60.0  # pixels within which other strokes are counted: where there are many, chance makes rows
_SLANT = 0.6  # sine of the angle between a tick and the row it stands in, at least
_CELL = 9  # pixels, 3 × 3: how exactly a tick must stand where the two before it ask for it

Points = npt.NDArray[np.float64]


def ruler(working: Working) -> float:
    """Return how unlikely the best row of ticks is by chance: 3 is one in 10³ pictures; 0 where none is.

    The rule of Desolneux, Moisan and Morel (Int. J. Comput. Vis. 40, 2000): the number of rows that strokes
    scattered at random, as densely as here, would be expected to make. Strokes are sought by direction, so
    that the line a scale stands on does not join its ticks.
    """
    ways = directions(_LENGTH, _DIRECTIONS, _BESIDE)
    strength = [dark_and_pale(working.lightness, way)[0] for way in ways]
    most = strength[0].copy()
    for one in strength[1:]:
        np.maximum(most, one, out=most)
    usable = inside_of(working.frame, 7, border=0) & (most > _CONTRASTS[0])
    best = 0.0
    for i, way in enumerate(ways):
        # A stroke is of this direction if this one or a neighbour fits it best.
        here = np.maximum(strength[i], strength[i - 1])
        np.maximum(here, strength[(i + 1) % _DIRECTIONS], out=here)
        along = usable & (here >= most)
        for contrast in _CONTRASTS:
            pixels = along & (strength[i] > contrast)
            count = np.count_nonzero(pixels)
            if count > _MOST_PIXELS:
                continue
            strokes = _strokes(pixels) if count >= 9 else np.zeros((0, 2))
            if len(strokes) < 3:
                break  # with more contrast there are fewer
            if len(strokes) <= _MOST_STROKES:
                best = max(best, _surprise(strokes, way.angle, working.frame.shape))
    return best


def _strokes(pixels: Mask) -> Points:
    """Return the centres (x, y) of small pieces, (n, 2)."""
    # Without OpenCV's statistics, which take several times as long as the labels of so few pixels.
    count, labels = cv2.connectedComponents(pixels.astype(np.uint8), connectivity=8)
    y, x = np.nonzero(pixels)
    piece = np.asarray(labels[y, x], dtype=np.int64)
    area = np.maximum(np.bincount(piece, minlength=count), 1)
    size = np.zeros((2, count))
    for axis, at in enumerate((x, y)):
        first, last = np.full(count, 1 << 20), np.zeros(count, int)
        np.minimum.at(first, piece, at)
        np.maximum.at(last, piece, at)
        size[axis] = last - first + 1
    keep = (area >= 3) & (np.hypot(size[0], size[1]) <= _LONGEST)
    keep[0] = False
    centres = [np.bincount(piece, weights=at, minlength=count) / area for at in (x, y)]
    found: Points = np.stack(centres, axis=1)[keep]
    return found


def _surprise(points: Points, angle: float, shape: tuple[int, ...]) -> float:
    """Return −log₁₀ of how many rows like the best one chance is expected to make, at least 0."""
    apart = points[None] - points[:, None]
    distance = np.hypot(apart[..., 0], apart[..., 1])
    slant = np.abs(np.sin(np.arctan2(apart[..., 1], apart[..., 0]) - angle))
    first, second = np.nonzero((distance >= _CLOSEST) & (distance <= _FARTHEST) & (slant > _SLANT))
    if not len(first):
        return 0.0
    length = _row_lengths(points, first, second, shape)
    everywhere = len(points) * _CELL / (shape[0] * shape[1])
    around = (distance <= _AROUND).sum(axis=1) * _CELL / (0.75 * math.pi * _AROUND**2)
    chance = np.clip(np.maximum(np.maximum(around[first], around[second]), everywhere), 1e-6, 1)
    expected = math.log10(len(first)) + (length - 2) * np.log10(chance)
    return max(0.0, -float(expected.min()))


def _row_lengths(
    points: Points, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], shape: tuple[int, ...]
) -> npt.NDArray[np.int64]:
    """Return for each pair of strokes how many stand in its row, one step after the other."""
    margin = 64
    taken: Plane = np.zeros((shape[0] + 2 * margin, shape[1] + 2 * margin), np.uint8)
    at = np.rint(points).astype(int) + margin
    taken[at[:, 1], at[:, 0]] = 1
    near = cv2.dilate(taken, np.ones((3, 3), np.uint8)).astype(bool)
    step = points[second] - points[first]
    length = np.full(len(first), 2)
    going = np.arange(len(first))
    for n in range(1, _MOST_TICKS):
        place = np.rint(points[second[going]] + n * step[going]).astype(int) + margin
        within = (place >= 0).all(axis=1) & (place[:, 0] < near.shape[1]) & (place[:, 1] < near.shape[0])
        going, place = going[within], place[within]
        going = going[near[place[:, 1], place[:, 0]]]
        if not len(going):
            break
        length[going] += 1
    return length
