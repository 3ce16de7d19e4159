"""One path to one RGB image: the only decoder, whatever the verb."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from panderm.data.apart import decode_apart
from panderm.data.dicom import is_dicom, is_for_gdcm, open_dicom
from panderm.data.heic import is_heic, require_libheif
from panderm.data.pillow import open_picture, size_of_whole
from panderm.data.stored import MAX_MEGAPIXELS as MAX_MEGAPIXELS
from panderm.data.stored import ImageError as ImageError
from panderm.data.stored import Stored as Stored
from panderm.data.stored import Unreadable
from panderm.progress import in_threads


@dataclass(frozen=True)
class ImageFacts:
    """What the gate learns of one file: hash of its bytes, size after orientation, or why it is bad."""

    sha256: str = ""
    height: int = 0
    width: int = 0
    problem: str | None = None


def read_image(path: Path | str, *, max_megapixels: float = MAX_MEGAPIXELS) -> npt.NDArray[np.uint8]:
    """Read one image as RGB.

    EXIF orientation is applied; an ICC profile is turned to sRGB; palettes are expanded; alpha is flattened
    onto white; b bits become 8 by v · 255 / (2^b - 1), to the nearest, so that 65,535 of 16 bits becomes 255.

    Args:
        path: a JPEG, PNG, TIFF, WebP, BMP or any other still image that Pillow reads; HEIC and DICOM where
            their extras are installed.
        max_megapixels: more millions of pixels are refused before anything is decoded.

    Returns:
        uint8 array (H, W, 3), RGB order, values in [0, 255].

    Raises:
        ImageError: missing, empty, truncated, not an image, several frames, or too many pixels.

    Example:
        >>> panderm.read_image("images/ISIC_0027419.jpg").shape  # doctest: +SKIP
        (450, 600, 3)
    """
    return decode(read_bytes(path), path, max_megapixels=max_megapixels)


def read_bytes(path: Path | str) -> bytes:
    """Return a file's bytes, or raise :class:`ImageError`."""
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise ImageError(path, "no such file") from None
    except IsADirectoryError:
        raise ImageError(path, "a folder, not a file") from None
    except OSError as error:
        raise ImageError(path, f"cannot be read ({error.strerror})") from None
    except ValueError:
        raise ImageError(path, "no name a file can have") from None
    if not content:
        raise ImageError(path, "an empty file")
    return content


def decode(
    content: bytes, path: Path | str, *, max_megapixels: float = MAX_MEGAPIXELS
) -> npt.NDArray[np.uint8]:
    """Decode a file's bytes to RGB, uint8 (H, W, 3); see :func:`read_image`. ``path`` is for messages."""
    return open_stored(content, path, max_megapixels=max_megapixels)[0]


def open_stored(
    content: bytes, path: Path | str, *, max_megapixels: float = MAX_MEGAPIXELS
) -> tuple[npt.NDArray[np.uint8], Stored]:
    """Decode a file's bytes, and say how the file held its picture.

    Args:
        content: the whole file.
        path: its name, for messages.
        max_megapixels: a header that asks for more millions of pixels is refused before anything is decoded.

    Returns:
        uint8 array (H, W, 3), RGB order, values in [0, 255]; and how it was stored.

    Raises:
        ImageError: not an image, damaged, several frames, or too many pixels.

    Example:
        >>> rgb, stored = open_stored(Path("a.jpg").read_bytes(), "a.jpg")  # doctest: +SKIP
        >>> stored.format, stored.orientation, stored.jpeg_quality  # doctest: +SKIP
        ('JPEG', 6, 92)
    """
    try:
        if is_dicom(content):
            if is_for_gdcm(content):
                return decode_apart("DICOM", content, max_megapixels)
            return open_dicom(content, max_megapixels)
        if is_heic(content):
            require_libheif()
            return decode_apart("HEIC", content, max_megapixels)
        return open_picture(content, max_megapixels)
    except Unreadable as error:
        raise ImageError(path, str(error)) from None
    except MemoryError:
        raise ImageError(path, "needs more memory than there is") from None
    except Exception as error:
        # On damaged files the readers raise nearly everything there is.
        raise ImageError(path, f"damaged ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def inspect(path: Path | str, *, max_megapixels: float = MAX_MEGAPIXELS, decode: bool = True) -> ImageFacts:
    """Hash one file and decode it; a bad file is a fact, not an exception.

    With ``decode=False`` only the header is read of a JPEG or PNG that has its end, and every other file is
    decoded all the same: damage between header and end is not found, a file that was cut off is.
    """
    try:
        content = read_bytes(path)
        height, width = (None if decode else _size_of_whole(content, max_megapixels)) or open_stored(
            content, path, max_megapixels=max_megapixels
        )[0].shape[:2]
    except ImageError as error:
        return ImageFacts(problem=error.reason)
    return ImageFacts(hashlib.sha256(content).hexdigest(), height, width)


def _size_of_whole(content: bytes, max_megapixels: float) -> tuple[int, int] | None:
    try:
        return size_of_whole(content, max_megapixels)
    except Exception:
        return None  # decoding it says why


def inspect_all(
    paths: Collection[Path | str],
    *,
    workers: int,
    progress: bool = True,
    max_megapixels: float = MAX_MEGAPIXELS,
    decode: bool = True,
) -> Iterator[ImageFacts]:
    """Return the facts of every file, in order; decoding runs in threads (Pillow frees the lock)."""
    look = partial(inspect, max_megapixels=max_megapixels, decode=decode)
    return in_threads(look, paths, "checking images", "images", workers=workers, shown=progress)
