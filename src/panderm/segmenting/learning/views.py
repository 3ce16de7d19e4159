"""How a picture and its mask are seen while a segmenter learns: one geometry for both, colours for one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self, TypeAlias, get_args

import cv2
import numpy as np
import numpy.typing as npt

from panderm.data.crops import Crop, Crops, Pixels, decode_scaled, resized, resized_by_pillow
from panderm.data.images import MAX_MEGAPIXELS, ImageError
from panderm.data.jitter import Jitter, Tones
from panderm.data.preprocess import Interpolation
from panderm.errors import DataError, UsageError

Mask: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class MaskViews:
    """One random view of a picture and its mask: crop, resize to a square, flips, turn, rotation, colours.

    A crop is resized to a square whatever its shape, as the whole picture is where masks are predicted:
    ``ratio`` is what that squashing is multiplied by. The mask goes through the same steps in grey, by the
    same code, and is cut once, at the end: what is at least half inside is inside.

    Draws come from the generator alone, and in one order, so that the same generator gives the same view.

    Attributes:
        size: side of the view, pixels.
        scale: least and largest share of the area that a crop has; (1, 1) with ``ratio`` (1, 1): the whole.
        ratio: least and largest width over height of a crop, as a multiple of the picture's own.
        flip: probability of mirroring left to right.
        vertical_flip: probability of mirroring top to bottom.
        turn: probability of a turn by 0, 90, 180 or 270 degrees, each as likely.
        rotate: degrees; the view is rotated by an angle uniform in ± rotate, and its corners are filled with
            what lies mirrored at its edges, in picture and mask alike.
        jitter: brightness, contrast and saturation are each multiplied by a factor within 1 ± jitter.
        hue: the hue is shifted by up to ± hue of the circle, at most 0.5.
        tones: probabilities of grey, stretched and inverted tones.
        interpolation: filter of the picture's resizing, as of the segmenter's own input, antialiased; the
            mask's is bilinear, antialiased.

    Raises:
        UsageError: an option out of its range.

    Example:
        >>> views = MaskViews.default(224)
        >>> rgb, mask = np.zeros((450, 600, 3), np.uint8), np.zeros((450, 600), bool)
        >>> seen, inside = views(rgb, mask, np.random.default_rng([0, 1, 2]))
        >>> seen.shape, inside.shape
        ((224, 224, 3), (224, 224))
    """

    size: int
    scale: tuple[float, float] = (1.0, 1.0)
    ratio: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.0
    vertical_flip: float = 0.0
    turn: float = 0.0
    rotate: float = 0.0
    jitter: float = 0.0
    hue: float = 0.0
    tones: Tones = field(default_factory=Tones)
    interpolation: Interpolation = "bicubic"

    @classmethod
    def default(cls, size: int, interpolation: Interpolation = "bicubic") -> Self:
        """Return what is right for skin: it has no upright, and its colours mean something.

        Crops of half the area or more, flips, quarter turns, rotation within ± 15 degrees, brightness,
        contrast and saturation within 1 ± 0.2, hue within ± 0.02 of the circle (7 degrees).
        """
        return cls(
            size,
            scale=(0.5, 1.0),
            ratio=(3 / 4, 4 / 3),
            flip=0.5,
            vertical_flip=0.5,
            turn=1.0,
            rotate=15.0,
            jitter=0.2,
            hue=0.02,
            interpolation=interpolation,
        )

    @classmethod
    def published(cls, size: int, interpolation: Interpolation = "bicubic") -> Self:
        """Return the published segmentation's augmentation, which is of colours alone.

        The whole picture, squashed; brightness, contrast and saturation within 1 ± 0.2, hue within ± 0.2 of
        the circle; in grey, with stretched contrast and inverted, each with a chance of 0.2. The published
        code resizes without antialiasing, which this does not follow.
        """
        tones = Tones(grey=0.2, stretch=0.2, invert=0.2)
        return cls(size, jitter=0.2, hue=0.2, tones=tones, interpolation=interpolation)

    @classmethod
    def whole(cls, size: int, interpolation: Interpolation = "bicubic") -> Self:
        """Return the view in which masks are scored and predicted: the whole picture, as it is, squashed.

        Its picture is, to the bit, what a segmenter of this size and filter makes of it.
        """
        return cls(size, interpolation=interpolation)

    def __post_init__(self) -> None:
        rules = {
            "a view must be 8 pixels wide at least.": self.size >= 8,
            "a rotation must be 0 to 180 degrees.": 0 <= self.rotate <= 180,
            "colour jitter must be 0 or more, hue 0 to 0.5.": self.jitter >= 0 and 0 <= self.hue <= 0.5,
            "the filter must be one of Pillow's.": self.interpolation in get_args(Interpolation),
        }
        for must, holds in rules.items():
            if not holds:
                raise UsageError(must, f"found {self}")
        self._crops(1, 1)  # refuses a crop out of range

    @property
    def is_still(self) -> bool:
        """Whether every view of a picture is the same."""
        return (
            self.scale == self.ratio == (1.0, 1.0)
            and not (self.flip or self.vertical_flip or self.turn)
            and not (self.rotate or self.jitter or self.hue or self.tones.any)
        )

    def __call__(self, rgb: Pixels, mask: Mask, rng: np.random.Generator) -> tuple[Pixels, Mask]:
        """Return a view of a picture and its mask.

        Args:
            rgb: uint8 (H, W, 3).
            mask: bool (H, W), True inside.
            rng: is drawn from.

        Returns:
            uint8 (size, size, 3) and bool (size, size), contiguous.

        Raises:
            DataError: a mask of another size than its picture.
        """
        if mask.shape != rgb.shape[:2] or mask.dtype != bool:
            raise DataError(
                "a mask must be bool (H, W), of the size of its picture.",
                f"found {mask.dtype} {mask.shape}, the picture {rgb.shape[:2]}",
            )
        height, width = mask.shape
        return self._view(rgb, 1, mask, self._draw(height, width, rng), rng)

    def of_file(
        self,
        content: bytes,
        mask: Mask,
        name: str,
        rng: np.random.Generator,
        *,
        max_megapixels: float = MAX_MEGAPIXELS,
    ) -> tuple[Pixels, Mask]:
        """Return a view of a file and its mask: the same draws as of its pixels.

        Unless the view is still, a plain JPEG that has twice the pixels that are asked of it, or more, along
        both axes is decoded at a half, a quarter or an eighth; such a crop begins and ends where pixels of
        the smaller picture do, so that the mask is cut at the same place.

        Args:
            content: the whole file of the picture.
            mask: bool (H, W), of the upright picture.
            name: for messages.
            rng: is drawn from.
            max_megapixels: a header that asks for more millions of pixels is refused.

        Raises:
            ImageError: as :func:`panderm.data.images.decode`; or picture and mask are of two sizes.
        """
        known: list[Crop] = []

        def scaled(height: int, width: int) -> int:
            if (height, width) != mask.shape:
                found = f"{width} × {height} pixels, its mask {mask.shape[1]} × {mask.shape[0]}"
                raise ImageError(name, found, "save the mask as large as its image")
            known.append(self._draw(height, width, rng))
            return self._crops(height, width).shrink(known[0].height, known[0].width)

        rgb, by = decode_scaled(content, name, scaled, max_megapixels=max_megapixels)
        return self._view(rgb, by, mask, known[0], rng)

    def _draw(self, height: int, width: int, rng: np.random.Generator) -> Crop:
        if self.is_still:
            return Crop(0, 0, height, width)
        return self._crops(height, width).draw(height, width, rng)

    def _crops(self, height: int, width: int) -> Crops:
        """Return what draws the crops of a picture: shaped like itself, but for ``ratio``."""
        own = width / height
        ratio = self.ratio[0] * own, self.ratio[1] * own
        # What is scored is the whole picture to the last pixel: it is decoded as it is.
        side = None if self.is_still else self.size
        return Crops(self.scale, ratio, self.flip, self.vertical_flip, self.turn, side)

    def _view(
        self, rgb: Pixels, by: int, mask: Mask, crop: Crop, rng: np.random.Generator
    ) -> tuple[Pixels, Mask]:
        """Return the view of a picture, scaled down ``by`` while it was decoded, and of its whole mask."""
        cut = rgb if self.is_still else crop.cut(rgb, by)
        if not self.is_still and self.interpolation in ("bilinear", "bicubic"):
            seen = crop.turned(resized(cut, self.size, self.interpolation))
        else:
            seen = crop.turned(resized_by_pillow(cut, self.size, self.interpolation))
        inside = crop.cut(np.asarray(mask, dtype=np.uint8) * np.uint8(255))
        inside = crop.turned(resized(inside, self.size, "bilinear"))
        if self.rotate:
            # Pixels are points at whole numbers here: the centre lies between the two in the middle.
            centre = ((self.size - 1) / 2, (self.size - 1) / 2)
            matrix = cv2.getRotationMatrix2D(centre, self.rotate * (2 * rng.random() - 1), 1.0)
            seen, inside = (
                np.asarray(
                    cv2.warpAffine(one, matrix, (self.size, self.size), borderMode=cv2.BORDER_REFLECT),
                    dtype=np.uint8,
                )
                for one in (seen, inside)
            )
        if self.jitter or self.hue:
            seen = Jitter.draw(self.jitter, self.hue, rng)(seen)
        if self.tones.any:
            seen = self.tones(seen, rng)
        return seen, inside >= 128
