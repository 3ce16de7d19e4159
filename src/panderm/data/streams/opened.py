"""One path, pattern or list of them to one source of images."""

from __future__ import annotations

import glob
import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from panderm.data.streams.folder import ENDINGS, FolderSource, walk
from panderm.data.streams.listed import LISTS, ListedSource
from panderm.data.streams.shards import ShardSource
from panderm.data.streams.source import ImageSource, join
from panderm.errors import DataError, UsageError, some

_PACKED = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".rar")
_BRACES = re.compile(r"\{([^{}]*)\}")


def open_source(
    path: Path | str | Sequence[Path | str],
    *,
    images: Path | str | None = None,
    image_column: str = "image",
    split: str | Sequence[str] | None = None,
    split_column: str = "split",
    patient: str | None = None,
    progress: bool = True,
) -> ImageSource:
    """Open images that are to be read one by one, in any order: nothing is decoded here.

    A folder is all images below it (folders of masks aside) and all tar files; a CSV, Parquet file or plain
    ``.txt`` list is the images that it names; a ``.tar`` is a WebDataset shard. Patterns are opened up as a
    shell does: ``tiles-{000..127}.tar``, ``site?/*.csv``. Of several sources the images follow each other.

    Args:
        path: one of these, or several.
        images: the folder that the names of a table or list are relative to; by default its own.
        image_column: column with the file name.
        split: which rows of a table; by default all. Folders and shards have none.
        split_column: column with the split.
        patient: column that says who is in the picture; by default ``patient_id`` or ``patient``.
        progress: show progress on standard error while shards are read.

    Raises:
        TableError: a table that is not there, has no such column, or names no image.
        DataError: a folder, pattern or shard without images.
        UsageError: a path that is none of these.

    Example:
        >>> source = open_source("ham_clean.csv", images="images/", split="train")  # doctest: +SKIP
        >>> len(source), source.name(0), len(source.read(0))  # doctest: +SKIP
        (8208, 'ISIC_0027419.jpg', 14022)
    """
    paths = [path] if isinstance(path, str | Path) else list(path)
    parts: list[ImageSource] = []
    for pattern in paths:
        files = expand(str(pattern))
        shards = [file for file in files if file.suffix.lower() == ".tar" and not file.is_dir()]
        for file in files:
            if file in shards:
                if file == shards[0]:
                    parts.append(ShardSource(shards, where=str(pattern), progress=progress))
            elif file.is_dir():
                parts.append(_below(file, progress=progress))
            elif file.suffix.lower() in LISTS:
                parts.append(
                    ListedSource(
                        file,
                        images=images,
                        image_column=image_column,
                        split=split,
                        split_column=split_column,
                        patient=patient,
                    )
                )
            else:
                raise _no_source(file)
    return join(parts)


def expand(pattern: str) -> list[Path]:
    """Return the files that a path or pattern names: braces opened up, then ``*``, ``?`` and ``[…]``.

    Raises:
        UsageError: an address of far storage.
        DataError: a pattern that no file fits.

    Example:
        >>> [file.name for file in expand("tiles-{08..10}.tar")]
        ['tiles-08.tar', 'tiles-09.tar', 'tiles-10.tar']
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", pattern):
        raise UsageError(
            "images must be on this machine, or on storage that it sees as a folder.", f"found {pattern}"
        )
    home = str(Path(pattern).expanduser())
    if Path(home).exists():
        return [Path(home)]
    found: list[Path] = []
    for one in _braces(home):
        if any(mark in one for mark in "*?["):
            hits = sorted(glob.glob(one, recursive=True))  # noqa: PTH207
            if not hits:
                raise DataError("a pattern must fit at least one file.", f"none is called {one}")
            found += [Path(hit) for hit in hits]
        else:
            found.append(Path(one))
    return found


def _braces(pattern: str) -> list[str]:
    """Return what a pattern stands for: ``{a,b}`` and ``{000..127}``."""
    pieces = _BRACES.split(pattern)
    choices = [[piece] if k % 2 == 0 else _choices(piece) for k, piece in enumerate(pieces)]
    return ["".join(one) for one in itertools.product(*choices)]


def _choices(inside: str) -> list[str]:
    ends = re.fullmatch(r"(\d+)\.\.(\d+)", inside)
    if ends is None:
        return inside.split(",") if "," in inside else [f"{{{inside}}}"]
    first, last = int(ends[1]), int(ends[2])
    step = 1 if last >= first else -1
    return [str(number).zfill(len(ends[1])) for number in range(first, last + step, step)]


def _below(folder: Path, *, progress: bool) -> ImageSource:
    found = walk(folder)
    parts: list[ImageSource] = []
    if len(found.images):
        parts.append(FolderSource(folder, found))
    if found.shards:
        parts.append(
            ShardSource([folder / name for name in found.shards], where=str(folder), progress=progress)
        )
    if not parts:
        raise DataError(
            "a folder must hold images, or tar files of images.",
            [f"{folder} holds none", *found.notes],
            f"images are known by their endings: {some(ENDINGS, 8)}",
        )
    return join(parts)


def _no_source(file: Path) -> DataError | UsageError:
    if not file.exists():
        return DataError("a source of images must exist.", f"found no file or folder {file}")
    ending = file.suffix.lower()
    if ending in _PACKED:
        return UsageError(
            "shards must be plain tar files: an image is read where it lies.",
            f"{file} is compressed",
            "unpack it (gunzip, or into a folder); images are compressed already",
        )
    hint = "name the folder that it is in" if ending in ENDINGS else None
    return UsageError(
        "images come from a folder, a CSV, a Parquet file, a .txt list or .tar shards.",
        f"found the file {file}",
        hint,
    )
