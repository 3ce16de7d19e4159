"""Folders, files and tables of new images → one table of rows without labels, every file looked at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from panderm.cluster.addresses import as_address, is_address
from panderm.data.cells import Cells, nothing, texts
from panderm.data.columns import cells_in_turn
from panderm.data.images import ImageFacts, inspect_all
from panderm.data.rows import images_folder
from panderm.data.sources.folder import IMAGE_ENDINGS
from panderm.data.stored import MAX_MEGAPIXELS
from panderm.data.table import Skipped, Table, check_rows
from panderm.data.unopened import Rows
from panderm.errors import TableError, UsageError, did_you_mean, plural, some
from panderm.storage import sha256_of_file

TABLE_ENDINGS = (".csv", ".tsv", ".txt", ".parquet")
_ROLES = ("image", "split", "label", "patient", "group")
_SHOWN = 20
_TURN = 1 << 14


@dataclass(frozen=True)
class Found:
    """What was asked for.

    Attributes:
        table: the images that can be read; image is the name as it was asked for.
        ignored: files of folders that are no images.
        twice: files that were asked for more than once, and are predicted once.
    """

    table: Table
    ignored: int
    twice: int


@dataclass
class _Walk:
    names: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    ignored: int = 0
    twice: int = 0


def read_sources(
    sources: Sequence[Path | str] | Path | str,
    *,
    images: Path | str | None = None,
    image_column: str = "image",
    skip_bad: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
    progress: bool = True,
) -> Found:
    """Find images, and see that each file is there and whole as far as its header and end tell.

    Of one folder a name is the path below it, of a table its cell; of several sources a folder's images are
    named as they would be typed. Links to folders are not followed below a folder that is named.

    Args:
        sources: folders, with all below them, in the order of their names; image files; CSV or Parquet
            files with a column of names.
        images: the folder that the names of a table are relative to; by default the table's own.
        image_column: that column.
        skip_bad: leave out files that cannot be read; they are on the table's card.
        max_megapixels: an image of more millions of pixels counts as bad.
        progress: show progress on standard error.

    Raises:
        UsageError: a source that is not there, or ``images`` without a table.
        TableError: no image, or files that cannot be read.
    """
    found = existing_sources(sources, images=images)
    walk = _walk(found, images, image_column)
    first = found[0]
    name = first.name if len(found) == 1 else f"{plural(len(found), 'source')}"
    if not walk.names:
        raise TableError(
            "there must be an image to predict.",
            f"none in {some([str(one) for one in found])}"
            + (f"; {plural(walk.ignored, 'other file')}" if walk.ignored else ""),
            f"images end in {some(IMAGE_ENDINGS, 20)}",
        )
    n = len(walk.names)
    columns: dict[str, Cells] = {role: nothing(n) for role in _ROLES} | {"image": _column(walk.names)}
    rows = Rows(
        name=name,
        csv=str(first.resolve()) if len(found) == 1 else "",
        csv_sha256=sha256_of_file(first) if len(found) == 1 and first.is_file() else "",
        images=str(images or (first if first.is_dir() else first.parent)),
        row=np.array(walk.rows, dtype=np.int64),
        path=_column(walk.paths),
        columns=columns,
        roles={role: image_column if role == "image" else None for role in _ROLES},
    )
    facts = inspect_all(
        walk.paths,
        workers=min(8, os.cpu_count() or 1),
        progress=progress,
        max_megapixels=max_megapixels,
        decode=False,
    )
    bad: list[Skipped] = []
    told = _noting(facts, walk, bad)
    try:
        table = check_rows(rows, told, skip_bad=True, max_megapixels=max_megapixels)
    except TableError:
        if len(bad) < n:
            raise
        where = f"images are looked for in {rows.images}" if any(map(_is_table, found)) else None
        raise refusal(bad, n, hint=where and f"{where}: name their folder with --images") from None
    if bad and not skip_bad:
        raise refusal(bad, n)
    return Found(table, walk.ignored, walk.twice)


def existing_sources(
    sources: Sequence[Path | str] | Path | str, *, images: Path | str | None = None
) -> list[Path]:
    """Return sources that are there, before anything below them is looked at. Arguments as above.

    Raises:
        UsageError: one is not, or ``images`` without a table.
    """
    asked = [sources] if isinstance(sources, Path | str) else list(sources)
    if not asked:
        raise UsageError("images must be named.", "found none", "a folder, image files, or a CSV")
    found = [_existing(one) for one in asked]
    if images is not None and not any(_is_table(one) for one in found):
        raise UsageError(
            "--images is the folder of a table's images.",
            f"found --images {images}, and no table among {some([str(one) for one in asked])}",
            "leave --images out: a folder is named as it is",
        )
    return found


def refusal(
    bad: Sequence[Skipped], n: int, *, kept: str | None = None, hint: str | None = None
) -> TableError:
    """Return the error that names images that cannot be read.

    Args:
        bad: these images.
        n: of how many.
        kept: what became of the others.
        hint: what to do; by default to mend them or leave them out.
    """
    lines = [f"{one.image or f'row {one.row}'}: {one.reason}" for one in bad[:_SHOWN]]
    more = [f"and {len(bad) - _SHOWN:,} more"] if len(bad) > _SHOWN else []
    return TableError(
        "every image must be readable.",
        [f"{len(bad):,} of {plural(n, 'image')} {'is' if len(bad) == 1 else 'are'} not:", *lines, *more],
        hint or f"mend them, or add --skip-bad to leave them out{f' ({kept})' if kept else ''}",
    )


def left_out(found: Found, bad: dict[int, str], *, skip_bad: bool, made: str | None) -> tuple[Skipped, ...]:
    """Return the images that are left out, or name those that only decoding showed to be damaged.

    Args:
        found: what was asked for.
        bad: why they cannot be decoded, by their place in the table.
        skip_bad: whether they may be left out.
        made: what has been made of the others and is kept, ``predicted``; None where nothing is kept.

    Raises:
        TableError: they may not, or nothing is left.
    """
    table = found.table
    image, row = table.cells("image"), table.row
    shown = [Skipped(row=int(row[i]), image=image[i] or "", reason=bad[i]) for i in sorted(bad)]
    before = table.card.skipped
    if shown and (not skip_bad or len(shown) == len(table)):
        n, others = len(table) + len(before), len(table) - len(shown)
        what = f"{plural(others, 'other image')} {made} and kept: it then ends at once"
        raise refusal((*before, *shown), n, kept=what if made and others else None)
    return tuple(sorted((*before, *shown), key=lambda one: one.row))


def passed_over(found: Found) -> list[str]:
    """Return what a card says of files that were not predicted, or asked for twice."""
    told = []
    if found.ignored:
        what = plural(
            found.ignored, "file that is no image by its name", "files that are none by their names"
        )
        told.append(f"passed over in the folders: {what}")
    if found.twice:
        told.append(f"{plural(found.twice, 'file was', 'files were')} asked for twice: predicted once")
    return told


def _noting(facts: Iterable[ImageFacts], walk: _Walk, bad: list[Skipped]) -> Iterator[ImageFacts]:
    for name, row, fact in zip(walk.names, walk.rows, facts, strict=True):
        if fact.problem:
            bad.append(Skipped(row=row, image=name, reason=fact.problem))
        yield fact


def _existing(source: Path | str) -> Path:
    if is_address(source):
        raise UsageError(
            "images must be on this machine's disks.",
            f"found {as_address(source)}",
            "copy them here with that storage's own tool",
        )
    path = Path(source).expanduser()
    if not path.exists():
        near = ""
        if path.parent.is_dir():
            near = did_you_mean(path.name, [one.name for one in path.parent.iterdir()])
        raise UsageError("images must be folders, files or a CSV.", f"found no {path}{near}")
    return path


def _is_table(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in TABLE_ENDINGS


def _walk(sources: Sequence[Path], images: Path | str | None, image_column: str) -> _Walk:
    walk, files = _Walk(), set[str]()
    alone = len(sources) == 1
    seen: dict[str, str] = {}
    for source in sources:
        if source.is_dir():
            pairs = _in_folder(source, walk, prefix="" if alone else f"{source.as_posix().rstrip('/')}/")
        elif _is_table(source):
            pairs = _in_table(source, images, image_column)
        else:
            pairs = iter([(source.name if alone else source.as_posix(), str(source.absolute()), 0)])
        for name, path, row in pairs:
            file = os.path.normpath(path)
            if file in files:
                walk.twice += 1
                continue
            if seen.setdefault(name, file) != file:
                raise TableError(
                    "every image must have a name of its own.",
                    [f"{name} is", f"{seen[name]}", f"and {file}"],
                    "predict them one source after the other",
                )
            files.add(file)
            walk.names.append(name)
            walk.paths.append(file)
            walk.rows.append(row or len(walk.names))
    return walk


def _in_folder(folder: Path, walk: _Walk, *, prefix: str) -> Iterator[tuple[str, str, int]]:
    root = folder.absolute()
    for here, below, files in os.walk(root):
        below[:] = sorted(one for one in below if not one.startswith("."))
        for file in sorted(files):
            path = Path(here) / file
            if file.startswith(".") or path.suffix.lower() not in IMAGE_ENDINGS or not _is_text(str(path)):
                walk.ignored += 1
                continue
            yield prefix + path.relative_to(root).as_posix(), str(path), 0


def _is_text(name: str) -> bool:
    """Say whether a file's name is text: on some systems it may be any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _in_table(table: Path, images: Path | str | None, column: str) -> Iterator[tuple[str, str, int]]:
    folder = images_folder(table, images)
    for frame in cells_in_turn(table):
        if column not in frame.columns:
            raise TableError(
                f"column {column!r} must exist{did_you_mean(column, list(frame.columns))}",
                f"{table.name} has: {', '.join(map(str, frame.columns))}",
                "name the column with the images' file names: --image-column",
            )
        for row, cell in zip(frame.index, frame[column].astype(str).str.strip(), strict=True):
            if not cell:
                raise TableError("every row must name an image.", f"row {row} of {table.name} names none")
            yield cell, str(folder / cell), int(row)


def _column(names: Sequence[str]) -> Cells:
    turns = (pa.array(names[i : i + _TURN], pa.string()) for i in range(0, len(names), _TURN))
    return texts(turns, repeat=False)
