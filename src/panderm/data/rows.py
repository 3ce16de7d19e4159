"""What must hold of the rows of a table: images named once, known splits, nothing in two splits."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from panderm.data.cells import Cells, Column, Hashes, cells, keys_of, repeated, texts
from panderm.errors import TableError, did_you_mean, plural, some
from panderm.storage import canonical_json

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


def require_unique_images(
    image: Column | Cells, folder: Path, rows: npt.NDArray[np.int64], name: str | None
) -> None:
    """Raise :class:`TableError` where a file is named by two rows."""

    # One file may have two names: a.jpg, ./a.jpg, and its whole path.
    def file_of(x: str) -> str:
        return os.path.normpath(folder / x)

    image = cells(image)
    named = np.flatnonzero(np.fromiter((bool(x) for x in image), bool, len(image)))
    at = named[repeated(keys_of(file_of(x) for x in image if x))]
    names = image.take(at).strings()
    file = np.array([file_of(x) for x in names], dtype=object)
    times = Counter(file)
    found = {x: names[file == x][0] for x, n in times.items() if n > 1}
    twice = list(found.values())
    if twice:
        where = [f"{found[x]}: rows {some([int(r) for r in rows[at][file == x]])}" for x in list(found)[:5]]
        raise TableError(
            f"every image must be named once in column {name!r}.",
            [f"{plural(len(twice), 'image')} named more than once: {some(twice)}", *where],
            "remove the repeated rows",
        )


def require_known_splits(
    split: Column | Cells, rows: npt.NDArray[np.int64], name: str | None, source: Path
) -> None:
    """Raise :class:`TableError` where a row is in no split, or in one of another name."""
    split = cells(split)
    unknown = sorted({x or "" for x in split.distinct()} - {*SPLITS, HELD})
    if unknown:
        lines = []
        for value in unknown[:5]:
            here = np.fromiter(((x or "") == value for x in split), bool, len(split))
            at = [int(r) for r in rows[here]]
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


def crossing(unit: Column | Cells, split: Column | Cells, role: Literal["patient", "group"]) -> list[str]:
    """Name the patients (or groups) that stand in more than one split, one sentence a pair of splits."""
    return [
        f"a {role} must not be in two splits: {plural(len(both), role)} in both {one} "
        f"and {other}: {some(both)}. Scores on {other} will look better than they are"
        for one, other, both in _in_both(cells(unit), cells(split))
    ]


def crossing_images(image: Column | Cells, sha256: Column | Cells, split: Column | Cells) -> list[str]:
    """Name the files that are in more than one split under several names, byte for byte the same."""
    image, sha256, split = cells(image), cells(sha256), cells(split)
    if isinstance(sha256, Hashes):
        keys, part = sha256.keys(), split.codes()[0]
        at = repeated(keys)
        # Of the files with several names, those that are in several splits.
        of, key = np.unique(keys[at], return_inverse=True)
        first, last = np.full(len(of), 1 << 16), np.full(len(of), -1)
        inside = part[at] >= 0
        np.minimum.at(first, key[inside], part[at][inside])
        np.maximum.at(last, key[inside], part[at][inside])
        at = at[(first < last)[key]]
        image, sha256, split = image.take(at), sha256.take(at), split.take(at)
    names: dict[str | None, list[str]] = defaultdict(list)
    for name, digest in zip(image, sha256, strict=True):
        names[digest].append(str(name))
    return [
        f"an image must not be in two splits: {plural(len(both), 'image')} in both {one} and {other} under "
        f"several names: {some([' = '.join(names[x]) for x in both])}. "
        f"Scores on {other} will look better than they are"
        for one, other, both in _in_both(sha256, split)
    ]


def _in_both(unit: Cells, split: Cells) -> list[tuple[str, str, list[str]]]:
    code, values = unit.codes()
    part, named = split.codes()
    members = {}
    for i, name in enumerate(named):
        members[name] = np.zeros(len(values), dtype=bool)
        members[name][code[(part == i) & (code >= 0)]] = True
    order = [name for name in (*SPLITS, HELD) if name in members]
    pairs = [(one, other) for i, one in enumerate(order) for other in order[i + 1 :]]
    found = [(one, other, np.flatnonzero(members[one] & members[other])) for one, other in pairs]
    return [
        (one, other, sorted(str(x) for x in values.take(both))) for one, other, both in found if len(both)
    ]


def lesions_of(patient: Column, group: Column) -> Column:
    """Return lesions by unique names: patient and lesion, where lesions are numbered within patients.

    So they are taken where three lesions or more, and more than a tenth of those named more than once, stand
    with several patients. Fewer are taken for one lesion, and join its patients: that never leaks.
    """
    return _lesions(cells(patient), cells(group)).strings()


def _lesions(patient: Cells, group: Cells) -> Cells:
    who, people = patient.codes()
    lesion, lesions = group.codes()
    times = np.bincount(lesion[lesion >= 0], minlength=len(lesions))
    pairs = np.unique((lesion * (len(people) + 1) + who)[(lesion >= 0) & (who >= 0)])
    owners = np.bincount(pairs // (len(people) + 1), minlength=len(lesions))
    shared = int((owners > 1).sum())
    if shared < 3 or shared <= int((times > 1).sum()) / 10:
        return group

    def both(person: str | None, name: str | None) -> str | None:
        return name and (f"{person} / {name}" if person else name)

    turns = zip(patient.turns(), group.turns(), strict=True)
    return texts(pa.array(list(map(both, *turn)), pa.string()) for turn in turns)


def described(columns: Mapping[str, Column | Cells], classes: tuple[str, ...]) -> dict[str, Any]:
    """Return what a table's card says of its rows: hash, counts, and what stands in two splits.

    Args:
        columns: image, sha256, split, label, patient and group, of n rows.
        classes: in their order.

    Returns:
        ``sha256``, ``rows``, ``classes``, ``counts``, ``patients``, ``groups``, ``warnings``, as on a card.
    """
    held = {role: cells(column) for role, column in columns.items()}
    split = held["split"]
    lesion = _lesions(held["patient"], held["group"])
    ordered = [held[role] for role in ("image", "split", "label", "patient", "group", "sha256")]
    return {
        "sha256": _sha256(classes, ordered),
        "rows": len(split),
        "classes": classes,
        "counts": _counts(split, held["label"], classes),
        "patients": _distinct(held["patient"]),
        "groups": _distinct(lesion),
        "warnings": (
            *crossing(held["patient"], split, "patient"),
            *crossing(lesion, split, "group"),
            *crossing_images(held["image"], held["sha256"], split),
        ),
    }


def _sha256(classes: tuple[str, ...], columns: list[Cells]) -> str:
    """Return what ``sha256_of_json`` gives of classes and columns, without one text that holds them all."""
    digest = hashlib.sha256(f"[{canonical_json(list(classes))}".encode())
    for column in columns:
        digest.update(b",[")
        for number, turn in enumerate(column.turns()):
            digest.update(("," if number else "").encode() + canonical_json(turn.tolist())[1:-1].encode())
        digest.update(b"]")
    digest.update(b"]")
    return digest.hexdigest()


def _counts(split: Cells, label: Cells, classes: tuple[str, ...]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    times = Counter(zip(split, label, strict=True))
    for name in [s for s in (*SPLITS, HELD) if s in split.distinct()] or [""]:
        here: Counter[str | None] = Counter()
        for (part, one), n in times.items():
            here[one] += n if part == name or not name else 0
        counts[name or "all"] = {c: here[c] for c in classes} if classes else {"": int(here[None])}
    return counts


def _distinct(unit: Cells) -> int | None:
    return len(unit.codes(empty=True)[1]) or None
