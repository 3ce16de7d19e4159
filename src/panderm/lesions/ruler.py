"""A ruler in an image: ticks equally far apart on a straight line, found, checked, refused if in doubt."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from panderm.errors import DataError
from panderm.lesions.patch import Image8
from panderm.lesions.region import Mask
from panderm.lesions.tick_chains import Chain, follow, long_marks, place_of_marks, slant
from panderm.lesions.tick_rows import lightness_of, rows_in

Floats = npt.NDArray[np.float64]
Plane = npt.NDArray[np.float32]

FEWEST = 5
"""Ticks that a ruler must show."""

SURPRISE = 3.0
"""−log₁₀ of how many rows like it chance may be expected to make in a picture, at least."""

_SIDES = (512, 256)  # pixels of the short side at which rows are looked for: fine scales, and thick marks
_MOST_ENLARGED = 2.0
_SHORTEST = 0.15  # of the image's short side: what is shorter is print, a seam, or a few hairs
_HELD = 0.8  # of the ticks from the first to the last, how many must be seen
_SURE = 0.02  # of the distance from tick to tick, its standard error at most
_AGREE = 0.04  # by which two rows of one scale may differ


@dataclass(frozen=True)
class Ruler:
    """A row of ticks, in pixels of the image.

    Attributes:
        pixels_per_tick: from one tick to the next.
        error: its standard error, from how far ticks stand off.
        ticks_per_mark: from one long mark to the next; 1 where all ticks are alike, 0 where that is not told.
        ticks: (n, 2) x and y of the ticks seen, along the row.
        lengths: (n,) of the ticks.
        numbers: (n,) of the ticks, from 0; one that is left out is hidden.
        surprise: −log₁₀ of how many such rows chance would make.
    """

    pixels_per_tick: float
    error: float
    ticks_per_mark: int
    ticks: Floats
    lengths: Floats
    numbers: npt.NDArray[np.int64]
    surprise: float

    @property
    def pixels_per_mark(self) -> float:
        """From one long mark to the next, or from tick to tick where all are alike."""
        return self.pixels_per_tick * self.ticks_per_mark

    @property
    def marks(self) -> npt.NDArray[np.bool_]:
        """(n,), which ticks are the long marks."""
        if self.ticks_per_mark < 2:
            return np.ones(len(self.ticks), dtype=bool)
        phase = place_of_marks(self.numbers[1:-1], self.lengths[1:-1], self.ticks_per_mark)
        return np.asarray(self.numbers % self.ticks_per_mark == phase)


@dataclass(frozen=True)
class NoRuler:
    """Why no scale is taken from an image; ``seen`` is the best row there was, if there was one."""

    reason: str
    seen: Ruler | None = None


def find_ruler(rgb: Image8, *, lesion: Mask | None = None) -> Ruler | NoRuler:
    """Look for dark ticks that stand equally far apart on a straight line.

    Lines in 60 directions are laid through dark strokes that stand across them; those whose strokes repeat,
    by their autocorrelation, are followed from tick to tick. How surprising a row is follows Desolneux,
    Moisan and Morel (Int. J. Comput. Vis. 40, 2000): the number of rows of as many strokes, standing as
    exactly, that strokes scattered at random as densely would be expected to make.

    Scales have finer ticks between longer marks, and how fine a tick is seen depends on the image; so the
    distance that counts is that of the longest marks: each tick is measured across the row, and marks are
    every second, fifth or tenth tick where those are longer than all others.

    A scale is refused, not guessed: fewer than five ticks, a row that chance may make, more than one tick in
    five hidden, a row shorter than 15 % of the image's short side, two rows that do not agree, ticks of
    several lengths without a clear order, or a distance that is uncertain by more than 2 %.

    Args:
        rgb: uint8 (H, W, 3), RGB.
        lesion: bool (H, W), where no ruler is: the network of a nevus is not looked at.

    Returns:
        The ruler, or why there is none.

    Raises:
        DataError: not an RGB image, or a mask of another size.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
        raise DataError("the image must be RGB, uint8 (H, W, 3).", f"found {rgb.shape} of {rgb.dtype}")
    if lesion is not None and lesion.shape != rgb.shape[:2]:
        raise DataError("a mask must be as large as its image.", f"found {lesion.shape} and {rgb.shape[:2]}")
    seen: list[tuple[Ruler, Chain, Plane]] = []
    for side in _SIDES:
        by = min(_MOST_ENLARGED, side / min(rgb.shape[:2]))
        size = (max(16, round(rgb.shape[1] * by)), max(16, round(rgb.shape[0] * by)))
        way = cv2.INTER_AREA if by < 1 else cv2.INTER_CUBIC
        lightness = lightness_of(np.asarray(cv2.resize(rgb, size, interpolation=way), dtype=np.uint8))
        hidden = None if lesion is None else cv2.resize(lesion.astype(np.uint8), size) > 0
        rows, lines = rows_in(lightness, hidden)
        for row in rows:
            chain = follow(row, lines)
            if chain is not None:
                seen.append((_in_image(chain, by), chain, lightness))
    if not seen:
        return NoRuler("no row of ticks is seen")
    best, chain, lightness = max(seen, key=lambda one: (one[0].surprise, len(one[0].ticks)))
    every, lengths = long_marks(lightness, chain)
    by, straight = best.pixels_per_tick / chain.step, math.cos(slant(lightness, chain))
    best = replace(
        best,
        pixels_per_tick=best.pixels_per_tick * straight,
        ticks_per_mark=every,
        lengths=lengths * by,
    )
    return _decided(best, [one for one, _, _ in seen], _SHORTEST * min(rgb.shape[:2]))


def _decided(best: Ruler, seen: list[Ruler], shortest: float) -> Ruler | NoRuler:
    """Return the best row as a ruler, or why it is none."""
    if best.surprise < SURPRISE:
        return NoRuler("no row of ticks that chance does not make as well", best)
    if len(best.ticks) < FEWEST:
        return NoRuler(f"only {len(best.ticks)} ticks, and {FEWEST} are needed", best)
    if math.dist(best.ticks[0], best.ticks[-1]) < shortest:
        return NoRuler("the row of ticks is too short", best)
    if len(best.ticks) < _HELD * (best.numbers[-1] + 1):
        return NoRuler("too many ticks of the row are hidden", best)
    if not best.ticks_per_mark:
        return NoRuler("the ticks are of several lengths, without a clear order", best)
    if best.error > _SURE * best.pixels_per_tick:
        return NoRuler("the ticks do not stand equally far apart", best)
    for other in seen:
        strong = other.surprise >= max(SURPRISE, best.surprise / 2) and len(other.ticks) >= FEWEST
        if strong and not _agree(best, other):
            apart = f"{best.pixels_per_tick:.1f} and {other.pixels_per_tick:.1f} pixels"
            return NoRuler(f"two rows of ticks do not agree: {apart}", best)
    return best


def _agree(one: Ruler, other: Ruler) -> bool:
    """Say whether two rows have one distance from tick to tick, or a multiple where they lie together."""
    coarse, fine = (one, other) if one.pixels_per_tick > other.pixels_per_tick else (other, one)
    times = coarse.pixels_per_tick / fine.pixels_per_tick
    if abs(times - round(times)) > _AGREE * round(times):
        return False
    way = (fine.ticks[-1] - fine.ticks[0]) / math.dist(fine.ticks[0], fine.ticks[-1])
    apart = coarse.ticks - fine.ticks[0]
    off_the_line = np.abs(apart[:, 0] * way[1] - apart[:, 1] * way[0])
    return round(times) == 1 or float(np.median(off_the_line)) < 4 * fine.pixels_per_tick


def _in_image(chain: Chain, by: float) -> Ruler:
    """Return a chain in the image's own pixels; its marks are not yet looked for."""
    c, s = math.cos(chain.row.angle), math.sin(chain.row.angle)
    x, y = chain.along * c - chain.row.offset * s, chain.along * s + chain.row.offset * c
    # A pixel's centre is half a pixel from its corner at either size.
    ticks = (np.column_stack([x, y]) + 0.5) / by - 0.5
    return Ruler(
        pixels_per_tick=chain.step / by,
        error=chain.error / by,
        ticks_per_mark=0,
        ticks=ticks,
        lengths=np.zeros(len(ticks)),
        numbers=chain.number,
        surprise=chain.surprise,
    )
