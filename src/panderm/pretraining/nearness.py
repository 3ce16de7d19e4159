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

CENTRES = (0.9, 0.8, 0.7)
"""Shares of height and width whose centre is looked for in the other picture, besides the centred square."""
_CUTS = 2 + len(CENTRES)  # spectra of a picture: whole, centred square, centres
_PIECE = 1024  # images whose spectra wait to be compared: 3 MB

Spectra = tuple[bytes, ...]


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
    angles or mirrored (:mod:`panderm.data.duplicates`), and so is one that is the other's centred square or
    its centre of about :data:`CENTRES` its sides; a second look at the pixels decides, as ``panderm check``
    does (:func:`panderm.gate.lookalikes.is_one`). Crops elsewhere, tighter ones and free turns are not found.
    Every image is decoded once, JPEG no larger than it takes.

    Args:
        source: the images that are looked through; spectra of 1,024 are in memory at a time.
        positions: which of them, int64.
        other: the images they are held against; what is kept of each is some 25 kB.
        workers: threads that decode.
        max_megapixels: larger images are bad.
        progress: show progress on standard error.
    """
    known = [
        one if isinstance(one, tuple) else (b"",) * _CUTS
        for one in in_threads(
            partial(_spectra, other, max_megapixels),
            range(len(other)),
            "images to stay clear of",
            "images",
            workers=workers,
            shown=progress,
        )
    ]
    whole, every = Gallery([one[0] for one in known]), Gallery([cut for one in known for cut in one])
    result = Nearness()
    pairs: list[tuple[int, int, bool, float]] = []
    looked = in_threads(
        partial(_spectra, source, max_megapixels),
        positions.tolist(),
        "looking for their duplicates",
        "images",
        workers=workers,
        shown=progress,
    )
    for start, piece in _pieces(looked):
        here = positions[start : start + len(piece)]
        result.bad |= {int(i): one for i, one in zip(here, piece, strict=True) if isinstance(one, str)}
        spectra = [one if isinstance(one, tuple) else (b"",) * _CUTS for one in piece]
        best: dict[tuple[int, int], tuple[bool, float]] = {}
        for pair in every.find([one[0] for one in spectra]):
            key = int(here[pair.first]), pair.second // _CUTS
            sure = pair.kind == "near" and pair.second % _CUTS == 0
            best[key] = max(best.get(key, (False, 0.0)), (sure, pair.similarity))
        for pair in whole.find([cut for one in spectra for cut in (b"", *one[1:])]):
            key = int(here[pair.first // _CUTS]), pair.second
            best[key] = max(best.get(key, (False, 0.0)), (False, pair.similarity))
        pairs += [(*key, *how) for key, how in best.items()]
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


def _spectra(source: ImageSource, max_megapixels: float, i: int) -> Spectra | str:
    """Return the spectra of an image and of its centres, or why it cannot be read."""
    try:
        rgb = _small(source.read(i), source.name(i), max_megapixels)
    except ImageError as error:
        return error.reason
    height, width, _ = rgb.shape
    side = min(height, width)
    cuts = [(height, width), *((round(height * share), round(width * share)) for share in CENTRES)]
    if side < 0.97 * max(height, width):
        cuts.insert(1, (side, side))
    found = []
    for tall, wide in cuts:
        top, left = (height - tall) // 2, (width - wide) // 2
        cut = rgb[top : top + tall, left : left + wide]
        found.append(spectrum(np.ascontiguousarray(cut)) if min(tall, wide) > 0 else b"")
    return (*found, *(b"",) * (_CUTS - len(found)))


def _small(content: bytes, name: str, max_megapixels: float) -> npt.NDArray[np.uint8]:
    """Return a file's pixels, of a large plain JPEG scaled down while it is decoded; not upright, if so."""
    plain = plain_jpeg(content, max_megapixels)
    if plain is not None:
        # The least that is asked for; libjpeg-turbo gives the next size above.
        least = min(6 * SIDE, *plain[:2])
        try:
            rgb = simplejpeg.decode_jpeg(content, "RGB", min_height=least, min_width=least, strict=True)
            return np.asarray(rgb, dtype=np.uint8)
        except ValueError:
            pass  # libjpeg-turbo finds something amiss: the whole decoder says what
    return decode(content, name, max_megapixels=max_megapixels)


def _pieces(items: Iterator[Spectra | str]) -> Iterator[tuple[int, list[Spectra | str]]]:
    start = 0
    piece: list[Spectra | str] = []
    for item in items:
        piece.append(item)
        if len(piece) == _PIECE:
            yield start, piece
            start, piece = start + len(piece), []
    if piece:
        yield start, piece
