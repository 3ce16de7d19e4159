"""Columns of a table for images that are known by name: each image there once, or an error that lists it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from panderm.data.columns import Column, read_cells, read_column
from panderm.errors import TableError, did_you_mean, plural, some
from panderm.storage import sha256_of_file


@dataclass(frozen=True)
class Joined:
    """Columns brought into the order of some images.

    Attributes:
        file: the table's file.
        sha256: hex SHA-256 of its bytes.
        image_column: the column that the images were found by.
        columns: by name, (n,) strings of the n images, None where empty.
        everywhere: by name, the values that the whole table has, other images' too.
    """

    file: Path
    sha256: str
    image_column: str
    columns: dict[str, Column]
    everywhere: dict[str, frozenset[str]]


def join_columns(
    path: Path | str, images: Column, names: Sequence[str], *, image_column: str = "image"
) -> Joined:
    """Read columns of a table and bring them into the order of ``images``.

    Args:
        path: a CSV or ``.parquet`` file with a row for each image; it may have rows of other images.
        images: (n,) names as the table has them.
        names: the columns wanted.
        image_column: the column with the images' names.

    Raises:
        TableError: no such file or column, an image that is missing or there more than once.

    Example:
        >>> join_columns("flagged.csv", predictions.image, ["hair"]).columns["hair"]  # doctest: +SKIP
        array(['no', 'no', 'yes'], dtype=object)
    """
    source = Path(path)
    frame, sha256 = read_cells(source), sha256_of_file(source)
    return join_frame(frame, source, sha256, images, names, image_column=image_column)


def join_frame(
    frame: pd.DataFrame, source: Path, sha256: str, images: Column, names: Sequence[str], *, image_column: str
) -> Joined:
    """Bring columns of a file's cells into the order of ``images``, as :func:`join_columns` does."""
    _require_columns(frame, source, image_column, names)
    key = read_column(frame, image_column)
    position: dict[str, list[int]] = {}
    for i, name in enumerate(key):
        position.setdefault(name, []).append(i)
    _require_once(images, position, frame, source, image_column)
    at = np.array([position[name][0] for name in images], dtype=np.int64)
    cells = {name: read_column(frame, name) for name in names}
    return Joined(
        file=source,
        sha256=sha256,
        image_column=image_column,
        columns={name: column[at] for name, column in cells.items()},
        everywhere={name: frozenset(x for x in column if x is not None) for name, column in cells.items()},
    )


def _require_columns(frame: pd.DataFrame, source: Path, image_column: str, names: Sequence[str]) -> None:
    have = list(frame.columns)
    for name in (image_column, *names):
        if have.count(name) == 1:
            continue
        hint = "name the column with --image-column" if name == image_column else "name the column with --by"
        if name in have:
            must, hint = f"column {name!r} must be there once.", "rename or remove the others"
        else:
            must = f"column {name!r} must exist{did_you_mean(name, have)}"
        raise TableError(must, f"{source.name} has: {', '.join(have)}", hint)


def _require_once(
    images: Column, position: dict[str, list[int]], frame: pd.DataFrame, source: Path, image_column: str
) -> None:
    where = f"column {image_column!r} of {source.name}"
    missing = [name for name in images if name not in position]
    if missing:
        there = [name for name in position if name]
        raise TableError(
            "every image must have a row in the table of the columns.",
            [
                f"{len(missing):,} of {plural(len(images), 'image')} are not in {where}: {some(missing)}",
                f"it has: {some(there, 3)}",
            ],
            "names must be the same to the letter; name the column that holds them with --image-column",
        )
    twice = [name for name in dict.fromkeys(images) if len(position[name]) > 1]
    if twice:
        rows = [f"{name}: rows {some([int(frame.index[i]) for i in position[name]])}" for name in twice[:5]]
        raise TableError(
            "every image must have one row in the table of the columns.",
            [f"{plural(len(twice), 'image')} with more than one in {where}: {some(twice)}", *rows],
            "remove the repeated rows",
        )
