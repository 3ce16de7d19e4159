"""From strokes on a line to a row of ticks: followed one by one, how surprising it is, and its long marks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from panderm.lesions.tick_rows import Row

Floats = npt.NDArray[np.float64]
Plane = npt.NDArray[np.float32]

_OFF = 0.12  # of the distance from tick to tick, how far one may stand off
_LEAST_OFF = 0.8  # pixels, likewise
_MISSING = 1  # ticks in turn that may be hidden
_UNSURE = 0.15  # pixels, how exactly the place of one tick is known at best
_LOOSE = 0.01  # strokes a pixel that a line is taken to have at least
_EVERY = (10, 5, 2)  # ticks from one long mark to the next
_BESIDE = 4  # pixels by which a row may run past a tick
_LONGER = 1.1  # times the ticks at any other place, how long marks must be
_CLEAR, _SEEN = 0.93, 0.7  # of pairs of a mark and another tick, in how many the mark must be the longer
_LESS_SURE = 0.13  # by how much, against the next longest alone
_BY_CHANCE = 25  # rows of random lengths, of which one shows an order
_ALIKE = 0.35  # of the median length, how far that of alike ticks may be off
_MOST_ALIKE = 0.7  # of the ticks, how many must be alike


@dataclass(frozen=True)
class Chain:
    """A row of ticks.

    Attributes:
        row: the line they are on.
        number: (n,) of each tick that is seen, from 0.
        along: (n,) where on the line each is, pixels.
        step: from tick to tick, pixels.
        error: its standard error.
        surprise: −log₁₀ of how many such rows chance is expected to make.
    """

    row: Row
    number: npt.NDArray[np.int64]
    along: Floats
    step: float
    error: float
    surprise: float


def follow(row: Row, lines: int) -> Chain | None:
    """Return the row's most surprising chain of equally spaced strokes near its period.

    Args:
        row: strokes on a line.
        lines: how many lines were looked at.
    """
    at = row.along
    best: Chain | None = None
    for i in range(len(at) - 1):
        for j in range(i + 1, len(at)):
            step = at[j] - at[i]
            if step > 1.1 * row.period + 1:
                break
            if step < 0.9 * row.period - 1:
                continue
            chain = _grown(row, i, j, lines)
            if chain is not None and (best is None or chain.surprise > best.surprise):
                best = chain
    return best


def _grown(row: Row, i: int, j: int, lines: int) -> Chain | None:
    """Return the chain that two strokes ask for, as far as strokes answer."""
    at = row.along
    places, taken = [0, 1], [i, j]
    start, step = float(at[i]), float(at[j] - at[i])
    for way in (1, -1):
        missing, place = 0, max(way, 0)
        while missing <= _MISSING:
            place += way
            wanted = start + place * step
            k = int(np.searchsorted(at, wanted))
            near = min((m for m in (k - 1, k) if 0 <= m < len(at)), key=lambda m: abs(at[m] - wanted))
            if abs(at[near] - wanted) <= max(_LEAST_OFF, _OFF * step) and near not in taken:
                missing = 0
                places.append(place)
                taken.append(near)
                if len(places) > 2:
                    step, start = _line(np.array(places), at[taken])
            else:
                missing += 1
            if not at[0] - 2 * step <= wanted <= at[-1] + 2 * step:
                break
    if len(taken) < 4:
        return None
    order = np.argsort(places)
    number, along = np.array(places)[order], at[np.array(taken)[order]]
    step, start = _line(number, along)
    off = along - start - step * number
    spread = math.sqrt(float((off**2).sum()) / (len(off) - 2))
    error = max(spread, _UNSURE) / math.sqrt(float(((number - number.mean()) ** 2).sum()))
    surprise = _surprise(row, number, off, step, lines)
    return Chain(row, number - number[0], along, step, error, surprise)


def _line(number: npt.NDArray[np.int64], along: Floats) -> tuple[float, float]:
    """Return slope and start of the least squares line."""
    centred = number - number.mean()
    step = float((centred * along).sum() / (centred**2).sum())
    return step, float(along.mean() - step * number.mean())


def _surprise(row: Row, number: npt.NDArray[np.int64], off: Floats, step: float, lines: int) -> float:
    """Return −log₁₀ of how many such rows chance is expected to make on all lines of the picture."""
    last = int(number[-1] - number[0])
    # As dense as strokes are on this line; each must stand as exactly as the worst of these.
    dense = len(row.along) / max(row.length, last * step)
    chance = min(0.9, max(dense, _LOOSE) * 2 * max(float(np.abs(off).max()), 0.5))
    asked, held = last - 1, len(number) - 2  # by the first two, and of those there
    tail = sum(math.comb(asked, k) * chance**k * (1 - chance) ** (asked - k) for k in range(held, asked + 1))
    return -math.log10(max(tail, 1e-300)) - math.log10(lines * len(row.along) ** 2)


def long_marks(lightness: Plane, chain: Chain) -> tuple[int, Floats]:
    """Return how many ticks are from one long mark to the next, and each tick's length, in pixels.

    1 where all ticks are alike, 0 where that is not told: some order is seen, and not clearly. The first and
    the last tick do not count: a frame often makes them longer. An order is clear where nearly every mark is
    longer than every other tick, and where lengths drawn at random show it in one row of 25 only.

    Args:
        lightness: float32 (h, w), L*, in which the chain was found.
        chain: the row of ticks.
    """
    length = _tick_lengths(lightness, chain)
    # Of no length are ticks that a hair crosses, and those so short that the row runs past them.
    sets = [(number, inner) for number, inner in _readings(chain.number, length) if len(inner) >= 3]
    if not sets:
        return 0, length
    every = max(next((k for k in _EVERY if _ordered(*each, k, _CLEAR)), 1) for each in sets)
    for number, inner in sets:
        marks = number % every == place_of_marks(number, inner, every)
        middle = float(np.median(inner[marks]))
        alike = np.abs(inner[marks] - middle) <= _ALIKE * middle
        # Among the marks there may be longer ones still, too few or too blurred to be sure of.
        finer = number[marks] // every
        unclear = any(_ordered(finer, inner[marks], k, _SEEN) for k in _EVERY)
        if unclear or alike.mean() < _MOST_ALIKE:
            return 0, length
    return every, length


def _readings(number: npt.NDArray[np.int64], length: Floats) -> list[tuple[npt.NDArray[np.int64], Floats]]:
    """Return the inner ticks and their lengths, and again without those of no length."""
    number, length = number[1:-1], length[1:-1]
    known = length > 0
    return [(number, length), (number[known], length[known])]


def place_of_marks(number: npt.NDArray[np.int64], length: Floats, every: int) -> int:
    """Return at which number, of ``every`` in turn, the longest ticks are."""
    return int(np.argmax(_middles(number, length, every)))


def _middles(number: npt.NDArray[np.int64], length: Floats, every: int) -> list[float]:
    """Return the median length of the ticks at each place of ``every`` in turn, 0 where there is none."""
    parts = [length[number % every == k] for k in range(every)]
    return [float(np.median(part)) if len(part) else 0.0 for part in parts]


def _ordered(number: npt.NDArray[np.int64], length: Floats, every: int, sure: float) -> bool:
    """Say whether the ticks at one place of ``every`` in turn are longer than those at each other.

    ``sure`` is the share of pairs, a mark and another tick, of which the mark must be the longer.
    """
    middles = np.array(_middles(number, length, every))
    first, second = (int(k) for k in np.argsort(-middles, kind="stable")[:2])
    marks, others, next_best = (
        length[chosen]
        for chosen in (number % every == first, number % every != first, number % every == second)
    )
    if not len(next_best) or middles[first] < _LONGER * middles[second]:
        return False
    if _longer(marks, others) < sure or _longer(marks, next_best) < sure - _LESS_SURE:
        return False
    by_chance = math.comb(len(length), len(marks))
    return sure < _CLEAR or (len(marks) >= 2 and len(others) >= 2 and by_chance >= every * _BY_CHANCE)


def _longer(marks: Floats, others: Floats) -> float:
    """Return the share of pairs of which the mark is the longer; a tie counts a half."""
    return (1 + float(np.sign(marks[:, None] - others[None]).mean())) / 2


def slant(lightness: Plane, chain: Chain) -> float:
    """Return by how many radians the ticks lean from the right angle to their row, to either side.

    A row is found in one of 60 directions, so that it crosses the ticks a little aslant, and their distance
    along it is too long by 1 / cos of this.
    """
    aside = np.arange(-4.0, 4.01, 0.5)
    across = np.arange(-6.0, 6.1, 1.0)
    wide = min(4.0, 0.4 * chain.step)
    taken = np.stack([_taken(lightness, chain, shift, across) for shift in aside], axis=2)
    # All ticks as one: how dark it is so far beside them, so far across the row.
    middle = np.median(taken, axis=0)
    dark = np.maximum(np.median(middle) - middle, 0)
    dark[:, np.abs(aside) > wide] = 0
    depth = dark.max(axis=1)
    clear = depth > 0.5 * depth.max()
    if np.count_nonzero(clear) < 3:
        return 0.0
    place = (dark * aside).sum(axis=1)[clear] / dark.sum(axis=1)[clear]
    return abs(math.atan(float(np.polyfit(across[clear], place, 1)[0])))


def _taken(lightness: Plane, chain: Chain, shift: float, across: Floats) -> Floats:
    """Return the lightness beside each tick, (ticks, across): so far along the row, and so far across it."""
    c, s = math.cos(chain.row.angle), math.sin(chain.row.angle)
    along = chain.along[:, None] + shift
    offset = chain.row.offset + across[None]
    at = [(along * c - offset * s).astype(np.float32), (along * s + offset * c).astype(np.float32)]
    out = cv2.remap(lightness, at[0], at[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(out, dtype=np.float64)


def _tick_lengths(lightness: Plane, chain: Chain) -> Floats:
    """Return how far each tick stays dark to both sides of the row, at half of its depth or more."""
    reach = int(min(60.0, max(30.0, 3 * chain.step)))
    across = np.arange(-reach, reach + 1, dtype=np.float64)
    beside = min(0.5 * chain.step, 4.0)
    # A tick may lean a little against the right angle: the darkest of three places is its own.
    middle = np.minimum.reduce([_taken(lightness, chain, shift, across) for shift in (-1.0, 0.0, 1.0)])
    sides = _taken(lightness, chain, -beside, across) + _taken(lightness, chain, beside, across)
    depth = cv2.blur(sides / 2 - middle, (3, 1))
    # The row may run a little beside a tick: its length is measured from where it is darkest nearby.
    near = reach - _BESIDE + depth[:, reach - _BESIDE : reach + _BESIDE + 1].argmax(axis=1)
    at = depth[np.arange(len(depth)), near]
    dark = depth >= 0.5 * np.maximum(at, np.median(at))[:, None]
    place = np.arange(depth.shape[1])[None]
    light_after = np.where(dark | (place < near[:, None]), depth.shape[1], place).min(axis=1)
    light_before = np.where(dark | (place > near[:, None]), -1, place).max(axis=1)
    return np.asarray(np.maximum(light_after - light_before - 1, 0), dtype=np.float64)
