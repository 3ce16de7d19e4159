"""The columns that subgroups are made of: from the table of the predictions, or from another beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from panderm.data.columns import read_cells
from panderm.data.join import Joined, join_frame
from panderm.data.levels import Levels, columns_of, cross, cut_into_levels
from panderm.errors import ParentsError, UsageError, did_you_mean, some
from panderm.predictions import Predictions
from panderm.predictions.card import PredictionsFile
from panderm.scores.estimated import errors_of_estimates
from panderm.storage import sha256_of_file

ROW = "row of the file"


@dataclass(frozen=True)
class ByColumns:
    """Columns cut into levels for the rows of some predictions, and the table they were read from.

    Attributes:
        levels: by what was asked for, a column or a crossing of two, ``sex:age``.
        errors: of columns that are estimates, how often they are right.
        file: the table.
        sha256: hex SHA-256 of its bytes.
        image_column: its column with the images' names.
        parts: of every crossing its two columns with their levels; of a column, itself.
    """

    levels: dict[str, Levels]
    errors: dict[str, str]
    file: str
    sha256: str
    image_column: str
    parts: dict[str, tuple[tuple[str, Levels], ...]]

    def place(
        self,
        other: Predictions,
        *,
        columns: Path | str | None = None,
        image_column: str | None = None,
    ) -> dict[str, npt.NDArray[np.int64]]:
        """Return, by what was asked for, the position of other rows' levels, int64 (m,); -1 where none is.

        Args:
            other: predictions of other rows.
            columns: as of :func:`read_by_columns`.
            image_column: likewise.

        Raises:
            ParentsError: the table that was embedded is gone, or another file now.
            TableError: a column or an image that is not there.
        """
        names = list(dict.fromkeys(name for parts in self.parts.values() for name, _ in parts))
        cells = read_cells_of(other, names, columns=columns, image_column=image_column).columns
        found = {}
        for asked, parts in self.parts.items():
            codes = [levels.place(cells[name]) for name, levels in parts]
            if len(parts) == 1:
                found[asked] = codes[0]
                continue
            # The pair of every scored row leads to its level; a pair that none of them has leads nowhere.
            own = zip(*(levels.codes.tolist() for _, levels in parts), strict=True)
            pairs = dict(zip(own, self.levels[asked].codes.tolist(), strict=True))
            theirs = zip(*(part.tolist() for part in codes), strict=True)
            found[asked] = np.array([pairs.get(pair, -1) for pair in theirs], dtype=np.int64)
        return found


def read_by_columns(
    given: Predictions,
    by: Sequence[str],
    *,
    columns: Path | str | None = None,
    image_column: str | None = None,
    bands: Mapping[str, Sequence[float]] | None = None,
) -> ByColumns:
    """Read columns for the images of predictions and cut each into levels.

    A column of that very name comes before a crossing: ``sex:age`` is two columns where there is no third.

    Args:
        given: the predictions.
        by: names of columns, and crossings of two, ``"sex:age"``.
        columns: the table that has them; by default the one that was embedded, if it is still the same.
        image_column: its column with the images' names; by default the name it has in that table.
        bands: by column, where to cut its numbers, ascending.

    Raises:
        UsageError: a column named twice, a column crossed with itself, bands of none of them, or bands that
            do not ascend.
        ParentsError: the table that was embedded is gone, or another file now.
        TableError: a column or an image that is not there, or more than 20 levels.
    """
    table = _open(given, columns, image_column)
    have = [str(name) for name in table.frame.columns]
    crossed = {asked: columns_of(asked, have, table.file.name) for asked in by}
    names = list(dict.fromkeys(name for pair in crossed.values() for name in pair))
    _require_sound(by, names, bands or {})
    return cut_columns(table.join(given, names), crossed, bands or {})


def cut_columns(
    joined: Joined, crossed: Mapping[str, tuple[str, ...]], bands: Mapping[str, Sequence[float]]
) -> ByColumns:
    """Cut columns that were read into levels, and cross those that are asked for in pairs.

    Args:
        joined: the columns.
        crossed: by what was asked for, its column or the two that are crossed.
        bands: by column, where to cut its numbers, ascending.

    Raises:
        UsageError: a column named twice, bands of none of them, or bands that do not ascend.
        TableError: more than 20 levels.
    """
    names = list(dict.fromkeys(name for pair in crossed.values() for name in pair))
    _require_sound(list(crossed), names, bands)
    cut = {
        name: cut_into_levels(
            joined.columns[name],
            column=name,
            source=joined.file.name,
            whole_table=joined.everywhere[name],
            edges=bands.get(name),
        )
        for name in names
    }
    levels = {}
    for asked, pair in crossed.items():
        one, *other = (cut[name] for name in pair)
        levels[asked] = one
        if other:
            levels[asked] = cross(one, other[0], columns=(pair[0], pair[1]), source=joined.file.name)
    return ByColumns(
        levels,
        _errors(crossed, errors_of_estimates(joined.file)),
        str(joined.file.resolve()),
        joined.sha256,
        joined.image_column,
        {asked: tuple((name, cut[name]) for name in pair) for asked, pair in crossed.items()},
    )


def _errors(crossed: Mapping[str, tuple[str, ...]], known: Mapping[str, str]) -> dict[str, str]:
    """Return what is known of columns that are estimates; of a crossing, of either part."""
    found = {}
    for asked, pair in crossed.items():
        parts = [name for name in pair if name in known]
        if parts and len(pair) == 1:
            found[asked] = known[asked]
        elif parts:
            found[asked] = "made of " + "; and of ".join(f"{name}, {known[name]}" for name in parts)
    return found


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
    return _open(given, columns, image_column).join(given, names)


@dataclass(frozen=True, eq=False)
class _Opened:
    """The cells of a table, and the column by which images are found in it."""

    frame: pd.DataFrame
    file: Path
    sha256: str
    image_column: str

    def join(self, given: Predictions, names: Sequence[str]) -> Joined:
        return join_frame(
            self.frame, self.file, self.sha256, given.image, names, image_column=self.image_column
        )


def _open(given: Predictions, columns: Path | str | None, image_column: str | None) -> _Opened:
    if columns is None and given.card.file is not None and "image" not in given.card.file.columns:
        return _by_row(given.card.file)
    csv, sha256, image = _table_of(given)
    if columns is None:
        _require_unchanged(Path(csv), sha256)
    source = Path(columns if columns is not None else csv)
    return _Opened(read_cells(source), source, sha256_of_file(source), image_column or image)


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


def _by_row(file: PredictionsFile) -> _Opened:
    """Open the file that predictions were read from, whose rows have no names of images."""
    _require_unchanged(Path(file.path), file.sha256)
    frame = read_cells(Path(file.path))
    frame.insert(0, ROW, [f"row {i}" for i in frame.index], allow_duplicates=True)
    return _Opened(frame, Path(file.path), file.sha256, ROW)


def _require_sound(by: Sequence[str], names: Sequence[str], bands: Mapping[str, Sequence[float]]) -> None:
    twice = [name for name in dict.fromkeys(by) if list(by).count(name) > 1]
    if twice:
        raise UsageError("--by must name a column once.", f"named more than once: {some(twice)}")
    for name, edges in bands.items():
        if name not in names:
            raise UsageError(
                "--bands must be of a column that --by names.",
                f"found {name!r}{did_you_mean(name, names)}",
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
