"""Colour jitter by torchvision's rules: brightness, contrast, saturation and hue, in a drawn order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


@dataclass(frozen=True)
class Jitter:
    """Changes of colour that were drawn once, for any number of pictures.

    Attributes:
        order: positions in brightness, contrast, saturation, hue, as they are applied.
        factors: of the first three, 1 changes nothing.
        shift: of the hue, as a share of the circle, −0.5 to 0.5.
    """

    order: tuple[int, ...]
    factors: tuple[float, float, float]
    shift: float

    @classmethod
    def draw(cls, jitter: float, hue: float, rng: np.random.Generator) -> Self:
        """Draw factors within 1 ± ``jitter``, not below 0, a shift within ± ``hue``, and their order."""
        order = tuple(int(k) for k in rng.permutation(4))
        low, high = max(0.0, 1 - jitter), 1 + jitter
        brightness, contrast, saturation, shift = rng.random(4).tolist()
        factors = tuple(low + share * (high - low) for share in (brightness, contrast, saturation))
        return cls(order, (factors[0], factors[1], factors[2]), hue * (2 * shift - 1))

    def __call__(self, rgb: Pixels) -> Pixels:
        """Return a picture, uint8 (H, W, 3), in other colours.

        Brightness multiplies; contrast blends with the mean grey, saturation with the grey of each pixel; the
        hue turns in HSV. Values are cut off to 0 to 255 after each, and rounded to 8 bits once, at the end.
        """
        pixels = rgb.astype(np.float32)
        for kind in self.order:
            if kind == 3:
                if self.shift:
                    pixels = self._turned(pixels)
                continue
            factor = self.factors[kind]
            if factor == 1:
                continue
            grey = pixels @ _GREY if kind else np.zeros((), np.float32)
            blended = grey.mean() if kind == 1 else grey[..., None] if kind == 2 else grey
            pixels = factor * pixels + (1 - factor) * blended
            np.clip(pixels, 0, 255, out=pixels)
        return np.rint(pixels).astype(np.uint8)

    def _turned(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        hsv = cv2.cvtColor(pixels / 255, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0] + 360 * self.shift) % 360
        return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255, dtype=np.float32)
