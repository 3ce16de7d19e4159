"""The formats that Pillow reads: opened by a list of ours, as RGB, upright, and how they were stored."""

from __future__ import annotations

import contextlib
import importlib
import io
import struct
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from panderm.data.colour import Converted, moves_colours, to_srgb
from panderm.data.deep import is_deep, read_deep
from panderm.data.jpeg_quality import estimate_quality
from panderm.data.stored import Stored, Unreadable, require_few_pixels

# A broken EXIF block or a strange palette is Pillow's to tolerate, not the user's to read about.
warnings.filterwarnings("ignore", module=r"PIL\..*")

# Still pictures only, and nothing that starts another program (EPS). TGA has no mark of its own: last.
FORMATS = (
    *("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "JPEG2000", "AVIF", "PPM"),
    *("DIB", "ICO", "PCX", "DDS", "TGA"),
)
for _plugin in ("Jpeg", "Mpo", "Png", "Tiff", "WebP", "Bmp", "Gif", "Jpeg2K", "Avif", "Ppm", "Ico", "Pcx"):
    with contextlib.suppress(ImportError):  # AVIF: since Pillow 11.3
        importlib.import_module(f"PIL.{_plugin}ImagePlugin")
for _plugin in ("Dds", "Tga"):
    importlib.import_module(f"PIL.{_plugin}ImagePlugin")
_ORIENTATION, _BITS = 274, 258
_BOUNDED = ("raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "jpeg")
_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# From an upright array to a view of it that lies as the file does.
_TURN_BACK: dict[int, Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a[:, ::-1].transpose(1, 0, 2),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a[::-1].transpose(1, 0, 2),
}
_INVERSE = {6: 8, 8: 6}
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_PNG_EXIF = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")
# Pixels that are converted at once.
_WHOLE = 4_000_000
# What Pillow's own door takes for "not this format".
_NOT_THIS = (SyntaxError, IndexError, TypeError, struct.error)


def open_picture(content: bytes, max_megapixels: float) -> tuple[npt.NDArray[np.uint8], Stored]:
    """Decode a file's bytes with Pillow to RGB, uint8 (H, W, 3), and say how it was stored.

    Raises:
        Unreadable: not an image, several frames, too many pixels; other exceptions mean damage.
    """
    with open_header(content, max_megapixels) as opened:
        frames = _frames(opened)
        if opened.format == "PNG":
            _require_png_sums(content)
        mode, bits = opened.mode, _bits(opened, content)
        # Pillow turns a TIFF while it loads it, and forgets the tag; a PNG may have its tag at the end.
        turned = opened.format == "TIFF"
        orientation = _orientation(opened) if turned else 1
        if is_deep(opened, bits):
            image = read_deep(opened, content, bits)
        else:
            opened.load()
            image = opened
        if not turned:
            orientation = _orientation(opened)
        alpha = image.mode in ("LA", "RGBA", "PA", "La", "RGBa") or "transparency" in opened.info
        pixels, converted = _pixels(image, _profile(opened), 1 if turned else orientation)
        stored = Stored(
            format=opened.format or "",
            mode=mode,
            bits=bits,
            frames=frames,
            orientation=orientation,
            alpha=alpha,
            profile=converted.profile,
            profile_problem=converted.problem,
            jpeg_quality=estimate_quality(opened),
        )
        return pixels, stored


def _require_png_sums(content: bytes) -> None:
    """Hold a PNG's pixels against their checksums, which Pillow does not: zeros in them may decode as black.

    Raises:
        ValueError: the checksum of a chunk of pixels is another (PNG specification, 5.3).
    """
    at = len(_PNG)
    while at + 12 <= len(content):
        end = at + 8 + int.from_bytes(content[at : at + 4], "big")
        if end + 4 > len(content):
            return  # too short, which Pillow sees
        if content[at + 4 : at + 8] == b"IDAT":
            found = zlib.crc32(memoryview(content)[at + 4 : end])
            if found != int.from_bytes(content[end : end + 4], "big"):
                raise ValueError("a checksum of its pixels is wrong")
        at = end + 4


def _pixels(
    image: Image.Image, profile: bytes | None, orientation: int
) -> tuple[npt.NDArray[np.uint8], Converted]:
    """Return a picture in sRGB and upright; a large one is converted in strips, to spare the memory."""
    width, height = image.size
    if width * height <= _WHOLE:
        converted = to_srgb(image, profile)
        whole = converted.image
        if orientation > 1:
            whole = whole.transpose(_TURN[orientation])
        return np.asarray(whole), converted
    upright = np.empty((width, height, 3) if orientation > 4 else (height, width, 3), dtype=np.uint8)
    as_stored = _TURN_BACK[orientation](upright)
    rows = max(1, _WHOLE // (4 * width))
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        converted = to_srgb(image.crop((0, top, width, bottom)), profile)
        as_stored[top:bottom] = np.asarray(converted.image)
    return upright, converted


def plain_jpeg(content: bytes, max_megapixels: float) -> tuple[int, int, int] | None:
    """Return height and width (as stored) and EXIF orientation of a JPEG that every decoder reads alike.

    Of 8 bits, grey or YCbCr by the common marks, without an ICC profile that moves colours. None for any
    other file, and for one whose header is refused.
    """
    if content[:3] != _JPEG or content[128:132] == b"DICM":
        return None
    try:
        opened = open_header(content, max_megapixels)
    except Exception:
        return None  # the whole decoder says why
    with opened:
        if opened.format not in ("JPEG", "MPO") or opened.mode not in ("L", "RGB"):
            return None
        layers = [layer[0] for layer in getattr(opened, "layer", ())]
        marked = "jfif" in opened.info or layers == [1, 2, 3]
        if opened.mode == "RGB" and not (marked and opened.info.get("adobe_transform", 1) == 1):
            return None
        profile = _profile(opened)
        if profile and moves_colours(profile, opened.mode):
            return None
        width, height = opened.size
        return height, width, _orientation(opened)


def size_as_stored(content: bytes, max_megapixels: float) -> tuple[int, int, int] | None:
    """Return height and width as stored, and EXIF orientation, of a JPEG, or of a PNG that has none.

    From its header alone; None for any other file, and for one whose header is refused.
    """
    jpeg = content[:3] == _JPEG and content[128:132] != b"DICM"
    if not jpeg and not (content.startswith(_PNG) and not any(mark in content for mark in _PNG_EXIF)):
        return None
    try:
        with open_header(content, max_megapixels) as opened:
            width, height = opened.size
            return height, width, _orientation(opened) if jpeg else 1
    except Exception:
        return None  # the whole decoder says why


def grey_png(content: bytes, max_megapixels: float) -> npt.NDArray[np.uint8] | npt.NDArray[np.bool_] | None:
    """Return the pixels (H, W) of a PNG that is grey, of 8 bits at most, opaque, upright, without a profile.

    bool where it has one bit. As :func:`open_picture` has each of its three channels, in a quarter of the
    time. None for any other file, and for one that is damaged or refused.
    """
    if not content.startswith(_PNG) or any(mark in content for mark in _PNG_EXIF):
        return None
    try:
        with open_header(content, max_megapixels) as opened:
            if opened.mode not in ("1", "L") or _frames(opened) > 1 or _bits(opened, content) > 8:
                return None
            _require_png_sums(content)
            opened.load()
            if _profile(opened) or "transparency" in opened.info:
                return None
            return np.array(opened)
    except Exception:
        return None  # the whole decoder says why


def size_of_whole(content: bytes, max_megapixels: float) -> tuple[int, int] | None:
    """Return height and width, upright, of a JPEG or PNG that has its end; None where it must be decoded.

    What lies between header and end is not looked at. A file that was cut off has no end.

    Raises:
        Unreadable: as :func:`open_picture`, where the header says so; other exceptions mean damage.
    """
    if content[:3] == _JPEG and content[128:132] != b"DICM":
        whole = (content if content[-1] else content.rstrip(b"\0")).endswith(b"\xff\xd9")
    elif content.startswith(_PNG):
        # An orientation may lie behind the pixels, and Pillow decodes them on the way there.
        whole = content.endswith(_PNG_END) and not any(mark in content for mark in _PNG_EXIF)
    else:
        return None
    if not whole:
        return None
    with open_header(content, max_megapixels) as opened:
        _frames(opened)
        width, height = opened.size
        turned = opened.format != "PNG" and _orientation(opened) > 4
        return (width, height) if turned else (height, width)


def _frames(opened: ImageFile.ImageFile) -> int:
    """Return how many pictures a file holds, more than one only in an MPO."""
    # Phones write MPO: a JPEG with a second picture behind it. The first is the photograph.
    frames = int(getattr(opened, "n_frames", 1))
    if frames > 1 and opened.format != "MPO":
        raise Unreadable(f"holds {frames} frames, not one picture")
    return frames


def upright(stored: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Return a view of pixels (H, W, 3) that lie as in the file, turned as the EXIF orientation says."""
    return _TURN_BACK[_INVERSE.get(orientation, orientation)](stored)


def open_header(content: bytes, max_megapixels: float) -> ImageFile.ImageFile:
    """Open a file's header with the first reader of our list that knows it.

    ``Image.open`` would ask every reader that was ever registered in the process, and would hold the
    picture against ``Image.MAX_IMAGE_PIXELS``, which belongs to the user.

    Raises:
        Unreadable: no reader knows it, or it asks for too many pixels.
    """
    _require_small_webp(content, max_megapixels)
    for name in FORMATS:
        if name not in Image.OPEN:
            continue
        factory, accept = Image.OPEN[name]
        if accept and accept(content[:16]) is not True:
            continue
        try:
            opened = factory(io.BytesIO(content), "")
        except _NOT_THIS:
            continue
        except Image.DecompressionBombError:
            raise Unreadable("more pixels than Pillow allows") from None
        require_few_pixels(*opened.size, max_megapixels)
        _require_long_enough(opened, len(content))
        return opened
    raise Unreadable("not an image that can be read")


def _require_long_enough(opened: ImageFile.ImageFile, length: int) -> None:
    """Refuse a file that is too short for the pixels it promises, before memory is taken for them.

    Huffman codes spend a bit on each block of 64 pixels at least (ITU-T T.81, F.1.2). No packing of TIFF that
    is named here does better than 1 to 4,096.
    """
    width, height = opened.size
    if opened.format in ("JPEG", "MPO"):
        short = width * height > 512 * length and not _is_arithmetic(opened)
    elif opened.format == "TIFF" and opened.info.get("compression") in _BOUNDED:
        bits = opened.tag_v2.get(_BITS, (1,))  # type: ignore[attr-defined]
        short = width * height * sum(bits if isinstance(bits, tuple) else (bits,)) > 8 * 4096 * length
    else:
        return
    if short:
        raise ValueError(f"{length:,} bytes cannot hold {width}×{height} pixels")


def _is_arithmetic(opened: ImageFile.ImageFile) -> bool:
    content = opened.fp.getvalue()  # type: ignore[union-attr]
    return any(marker in content for marker in (b"\xff\xc9", b"\xff\xca"))


def _require_small_webp(content: bytes, max_megapixels: float) -> None:
    """Hold a WebP against the limit: its reader takes the memory for the picture with the header."""
    if content[:4] != b"RIFF" or content[8:12] != b"WEBP" or len(content) < 30:
        return
    kind, rest = content[12:16], content[20:30]
    if kind == b"VP8X":
        width, height = (int.from_bytes(rest[i : i + 3], "little") + 1 for i in (4, 7))
    elif kind == b"VP8L":
        both = int.from_bytes(rest[1:5], "little")
        width, height = (both & 0x3FFF) + 1, (both >> 14 & 0x3FFF) + 1
    else:
        width, height = (int.from_bytes(rest[i : i + 2], "little") & 0x3FFF for i in (6, 8))
    require_few_pixels(width, height, max_megapixels)


def _orientation(opened: Image.Image) -> int:
    """Return the EXIF orientation, 1 where there is none or the block is broken."""
    try:
        value = opened.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) and value in _TURN else 1


def _profile(opened: Image.Image) -> bytes | None:
    found = opened.info.get("icc_profile")
    return found if isinstance(found, bytes) and found else None


def _bits(opened: ImageFile.ImageFile, content: bytes) -> int:
    """Return the bits of one channel as the file holds them."""
    if opened.format == "TIFF":
        bits = opened.tag_v2.get(_BITS, (1,))  # type: ignore[attr-defined]
        return int(max(bits) if isinstance(bits, tuple) else bits)
    if opened.format == "JPEG2000":
        # ISO 15444-1, A.5.1: 38 bytes after the marker, each channel's bits less one, the top bit its sign.
        at = content.find(b"\xff\x4f\xff\x51")
        return (content[at + 42] & 0x7F) + 1 if 0 <= at < len(content) - 42 else 8
    if opened.format == "AVIF":
        at = content.find(b"av1C")
        flags = content[at + 6] if 0 <= at < len(content) - 6 else 0
        return (12 if flags & 0x20 else 10) if flags & 0x40 else 8
    raw = opened.tile[0].args if opened.tile else ""
    first = raw[0] if isinstance(raw, tuple) and raw else raw
    if opened.mode.startswith("I;16") or (isinstance(first, str) and ";16" in first):
        return 16
    if opened.format == "PPM" and opened.mode == "I":
        return 16
    return {"1": 1, "I": 32, "F": 32}.get(opened.mode, 8)
