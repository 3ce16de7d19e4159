"""What must hold before a table can be split, or one sentence that says what does not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from panderm.data.columns import Column, read_column
from panderm.data.examine import Examined
from panderm.data.rows import other_ending
from panderm.errors import TableError, UsageError, did_you_mean, plural, some

TEST, VAL = 0.2, 0.1
FOLD = "fold"
_MOST_VALUES, _MOST_CLASSES = 100, 1000


def target_of(source: Path, out: Path | str | None) -> Path:
    """Return the CSV to write: never the table itself."""
    target = source.with_name(f"{source.stem}_split.csv") if out is None else Path(out)
    if target.suffix.lower() in (".parquet", ".json"):
        raise UsageError("--out must be a CSV file.", f"found {target}")
    if os.path.realpath(target) == os.path.realpath(source):
        raise UsageError(
            "the table that is split is never changed.", f"--out is {source}", "name another --out"
        )
    return target


def require_shares(test: float | None, val: float, folds: int | None, *, keep_test: bool) -> None:
    """Refuse shares that leave nothing to train on, or nothing beside it."""
    if keep_test and test is not None:
        raise UsageError(
            "--keep-test keeps the test rows there are; --test cannot choose others.",
            f"found --keep-test and --test {test:g}",
            "leave one of them out",
        )
    if folds is not None and folds < 2:
        raise UsageError("--folds must be 2 or more.", f"found {folds}")
    share = test if test is not None else 0.0 if folds or keep_test else TEST
    each = (1 - share) / folds if folds else 0.0
    whole = all(0 <= x < 1 for x in (share, val)) and share + val + each < 1
    if not whole or not (share or val or folds or keep_test):
        raise UsageError(
            "shares must be 0 or more and leave rows to train on, and rows beside them.",
            f"found --test {share:g} and --val {val:g}" + (f" with --folds {folds}" if folds else ""),
            "for example --test 0.2 --val 0.1",
        )


def require_images(embeddings: Path | str | None, *, no_images: bool) -> None:
    """Refuse to look for crops where no image is looked at."""
    if embeddings is not None and no_images:
        raise UsageError(
            "--embeddings only says which images to look at.",
            "found --no-images beside it",
            "leave one of them out",
        )


def require_free_columns(
    frame: pd.DataFrame,
    roles: dict[str, str | None],
    written: Sequence[str],
    balance: Sequence[str],
    source: Path,
) -> None:
    """Refuse columns to balance or to write that are not there, there twice, or read as well."""
    for name in balance:
        if name not in frame.columns:
            raise TableError(
                f"column {name!r} (balance) must exist{did_you_mean(name, frame.columns)}",
                f"{source.name} has: {', '.join(frame.columns)}",
            )
    for name in [*written, *balance]:
        if list(frame.columns).count(name) > 1:
            raise TableError(f"column {name!r} must be there once.", f"{source.name} has it twice")
    read = {name: role for role, name in roles.items() if role != "split"} | dict.fromkeys(balance, "balance")
    if len(set(written)) < len(written):
        raise UsageError(f"column {FOLD!r} holds the fold.", f"found --split-column {FOLD}", "choose another")
    for name in balance:
        values = set(read_column(frame, name))
        if len(values) > _MOST_VALUES:
            raise TableError(
                "a column to balance must have few values.",
                f"column {name!r} of {source.name} has {len(values):,}",
                f"bring them into at most {_MOST_VALUES} ranges or kinds first",
            )
    for name in written:
        if name in read:
            raise UsageError(
                f"column {name!r} is to be written, and cannot be read as well.",
                f"it is the {read[name]} column of {source.name}",
                "name another --split-column, or rename it",
            )


def require_classes(label: Column, name: str | None, source: Path) -> None:
    """Refuse a label that names rows rather than classes."""
    number = len(set(label))
    if number > _MOST_CLASSES:
        raise TableError(
            "a label must have rows enough of each class to be split.",
            f"column {name!r} of {source.name} has {number:,} values in {len(label):,} rows",
            "name the column with the class with --label",
        )


def rows_kept(split: Column, name: str, source: Path) -> npt.NDArray[np.bool_]:
    """Return which rows are test now, bool (n,)."""
    kept = np.array([x == "test" for x in split], dtype=bool)
    if not kept.any():
        raise TableError(
            "--keep-test needs rows that are test.",
            f"column {name!r} of {source.name} has: {some(sorted({x or '(empty)' for x in split}))}",
            "name another with --split-column, or leave --keep-test out",
        )
    return kept


def refuse_bad_rows(
    source: Path,
    folder: Path,
    rows: npt.NDArray[np.int64],
    columns: dict[str, Column],
    looked: Sequence[Examined],
    roles: dict[str, str | None],
    *,
    skip_bad: bool,
) -> list[str]:
    """Refuse rows without an image or a label, or say how many there are; say where no label is."""
    bad = []
    for i, row in enumerate(rows.tolist()):
        name = columns["image"][i]
        problem = looked[i].problem if looked and name else None
        if not name:
            bad.append(f"row {row}: (empty): no image is named")
        elif problem:
            ending = other_ending(folder / name) if problem == "no such file" else ""
            bad.append(f"row {row}: {name}: {problem}{ending}")
        elif roles["label"] and columns["label"][i] is None:
            bad.append(f"row {row}: {name}: no label")
    unnamed = any(not name for name in columns["image"])
    if bad and (not skip_bad or unnamed or (looked and all(e.problem for e in looked))):
        more = [f"and {len(bad) - 20:,} more"] if len(bad) > 20 else []
        most = "every row must have a readable image" if looked else "every row must have an image's name"
        verb = "does" if len(bad) == 1 else "do"
        raise TableError(
            most + (" and a label." if roles["label"] else "."),
            [f"{plural(len(bad), 'row')} of {len(rows):,} of {source.name} {verb} not:", *bad[:20], *more],
            f"images are looked for in {folder}: name their folder with --images, or mend the rows; "
            "with --skip-bad, or --no-images for all, rows are split by their columns alone",
        )
    told = [] if roles["label"] else ["no column holds a class: no part is balanced by it; see --label"]
    if bad:
        told.append(
            f"{plural(len(bad), 'row')} of {source.name} split without image or label: {some(bad, 3)}"
        )
    return told
