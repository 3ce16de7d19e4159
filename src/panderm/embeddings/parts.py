"""One Parquet file of the store: its arrays can be mapped, and whatever reads Parquet reads it.

In each row group the column of numbers is one page, PLAIN and uncompressed, so that its values are the last
bytes of its column chunk; padding in front of a row group puts them at a multiple of 64 bytes. The writer
reads them back and says in the file's metadata where they lie. A file that another tool has written again
lacks that, or no longer agrees with it, and is read as any other Parquet file.
"""

from __future__ import annotations

import inspect
import json
import mmap
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from panderm.data.table import Table
from panderm.embeddings.card import TokensRecord
from panderm.embeddings.vectors import Array, Block
from panderm.errors import ArtifactError

COLUMNS = ("image", "path", "sha256", "split", "label", "patient", "group")
ROWS = pa.schema([("row", pa.int64()), *((name, pa.string()) for name in COLUMNS)])
KEYS = pa.schema([("row", pa.int64()), ("image", pa.string()), ("sha256", pa.string())])
CLAIM = b"panderm.mapped"
_ALIGNED = 64  # bytes: what the widest instructions want
_PART_BYTES = {"vector": 128 << 20, "tokens": 256 << 20}
_GROUP_BYTES = 8 << 20
_HINT = "remove this file and run panderm embed again; it makes only what is missing"


@dataclass(frozen=True)
class Layout:
    """The column of numbers of one kind of file, and how many rows a file and a row group of it hold.

    Attributes:
        column: ``vector`` or ``tokens``.
        tail: what one row holds, (D,) or (h, w, D).
        dtype: float32 or float16.
    """

    column: str
    tail: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def width(self) -> int:
        """Numbers a row."""
        return int(np.prod(self.tail))

    @property
    def part_rows(self) -> int:
        """Rows of a part: the largest power of two of at most 128 MiB (of tokens, 256 MiB)."""
        return self._power_of_two(_PART_BYTES[self.column])

    @property
    def group_rows(self) -> int:
        """Rows of a row group: the largest power of two of at most 8 MiB."""
        return min(self.part_rows, self._power_of_two(_GROUP_BYTES))

    @property
    def rows(self) -> pa.Schema:
        """The columns beside the numbers."""
        return ROWS if self.column == "vector" else KEYS

    @property
    def schema(self) -> pa.Schema:
        """All columns."""
        element = pa.field("element", pa.from_numpy_dtype(self.dtype), nullable=False)
        return self.rows.append(pa.field(self.column, pa.list_(element, self.width), nullable=False))

    def _power_of_two(self, most: int) -> int:
        return 1 << max(0, (most // (self.width * self.dtype.itemsize)).bit_length() - 1)


def vector_layout(dim: int) -> Layout:
    """Return the layout of files of vectors."""
    return Layout("vector", (dim,), np.dtype(np.float32))


def token_layout(tokens: TokensRecord) -> Layout:
    """Return the layout of files of patch tokens."""
    return Layout("tokens", (*tokens.grid, tokens.dim), np.dtype(np.float16))


def rows_of(table: Table, schema: pa.Schema = ROWS) -> pa.Table:
    """Return the rows of a table as Arrow columns, without the numbers."""
    columns = [
        pa.array(table.row) if name == "row" else table.cells(name).arrow().cast(pa.string())
        for name in schema.names
    ]
    return pa.table(columns, schema=schema)


def write_part(path: Path, layout: Layout, groups: Iterable[tuple[pa.Table, Array]]) -> int:
    """Write row groups of rows and their numbers to one file; return how many rows it holds.

    The bytes depend on nothing but the rows, the numbers and the version of pyarrow.
    """
    rows, places, sums = 0, [], []
    with (
        pa.OSFile(str(path), "wb") as sink,
        pq.ParquetWriter(sink, layout.schema, **_options(layout)) as file,
    ):
        for beside, numbers in groups:
            values = np.ascontiguousarray(numbers, dtype=layout.dtype)
            before = _values_at(layout, beside)
            sink.write(bytes(-(sink.tell() + before) % _ALIGNED))
            place = sink.tell() + before
            file.write_table(_with_numbers(layout, beside, values), row_group_size=max(1, len(values)))
            places.append(place if _lies_at(path, place, values) else -1)
            sums.append(zlib.crc32(values.data.cast("B") if values.size else b""))
            rows += len(values)
        if min(places, default=0) >= 0 and hasattr(file, "add_key_value_metadata"):
            claim = {"column": layout.column, "shape": layout.tail, "offsets": places, "crc32": sums}
            file.add_key_value_metadata({CLAIM.decode(): json.dumps(claim)})
    return rows


def _lies_at(path: Path, place: int, values: Array) -> bool:
    """Say whether a file has just these numbers at a place; read back a MiB at a time."""
    wanted, step = values.reshape(-1).view(np.uint8), 1 << 20
    return all(
        np.array_equal(np.fromfile(path, np.uint8, step, offset=place + start)[: len(wanted) - start], part)
        for start in range(0, len(wanted), step)
        if len(part := wanted[start : start + step])
    )


class PartFile:
    """A file of the store that is read: its rows, and its numbers mapped or read.

    Raises:
        ArtifactError: it cannot be read, or holds other columns or numbers of another width.
    """

    def __init__(self, path: Path, layout: Layout, *, hint: str = _HINT) -> None:
        self.path = path
        self.layout = layout
        self.hint = hint
        try:
            self._metadata = pq.read_metadata(path)
            held = self._metadata.schema.to_arrow_schema()
            kind = held.field(layout.column).type
        except (pa.ArrowException, OSError, KeyError) as error:
            raise self.damaged(unreadable(path, error)) from None
        if not _fits(kind, layout) or not set(layout.rows.names) <= set(held.names):
            raise self.damaged(f"{path} holds other columns")
        self.rows = int(self._metadata.num_rows)
        self._places, self._sums = self._claim()

    @property
    def mapped(self) -> bool:
        """Whether the numbers lie in the file as they lie in memory."""
        return self._places is not None

    def read_rows(self, schema: pa.Schema) -> pa.Table:
        """Read the columns of a schema, without the numbers."""
        try:
            return pq.ParquetFile(self.path).read(columns=schema.names).select(schema.names).cast(schema)
        except (pa.ArrowException, OSError) as error:
            raise self.damaged(unreadable(self.path, error)) from None

    def blocks(self) -> list[Block]:
        """Return the row groups, each mapped (or, if need be, read) when it is asked for."""
        counts = [self._metadata.row_group(k).num_rows for k in range(self._metadata.num_row_groups)]
        if self._places is None:
            return [Block(n, partial(self._read, k)) for k, n in enumerate(counts)]
        return [Block(n, partial(self._map, at, n)) for n, at in zip(counts, self._places, strict=True)]

    def sound(self) -> bool:
        """Say whether the numbers are those that were written, as far as the file can tell."""
        if self._places is None or self._sums is None:
            return True
        groups = zip(self.blocks(), self._sums, strict=True)
        return all(zlib.crc32(np.ascontiguousarray(b.load()).data.cast("B")) == crc for b, crc in groups)

    def damaged(self, found: str) -> ArtifactError:
        """Return the error to raise of this file."""
        return ArtifactError("every part of an embeddings folder must be readable.", found, self.hint)

    def _map(self, at: int, rows: int) -> Array:
        # Each array has a mapping of its own: its memory is let go with it.
        start = at - at % mmap.ALLOCATIONGRANULARITY
        count = rows * self.layout.width
        try:
            with self.path.open("rb") as file:
                length = at - start + count * self.layout.dtype.itemsize
                held = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ, offset=start)
        except FileNotFoundError:
            raise ArtifactError(
                "an embeddings folder must stay as it is while it is read.",
                f"{self.path} is no longer there: the folder was written again",
                "open it again",
            ) from None
        except (OSError, ValueError) as error:  # ValueError: the file is shorter than it was
            raise self.damaged(unreadable(self.path, error)) from None
        return np.frombuffer(held, self.layout.dtype, count, at - start).reshape(rows, *self.layout.tail)

    def _read(self, group: int) -> Array:
        try:
            column = pq.ParquetFile(self.path).read_row_group(group, columns=[self.layout.column])
        except (pa.ArrowException, OSError) as error:
            raise self.damaged(unreadable(self.path, error)) from None
        wanted = pa.list_(pa.from_numpy_dtype(self.layout.dtype), self.layout.width)
        numbers = column[self.layout.column].combine_chunks().cast(wanted)
        flat = numbers.flatten().to_numpy(zero_copy_only=False)
        return np.asarray(flat, self.layout.dtype).reshape(-1, *self.layout.tail)

    def _claim(self) -> tuple[list[int] | None, list[int] | None]:
        """Return where the numbers of each row group lie, if the file says so and its own footer agrees."""
        try:
            claim = json.loads((self._metadata.metadata or {})[CLAIM])
            places, sums = [int(x) for x in claim["offsets"]], [int(x) for x in claim["crc32"]]
            same = claim["column"] == self.layout.column and tuple(claim["shape"]) == self.layout.tail
        except (KeyError, TypeError, ValueError):
            return None, None
        groups = range(self._metadata.num_row_groups)
        if not same or len(places) != len(groups) or len(sums) != len(groups):
            return None, None
        last = self._metadata.num_columns - 1
        for k, place in zip(groups, places, strict=True):
            group = self._metadata.row_group(k)
            chunk = group.column(last)
            values = group.num_rows * self.layout.width
            plain = chunk.compression == "UNCOMPRESSED" and not chunk.has_dictionary_page
            ends = chunk.data_page_offset + chunk.total_compressed_size
            size = values * self.layout.dtype.itemsize
            if not plain or chunk.num_values != values or ends - size != place:
                return None, None
        return places, sums


def unreadable(path: Path, error: Exception) -> str:
    """Say of a Parquet file why it cannot be read; pyarrow's own words are for programmers."""
    if isinstance(error, FileNotFoundError):
        return f"{path} is not there"
    if isinstance(error, OSError) and error.strerror:
        return f"{path}: {error.strerror}"
    return f"{path} is damaged"


def _fits(kind: pa.DataType, layout: Layout) -> bool:
    number = pa.from_numpy_dtype(layout.dtype)
    if pa.types.is_fixed_size_list(kind):
        return bool(kind.value_type == number and kind.list_size == layout.width)
    # Another tool may have written lists without a stated length; they are checked when they are read.
    return bool((pa.types.is_list(kind) or pa.types.is_large_list(kind)) and kind.value_type == number)


def _with_numbers(layout: Layout, beside: pa.Table, values: npt.NDArray[Any]) -> pa.Table:
    return pa.table(
        [*beside.select(layout.rows.names).columns, _numbers(layout, values)], schema=layout.schema
    )


def _numbers(layout: Layout, values: npt.NDArray[Any]) -> pa.Array:
    kind = layout.schema.field(layout.column).type
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=kind)


def _values_at(layout: Layout, beside: pa.Table) -> int:
    """Return how far behind the start of its row group the numbers will lie."""
    before = _bytes_of_a_group(layout.rows, beside.select(layout.rows.names), layout)
    return before + _head(layout, len(beside))


@lru_cache(maxsize=8)
def _head(layout: Layout, rows: int) -> int:
    """Return the bytes in front of the numbers in their column chunk: they depend on how many there are."""
    schema = pa.schema([layout.schema.field(layout.column)])
    zeros = np.zeros((rows, layout.width), layout.dtype)
    table = pa.table([_numbers(layout, zeros)], schema=schema)
    return _bytes_of_a_group(schema, table, layout) - zeros.nbytes


def _bytes_of_a_group(schema: pa.Schema, table: pa.Table, layout: Layout) -> int:
    counted = _Counted()
    with pa.PythonFile(counted, "w") as sink, pq.ParquetWriter(sink, schema, **_options(layout)) as file:
        start = counted.bytes
        file.write_table(table, row_group_size=max(1, len(table)))
        end = counted.bytes
    return end - start


class _Counted:
    """A file that nobody keeps: how many bytes were written to it."""

    closed = False

    def __init__(self) -> None:
        self.bytes = 0

    def write(self, content: Any) -> int:
        size = memoryview(content).nbytes
        self.bytes += size
        return size

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None: ...

    def close(self) -> None: ...


def _options(layout: Layout) -> dict[str, Any]:
    names = layout.rows.names
    options: dict[str, Any] = {
        "compression": dict.fromkeys(names, "zstd") | {f"{layout.column}.list.element": "none"},
        "use_dictionary": [name for name in names if name in ("split", "label", "patient", "group")],
        "write_statistics": names,
        "data_page_version": "1.0",
        "data_page_size": 1 << 30,  # one page
    }
    if "max_rows_per_page" in inspect.signature(pq.ParquetWriter.__init__).parameters:
        options["max_rows_per_page"] = (1 << 31) - 1
    return options
