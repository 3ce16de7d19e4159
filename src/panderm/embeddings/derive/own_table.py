"""The table of rows that come from finished folders: their roles, and every other column of their CSVs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from panderm.data.columns import read_cells, read_column
from panderm.data.table import Table, TableCard
from panderm.errors import PandermWarning, TableError
from panderm.storage import sha256_of_file

OWN_TABLE = "table.csv"
"""The file of an embeddings folder that holds such a table."""
_ROLES = ("image", "split", "label", "patient", "group")


def own_table(tables: Sequence[Table]) -> tuple[pd.DataFrame, dict[str, str | None]]:
    """Return the rows of several tables as one frame of strings, and the column of each role.

    Where the CSV of a table is still as it was embedded, its other columns come along; where it is not, a
    warning says so and the roles are all there is. A column that several CSVs have is one column. An image
    that several tables have is one row, at its first place; a cell that is empty there is filled from the
    later ones.

    Args:
        tables: the rows, image names unique within each table.
    """
    roles = {role: _name_of(role, [table.card for table in tables]) for role in _ROLES}
    taken = {name for name in roles.values() if name is not None}
    frames = []
    for table in tables:
        parts = {name: getattr(table, role) for role, name in roles.items() if name is not None}
        own = pd.DataFrame(parts, dtype=object)
        others = _other_columns(table)
        others.columns = [f"{name} ({table.card.name})" if name in taken else name for name in others.columns]
        frames.append(pd.concat([own, others.set_axis(own.index)], axis=1))
    if len(frames) == 1:
        return frames[0].fillna(""), roles
    joined = pd.concat(frames, ignore_index=True)
    joined = joined.mask(joined == "")
    image = str(roles["image"])
    if joined[image].duplicated().any():
        order = list(joined.columns)
        joined = joined.groupby(image, sort=False, as_index=False).first()[order]
    return joined.fillna(""), roles


def _name_of(role: str, cards: Sequence[TableCard]) -> str | None:
    """Return the column of a role: the name that all give it, else the role's own; None where none has it."""
    names = {card.roles.get(role) for card in cards} - {None}
    if not names:
        return None
    (first, *others) = names
    # A role that is one table's patient_id must not be another's lesion_id.
    elsewhere = {card.roles.get(other) for card in cards for other in _ROLES if other != role}
    return role if others or first in elsewhere else first


def _other_columns(table: Table) -> pd.DataFrame:
    """Return the columns of a table's CSV that play no part, (n, …), in the order of its rows."""
    nothing = pd.DataFrame(index=range(len(table)))
    source, roles = Path(table.card.csv), table.card.roles
    why = _not_as_it_was(source, table.card.csv_sha256)
    if why is None and roles.get("image") is None:
        why = f"{source} has no column of image names"
    if why is None:
        try:
            frame = read_cells(source)
        except TableError as error:
            why = "; ".join(error.found)
    at: list[int] = []
    if why is None:
        place = {name: i for i, name in enumerate(read_column(frame, roles["image"]))}
        at = [place.get(name, -1) for name in table.image]
        if min(at, default=0) < 0:
            why = f"{source} does not name its images as they were embedded"
        elif frame.columns.duplicated().any():
            why = f"{source} has two columns of one name"
    if why is not None:
        told = f"only image, split, label, patient and lesion come along: {why}"
        warnings.warn(told, PandermWarning, stacklevel=4)
        return nothing
    playing = {name for name in roles.values() if name is not None}
    others = frame.loc[:, [name for name in frame.columns if name not in playing]]
    return others.iloc[np.asarray(at, dtype=np.intp)].reset_index(drop=True)


def _not_as_it_was(csv: Path, sha256: str) -> str | None:
    if not csv.is_file():
        return f"found no file {csv}"
    return None if sha256_of_file(csv) == sha256 else f"{csv} is not as it was when it was embedded"
