"""A table to train, val and test, or to folds: by groups that nothing tears apart, with a lock beside it."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from panderm.data import duplicates
from panderm.data.columns import Column, find_roles, in_order, read_cells, read_column, whole_numbers
from panderm.data.duplicates import clusters
from panderm.data.examine import Examined, examine_all
from panderm.data.lock import GroupFacts, Lock, LockHead, lock_path
from panderm.data.parts import Parts, Units, count, deal, shortfalls
from panderm.data.rows import images_folder, lesions_of, require_unique_images
from panderm.data.split import METHOD
from panderm.data.stored import MAX_MEGAPIXELS
from panderm.embeddings import open_embeddings
from panderm.errors import PandermWarning, plural, some
from panderm.gate import lookalikes
from panderm.gate.findings import Inspected
from panderm.gate.locking import chain, joined_by, locked_rows, write_both
from panderm.gate.lookalikes import settle
from panderm.gate.splittable import (
    FOLD,
    TEST,
    VAL,
    refuse_bad_rows,
    require_classes,
    require_free_columns,
    require_images,
    require_shares,
    rows_kept,
    target_of,
)
from panderm.gate.twins import Twin, find_twins
from panderm.provenance import Provenance
from panderm.storage import refuse_existing

_DUPLICATES = {
    "same pixels": "equal SHA-256 of the decoded pixels",
    "near": f"correlation of brightness spectra, best of 8 turns and mirrorings, ≥ {duplicates.COARSE} "
    f"whitened and ≥ {duplicates.FINE} whitened twice; where that is in doubt, a second look: at least "
    f"{lookalikes.LEAST_POINTS} points in common, overlap ≥ {lookalikes.LEAST_OVERLAP}, correlation of "
    f"fine structure ≥ {lookalikes.LEAST_CORRELATION}",
}


@dataclass(frozen=True)
class Split:
    """What :func:`split` wrote and found.

    Attributes:
        csv: the table with its split.
        lock: the lock beside it.
        rows: how many it has.
        counts: by split column, part and class.
        groups: how many groups, the largest, and what joined rows into them.
        warnings: what a reader of the numbers should know.
    """

    csv: Path
    lock: Path
    rows: int
    counts: dict[str, dict[str, dict[str, int]]]
    groups: GroupFacts
    warnings: tuple[str, ...]


def split(
    table: Path | str,
    *,
    out: Path | str | None = None,
    images: Path | str | None = None,
    image_column: str = "image",
    label: str | None = None,
    split_column: str = "split",
    patient: str | None = None,
    group: str | None = None,
    test: float | None = None,
    val: float = VAL,
    folds: int | None = None,
    balance: Sequence[str] | None = None,
    keep_test: bool = False,
    embeddings: Path | str | None = None,
    no_images: bool = False,
    skip_bad: bool = False,
    max_megapixels: float = MAX_MEGAPIXELS,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> Split:
    """Split a table by groups: rows joined by patient, by lesion, or by images that are one.

    A group is never torn apart. Within that, every part holds its share of every class, and of every value of
    the columns to balance, as near as the groups allow. The table is copied cell by cell with a ``split``
    column; a lock lies beside the copy, and :func:`panderm.read_table` holds the copy to it from then on.

    Args:
        table: a CSV or Parquet file, as of :func:`panderm.read_table`; it is not changed.
        out: the CSV to write; by default ``x_split.csv`` beside ``x.csv``.
        images: the folder that the image column is relative to; by default the table's own.
        image_column: column with the file name; unique.
        label: column with the class; by default ``label``, else ``binary_label``.
        split_column: the column to write; of the folds, ``split_1`` and so on.
        patient: column that says who is in the picture; by default ``patient_id`` or ``patient``.
        group: column that says which lesion it is; by default ``lesion_id`` or ``lesion``.
        test: share of all rows for test; by default 0.2, with folds none.
        val: share of all rows for val; with folds, in each of them.
        folds: write ``fold`` (1 … K) and ``split_1`` … ``split_K`` too; ``split`` is then train, or test for
            rows held back by ``test``, which are ``held`` in every fold.
        balance: columns whose values every part should hold in the same shares.
        keep_test: rows that are test in the split column now stay test, with all of their group.
        embeddings: ``X.emb`` of these images: crops and free rotations of one photograph are found too.
        no_images: look at no image: groups come from the columns alone, and the lock says so.
        skip_bad: go on where images cannot be read or labels are empty: such rows are split by columns alone.
        max_megapixels: an image of more millions of pixels counts as one that cannot be read.
        seed: another seed, another split; the same rows in any order, the same split.
        overwrite: replace outputs that exist.
        progress: show progress on standard error.

    Raises:
        TableError: rows or columns that cannot be used, all listed.
        UsageError: shares that leave nothing, options that exclude each other.

    Example:
        >>> done = panderm.split("ham.csv", images="images/", label="dx")  # doctest: +SKIP
        >>> done.counts["split"]["test"]["mel"]  # doctest: +SKIP
        196
    """
    started = time.monotonic()
    balance = balance or ()
    source = Path(table)
    target = target_of(source, out)
    require_shares(test, val, folds, keep_test=keep_test)
    require_images(embeddings, no_images=no_images)
    refuse_existing(target, overwrite=overwrite)
    refuse_existing(lock_path(target), overwrite=overwrite)
    frame = read_cells(source)
    present = split_column in frame.columns
    roles = find_roles(
        frame, source, image_column, label, split_column if present else "split", patient, group
    )
    roles["split"] = split_column if present else None
    written = [
        split_column,
        *([FOLD] if folds else []),
        *(f"{split_column}_{k + 1}" for k in range(folds or 0)),
    ]
    require_free_columns(frame, roles, written, balance, source)
    folder = images_folder(source, images)
    rows = frame.index.to_numpy(dtype=np.int64)
    columns = {role: read_column(frame, name) for role, name in roles.items()}
    columns["label"] = whole_numbers(columns["label"])
    require_unique_images(columns["image"], folder, rows, roles["image"])
    require_classes(columns["label"], roles["label"], source)
    opened = None if embeddings is None else open_embeddings(embeddings)
    given = {} if opened is None else {"embeddings": opened.card.identity}
    kept = rows_kept(columns["split"], split_column, source) if keep_test else None

    paths = tuple(folder / (name or "") for name in columns["image"])
    workers = min(8, os.cpu_count() or 1)
    looked: tuple[Examined, ...] = ()
    if not no_images:
        files = examine_all(paths, workers=workers, progress=progress, max_megapixels=max_megapixels)
        looked = tuple(files)
    told = refuse_bad_rows(source, folder, rows, columns, looked, roles, skip_bad=skip_bad)
    inspected = Inspected(source, folder, frame, roles, rows, path=paths, examined=looked, **columns)
    twins: list[Twin] = []
    if looked:
        sure, perhaps = find_twins(inspected, progress=progress)
        twins, beyond = settle(
            *(inspected, sure, perhaps, opened),
            workers=workers,
            max_megapixels=max_megapixels,
            progress=progress,
        )
        if beyond:
            told.append(
                f"{plural(beyond, 'pair')} that may be duplicates, the least alike, got no second look"
            )
    lesion = lesions_of(columns["patient"], columns["group"])
    told += _numbered_within(columns["group"], lesion)
    if left_out := frame.attrs.get("left out"):
        told.append(f"{target.name} is a CSV and lacks {some([f'{k} ({v})' for k, v in left_out.items()])}")
    units = Units(
        image=columns["image"],
        group=clusters(
            len(rows),
            [*_alike(columns["patient"]), *_alike(lesion), *((t.first, t.second) for t in twins)],
        ),
        label=columns["label"],
        others=tuple(read_column(frame, name) for name in balance),
    )
    share = test if test is not None else 0.0 if folds or keep_test else TEST
    parts = deal(units, test=share, val=val, folds=folds, kept=kept, seed=seed)
    told += _fell_short(units, parts, columns, kept, rows, test=share, val=val, folds=folds)
    for sentence in told:
        warnings.warn(sentence, PandermWarning, stacklevel=2)

    named = {split_column + suffix: part for suffix, part in parts.columns.items()}
    classes = in_order({x for x in columns["label"] if x is not None})
    joined = joined_by(columns["patient"], lesion, roles, twins, looked=bool(looked))
    sizes = np.bincount(units.group)
    head = LockHead(
        provenance=Provenance.now(seconds=time.monotonic() - started),
        table=target.name,
        roles={role: name for role, name in roles.items() if role != "split"},
        columns=tuple(named),
        fold=FOLD if folds else None,
        seed=seed,
        options={
            "test": share,
            "val": val,
            "folds": folds,
            "balance": list(balance),
            "keep_test": keep_test,
            "no_images": no_images,
            "skip_bad": skip_bad,
            "max_megapixels": max_megapixels,
        },
        method={"assignment": METHOD, **({} if no_images else _DUPLICATES), **given},
        images_read=not no_images,
        classes=classes,
        counts={name: count(units, part, classes) for name, part in named.items()},
        groups=GroupFacts(
            groups=len(sizes), largest=int(sizes.max()), joined_by=tuple(joined), joined=joined
        ),
    )
    lock = Lock(head, list(locked_rows(rows, columns, classes, units, parts, looked)), chain(twins, rows))
    if parts.fold is not None:
        named[FOLD] = np.array([str(k) if k else "" for k in parts.fold], dtype=object)
    write_both(frame, {name: named[name] for name in written}, target, lock, overwrite=overwrite)
    return Split(target, lock_path(target), len(rows), head.counts, head.groups, tuple(told))


def _numbered_within(group: Column, lesion: Column) -> list[str]:
    if lesion is group:
        return []
    return [
        "several patients have lesions of the same name: patient and lesion together are taken as a lesion"
    ]


def _alike(column: Column) -> Iterator[tuple[int, int]]:
    """Yield each row with the first that has the same value."""
    first: dict[str, int] = {}
    for i, value in enumerate(column):
        if value is not None and first.setdefault(value, i) != i:
            yield first[value], i


def _fell_short(
    units: Units,
    parts: Parts,
    columns: dict[str, Column],
    kept: npt.NDArray[np.bool_] | None,
    rows: npt.NDArray[np.int64],
    *,
    test: float,
    val: float,
    folds: int | None,
) -> list[str]:
    told = []
    first = parts.columns[""]
    if kept is not None:
        joined = rows[(first == "test") & ~kept].tolist()
        if joined:
            told.append(
                f"{plural(len(joined), 'row')} joined test, being of one group with rows of test: "
                f"rows {some(joined)}"
            )

    def short(free: npt.NDArray[np.bool_], part: Column, wanted: dict[str, float]) -> list[str]:
        chosen = Units(units.image[free], units.group[free], units.label[free])
        sizes = np.bincount(chosen.group)
        mine = free & (units.group == int(np.argmax(sizes)))
        owners = set(columns["patient"][mine])
        known = len(owners) == 1 and None not in owners
        whose = f"patient {owners.pop()}" if known else f"rows {some(rows[mine].tolist(), 3)}"
        return shortfalls(chosen, part[free], {p: share for p, share in wanted.items() if share}, whose)

    every = np.ones(len(units), dtype=bool)
    if folds:
        assert parts.fold is not None
        named = np.array([f"fold {k}" for k in parts.fold], dtype=object)
        if test:
            told += short(every, first, {"train": 1 - test, "test": test})
        return told + short(parts.fold > 0, named, {f"fold {k}": 1 / folds for k in range(1, folds + 1)})
    if kept is not None:
        free = first != "test"
        rest = val * len(units) / max(1, int(free.sum()))
        return told + short(free, first, {"train": 1 - rest, "val": rest})
    return told + short(every, first, {"train": 1 - test - val, "val": val, "test": test})
