"""All that one decode of a file tells: bytes, size, how it was stored, and what it is recognised by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2

from panderm.data.duplicates import Fingerprint, fingerprint
from panderm.data.images import MAX_MEGAPIXELS, ImageError, Stored, open_stored, read_bytes
from panderm.progress import in_threads


@dataclass(frozen=True)
class Examined:
    """What is known of one file; a bad file is a fact, not an exception.

    Attributes:
        sha256: hex, of the file's bytes; empty where there are none to read.
        bytes: size of the file.
        height: of the picture, upright, pixels; 0 where it cannot be read.
        width: likewise.
        spread: standard deviation of the channel that varies most, levels of 255; 0 is one colour.
        problem: why the picture cannot be read, in a few words; None where it can.
        stored: how the file holds it; None where it cannot be read.
        fingerprint: what the picture is recognised by; None where it cannot be read.
    """

    sha256: str = ""
    bytes: int = 0
    height: int = 0
    width: int = 0
    spread: float = 0.0
    problem: str | None = None
    stored: Stored | None = None
    fingerprint: Fingerprint | None = None


def examine(path: Path | str, *, max_megapixels: float = MAX_MEGAPIXELS) -> Examined:
    """Read and decode one file, once.

    Args:
        path: of an image.
        max_megapixels: more millions of pixels are a problem, found before anything is decoded.

    Example:
        >>> examine("a.jpg").problem  # doctest: +SKIP
        'damaged (image file is truncated (8 bytes not processed))'
    """
    content = b""
    try:
        content = read_bytes(path)
        rgb, stored = open_stored(content, path, max_megapixels=max_megapixels)
    except ImageError as error:
        sha256 = hashlib.sha256(content).hexdigest() if content else ""
        return Examined(sha256, len(content), problem=error.reason)
    return Examined(
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        height=rgb.shape[0],
        width=rgb.shape[1],
        spread=float(cv2.meanStdDev(rgb)[1].max()),
        stored=stored,
        fingerprint=fingerprint(rgb),
    )


def examine_all(
    paths: Sequence[Path | str],
    *,
    workers: int,
    progress: bool = True,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> Iterator[Examined]:
    """Return what is known of every file, in order; threads decode (Pillow frees the lock).

    Example:
        >>> bad = [e.problem for e in examine_all(paths, workers=2) if e.problem]  # doctest: +SKIP
    """
    look = partial(examine, max_megapixels=max_megapixels)
    return in_threads(look, paths, "checking images", "images", workers=workers, shown=progress)
