"""The numbers of one entry as one table, or of several as one table for each of its columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from panderm.report.section import Rows, told
from panderm.report.several.keys import Key
from panderm.scores import Score

Cell = Score | str
Columns = Mapping[str, Mapping[str, Cell]]
_NOTHING = "—"


def crossed(
    caption: str,
    keys: Sequence[Key],
    tables: Sequence[Columns | None],
    *,
    first: str = "",
) -> list[Rows]:
    """Return the table of one entry, or the same numbers of several side by side.

    Args:
        caption: what the numbers are.
        keys: of the entries.
        tables: of each entry, by column and row; None of one that has none of it.
        first: what the rows are.
    """
    columns = list(dict.fromkeys(name for table in tables if table for name in table))
    if not columns:
        return []
    if len(keys) == 1:
        table = tables[0] or {}
        return [
            Rows(caption, (first, *columns), _rows([table[name] for name in columns], _all_rows([table])))
        ]
    found = []
    for column in columns:
        of_entry = [(table or {}).get(column, {}) for table in tables]
        its_rows = list(dict.fromkeys(row for one in of_entry for row in one))
        found.append(
            Rows(
                caption if len(columns) == 1 else f"{caption}: {column}",
                (first, *(key.name for key in keys)),
                _rows(of_entry, its_rows),
                keys=tuple(keys),
            )
        )
    return found


def _all_rows(tables: Sequence[Columns]) -> list[str]:
    return list(dict.fromkeys(row for table in tables for column in table.values() for row in column))


def _rows(columns: Sequence[Mapping[str, Cell]], names: Sequence[str]) -> list[list[str]]:
    return [[name, *(_told(column.get(name)) for column in columns)] for name in names]


def _told(cell: Cell | None) -> str:
    if cell is None:
        return _NOTHING
    return cell if isinstance(cell, str) else told(cell)
