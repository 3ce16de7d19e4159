"""Parquet files and Hugging Face ``save_to_disk`` folders: which files, which split, which columns."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from panderm.data.layouts.layout import SPLIT_NAMES
from panderm.errors import TableError, plural, some

_INFO, _STATE = "dataset_info.json", "state.json"
_BATCH = 64


@dataclass(frozen=True)
class Part:
    """One file of a table: where it lies, the split it belongs to ("" where none is named)."""

    path: Path
    split: str


@dataclass(frozen=True)
class Features:
    """What the columns hold.

    Attributes:
        images: columns with pictures, in the file's order.
        names: the class names of each column of class numbers.
        cells: columns of plain values.
        left_out: columns that a table cannot hold, lists and the like.
    """

    images: tuple[str, ...]
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    cells: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def find_parts(root: Path | str) -> list[Part]:
    """Return the Parquet or Arrow files of a table, in their order.

    Raises:
        TableError: there are none, or a dataset that was saved with an index into its rows.
    """
    folder = Path(root).expanduser()
    if folder.is_file():
        return [Part(folder, "")]
    if not folder.is_dir():
        raise TableError(
            "the Parquet file or folder must exist.", f"{folder} is not there", "name it with --from"
        )
    endings = {".parquet", ".arrow"}
    files = sorted(
        p
        for p in folder.rglob("*")
        if p.suffix.casefold() in endings
        and p.is_file()
        and not any(part.startswith((".", "cache-", "indices")) for part in p.relative_to(folder).parts)
    )
    if not files:
        raise TableError(
            "a folder must hold Parquet files, or what Hugging Face datasets' save_to_disk writes.",
            f"{folder} holds no file that ends in .parquet or .arrow",
            "name another folder with --from",
        )
    kinds = {p.suffix.casefold() for p in files}
    if len(kinds) > 1:
        raise TableError(
            "a folder must hold one table: Parquet files or Arrow files.",
            f"{folder} holds both, {some([p.name for p in files])}",
            "name the folder of one of them with --from",
        )
    for state in folder.rglob(_STATE):
        if _json(state).get("_indices_data_files"):
            raise TableError(
                "a saved dataset must hold its rows in their order.",
                f"{state} says that an index chooses among them",
                "save it again with a newer version of datasets, after flatten_indices()",
            )
    return [Part(p, _split_of(p, folder)) for p in files]


def _split_of(path: Path, root: Path) -> str:
    """Return the split that a file's name, its folders or its state name, in the words found."""
    first = re.split(r"[-_.]", path.name, maxsplit=1)[0]
    if first.casefold() in SPLIT_NAMES:
        return first
    for name in reversed(path.relative_to(root).parts[:-1]):
        if name.casefold() in SPLIT_NAMES:
            return name
    said = _json(path.with_name(_STATE)).get("_split")
    return said if isinstance(said, str) else ""


def read_schema(part: Part) -> pa.Schema:
    """Return a file's columns and their kinds."""
    with _explained(part):
        if part.path.suffix.casefold() == ".arrow":
            with pa.memory_map(str(part.path)) as source, _arrow(source) as reader:
                schema = reader.schema
        else:
            schema = pq.read_schema(part.path)
        for column in schema:  # names that are no text raise here
            _ = [field.name for field in (column, *(column.flatten()))]
        return schema


def require_same_columns(parts: list[Part]) -> pa.Schema:
    """Return the columns that all files have.

    Raises:
        TableError: a file has others.
    """
    schemas = [read_schema(part) for part in parts]
    first = schemas[0]
    for part, schema in zip(parts, schemas, strict=True):
        if schema.names != first.names:
            other = sorted(set(schema.names) ^ set(first.names))
            raise TableError(
                "every file of a table must have the same columns.",
                f"{part.path.name} and {parts[0].path.name} differ in {some(other) or 'their order'}",
                "name a folder or a file of one table with --from",
            )
    if len(set(first.names)) != len(first.names):
        raise TableError(
            "every column must be there once.", f"{parts[0].path.name} has: {some(first.names, 12)}"
        )
    if not first.names:
        raise TableError("a table must have columns.", f"{plural(len(parts), 'file')} without any")
    return first


def read_rows(part: Part, columns: list[str]) -> Iterator[dict[str, Any]]:
    """Yield a file's rows, read a few at once."""
    with _explained(part):
        if part.path.suffix.casefold() == ".arrow":
            with pa.memory_map(str(part.path)) as source, _arrow(source) as reader:
                for whole in reader:
                    whole.validate(full=True)  # an offset that is a lie would read memory that is not ours
                    for start in range(0, whole.num_rows, _BATCH):
                        yield from whole.slice(start, _BATCH).select(columns).to_pylist()
        else:
            with pq.ParquetFile(part.path) as file:
                for batch in file.iter_batches(batch_size=_BATCH, columns=columns):
                    batch.validate(full=True)
                    yield from batch.to_pylist()


def count_rows(parts: list[Part]) -> int | None:
    """Return how many rows there are, None where only reading would tell."""
    if any(part.path.suffix.casefold() == ".arrow" for part in parts):
        return None
    total = 0
    for part in parts:
        with _explained(part):
            total += pq.read_metadata(part.path).num_rows
    return total


def features_of(schema: pa.Schema, beside: Path) -> Features:
    """Return what columns hold: by Hugging Face's own description where there is one, else by their kind."""
    told = _told_features(schema, beside)
    images, cells, left_out = [], [], []
    names: dict[str, tuple[str, ...]] = {}
    for column in schema:
        said = told.get(column.name)
        said = said if isinstance(said, dict) else {}
        kind = column.type
        if _is_picture(kind) or (said.get("_type") == "Image" and (_is_bytes(kind) or _is_text(kind))):
            images.append(column.name)
        elif said.get("_type") == "ClassLabel" and pa.types.is_integer(kind):
            listed = said.get("names")
            if isinstance(listed, list) and all(isinstance(name, str) for name in listed):
                names[column.name] = tuple(listed)
            cells.append(column.name)
        elif pa.types.is_nested(kind) or _is_bytes(kind):
            left_out.append(column.name)
        else:
            cells.append(column.name)
    if not images:  # a plain Parquet file may hold the files themselves
        raw = [c for c in left_out if not pa.types.is_nested(schema.field(c).type)]
        images, left_out = raw, [c for c in left_out if c not in raw]
    return Features(tuple(images), names, tuple(cells), tuple(left_out))


def _is_picture(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind):
        return False
    fields = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
    return set(fields) == {"bytes", "path"} and _is_bytes(fields["bytes"]) and _is_text(fields["path"])


def _is_bytes(kind: pa.DataType) -> bool:
    kinds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(one(kind) for one in kinds) or pa.types.is_binary_view(kind)


def _is_text(kind: pa.DataType) -> bool:
    return any(one(kind) for one in (pa.types.is_string, pa.types.is_large_string, pa.types.is_null))


def _told_features(schema: pa.Schema, beside: Path) -> dict[str, Any]:
    written = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        told = json.loads(written)
        features = told["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError):
        features = _json(beside / _INFO).get("features")
    return features if isinstance(features, dict) else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _arrow(source: pa.NativeFile) -> Any:
    """Open an Arrow file in either of its two forms: a stream, as datasets writes it, or a file."""
    try:
        return pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        source.seek(0)
        return _File(pa.ipc.open_file(source))


class _File:
    """An Arrow file read as if it were a stream."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.schema = file.schema

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for i in range(self._file.num_record_batches):
            yield self._file.get_batch(i)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        return None


@contextlib.contextmanager
def _explained(part: Part) -> Iterator[None]:
    """Turn what pyarrow raises on a damaged file into one sentence."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise TableError(
            "every file of the table must be a sound Parquet or Arrow file.",
            f"{part.path}: {first}",
            "download or export it again",
        ) from error
