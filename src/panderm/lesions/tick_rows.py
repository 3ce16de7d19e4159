"""Rows of dark strokes along straight lines, and which of them look periodic."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from panderm.data.artefacts.lines import dark_and_pale, directions
from panderm.lesions.patch import to_lab

Floats = npt.NDArray[np.float64]
Plane = npt.NDArray[np.float32]

_LENGTH, _DIRECTIONS, _BESIDE = 7, 12, 2  # of a stroke, in pixels of the size at which it is looked for
_LEAST = 2.0  # L* by which a stroke is darker than both its sides
_TURNS = (-6.0, -3.0, 0.0, 3.0, 6.0)  # degrees from the right angle between strokes and their row
_BAND = 3.0  # pixels: rows lie so far apart
_CLOSEST = 4  # pixels from tick to tick
FEWEST = 4  # strokes of a row that is looked at
_SOFT = 0.8  # pixels by which strokes may stand off
_MOST_PIXELS = 60_000  # of one direction: more is texture


@dataclass(frozen=True)
class Row:
    """Where a line crosses strokes.

    Attributes:
        along: (n,) where on the line, in pixels, ascending.
        strength: (n,) how much darker each stroke is than its sides, L*.
        angle: direction of the line, radians from the x axis, y downwards.
        offset: of the line, pixels from the origin, at right angles.
        period: the lag at which the line looks most periodic, pixels.
        score: how much more strokes meet at that lag and twice it than chance would have meet.
        length: of the part of the line that strokes of its direction reach, pixels.
    """

    along: Floats
    strength: Floats
    angle: float
    offset: float
    period: float
    score: float
    length: float


def lightness_of(rgb: npt.NDArray[np.uint8]) -> Plane:
    """Return L*, 0 to 100, float32 (h, w)."""
    return np.ascontiguousarray(to_lab(rgb.astype(np.float32) / np.float32(255))[:, :, 0])


def rows_in(
    lightness: Plane, hidden: npt.NDArray[np.bool_] | None = None, most: int = 40
) -> tuple[list[Row], int]:
    """Return the lines of an image that look most periodic by their autocorrelation, and of how many.

    Args:
        lightness: float32 (h, w), L*.
        hidden: bool (h, w), where no stroke is looked for.
        most: lines to return at most.
    """
    found: list[Row] = []
    looked_at = 0
    ways = directions(_LENGTH, _DIRECTIONS, _BESIDE)
    strengths = [dark_and_pale(lightness, way)[0] for way in ways]
    best = np.maximum.reduce(strengths)
    if hidden is not None:
        best[hidden] = np.inf
    for i, way in enumerate(ways):
        near = np.maximum(np.maximum(strengths[i], strengths[i - 1]), strengths[(i + 1) % _DIRECTIONS])
        y, x = np.nonzero((near >= best) & (strengths[i] > _LEAST))
        if len(x) < 3 * FEWEST or len(x) > _MOST_PIXELS:
            continue
        values = strengths[i][y, x].astype(np.float64)
        for turn in _TURNS:
            angle = way.angle + math.pi / 2 + math.radians(turn)
            rows = list(_rows(x, y, values, angle))
            looked_at += len(rows)
            found += rows
        found = sorted(found, key=lambda row: -row.score)[: 2 * most]
    return found[:most], max(looked_at, 1)


def _rows(x: npt.NDArray[np.int64], y: npt.NDArray[np.int64], values: Floats, angle: float) -> Iterator[Row]:
    """Yield the lines of one direction that cross strokes enough, each with its most likely period."""
    c, s = math.cos(angle), math.sin(angle)
    along, across = x * c + y * s, y * c - x * s
    start, low = float(along.min()), float(across.min())
    width = int(along.max() - start) + 2
    band = ((across - low) / _BAND).astype(np.int64)
    place = band * width + (along - start).astype(np.int64)
    # Of each pixel of a line what the strokes there amount to; a band is as wide as three pixels of a stroke.
    table = np.bincount(place, weights=values, minlength=(int(band.max()) + 1) * width).reshape(-1, width)
    weighted = np.bincount(place, weights=values * (along - start), minlength=table.size)
    weighted = weighted.reshape(table.shape)
    there = table > 1.5 * _LEAST
    begins = there & ~np.pad(there, ((0, 0), (1, 0)))[:, :-1]
    count = begins.sum(axis=1)
    kept = np.flatnonzero((count >= FEWEST) & (there.mean(axis=1) < 0.6))
    if not len(kept):
        return
    begins, there = begins[kept], there[kept]
    number = np.cumsum(begins, axis=1) - 1
    marks = np.zeros(begins.shape)
    held: list[tuple[Floats, Floats]] = []
    for k in range(len(kept)):
        at = there[k]
        weight = np.asarray(np.bincount(number[k][at], weights=table[kept[k]][at]), dtype=np.float64)
        centre = np.bincount(number[k][at], weights=weighted[kept[k]][at]) / weight
        held.append((centre, weight))
        marks[k, np.clip(np.rint(centre).astype(int), 0, width - 1)] = 1
    for k, (score, period) in enumerate(_periods(marks)):
        centre, weight = held[k]
        offset = low + (kept[k] + 0.5) * _BAND
        yield Row(centre + start, weight, angle, offset, period, score, float(width))


def _periods(marks: Floats) -> Iterator[tuple[float, float]]:
    """Yield for each line of marks its best period's score and the period, by autocorrelation."""
    width = marks.shape[1]
    soft = cv2.GaussianBlur(marks, (7, 1), _SOFT)
    size = 1 << (2 * width - 1).bit_length()
    spectrum = np.fft.rfft(soft, size, axis=1)
    auto = np.fft.irfft(np.abs(spectrum) ** 2, size, axis=1)[:, :width]
    number = marks.sum(axis=1, keepdims=True)
    pairs = auto * (2 * math.sqrt(math.pi) * _SOFT)  # how many marks have another so far away
    lags = np.arange(_CLOSEST, width // 3)
    if not len(lags):
        yield from ((0.0, 0.0) for _ in marks)
        return
    by_chance = 2 * math.sqrt(math.pi) * _SOFT * number**2 / width
    score = pairs[:, lags] + pairs[:, 2 * lags] - 2 * by_chance
    for k, lag in enumerate(score.argmax(axis=1)):
        yield float(score[k, lag]), float(lags[lag])
