"""A very large image seen through overlapping windows, whose answers are blended."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from panderm.errors import UsageError
from panderm.segmenting.predicting.answers import Image8, Probability
from panderm.segmenting.predicting.native import Kept, at_native
from panderm.segmenting.predicting.opened import Opened

Answered = tuple[Probability, Probability | None]
Ask = Callable[[list[Image8]], Answered]
Floats = npt.NDArray[np.float32]


def require_windows(side: int, overlap: float) -> None:
    """Raise :class:`UsageError` where windows cannot be laid so."""
    if side < 16:
        raise UsageError("a window must have at least 16 pixels.", f"found --tiles {side}")
    if not 0 <= overlap <= 0.9:
        raise UsageError("windows must overlap by 0 to 0.9 of their side.", f"found --overlap {overlap}")


def starts(length: int, side: int, overlap: float) -> list[int]:
    """Return where windows begin along one side of an image: evenly, the last at its end.

    Args:
        length: of the image, pixels.
        side: of a window; a shorter image has one window of its own length.
        overlap: least part of a window that it shares with the next.

    Example:
        >>> starts(1000, 400, 0.25)
        [0, 300, 600]
    """
    side = min(side, length)
    n = 1 + math.ceil((length - side) / max(1.0, side * (1 - overlap)))
    return [round(i * (length - side) / max(1, n - 1)) for i in range(n)]


def taper(side: int) -> Floats:
    """Return the weights across a window, float32 (side,): a triangle, greatest in the middle, never 0."""
    at = np.arange(side) + 0.5
    return np.asarray(np.minimum(at, side - at) * (2 / side), dtype=np.float32)


def through_windows(
    opened: Opened, ask: Ask, *, side: int, overlap: float, batch: int, folder: Path | None, spread: bool
) -> Kept:
    """Return P(lesion) of an image by the windows' answers, each weighted by how far its edge is.

    In memory are the rows of one row of windows, of pixels and of probabilities.

    Args:
        opened: the image.
        ask: of some windows, uint8 (h, w, 3) each and of one size, returns probability and spread over views,
            float32 (n, s, t).
        side: of a window, pixels of the image.
        overlap: least part of a window that it shares with the next.
        batch: windows that are asked at once.
        folder: where a file for many probabilities may lie.
        spread: whether answers have a spread.
    """
    height, width = opened.shape
    tall, wide = min(side, height), min(side, width)
    tops, lefts = starts(height, side, overlap), starts(width, side, overlap)
    down, across = taper(tall), taper(wide)
    planes = 2 if spread else 1
    total = np.zeros(width, dtype=np.float32)
    for left in lefts:
        total[left : left + wide] += across
    kept = Kept(height, width, folder, spread=spread)
    reading = _Reading(opened)
    sums = np.zeros((planes, tall, width), dtype=np.float32)
    weights = np.zeros(tall, dtype=np.float32)
    for i, top in enumerate(tops):
        rows = reading.rows(top, top + tall)
        for start in range(0, len(lefts), batch):
            some = lefts[start : start + batch]
            answered = ask([np.ascontiguousarray(rows[:, left : left + wide]) for left in some])
            for plane, answers in enumerate(answered[:planes]):
                assert answers is not None
                for left, answer in zip(some, answers, strict=True):
                    native = at_native(answer, tall, wide)
                    sums[plane, :, left : left + wide] += native * (down[:, None] * across)
        weights += down
        done = (tops[i + 1] if i + 1 < len(tops) else height) - top
        if done:
            made = sums[:, :done] / (weights[:done, None] * total)
            kept.add(made[0].clip(0, 1), made[1] if spread else None)
            sums[:, :-done], weights[:-done] = sums[:, done:].copy(), weights[done:].copy()
            sums[:, -done:], weights[-done:] = 0, 0
    return kept


class _Reading:
    """Rows of an image that are asked for from the top, some of them again."""

    def __init__(self, opened: Opened) -> None:
        self._bands: Iterator[Image8] = opened.bands()
        self._top = 0
        self._held: list[Image8] = []

    def rows(self, top: int, bottom: int) -> Image8:
        """Return rows of the image; none above them is asked for later."""
        while self._held and self._top + len(self._held[0]) <= top:
            self._top += len(self._held.pop(0))
        while self._top + sum(map(len, self._held)) < bottom:
            self._held.append(next(self._bands))
        joined = self._held[0] if len(self._held) == 1 else np.concatenate(self._held)
        return joined[top - self._top : bottom - self._top]
