"""Pictures that lie inside a table, as in Parquet files and Hugging Face exports, written out as files."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from panderm.data.layouts.arrow_files import (
    Features,
    count_rows,
    features_of,
    find_parts,
    read_rows,
    require_same_columns,
)
from panderm.data.layouts.layout import Found, printable, with_splits
from panderm.data.layouts.safe_names import SafeNames, ending_of
from panderm.errors import TableError, plural, some
from panderm.progress import Progress

_IMAGE_NAMES = ("image", "img", "picture", "photo", "file")
_ORIGINAL = "original_name"
_LONGEST_CELL, _LONGEST_NAME = 2000, 100


class Pictures:
    """The tables of a folder, opened: columns are known, and nothing is written yet.

    Args:
        root: a Parquet file, a folder of them, or a folder that ``save_to_disk`` wrote.

    Attributes:
        parts: its files.
        features: what its columns hold.
        image: the column whose pictures are the images.
        rows: how many rows, None where only reading tells.

    Raises:
        TableError: no such files, files that are damaged or do not belong together, or no pictures in them.
    """

    def __init__(self, root: Path | str) -> None:
        self.parts = find_parts(root)
        schema = require_same_columns(self.parts)
        self.features: Features = features_of(schema, self.parts[0].path.parent)
        if not self.features.images:
            raise TableError(
                "a column must hold pictures: a file's bytes, or bytes and path as Hugging Face's Image has.",
                f"{self.parts[0].path.name} has: {some(schema.names, 12)}",
                "a table of file names is read as it is: panderm check TABLE --images FOLDER",
            )
        images = self.features.images
        self.image = next((name for name in _IMAGE_NAMES if name in images), images[0])
        self.rows = count_rows(self.parts)
        self._columns = _columns([*images, *self.features.cells], self.image)

    def write(self, folder: Path, *, below: str, progress: bool = True) -> Found:
        """Write every picture as a file, byte for byte, and return the rows.

        Args:
            folder: an empty folder; nothing is written outside it, whatever names the table holds.
            below: how the rows are to name it, relative to their own table.
            progress: show progress on standard error.

        Returns:
            Rows with ``image``, every plain column, class names for class numbers, and ``split``.
        """
        told, folders = _Told(), SafeNames()
        writers: dict[str, _Writer] = {}
        for name in self.features.images:
            inside = None if name == self.image else folders.name(name, "", len(writers))
            writers[name] = _Writer(folder, below, inside)
        rows: list[dict[str, str]] = []
        splits: list[str] = []
        columns = [*self.features.images, *self.features.cells]
        with Progress(self.rows, "writing images", "images", shown=progress) as bar:
            for part in self.parts:
                for row in read_rows(part, columns):
                    rows.append(self._row(row, len(rows), writers, told))
                    splits.append(part.split)
                    bar.advance()
        if not rows:
            raise TableError("a table must have at least one row.", f"{self.parts[0].path.name} has none")
        table = pd.DataFrame(rows, dtype=str)
        notes = list(told.notes)
        if self.features.left_out:
            notes.append(f"columns of lists or the like are left out: {some(self.features.left_out)}")
        words = list(table["split"]) if "split" in table else splits
        found, more = with_splits(words)
        notes += more
        if found is not None:
            table["split"] = found
        elif "split" in table:
            table = table.rename(columns={"split": "split_as_found"})
        return Found(table, tuple(notes), tuple(told.findings()))

    def _row(
        self, row: dict[str, Any], number: int, writers: dict[str, _Writer], told: _Told
    ) -> dict[str, str]:
        cells = {"image": ""}
        for name, writer in writers.items():
            cells[self._columns[name]] = writer.write(row[name], number, told)
            if name == self.image and writer.path:
                cells[_ORIGINAL] = writer.path
        for name in self.features.cells:
            cells[self._columns[name]] = _cell(row[name], self.features.names.get(name), name, told)
        return cells


def _columns(names: list[str], image: str) -> dict[str, str]:
    """Return the column of our table that each column of theirs becomes, each a name of its own."""
    given = {image: "image"}
    taken = {"image", _ORIGINAL}
    for name in names:
        if name != image:
            plain = " ".join(printable(name).split())[:_LONGEST_NAME] or "column"
            if plain in taken:
                plain += "_as_found"
            while plain in taken:
                plain += "_"
            given[name] = plain
            taken.add(plain)
    return given


class _Told:
    """What is to be told of the rows, counted as they are read."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.empty: list[int] = []
        self.paths: list[int] = []
        self.unknown: list[int] = []
        self.numbers: Counter[str] = Counter()

    def findings(self) -> list[str]:
        found = []
        if self.empty:
            found.append(f"{plural(len(self.empty), 'row')} without a picture: {_rows(self.empty)}")
        if self.paths:
            n = plural(len(self.paths), "row")
            found.append(
                f"{n} with a path instead of a picture, which is not followed: {_rows(self.paths)}; "
                "export it again with the pictures inside"
            )
        if self.unknown:
            n = plural(len(self.unknown), "file")
            found.append(f"{n} of no kind that is known, written as .bin: {_rows(self.unknown)}")
        for name, times in self.numbers.items():
            n = plural(times, "row")
            found.append(f"column {printable(name)}: {n} with a class number without a name, left empty")
        return found


class _Writer:
    """Writes the pictures of one column, those of a second column into a folder of its own."""

    def __init__(self, folder: Path, below: str, inside: str | None) -> None:
        self._names = SafeNames()
        self._first = inside is None
        self._folder = folder / (inside or "")
        self._below = f"{below}/{inside}" if inside else below
        self._folder.mkdir(exist_ok=self._first)
        self.path = ""

    def write(self, picture: object, number: int, told: _Told) -> str:
        if isinstance(picture, dict):
            content, path = picture.get("bytes"), picture.get("path")
        else:
            content, path = (None, picture) if isinstance(picture, str) else (picture, None)
        self.path = printable(path)[:_LONGEST_CELL] if isinstance(path, str) else ""
        if not isinstance(content, bytes) or not content:
            if self._first:
                (told.paths if path else told.empty).append(number)
            return ""
        ending = ending_of(content)
        if ending is None:
            told.unknown.append(number)
        name = self._names.name(path if isinstance(path, str) else None, ending or ".bin", number)
        with (self._folder / name).open("xb") as file:  # never over another
            file.write(content)
        return f"{self._below}/{name}"


def _cell(value: Any, names: tuple[str, ...] | None, column: str, told: _Told) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if names is not None:
        if value == -1:  # datasets' own word for no label
            return ""
        if not 0 <= value < len(names):
            told.numbers[column] += 1
            return ""
        return printable(names[value])
    return printable(str(value))[:_LONGEST_CELL]


def _rows(numbers: list[int]) -> str:
    return some([f"row {n + 2}" for n in numbers])
