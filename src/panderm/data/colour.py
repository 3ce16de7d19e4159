"""Every kind of 8-bit pixel to sRGB on white: the one place where colours change."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

# Relative colorimetric keeps every colour that sRGB has, and black stays black: what viewers show.
_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
_FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION
# A profile that moves no colour by more than 2 of 255 is sRGB under one of its many names.
_SAME = 2
_LARGEST_PROFILE = 8_000_000
_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK", "LAB": "Lab"}


@dataclass(frozen=True)
class Converted:
    """A picture in sRGB, with the ICC profile that was applied, or the reason why it was not.

    Attributes:
        image: RGB, 8 bits.
        profile: the profile's description; None where none was applied, sRGB itself included.
        problem: why a profile was left aside.
    """

    image: Image.Image
    profile: str | None = None
    problem: str | None = None


def to_srgb(image: Image.Image, profile: bytes | None = None) -> Converted:
    """Return a picture as RGB, 8 bits: its ICC profile applied, then what is transparent laid on white.

    Args:
        image: any of Pillow's modes of 8 bits or fewer.
        profile: the ICC profile of its pixels; without one, grey and RGB are taken for sRGB, and CMYK is
            turned by the plain rule R = (255 - C)(255 - K) / 255.

    Example:
        >>> to_srgb(Image.new("CMYK", (1, 1), (0, 255, 255, 0))).image.getpixel((0, 0))
        (255, 0, 0)
    """
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode[:-1] + "A")
    if image.mode == "PA" or "transparency" in image.info:
        image = image.convert("RGBA")
    elif image.mode in ("P", "YCbCr", "HSV", "RGBX"):
        image = image.convert("RGB")
    elif image.mode == "1":
        image = image.convert("L")
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    colours = image.convert(image.mode[:-1]) if alpha else image
    converted = _apply(colours, profile)
    if alpha is None:
        return converted
    with_alpha = converted.image.convert("RGBA")
    with_alpha.putalpha(alpha)
    white = Image.new("RGBA", image.size, "white")
    flat = Image.alpha_composite(white, with_alpha).convert("RGB")
    return Converted(flat, converted.profile, converted.problem)


def moves_colours(profile: bytes, mode: str) -> bool:
    """Say whether :func:`to_srgb` changes pixels of a mode ("L", "RGB", …) by this ICC profile."""
    return _reader(profile, mode).transform is not None


def _apply(image: Image.Image, profile: bytes | None) -> Converted:
    found = _reader(profile, image.mode) if profile else _Reader()
    if found.transform is not None:
        return Converted(found.transform.apply(image), found.name)
    if image.mode == "LAB":
        return Converted(_lab().apply(image), None, found.problem)
    return Converted(image if image.mode == "RGB" else image.convert("RGB"), None, found.problem)


@dataclass(frozen=True)
class _Reader:
    transform: ImageCms.ImageCmsTransform | None = None
    name: str | None = None
    problem: str | None = None


@lru_cache(maxsize=16)
def _reader(content: bytes, mode: str) -> _Reader:
    """Return what turns pixels of a mode into sRGB by an ICC profile."""
    if len(content) > _LARGEST_PROFILE:
        return _Reader(problem="a colour profile of more than 8 MB")
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(content))
        space = opened.profile.xcolor_space.strip()
        if space != _SPACES.get(mode):
            return _Reader(problem=f"a colour profile for {space}, not for {_SPACES.get(mode, mode)}")
        transform = _transform(opened, mode)
        if mode == "RGB" and _moves(transform) <= _SAME:
            return _Reader()
        return _Reader(transform, _describe(opened))
    except Exception:  # a profile comes from anywhere, and LittleCMS refuses with several kinds
        return _Reader(problem="a broken colour profile")


def _transform(profile: ImageCms.ImageCmsProfile, mode: str) -> ImageCms.ImageCmsTransform:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    return ImageCms.ImageCmsTransform(profile, srgb, mode, "RGB", _INTENT, flags=_FLAGS)


@lru_cache(maxsize=1)
def _lab() -> ImageCms.ImageCmsTransform:
    return _transform(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")), "LAB")


def _moves(transform: ImageCms.ImageCmsTransform) -> int:
    """Return by how much, of 255, a transform moves any channel of a grid of colours."""
    steps = np.linspace(0, 255, 18).astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    seen = np.asarray(transform.apply(Image.fromarray(grid)))
    return int(np.abs(seen.astype(int) - grid).max())


def _describe(profile: ImageCms.ImageCmsProfile) -> str:
    try:
        text = " ".join(ImageCms.getProfileDescription(profile).split())
    except Exception:
        text = ""
    return text[:80] or "a profile without a name"
