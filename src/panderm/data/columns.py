"""The cells of a CSV or Parquet file, and which column plays which part."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from panderm.errors import TableError, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa

Column = npt.NDArray[np.object_]

# Roles that a column has by its name alone, where no option names another.
_PATIENT_NAMES = ("patient_id", "patient")
_GROUP_NAMES = ("lesion_id", "lesion")
_LABEL_NAMES = ("label", "binary_label")
_WHOLE = re.compile(r"[-+]?[0-9]+(\.0*)?")


def read_cells(path: Path) -> pd.DataFrame:
    """Return the cells of a CSV (:func:`read_csv`) or of a ``.parquet`` file (:func:`read_parquet`)."""
    return read_parquet(path) if path.suffix.lower() == ".parquet" else read_csv(path)


def read_csv(path: Path) -> pd.DataFrame:
    """Return the cells as strings, the index being the row as a spreadsheet numbers it.

    ``frame.attrs["separator"]`` is what stands between its columns: comma, semicolon or tab.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            blank, header = next(((i, line) for i, line in enumerate(file) if line.strip()), (0, ""))
        if not header:
            raise TableError("a table must have a header and at least one row.", f"{path} is empty")
        separator = max(",;\t", key=header.count)
        # The header is read as a row: pandas then counts its cells, and shifts none where a row has more.
        cells = pd.read_csv(
            path,
            sep=separator,
            header=None,
            dtype=str,
            keep_default_na=False,
            skiprows=blank,
            skip_blank_lines=False,
            encoding="utf-8-sig",
        )
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
    # A row cut short leaves its last cells missing rather than empty.
    cells = cells.fillna("")
    cells.index += 1 + blank
    cells = cells[(cells != "").any(axis=1)]
    frame = cells.iloc[1:].set_axis(cells.iloc[0].str.strip(), axis=1)
    if frame.empty:
        raise TableError("a table must have at least one row.", f"{path} has a header only")
    frame.attrs["separator"] = separator
    return frame


def read_parquet(path: Path) -> pd.DataFrame:
    """Return the scalar columns of a Parquet file as strings, empty where null; rows are numbered from 1.

    Lists, structures and bytes have no place in a cell: ``frame.attrs["left out"]`` says which columns
    hold what, by name.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise TableError("the table must exist.", f"found no file {path}") from None
    except (OSError, pa.ArrowException) as error:
        raise TableError("a table must be a CSV or Parquet file.", f"{path}: {error}") from None
    return cells_of(table, str(path))


def cells_of(table: pa.Table, path: str) -> pd.DataFrame:
    """Return the scalar columns of an Arrow table as strings, as :func:`read_parquet` does."""
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
    frame = pd.DataFrame(cells, dtype=object, index=pd.RangeIndex(1, table.num_rows + 1))
    if frame.empty:
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


def whole_number(label: str | None) -> str | None:
    """Write a label such as '1.0' as '1'."""
    return label.partition(".")[0] if label and _WHOLE.fullmatch(label) else label


def in_order(classes: set[str]) -> tuple[str, ...]:
    """Return classes in their order: whole numbers ascending, anything else A to Z."""
    if all(_WHOLE.fullmatch(x) for x in classes):
        return tuple(sorted(classes, key=lambda x: (int(x), x)))
    return tuple(sorted(classes))
