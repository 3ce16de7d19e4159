"""Preprocess: RGB uint8 to the normalised pixels an encoder was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from panderm.provenance import Record

if TYPE_CHECKING:
    import torch

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]


class Preprocess(Record):
    """Resize, crop the centre, scale to [0, 1], subtract ``mean`` and divide by ``std``.

    Attributes:
        resize: shorter side in pixels, keeping the aspect; or (height, width) exactly.
        crop: side of the square cut from the centre, in pixels.
        interpolation: Pillow's filter, always antialiased.
        mean: of R, G, B, on [0, 1].
        std: of R, G, B, on [0, 1].

    Example:
        >>> pixels = encoder.preprocess(panderm.read_image("lesion.jpg"))  # doctest: +SKIP
        >>> pixels.shape  # doctest: +SKIP
        torch.Size([3, 224, 224])
    """

    resize: int | tuple[int, int]
    crop: int
    interpolation: Interpolation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, rgb: npt.NDArray[np.uint8]) -> torch.Tensor:
        """Return normalised float32 pixels (3, crop, crop) of an RGB uint8 image (H, W, 3)."""
        # Here, so that the cards can be listed without waiting for them.
        import torch
        from torchvision.transforms.v2 import functional as tv

        size = [self.resize] if isinstance(self.resize, int) else list(self.resize)
        # Pillow, not tensors: the published features were made with its filter.
        image = tv.resize(Image.fromarray(rgb), size, tv.InterpolationMode(self.interpolation))
        cropped = tv.center_crop(image, [self.crop, self.crop])
        # Divided, as torchvision's ToTensor does: tv.to_dtype multiplies by 1/255, which rounds differently.
        pixels = tv.pil_to_tensor(cropped).to(torch.float32).div(255)
        normalised: torch.Tensor = tv.normalize(pixels, list(self.mean), list(self.std))
        return normalised
