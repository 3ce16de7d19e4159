"""Images of a source that are one photograph with an image of another source, however either was saved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import groupby

import numpy as np
import numpy.typing as npt
import simplejpeg

from panderm.data.duplicates import SIDE, Gallery, spectrum
from panderm.data.images import MAX_MEGAPIXELS, ImageError, decode
from panderm.data.pillow import plain_jpeg
from panderm.data.registration import Points
from panderm.data.streams.source import ImageSource
from panderm.gate.lookalikes import MOST, is_one
from panderm.progress import in_threads

_PIECE = 2048  # images whose spectra wait to be compared: a megabyte


@dataclass
class Nearness:
    """What was found.

    Attributes:
        found: position in the source, position in the other, correlation; each position of the source once.
        bad: positions of the source whose images cannot be read, and why.
        not_looked: pairs that got no second look, since more alike ones were more than enough.
    """

    found: list[tuple[int, int, float]] = field(default_factory=list)
    bad: dict[int, str] = field(default_factory=dict)
    not_looked: int = 0


def find_near(
    source: ImageSource,
    positions: npt.NDArray[np.int64],
    other: ImageSource,
    *,
    workers: int,
    max_megapixels: float = MAX_MEGAPIXELS,
    progress: bool = True,
) -> Nearness:
    """Return which images of a source are one photograph with an image of another.

    Both are recognised by their lowest frequencies, whatever their size, file and colours, turned by right
    angles or mirrored (:mod:`panderm.data.duplicates`); a second look at the pixels decides, as
    ``panderm check`` does (:func:`panderm.gate.lookalikes.is_one`). Every image is decoded once, JPEG no
    larger than it takes.

    Args:
        source: the images that are looked through; spectra of 2,048 are in memory at a time.
        positions: which of them, int64.
        other: the images they are held against; their spectra are kept, 512 bytes each.
        workers: threads that decode.
        max_megapixels: larger images are bad.
        progress: show progress on standard error.
    """
    known = [
        one if isinstance(one, bytes) else b""
        for one in in_threads(
            partial(_spectrum, other, max_megapixels),
            range(len(other)),
            "images to stay clear of",
            "images",
            workers=workers,
            shown=progress,
        )
    ]
    gallery = Gallery(known)
    result = Nearness()
    pairs: list[tuple[int, int, bool, float]] = []
    looked = in_threads(
        partial(_spectrum, source, max_megapixels),
        positions.tolist(),
        "looking for their duplicates",
        "images",
        workers=workers,
        shown=progress,
    )
    for start, piece in _pieces(looked):
        here = positions[start : start + len(piece)]
        result.bad |= {int(i): one for i, one in zip(here, piece, strict=True) if isinstance(one, str)}
        for pair in gallery.find([one if isinstance(one, bytes) else b"" for one in piece]):
            pairs.append((int(here[pair.first]), pair.second, pair.kind == "near", pair.similarity))
    pairs.sort(key=lambda pair: -pair[3])
    result.not_looked = max(0, len(pairs) - MOST)
    chosen = sorted(pairs[:MOST], key=lambda pair: (pair[0], -pair[3]))
    families = [list(family) for _, family in groupby(chosen, key=lambda pair: pair[0])]

    @lru_cache(96)
    def points(of_other: bool, i: int) -> Points | None:
        try:
            asked = other if of_other else source
            return Points(decode(asked.read(i), asked.name(i), max_megapixels=max_megapixels))
        except ImageError:
            return None

    def look(family: list[tuple[int, int, bool, float]]) -> tuple[int, int, float] | None:
        for position, at, near, likeness in family:
            first, second = points(False, position), points(True, at)
            if first is not None and second is not None and is_one(first, second, near=near):
                return position, at, likeness
        return None

    verdicts = in_threads(look, families, "second looks", "images", workers=workers, shown=progress)
    result.found = [verdict for verdict in verdicts if verdict is not None]
    return result


def _spectrum(source: ImageSource, max_megapixels: float, i: int) -> bytes | str:
    """Return an image's spectrum, or why it cannot be read."""
    try:
        content, name = source.read(i), source.name(i)
        plain = plain_jpeg(content, max_megapixels)
        if plain is not None:
            try:
                # The least that is asked for; libjpeg-turbo gives the next size above.
                least = min(4 * SIDE, *plain[:2])
                small = simplejpeg.decode_jpeg(content, "RGB", min_height=least, min_width=least, strict=True)
                return spectrum(small)
            except ValueError:
                pass
        return spectrum(np.ascontiguousarray(decode(content, name, max_megapixels=max_megapixels)))
    except ImageError as error:
        return error.reason


def _pieces(items: Iterator[bytes | str]) -> Iterator[tuple[int, list[bytes | str]]]:
    start = 0
    piece: list[bytes | str] = []
    for item in items:
        piece.append(item)
        if len(piece) == _PIECE:
            yield start, piece
            start, piece = start + len(piece), []
    if piece:
        yield start, piece
