"""The columns that subgroups are made of: from the table of the predictions, or from another beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from panderm.data.columns import read_cells
from panderm.data.join import Joined, join_columns, join_frame
from panderm.data.levels import Levels, cut_into_levels
from panderm.errors import ParentsError, UsageError, did_you_mean, some
from panderm.predictions import Predictions
from panderm.predictions.card import PredictionsFile
from panderm.scores.estimated import errors_of_estimates
from panderm.storage import sha256_of_file

ROW = "row of the file"


@dataclass(frozen=True)
class ByColumns:
    """Columns cut into levels for the rows of some predictions, and the table they were read from.

    ``errors`` says of columns that are estimates how often they are right.
    """

    levels: dict[str, Levels]
    errors: dict[str, str]
    file: str
    sha256: str
    image_column: str


def read_by_columns(
    given: Predictions,
    by: Sequence[str],
    *,
    columns: Path | str | None = None,
    image_column: str | None = None,
    bands: Mapping[str, Sequence[float]] | None = None,
) -> ByColumns:
    """Read columns for the images of predictions and cut each into levels.

    Args:
        given: the predictions.
        by: names of columns.
        columns: the table that has them; by default the one that was embedded, if it is still the same.
        image_column: its column with the images' names; by default the name it has in that table.
        bands: by column, where to cut its numbers, ascending.

    Raises:
        UsageError: a column named twice, bands of none of them, or bands that do not ascend.
        ParentsError: the table that was embedded is gone, or another file now.
        TableError: a column or an image that is not there, or more than 20 levels.
    """
    _require_sound(by, bands or {})
    joined = read_cells_of(given, by, columns=columns, image_column=image_column)
    levels = {
        name: cut_into_levels(
            joined.columns[name],
            column=name,
            source=joined.file.name,
            whole_table=joined.everywhere[name],
            edges=(bands or {}).get(name),
        )
        for name in by
    }
    known = errors_of_estimates(joined.file)
    errors = {name: known[name] for name in by if name in known}
    return ByColumns(levels, errors, str(joined.file.resolve()), joined.sha256, joined.image_column)


def read_cells_of(
    given: Predictions,
    names: Sequence[str],
    *,
    columns: Path | str | None = None,
    image_column: str | None = None,
) -> Joined:
    """Read columns for the images of predictions, as they are.

    Args:
        given: the predictions.
        names: of columns.
        columns: as of :func:`read_by_columns`.
        image_column: likewise.

    Raises:
        ParentsError: the table that was embedded is gone, or another file now.
        TableError: a column or an image that is not there.
    """
    if columns is None and given.card.file is not None and "image" not in given.card.file.columns:
        return _cells_by_row(given, given.card.file, names)
    csv, sha256, image = _table_of(given)
    if columns is None:
        _require_unchanged(Path(csv), sha256)
    return join_columns(
        columns if columns is not None else csv, given.image, names, image_column=image_column or image
    )


def _table_of(given: Predictions) -> tuple[str, str, str]:
    """Return the table that has the columns where no other is named, its hash, and its column of images."""
    card = given.card
    if card.embeddings is not None:
        table = card.embeddings.table
        return table.csv, table.csv_sha256, table.roles["image"] or "image"
    if card.file is None or "image" not in card.file.columns:
        raise UsageError(
            "a table beside the predictions is joined by the names of the images.",
            f"{card.source} has no column that was read as such",
            "name it with --image",
        )
    return card.file.path, card.file.sha256, card.file.columns["image"]


def _cells_by_row(given: Predictions, file: PredictionsFile, names: Sequence[str]) -> Joined:
    """Read columns of the file that the predictions were read from, whose rows have no names of images."""
    _require_unchanged(Path(file.path), file.sha256)
    frame = read_cells(Path(file.path))
    frame.insert(0, ROW, [f"row {i}" for i in frame.index], allow_duplicates=True)
    return join_frame(frame, Path(file.path), file.sha256, given.image, names, image_column=ROW)


def _require_sound(by: Sequence[str], bands: Mapping[str, Sequence[float]]) -> None:
    twice = [name for name in dict.fromkeys(by) if list(by).count(name) > 1]
    if twice:
        raise UsageError("--by must name a column once.", f"named more than once: {some(twice)}")
    for name, edges in bands.items():
        if name not in by:
            raise UsageError(
                "--bands must be of a column that --by names.",
                f"found {name!r}{did_you_mean(name, by)}",
                f"--by {name}",
            )
        at = np.asarray(edges, dtype=np.float64)
        if not (len(at) and np.isfinite(at).all() and (np.diff(at) > 0).all()):
            raise UsageError(
                "--bands must be numbers that ascend.",
                f"found for {name!r}: {', '.join(f'{x:g}' for x in at) or 'none'}",
                "--bands age=30,50,70",
            )


def _require_unchanged(csv: Path, sha256: str) -> None:
    if not csv.is_file():
        found, hint = (
            f"found no file {csv}",
            "name it where it is now, or another table of these images: --columns FILE",
        )
    elif (now := sha256_of_file(csv)) != sha256:
        found = f"{csv}: sha256 {sha256[:12]} when it was embedded, {now[:12]} now"
        hint = "where the columns are still right, say so: --columns FILE"
    else:
        return
    raise ParentsError("the table of the predictions must be there as it was embedded.", found, hint)
