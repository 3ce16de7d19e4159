"""Paints the drawn world's lesions: traits and random streams in, pixels and a mask out.

Lengths are in units of the image's shorter side; colours are sRGB from 0 to 255.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Image8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]
_Plane = NDArray[np.float32]


class Traits(NamedTuple):
    """What a lesion looks like; the painter sees these and never the class."""

    radius: float
    ragged: float  # how far the outline leaves a circle, as a share of the radius
    lopsided: float  # pigment heavier on one side
    density: float  # pigment; 1 is a mid brown on pale skin
    variety: float  # black, blue-grey and red areas
    keratin: float  # waxy yellow-grey in place of brown
    dots: float  # pale and dark dots
    rough: float
    network: float  # the honeycomb of regular pigment
    blur: float  # half the width of the edge


_TYPICAL = {
    "nevus": Traits(0.17, 0.05, 0.10, 1.05, 0.00, 0.00, 0.00, 0.10, 0.30, 0.022),
    "melanoma": Traits(0.28, 0.18, 0.60, 1.50, 1.00, 0.00, 0.00, 0.30, 0.20, 0.016),
    "keratosis": Traits(0.25, 0.09, 0.15, 0.60, 0.00, 1.00, 1.00, 0.60, 0.00, 0.006),
}
_SPREAD = np.array(Traits(0.045, 0.04, 0.20, 0.25, 0.25, 0.25, 0.25, 0.20, 0.12, 0.006))
_LEAST = np.array(Traits(0.10, 0.03, 0.0, 0.45, 0.0, 0.0, 0.0, 0.05, 0.0, 0.004))
_MOST = np.array(Traits(0.34, 0.21, 1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.035))

_SKIN = {
    "I": (238, 204, 190),
    "II": (230, 188, 166),
    "III": (214, 168, 140),
    "IV": (186, 136, 106),
    "V": (142, 98, 74),
    "VI": (100, 68, 54),
}
_MELANIN = (0.55, 0.86, 1.08)  # what density 1 takes from red, green and blue: light is lost exponentially
_BLUE_GREY = (104, 112, 130)
_RED = (182, 84, 78)
_WAX = (190, 160, 112)
_MILIUM = (244, 228, 196)
_PLUG = (46, 42, 40)
_REACH = 1.2  # patterns cover this far from the lesion's centre


def traits_of(rng: np.random.Generator, label: str, difficulty: float, habit: NDArray[np.float64]) -> Traits:
    """Draw a lesion's traits around its class's; ``habit`` (6,) is what a patient's lesions share."""
    middle = np.mean(list(_TYPICAL.values()), axis=0)
    typical = middle + (np.array(_TYPICAL[label]) - middle) * (1 - 0.4 * difficulty)
    own = rng.standard_normal(len(typical))
    own[[0, 3]] = 0.8 * own[[0, 3]] + 0.6 * habit[:2]  # size and darkness run in a patient
    values = typical + _SPREAD * (0.3 + 1.0 * difficulty) * own
    return Traits(*np.clip(values, _LEAST, _MOST).tolist())


class _Frame:
    """Where the lesion's own coordinates fall in a picture, and the box of pixels that holds the lesion."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int], growth: float, reach: float) -> None:
        width, height = size
        short = min(size)
        self.turn = rng.normal(0, 0.12)
        self.scale = short * growth * rng.uniform(0.96, 1.04)
        cx, cy = (np.array(size) + short * rng.uniform(-0.06, 0.06, 2)) / 2
        half = reach * self.scale
        left, right = max(0, int(cx - half)), min(width, int(cx + half) + 1)
        top, bottom = max(0, int(cy - half)), min(height, int(cy + half) + 1)
        self.box = slice(top, bottom), slice(left, right)
        self.size = right - left, bottom - top
        self.centre = cx - left, cy - top
        x = np.arange(left + 0.5 - cx, right - cx, dtype=np.float32)
        y = np.arange(top + 0.5 - cy, bottom - cy, dtype=np.float32)[:, None]
        self.cos, self.sin = math.cos(self.turn) / self.scale, math.sin(self.turn) / self.scale
        self.u: _Plane = (self.cos * x + self.sin * y).astype(np.float32)
        self.v: _Plane = (self.cos * y - self.sin * x).astype(np.float32)

    def along(self, angle: float) -> _Plane:
        """Return how far each pixel of the box lies from the lesion's centre in one direction."""
        return (math.cos(angle) * self.u + math.sin(angle) * self.v).astype(np.float32)

    def pattern(self, grid: _Plane) -> _Plane:
        """Look up a square grid that moves with the lesion, for each pixel of the box, smoothly."""
        cells, middle = len(grid) / (2 * _REACH), len(grid) / 2
        a, b = self.cos * cells, self.sin * cells
        cx, cy = self.centre
        affine = (a, b, middle - a * cx - b * cy, -b, a, middle + b * cx - a * cy)
        image = Image.fromarray(grid)
        return np.asarray(
            image.transform(self.size, Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC)
        )


def paint(
    traits: Traits,
    rng: np.random.Generator,
    picture: np.random.Generator,
    tone: str,
    size: tuple[int, int],
    growth: float,
    habit: NDArray[np.float64],
) -> tuple[Image8, Mask]:
    """Paint one lesion: RGB uint8 (H, W, 3) and its mask (H, W); ``picture`` makes framing and light."""
    outline = _outline(rng, traits)
    frame = _Frame(picture, size, growth, reach=outline.max() + 7 * traits.blur)
    angle, distance = np.arctan2(frame.v, frame.u), np.hypot(frame.u, frame.v)
    bound = np.interp(angle, np.linspace(-math.pi, math.pi, len(outline)), outline).astype(np.float32)
    edge = 1 / (1 + np.exp(np.minimum((distance - bound) / np.float32(traits.blur), 60)))  # exp stays finite
    mask = np.zeros(size[::-1], np.bool_)
    mask[frame.box] = distance < bound

    colour = _skin(picture, tone, size, habit)
    colour[frame.box] = _pigment(traits, rng, frame, outline, edge, colour[frame.box])
    hairs = picture.poisson(1.6 * max(0.0, 0.4 + habit[5]))
    colour *= 1 - np.float32(0.7) * _hairs(picture, size, hairs)[..., None]
    return _photograph(picture, colour), mask


def _pigment(
    traits: Traits,
    rng: np.random.Generator,
    frame: _Frame,
    outline: NDArray[np.float64],
    edge: _Plane,
    skin: _Plane,
) -> _Plane:
    """Lay the lesion over its box of skin, each ``(h, w, 3)``; ``edge`` ``(h, w)`` falls from 1 to 0."""
    heavy = rng.uniform(0, 2 * math.pi)
    coarse = rng.standard_normal((5, 20, 20), np.float32)
    fine = rng.standard_normal((110, 110), np.float32)
    spots = rng.uniform(0, 1, (int(50 * max(0.0, traits.dots - 0.1)), 4))

    # One density of brown, modulated; light passes it as in Beer's law.
    side = np.clip(frame.along(heavy) / traits.radius, -1.2, 1.2)
    warp = 1.2 * frame.pattern(coarse[0])
    net = sum(np.cos(75 * frame.along(third * math.pi / 3) + warp) for third in range(3))
    density = 1 + 0.45 * traits.lopsided * side + 0.28 * traits.network * net
    density += 0.22 * traits.rough * frame.pattern(fine)
    density += (0.12 + 0.35 * traits.variety) * frame.pattern(coarse[1])
    density = traits.density * np.clip(density, 0.15, 2.4) * edge
    colour = skin * np.exp(-density[..., None] * np.array(_MELANIN, np.float32))

    # Then what is not brown: wax, blue-grey and red areas, pale and dark dots.
    light = skin / np.float32(220)
    wax = 0.72 * traits.keratin * (0.8 + 0.2 * np.clip(frame.pattern(coarse[2]), -1, 1))
    colour = _blend(colour, wax * edge, light * (0.75 + 0.15 / traits.density), _WAX)
    for grid, tint, most in ((coarse[3], _BLUE_GREY, 0.75), (coarse[4], _RED, 0.55)):
        area = most * traits.variety * np.clip(1.4 * frame.pattern(grid) - 0.5, 0, 1)
        colour = _blend(colour, area * edge, np.sqrt(light), tint)
    if len(spots):
        colour = _blend(colour, _dots(spots[::2], outline, frame) * edge, light, _MILIUM)
        colour = _blend(colour, _dots(spots[1::2], outline, frame) * edge, light, _PLUG)
    return colour


def _blend(colour: _Plane, share: _Plane, light: _Plane, tint: tuple[int, int, int]) -> _Plane:
    """Move each pixel by its share, 0 to 1, towards a tint under the light that falls on the skin."""
    colour += share[..., None] * (light * np.array(tint, np.float32) - colour)
    return colour


def _photograph(rng: np.random.Generator, colour: _Plane) -> Image8:
    """Add exposure, white balance, darker corners and the camera's noise."""
    height, width = colour.shape[:2]
    gain = np.exp(rng.normal(0, 0.04) + rng.normal(0, 0.012, 3))
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    shade = 1 - rng.uniform(0.08, 0.16) * (x[None] ** 2 + y[:, None] ** 2)
    shade += 0.03 * _clouds(rng, 5, (width, height))
    colour *= shade.astype(np.float32)[..., None] * gain.astype(np.float32)
    colour += 2.5 * rng.standard_normal((height, width, 1), np.float32)
    seen: Image8 = np.clip(colour + 0.5, 0, 255).astype(np.uint8)
    return seen


def _outline(rng: np.random.Generator, traits: Traits) -> NDArray[np.float64]:
    """Return the lesion's radius at 361 angles from -pi to pi: a circle bent by waves."""
    angle = np.linspace(-math.pi, math.pi, 361)
    wave = np.arange(1, 21)
    # The more ragged, the more of the bend is in short waves.
    falls = wave ** (-2.2 + 3.0 * traits.ragged)
    size, phase = rng.normal(0, 1, len(wave)) * falls, rng.uniform(0, 2 * math.pi, len(wave))
    bend = size @ np.cos(wave[:, None] * angle + phase[:, None])
    bend *= traits.ragged / bend.std()
    radius: NDArray[np.float64] = traits.radius * np.clip(1 + bend, 0.5, 1.5)
    return radius


def _clouds(rng: np.random.Generator, cells: int, size: tuple[int, int]) -> _Plane:
    """Return smooth noise ``(H, W)`` of about unit height, with so many cells along each side."""
    grid = Image.fromarray(rng.standard_normal((cells, cells), np.float32))
    return np.asarray(grid.resize(size, Image.Resampling.BICUBIC))


def _skin(rng: np.random.Generator, tone: str, size: tuple[int, int], habit: NDArray[np.float64]) -> _Plane:
    """Return bare skin, float32 ``(H, W, 3)``: blotchy at a hand's scale, lined at a pore's."""
    base = np.array(_SKIN[tone]) * (1 + 0.02 * habit[2:5])
    lines = np.abs(_clouds(rng, 60, size)) - 0.8
    texture = 1 + 0.02 * _clouds(rng, 4, size) + 0.018 * lines + 0.012 * _clouds(rng, 130, size)
    colour = texture[..., None] * base.astype(np.float32)
    flush = 0.025 * np.clip(_clouds(rng, 9, size), -2, 2)
    colour[..., 1:] *= 1 - flush[..., None]
    return colour


def _dots(spots: NDArray[np.float64], outline: NDArray[np.float64], frame: _Frame) -> _Plane:
    """Return how far dots scattered inside the outline cover each pixel of the box, 0 to 1, ``(h, w)``."""
    sheet = Image.new("L", frame.size)
    pen = ImageDraw.Draw(sheet)
    for around, out, big, strong in spots:
        far = 0.85 * frame.scale * math.sqrt(out) * outline[int(around * 360)]
        angle = frame.turn + (2 * around - 1) * math.pi
        x, y = frame.centre[0] + far * math.cos(angle), frame.centre[1] + far * math.sin(angle)
        half = frame.scale * (0.005 + 0.010 * big)
        pen.ellipse((x - half, y - half, x + half, y + half), fill=int(130 + 110 * strong))
    return _unit(sheet.filter(ImageFilter.GaussianBlur(frame.scale / 280)))


def _hairs(rng: np.random.Generator, size: tuple[int, int], count: int) -> _Plane:
    """Return how much of each pixel is covered by curved hairs, 0 to 1, ``(H, W)``."""
    sheet = Image.new("L", size)
    pen = ImageDraw.Draw(sheet)
    step = np.linspace(0, 1, 16)[:, None]
    for _ in range(count):
        start, bend, end = rng.uniform(-0.15, 1.15, (3, 2)) * size
        bend = 0.7 * (start + end) / 2 + 0.3 * bend
        curve = (1 - step) ** 2 * start + 2 * step * (1 - step) * bend + step**2 * end
        pen.line([(float(a), float(b)) for a, b in curve], fill=255, width=max(1, round(min(size) / 150)))
    return _unit(sheet.filter(ImageFilter.GaussianBlur(min(size) / 320)))


def _unit(sheet: Image.Image) -> _Plane:
    return np.asarray(sheet, np.float32) / np.float32(255)
