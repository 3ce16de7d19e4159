"""How a picture is seen while a classifier learns: a random crop, turned, in other colours, in 8 bits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from PIL import Image

from panderm.data.crops import Crop, Crops, Filter, Pixels, decode_scaled, resized, shrink
from panderm.data.images import MAX_MEGAPIXELS
from panderm.data.jitter import Jitter
from panderm.errors import UsageError


@dataclass(frozen=True)
class TrainViews:
    """One random view of a picture: crop, resize, flips, turn, rotation, colours, in this order.

    Areas and aspects of crops are those of torchvision's RandomResizedCrop, colours those of its ColorJitter.
    Draws come from the generator alone, and in one order, so that the same generator gives the same view.

    Attributes:
        size: side of the view, pixels.
        shorter: the whole picture is resized to this shorter side first, pixels; None: the crop is cut from
            the picture as it is, and resized once.
        scale: least and largest share of the area that a crop has.
        ratio: least and largest width over height of a crop.
        flip: probability of mirroring left to right.
        vertical_flip: probability of mirroring top to bottom.
        turn: probability of a turn by 0, 90, 180 or 270 degrees, each as likely; nothing is cut off by it.
        rotate: degrees; the view is rotated by an angle uniform in ± rotate, to the nearest pixel, and its
            corners become black.
        jitter: brightness, contrast and saturation are each multiplied by a factor within 1 ± jitter.
        hue: the hue is shifted by up to ± hue of the circle, at most 0.5.
        interpolation: filter of the resizing, antialiased.

    Raises:
        UsageError: an option out of its range.

    Example:
        >>> views = TrainViews.default(224)
        >>> views(np.zeros((450, 600, 3), np.uint8), np.random.default_rng([0, 1, 2])).shape
        (224, 224, 3)
    """

    size: int
    shorter: int | None = None
    scale: tuple[float, float] = (0.5, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    vertical_flip: float = 0.5
    turn: float = 0.0
    rotate: float = 0.0
    jitter: float = 0.0
    hue: float = 0.0
    interpolation: Filter = "bicubic"

    @classmethod
    def default(cls, size: int) -> Self:
        """Return what is right for skin: it has no upright, and its colours mean something.

        Crops of half the area or more, flips and quarter turns (which leave no black corners), brightness,
        contrast and saturation within 1 ± 0.2, hue within ± 0.02 of the circle (7 degrees).
        """
        return cls(size, scale=(0.5, 1.0), turn=1.0, jitter=0.2, hue=0.02)

    @classmethod
    def published(cls, size: int) -> Self:
        """Return the published fine-tuning's augmentation.

        Shorter side to 256 (of 224; in proportion for other sizes), crops of 75 % of its area or more, flips,
        rotation within ± 45 degrees with black corners, hue within ± 0.2 of the circle; bilinear.
        """
        return cls(
            size,
            shorter=round(size * 256 / 224),
            scale=(0.75, 1.0),
            rotate=45.0,
            hue=0.2,
            interpolation="bilinear",
        )

    def __post_init__(self) -> None:
        rules = {
            "a view must be 8 pixels wide at least.": self.size >= 8,
            "the shorter side must be 8 pixels at least.": self.shorter is None or self.shorter >= 8,
            "a rotation must be 0 to 180 degrees.": 0 <= self.rotate <= 180,
            "colour jitter must be 0 or more, hue 0 to 0.5.": self.jitter >= 0 and 0 <= self.hue <= 0.5,
            "the filter must be bilinear or bicubic.": self.interpolation in ("bilinear", "bicubic"),
        }
        for must, holds in rules.items():
            if not holds:
                raise UsageError(must, f"found {self}")
        _ = self._crops  # refuses a crop out of range

    def __call__(self, rgb: Pixels, rng: np.random.Generator) -> Pixels:
        """Return a view of a picture.

        Args:
            rgb: uint8 (H, W, 3).
            rng: is drawn from.

        Returns:
            uint8 (size, size, 3), contiguous.
        """
        height, width, _ = rgb.shape
        return self._view(rgb, height, width, None if self.shorter else self.draw(height, width, rng), 1, rng)

    def of_file(
        self, content: bytes, name: str, rng: np.random.Generator, *, max_megapixels: float = MAX_MEGAPIXELS
    ) -> Pixels:
        """Return a view of a file: the same draws as of its pixels, but decoded no larger than needed.

        A plain JPEG that has twice the pixels that are asked of it, or more, along both axes is decoded at a
        half, a quarter or an eighth.

        Args:
            content: the whole file.
            name: for messages.
            rng: is drawn from.
            max_megapixels: a header that asks for more millions of pixels is refused.

        Raises:
            ImageError: as :func:`panderm.data.images.decode`.
        """
        known: list[tuple[int, int, Crop | None]] = []

        def scaled(height: int, width: int) -> int:
            if self.shorter:
                known.append((height, width, None))
                return shrink(height, width, *self._whole(height, width))
            crop = self.draw(height, width, rng)
            known.append((height, width, crop))
            return self._crops.shrink(crop.height, crop.width)

        rgb, by = decode_scaled(content, name, scaled, max_megapixels=max_megapixels)
        return self._view(rgb, *known[0], by, rng)

    def draw(self, height: int, width: int, rng: np.random.Generator) -> Crop:
        """Draw the crop of a picture (of the resized one, where there is ``shorter``) and its turns."""
        return self._crops.draw(height, width, rng)

    @cached_property
    def _crops(self) -> Crops:
        side = None if self.shorter else self.size
        return Crops(self.scale, self.ratio, self.flip, self.vertical_flip, self.turn, side)

    def _whole(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the whole picture once it is resized, as torchvision's Resize rounds."""
        assert self.shorter is not None
        long = int(self.shorter * max(height, width) / min(height, width))
        return (self.shorter, long) if height < width else (long, self.shorter)

    def _view(
        self, rgb: Pixels, height: int, width: int, crop: Crop | None, by: int, rng: np.random.Generator
    ) -> Pixels:
        """Return the view of a picture of ``height`` × ``width``, scaled down ``by`` while it was decoded."""
        if crop is None:
            whole = self._whole(height, width)
            rgb, by, crop = resized(rgb, whole, self.interpolation), 1, self.draw(*whole, rng)
        view = crop.turned(resized(crop.cut(rgb, by), self.size, self.interpolation))
        if self.rotate:
            angle = self.rotate * (2 * rng.random() - 1)
            # Pillow's own, as torchvision's: counter-clockwise, about the centre, black outside.
            view = np.array(Image.fromarray(view).rotate(angle, Image.Resampling.NEAREST))
        if self.jitter or self.hue:
            view = Jitter.draw(self.jitter, self.hue, rng)(view)
        return view
