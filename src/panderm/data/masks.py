"""Masks of lesions: one file read as inside and outside, and two folders' files paired by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from panderm.data.images import ImageError, open_stored, read_bytes
from panderm.data.pillow import grey_png
from panderm.data.stored import MAX_MEGAPIXELS
from panderm.errors import TableError, plural, some

Mask = npt.NDArray[np.bool_]

# What stands behind an image's name in the name of its mask.
_ENDING = re.compile(r"[_-](segmentation|seg|mask|lesion|pred|predicted|prediction)$", re.IGNORECASE)
_PICTURES = {".png", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".jpg", ".jpeg", ".pbm", ".pgm"}


def read_mask(path: Path | str, *, max_megapixels: float = MAX_MEGAPIXELS) -> Mask:
    """Read a mask: white, or 1, is inside.

    Args:
        path: an image file whose pixels are 0 and 255, or 0 and 1; an empty mask is all 0.
        max_megapixels: more millions of pixels are refused before anything is decoded.

    Returns:
        (H, W) bool.

    Raises:
        ImageError: not a readable image, or one with other values, colours, transparency or more than 8 bits.
    """
    return decode_mask(read_bytes(path), path, max_megapixels=max_megapixels)


def decode_mask(content: bytes, path: Path | str, *, max_megapixels: float = MAX_MEGAPIXELS) -> Mask:
    """Decode a file's bytes to a mask, (H, W) bool; see :func:`read_mask`. ``path`` is for messages."""
    plain = grey_png(content, max_megapixels)
    if plain is not None and plain.dtype == np.bool_:
        return plain.astype(np.bool_, copy=False)
    if plain is not None:
        return _inside(plain.astype(np.uint8, copy=False), path, deep=False)
    rgb, stored = open_stored(content, path, max_megapixels=max_megapixels)
    grey = rgb[:, :, 0]
    if stored.alpha:
        raise ImageError(path, "has transparent pixels, not black and white", _HINT)
    if not (np.array_equal(grey, rgb[:, :, 1]) and np.array_equal(grey, rgb[:, :, 2])):
        raise ImageError(path, "has colours, not black and white", _HINT)
    return _inside(grey, path, deep=stored.bits > 8)


def _inside(grey: npt.NDArray[np.uint8], path: Path | str, *, deep: bool) -> Mask:
    """Return which pixels are white, of a picture whose pixels must be 0 and 255, or 0 and 1."""
    most = int(grey.max())
    inside = grey > 0
    if most in ({255} if deep else {0, 1, 255}) and np.array_equal(grey == most, inside if most else ~inside):
        return inside
    values = np.flatnonzero(np.bincount(grey.ravel(), minlength=256))
    found = some([str(value) for value in values])
    raise ImageError(path, f"has the values {found}, not two: 0 and 255, or 0 and 1", _HINT)


def name_of_image(file: str) -> str:
    """Return the image that a mask is of: its name without suffix and an ending such as _mask."""
    return _ENDING.sub("", Path(file).stem)


def masks_in(folder: Path | str, what: str) -> dict[str, Path]:
    """Return the mask files of a folder by the image that each is of, in the order of their names.

    Args:
        folder: with image files; hidden files, subfolders and other files are left alone.
        what: whose masks they are, for messages: "true" or "predicted".

    Raises:
        TableError: no such folder, no mask in it, or two of one image.
    """
    place = Path(folder)
    must = f"the {what} masks must be a folder of image files."
    if not place.is_dir():
        raise TableError(must, f"{place} is {'a file' if place.exists() else 'not there'}")
    files = sorted(
        file for file in place.iterdir() if file.suffix.lower() in _PICTURES and not file.name.startswith(".")
    )
    if not files:
        raise TableError(must, f"found no image file in {place}")
    found: dict[str, list[Path]] = {}
    for file in files:
        found.setdefault(name_of_image(file.name), []).append(file)
    twice = [f"{name}: {some([f.name for f in same])}" for name, same in found.items() if len(same) > 1]
    if twice:
        raise TableError(
            f"an image must have one of the {what} masks.",
            [f"{plural(len(twice), 'image has', 'images have')} more in {place}", *twice[:5]],
            "leave one of them in the folder",
        )
    return {name: same[0] for name, same in found.items()}


def paired(
    truth: dict[str, Path], predicted: dict[str, Path], *, common: bool = False, place: Path | None = None
) -> Sequence[str]:
    """Return the images that both have, in the order of the truth.

    Args:
        truth: by image, its true mask.
        predicted: by image, its predicted mask.
        common: leave out those that one alone has.
        place: where the predicted ones lie, for what is said of them.

    Raises:
        TableError: an image that one alone has, or none that both have.
    """
    both = [name for name in truth if name in predicted]
    alone = {
        "true masks without a predicted one": [name for name in truth if name not in predicted],
        "predicted masks without a true one": [name for name in predicted if name not in truth],
    }
    lines = [f"{len(names):,} {what}: {some(names)}" for what, names in alone.items() if names]
    if not both or (lines and not common):
        hint = (
            "add --common to score those that both have"
            if both
            else "names must agree: a.png, a_segmentation.png"
        )
        if place is not None:
            lines.append(f"the predicted masks lie in {place}")
        raise TableError("every image must have a true and a predicted mask.", lines, hint)
    return both


_HINT = "save masks as PNG, white inside and black outside; put probabilities through a threshold first"
