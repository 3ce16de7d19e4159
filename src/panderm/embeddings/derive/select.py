"""Some rows of an embeddings folder as a folder of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from panderm.data.columns import read_cells, read_column
from panderm.embeddings.derive.folder import Taken, opened, write_taken
from panderm.embeddings.derive.own_table import own_table
from panderm.embeddings.opened import Embeddings
from panderm.errors import TableError, UsageError, did_you_mean, plural, some
from panderm.storage import refuse_existing


def select_embeddings(
    embeddings: Embeddings | Path | str,
    *,
    out: Path | str,
    where: str | Sequence[str] | None = None,
    rows: Path | str | None = None,
    image_column: str = "image",
    skip_missing: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> Embeddings:
    """Write some rows of an embeddings folder, with their vectors and tokens, as a folder of its own.

    No image is encoded. The new folder's card counts its own rows, and names the folder they came from; its
    table, with every column of the CSV that was embedded where that is still as it was, lies in it as
    ``table.csv``. Its classes are those of the whole, or, where labels are chosen by ``where``, those chosen.

    Args:
        embeddings: the folder, or opened embeddings.
        out: the folder to write, ``Y.emb``.
        where: ``"column=value"`` or ``"column=value,value"``: rows whose column holds one of the values;
            several such conditions must all hold. A column is image, split, label, patient, group, or any
            other of the CSV that was embedded. No value (``"patient="``) means an empty cell.
        rows: a CSV (or ``.parquet`` file) with a column of image names: these images only.
        image_column: that column's name.
        skip_missing: allow names in it that are not among the embeddings.
        overwrite: replace a folder of embeddings that exists.
        progress: show progress on standard error.

    Returns:
        The chosen embeddings, opened from ``out``.

    Raises:
        UsageError: nothing asked for, no such column, no such value, or no row that meets all conditions;
            ``image_column`` or ``skip_missing`` without ``rows``.
        TableError: the file of ``rows`` cannot be read, or names images that are not there.
        ArtifactError: ``embeddings`` cannot be opened, or ``out`` exists.

    Example:
        >>> test = panderm.select_embeddings(
        ...     "ham.emb", out="test.emb", where=["split=test", "label=mel,nv"]
        ... )  # doctest: +SKIP
    """
    target = Path(out)
    conditions = [where] if isinstance(where, str) else list(where or ())
    refuse_existing(target, overwrite=overwrite)
    if not conditions and rows is None:
        raise UsageError(
            "it must be said which rows are wanted.",
            "found neither --where nor --rows",
            "--where split=test, or --rows ids.csv",
        )
    if rows is None and (skip_missing or image_column != "image"):
        found = [f"--image-column {image_column}"] * (image_column != "image")
        found += ["--skip-missing"] * skip_missing
        raise UsageError(
            "--image-column and --skip-missing need --rows: they speak of its file.",
            f"found {' and '.join(found)}, and no --rows",
            "--rows ids.csv; columns of the table are chosen by with --where",
        )
    emb = opened(embeddings, target)
    frame, roles = own_table([emb.rows])
    keep = np.ones(len(emb), dtype=bool)
    classes = list(emb.rows.classes)
    for condition in conditions:
        name, values = _read(condition, frame, roles)
        cells = frame[roles.get(name) or name]
        keep &= cells.isin(values).to_numpy()
        if name in ("label", roles["label"]):
            classes = [c for c in classes if c in values]
    chosen = list(conditions)
    if rows is not None:
        named, told = _named_in(Path(rows), emb, image_column, skip_missing=skip_missing)
        keep &= named
        chosen.append(told)
    if not keep.any():
        raise UsageError(
            "at least one row must be chosen.",
            f"none of {plural(len(emb), 'row')} meets: {' and '.join(chosen)}",
        )
    taken = Taken(emb, np.flatnonzero(keep), " and ".join(chosen))
    return write_taken(
        [taken], target, classes=classes, lock=emb.card.table.lock, overwrite=overwrite, progress=progress
    )


def _read(condition: str, frame: pd.DataFrame, roles: dict[str, str | None]) -> tuple[str, list[str]]:
    """Return a condition's column and values, each known to be there."""
    name, equals, asked = (part.strip() for part in condition.partition("="))
    column = roles.get(name) or (name if name in frame.columns else None)
    if not equals or column is None:
        names = list(dict.fromkeys([role for role, own in roles.items() if own] + list(frame.columns)))
        found = f"there is no column {name!r}{did_you_mean(name, names)}" if equals else "found no = in it"
        raise UsageError(
            "a condition must be a column and its values.",
            [f"--where {condition}: {found}", f"columns: {', '.join(names)}"],
            "--where label=mel,nv",
        )
    there = set(frame[column])
    # A value may hold a comma itself.
    values = [asked] if asked in there else [value.strip() for value in asked.split(",")]
    for value in values:
        if value not in there:
            raise UsageError(
                "a condition must name values that are there.",
                [
                    f"--where {condition}: no row has {value!r}{did_you_mean(value, there)}",
                    f"column {column!r} has: {some(sorted(there - {''}), 20)}",
                ],
            )
    return name, values


def _named_in(
    source: Path, emb: Embeddings, image_column: str, *, skip_missing: bool
) -> tuple[npt.NDArray[np.bool_], str]:
    """Return which rows a file names (n,), and the choice in words."""
    frame = read_cells(source)
    if list(frame.columns).count(image_column) != 1:
        often = (
            "once" if image_column in frame.columns else f"there{did_you_mean(image_column, frame.columns)}"
        )
        raise TableError(
            f"column {image_column!r} must be {often}",
            f"{source.name} has: {', '.join(frame.columns)}",
            "name the column of image names with --image-column",
        )
    names = [name for name in read_column(frame, image_column) if name is not None]
    have = set(emb.rows.image)
    missing = [name for name in dict.fromkeys(names) if name not in have]
    if missing and not skip_missing:
        raise TableError(
            "every image named must be among the embeddings.",
            f"{plural(len(missing), 'image')} of {source.name} not there: {some(missing)}"
            + did_you_mean(missing[0], have),
            "correct the names, or add --skip-missing to leave them out",
        )
    wanted = set(names)
    keep = np.array([name in wanted for name in emb.rows.image], dtype=bool)
    return keep, f"{plural(int(keep.sum()), 'image')} named in {source.name}"
