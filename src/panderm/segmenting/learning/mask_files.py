"""Which file is the mask of which row: named in a column, or after the image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from panderm.data.columns import read_cells, read_column
from panderm.data.masks import masks_in, name_of_image
from panderm.data.table import Table
from panderm.errors import TableError, did_you_mean, plural, some

MASK_COLUMN = "mask"


def mask_files(table: Table, masks: Path | str | None, column: str) -> tuple[list[Path | None], list[str]]:
    """Find the mask of each row of a table, by a column of its file or by name.

    Args:
        table: the rows; its file is read again.
        masks: the folder that cells are relative to, or that holds masks which are named after their images.
        column: of the table's file, with the masks.

    Returns:
        A file for each row, which may not exist, or None where none is named; and what a user should be told.

    Raises:
        TableError: no such folder or column, two images for one mask, a table that has changed.
    """
    source, folder = Path(table.card.csv), None if masks is None else Path(masks).expanduser()
    if folder is not None and not folder.is_dir():
        what = "a file" if folder.exists() else "not there"
        raise TableError("the folder of the masks must exist.", f"{folder} is {what}", "--masks masks/")
    frame = read_cells(source)
    times = list(frame.columns).count(column)
    if times == 1:
        places = [folder] if folder else [Path(table.card.images), source.parent]
        cells = _cells_of(table, frame, column)
        return [None if cell is None else _placed(cell, places, folder) for cell in cells], []
    if times > 1 or column != MASK_COLUMN or folder is None:
        raise TableError(
            f"column {column!r} must be there once{did_you_mean(column, frame.columns)}",
            f"{source.name} has: {', '.join(frame.columns)}",
            "name the column of the masks with --mask-column, or their folder with --masks",
        )
    return _by_name(table, folder)


def _cells_of(table: Table, frame: pd.DataFrame, column: str) -> Sequence[str | None]:
    """Return a column's cells of a table's rows, which may be some of its file's."""
    image = table.card.roles["image"]
    at = frame.index.get_indexer(pd.Index(table.row))
    there = image in frame.columns and bool((at >= 0).all())
    if not there or read_column(frame, image)[at].tolist() != table.image.tolist():
        raise TableError(
            "a table must stay as it was when it was read.", f"{table.card.csv}: changed since", "begin again"
        )
    cells: list[str | None] = read_column(frame, column)[at].tolist()
    return cells


def _placed(cell: str, places: Sequence[Path], folder: Path | None) -> Path:
    """Return the file that a cell names; the first place it could be where there is none."""
    tries = [place / cell for place in places]
    if folder is not None:  # the cell may begin with that very folder
        tries.append(folder / Path(cell).name)
    return next((file for file in tries if file.is_file()), tries[0]).absolute()


def _by_name(table: Table, folder: Path) -> tuple[list[Path | None], list[str]]:
    known = masks_in(folder, "true")
    names = [str(image) for image in table.cells("image")]
    keys = [stem if (stem := Path(name).stem) in known else name_of_image(name) for name in names]
    times = Counter(keys)
    twice = [name for name, key in zip(names, keys, strict=True) if key in known and times[key] > 1]
    if twice:
        raise TableError(
            "a mask found by name must be of one image.",
            f"{plural(len(twice), 'image')} of {table.card.name} share one: {some(twice)}",
            f"name each image's mask in a column {MASK_COLUMN!r}",
        )
    spare = len(known) - sum(key in known for key in times)
    told = [f"{plural(spare, 'mask')} in {folder} of no row"] if spare else []
    return [known[key].absolute() if key in known else None for key in keys], told
