"""The cells of a CSV or Parquet file, and which column plays which part."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from panderm.data.cells import Cells
from panderm.data.cells import Column as Column
from panderm.errors import TableError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

# Roles that a column has by its name alone, where no option names another.
_PATIENT_NAMES = ("patient_id", "patient")
_GROUP_NAMES = ("lesion_id", "lesion")
_LABEL_NAMES = ("label", "binary_label")
_WHOLE = re.compile(r"[-+]?[0-9]+(\.0*)?")
# Cells that are read at a time, where they need not all be there at once.
_TURN = 1 << 14


def read_cells(path: Path) -> pd.DataFrame:
    """Return the cells of a CSV (:func:`read_csv`) or of a ``.parquet`` file (:func:`read_parquet`)."""
    return read_parquet(path) if path.suffix.lower() == ".parquet" else read_csv(path)


def cells_in_turn(path: Path) -> Iterator[pd.DataFrame]:
    """Yield the cells of a table as :func:`read_cells` does, some rows after the other, at least one.

    A table of millions is then never in memory as a whole.
    """
    yield from _parquet_in_turn(path) if path.suffix.lower() == ".parquet" else _csv(path, whole=False)


def read_csv(path: Path) -> pd.DataFrame:
    """Return the cells as strings, the index being the row as a spreadsheet numbers it.

    ``frame.attrs["separator"]`` is what stands between its columns: comma, semicolon or tab.
    """
    return next(_csv(path, whole=True))


def _csv(path: Path, *, whole: bool) -> Iterator[pd.DataFrame]:
    header: pd.Series[str] | None = None
    found = False
    try:
        with path.open(encoding="utf-8-sig") as file:
            blank, line = next(((i, line) for i, line in enumerate(file) if line.strip()), (0, ""))
        if not line:
            raise TableError("a table must have a header and at least one row.", f"{path} is empty")
        separator = max(",;\t", key=line.count)
        # The header is read as a row: pandas then counts its cells, and shifts none where a row has more.
        read = pd.read_csv(
            path,
            sep=separator,
            header=None,
            dtype=str,
            keep_default_na=False,
            skiprows=blank,
            skip_blank_lines=False,
            encoding="utf-8-sig",
            chunksize=None if whole else max(256, _TURN // (line.count(separator) + 1)),
        )
        with contextlib.nullcontext([read]) if isinstance(read, pd.DataFrame) else read as turns:
            for cells in turns:
                # A row cut short leaves its last cells missing rather than empty.
                cells = cells.fillna("")
                cells.index += 1 + blank
                cells = cells[(cells != "").any(axis=1)]
                if header is None and len(cells):
                    header, cells = cells.iloc[0].str.strip(), cells.iloc[1:]
                if header is not None and len(cells):
                    frame = cells.set_axis(header, axis=1)
                    frame.attrs["separator"] = separator
                    found = True
                    yield frame
    except FileNotFoundError:
        raise TableError("the table must exist.", f"found no file {path}") from None
    except IsADirectoryError:
        raise TableError("the table must be a CSV file.", f"{path} is a folder") from None
    except UnicodeDecodeError:
        raise TableError(
            "a table must be UTF-8 text.",
            f"{path} is not",
            "in a spreadsheet program, save it as 'CSV UTF-8'",
        ) from None
    except OSError as error:
        raise TableError("the table must be readable.", f"{path}: {error.strerror}") from None
    except pd.errors.ParserError as error:
        raise TableError("a table must be a CSV file.", f"{path}: {_in_words(error)}") from None
    if not found:
        raise TableError("a table must have at least one row.", f"{path} has a header only")


def read_parquet(path: Path) -> pd.DataFrame:
    """Return the scalar columns of a Parquet file as strings, empty where null; rows are numbered from 1.

    Lists, structures and bytes have no place in a cell: ``frame.attrs["left out"]`` says which columns
    hold what, by name.
    """
    import pyarrow.parquet as pq

    with _readable(path):
        table = pq.read_table(path)
    return cells_of(table, str(path))


def _parquet_in_turn(path: Path) -> Iterator[pd.DataFrame]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.is_dir():
        yield read_parquet(path)
        return
    with _readable(path):
        file = pq.ParquetFile(path)
    # What has no place in a cell is not read: it may be the images themselves.
    first = cells_of(file.schema_arrow.empty_table(), str(path), empty=True)
    left_out: dict[str, str] = first.attrs["left out"]
    names, start = list(first.columns), 1
    turns = file.iter_batches(max(256, _TURN // max(1, len(names))), columns=names)
    while True:
        with _readable(path):
            batch = next(turns, None)
        if batch is None:
            break
        if not len(batch):
            continue
        frame = cells_of(pa.Table.from_batches([batch]), str(path), start=start)
        if start > 1 and (gone := frame.attrs["left out"]):
            name, kind = next(iter(gone.items()))
            raise TableError(f"column {name!r} must hold text or numbers.", f"in {path.name} it holds {kind}")
        frame.attrs["left out"] = left_out | frame.attrs["left out"]
        start += len(batch)
        yield frame
    if start == 1:
        raise TableError("a table must have at least one row.", f"{path} has none with text or numbers")


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError:
        raise TableError("the table must exist.", f"found no file {path}") from None
    except (OSError, pa.ArrowException) as error:
        raise TableError("a table must be a CSV or Parquet file.", f"{path}: {error}") from None


def cells_of(table: pa.Table, path: str, *, start: int = 1, empty: bool = False) -> pd.DataFrame:
    """Return the scalar columns of an Arrow table as strings, as :func:`read_parquet` does.

    Args:
        table: of a file, or some rows of it.
        path: its name, for messages.
        start: the number of its first row.
        empty: whether it may have no rows.
    """
    import pyarrow as pa

    cells: dict[str, list[str]] = {}
    left_out: dict[str, str] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        try:
            if "binary" in str(kind):  # Arrow would take bytes for text where they happen to be UTF-8
                raise pa.ArrowInvalid("bytes are no text")
            texts = column.cast(kind).cast(pa.string()).to_pylist()
        except pa.ArrowException:
            left_out[name] = str(kind)
            continue
        if name in cells:
            raise TableError(f"column {name!r} must be there once.", f"{path} has it twice")
        cells[name] = ["" if text is None else text for text in texts]
    frame = pd.DataFrame(cells, dtype=object, index=pd.RangeIndex(start, start + table.num_rows))
    if frame.empty and not empty:
        raise TableError("a table must have at least one row.", f"{path} has none with text or numbers")
    frame.attrs["left out"] = left_out
    return frame


def _in_words(error: Exception) -> str:
    counts = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
    if counts:
        return f"row {counts[2]} has {counts[3]} cells, the header has {counts[1]}"
    return str(error).rsplit("C error: ", 1)[-1].strip()


def find_roles(
    frame: pd.DataFrame,
    source: Path,
    image: str,
    label: str | None,
    split: str,
    patient: str | None,
    group: str | None,
) -> dict[str, str | None]:
    """Return the column of each role, None where there is none.

    Raises:
        TableError: a column that was asked for is not there, or there twice.
    """
    asked = {"image": image, "label": label, "split": split, "patient": patient, "group": group}
    options = {"image": "--image-column", "split": "--split-column"}
    left_out = frame.attrs.get("left out", {})
    for role, name in asked.items():
        if name in left_out:
            raise TableError(
                f"column {name!r} ({role}) must hold text or numbers.",
                f"in {source.name} it holds {left_out[name]}",
                f"name another column with {options.get(role, '--' + role)}",
            )
        by_default = role == "split" and name == "split"
        if name is not None and name not in frame.columns and not by_default:
            raise TableError(
                f"column {name!r} ({role}) must exist{did_you_mean(name, frame.columns)}",
                f"{source.name} has: {', '.join(frame.columns)}",
                f"name the column with {options.get(role, '--' + role)}",
            )
    defaults = {"label": _LABEL_NAMES, "patient": _PATIENT_NAMES, "group": _GROUP_NAMES}
    for role, names in defaults.items():
        if asked[role] is None:
            asked[role] = next((name for name in names if name in frame.columns), None)
    if split not in frame.columns:
        asked["split"] = None
    twice = [name for name in asked.values() if name is not None and list(frame.columns).count(name) > 1]
    if twice:
        raise TableError(
            f"column {twice[0]!r} must be there once.",
            f"{source.name} has: {', '.join(frame.columns)}",
            "rename or remove the others",
        )
    return asked


def read_column(frame: pd.DataFrame, name: str | None) -> Column:
    """Return a column's cells, None where empty or where there is no such column."""
    if name is None:
        return np.full(len(frame), None, dtype=object)
    values = [str(value).strip() or None for value in frame[name]]
    return np.array(values, dtype=object)


def whole_numbers(labels: Column) -> Column:
    """Write labels such as '1.0' as '1' where every one of them is a whole number."""
    if not all(x is None or _WHOLE.fullmatch(x) for x in labels):
        return labels
    return np.array([whole_number(x) for x in labels], dtype=object)


def whole_numbers_in(labels: Cells) -> Cells:
    """Write labels as :func:`whole_numbers` does."""
    if not all(x is None or _WHOLE.fullmatch(x) for x in labels.distinct()):
        return labels
    return labels.map(whole_number)


def whole_number(label: str | None) -> str | None:
    """Write a label such as '1.0' as '1'."""
    return label.partition(".")[0] if label and _WHOLE.fullmatch(label) else label


def in_order(classes: set[str]) -> tuple[str, ...]:
    """Return classes in their order: whole numbers ascending, anything else A to Z."""
    if all(_WHOLE.fullmatch(x) for x in classes):
        return tuple(sorted(classes, key=lambda x: (int(x), x)))
    return tuple(sorted(classes))
