"""More than 8 bits a channel to 8, by one rule: v · 255 / (2^bits - 1), to the nearest."""

from __future__ import annotations

import io
import sys

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, PngImagePlugin, TiffImagePlugin

from panderm.data.stored import Unreadable

# TIFF tags.
_PHOTOMETRIC, _PLANES, _EXTRA = 262, 284, 338


def to_eight_bits(values: npt.NDArray[np.unsignedinteger], bits: int) -> npt.NDArray[np.uint8]:
    """Scale whole numbers of ``bits`` bits to 0 … 255, to the nearest; 65,535 of 16 bits becomes 255.

    Args:
        values: any shape, 0 … 2^bits - 1.
        bits: 1 to 16.

    Example:
        >>> to_eight_bits(np.array([0, 128, 129, 65535], dtype=np.uint16), 16).tolist()
        [0, 0, 1, 255]
    """
    largest = 2**bits - 1
    scaled = np.arange(largest + 1, dtype=np.uint32) * 255
    table = ((scaled + largest // 2) // largest).astype(np.uint8)
    return np.asarray(table[values])


def is_deep(opened: Image.Image, bits: int) -> bool:
    """Say whether Pillow itself would not bring a picture to 8 bits, or not to the nearest."""
    return opened.mode[0] in "IF" or (bits > 8 and opened.format in ("PNG", "TIFF", "JPEG2000"))


def read_deep(opened: ImageFile.ImageFile, content: bytes, bits: int) -> Image.Image:
    """Return a picture of more than 8 bits a channel as one of 8: L, LA, RGB, RGBA or CMYK.

    Args:
        opened: its header; loaded here.
        content: the whole file.
        bits: bits of a channel.

    Raises:
        Unreadable: floating point, more than 16 bits, or a layout that cannot be read at full depth.
    """
    if opened.mode == "F":
        raise Unreadable("floating-point pixels without a stated range")
    return _grey(opened, bits) if opened.mode.startswith("I") else _colours(opened, content, bits)


def _grey(opened: ImageFile.ImageFile, bits: int) -> Image.Image:
    key = opened.info.get("transparency")
    white_is_zero = getattr(opened, "tag_v2", {}).get(_PHOTOMETRIC) == 0
    opened.load()
    grey = np.asarray(opened)
    if grey.min() < 0:
        raise Unreadable("negative pixel values without a stated range")
    bits = min(bits, 16)
    if opened.format == "JPEG2000":
        grey = grey >> (16 - bits)  # Pillow fills 16 bits
    if grey.max() >= 2**bits:
        raise Unreadable(f"more than {bits} bits a pixel")
    eight = to_eight_bits(grey.astype(np.uint16), bits)
    if white_is_zero:
        eight = 255 - eight
    if isinstance(key, int):
        return Image.fromarray(np.dstack([eight, _opaque(grey != key)]), "LA")
    return Image.fromarray(eight)


def _colours(opened: ImageFile.ImageFile, content: bytes, bits: int) -> Image.Image:
    tags = getattr(opened, "tag_v2", {})
    key = opened.info.get("transparency")
    if tags.get(_PLANES, 1) == 2:
        raise Unreadable(f"channels of {bits} bits in separate planes")
    if bits > 16:
        raise Unreadable("more than 16 bits a channel")
    samples = _READERS[opened.format or ""](opened, content)
    eight = to_eight_bits(samples, bits)
    if isinstance(key, tuple):
        eight = np.dstack([eight, _opaque((samples != np.array(key)).any(axis=-1))])
    elif tags.get(_EXTRA) == (1,) and eight.shape[2] == 4:
        # Channels were multiplied by their alpha: laid on white, what is missing is white.
        missing = 255 - eight[..., 3:].astype(np.int16)
        eight = (eight[..., :3] + missing).clip(0, 255).astype(np.uint8)
    mode = {2: "LA", 3: "RGB", 4: "CMYK" if opened.mode == "CMYK" else "RGBA"}[eight.shape[2]]
    return Image.frombytes(mode, (eight.shape[1], eight.shape[0]), eight.tobytes())


def _opaque(seen: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    return np.where(seen, 255, 0).astype(np.uint8)


# Pillow holds colours at 8 bits and drops the low byte of deeper ones. Such a file is decoded twice, with all
# of Pillow's checks: once for the high bytes, once for the low ones, which a reader of the other byte order
# takes for the high ones.
def _join(high: npt.NDArray[np.uint8], low: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    joined = high.astype(np.uint16)
    joined <<= 8
    joined |= low
    return joined


def _read_png(opened: ImageFile.ImageFile, content: bytes) -> npt.NDArray[np.uint16]:
    raw = str(opened.tile[0].args)
    if raw == "LA;16B":
        # Four bytes a pixel: high and low of grey, high and low of alpha.
        four = _png_bytes(opened, "RGBA", "RGBA")
        return _join(four[..., 0::2], four[..., 1::2])
    mode = raw.partition(";")[0]
    again = PngImagePlugin.PngImageFile(io.BytesIO(content))
    return _join(_png_bytes(opened, mode, f"{mode};16B"), _png_bytes(again, mode, f"{mode};16L"))


def _png_bytes(opened: ImageFile.ImageFile, mode: str, raw: str) -> npt.NDArray[np.uint8]:
    opened._mode = mode
    opened.tile = [opened.tile[0]._replace(args=raw)]
    opened.load()
    return np.asarray(opened)


def _read_tiff(opened: ImageFile.ImageFile, content: bytes) -> npt.NDArray[np.uint16]:
    args = opened.tile[0].args
    raw = str(args[0] if isinstance(args, tuple) else args).partition(";")[0]
    mode = {"RGB": "RGB", "CMYK": "CMYK", "RGBX": "RGBX"}.get(raw, "RGBA")
    again = TiffImagePlugin.TiffImageFile(io.BytesIO(content))
    mine, other = ("L", "B") if sys.byteorder == "little" else ("B", "L")
    joined = _join(
        _tiff_bytes(opened, mode, f"{mode};16{mine}"), _tiff_bytes(again, mode, f"{mode};16{other}")
    )
    return joined[..., :3] if mode == "RGBX" else joined


def _tiff_bytes(opened: ImageFile.ImageFile, mode: str, raw: str) -> npt.NDArray[np.uint8]:
    # libtiff returns every layout in the byte order of the machine.
    opened._mode = mode
    opened.use_load_libtiff = True  # type: ignore[attr-defined]
    size = opened._tile_size  # type: ignore[attr-defined]
    args = (raw, False, opened.tag_v2.offset)  # type: ignore[attr-defined]
    opened.tile = [ImageFile._Tile("libtiff", (0, 0, *size), 0, args)]
    opened.load()
    return np.asarray(opened)


def _read_jpeg_2000(opened: ImageFile.ImageFile, content: bytes) -> npt.NDArray[np.uint16]:
    import cv2

    opened.load()  # finds damage that OpenCV passes over
    read = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if read is None or read.dtype != np.uint16 or read.ndim != 3 or read.shape[1::-1] != opened.size:
        raise Unreadable("a JPEG 2000 of more than 8 bits that is neither grey, RGB nor RGBA")
    return np.asarray(read[..., [2, 1, 0, 3][: read.shape[2]]])


_READERS = {"PNG": _read_png, "TIFF": _read_tiff, "JPEG2000": _read_jpeg_2000}
