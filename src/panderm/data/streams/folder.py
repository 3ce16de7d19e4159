"""All images below a folder."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pyarrow as pa

from panderm.data.images import read_bytes
from panderm.data.sources.folder import IMAGE_ENDINGS
from panderm.data.streams.source import ImageSource, SourceRecord, packed, sha256_of_names
from panderm.errors import plural, some

ENDINGS = (
    *IMAGE_ENDINGS,
    *(".jpe", ".jfif", ".jp2", ".j2k", ".avif", ".ppm", ".pgm", ".dib", ".pcx", ".tga"),
)
"""Of files that are taken for images, in small letters."""
MASKS = frozenset({"mask", "masks", "segmentation", "segmentations", "annotation", "annotations"})
"""Folders of these names hold no photographs."""
_PIECE = 65536


class FolderSource(ImageSource):
    """The images below a folder, however deep, in the order of their paths.

    Hidden files and folders are left out, and so are folders of masks (:data:`MASKS`); links are followed,
    each folder once.

    Args:
        root: the folder.
        files: paths below it where a walk has found them already, as :func:`walk` returns them.
    """

    def __init__(self, root: Path, files: Walked | None = None) -> None:
        walked = walk(root) if files is None else files
        self._root, self._names = str(root), walked.images
        self.record = SourceRecord(
            kind="folder",
            where=str(root.resolve()),
            count=len(self._names),
            sha256=sha256_of_names(self._names),
            notes=list(walked.notes),
            parts=[],
        )

    def name(self, i: int) -> str:
        return str(self._names[i])

    def read(self, i: int) -> bytes:
        return read_bytes(f"{self._root}/{self._names[i]}")

    def size(self, i: int) -> int:
        return size_of(f"{self._root}/{self._names[i]}")


class Walked:
    """What a walk over a folder found.

    Attributes:
        images: paths of images below it, sorted within each folder.
        shards: likewise, of tar files.
        notes: what was left out, a sentence each.
    """

    def __init__(self, images: pa.LargeStringArray, shards: list[str], notes: tuple[str, ...]) -> None:
        self.images, self.shards, self.notes = images, shards, notes


def walk(root: Path) -> Walked:
    """Return the images and tar files below a folder."""
    seen: set[tuple[int, int]] = set()
    pieces: list[pa.Array] = []
    piece: list[str] = []
    shards: list[str] = []
    closed: list[str] = []
    masked: Counter[str] = Counter()
    unnamed = 0
    for here, folders, files in os.walk(
        root, followlinks=True, onerror=lambda error: closed.append(str(error.filename))
    ):
        place = Path(here).stat()
        if (place.st_dev, place.st_ino) in seen:  # a link back up would lead round and round
            folders.clear()
            continue
        seen.add((place.st_dev, place.st_ino))
        inside = os.path.relpath(here, root).replace(os.sep, "/")
        prefix = "" if inside == "." else f"{inside}/"
        masked.update(prefix + name for name in folders if name.casefold() in MASKS)
        folders[:] = sorted(
            f for f in folders if f[0] not in "." and f.casefold() not in MASKS | {"__macosx"}
        )
        for file in sorted(files):
            ending = Path(file).suffix.lower()
            if file.startswith(".") or (ending not in ENDINGS and ending != ".tar"):
                continue
            try:
                file.encode()
            except UnicodeEncodeError:
                unnamed += 1
                continue
            (shards if ending == ".tar" else piece).append(prefix + file)
        if len(piece) >= _PIECE:
            pieces.append(pa.array(piece, pa.large_string()))
            piece = []
    notes = []
    if masked:
        notes.append(f"left out as masks: {some(sorted(masked))}")
    if closed:
        notes.append(f"{plural(len(closed), 'folder')} could not be looked into: {some(closed)}")
    if unnamed:
        notes.append(f"{plural(unnamed, 'file')} left out whose names are not UTF-8")
    return Walked(packed([*pieces, piece]), shards, tuple(notes))


def size_of(path: str) -> int:
    """Return a file's bytes, -1 where it cannot be asked."""
    try:
        return Path(path).stat().st_size
    except (OSError, ValueError):
        return -1
