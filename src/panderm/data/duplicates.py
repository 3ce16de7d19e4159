"""The same picture twice: equal pixels, or the same photograph re-saved, resized, turned or mirrored.

A picture is known by the lowest frequencies of its brightness: the first 16×16 coefficients of a cosine
transform of its 32×32 miniature, each multiplied by its frequency. That whitening takes the weight off what
all dermoscopy shares, a dark blob on bright skin in a dark ring, and puts it on what one photograph has
alone. Two pictures are near when the coefficients correlate, under one of the eight turns and mirrorings of a
square, by at least :data:`COARSE` so whitened, and by at least :data:`FINE` whitened twice. Colour is not
looked at: the same photograph with another white balance is the same photograph. ``benchmarks/check.py``
measures what is found and what is not.

Turning and mirroring a picture only swaps its coefficients across the diagonal and flips signs. So the
magnitudes, each pair across the diagonal sorted, are the same for all eight, and by the rearrangement
inequality their product is never below the best of the eight correlations: one matrix product finds every
candidate, and none is lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from panderm.progress import Progress

Array = npt.NDArray[np.float32]

SIDE = 32
"""Side of the miniature, pixels."""
FREQUENCIES = 16
"""Frequencies kept along each axis, the mean included."""
COARSE = 0.95
"""Least correlation of near pictures, coefficients weighted by their frequency."""
FINE = 0.90
"""Least correlation of near pictures, coefficients weighted by the square of their frequency."""
PERHAPS_COARSE, PERHAPS_FINE = 0.88, 0.70
"""Least correlations of pictures that may be near: a second look at their pixels decides."""
FLAT = 1.0
"""Least standard deviation of a miniature's brightness, levels of 255; below it all pictures look alike."""

_BLOCK = 2048  # rows compared at once: 16 MB of products


@dataclass(frozen=True)
class Fingerprint:
    """What a picture is recognised by, some 700 bytes.

    Attributes:
        pixels: hex SHA-256 of shape and RGB values after decoding, whatever the file.
        spectrum: 256 float16, the lowest frequencies of brightness; empty where the picture is flat.
    """

    pixels: str
    spectrum: bytes


class Pair(NamedTuple):
    """Two pictures that are one, ``first < second``; ``similarity`` is their correlation, at most 1.

    ``perhaps`` is a pair that only a second look at the pixels can decide:
    :mod:`panderm.data.registration`.
    """

    first: int
    second: int
    kind: Literal["same pixels", "near", "perhaps"]
    similarity: float


def fingerprint(rgb: npt.NDArray[np.uint8]) -> Fingerprint:
    """Return what a picture is recognised by.

    Args:
        rgb: uint8 (H, W, 3), RGB.

    Example:
        >>> one = fingerprint(panderm.read_image("a.jpg"))  # doctest: +SKIP
        >>> len(one.spectrum)  # doctest: +SKIP
        512
    """
    pixels = np.ascontiguousarray(rgb)
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(pixels.data)
    return Fingerprint(digest.hexdigest(), spectrum(pixels))


def spectrum(rgb: npt.NDArray[np.uint8]) -> bytes:
    """Return the lowest frequencies of a picture's brightness, 256 float16; empty where it is flat.

    It may have been scaled down already, to four times :data:`SIDE` or more.
    """
    small = cv2.resize(rgb, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    luma = small @ _LUMA
    return (_COSINES @ luma @ _COSINES.T).astype(np.float16).tobytes() if luma.std() >= FLAT else b""


def find_pairs(
    fingerprints: Sequence[Fingerprint | None], *, perhaps: bool = False, progress: bool = False
) -> list[Pair]:
    """Return the pairs of pictures that are one, in order.

    Of several pictures with equal pixels, the first is paired with each other one, and stands for all of them
    when near pictures are looked for: :func:`clusters` joins them again.

    Args:
        fingerprints: one a picture; None where there is none.
        perhaps: return pairs that may be near, too.
        progress: show progress on standard error.

    Example:
        >>> find_pairs([one, one])  # doctest: +SKIP
        [Pair(first=0, second=1, kind='same pixels', similarity=1.0)]
    """
    first: dict[str, int] = {}
    pairs: list[Pair] = []
    distinct: list[int] = []
    spectra: list[bytes] = []
    for i, given in enumerate(fingerprints):
        if given is None:
            continue
        seen = first.setdefault(given.pixels, i)
        if seen != i:
            pairs.append(Pair(seen, i, "same pixels", 1.0))
        elif given.spectrum:
            distinct.append(i)
            spectra.append(given.spectrum)
    if len(distinct) > 1:
        stored = _unpacked(spectra)[1]
        least = (PERHAPS_COARSE, PERHAPS_FINE) if perhaps else (COARSE, FINE)
        for a, b, coarse, fine in _near(stored, *least, progress=progress):
            kind: Literal["near", "perhaps"] = "near" if coarse >= COARSE and fine >= FINE else "perhaps"
            pairs.append(Pair(distinct[a], distinct[b], kind, round(min(1.0, coarse), 4)))
    return sorted(pairs)


class Gallery:
    """Pictures that any number of others are held against, a few at a time.

    Args:
        spectra: of m pictures, as of :func:`spectrum`; an empty one is like no other.

    Example:
        >>> Gallery([known.spectrum]).find([other.spectrum])  # doctest: +SKIP
        [Pair(first=0, second=0, kind='near', similarity=0.9871)]
    """

    def __init__(self, spectra: Sequence[bytes]) -> None:
        self._at, stored = _unpacked(spectra)
        self._coarse, self._fine = _whitened(stored, 1), _whitened(stored, 2)
        self._bound, self._fine_bound = _magnitudes(self._coarse), _magnitudes(self._fine)

    def find(self, spectra: Sequence[bytes]) -> list[Pair]:
        """Return which of n pictures (``first``) are near, or may be, to which of the gallery's (``second``).

        Equal pixels are near with a similarity of 1.
        """
        at, stored = _unpacked(spectra)
        found: list[Pair] = []
        if not len(at) or not len(self._at):
            return found
        coarse, fine = _whitened(stored, 1), _whitened(stored, 2)
        bound, fine_bound = _magnitudes(coarse), _magnitudes(fine)
        for left in range(0, len(self._at), _BLOCK):
            first, second = np.nonzero(bound @ self._bound[left : left + _BLOCK].T >= PERHAPS_COARSE)
            second = second + left
            keep = np.einsum("ij,ij->i", fine_bound[first], self._fine_bound[second]) >= PERHAPS_FINE
            first, second = first[keep], second[keep]
            like = _best_of_eight(coarse[first], self._coarse[second])
            finer = _best_of_eight(fine[first], self._fine[second])
            for k in np.flatnonzero((like >= PERHAPS_COARSE) & (finer >= PERHAPS_FINE)):
                sure = like[k] >= COARSE and finer[k] >= FINE
                pair = int(at[first[k]]), int(self._at[second[k]])
                found.append(Pair(*pair, "near" if sure else "perhaps", round(min(1.0, float(like[k])), 4)))
        return sorted(found)


def _unpacked(spectra: Sequence[bytes]) -> tuple[npt.NDArray[np.int64], Array]:
    """Return which spectra are not empty, and those, float32 (k, FREQUENCIES, FREQUENCIES)."""
    at = np.array([i for i, one in enumerate(spectra) if one], dtype=np.int64)
    stored: Array = np.frombuffer(b"".join(spectra), dtype=np.float16).astype(np.float32)
    return at, stored.reshape(len(at), FREQUENCIES, FREQUENCIES)


def clusters(n: int, pairs: Iterable[tuple[int, int]]) -> npt.NDArray[np.int64]:
    """Return which of ``n`` things hang together by pairs, int64 (n,), numbered from 0 as they first appear.

    Example:
        >>> clusters(4, [(0, 2)]).tolist()
        [0, 1, 0, 2]
    """
    parent = list(range(n))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b in pairs:
        low, high = sorted((root(a), root(b)))
        parent[high] = low  # the root is the first of its cluster
    number: dict[int, int] = {}
    return np.array([number.setdefault(root(i), len(number)) for i in range(n)], dtype=np.int64)


def _cosines() -> Array:
    """Return the first rows of the orthonormal cosine transform (DCT-II), (FREQUENCIES, SIDE)."""
    k, x = np.arange(FREQUENCIES)[:, None], np.arange(SIDE)[None]
    rows = np.sqrt(2 / SIDE) * np.cos(np.pi * k * (2 * x + 1) / (2 * SIDE))
    rows[0] /= np.sqrt(2)
    return np.asarray(rows, dtype=np.float32)


_COSINES = _cosines()
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
_U, _V = np.meshgrid(np.arange(FREQUENCIES), np.arange(FREQUENCIES), indexing="ij")
_RADIUS = np.hypot(_U, _V).astype(np.float32)  # the mean, frequency 0, counts for nothing


def _near(
    spectra: Array, least_coarse: float, least_fine: float, *, progress: bool
) -> Iterator[tuple[int, int, float, float]]:
    """Yield the pairs of spectra whose two correlations reach the least, with both."""
    coarse, fine = _whitened(spectra, 1), _whitened(spectra, 2)
    bound, fine_bound = _magnitudes(coarse), _magnitudes(fine)
    n = len(spectra)
    with Progress(n * (n - 1) // 2, "looking for duplicates", "pairs", shown=progress) as bar:
        for top in range(0, n, _BLOCK):
            for left in range(top, n, _BLOCK):
                products = bound[top : top + _BLOCK] @ bound[left : left + _BLOCK].T
                rows, columns = np.nonzero(products >= least_coarse)
                first, second = rows + top, columns + left
                first, second = first[first < second], second[first < second]
                for start in range(0, len(first), _BLOCK):
                    a, b = first[start : start + _BLOCK], second[start : start + _BLOCK]
                    keep = (fine_bound[a] * fine_bound[b]).sum(axis=1) >= least_fine
                    a, b = a[keep], b[keep]
                    likeness = _best_of_eight(coarse[a], coarse[b])
                    keep = likeness >= least_coarse
                    a, b, likeness = a[keep], b[keep], likeness[keep]
                    finer = _best_of_eight(fine[a], fine[b])
                    for k in np.flatnonzero(finer >= least_fine):
                        yield int(a[k]), int(b[k]), float(likeness[k]), float(finer[k])
                height, width = products.shape
                bar.advance(height * (height - 1) // 2 if top == left else height * width)


def _whitened(spectra: Array, power: int) -> Array:
    """Weigh coefficients (n, K, K) by frequency to a power, and scale each spectrum to length 1."""
    weighed = spectra * _RADIUS**power
    length = np.sqrt((weighed**2).sum(axis=(1, 2), keepdims=True))
    return np.asarray(weighed / np.maximum(length, 1e-6), dtype=np.float32)


def _magnitudes(spectra: Array) -> Array:
    """Return what no turn or mirroring changes, (n, K²): sizes, of each two across the diagonal sorted."""
    size = np.abs(spectra)
    across = size.transpose(0, 2, 1)
    sorted_ = np.where(_U < _V, np.maximum(size, across), np.minimum(size, across))
    return np.ascontiguousarray(sorted_.reshape(len(spectra), FREQUENCIES**2))


def _best_of_eight(a: Array, b: Array) -> Array:
    """Return for m pairs of spectra (m, K, K) their correlation, the best of the eight turns, (m,)."""
    # Odd frequencies change their sign in a mirror; the four parities are summed apart and signed afterwards.
    best = np.full(len(a), -1, dtype=np.float32)
    for turned in (b, b.transpose(0, 2, 1)):
        product = a * turned
        parts = [[product[:, i::2, j::2].sum(axis=(1, 2)) for j in (0, 1)] for i in (0, 1)]
        for y in (1, -1):
            for x in (1, -1):
                total = parts[0][0] + x * parts[0][1] + y * parts[1][0] + x * y * parts[1][1]
                best = np.maximum(best, total)
    return best
