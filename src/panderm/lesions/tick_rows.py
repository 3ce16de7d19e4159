"""Rows of dark strokes along straight lines, and which of them look periodic."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.fft import irfft, next_fast_len, rfft

from panderm.data.artefacts.lines import dark_and_pale, directions
from panderm.lesions.patch import to_lab

Floats = npt.NDArray[np.float64]
Plane = npt.NDArray[np.float32]

_LENGTH, _DIRECTIONS, _BESIDE = 7, 12, 2  # of a stroke, in pixels of the size at which it is looked for
_LEAST = 2.0  # L* by which a stroke is darker than both its sides
_ABOVE_NOISE = 4.0  # times the median of what is found anywhere, likewise
_TURNS = (-6.0, -3.0, 0.0, 3.0, 6.0)  # degrees from the right angle between strokes and their row
_BAND = 3.0  # pixels: rows lie so far apart
_CLOSEST = 4  # pixels from tick to tick
FEWEST = 5  # strokes of a row that is looked at
_SOFT = 0.8  # pixels by which strokes may stand off
_MOST_OF_A_LINE = 0.6  # that strokes may cover
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
        least = max(_LEAST, _ABOVE_NOISE * float(np.median(np.abs(strengths[i][::3, ::3]))))
        y, x = np.nonzero((near >= best) & (strengths[i] > least))
        if len(x) < 3 * FEWEST or len(x) > _MOST_PIXELS:
            continue
        values = strengths[i][y, x].astype(np.float64)
        for turn in _TURNS:
            angle = way.angle + math.pi / 2 + math.radians(turn)
            number, rows = _rows(x, y, values, angle, most)
            looked_at += number
            found += rows
        found = sorted(found, key=lambda row: -row.score)[: 2 * most]
    return found[:most], max(looked_at, 1)


def _rows(
    x: npt.NDArray[np.int64], y: npt.NDArray[np.int64], values: Floats, angle: float, most: int
) -> tuple[int, list[Row]]:
    """Return how many lines of one direction cross strokes enough, and the most periodic of them."""
    c, s = math.cos(angle), math.sin(angle)
    along, across = x * c + y * s, y * c - x * s
    start, low = float(along.min()), float(across.min())
    along -= start
    width = int(along.max()) + 2
    band = ((across - low) / _BAND).astype(np.int64)
    place = band * width + along.astype(np.int64)
    # Of each pixel of a line what the strokes there amount to; a band is as wide as three pixels of a stroke.
    size = (int(band.max()) + 1) * width
    table = np.bincount(place, weights=values, minlength=size).reshape(-1, width)
    there = table > 1.5 * _LEAST
    begins = there.copy()
    begins[:, 1:] &= ~there[:, :-1]
    count = begins.sum(axis=1)
    kept = np.flatnonzero((count >= FEWEST) & (np.count_nonzero(there, axis=1) < _MOST_OF_A_LINE * width))
    if not len(kept):
        return 0, []
    weighted = np.bincount(place, weights=values * along, minlength=size).reshape(table.shape)[kept]
    table, there, begins = table[kept], there[kept], begins[kept]
    # Strokes of all lines are numbered in one turn; those of a line follow each other.
    stroke = (np.cumsum(begins.ravel()) - 1)[there.ravel()]
    strength = np.bincount(stroke, weights=table[there])
    centre = np.bincount(stroke, weights=weighted[there]) / strength
    last = np.cumsum(count[kept])
    line = np.repeat(np.arange(len(kept)), count[kept])
    marks = np.zeros(table.shape, np.float32)
    marks[line, np.clip(np.rint(centre).astype(int), 0, width - 1)] = 1
    score, period = _periods(marks)
    rows = []
    for k in np.argsort(-score)[:most]:
        own = slice(int(last[k] - count[kept[k]]), int(last[k]))
        offset = low + (float(kept[k]) + 0.5) * _BAND
        rows.append(
            Row(
                along=np.asarray(centre[own] + start, dtype=np.float64),
                strength=np.asarray(strength[own], dtype=np.float64),
                angle=angle,
                offset=offset,
                period=float(period[k]),
                score=float(score[k]),
                length=float(width),
            )
        )
    return len(kept), rows


def _periods(marks: Plane) -> tuple[Floats, Floats]:
    """Return for each line of marks its best period's score and the period, by autocorrelation."""
    width = marks.shape[1]
    lags = np.arange(_CLOSEST, width // 3)
    if not len(lags):
        return np.zeros(len(marks)), np.zeros(len(marks))
    soft = cv2.GaussianBlur(marks, (7, 1), _SOFT)
    size = next_fast_len(width + 2 * width // 3, real=True)  # no lag above two thirds is asked for
    auto = irfft(np.abs(rfft(soft, size, axis=1)) ** 2, size, axis=1)
    number = marks.sum(axis=1, keepdims=True)
    peak = 2 * math.sqrt(math.pi) * _SOFT  # of pairs that lie so far apart, to how many they are
    score = (auto[:, lags] + auto[:, 2 * lags]) * peak - 2 * peak * number**2 / width
    best = score.argmax(axis=1)
    return np.asarray(score[np.arange(len(marks)), best], dtype=np.float64), lags[best].astype(np.float64)
