"""Every kind of pixel to RGB, 8 bits: the one place where colours change."""

from __future__ import annotations

import numpy as np
from PIL import Image

from panderm.data.stored import Unreadable


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a picture of any mode as RGB, 8 bits."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise Unreadable("more than 16 bits a pixel")
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise Unreadable("floating-point pixels without a stated range")
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        with_alpha = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, with_alpha).convert("RGB")
    return image.convert("RGB")
