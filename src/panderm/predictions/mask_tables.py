"""What tables say of masks: both files of each image, its patient, lesion and scale, further columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from panderm.data.columns import Column, read_cells, read_column
from panderm.data.join import Joined
from panderm.data.levels import columns_of, is_number
from panderm.data.masks import name_of_image
from panderm.errors import TableError, did_you_mean, plural, some
from panderm.storage import sha256_of_file

_USUAL = {"patient": ("patient_id", "patient"), "group": ("lesion_id", "lesion")}


@dataclass(frozen=True)
class Beside:
    """What a table says of some images, in their order.

    Attributes:
        roles: ``patient`` and ``group``, those of the two that the table has, (n,) str or None.
        mm_per_pixel: (n,) NaN where a cell is empty; None where no column was asked for.
        columns: further columns, where some were asked for.
    """

    roles: dict[str, Column] = field(default_factory=dict)
    mm_per_pixel: npt.NDArray[np.float64] | None = None
    columns: Joined | None = None


def pairs_of_table(
    source: Path, truth: str, predicted: str, image: str
) -> tuple[Sequence[str], list[tuple[Path, Path]]]:
    """Return the images of a table that names both masks of each, and the files, the true one first.

    Args:
        source: a CSV; paths in it are relative to its folder.
        truth: its column with the true mask.
        predicted: its column with the predicted mask.
        image: its column with the image; where there is none, masks name it.

    Raises:
        TableError: a column that is not there, an empty cell, an image twice, or no row.
    """
    cells = read_cells(source)
    for name, option in ((truth, "--truth-column"), (predicted, "--predicted-column")):
        _require_column(cells, source, name, option)
    masks = [read_column(cells, name) for name in (truth, predicted)]
    empty = [int(cells.index[i]) for i in range(len(cells)) if masks[0][i] is None or masks[1][i] is None]
    if empty or not len(cells):
        found = (
            f"{plural(len(empty), 'row')} of {source.name} lack one: {some(empty)}"
            if empty
            else "found no row"
        )
        raise TableError("every row must name a true and a predicted mask.", found)
    named = read_column(cells, image if image in cells.columns else truth)
    images = [name_of_image(str(name)) for name in named]
    _require_once(images, source)
    return images, [(source.parent / one, source.parent / two) for one, two in zip(*masks, strict=True)]


def read_beside(
    table: Path,
    images: Sequence[str],
    *,
    image: str,
    patient: str | None = None,
    group: str | None = None,
    mm_column: str | None = None,
    keep: Sequence[str] = (),
) -> Beside:
    """Return what a table says of some images.

    Args:
        table: a CSV or ``.parquet`` file with a row for each image; it may have rows of others.
        images: by the names under which their masks met.
        image: its column with the image.
        patient: its column with the patient; None for a usual name, where there is one.
        group: likewise the lesion.
        mm_column: its column with millimetres per pixel; a cell may be empty.
        keep: further columns, or two that are to be crossed, ``sex:age``.

    Raises:
        TableError: a column or an image that is not there, an image twice, or a scale that is no number
            above 0.
    """
    cells = read_cells(table)
    wanted: dict[str, str] = {}
    for role, name in (("patient", patient), ("group", group)):
        chosen = name or next((one for one in _USUAL[role] if one in cells.columns), None)
        if chosen is not None:
            _require_column(cells, table, chosen, f"--{role}")
            wanted[role] = chosen
    if mm_column is not None:
        _require_column(cells, table, mm_column, "--mm-column")
    have = [str(name) for name in cells.columns]
    kept = list(dict.fromkeys(name for asked in keep for name in columns_of(asked, have, table.name)))
    for name in kept:
        _require_column(cells, table, name, "--by")
    if not wanted and mm_column is None and not keep:
        return Beside()
    column = image if image in cells.columns else None
    if column is None and len(cells) == len(images) and table.suffix and "mask" in cells.columns:
        column = "mask"
    if column is None:
        _require_column(cells, table, image, "--image-column")
    at = _rows_of(cells, table, column or image, images)
    everywhere = {name: read_column(cells, name) for name in kept}
    return Beside(
        roles={role: read_column(cells, name)[at] for role, name in wanted.items()},
        mm_per_pixel=None
        if mm_column is None
        else _scale(read_column(cells, mm_column)[at], images, mm_column),
        columns=Joined(
            file=table,
            sha256=sha256_of_file(table),
            image_column=column or image,
            columns={name: values[at] for name, values in everywhere.items()},
            everywhere={name: frozenset(filter(None, values)) for name, values in everywhere.items()},
        )
        if keep
        else None,
    )


def _rows_of(cells: pd.DataFrame, table: Path, column: str, images: Sequence[str]) -> npt.NDArray[np.int64]:
    names = [name_of_image(str(name)) for name in read_column(cells, column)]
    position = {name: i for i, name in enumerate(names)}
    missing = [name for name in images if name not in position]
    if missing:
        found = f"{len(missing):,} of {plural(len(images), 'image')} are not in {table.name}: {some(missing)}"
        raise TableError(
            "every mask must have a row in the table.", found, "name its column with --image-column"
        )
    wanted = set(images)
    _require_once([name for name in names if name in wanted], table)
    return np.array([position[name] for name in images], dtype=np.int64)


def _scale(cells: Column, images: Sequence[str], name: str) -> npt.NDArray[np.float64]:
    wrong = [
        f"{image}: {cell}"
        for image, cell in zip(images, cells, strict=True)
        if cell is not None and not (is_number(cell) and 0 < float(cell) < np.inf)
    ]
    if wrong:
        raise TableError(
            f"column {name!r} must hold millimetres per pixel, above 0, or nothing.",
            f"{plural(len(wrong), 'image')} with another value: {some(wrong, 3)}",
        )
    return np.array([np.nan if cell is None else float(cell) for cell in cells], dtype=np.float64)


def _require_column(cells: pd.DataFrame, source: Path, name: str, option: str) -> None:
    if list(cells.columns).count(name) != 1:
        raise TableError(
            f"column {name!r} must be there once{did_you_mean(name, cells.columns)}",
            f"{source.name} has: {', '.join(cells.columns)}",
            f"name the column with {option}",
        )


def _require_once(images: Sequence[str], source: Path) -> None:
    seen: set[str] = set()
    twice = [name for name in images if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    if twice:
        raise TableError("an image must have one row.", f"{source.name} has more of {some(twice)}")
