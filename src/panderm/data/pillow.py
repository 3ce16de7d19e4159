"""The formats that Pillow reads: opened by a list of ours, upright, as RGB, and how they were stored."""

from __future__ import annotations

import io
import struct

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from panderm.data.colour import to_rgb
from panderm.data.jpeg_quality import estimate_quality
from panderm.data.stored import Stored, Unreadable, require_few_pixels

# Still pictures only: nothing that starts another program (EPS), and no format a camera does not write.
FORMATS = (
    *("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000", "AVIF", "PPM"),
    *("DIB", "ICO", "PCX", "DDS", "TGA"),
)
_ORIENTATION = 0x0112
_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's own door takes for "not this format".
_NOT_THIS = (SyntaxError, IndexError, TypeError, struct.error)


def open_picture(content: bytes, max_megapixels: float) -> tuple[npt.NDArray[np.uint8], Stored]:
    """Decode a file's bytes with Pillow to RGB, uint8 (H, W, 3), and say how it was stored.

    Raises:
        Unreadable: not an image, several frames, too many pixels; other exceptions mean damage.
    """
    with open_header(content, max_megapixels) as opened:
        # Phones write MPO: a JPEG with a second picture behind it. The first is the photograph.
        frames = int(getattr(opened, "n_frames", 1))
        if frames > 1 and opened.format != "MPO":
            raise Unreadable(f"holds {frames} frames, not one picture")
        mode, bits, turned = opened.mode, _bits(opened), opened.format == "TIFF"
        orientation = _orientation(opened) if turned else 1
        opened.load()
        if not turned:
            orientation = _orientation(opened)
        stored = Stored(
            format=opened.format or "",
            mode=mode,
            bits=bits,
            frames=frames,
            orientation=orientation,
            alpha="A" in mode or "a" in mode or "transparency" in opened.info,
            jpeg_quality=estimate_quality(opened),
        )
        rgb = to_rgb(opened)
        # Pillow turns a TIFF itself while loading it.
        if orientation > 1 and not turned:
            rgb = rgb.transpose(_TURN[orientation])
        return np.asarray(rgb), stored


def open_header(content: bytes, max_megapixels: float) -> ImageFile.ImageFile:
    """Open a file's header with the first reader of our list that knows it.

    ``Image.open`` would ask every reader that was ever registered in the process, and would hold the
    picture against ``Image.MAX_IMAGE_PIXELS``, which belongs to the user.
    """
    Image.init()
    for name in FORMATS:
        if name not in Image.OPEN:
            continue  # built without it
        factory, accept = Image.OPEN[name]
        if accept and accept(content[:16]) is not True:
            continue
        try:
            opened = factory(io.BytesIO(content), "")
        except _NOT_THIS:
            continue
        require_few_pixels(*opened.size, max_megapixels)
        return opened
    raise Unreadable("not an image that can be read")


def _orientation(opened: Image.Image) -> int:
    """Return the EXIF orientation, 1 where there is none or the block is broken."""
    try:
        value = opened.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) and value in _TURN else 1


def _bits(opened: ImageFile.ImageFile) -> int:
    """Return the bits of one channel as the file holds them."""
    tags = getattr(opened, "tag_v2", None)
    if tags is not None:
        bits = tags.get(258, (1,))
        return int(max(bits) if isinstance(bits, tuple) else bits)
    if opened.mode.startswith("I;16") or "16" in _raw_mode(opened):
        return 16
    return {"1": 1, "I": 32, "F": 32}.get(opened.mode, 8)


def _raw_mode(opened: ImageFile.ImageFile) -> str:
    args = opened.tile[0].args if opened.tile else ""
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""
