"""One crop of a picture, seen twice: at the student's size and at the teacher's, in 8 bits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from panderm.data.crops import Crop, Crops, Filter, Pixels, decode_scaled, resized
from panderm.data.images import MAX_MEGAPIXELS
from panderm.data.jitter import Jitter
from panderm.errors import UsageError


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
    interpolation: Filter = "bicubic"

    def __post_init__(self) -> None:
        rules = {
            "the student's view must be 8 pixels wide at least.": self.student_size >= 8,
            "the teacher's view must be 8 pixels wide at least, or 0.": self.teacher_size >= 8
            or not self.teacher_size,
            "colour jitter must be 0 or more, hue 0 to 0.5.": self.jitter >= 0 and 0 <= self.hue <= 0.5,
        }
        for must, holds in rules.items():
            if not holds:
                raise UsageError(must, f"found {self}")
        _ = self._crops  # refuses a crop out of range

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
        drawn: list[Crop] = []

        def scaled(height: int, width: int) -> int:
            drawn.append(self.draw(height, width, rng))
            return self._crops.shrink(drawn[0].height, drawn[0].width)

        rgb, by = decode_scaled(content, name, scaled, max_megapixels=max_megapixels)
        return self._views(rgb, drawn[0], by, rng)

    def draw(self, height: int, width: int, rng: np.random.Generator) -> Crop:
        """Draw the rectangle of a picture and how it is turned; see :meth:`panderm.data.crops.Crops.draw`."""
        return self._crops.draw(height, width, rng)

    @cached_property
    def _crops(self) -> Crops:
        largest = max(self.student_size, self.teacher_size)
        return Crops(self.scale, self.ratio, self.flip, self.vertical_flip, self.turn, largest)

    def _views(self, rgb: Pixels, crop: Crop, by: int, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
        cut = crop.cut(rgb, by)
        colours = Jitter.draw(self.jitter, self.hue, rng) if self.jitter or self.hue else None
        made = []
        for size, jittered in ((self.student_size, True), (self.teacher_size, not self.student_only)):
            view = resized(cut, size, self.interpolation) if size else np.zeros((0, 0, 3), np.uint8)
            if colours is not None and jittered and size:
                view = colours(view)
            made.append(crop.turned(view) if size else view)
        return made[0], made[1]
