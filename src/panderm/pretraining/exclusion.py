"""Images that must not be learned from: those of evaluation sets and patients, however they are called."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from panderm.data.feed import cores
from panderm.data.images import MAX_MEGAPIXELS, ImageError
from panderm.data.streams.folder import ENDINGS
from panderm.data.streams.listed import LISTS
from panderm.data.streams.opened import open_source
from panderm.data.streams.source import ImageSource, SourceRecord, join
from panderm.errors import ArtifactError, PandermWarning, plural, some
from panderm.pretraining.nearness import find_near
from panderm.progress import in_threads
from panderm.storage import write_text

Reason = Literal["same file", "same name", "same patient", "near-duplicate"]
_TOLD: dict[Reason, str] = {
    "same file": "the same file, byte for byte",
    "same name": "the same name",
    "same patient": "of the same patient",
    "near-duplicate": "the same photograph, saved anew",
}
# Plain numbers count images and patients within one table; two tables have the same ones by chance.
_NUMBER = re.compile(r"[0-9]{1,6}")
_EXAMPLES = 5


@dataclass(frozen=True)
class Match:
    """One image that is left out.

    Attributes:
        position: in the source as it was.
        image: its name there.
        reason: the first that held, in the order of :data:`Reason`.
        like: the image or patient it was recognised by.
        similarity: of near-duplicates, their correlation, at most 1.
    """

    position: int
    image: str
    reason: Reason
    like: str
    similarity: float | None = None


@dataclass(frozen=True)
class Excluded:
    """What was left out of a source, and what it was held against.

    Attributes:
        of: images that the source had.
        against: the tables, lists, folders and shards.
        matches: every image that is left out, in order.
        at_hand: how many images of ``against`` could be read; the others were compared by name alone.
        named: how many there are.
        near: whether near-duplicates were looked for.
        bad: how many images of the source could not be read when they were.
        not_looked: pairs of pictures that may be one and got no second look.
    """

    of: int
    against: tuple[SourceRecord, ...] = ()
    matches: tuple[Match, ...] = ()
    at_hand: int = 0
    named: int = 0
    near: bool = True
    bad: int = 0
    not_looked: int = 0
    patients: int = field(default=0)

    @property
    def counts(self) -> dict[Reason, int]:
        """How many images each reason took; each image counts once."""
        found = Counter(match.reason for match in self.matches)
        return {reason: found[reason] for reason in get_args(Reason)}

    @property
    def record(self) -> dict[str, Any]:
        """All of it but the full list, ready for JSON."""
        examples = {
            reason: [
                {"image": m.image, "like": m.like, "similarity": m.similarity}
                for m in [m for m in self.matches if m.reason == reason][:_EXAMPLES]
            ]
            for reason in get_args(Reason)
        }
        return {
            "of": self.of,
            "excluded": len(self.matches),
            "by": dict(self.counts),
            "examples": examples,
            "against": list(self.against),
            "named": self.named,
            "at_hand": self.at_hand,
            "patients": self.patients,
            "near": self.near,
            "bad": self.bad,
            "not_looked": self.not_looked,
        }

    def sentences(self) -> list[str]:
        """Return what was left out and why, a line each, for a terminal or a page."""
        places = some([record["where"] for record in self.against])
        lines = [f"{plural(len(self.matches), 'image')} of {self.of:,} left out"]
        if places:
            lines[0] += f", held against {plural(self.named, 'image')} of {places}"
        for reason, n in self.counts.items():
            if n:
                alike = [m for m in self.matches if m.reason == reason]
                shown = some([m.image if m.image == m.like else f"{m.image} = {m.like}" for m in alike], 3)
                lines.append(f"{n:,} {_TOLD[reason]}: {shown}")
        if self.named and self.at_hand < self.named:
            lines.append(
                f"{self.named - self.at_hand:,} of these were compared by name only: no file at hand"
            )
        if self.bad:
            lines.append(f"{plural(self.bad, 'image')} of the source could not be read")
        if self.not_looked:
            lines.append(f"{plural(self.not_looked, 'pair')} of alike pictures got no second look")
        return lines

    def write(self, path: Path, *, overwrite: bool = False) -> None:
        """Write every image that is left out to a CSV: position, image, reason, like, similarity."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["position", "image", "reason", "like", "similarity"])
        for m in self.matches:
            rows.writerow(
                [m.position, m.image, m.reason, m.like, "" if m.similarity is None else m.similarity]
            )
        write_text(path, text.getvalue(), overwrite=overwrite)


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
    if near and other is not None and len(readable):
        left = np.array([i for i in range(len(source)) if i not in found], dtype=np.int64)
        seen = find_near(
            source,
            left,
            other.select(readable),
            workers=workers,
            max_megapixels=max_megapixels,
            progress=progress,
        )
        for position, at, likeness in seen.found:
            take(position, "near-duplicate", other.name(int(readable[at])), likeness)
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
    return (_without(source, matches) if matches else source), excluded


def read_excluded(path: Path, source: ImageSource) -> ImageSource:
    """Return a source without the images that :meth:`Excluded.write` wrote; they are not sought again.

    Raises:
        ArtifactError: a file that is damaged, or of another source.
    """
    try:
        rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
        matches = [Match(int(r["position"]), r["image"], "same file", r["like"]) for r in rows]
        same = all(0 <= m.position < len(source) and source.name(m.position) == m.image for m in matches)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError("the list of excluded images must be readable.", f"{path}: {error}") from None
    if not same:
        raise ArtifactError(
            "excluded images must be of this source.",
            f"{path} names images that are not where they were in {source.record['where']}",
            "was the folder or table changed? Start a new run",
        )
    return _without(source, matches) if matches else source


def stem(name: str) -> str:
    """Return an image's name without folder, ending and case.

    Example:
        >>> stem("train/ISIC_0027419.JPG")
        'isic_0027419'
    """
    last = name.replace("\\", "/").rpartition("/")[2].casefold()
    ending = Path(last).suffix
    return last[: -len(ending)] if ending in ENDINGS else last


def _without(source: ImageSource, matches: Sequence[Match]) -> ImageSource:
    keep = np.ones(len(source), dtype=bool)
    keep[[match.position for match in matches]] = False
    return source.select(np.flatnonzero(keep), f"{plural(len(matches), 'image')} excluded")


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
