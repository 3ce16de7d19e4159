"""A user's download: one walk over it, then tables by name or by their columns and images by id."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd

from panderm.data.columns import read_csv
from panderm.errors import TableError, plural, some

# Where an id stands for several files, the first of these is the photograph.
IMAGE_ENDINGS = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".heic", ".heif", ".dcm"),
)
_TABLE_ENDINGS = (".csv", ".tab", ".tsv", ".txt", "")
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar", ".hdf5", ".h5")


class Folder:
    """Everything below a folder, found once.

    Args:
        root: the folder a user unpacked the official files into, in whatever arrangement.

    Attributes:
        root: the folder.
        read: the tables that were read, relative to the folder.
        notes: what was unusual about finding them, a sentence each.
        images: how many image files there are.

    Raises:
        TableError: there is no such folder, or nothing in it.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            found = "is a file" if self.root.exists() else "is not there"
            raise TableError(
                "the folder of the official download must exist.",
                f"{self.root} {found}",
                "unpack the download into a folder, and name it with --from",
            )
        self.read: list[str] = []
        self.notes: list[str] = []
        self.images = 0
        self._image: dict[str, str] = {}  # the stem in small letters -> the file
        self._more: dict[str, list[str]] = {}  # further files of the same stem
        self._others: list[str] = []  # files that are no images
        self._unnamed = 0  # files whose names are not text
        self._walk()
        if not self._image and not self._others:
            raise TableError(
                "the folder of the official download must hold something.",
                f"{self.root} is empty",
                "unpack the download into it",
            )

    def _walk(self) -> None:
        seen: set[tuple[int, int]] = set()
        closed: list[str] = []
        for here, folders, files in os.walk(
            self.root, followlinks=True, onerror=lambda error: closed.append(str(error.filename))
        ):
            place = Path(here).stat()
            if (place.st_dev, place.st_ino) in seen:  # a link back up would lead round and round
                folders.clear()
                continue
            seen.add((place.st_dev, place.st_ino))
            folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
            inside = os.path.relpath(here, self.root).replace(os.sep, "/")
            prefix = "" if inside == "." else f"{inside}/"
            for file in sorted(files):
                if not file.startswith("."):
                    self._take(prefix + file)
        if closed:
            self.notes.append(f"{plural(len(closed), 'folder')} could not be looked into: {some(closed)}")
        if self._unnamed:
            n = plural(self._unnamed, "file")
            self.notes.append(f"{n} left aside: names that are not UTF-8 cannot stand in a table")

    def _take(self, file: str) -> None:
        if not _is_utf8(file):
            self._unnamed += 1
            return
        stem, ending = _parts(file)
        if ending.lower() not in IMAGE_ENDINGS:
            self._others.append(file)
            return
        self.images += 1
        key = stem.rpartition("/")[2].casefold()
        if self._image.setdefault(key, file) != file:
            self._more.setdefault(key, []).append(file)

    def image(self, name: str) -> str | None:
        """Return the file of an image, relative to the folder, or None.

        ``name`` may be an id, a file name with any ending, or a path; letter case does not matter. Where
        several files have the name, one whose folders fit the path comes first, then one with the same
        ending, then JPEG before PNG before others, then the one that lies least deep.
        """
        asked = name.replace("\\", "/").strip().strip("/")
        tail = asked.casefold()
        stem, ending = _parts(tail)
        known = ending in IMAGE_ENDINGS
        key = (stem if known else tail).rsplit("/", 1)[-1]
        first = self._image.get(key)
        if first is None:
            return None
        if key not in self._more:
            return first
        exact = tail if known else None
        return min([first, *self._more[key]], key=lambda file: _rank(file, exact, stem if known else tail))

    def times(self, name: str) -> int:
        """Return how many files have the stem of ``name``."""
        stem, ending = _parts(name.rsplit("/", 1)[-1].casefold())
        key = stem if ending in IMAGE_ENDINGS else stem + ending
        return (key in self._image) + len(self._more.get(key, ()))

    def images_below(self, part: str = "") -> list[str]:
        """Return the image files below every folder called ``part`` (all of them for ""), A to Z.

        ``part`` may have several levels, ``"train/BCC"``, and ``*``; letter case does not matter.
        """
        every = [*self._image.values(), *(file for files in self._more.values() for file in files)]
        if not part:
            return sorted(every)
        pattern = f"*/{part.casefold().strip('/')}/*"
        return sorted(file for file in every if fnmatchcase(f"/{file.casefold()}", pattern))

    def packed(self) -> list[str]:
        """Return the archives that lie there: what is in them is not looked at."""
        return [file for file in self._others if file.casefold().endswith(_ARCHIVES)]

    def find(self, *names: str) -> str | None:
        """Return a file that is no image, relative to the folder: by the first name that is there, or None.

        Names may have ``*``. Of several files of one name the one that lies least deep is taken.
        """
        for name in names:
            pattern = name.casefold()
            fitting = [f for f in self._others if fnmatchcase(f.rsplit("/", 1)[-1].casefold(), pattern)]
            if fitting:
                return min(fitting, key=lambda f: (f.count("/"), f))
        return None

    def table(
        self,
        *names: str,
        columns: tuple[str, ...] = (),
        known_by_columns: bool = False,
        without: tuple[str, ...] = (),
    ) -> pd.DataFrame:
        """Return an official table, cells as strings.

        Args:
            names: what the file may be called, the likeliest first; ``*`` stands for anything.
            columns: columns it must have.
            known_by_columns: take the one table that has these columns where no file has the name.
            without: columns by which a table of another kind is told apart then.

        Raises:
            TableError: it is not there; the message says what was looked for, where, and what is there.
        """
        file = self.find(*names)
        if file is None and known_by_columns:
            file = self._by_columns(columns, without)
        if file is None:
            raise self._lacks(names, columns if known_by_columns else ())
        return self._read(file, columns)

    def optional_table(self, *names: str, columns: tuple[str, ...] = ()) -> pd.DataFrame | None:
        """Return an official table by its name, None where it is not there; see :meth:`table`."""
        file = self.find(*names)
        return None if file is None else self._read(file, columns)

    def _read(self, file: str, columns: tuple[str, ...]) -> pd.DataFrame:
        frame = read_csv(self.root / file)
        absent = [c for c in columns if c not in frame.columns]
        if absent:
            raise TableError(
                f"{file} must have the columns of the official table.",
                [f"not there: {some(absent)}", f"it has: {some(list(frame.columns), 12)}"],
                "download it again from the address that panderm data list shows",
            )
        if file not in self.read:
            self.read.append(file)
        return frame

    def _lacks(self, names: tuple[str, ...], columns: tuple[str, ...]) -> TableError:
        tables = [f for f in self._others if _ending(f) in _TABLE_ENDINGS]
        found = [f"looked for {' or '.join(names)} below {self.root}"]
        if columns:
            found.append(f"and for any table with the columns {', '.join(columns)}")
        there = f"there: {plural(self.images, 'image')}, {plural(len(tables), 'table')}"
        found.append(there + (f" ({some(tables)})" if tables else ""))
        hint = "download it from the address that panderm data list shows"
        if self.packed():
            hint = f"{some(self.packed())} must be unpacked first"
        return TableError("the official table must be there.", found, hint)

    def _by_columns(self, columns: tuple[str, ...], without: tuple[str, ...]) -> str | None:
        fitting = []
        for file in self._others:
            if _ending(file) in _TABLE_ENDINGS and file not in self.read:
                header = self._header(file)
                if set(columns) <= header and not set(without) & header:
                    fitting.append(file)
        if len(fitting) > 1:
            raise TableError(
                "it must be clear which file is the official table.",
                f"{plural(len(fitting), 'file')} below {self.root} could be: {some(fitting)}",
                "leave one of them there, under its official name",
            )
        if fitting:
            self.notes.append(f"{fitting[0]} was taken for the official table by its columns")
        return fitting[0] if fitting else None

    def _header(self, file: str) -> set[str]:
        try:
            with (self.root / file).open(encoding="utf-8-sig") as opened:
                line = opened.readline(100_000).strip()
        except (OSError, UnicodeDecodeError):
            return set()
        separator = max(",;\t", key=line.count)
        return {cell.strip().strip('"') for cell in line.split(separator)}


def _ending(file: str) -> str:
    return _parts(file)[1].lower()


def _parts(name: str) -> tuple[str, str]:
    """Return a name without its ending, and the ending: ``("train/a", ".jpg")``."""
    stem, dot, ending = name.rpartition(".")
    return (stem, dot + ending) if stem and "/" not in ending else (name, "")


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _rank(file: str, exact: str | None, stem: str) -> tuple[bool, bool, int, int, str]:
    low = file.casefold()
    bare, ending = _parts(low)
    elsewhere = "/" in stem and not f"/{bare}".endswith(f"/{stem}")
    other_ending = exact is not None and not exact.endswith(ending)
    return elsewhere, other_ending, IMAGE_ENDINGS.index(ending), file.count("/"), file
