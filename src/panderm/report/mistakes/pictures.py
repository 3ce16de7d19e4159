"""Small pictures of images on disk, as they were when they were embedded, or a word for why there is none."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from panderm.data.images import MAX_MEGAPIXELS, ImageError, decode, read_bytes
from panderm.predictions import Predictions

SIDE = 192  # pixels
SMALL = 112


@dataclass(frozen=True)
class Picture:
    """A JPEG as ``data:`` address, or None and the reason."""

    data: str | None
    problem: str | None = None


@dataclass(frozen=True)
class Shown:
    """A picture with what stands beneath it.

    Attributes:
        picture: the picture.
        alt: what it shows, for those who listen.
        lines: beneath it, the first the most important.
        name: of the image.
    """

    picture: Picture
    alt: str
    lines: Sequence[str]
    name: str = ""


@dataclass(frozen=True)
class Sheet:
    """A contact sheet: a heading, a sentence and pictures."""

    title: str
    pictures: Sequence[Shown]
    note: str = ""
    mark: str = ""


def thumbnail(rgb: npt.NDArray[np.uint8], side: int = SIDE, quality: int = 85) -> str:
    """Return an RGB image (H, W, 3) scaled to at most ``side`` pixels as a ``data:image/jpeg`` address."""
    image = Image.fromarray(rgb)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    target = io.BytesIO()
    image.save(target, "JPEG", quality=quality, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(target.getvalue()).decode()}"


def pixels_of(
    path: str | None, sha256: str | None, *, max_megapixels: float
) -> tuple[npt.NDArray[np.uint8] | None, str | None]:
    """Return an image's pixels, uint8 (H, W, 3), or the reason why they cannot be shown.

    Args:
        path: of its file; None where no file is named.
        sha256: of its bytes as they were; None where not known.
        max_megapixels: of the table; larger images are refused.
    """
    if not path:
        return None, "no file is named"
    try:
        content = read_bytes(path)
        if sha256 and hashlib.sha256(content).hexdigest() != sha256:
            return None, "changed since it was embedded"
        return decode(content, path, max_megapixels=max_megapixels), None
    except ImageError as error:
        return None, error.reason


def predicted_pixels(predictions: Predictions, row: int) -> tuple[npt.NDArray[np.uint8] | None, str | None]:
    """Return the pixels of a row of predictions, or the reason why they cannot be shown."""
    made_of = predictions.card.embeddings
    most = made_of.table.max_megapixels if made_of else MAX_MEGAPIXELS
    return pixels_of(predictions.path[row], predictions.sha256[row], max_megapixels=most)


def predicted_picture(predictions: Predictions, row: int, *, side: int = SIDE, quality: int = 85) -> Picture:
    """Return a row of predictions as a small picture."""
    rgb, problem = predicted_pixels(predictions, row)
    return Picture(None, problem) if rgb is None else Picture(thumbnail(rgb, side, quality))


def with_files(predictions: Sequence[Predictions]) -> Predictions:
    """Return the first of several, of the same rows, that names the files of its images; else the first."""
    return next((one for one in predictions if any(one.path)), predictions[0])
