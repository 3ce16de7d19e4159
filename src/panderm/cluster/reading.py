"""What a run on Ray is given: a table, a list of files, or Parquet that holds the images themselves."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby, islice
from pathlib import Path, PurePosixPath
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import pandas as pd

from panderm.cluster.addresses import (
    OutOfReach,
    as_address,
    beside,
    files_in,
    is_address,
    open_file,
    read_content,
)
from panderm.data.cells import Cells, Made, texts
from panderm.data.columns import cells_in_turn, cells_of, find_roles
from panderm.data.stored import ImageError
from panderm.data.table import Rows, cells_of_roles, read_rows
from panderm.errors import ArtifactError, TableError
from panderm.storage import sha256_of_file, sha256_of_json

# Files that a task reads at once, and that wait for its decoder at most: a far storage is slow to answer.
_READERS = 16
_AHEAD = 32
_LINES = 1 << 14  # of a list of files, at a time


class TableOptions(TypedDict, total=False):
    """The options of :func:`panderm.read_table` that say what stands where."""

    images: Path | str | None
    image_column: str
    label: str | None
    split_column: str
    patient: str | None
    group: str | None


@dataclass(frozen=True)
class Given:
    """The rows to be embedded, and where their images' bytes are.

    Attributes:
        rows: as of :func:`panderm.data.table.read_rows`; ``path`` may hold addresses.
        bytes_in: the Parquet column (or field of a column, ``image.bytes``) with the images themselves;
            ``path`` is then the Parquet file, ``#`` and the row in it. None where each image is a file.
    """

    rows: Rows
    bytes_in: str | None = None


def read_given(path: Path | str, options: TableOptions) -> Given:
    """Read rows, not images: of a CSV or Parquet table, a list of files (``.txt``), Parquet with images.

    Raises:
        TableError: as :func:`panderm.read_table`.
        ArtifactError: a storage that does not answer.

    Example:
        >>> given = read_given("s3://bucket/tiles/", {"image_column": "image"})  # doctest: +SKIP
    """
    place = as_address(path)
    ending = PurePosixPath(place).suffix.lower()
    files = files_in(place, (".parquet",)) if ending not in (".txt", ".csv", ".tsv") else None
    if files is not None and not files:
        raise TableError("a folder of images must hold Parquet files.", f"{place} has none")
    column = options.get("image_column", "image")
    if files or ending == ".parquet":
        held = _bytes_in((files or [place])[0], column)
        if held is not None:
            return _with_images(place, files or [place], held, options)
        if files:
            raise TableError(
                f"column {column!r} of Parquet files in a folder must hold images.",
                f"in {files[0]} it holds none",
                "name the column with --image-column, or give one table instead of a folder",
            )
    images = options.get("images")
    folder = None if images is None else as_address(images)
    if ending != ".txt" and not is_address(place) and not (folder and is_address(folder)):
        return Given(read_rows(place, **options))
    folder = folder or (place.rpartition("/")[0] if is_address(place) else str(Path(place).parent.resolve()))
    with _here(place) as here:
        digest = sha256_of_file(here)
        frames = _listed(here, place, column) if ending == ".txt" else cells_in_turn(here)
        return Given(_rows(frames, place, digest, folder, options))


def _rows(
    frames: Iterator[pd.DataFrame],
    place: str,
    digest: str,
    folder: str,
    options: TableOptions,
    paths: Cells | None = None,
) -> Rows:
    source, first = Path(place), next(frames)
    roles = find_roles(
        first,
        source,
        options.get("image_column", "image"),
        options.get("label"),
        options.get("split_column", "split"),
        options.get("patient"),
        options.get("group"),
    )
    columns, number = cells_of_roles(chain([first], frames), roles, Path(folder), source)
    if paths is None:
        paths = Made(columns["image"], partial(_beside, folder))
    return Rows(
        name=source.name,
        csv=place if is_address(place) else str(source.resolve()),
        csv_sha256=digest,
        images=folder,
        row=number,
        path=paths,
        columns=columns,
        roles=roles,
    )


def _beside(folder: str, name: str | None) -> str:
    return beside(folder, name or "")


@contextlib.contextmanager
def _here(place: str) -> Iterator[Path]:
    """Yield a table's file on this machine: itself, or a copy for a while."""
    if not is_address(place):
        if not Path(place).is_file():
            raise TableError("the table must exist.", f"found no file {place}")
        yield Path(place)
        return
    try:
        content = read_content(place)
    except ImageError as error:
        raise TableError("the table must exist.", f"{place}: {error.reason}") from None
    except OutOfReach as error:
        raise _unreached(place, str(error)) from None
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / PurePosixPath(place).name
        copy.write_bytes(content)
        yield copy


def _listed(here: Path, place: str, column: str) -> Iterator[pd.DataFrame]:
    """Yield a list of files as a table of one column, numbered as its lines are, some rows at a time."""
    found = False
    try:
        with here.open(encoding="utf-8-sig") as file:
            lines = enumerate(file, start=1)
            named = ((number, name) for number, line in lines if (name := line.strip()))
            while some := dict(islice(named, _LINES)):
                frame = pd.DataFrame({column: list(some.values())}, index=list(some), dtype=object)
                frame.attrs["separator"] = "\n"
                found = True
                yield frame
    except UnicodeDecodeError:
        raise TableError("a list of files must be UTF-8 text.", f"{place} is not") from None
    if not found:
        raise TableError("a list of files must name at least one.", f"{place} is empty")


def _bytes_in(file: str, column: str) -> str | None:
    """Return the column, or the field of it, that holds bytes; None where it holds names."""
    import pyarrow as pa

    schema = _parquet(file).schema_arrow
    if column not in schema.names:
        return None
    kind = schema.field(column).type
    if _is_bytes(kind):
        return column
    if (
        pa.types.is_struct(kind)
        and kind.get_field_index("bytes") >= 0
        and _is_bytes(kind.field("bytes").type)
    ):
        return f"{column}.bytes"
    return None


def _is_bytes(kind: Any) -> bool:
    return str(kind) in ("binary", "large_binary", "binary_view") or str(kind).startswith("fixed_size_binary")


def _parquet(file: str) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(open_file(file))
    except FileNotFoundError:
        raise TableError("the table must exist.", f"found no file {file}") from None
    except OutOfReach as error:
        raise _unreached(file, str(error)) from None
    except (OSError, pa.ArrowException) as error:
        raise TableError("a table must be a CSV or Parquet file.", f"{file}: {error}") from None


def _with_images(place: str, files: list[str], held: str, options: TableOptions) -> Given:
    """Read what stands beside images in Parquet files; the images stay where they are.

    An image is called as its ``path`` says, where all have one and no two the same; else by its file and row.
    """
    import pyarrow as pa

    column = options.get("image_column", "image")
    tables, paths, facts = [], [], []
    for file in files:
        parquet = _parquet(file)
        size = parquet.metadata
        facts.append([file[len(place) :], size.num_rows, size.serialized_size])
        names = [f.name for f in parquet.schema_arrow if not _is_bytes(f.type) and f.name != column]
        field = f"{column}.path"
        named = held != column and parquet.schema_arrow.field(column).type.get_field_index("path") >= 0
        table = parquet.read(columns=[*names, *([field] if named else [])])
        own = pa.nulls(size.num_rows, pa.string())
        if named:
            own = pa.compute.struct_field(table[column].combine_chunks(), "path").cast(pa.string())
        tables.append(table.select(names).append_column(column, own) if names else pa.table({column: own}))
        paths.append(pa.array([f"{file}#{row}" for row in range(size.num_rows)], pa.string()))
    whole = pa.concat_tables(tables, promote_options="permissive")
    own_names = whole[column]
    if own_names.null_count or len(own_names.unique()) < len(own_names):
        start = (
            len(place.rstrip("/")) + 1
            if len(files) > 1 or files[0] != place
            else len(place) - len(Path(place).name)
        )
        names_of = pa.chunked_array([pa.compute.utf8_slice_codeunits(some, start) for some in paths])
        whole = whole.set_column(whole.column_names.index(column), column, names_of)
    frames = iter([cells_of(whole, place)])
    path = texts(paths, repeat=False)
    return Given(_rows(frames, place, sha256_of_json(facts), place, options, path), held)


def contents(paths: Sequence[str], bytes_in: str | None) -> Iterator[bytes | ImageError]:
    """Yield the bytes of images in the order of their paths, read ahead; of a bad one, why it is bad.

    Raises:
        ArtifactError: the storage of the images does not answer.
    """
    if bytes_in is not None:
        yield from _from_parquet(paths, bytes_in)
        return
    lost = 0
    for path, found in zip(paths, _ahead(_read, paths), strict=True):
        if isinstance(found, OutOfReach):
            # One file that is refused is a bad file; a storage that refuses all of them is gone.
            lost += 1
            if lost == min(len(paths), _READERS):
                raise _unreached(path, str(found))
            yield ImageError(path, f"cannot be read ({found})")
        else:
            lost = -len(paths) if lost <= 0 else lost
            yield found


def _read(path: str) -> bytes | ImageError | OutOfReach:
    try:
        return read_content(path)
    except (ImageError, OutOfReach) as error:
        return error


def _ahead(
    function: Callable[[str], bytes | ImageError | OutOfReach], items: Sequence[str]
) -> Iterator[bytes | ImageError | OutOfReach]:
    """Yield results in order; threads are at most so many items ahead of who takes them."""
    pool = ThreadPoolExecutor(_READERS)
    try:
        waiting: list[Future[bytes | ImageError | OutOfReach]] = []
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > _AHEAD:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _from_parquet(paths: Sequence[str], column: str) -> Iterator[bytes | ImageError]:
    """Yield cells of a column; each row group is read once, a piece at a time."""
    places = [path.rpartition("#") for path in paths]
    for file, here in groupby(places, key=lambda place: place[0]):
        rows = np.array([int(row) for _, _, row in here], dtype=np.int64)
        parquet = _parquet(file)
        yield from _cells(parquet, file, rows, column)


def _cells(parquet: Any, file: str, rows: npt.NDArray[np.int64], column: str) -> Iterator[bytes | ImageError]:
    start, wanted = 0, iter(rows.tolist())
    row = next(wanted, None)
    for group in range(parquet.num_row_groups):
        stop = start + parquet.metadata.row_group(group).num_rows
        if row is not None and row < stop:
            at = start
            for batch in parquet.iter_batches(_AHEAD, row_groups=[group], columns=[column.partition(".")[0]]):
                cells = batch.column(0)
                while row is not None and row < at + len(cells):
                    yield _cell(cells[row - at].as_py(), file, row)
                    row = next(wanted, None)
                at += len(cells)
        start = stop


def _cell(cell: Any, file: str, row: int) -> bytes | ImageError:
    """Return the bytes in a cell, or of the file that stands in their place."""
    held, path = (cell["bytes"], cell.get("path")) if isinstance(cell, dict) else (cell, None)
    if held is None and path is not None:
        read = _read(beside(file.rpartition("/")[0], path))
        return ImageError(path, f"cannot be read ({read})") if isinstance(read, OutOfReach) else read
    return (
        bytes(held)
        if held
        else ImageError(f"{file}#{row}", "an empty cell" if held is None else "an empty file")
    )


def _unreached(place: str, why: str) -> ArtifactError:
    return ArtifactError(
        "the storage of images must answer.",
        f"{place}: {why}",
        "what was finished is kept; run the same command again once it can be reached",
    )
