"""Columns of a table as they are kept: a few bytes a row, and strings only where somebody asks for them.

A string of Python's takes 50 bytes more than its letters, and a table of millions has seven columns of them.
Here names lie one behind the other, what repeats is a number, a SHA-256 has 32 bytes, and a path is its
folder and its name.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Column = npt.NDArray[np.object_]
Chosen = npt.NDArray[Any] | slice
_TURN = 4096  # rows that are strings at a time
_DIGEST = 32  # bytes of a SHA-256
_NOTHING = pa.dictionary(pa.int8(), pa.string())


class Cells(ABC):
    """A column of n strings, None where there is none."""

    _strings: Column | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, at: int) -> str | None: ...

    @abstractmethod
    def take(self, chosen: Chosen) -> Cells:
        """Return the chosen cells: boolean mask, positions or slice."""

    @abstractmethod
    def arrow(self) -> pa.Array:
        """Return the cells as Arrow's strings."""

    def strings(self) -> Column:
        """Return the cells as an object array (n,), made once."""
        if self._strings is None:
            self._strings = self._as_strings()
        return self._strings

    def __iter__(self) -> Iterator[str | None]:
        for turn in self.turns():
            yield from turn

    def tolist(self) -> list[Any]:
        """Return the cells as a list, as an array of strings does."""
        return list(self)

    def turns(self) -> Iterator[Column]:
        """Yield object arrays of some thousand cells, one after the other."""
        for start in range(0, len(self), _TURN):
            yield self.take(slice(start, start + _TURN))._as_strings()

    def distinct(self) -> set[str | None]:
        """Return the values there are."""
        return set(self.arrow().unique().to_pylist())

    def map(self, function: Callable[[str | None], str | None]) -> Cells:
        """Return what a function makes of each cell."""
        return texts(pa.array([function(x) for x in turn], pa.string()) for turn in self.turns())

    def codes(self, *, empty: bool = False) -> tuple[npt.NDArray[np.int64], Cells]:
        """Return each cell as a position among distinct values, -1 where it is None; and those values.

        An empty string is none either, unless ``empty``.
        """
        named = np.fromiter((x is not None and (empty or x != "") for x in self), bool, len(self))
        chosen = self if named.all() else self.take(named)
        # By hashes and their order: a table of Arrow's or Python's would need a hundred bytes a value.
        _, first, code = np.unique(chosen.keys(), return_index=True, return_inverse=True)
        codes = np.full(len(self), -1, dtype=np.int64)
        codes[named] = code
        return codes, chosen.take(first)

    def keys(self) -> npt.NDArray[np.uint64]:
        """Return a hash of each cell, of 64 bits: equal cells have equal ones."""
        return keys_of(x or "" for x in self)

    def _as_strings(self) -> Column:
        return np.asarray(self.arrow().to_numpy(zero_copy_only=False), dtype=object)


class Plain(Cells):
    """Cells that were given as an object array, and stay one."""

    def __init__(self, strings: Column) -> None:
        self._strings = self._held = strings

    def __len__(self) -> int:
        return len(self._held)

    def __getitem__(self, at: int) -> str | None:
        found: str | None = self._held[at]
        return found

    def take(self, chosen: Chosen) -> Cells:
        return Plain(self._held[chosen])

    def arrow(self) -> pa.Array:
        return pa.array(self._held.tolist(), pa.string())

    def _as_strings(self) -> Column:
        return self._held


class Texts(Cells):
    """Strings of Arrow's, or of a dictionary of Arrow's where they repeat."""

    def __init__(self, held: pa.Array) -> None:
        self._held = held

    def __len__(self) -> int:
        return len(self._held)

    def __getitem__(self, at: int) -> str | None:
        found: str | None = self._held[int(at) % len(self._held)].as_py()
        return found

    def take(self, chosen: Chosen) -> Cells:
        if isinstance(chosen, slice) and chosen.step in (None, 1):
            start, stop, _ = chosen.indices(len(self))
            return Texts(self._held.slice(start, max(0, stop - start)))
        return Texts(self._held.take(pa.array(positions_of(chosen, len(self)))))

    def arrow(self) -> pa.Array:
        return self._held.cast(pa.string()) if pa.types.is_dictionary(self._held.type) else self._held

    def distinct(self) -> set[str | None]:
        return set(self._held.unique().to_pylist())

    def codes(self, *, empty: bool = False) -> tuple[npt.NDArray[np.int64], Cells]:
        if not pa.types.is_dictionary(self._held.type):
            return super().codes(empty=empty)
        held = self._held.indices.fill_null(-1).to_numpy().astype(np.int64)
        # Of some rows of a column, the dictionary has values that none of them has.
        there = np.zeros(len(self._held.dictionary), dtype=bool)
        there[held[held >= 0]] = True
        if not empty:
            there &= np.array([x != "" for x in self._held.dictionary.to_pylist()], dtype=bool)
        code = np.append(np.where(there, np.cumsum(there) - 1, -1), -1)
        return code[held], Texts(self._held.dictionary).take(there)

    def map(self, function: Callable[[str | None], str | None]) -> Cells:
        if not pa.types.is_dictionary(self._held.type):
            return super().map(function)
        values = [function(x) for x in self._held.dictionary.to_pylist()]
        nothing = function(None)
        made = pa.array([*values, nothing], pa.string()).take(self._held.indices.fill_null(len(values)))
        return texts([made])

    def _as_strings(self) -> Column:
        if not pa.types.is_dictionary(self._held.type):
            return super()._as_strings()
        values: Column = np.array([*self._held.dictionary.to_pylist(), None], dtype=object)
        made: Column = values[self._held.indices.fill_null(-1).to_numpy()]
        return made


class Hashes(Cells):
    """SHA-256 as 32 bytes each; zeros are an empty string: not known.

    Args:
        held: uint8 (n, 32).
    """

    def __init__(self, held: npt.NDArray[np.uint8]) -> None:
        self._held = held

    def __len__(self) -> int:
        return len(self._held)

    def __getitem__(self, at: int) -> str | None:
        return _hex(self._held[at].tobytes())

    def take(self, chosen: Chosen) -> Cells:
        return Hashes(self._held[chosen])

    def arrow(self) -> pa.Array:
        return pa.array(self._as_strings(), pa.string())

    def keys(self) -> npt.NDArray[np.uint64]:
        return np.ascontiguousarray(self._held[:, :8]).view(np.uint64).reshape(-1)

    def _as_strings(self) -> Column:
        whole = self._held.tobytes()
        found = [_hex(whole[i : i + _DIGEST]) for i in range(0, len(whole), _DIGEST)]
        return np.array(found, dtype=object)


class Made(Cells):
    """Cells that are made of others when they are asked for: paths of names.

    Args:
        of: the others.
        function: what makes one cell of one.
    """

    def __init__(self, of: Cells, function: Callable[[str | None], str]) -> None:
        self._of, self._function = of, function

    def __len__(self) -> int:
        return len(self._of)

    def __getitem__(self, at: int) -> str | None:
        return self._function(self._of[at])

    def take(self, chosen: Chosen) -> Cells:
        return Made(self._of.take(chosen), self._function)

    def arrow(self) -> pa.Array:
        return pa.array(self._as_strings(), pa.string())

    def _as_strings(self) -> Column:
        return np.array([self._function(x) for turn in self._of.turns() for x in turn], dtype=object)


def cells(column: Column | Cells) -> Cells:
    """Return a column as cells; an object array is kept as it is."""
    return column if isinstance(column, Cells) else Plain(column)


def nothing(n: int) -> Cells:
    """Return n cells that are None."""
    return Texts(pa.nulls(n, _NOTHING))


def texts(pieces: Iterable[pa.Array], *, repeat: bool = True) -> Cells:
    """Return strings that come in pieces as one column.

    Args:
        pieces: arrays of Arrow's strings.
        repeat: whether a value may be there many times, and is worth a number.
    """
    whole = pa.chunked_array(pieces, pa.string())
    if repeat and _repeats(whole):
        encoded = whole.dictionary_encode().combine_chunks()
        few = next(kind for kind, most in _INDICES if len(encoded.dictionary) <= most)
        return Texts(pa.DictionaryArray.from_arrays(encoded.indices.cast(few), encoded.dictionary))
    # Offsets of 64 bits where 32 do not reach.
    wide = pa.large_string() if whole.nbytes >= 1 << 31 else pa.string()
    return Texts(pa.concat_arrays([piece.cast(wide) for piece in whole.chunks] or [pa.array([], wide)]))


def _repeats(column: pa.ChunkedArray) -> bool:
    """Say whether values are there four times or more, by the first ones and the last."""
    some = pa.chunked_array([*column[:_TURN].chunks, *column[-_TURN:].chunks], pa.string())
    return bool(len(some.unique()) * 4 <= len(some))


_INDICES = ((pa.int8(), 127), (pa.int16(), 32767), (pa.int32(), (1 << 31) - 1))


def hashes(digests: Iterable[str], n: int) -> Cells:
    """Return n SHA-256, given in hex; where one is something else, all of them as they are given."""
    held = np.zeros((n, _DIGEST), dtype=np.uint8)
    turn = iter(digests)
    for i, text in enumerate(turn):
        digest = _digest(text)
        if digest is None:
            before = [_hex(one.tobytes()) for one in held[:i]]
            return Plain(np.array([*before, text, *turn], dtype=object))
        held[i] = np.frombuffer(digest, np.uint8)
    return Hashes(held)


def keys_of(names: Iterable[str]) -> npt.NDArray[np.uint64]:
    """Return a hash of 64 bits of each text."""
    texts = (name.encode("utf-8", "surrogatepass") for name in names)
    digests = (hashlib.blake2b(text, digest_size=8).digest() for text in texts)
    return np.fromiter((int.from_bytes(one, "little") for one in digests), np.uint64)


def repeated(keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Return the positions of keys that are there more than once, ascending."""
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
    return np.unique(order[np.concatenate([same, same + 1])])


def positions_of(chosen: Chosen, n: int) -> npt.NDArray[np.int64]:
    """Return a mask, positions or a slice as positions from 0."""
    if isinstance(chosen, slice):
        return np.arange(n, dtype=np.int64)[chosen]
    chosen = np.asarray(chosen)
    if chosen.dtype == bool:
        if len(chosen) != n:
            raise IndexError(f"a mask of {len(chosen)} cannot choose among {n}")
        return np.flatnonzero(chosen).astype(np.int64)
    at = chosen.astype(np.int64)
    return np.where(at < 0, at + n, at)


def of_arrow(column: pa.ChunkedArray, name: str) -> Cells:
    """Return a column of an Arrow table, by the name that it has in a table of images."""
    if name == "sha256":
        return hashes((x for chunk in column.chunks for x in chunk.to_pylist()), len(column))
    return texts(column.cast(pa.string()).chunks, repeat=name not in ("image", "path"))


def joined(columns: Sequence[Cells], name: str) -> Cells:
    """Return columns one behind the other."""
    return of_arrow(pa.chunked_array([one.arrow() for one in columns], pa.string()), name)


def _digest(text: Any) -> bytes | None:
    """Return a SHA-256 as bytes; zeros of an empty text; None of what is none."""
    if text == "":
        return bytes(_DIGEST)
    try:
        digest = bytes.fromhex(text)
    except (ValueError, TypeError):
        return None
    return digest if len(digest) == _DIGEST and any(digest) and digest.hex() == text else None


def _hex(digest: bytes) -> str:
    return digest.hex() if any(digest) else ""
