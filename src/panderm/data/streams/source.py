"""What every source of images is: how many there are, what the i-th is called, and its file's bytes."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from panderm.errors import DataError, plural, some

_LOOKED_FOR = 200  # files, before a source is taken for one that has none

Kind = Literal["folder", "table", "shards", "joined"]


class SourceRecord(TypedDict):
    """What a source is, ready for JSON.

    Attributes:
        kind: a folder, a table or list, tar shards, or several of these joined.
        where: the folder, file or pattern.
        count: images.
        sha256: hex, of the listing: the names in their order, and what else tells one listing from another.
        notes: what was left out and why, a sentence each.
        parts: what is joined.
    """

    kind: Kind
    where: str
    count: int
    sha256: str
    notes: list[str]
    parts: list[SourceRecord]


class ImageSource(ABC):
    """Images by number, 0 to ``len(source) - 1``, in an order that does not change.

    Nothing is opened before it is asked for, and any number of threads may ask at once.

    Attributes:
        record: what it is.
        patients: (n,) strings, who is in each picture, null where that is not known; None where no column
            says so.
    """

    record: SourceRecord
    patients: pa.LargeStringArray | None = None

    def __len__(self) -> int:
        return self.record["count"]

    @abstractmethod
    def name(self, i: int) -> str:
        """Return what the image is called: its path below the folder, its cell, its shard and member."""

    @abstractmethod
    def read(self, i: int) -> bytes:
        """Return the bytes of the image's file.

        Raises:
            ImageError: it cannot be read.
        """

    @abstractmethod
    def size(self, i: int) -> int:
        """Return how many bytes the image's file has, without reading it; -1 where that is not known."""

    def names(self) -> Iterator[str]:
        """Yield all names, in order."""
        return (self.name(i) for i in range(len(self)))

    def select(self, positions: npt.NDArray[np.int64], note: str = "") -> ImageSource:
        """Return the source of some of the images, in the order of ``positions``, int64 (m,)."""
        return _Selected(self, np.asarray(positions, dtype=np.int64), note)

    def summary(self) -> str:
        """Return one line for a reader: how many images, from where, and what was left out.

        Example:
            >>> source.summary()  # doctest: +SKIP
            '8,208 images of table /data/ham_clean.csv (575 rows of other splits left out)'
        """
        record = self.record
        notes = f" ({'; '.join(record['notes'])})" if record["notes"] else ""
        return f"{plural(record['count'], 'image')} of {record['kind']} {record['where']}{notes}"


class _Selected(ImageSource):
    """Some of the images of another source."""

    def __init__(self, source: ImageSource, positions: npt.NDArray[np.int64], note: str) -> None:
        if not len(positions):
            raise DataError(
                "a source must have at least one image.",
                f"of the {plural(len(source), 'image')} of {source.record['where']} none is left",
            )
        self._source, self._positions = source, positions
        digest = hashlib.sha256(source.record["sha256"].encode() + positions.astype("<i8").tobytes())
        self.record = {
            **source.record,
            "count": len(positions),
            "sha256": digest.hexdigest(),
            "notes": [*source.record["notes"], *([note] if note else [])],
        }
        if source.patients is not None:
            self.patients = source.patients.take(pa.array(positions))

    def name(self, i: int) -> str:
        return self._source.name(int(self._positions[i]))

    def read(self, i: int) -> bytes:
        return self._source.read(int(self._positions[i]))

    def size(self, i: int) -> int:
        return self._source.size(int(self._positions[i]))


class _Joined(ImageSource):
    """Several sources, one after the other; names begin with what their source is called."""

    def __init__(self, parts: Sequence[ImageSource]) -> None:
        self._parts = tuple(parts)
        self._ends = np.cumsum([len(part) for part in parts])
        called = _called([part.record["where"] for part in parts])
        # Images in shards have the shard's name already.
        own = [isinstance(p, _Joined) or p.record["kind"] == "shards" for p in parts]
        self._called = ["" if has else name for has, name in zip(own, called, strict=True)]
        listing = "\n".join(part.record["sha256"] for part in parts)
        self.record = SourceRecord(
            kind="joined",
            where=some([part.record["where"] for part in parts], 8),
            count=int(self._ends[-1]),
            sha256=hashlib.sha256(listing.encode()).hexdigest(),
            notes=[],
            parts=[part.record for part in parts],
        )
        if any(part.patients is not None for part in parts):
            told = [
                pa.nulls(len(part), pa.large_string()) if part.patients is None else part.patients
                for part in parts
            ]
            self.patients = packed(told)

    def _place(self, i: int) -> tuple[int, int]:
        if not 0 <= i < len(self):
            raise IndexError(i)
        part = int(np.searchsorted(self._ends, i, side="right"))
        return part, i - (int(self._ends[part - 1]) if part else 0)

    def name(self, i: int) -> str:
        part, at = self._place(i)
        name = self._parts[part].name(at)
        return f"{self._called[part]}/{name}" if self._called[part] else name

    def read(self, i: int) -> bytes:
        part, at = self._place(i)
        return self._parts[part].read(at)

    def size(self, i: int) -> int:
        part, at = self._place(i)
        return self._parts[part].size(at)

    def summary(self) -> str:
        return "\n".join([f"{plural(len(self), 'image')} in all:", *(p.summary() for p in self._parts)])


def join(parts: Sequence[ImageSource]) -> ImageSource:
    """Return several sources as one; the images of the first come first.

    Example:
        >>> both = join([open_source("dermoscopy/"), open_source("tiles.csv")])  # doctest: +SKIP
    """
    if not parts:
        raise DataError("a source must have at least one image.", "no source was given")
    return parts[0] if len(parts) == 1 else _Joined(parts)


def require_files(source: ImageSource) -> None:
    """Look for some files of a source, before anything is made of it.

    Raises:
        DataError: not one of them is there.
    """
    some_of = np.unique(np.linspace(0, len(source) - 1, _LOOKED_FOR).astype(int)).tolist()
    if all(source.size(i) < 0 for i in some_of):
        raise DataError(
            "the images of a source must be there.",
            [
                f"of {plural(len(some_of), 'image')} of {source.record['where']} looked for, none is:",
                *(source.name(i) for i in some_of[:3]),
            ],
            "name the folder that the image column is relative to with --images",
        )


def packed(pieces: Sequence[Any]) -> pa.LargeStringArray:
    """Return strings, piece by piece, as one Arrow array: their bytes and 8 more each."""
    arrays = [
        piece if isinstance(piece, pa.Array) else pa.array(piece, pa.large_string()) for piece in pieces
    ]
    chunks = pa.chunked_array([array.cast(pa.large_string()) for array in arrays], pa.large_string())
    whole = chunks.combine_chunks()
    return whole if isinstance(whole, pa.Array) else pa.concat_arrays(whole.chunks)


def sha256_of_names(names: pa.LargeStringArray, more: Sequence[npt.NDArray[np.int64]] = ()) -> str:
    """Return the hex SHA-256 of names in their order, and of numbers that go with them."""
    digest = hashlib.sha256()
    for start in range(0, len(names), 65536):
        digest.update("\n".join(names[start : start + 65536].to_pylist()).encode() + b"\n")
    for numbers in more:
        digest.update(np.ascontiguousarray(numbers, dtype="<i8").tobytes())
    return digest.hexdigest()


def _called(places: Sequence[str]) -> list[str]:
    """Return a short name for each place, no two the same: the last part of its path, or more of it."""
    split = [place.replace("\\", "/").rstrip("/").split("/") for place in places]
    for most in range(1, 1 + max(len(parts) for parts in split)):
        names = ["/".join(parts[-most:]) for parts in split]
        if len(set(names)) == len(names):
            return names
    return [f"{i + 1}" for i in range(len(places))]
