"""Preprocess: RGB uint8 to the normalised pixels an encoder was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from panderm.provenance import Record

if TYPE_CHECKING:
    import torch

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


class Cut(NamedTuple):
    """How a picture is resized, and where the square is cut from it.

    Attributes:
        height: of the resized picture, in pixels.
        width: likewise.
        top: first row of the square; negative where the picture is smaller, and black rows are added.
        left: first column, likewise.
    """

    height: int
    width: int
    top: int
    left: int


class Preprocess(Record):
    """Resize, crop the centre, scale to [0, 1], subtract ``mean`` and divide by ``std``.

    Called with an image it does all of it; :meth:`pixels` and :meth:`normalise` are its two halves, for those
    who move 8-bit pixels to a device and normalise them there.

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
        # Here, so that the cards can be listed without waiting for it.
        import torch

        return self.normalise(torch.from_numpy(self.pixels(rgb)))

    def cut(self, height: int, width: int) -> Cut:
        """Return how an image of ``height`` × ``width`` is resized and cut: torchvision's rules.

        Example:
            >>> eye = Preprocess(resize=256, crop=224, interpolation="bicubic", mean=(0,) * 3, std=(1,) * 3)
            >>> eye.cut(450, 600)
            Cut(height=256, width=341, top=16, left=58)
        """
        if isinstance(self.resize, int):
            long = int(self.resize * max(height, width) / min(height, width))
            tall, wide = (self.resize, long) if height < width else (long, self.resize)
        else:
            tall, wide = self.resize
        return Cut(tall, wide, _first(tall, self.crop), _first(wide, self.crop))

    def pixels(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Resize an image and cut its centre, in 8 bits: the half that needs no network.

        Args:
            rgb: uint8 (H, W, 3).

        Returns:
            uint8 (crop, crop, 3), contiguous, writable. Black where the resized image does not reach.

        Example:
            >>> square = encoder.preprocess.pixels(panderm.read_image("lesion.jpg"))  # doctest: +SKIP
        """
        height, width, _ = rgb.shape
        cut = self.cut(height, width)
        # Pillow, not tensors: the published features were made with its filter.
        image = Image.fromarray(rgb)
        if (height, width) != (cut.height, cut.width):
            image = image.resize((cut.width, cut.height), FILTERS[self.interpolation])
        return np.array(image.crop((cut.left, cut.top, cut.left + self.crop, cut.top + self.crop)))

    def normalise(self, rgb: torch.Tensor) -> torch.Tensor:
        """Scale 8-bit pixels to [0, 1], subtract the mean and divide by the std, where the pixels lie.

        Args:
            rgb: uint8 (…, S, S, 3), on any device.

        Returns:
            float32 (…, 3, S, S), contiguous, on the same device: the same bits on each.

        Example:
            >>> batch = encoder.preprocess.normalise(torch.from_numpy(square)[None].cuda())  # doctest: +SKIP
        """
        import torch

        pixels = rgb.movedim(-1, -3).to(torch.float32, memory_format=torch.contiguous_format)
        # Divided by tensors: GPUs multiply by the reciprocal of a Python number, which rounds differently.
        most, mean, std = torch.tensor([[255.0] * 3, self.mean, self.std], device=rgb.device)[..., None, None]
        normalised: torch.Tensor = pixels.div_(most).sub_(mean).div_(std)
        return normalised


def _first(side: int, crop: int) -> int:
    """Return where a square begins on a side, as torchvision's center_crop rounds; negative to be padded."""
    return round((side - crop) / 2) if side >= crop else -((crop - side) // 2)
