"""The images that a CSV, a Parquet file or a plain list names: a few columns are kept, piece by piece."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from panderm.data.columns import find_roles
from panderm.data.images import read_bytes
from panderm.data.rows import images_folder
from panderm.data.streams.folder import size_of
from panderm.data.streams.source import ImageSource, SourceRecord, packed, sha256_of_names
from panderm.errors import TableError, plural, some

LISTS = (".csv", ".tsv", ".tab", ".parquet", ".txt")
"""Endings of what is read here."""


class ListedSource(ImageSource):
    """The images that a table or list names, in its order; of an image named twice the first row counts.

    Args:
        path: a CSV (comma, semicolon or tab), a Parquet file, or a text file with a name a line.
        images: the folder that names are relative to; by default the file's own.
        image_column: column with the file name, or an absolute path.
        split: which rows, by their split; by default all.
        split_column: column with the split.
        patient: column that says who is in the picture; by default ``patient_id`` or ``patient`` where there
            is one.

    Raises:
        TableError: no such file or column, or no rows.
    """

    def __init__(
        self,
        path: Path,
        *,
        images: Path | str | None = None,
        image_column: str = "image",
        split: str | Sequence[str] | None = None,
        split_column: str = "split",
        patient: str | None = None,
    ) -> None:
        self._root = str(images_folder(path, images)) if path.exists() else ""
        listed = Listing(path, image_column, split, split_column, patient)
        self._names, self.patients = listed.names, listed.patients
        self.record = SourceRecord(
            kind="table",
            where=str(path.resolve()),
            count=len(self._names),
            sha256=sha256_of_names(self._names),
            notes=listed.notes,
            parts=[],
        )

    def name(self, i: int) -> str:
        return str(self._names[i])

    def read(self, i: int) -> bytes:
        return read_bytes(self._path(i))

    def size(self, i: int) -> int:
        return size_of(self._path(i))

    def _path(self, i: int) -> str:
        return str(Path(self._root, str(self._names[i])))


class Listing:
    """The image names of a table, and their patients.

    Attributes:
        names: (n,) strings, none empty, no two the same.
        patients: (n,) strings or null; None where there is no such column.
        notes: what was left out.
    """

    def __init__(
        self,
        path: Path,
        image_column: str,
        split: str | Sequence[str] | None,
        split_column: str,
        patient: str | None,
    ) -> None:
        self.bad: list[str] = []
        wanted = [split] if isinstance(split, str) else list(split or ())
        names: list[pa.Array] = []
        patients: list[pa.Array] = []
        empty = others = tests = 0
        seen_splits: set[str] = set()
        is_text = path.suffix.lower() == ".txt"
        roles: dict[str, str | None] = {"image": "image", "split": None, "patient": None}
        if not is_text:
            roles = find_roles(
                pd.DataFrame(columns=_header(path)), path, image_column, None, split_column, patient, None
            )
        if wanted and roles["split"] is None:
            raise TableError(
                f"column {split_column!r} (split) must exist where one split is asked for.",
                f"{path.name} has none",
                "name the column with --split-column",
            )
        columns = {role: name for role in ("image", "split", "patient") if (name := roles[role])}
        for rows in self._pieces(path, list(dict.fromkeys(columns.values()))):
            piece = {role: rows[name] for role, name in columns.items()}
            keep = pc.not_equal(piece["image"], "")
            empty += len(keep) - pc.sum(keep.cast(pa.int64())).as_py()
            if wanted:
                seen_splits |= set(pc.unique(piece["split"]).to_pylist())
                here = pc.is_in(piece["split"], value_set=pa.array(wanted, piece["split"].type))
                others += pc.sum(pc.and_(keep, pc.invert(here)).cast(pa.int64())).as_py()
                keep = pc.and_(keep, here)
            elif "split" in piece:
                tests += pc.sum(pc.and_(keep, pc.equal(piece["split"], "test")).cast(pa.int64())).as_py() or 0
            names.append(piece["image"].filter(keep))
            if "patient" in piece:
                told = piece["patient"].filter(keep)
                patients.append(pc.if_else(pc.equal(told, ""), None, told))
        self.names = packed(names)
        self.patients = packed(patients) if patients else None
        again = self._drop_repeated()
        pa.default_memory_pool().release_unused()  # of the search: some 200 bytes a row
        if not len(self.names):
            found = [f"{path.name} has no row with an image"]
            if wanted and others:
                found = [
                    f"{path.name} has no row of split {' or '.join(wanted)}, but {some(sorted(seen_splits))}"
                ]
            raise TableError("a source must have at least one image.", found)
        notes = []
        if others:
            notes.append(f"{plural(others, 'row')} of other splits left out")
        if tests:
            notes.append(f"{plural(tests, 'row')} of split test among them: a split of train leaves them out")
        if empty:
            notes.append(f"{plural(empty, 'row')} left out that name no image")
        if again:
            notes.append(f"{plural(again, 'row')} left out whose image was named before")
        if self.bad:
            notes.append(f"{plural(len(self.bad), 'row')} left out: {some(self.bad)}")
        self.notes = notes

    def _drop_repeated(self) -> int:
        at = pa.table({"name": self.names, "at": pa.array(range(len(self.names)), pa.int64())})
        first = at.group_by("name").aggregate([("at", "min")])["at_min"]
        again = len(self.names) - len(first)
        if again:
            order = pc.sort_indices(first)
            kept = first.take(order).combine_chunks()
            self.names = self.names.take(kept)
            self.patients = None if self.patients is None else self.patients.take(kept)
        return again

    def _pieces(self, path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
        """Yield the columns as trimmed strings, piece by piece."""
        ending = path.suffix.lower()
        try:
            if ending == ".parquet":
                with pq.ParquetFile(path) as file:
                    for batch in file.iter_batches(65536, columns=columns):
                        yield {name: _texts(batch.column(name), name, path) for name in columns}
                return
            if ending == ".txt":
                with path.open(encoding="utf-8-sig") as lines:
                    while piece := [line.strip() for _, line in zip(range(65536), lines, strict=False)]:
                        yield {"image": pa.array(piece, pa.large_string())}
                return
            for batch in self._csv(path, columns):
                yield {name: _texts(batch.column(name), name, path) for name in columns}
        except UnicodeDecodeError:
            raise _not_utf8(path) from None
        except FileNotFoundError:
            raise TableError("the table must exist.", f"found no file {path}") from None
        except (OSError, pa.ArrowException) as error:
            if "UTF8" in str(error):
                raise _not_utf8(path) from None
            raise TableError(
                "a table must be a CSV or Parquet file.", f"{path}: {_first_line(error)}"
            ) from None

    def _csv(self, path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
        raw, separator, blank = _header_line(path)

        def left_out(row: pa_csv.InvalidRow) -> str:
            self.bad.append(
                f"row {row.number} has {plural(row.actual_columns, 'cell')} of {row.expected_columns}"
            )
            return "skip"

        named = {name.strip(): name for name in raw}
        reader = pa_csv.open_csv(
            path,
            read_options=pa_csv.ReadOptions(use_threads=False, skip_rows=blank, block_size=1 << 22),
            parse_options=pa_csv.ParseOptions(
                delimiter=separator, newlines_in_values=True, invalid_row_handler=left_out
            ),
            convert_options=pa_csv.ConvertOptions(
                include_columns=[named[name] for name in columns],
                column_types={named[name]: pa.large_string() for name in columns},
                strings_can_be_null=False,
            ),
        )
        with reader:
            for batch in reader:
                yield batch.rename_columns(columns)


def _texts(column: pa.Array, name: str, path: Path) -> pa.Array:
    """Return cells as strings without spaces around them, empty where null."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_nested(kind) or "binary" in str(kind):
        raise TableError(
            f"column {name!r} must hold names of files.",
            f"in {path.name} it holds {kind}",
            "images inside Parquet are written out as files, with their table, by: "
            f"panderm data import parquet --from {path.name} --out {path.stem}.csv",
        )
    return pc.fill_null(pc.utf8_trim_whitespace(column.cast(kind).cast(pa.large_string())), "")


def _header(path: Path) -> list[str]:
    """Return the names of a table's columns."""
    if path.suffix.lower() != ".parquet":
        return [name.strip() for name in _header_line(path)[0]]
    try:
        return list(pq.read_schema(path).names)
    except FileNotFoundError:
        raise TableError("the table must exist.", f"found no file {path}") from None
    except (OSError, pa.ArrowException) as error:
        raise TableError("a table must be a CSV or Parquet file.", f"{path}: {_first_line(error)}") from None


def _header_line(path: Path) -> tuple[list[str], str, int]:
    """Return a CSV's header as it is written, what stands between its columns, and the blank lines above."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            blank, line = next(((i, line) for i, line in enumerate(file) if line.strip()), (0, ""))
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    except FileNotFoundError:
        raise TableError("the table must exist.", f"found no file {path}") from None
    except OSError as error:
        raise TableError("the table must be readable.", f"{path}: {error.strerror}") from None
    if not line:
        raise TableError("a table must have a header and at least one row.", f"{path} is empty")
    separator = max(",;\t", key=line.count)
    return next(csv.reader(io.StringIO(line), delimiter=separator)), separator, blank


def _not_utf8(path: Path) -> TableError:
    return TableError(
        "a table must be UTF-8 text.", f"{path} is not", "in a spreadsheet program, save it as 'CSV UTF-8'"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
