"""Colour jitter by torchvision's rules: brightness, contrast, saturation and hue, in a drawn order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt

from panderm.errors import UsageError

Pixels = npt.NDArray[np.uint8]

_LEVELS = np.arange(256, dtype=np.float64)


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
        """Return a picture, uint8 (H, W, 3), contiguous, in other colours.

        Brightness multiplies; contrast blends with the mean grey, saturation with the grey of each pixel; the
        hue turns in HSV. Values are rounded to 8 bits and cut off to 0 to 255 after each, as Pillow does.
        """
        for kind in self.order:
            if kind == 3:
                rgb = _turned(rgb, self.shift) if self.shift else rgb
                continue
            factor = self.factors[kind]
            if factor == 1:
                continue
            if kind == 2:
                grey = cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
                rgb = np.asarray(cv2.addWeighted(rgb, factor, grey, 1 - factor, 0), dtype=np.uint8)
                continue
            mean = cv2.mean(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))[0] if kind == 1 else 0.0
            levels = np.rint(np.clip(factor * _LEVELS + (1 - factor) * mean, 0, 255)).astype(np.uint8)
            rgb = np.asarray(cv2.LUT(rgb, levels), dtype=np.uint8)
        return rgb


def _turned(rgb: Pixels, shift: float) -> Pixels:
    hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV_FULL)  # 256 hues, as of Pillow
    hsv[..., 0] += np.uint8(round(shift * 256) % 256)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL), dtype=np.uint8)


@dataclass(frozen=True)
class Tones:
    """Changes of all tones at once, each with a probability of its own, by torchvision's rules.

    Attributes:
        grey: of making it grey.
        stretch: of stretching each channel to 0 to 255, as Pillow's autocontrast does.
        invert: of turning each value v into 255 − v.

    Raises:
        UsageError: no probability.
    """

    grey: float = 0.0
    stretch: float = 0.0
    invert: float = 0.0

    def __post_init__(self) -> None:
        if not all(0 <= p <= 1 for p in (self.grey, self.stretch, self.invert)):
            raise UsageError("tones must change with probabilities, 0 to 1.", f"found {self}")

    @property
    def any(self) -> bool:
        """Whether anything may change."""
        return bool(self.grey or self.stretch or self.invert)

    def __call__(self, rgb: Pixels, rng: np.random.Generator) -> Pixels:
        """Return a picture, uint8 (H, W, 3), contiguous, its tones changed or not; draws three numbers."""
        grey, stretch, invert = rng.random(3)
        if grey < self.grey:
            one = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
            rgb = np.asarray(cv2.cvtColor(one, cv2.COLOR_GRAY2RGB), dtype=np.uint8)
        if stretch < self.stretch:
            rgb = np.stack([_stretched(rgb[..., k]) for k in range(3)], axis=-1)
        return 255 - rgb if invert < self.invert else rgb


def _stretched(channel: Pixels) -> Pixels:
    low, high = int(channel.min()), int(channel.max())
    if high <= low:
        return channel
    scale = 255 / (high - low)
    return np.clip((_LEVELS - low) * scale, 0, 255).astype(np.uint8)[channel]
