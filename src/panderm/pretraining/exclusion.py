"""Images that must not be learned from: those of evaluation sets and patients, however they are called."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from panderm.data.feed import cores
from panderm.data.images import MAX_MEGAPIXELS, ImageError
from panderm.data.streams.folder import ENDINGS
from panderm.data.streams.listed import LISTS
from panderm.data.streams.opened import open_source
from panderm.data.streams.source import ImageSource, join
from panderm.errors import PandermWarning, plural
from panderm.pretraining.excluded import Excluded as Excluded
from panderm.pretraining.excluded import Match, Reason, without
from panderm.pretraining.excluded import read_excluded as read_excluded
from panderm.pretraining.nearness import find_near
from panderm.progress import in_threads

# Plain numbers count images and patients within one table; two tables have the same ones by chance.
_NUMBER = re.compile(r"[0-9]{1,6}")


def exclude(
    source: ImageSource,
    against: Sequence[Path | str | ImageSource] = (),
    *,
    patients: Iterable[str] = (),
    near: bool = True,
    images: Path | str | None = None,
    image_column: str = "image",
    split: str | Sequence[str] | None = None,
    split_column: str = "split",
    patient: str | None = None,
    workers: int | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
    progress: bool = True,
) -> tuple[ImageSource, Excluded]:
    """Leave out of a source what other tables hold, and the images of patients.

    An image is left out where one of these holds; the first is its reason:

    1. its file is one of theirs, byte for byte. Only files of a length that theirs have are read;
    2. its name is one of theirs, without folder, ending and case. Plain numbers of at most six digits count
       only in a ``.txt`` list, which is taken at its word;
    3. its patient is one of ``patients``; or of theirs, where both have a patient column, plain numbers
       aside; or the patient of an image that was found by its file, its name or its picture;
    4. it is the same photograph: :func:`panderm.pretraining.nearness.find_near`.

    Args:
        source: images to learn from.
        against: tables, ``.txt`` lists, folders, shards or sources of images to stay clear of.
        patients: who must not be learned from.
        near: look for near-duplicates: every image of the source is decoded once.
        images: the folder that the names of ``against`` are relative to; by default each table's own, and
            where the first image is not there either, only names are compared.
        image_column: column with the image in tables of ``against``.
        split: which of their rows; by default all.
        split_column: column with the split.
        patient: column with the patient.
        workers: threads that decode; by default as many as there are cores.
        max_megapixels: larger images are bad.
        progress: show progress on standard error.

    Returns:
        The source without them, and what was left out.

    Raises:
        TableError, DataError, UsageError: as :func:`panderm.data.streams.open_source`, of ``against``.
        DataError: nothing is left.

    Example:
        >>> rest, excluded = exclude(source, ["ham_test.csv"], images="ham/images")  # doctest: +SKIP
        >>> excluded.counts  # doctest: +SKIP
        {'same file': 1232, 'same name': 0, 'same patient': 0, 'near-duplicate': 3}
    """
    workers = workers or cores()
    opened = [
        one
        if isinstance(one, ImageSource)
        else open_source(
            one,
            images=images if Path(one).suffix.lower() in LISTS else None,
            image_column=image_column,
            split=split if Path(one).suffix.lower() != ".txt" else None,
            split_column=split_column,
            patient=patient,
            progress=progress,
        )
        for one in against
    ]
    literal = {
        name
        for one, asked in zip(opened, against, strict=True)
        if _is_list(asked)
        for name in map(stem, one.names())
    }
    found: dict[int, Match] = {}

    def take(position: int, reason: Reason, like: str, similarity: float | None = None) -> None:
        found.setdefault(position, Match(position, source.name(position), reason, like, similarity))

    other = join(opened) if opened else None
    readable = np.zeros(0, dtype=np.int64)
    named: dict[int, int] = {}
    if other is not None:
        sizes = np.array([other.size(i) for i in range(len(other))])
        readable = np.flatnonzero(sizes > 0)
        if len(readable) < len(other):
            n = len(other) - len(readable)
            warnings.warn(
                f"{plural(n, 'image')} of {other.record['where']} not at hand: compared by name only"
                + ("" if images else " (name the folder they are in)"),
                PandermWarning,
                stacklevel=2,
            )
        for position, at in _same_files(source, other, readable, sizes, workers=workers, progress=progress):
            take(position, "same file", other.name(at))
        known = {
            name: i
            for i, name in enumerate(map(stem, other.names()))
            if name in literal or not _NUMBER.fullmatch(name)
        }
        for position, name in enumerate(map(stem, source.names())):
            if name in known:
                named[position] = known[name]
                take(position, "same name", other.name(known[name]))
    told = set(patients)
    if other is not None and other.patients is not None:
        told |= {
            who
            for who in other.patients.unique().to_pylist()
            if who is not None and not _NUMBER.fullmatch(who)
        }
    _take_patients(source, told, found, take)
    bad = not_looked = 0
    # A picture of theirs that is not at hand may be one of the source's by its name: that stands for it.
    held = set(readable.tolist())
    standing = [i for i, at in named.items() if at not in held]
    if near and other is not None and held | set(standing):
        pictures = [other.select(readable)] if held else []
        pictures += [source.select(np.array(standing, dtype=np.int64))] if standing else []
        left = np.array([i for i in range(len(source)) if i not in found], dtype=np.int64)
        seen = find_near(
            source,
            left,
            join(pictures),
            workers=workers,
            max_megapixels=max_megapixels,
            progress=progress,
        )
        whose = [*readable.tolist(), *(named[i] for i in standing)]
        for position, at, likeness in seen.found:
            take(position, "near-duplicate", other.name(whose[at]), likeness)
        bad, not_looked = len(seen.bad), seen.not_looked
        _take_patients(source, set(), found, take)
    matches = tuple(found[position] for position in sorted(found))
    excluded = Excluded(
        of=len(source),
        against=tuple(one.record for one in opened),
        matches=matches,
        at_hand=len(readable),
        named=0 if other is None else len(other),
        near=near,
        bad=bad,
        not_looked=not_looked,
        patients=len(told),
    )
    return without(source, matches), excluded


def stem(name: str) -> str:
    """Return an image's name without folder, ending and case.

    Example:
        >>> stem("train/ISIC_0027419.JPG")
        'isic_0027419'
    """
    last = name.replace("\\", "/").rpartition("/")[2].casefold()
    ending = Path(last).suffix
    return last[: -len(ending)] if ending in ENDINGS else last


def _is_list(asked: Path | str | ImageSource) -> bool:
    return not isinstance(asked, ImageSource) and Path(asked).suffix.lower() == ".txt"


def _take_patients(
    source: ImageSource, told: set[str], found: dict[int, Match], take: Callable[[int, Reason, str], None]
) -> None:
    """Take the images of patients who are named, and of those whose other images were found."""
    if source.patients is None:
        return
    who = source.patients.to_pylist()
    met = {who[position] for position, match in found.items() if match.reason != "same patient"} - {None}
    for position, name in enumerate(who):
        if name in told or name in met:
            take(position, "same patient", f"patient {name}")


def _same_files(
    source: ImageSource,
    other: ImageSource,
    readable: np.ndarray[Any, np.dtype[np.int64]],
    sizes: np.ndarray[Any, np.dtype[np.int64]],
    *,
    workers: int,
    progress: bool,
) -> list[tuple[int, int]]:
    """Return positions in both of files that are equal."""
    lengths = set(sizes[readable].tolist())
    alike = [i for i in range(len(source)) if source.size(i) in lengths]
    if not alike:
        return []
    theirs = in_threads(
        partial(_sha256, other),
        readable.tolist(),
        "hashing images to stay clear of",
        "images",
        workers=workers,
        shown=progress,
    )
    known = {digest: int(i) for i, digest in zip(readable, theirs, strict=True) if digest}
    ours = in_threads(
        partial(_sha256, source), alike, "comparing files", "images", workers=workers, shown=progress
    )
    return [(i, known[digest]) for i, digest in zip(alike, ours, strict=True) if digest in known]


def _sha256(source: ImageSource, i: int) -> str:
    try:
        return hashlib.sha256(source.read(i)).hexdigest()
    except ImageError:
        return ""
