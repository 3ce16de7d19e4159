"""How a file holds its picture, and why a file may hold none: what every part of the decoder speaks of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from panderm.errors import PandermError

# A small file may ask for all the memory there is: 179 million pixels are half a gigabyte of RGB.
MAX_MEGAPIXELS = 179.0


class ImageError(PandermError):
    """A file that does not hold one readable image; ``reason`` says why in a few words."""

    def __init__(self, path: Path | str, reason: str, hint: str = "replace it, or use --skip-bad") -> None:
        super().__init__("an image must be readable.", f"{path}: {reason}", hint)
        self.path = Path(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.path, self.reason, self.hint)


class Unreadable(Exception):  # noqa: N818
    """A reason in a few words, raised where the file's name is not known; becomes an ImageError."""


@dataclass(frozen=True)
class Stored:
    """How a file holds its picture, before it became RGB, 8 bits, upright.

    Attributes:
        format: "JPEG", "PNG", "TIFF", "WEBP", "HEIF", "DICOM" and so on.
        mode: Pillow's name of the pixels ("RGB", "CMYK", "P", "I;16"), or DICOM's photometric interpretation.
        bits: bits of one channel, as stored.
        frames: pictures in the file; more than one only where the file itself names the first (MPO, HEIF).
        orientation: EXIF orientation, 1 to 8; 1 where there is none, or where it must not be applied.
        alpha: whether some pixels may be transparent.
        profile: description of the ICC profile that was applied; None where there was none or sRGB.
        profile_problem: why an ICC profile was left aside; None where none was.
        jpeg_quality: 1 to 100, estimated from the luminance quantisation table; None where there is none.
    """

    format: str
    mode: str
    bits: int = 8
    frames: int = 1
    orientation: int = 1
    alpha: bool = False
    profile: str | None = None
    profile_problem: str | None = None
    jpeg_quality: int | None = None


def require_few_pixels(width: int, height: int, max_megapixels: float) -> None:
    """Raise :class:`Unreadable` where a header asks for more pixels than are allowed.

    Args:
        width: of the picture as stored, pixels.
        height: likewise.
        max_megapixels: the most that is allowed, in millions of pixels.
    """
    if width * height > max_megapixels * 1e6:
        raise Unreadable(f"more than {max_megapixels:g} million pixels")
