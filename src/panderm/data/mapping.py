"""A table's labels through the diagnosis map: the table again, with one column more."""

from __future__ import annotations

from pathlib import Path

from panderm.data.columns import read_cells, read_column
from panderm.data.diagnoses import Indeterminate, Level, Mapped, map_labels
from panderm.errors import TableError, UsageError, did_you_mean, plural
from panderm.storage import new_file, refuse_existing

_SOURCE = "source"  # the column in which panderm data prepare says where a row is from


def map_table(
    table: Path | str,
    *,
    out: Path | str,
    label: str = "label",
    taxonomy: str | None = None,
    to: Level = "malignant",
    column: str | None = None,
    indeterminate: Indeterminate = "keep",
    overwrite: bool = False,
) -> Mapped:
    """Write a table again with its labels mapped, in a column of their own.

    Args:
        table: a CSV or ``.parquet`` file.
        out: the CSV to write: every row and column, and the new one, empty where a label is not mapped.
        label: the column with the labels.
        taxonomy: the dataset whose words they are; by default what the column ``source`` says, row by row.
        to: malignant, group or diagnosis.
        column: the new column's name; by default that of ``to``.
        indeterminate: what premalignant and uncertain labels become; see :func:`map_labels`.
        overwrite: replace a table that exists.

    Returns:
        What was mapped, and what was not.

    Raises:
        TableError: the table or a column is not there, or the new column is there already.
        UsageError: a dataset the map does not know.

    Example:
        >>> panderm.map_table("ham.csv", label="dx", taxonomy="ham10000", out="mapped.csv")  # doctest: +SKIP
    """
    source, target, new = Path(table), Path(out), column or to
    require_csv(target)
    refuse_existing(target, overwrite=overwrite)
    frame = read_cells(source)
    _require_once(label, list(frame.columns), source, "--label")
    if new in frame.columns:
        raise TableError(
            f"the new column {new!r} must not be there already.",
            f"{source.name} has: {', '.join(frame.columns)}",
            "name the new column with --column",
        )
    labels = read_column(frame, label)
    if taxonomy is None:
        if _SOURCE not in frame.columns:
            raise UsageError(
                "the dataset whose words the labels are must be known.",
                f"{source.name} has no column {_SOURCE!r}, and no dataset is named",
                "name it with --from",
            )
        each = [name or "" for name in read_column(frame, _SOURCE)]
        if "" in each:
            raise TableError(
                f"every row must say in column {_SOURCE!r} which dataset it is from.",
                f"{plural(each.count(''), 'row')} of {source.name} do not",
                "fill the column, or name one dataset for all with --from",
            )
        mapped = map_labels(labels, taxonomy=each, level=to, indeterminate=indeterminate)
    else:
        mapped = map_labels(labels, taxonomy=taxonomy, level=to, indeterminate=indeterminate)
    frame = frame.copy()
    frame[new] = [value or "" for value in mapped.values]
    with new_file(target, overwrite=overwrite) as temporary:
        frame.to_csv(temporary, index=False, encoding="utf-8", lineterminator="\n")
    return mapped


def require_csv(out: Path) -> None:
    """Raise :class:`UsageError` where the name of a CSV to write says that it is something else."""
    if out.suffix.lower() in (".parquet", ".xlsx", ".xls", ".json", ".emb", ".pred"):
        raise UsageError(
            "the table is written as CSV.",
            f"--out ends in {out.suffix}",
            f"name it {out.with_suffix('.csv').name}",
        )


def _require_once(name: str, columns: list[str], source: Path, option: str) -> None:
    if columns.count(name) != 1:
        often = "there once" if name in columns else f"there{did_you_mean(name, columns)}"
        raise TableError(
            f"column {name!r} (label) must be {often}",
            f"{source.name} has: {', '.join(columns)}",
            f"name the column with {option}",
        )
