"""Shapes, lesions and rulers whose measures are known, drawn pixel by pixel."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Image8 = npt.NDArray[np.uint8]
SKIN, BROWN = (222, 184, 160), (120, 75, 50)


def grid(size: int, x: float, y: float, turn: float) -> tuple[npt.NDArray[np.float64], ...]:
    """Return coordinates along and across an axis turned by ``turn`` degrees, upwards, through (x, y)."""
    down, right = np.mgrid[:size, :size].astype(np.float64)
    c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    return (right - x) * c - (down - y) * s, (right - x) * s + (down - y) * c


def ellipse(long: float, short: float, turn: float = 0.0, *, off: float = 0.3) -> Mask:
    """An ellipse of half axes ``long`` and ``short``, its centre off the grid."""
    size = 2 * math.ceil(long) + 9
    along, across = grid(size, size / 2 + off, size / 2 - off, turn)
    return (along / long) ** 2 + (across / short) ** 2 <= 1


def disc(radius: float, *, off: float = 0.3) -> Mask:
    return ellipse(radius, radius, off=off)


def rectangle(long: float, short: float, turn: float = 0.0) -> Mask:
    size = math.ceil(math.hypot(long, short)) + 11
    along, across = grid(size, size / 2 - 0.5, size / 2 - 0.5, turn)
    return (np.abs(along) <= long / 2) & (np.abs(across) <= short / 2)


def painted(mask: Mask, colour: tuple[int, int, int] = BROWN, skin: tuple[int, int, int] = SKIN) -> Image8:
    image = np.empty((*mask.shape, 3), np.uint8)
    image[:], image[mask] = skin, colour
    return image


def framed(mask: Mask, margin: int) -> Mask:
    return np.pad(mask, margin)


def ruler(
    step: float,
    ticks: int,
    turn: float,
    *,
    every: int = 1,
    size: int = 400,
    length: float = 8.0,
    longer: float = 2.0,
    width: float = 1.6,
    blur: float = 0.7,
    noise: float = 2.0,
    base: bool = False,
    seed: int = 0,
) -> Image8:
    """A scale on skin: ticks ``step`` pixels apart, every ``every``-th ``longer`` times as long."""
    by = 4
    ink = np.zeros((size * by, size * by), np.uint8)
    c, s = math.cos(math.radians(turn)), -math.sin(math.radians(turn))
    start = np.array([size / 2 - c * step * (ticks - 1) / 2, size / 2 - s * step * (ticks - 1) / 2])

    def line(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> None:
        ends = [tuple(round((v + 0.5) * by * 16) for v in end) for end in (one, other)]
        cv2.line(ink, ends[0], ends[1], 255, round(width * by), cv2.LINE_8, 4)

    for k in range(ticks):
        foot = start + k * step * np.array([c, s])
        reach = length * (longer if every > 1 and k % every == 0 else 1.0)
        line(foot, foot + reach * np.array([s, -c]))
    if base:
        line(start, start + (ticks - 1) * step * np.array([c, s]))
    cover = cv2.resize(ink, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    cover = cv2.GaussianBlur(cover, (0, 0), blur)[:, :, None]
    skin, black = np.array(SKIN, np.float32), np.array((40, 35, 35), np.float32)
    image = skin * (1 - cover) + black * cover
    image = image + np.random.default_rng(seed).normal(0, noise, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
