"""One crop of a picture, seen twice: at the student's size and at the teacher's, in 8 bits."""

from __future__ import annotations

import math
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
from panderm.errors import UsageError
from panderm.pretraining.jitter import Jitter

Pixels = npt.NDArray[np.uint8]

TRIES = 10
"""Rectangles drawn before the centre is taken, as torchvision's RandomResizedCrop does."""
# A JPEG may be decoded at a half, a quarter or an eighth where the crop still has so many times the larger
# view's pixels along each axis.
_LEAST = 2.0
_BY_TORCH = {
    "bilinear": torch.ops.aten._upsample_bilinear2d_aa.default,
    "bicubic": torch.ops.aten._upsample_bicubic2d_aa.default,
}
_BY_PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


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


@dataclass(frozen=True)
class TwoViews:
    """One random crop, mirrored or not, resized once for the student and once for the teacher.

    Area and aspect of the crop are drawn by the rules of torchvision's RandomResizedCrop: a share of the
    picture's area, uniform in ``scale``, and an aspect, log-uniform in ``ratio``, ten times; where no
    rectangle fits, the largest one of an allowed aspect is cut from the centre. Draws come from the generator
    alone, and in one order, so that the same generator gives the same views.

    Attributes:
        student_size: side of the student's view, pixels.
        teacher_size: side of the teacher's; 0 where no teacher looks.
        scale: least and largest share of the area.
        ratio: least and largest width over height.
        flip: probability of mirroring left to right.
        vertical_flip: probability of mirroring top to bottom.
        turn: probability of a turn by 0, 90, 180 or 270 degrees, each as likely.
        jitter: brightness, contrast and saturation are each multiplied by a factor within 1 ± jitter.
        hue: the hue is shifted by up to ± hue of the circle, at most 0.5.
        student_only: the teacher sees the colours as they are.
        interpolation: filter, antialiased.

    Raises:
        UsageError: an option out of its range.

    Example:
        >>> views = TwoViews(224, 196)
        >>> rgb = np.zeros((450, 600, 3), np.uint8)
        >>> student, teacher = views(rgb, np.random.default_rng([0, 1, 2]))
        >>> student.shape, teacher.shape
        ((224, 224, 3), (196, 196, 3))
    """

    student_size: int
    teacher_size: int
    scale: tuple[float, float] = (0.4, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    vertical_flip: float = 0.0
    turn: float = 0.0
    jitter: float = 0.0
    hue: float = 0.0
    student_only: bool = False
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"

    def __post_init__(self) -> None:
        rules = {
            "the student's view must be 8 pixels wide at least.": self.student_size >= 8,
            "the teacher's view must be 8 pixels wide at least, or 0.": self.teacher_size >= 8
            or not self.teacher_size,
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
            "colour jitter must be 0 or more, hue 0 to 0.5.": self.jitter >= 0 and 0 <= self.hue <= 0.5,
        }
        for must, holds in rules.items():
            if not holds:
                raise UsageError(must, f"found {self}")

    def __call__(self, rgb: Pixels, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
        """Return the two views of a picture, uint8 (S, S, 3) and (T, T, 3).

        Args:
            rgb: uint8 (H, W, 3).
            rng: is drawn from.
        """
        return self._views(rgb, self.draw(rgb.shape[0], rgb.shape[1], rng), 1, rng)

    def of_file(
        self, content: bytes, name: str, rng: np.random.Generator, *, max_megapixels: float = MAX_MEGAPIXELS
    ) -> tuple[Pixels, Pixels]:
        """Return the two views of a file: the same draws as of its pixels, but decoded no larger than needed.

        A plain JPEG whose crop has twice the pixels that a view needs, or more, along both axes is decoded at
        a half, a quarter or an eighth; its crop then begins at a pixel of that smaller picture.

        Args:
            content: the whole file.
            name: for messages.
            rng: is drawn from.
            max_megapixels: a header that asks for more millions of pixels is refused.

        Raises:
            ImageError: as :func:`panderm.data.images.decode`.
        """
        plain = plain_jpeg(content, max_megapixels)
        if plain is not None:
            height, width, orientation = plain
            tall, wide = (width, height) if orientation > 4 else (height, width)
            crop = self.draw(tall, wide, rng)
            by = self._shrink(crop.height, crop.width)
            while orientation > 1 and (height % by or width % by):
                by //= 2  # turned, a last row that is not full would be the first
            rgb = _decoded(content, -(-height // by), -(-width // by))
            if rgb is None and by > 1:
                by, rgb = 1, _decoded(content, height, width)
            if rgb is None:
                rgb, by = decode(content, name, max_megapixels=max_megapixels), 1
            elif orientation > 1:
                rgb = upright(rgb, orientation)
            return self._views(rgb, crop, by, rng)
        rgb = decode(content, name, max_megapixels=max_megapixels)
        return self._views(rgb, self.draw(rgb.shape[0], rgb.shape[1], rng), 1, rng)

    def draw(self, height: int, width: int, rng: np.random.Generator) -> Crop:
        """Draw the rectangle of a picture and how it is turned.

        Of a picture that may be scaled down while it is decoded, the rectangle begins and ends at whole
        pixels of the smaller one, whatever its file: it moves by less than 8 pixels.
        """
        top, left, tall, wide = self._rectangle(height, width, rng)
        by = self._shrink(tall, wide)
        if by > 1:
            tall, wide = (min(round(m / by), n // by) * by for m, n in ((tall, height), (wide, width)))
            top = min(round(top / by), (height - tall) // by) * by
            left = min(round(left / by), (width - wide) // by) * by
        chances = rng.random(4)
        turns = int(chances[3] * 4) if chances[2] < self.turn else 0
        return Crop(
            top,
            left,
            tall,
            wide,
            bool(chances[0] < self.flip),
            bool(chances[1] < self.vertical_flip),
            turns,
        )

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

    def _shrink(self, height: int, width: int) -> int:
        """Return by how much a picture may be scaled down while it is decoded, for a crop: 1, 2, 4 or 8."""
        most = min(height, width) / (_LEAST * max(self.student_size, self.teacher_size))
        return next(by for by in (8, 4, 2, 1) if by <= max(most, 1))

    def _views(self, rgb: Pixels, crop: Crop, by: int, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
        if by > 1:
            top, left, height, width = (side // by for side in crop[:4])
            crop = crop._replace(top=top, left=left, height=height, width=width)
        cut = rgb[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
        colours = Jitter.draw(self.jitter, self.hue, rng) if self.jitter or self.hue else None
        made = []
        for size, jittered in ((self.student_size, True), (self.teacher_size, not self.student_only)):
            view = resized(cut, size, self.interpolation) if size else np.zeros((0, 0, 3), np.uint8)
            if colours is not None and jittered and size:
                view = colours(view)
            if size and (crop.flip or crop.vertical_flip):
                which = 1 if not crop.vertical_flip else -1 if crop.flip else 0
                view = np.asarray(cv2.flip(view, which), dtype=np.uint8)
            made.append(np.ascontiguousarray(np.rot90(view, crop.turns)))
        return made[0], made[1]


def resized(rgb: Pixels, size: int, interpolation: Literal["bilinear", "bicubic"]) -> Pixels:
    """Return a picture (H, W, 3) as a square (size, size, 3), with an antialiased filter, in 8 bits."""
    if rgb.shape[:2] == (size, size):
        return rgb
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        # Elsewhere torch is slower than Pillow, and starts threads of its own for each image.
        return np.array(Image.fromarray(rgb).resize((size, size), _BY_PILLOW[interpolation]))
    if not (rgb.flags.c_contiguous and rgb.flags.writeable):
        rgb = rgb.copy()
    # With the axes in this order torch sees that channels are interleaved, and is twice as fast.
    pixels = torch.from_numpy(rgb)[None].permute(0, 3, 1, 2)
    made = _BY_TORCH[interpolation](pixels, [size, size], False, None, None)
    return np.asarray(made[0].permute(1, 2, 0).contiguous().numpy())


def _decoded(content: bytes, height: int, width: int) -> Pixels | None:
    """Return a plain JPEG's pixels as stored, at this size; None where libjpeg-turbo finds anything amiss."""
    try:
        rgb = simplejpeg.decode_jpeg(content, "RGB", min_height=height, min_width=width, strict=True)
    except ValueError:
        return None
    return rgb if rgb.shape[:2] == (height, width) else None
