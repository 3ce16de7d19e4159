"""Columns of the table that was embedded, as it was then, for the rows of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from panderm.data.columns import Column, read_cells, read_column
from panderm.data.table import Table, TableCard
from panderm.errors import ParentsError, UsageError, did_you_mean, plural, some
from panderm.storage import sha256_of_file


def table_as_it_was(card: TableCard, asks: str) -> pd.DataFrame:
    """Return the rows of a table that were used, in their order: strings, indexed by their row number.

    Args:
        card: of the table.
        asks: who needs it, for the message: ``"an image-free baseline"``.

    Raises:
        ParentsError: its file is gone, or is another than it was.
    """
    path = Path(card.csv)
    found = None
    if not path.is_file():
        found = f"found no file {path}"
    elif (now := sha256_of_file(path)) != card.csv_sha256:
        found = f"{path} has changed: it was {card.csv_sha256[:12]}, now it is {now[:12]}"
    if found:
        raise ParentsError(
            f"{asks} needs the table that the predictions came from, as it was.",
            found,
            "put it back, or embed and probe the new one",
        )
    frame = read_cells(path)
    return frame.loc[~frame.index.isin([bad.row for bad in card.skipped])]


def require_named(frame: pd.DataFrame, names: Sequence[str], *, option: str, table: str) -> None:
    """Raise :class:`UsageError` where an option names a column that is not there, or is there twice."""
    there = list(frame.columns)
    for name in names:
        if there.count(name) != 1:
            raise UsageError(
                f"{option} must name columns of the table, each there once"
                f"{did_you_mean(name, set(there) - {name})}",
                f"found {name!r}; {Path(table).name} has: {', '.join(there)}",
            )


def columns_of(rows: Table, names: Sequence[str], *, option: str) -> dict[str, Column]:
    """Return columns of the table for some of its rows, found by the images' names.

    Args:
        rows: n rows, as embeddings have them.
        names: the columns wanted.
        option: what asks for them, for messages: ``"--with"``.

    Returns:
        By name (n,) strings, None where a cell is empty.

    Raises:
        ParentsError: the table is gone, is another than it was, or does not have these rows.
        UsageError: a column that is not there, or is there twice.
    """
    card = rows.card
    frame = table_as_it_was(card, option)
    require_named(frame, names, option=option, table=card.csv)
    place = {name: i for i, name in enumerate(read_column(frame, card.roles["image"]))}
    at = np.array([place.get(name, -1) for name in rows.image], dtype=np.intp)
    if (at < 0).any():
        strange = rows.image[at < 0].tolist()
        raise ParentsError(
            f"{option} needs the table that the embeddings came from, as it was.",
            f"{plural(len(strange), 'image')} not in {card.csv}: {some(strange)}",
            "embed the table again",
        )
    return {name: read_column(frame, name)[at] for name in names}
