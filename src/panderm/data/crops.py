"""A random rectangle of a picture by torchvision's rules, how it is turned, and how its file is decoded."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
import torch
from PIL import Image

from panderm.data.images import MAX_MEGAPIXELS, decode
from panderm.data.pillow import plain_jpeg, upright
from panderm.data.preprocess import FILTERS, Interpolation
from panderm.errors import UsageError

Pixels = npt.NDArray[np.uint8]
Filter = Literal["bilinear", "bicubic"]

TRIES = 10
"""Rectangles drawn before the centre is taken, as torchvision's RandomResizedCrop does."""
# A JPEG may be decoded at a half, a quarter or an eighth where what is seen of it still has so many times the
# pixels it is resized to, along each axis.
_LEAST = 2.0
_BY_TORCH = {
    "bilinear": torch.ops.aten._upsample_bilinear2d_aa.default,
    "bicubic": torch.ops.aten._upsample_bicubic2d_aa.default,
}


class Crop(NamedTuple):
    """A rectangle of a picture in pixels, and how it is then turned.

    Attributes:
        top, left, height, width: the rectangle.
        flip: mirrored left to right.
        vertical_flip: mirrored top to bottom, after that.
        turns: quarter turns counter-clockwise, after that.
    """

    top: int
    left: int
    height: int
    width: int
    flip: bool = False
    vertical_flip: bool = False
    turns: int = 0

    def cut(self, rgb: Pixels, by: int = 1) -> Pixels:
        """Return the rectangle of a picture that was scaled down ``by`` while it was decoded; not turned."""
        top, left, height, width = (side // by for side in self[:4])
        return rgb[top : top + height, left : left + width]

    def turned(self, rgb: Pixels) -> Pixels:
        """Return a square of pixels mirrored and turned, contiguous."""
        if self.flip or self.vertical_flip:
            which = 1 if not self.vertical_flip else -1 if self.flip else 0
            rgb = np.asarray(cv2.flip(rgb, which), dtype=np.uint8)
        return np.ascontiguousarray(np.rot90(rgb, self.turns))


@dataclass(frozen=True)
class Crops:
    """Draws rectangles by the rules of torchvision's RandomResizedCrop, and how they are turned.

    A share of the picture's area, uniform in ``scale``, and an aspect, log-uniform in ``ratio``, ten times;
    where no rectangle fits, the largest one of an allowed aspect is cut from the centre.

    Attributes:
        scale: least and largest share of the area.
        ratio: least and largest width over height.
        flip: probability of mirroring left to right.
        vertical_flip: probability of mirroring top to bottom.
        turn: probability of a turn by 0, 90, 180 or 270 degrees, each as likely.
        side: of the square it is resized to, where its file may be decoded smaller for that; else None.

    Raises:
        UsageError: an option out of its range.
    """

    scale: tuple[float, float]
    ratio: tuple[float, float]
    flip: float
    vertical_flip: float
    turn: float
    side: int | None = None

    def __post_init__(self) -> None:
        rules = {
            "a crop's scale must be two shares of the area, 0 < least <= largest <= 1.": 0
            < self.scale[0]
            <= self.scale[1]
            <= 1,
            "a crop's ratio must be two positive numbers, the lesser first.": 0
            < self.ratio[0]
            <= self.ratio[1],
            "flips and turns must be probabilities, 0 to 1.": all(
                0 <= p <= 1 for p in (self.flip, self.vertical_flip, self.turn)
            ),
        }
        for must, holds in rules.items():
            if not holds:
                raise UsageError(must, f"found {self}")

    def draw(self, height: int, width: int, rng: np.random.Generator) -> Crop:
        """Draw the rectangle of a picture and how it is turned.

        Of a picture that may be scaled down while it is decoded, the rectangle begins and ends at whole
        pixels of the smaller one, whatever its file: it moves by less than 8 pixels.
        """
        top, left, tall, wide = self._rectangle(height, width, rng)
        by = self.shrink(tall, wide)
        if by > 1:
            tall, wide = (min(round(m / by), n // by) * by for m, n in ((tall, height), (wide, width)))
            top = min(round(top / by), (height - tall) // by) * by
            left = min(round(left / by), (width - wide) // by) * by
        chances = rng.random(4)
        turns = int(chances[3] * 4) if chances[2] < self.turn else 0
        flips = bool(chances[0] < self.flip), bool(chances[1] < self.vertical_flip)
        return Crop(top, left, tall, wide, *flips, turns)

    def shrink(self, height: int, width: int) -> int:
        """Return by how much a picture may be scaled down while it is decoded, for a crop: 1, 2, 4 or 8."""
        return 1 if self.side is None else shrink(height, width, self.side, self.side)

    def _rectangle(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(TRIES):
            share, lean, down, right = rng.random(4).tolist()
            area = height * width * (self.scale[0] + share * (self.scale[1] - self.scale[0]))
            aspect = math.exp(low + lean * (high - low))
            wide, tall = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < wide <= width and 0 < tall <= height:
                return int(down * (height - tall + 1)), int(right * (width - wide + 1)), tall, wide
        wide, tall = width, height
        if width / height < self.ratio[0]:
            tall = min(height, round(width / self.ratio[0]))
        elif width / height > self.ratio[1]:
            wide = min(width, round(height * self.ratio[1]))
        return (height - tall) // 2, (width - wide) // 2, tall, wide


def shrink(height: int, width: int, tall: int, wide: int) -> int:
    """Return by how much a picture that is resized to ``tall`` × ``wide`` may be decoded smaller: 1 to 8."""
    most = min(height / tall, width / wide) / _LEAST
    return next(by for by in (8, 4, 2, 1) if by <= max(most, 1))


def decode_scaled(
    content: bytes, name: str, scaled: Callable[[int, int], int], *, max_megapixels: float = MAX_MEGAPIXELS
) -> tuple[Pixels, int]:
    """Decode a file to RGB, a plain JPEG no larger than needed.

    Args:
        content: the whole file.
        name: for messages.
        scaled: is called once, with height and width of the upright picture; returns by how much a JPEG may
            be scaled down: 1, 2, 4 or 8.
        max_megapixels: a header that asks for more millions of pixels is refused.

    Returns:
        uint8 (H / by, W / by, 3), rounded up, upright; and by, which is 1 of every other file.

    Raises:
        ImageError: as :func:`panderm.data.images.decode`.
    """
    plain = plain_jpeg(content, max_megapixels)
    if plain is None:
        rgb = decode(content, name, max_megapixels=max_megapixels)
        scaled(rgb.shape[0], rgb.shape[1])
        return rgb, 1
    height, width, orientation = plain
    by = scaled(*((width, height) if orientation > 4 else (height, width)))
    while orientation > 1 and (height % by or width % by):
        by //= 2  # turned, a last row that is not full would be the first
    found = _decoded(content, -(-height // by), -(-width // by))
    if found is None and by > 1:
        by, found = 1, _decoded(content, height, width)
    if found is None:
        return decode(content, name, max_megapixels=max_megapixels), 1
    return (upright(found, orientation) if orientation > 1 else found), by


def resized(rgb: Pixels, size: int | tuple[int, int], interpolation: Filter) -> Pixels:
    """Return a picture (H, W, 3), or one in grey (H, W), as a square of ``size``, or of (height, width).

    Antialiased, in 8 bits.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if rgb.shape[:2] == (height, width):
        return rgb
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        # Elsewhere torch is slower than Pillow, and starts threads of its own for each image.
        return resized_by_pillow(rgb, (height, width), interpolation)
    if not (rgb.flags.c_contiguous and rgb.flags.writeable):
        rgb = rgb.copy()
    if rgb.ndim == 2:
        made = _BY_TORCH[interpolation](torch.from_numpy(rgb)[None, None], [height, width], False, None, None)
        return np.asarray(made[0, 0].numpy())
    # With the axes in this order torch sees that channels are interleaved, and is twice as fast.
    pixels = torch.from_numpy(rgb)[None].permute(0, 3, 1, 2)
    made = _BY_TORCH[interpolation](pixels, [height, width], False, None, None)
    return np.asarray(made[0].permute(1, 2, 0).contiguous().numpy())


def resized_by_pillow(rgb: Pixels, size: int | tuple[int, int], interpolation: Interpolation) -> Pixels:
    """Return what :func:`resized` does, to the bit of Pillow's filter, whatever the machine."""
    height, width = (size, size) if isinstance(size, int) else size
    if rgb.shape[:2] == (height, width):
        return rgb
    return np.array(Image.fromarray(rgb).resize((width, height), FILTERS[interpolation]))


def _decoded(content: bytes, height: int, width: int) -> Pixels | None:
    """Return a plain JPEG's pixels as stored, at this size; None where libjpeg-turbo finds anything amiss."""
    try:
        rgb = simplejpeg.decode_jpeg(content, "RGB", min_height=height, min_width=width, strict=True)
    except ValueError:
        return None
    return rgb if rgb.shape[:2] == (height, width) else None
