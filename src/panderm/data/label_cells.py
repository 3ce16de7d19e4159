"""Cells that say whether a label holds: present, absent or not known; and lists of labels in one cell."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from panderm.data.columns import Column, in_order
from panderm.errors import TableError, plural

PRESENT, ABSENT, UNKNOWN = 1, 0, -1
_WORDS = {
    **dict.fromkeys(("1", "1.0", "true", "yes", "present"), PRESENT),
    **dict.fromkeys(("0", "0.0", "false", "no", "absent"), ABSENT),
    **dict.fromkeys(("unknown", "unk"), UNKNOWN),
}


def read_label_cells(
    cells: Column, rows: npt.NDArray[np.int64], *, column: str, table: str
) -> npt.NDArray[np.int8]:
    """Return a column of a label as int8 (n,): 1 present, 0 absent, -1 not known.

    Present are 1, true, yes and present; absent 0, false, no and absent, in capitals or not; an empty cell,
    ``unknown`` or ``unk`` is not known.

    Args:
        cells: (n,) strings, None where empty.
        rows: (n,) the row of each as a spreadsheet numbers it, for messages.
        column: its name.
        table: its file's name.

    Raises:
        TableError: any other cell; it is named with its row.
    """
    codes = [UNKNOWN if cell is None else _WORDS.get(str(cell).strip().casefold()) for cell in cells]
    strange = [i for i, code in enumerate(codes) if code is None]
    if strange:
        found = [f"row {rows[i]}: {cells[i]!r}" for i in strange[:5]]
        if len(strange) > 5:
            found.append(f"and {plural(len(strange) - 5, 'row')} more")
        raise TableError(
            f"a label must be 1 or 0 in every row: column {column!r} of {table} is not.",
            found,
            "write 1, true, yes or present; 0, false, no or absent; leave empty what is not known",
        )
    return np.array(codes, dtype=np.int8)


def read_label_lists(cells: Column, separator: str) -> tuple[tuple[str, ...], npt.NDArray[np.int8]]:
    """Return the labels that a column lists, A to Z, and which image has which, int8 (n, K) of 1 and 0.

    Args:
        cells: (n,) strings such as ``"itch;bleed"``; None, an empty cell, lists none.
        separator: what stands between two labels.
    """
    listed = [[x for part in str(cell or "").split(separator) if (x := part.strip())] for cell in cells]
    names = in_order({name for one in listed for name in one})
    place = {name: k for k, name in enumerate(names)}
    truth = np.zeros((len(cells), len(names)), dtype=np.int8)
    for i, one in enumerate(listed):
        truth[i, [place[name] for name in one]] = PRESENT
    return names, truth
