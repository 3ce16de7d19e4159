"""Small pictures for a map: as many as a page can hold, each as large as their number allows."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from panderm.data.images import ImageError, decode, read_bytes
from panderm.data.pillow import plain_jpeg, upright
from panderm.data.table import Table
from panderm.progress import in_threads

MOST = 10_000
# Up to so many pictures, the side of each in pixels and its JPEG quality: some 2, 1.5, 1 and 0.7 kB each.
_SIZES = ((2_000, 96, 80), (12_000, 80, 70), (30_000, 64, 60), (None, 48, 50))
CHANGED = "changed since it was embedded"


@dataclass(frozen=True)
class Thumbnails:
    """A picture for each row, or a word for why it has none.

    Attributes:
        pictures: n JPEGs as base64, None where there is none.
        words: n reasons, None where there is a picture.
        side: pixels of the longer side; 0 where none were made.
        bytes: what the pictures take in the page.
    """

    pictures: tuple[str | None, ...]
    words: tuple[str | None, ...]
    side: int
    bytes: int

    @property
    def count(self) -> int:
        """How many rows have a picture."""
        return sum(picture is not None for picture in self.pictures)


def make_thumbnails(
    rows: Table, most: int = MOST, *, workers: int = 2, seed: int = 0, progress: bool = True
) -> Thumbnails:
    """Read the rows' images from disk and make each small; a missing or changed one becomes a word.

    Args:
        rows: whose images; hash and file are those of the table that was embedded.
        most: how many; of more rows a random sample gets a picture. 0: none.
        workers: threads that decode.
        seed: of the sample.
        progress: show a bar.
    """
    n = len(rows)
    chosen = _chosen(n, most, seed)
    words: list[str | None] = ["no picture in this page"] * n
    if n > most > 0:
        words = [f"no picture: {most:,} of {n:,} images have one"] * n
    pictures: list[str | None] = [None] * n
    if not len(chosen):
        return Thumbnails(tuple(pictures), tuple(words), 0, 0)
    side, quality = next((s, q) for up_to, s, q in _SIZES if up_to is None or len(chosen) <= up_to)
    make = partial(_thumbnail, side=side, quality=quality, most=rows.card.max_megapixels)
    wanted = [(str(rows.path[i]), str(rows.sha256[i])) for i in chosen]
    made = in_threads(make, wanted, "making thumbnails", "images", workers=workers, shown=progress)
    for i, (picture, word) in zip(chosen, made, strict=True):
        pictures[i], words[i] = picture, word
    return Thumbnails(tuple(pictures), tuple(words), side, sum(len(x) for x in pictures if x))


def _chosen(n: int, most: int, seed: int) -> npt.NDArray[np.int64]:
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))


def _thumbnail(
    wanted: tuple[str, str], *, side: int, quality: int, most: float
) -> tuple[str | None, str | None]:
    """Return one picture, or the reason there is none."""
    path, sha256 = wanted
    try:
        content = read_bytes(path)
        if hashlib.sha256(content).hexdigest() != sha256:
            return None, CHANGED
        return _small_jpeg(_decoded(content, path, side, most), side, quality), None
    except ImageError as error:
        return None, error.reason


def _decoded(content: bytes, path: str, side: int, most: float) -> npt.NDArray[np.uint8]:
    """Return pixels, upright; a large plain JPEG is decoded scaled, to twice the thumbnail or more."""
    plain = plain_jpeg(content, most)
    if plain is not None:
        height, width, orientation = plain
        by = next(by for by in (8, 4, 2, 1) if by == 1 or max(height, width) >= 2 * side * by)
        with contextlib.suppress(ValueError):  # whatever it finds amiss, the decoder of all verbs knows
            rgb = simplejpeg.decode_jpeg(
                content, "RGB", min_height=-(-height // by), min_width=-(-width // by), strict=True
            )
            return upright(rgb, orientation).copy()
    return decode(content, path, max_megapixels=most)


def _small_jpeg(rgb: npt.NDArray[np.uint8], side: int, quality: int) -> str:
    image = Image.fromarray(rgb)
    image.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    target = io.BytesIO()
    # Huffman tables of its own are shorter than the standard ones, which weigh half a kilobyte.
    image.save(target, "JPEG", quality=quality, optimize=True)
    return base64.b64encode(target.getvalue()).decode()


def blanks(words: Sequence[str | None]) -> dict[str, int]:
    """Return how many rows have no picture, by reason, the most frequent first."""
    return dict(Counter(word for word in words if word is not None).most_common())
