"""What must hold of the rows of a table: images named once, known splits, nothing in two splits."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from panderm.data.columns import Column
from panderm.errors import TableError, did_you_mean, plural, some
from panderm.storage import sha256_of_json

SPLITS = ("train", "val", "test")
HELD = "held"
"""In a column of one fold: rows held back for the test that comes after all folds."""


def images_folder(source: Path, images: Path | str | None) -> Path:
    """Return the folder that the image column is relative to; by default the table's own."""
    folder = Path(images).expanduser() if images is not None else source.parent
    if not folder.is_dir():
        raise TableError(
            "the images folder must exist.",
            f"{folder} is {'a file' if folder.exists() else 'not there'}",
            "name the folder that the image column is relative to with --images",
        )
    return folder.resolve()


def require_unique_images(image: Column, folder: Path, rows: npt.NDArray[np.int64], name: str | None) -> None:
    """Raise :class:`TableError` where a file is named by two rows."""
    # One file may have two names: a.jpg, ./a.jpg, and its whole path.
    file = np.array([x and os.path.normpath(folder / x) for x in image], dtype=object)
    times = Counter(x for x in file if x)
    found = {x: image[file == x][0] for x, n in times.items() if n > 1}
    twice = list(found.values())
    if twice:
        where = [f"{found[x]}: rows {some([int(r) for r in rows[file == x]])}" for x in list(found)[:5]]
        raise TableError(
            f"every image must be named once in column {name!r}.",
            [f"{plural(len(twice), 'image')} named more than once: {some(twice)}", *where],
            "remove the repeated rows",
        )


def require_known_splits(split: Column, rows: npt.NDArray[np.int64], name: str | None, source: Path) -> None:
    """Raise :class:`TableError` where a row is in no split, or in one of another name."""
    unknown = sorted({x or "" for x in split} - {*SPLITS, HELD})
    if unknown:
        lines = []
        for value in unknown[:5]:
            at = [int(r) for r in rows[(split == value) if value else (split == None)]]  # noqa: E711
            lines.append(f"{value!r} in {plural(len(at), 'row')} ({some(at)}){did_you_mean(value, SPLITS)}")
        raise TableError(
            f"a split must be one of {', '.join(SPLITS)}.",
            [f"column {name!r} of {source.name} has:", *lines],
            "correct the column, or name another with --split-column",
        )


def other_ending(path: Path) -> str:
    """Say which file is there instead, where a name lacks its ending only."""
    if path.suffix or not path.name:
        return ""
    for ending in (".jpg", ".jpeg", ".png", ".JPG"):
        if path.with_name(path.name + ending).is_file():
            return f"; {path.name}{ending} exists: the column must hold the whole file name"
    return ""


def crossing(unit: Column, split: Column, role: Literal["patient", "group"]) -> list[str]:
    """Name the patients (or groups) that stand in more than one split, one sentence a pair of splits."""
    return [
        f"a {role} must not be in two splits: {plural(len(both), role)} in both {one} "
        f"and {other}: {some(both)}. Scores on {other} will look better than they are"
        for one, other, both in _in_both(unit, split)
    ]


def crossing_images(image: Column, sha256: Column, split: Column) -> list[str]:
    """Name the files that are in more than one split under several names, byte for byte the same."""
    names: dict[str, list[str]] = defaultdict(list)
    for name, digest in zip(image, sha256, strict=True):
        names[digest].append(name)
    return [
        f"an image must not be in two splits: {plural(len(both), 'image')} in both {one} and {other} under "
        f"several names: {some([' = '.join(names[x]) for x in both])}. "
        f"Scores on {other} will look better than they are"
        for one, other, both in _in_both(sha256, split)
    ]


def _in_both(unit: Column, split: Column) -> list[tuple[str, str, list[str]]]:
    members: dict[str, set[str]] = defaultdict(set)
    for value, name in zip(unit, split, strict=True):
        if value and name:
            members[name].add(value)
    order = [name for name in (*SPLITS, HELD) if name in members]
    pairs = [(one, other) for i, one in enumerate(order) for other in order[i + 1 :]]
    found = [(one, other, sorted(members[one] & members[other])) for one, other in pairs]
    return [(one, other, both) for one, other, both in found if both]


def lesions_of(patient: Column, group: Column) -> Column:
    """Return lesions by unique names: patient and lesion, where lesions are numbered within patients.

    So they are taken where three lesions or more, and more than a tenth of those named more than once, stand
    with several patients. Fewer are taken for one lesion, and join its patients: that never leaks.
    """
    owners: dict[str, list[str | None]] = defaultdict(list)
    for who, lesion in zip(patient, group, strict=True):
        if lesion:
            owners[lesion].append(who)
    repeated = [set(whose) - {None} for whose in owners.values() if len(whose) > 1]
    shared = sum(len(whose) > 1 for whose in repeated)
    if shared < 3 or shared <= len(repeated) / 10:
        return group
    both = [
        lesion and (f"{who} / {lesion}" if who else lesion)
        for who, lesion in zip(patient, group, strict=True)
    ]
    return np.array(both, dtype=object)


def described(columns: dict[str, Column], classes: tuple[str, ...]) -> dict[str, Any]:
    """Return what a table's card says of its rows: hash, counts, and what stands in two splits.

    Args:
        columns: image, sha256, split, label, patient and group, of n rows.
        classes: in their order.

    Returns:
        ``sha256``, ``rows``, ``classes``, ``counts``, ``patients``, ``groups``, ``warnings``, as on a card.
    """
    split = columns["split"]
    lesion = lesions_of(columns["patient"], columns["group"])
    ordered = [columns[role].tolist() for role in ("image", "split", "label", "patient", "group", "sha256")]
    return {
        "sha256": sha256_of_json([list(classes), *ordered]),
        "rows": len(split),
        "classes": classes,
        "counts": _counts(split, columns["label"], classes),
        "patients": _distinct(columns["patient"]),
        "groups": _distinct(lesion),
        "warnings": (
            *crossing(columns["patient"], split, "patient"),
            *crossing(lesion, split, "group"),
            *crossing_images(columns["image"], columns["sha256"], split),
        ),
    }


def _counts(split: Column, label: Column, classes: tuple[str, ...]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for name in [s for s in (*SPLITS, HELD) if s in set(split)] or [""]:
        here = Counter(label[split == name] if name else label)
        counts[name or "all"] = {c: here[c] for c in classes} if classes else {"": int(here[None])}
    return counts


def _distinct(unit: Column) -> int | None:
    known = {x for x in unit if x is not None}
    return len(known) or None
