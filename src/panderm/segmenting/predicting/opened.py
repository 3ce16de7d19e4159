"""One image of any size: whole where it is of usual size, else by strips, so that memory stays as it is."""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from PIL import Image

from panderm.data.colour import to_srgb
from panderm.data.images import decode, read_bytes
from panderm.data.pillow import open_header
from panderm.data.stored import ImageError
from panderm.segmenting.predicting.answers import Image8
from panderm.segmenting.predicting.native import bands_of

LARGE = 4_000_000
"""Images of more pixels are read by strips, and scaled by area means before they are squashed."""
LEAST = 3
"""Sides of what is scaled before are at least so many times the side of the square."""
_STRIPPED = {"JPEG", "MPO", "PNG", "TIFF"}
_TOP_LEFT, _INTERLACE, _ORIENTATION = 1, "interlace", 274


class Opened(Protocol):
    """An image that lies as its user sees it, in sRGB."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, pixels."""
        ...

    def bands(self) -> Iterator[Image8]:
        """Yield its rows from the top, uint8 (rows, W, 3)."""
        ...

    def whole(self) -> Image8:
        """Return it as one array, uint8 (H, W, 3)."""
        ...


class Whole:
    """An image in memory, uint8 (H, W, 3)."""

    def __init__(self, rgb: Image8) -> None:
        self._rgb = rgb
        self.shape: tuple[int, int] = (rgb.shape[0], rgb.shape[1])

    def bands(self) -> Iterator[Image8]:
        """Yield its rows."""
        for top, bottom in bands_of(*self.shape):
            yield self._rgb[top:bottom]

    def whole(self) -> Image8:
        """Return the image."""
        return self._rgb


class Strips:
    """An image that libvips decodes from the top while it is asked for; each pass begins anew."""

    def __init__(self, path: Path, shape: tuple[int, int], profile: bytes | None) -> None:
        self.shape = shape
        self._path, self._profile = path, profile

    def bands(self) -> Iterator[Image8]:
        """Yield its rows.

        Raises:
            ImageError: it is damaged.
        """
        vips = importlib.import_module("pyvips")
        vips.cache_set_max(0)  # a pass that is kept in its cache keeps its strips: 60 MB each
        try:
            image = vips.Image.new_from_file(str(self._path), access="sequential", fail_on="error")
            region = vips.Region.new(image)
            for top, bottom in bands_of(*self.shape):
                content = region.fetch(0, top, self.shape[1], bottom - top)
                pixels = np.frombuffer(content, dtype=np.uint8).reshape(bottom - top, self.shape[1], -1)
                yield _srgb(pixels, self._profile)
        except vips.Error as error:
            words = (str(error).splitlines() or ["it cannot be decoded"])[-1].strip()
            raise ImageError(self._path, f"damaged ({words})") from None

    def whole(self) -> Image8:
        """Return it as one array."""
        return np.concatenate(list(self.bands()))


def reads_strips() -> bool:
    """Say whether the extra is there that reads large images by strips."""
    return importlib.util.find_spec("pyvips") is not None


def open_image(path: Path, *, max_megapixels: float, content: bytes | None = None) -> Opened:
    """Open an image: by strips where it is large and its format allows it, else whole.

    By strips are read, where ``pyvips`` is installed, JPEG, PNG and TIFF of 8 bits a channel, grey or RGB,
    without an alpha channel, that lie in the file as they are shown. The pixels are those of
    :func:`panderm.read_image`.

    Args:
        path: its file.
        max_megapixels: more millions of pixels are refused.
        content: the file's bytes, where they are read already.

    Raises:
        ImageError: missing, damaged, not an image, or of too many pixels.
    """
    held = read_bytes(path) if content is None else content
    if reads_strips() and (strips := _strips(path, held, max_megapixels)) is not None:
        return strips
    return Whole(decode(held, path, max_megapixels=max_megapixels))


def is_large(content: bytes) -> bool:
    """Say whether a file's header promises a large image; no where it cannot be read."""
    try:
        with open_header(content, float("inf")) as opened:
            return opened.size[0] * opened.size[1] > LARGE
    except Exception:
        return False  # decoding it says why


def _strips(path: Path, content: bytes, max_megapixels: float) -> Strips | None:
    """Return an image to be read by strips; None for one that is not large, or must be read whole."""
    try:
        opened = open_header(content, max_megapixels)
    except Exception:
        return None  # decoding it whole says why
    with opened:
        width, height = opened.size
        if width * height <= LARGE or opened.format not in _STRIPPED or opened.mode not in ("L", "RGB"):
            return None
        raw = opened.tile[0].args if opened.tile else ""
        deep = ";16" in str(raw) or "transparency" in opened.info or opened.info.get(_INTERLACE)
        if deep or (getattr(opened, "n_frames", 1) > 1 and opened.format != "MPO"):
            return None
        if not _is_plain(opened, content):
            return None
        profile = opened.info.get("icc_profile")
        return Strips(path, (height, width), profile if isinstance(profile, bytes) and profile else None)


def _is_plain(opened: Any, content: bytes) -> bool:
    """Say whether a picture lies as it is shown, with the colours its mode names."""
    if opened.format == "PNG":
        return not any(mark in content for mark in (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp"))
    if opened.getexif().get(_ORIENTATION, _TOP_LEFT) != _TOP_LEFT:
        return False
    if opened.format == "TIFF":
        photometric, bits, samples = (opened.tag_v2.get(tag) for tag in (262, 258, 277))
        return photometric in (1, 2, 6) and set(bits or ()) == {8} and samples in (1, 3, None)
    return True


def _srgb(pixels: Image8, profile: bytes | None) -> Image8:
    if pixels.shape[2] == 3 and profile is None:
        return pixels
    grey = pixels.shape[2] == 1
    return np.asarray(to_srgb(Image.fromarray(pixels[:, :, 0] if grey else pixels), profile).image)


def scaled(opened: Opened, least: int) -> Image8:
    """Return an image for squashing: as it is, or where it is large, its shorter side of about ``least``.

    Every pixel of what is scaled is the mean of the area it covers, weighted where it covers parts of pixels.

    Args:
        opened: the image.
        least: pixels of the shorter side that are needed; never fewer are returned of an image that has them.

    Returns:
        uint8 (h, w, 3).
    """
    height, width = opened.shape
    by = min(height, width) / max(1, least)
    if height * width <= LARGE or by < 2:
        return opened.whole()
    h, w = math.ceil(height / by), math.ceil(width / by)
    made = np.zeros((h, w * 3), dtype=np.float32)
    top, step = 0, height / h
    for band in opened.bands():
        bottom = top + len(band)
        narrow = cv2.resize(band, (w, len(band)), interpolation=cv2.INTER_AREA)
        first, last = int(top / step), min(h, math.ceil(bottom / step))
        edges = np.arange(first, last + 1) * step
        rows = np.arange(top, bottom)
        # How much of each row each target row covers.
        covers = np.minimum(edges[1:, None], rows + 1.0) - np.maximum(edges[:-1, None], rows)
        weights = (covers.clip(0) / step).astype(np.float32)
        made[first:last] += weights @ narrow.reshape(len(band), -1).astype(np.float32)
        top = bottom
    return np.rint(made).clip(0, 255).astype(np.uint8).reshape(h, w, 3)
