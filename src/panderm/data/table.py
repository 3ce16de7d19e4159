"""A CSV of images to typed rows with roles: image, label, split, patient, group."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from panderm.data.columns import Column, find_roles, in_order, read_column, read_csv, whole_numbers
from panderm.data.images import inspect_all
from panderm.errors import PandermWarning, TableError, did_you_mean, plural, some
from panderm.provenance import Record
from panderm.storage import sha256_of_file, sha256_of_json

SPLITS = ("train", "val", "test")


class Skipped(Record):
    """A row that was left out: its number as a spreadsheet shows it, its image, and why."""

    row: int
    image: str
    reason: str


class TableCard(Record):
    """What a table is: its file, its roles, its classes in order, and how many of each."""

    name: str
    csv: str
    csv_sha256: str
    images: str
    sha256: str
    rows: int
    roles: dict[str, str | None]
    classes: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    patients: int | None
    groups: int | None
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    note: str | None = None


@dataclass(frozen=True, eq=False)
class Table:
    """Rows with roles; object arrays of n strings, None where a role or a value is absent.

    Attributes:
        row: int (n,), the row as a spreadsheet numbers it (the header is row 1).
        image: the image's name in the CSV, unique.
        path: the absolute path of its file.
        sha256: hex SHA-256 of the file's bytes.
        split: train, val or test.
        label: the class, as a string.
        patient: who is in the picture.
        group: which lesion, or any other unit that must not be torn apart.
        card: the whole table these rows belong to.

    Example:
        >>> table = panderm.read_table("ham_clean.csv", images="images/")  # doctest: +SKIP
        >>> len(table.in_split("test")), table.classes  # doctest: +SKIP
        (1232, ('0', '1', '2', '3', '4', '5', '6'))
    """

    row: npt.NDArray[np.int64]
    image: Column
    path: Column
    sha256: Column
    split: Column
    label: Column
    patient: Column
    group: Column
    card: TableCard

    def __len__(self) -> int:
        return len(self.image)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes in their stated order."""
        return self.card.classes

    def codes(self) -> npt.NDArray[np.int64]:
        """Labels as positions in ``classes``, int64 (n,)."""
        position = {name: i for i, name in enumerate(self.classes)}
        return np.array([position[label] for label in self.label], dtype=np.int64)

    def select(self, chosen: npt.NDArray[Any] | slice) -> Self:
        """Return the chosen rows (boolean mask, positions or slice) under the same card."""
        columns = {f.name: getattr(self, f.name)[chosen] for f in fields(self) if f.name != "card"}
        return replace(self, **columns)

    def in_split(self, name: str) -> Self:
        """Return the rows of one split."""
        return self.select(self.split == name)


def read_table(
    path: Path | str,
    *,
    images: Path | str | None = None,
    image_column: str = "image",
    label: str | None = None,
    split_column: str = "split",
    patient: str | None = None,
    group: str | None = None,
    classes: Sequence[str] | None = None,
    skip_bad: bool = False,
    note: str | None = None,
    progress: bool = True,
) -> Table:
    """Read and check a CSV of images; nothing is checked again later.

    Without options the published contract holds: columns ``image``, ``split`` (train, val, test) and
    ``label`` or ``binary_label``; columns named ``patient_id`` or ``patient``, ``lesion_id`` or
    ``lesion`` are taken as patient and group. Every file is decoded once here, so that a bad one is
    known before any compute.

    Args:
        path: the CSV; comma, semicolon or tab between columns, UTF-8.
        images: the folder that the image column is relative to; by default the CSV's own folder.
        image_column: column with the file name (or an absolute path); unique.
        label: column with the class, strings or integers.
        split_column: column with train, val or test.
        patient: column that says who is in the picture.
        group: column that says which lesion it is.
        classes: all classes, in the order wanted; by default integers ascending, strings A to Z.
            Of two classes the second is the positive one.
        skip_bad: leave out rows whose image cannot be read or whose label is empty, and say so on the card.
        note: a sentence that travels with the table to the report.
        progress: show progress on standard error.

    Returns:
        The rows, in the CSV's order.

    Raises:
        TableError: with every finding of its kind, by row.

    Example:
        >>> table = panderm.read_table("ham_clean.csv", images="images/", group="lesion_id")  # doctest: +SKIP
    """
    source = Path(path)
    frame = read_csv(source)
    roles = find_roles(frame, source, image_column, label, split_column, patient, group)
    folder = _images_folder(source, images)

    columns = {role: read_column(frame, name) for role, name in roles.items()}
    rows = frame.index.to_numpy(dtype=np.int64)
    if roles["label"]:
        columns["label"] = whole_numbers(columns["label"])
    _require_unique_images(columns["image"], folder, rows, roles["image"])
    if roles["split"]:
        _require_known_splits(columns["split"], rows, roles["split"], source)

    paths = [folder / (name or "") for name in columns["image"]]
    facts = list(inspect_all(paths, workers=min(8, os.cpu_count() or 1), progress=progress))
    bad = []
    for i, fact in enumerate(facts):
        if not columns["image"][i]:
            bad.append(Skipped(row=int(rows[i]), image="", reason="no image is named"))
        elif fact.problem:
            reason = fact.problem + (_other_ending(paths[i]) if fact.problem == "no such file" else "")
            bad.append(Skipped(row=int(rows[i]), image=columns["image"][i], reason=reason))
        elif roles["label"] and columns["label"][i] is None:
            bad.append(Skipped(row=int(rows[i]), image=columns["image"][i], reason="no label"))
    keep = ~np.isin(rows, [b.row for b in bad])
    sound = "a readable image and a label" if roles["label"] else "a readable image"
    if not keep.any():
        # Thousands of lines of the same kind would hide what is wrong: most likely the folder.
        more = [f"and {len(bad) - 20:,} more"] if len(bad) > 20 else []
        raise TableError(
            f"a table must have at least one row with {sound}.",
            [
                f"none of {plural(len(rows), 'row')} of {source.name} has:",
                *(_line(b) for b in bad[:20]),
                *more,
            ],
            f"images are looked for in {folder}: name their folder with --images",
        )
    if bad and not skip_bad:
        verb = "does" if len(bad) == 1 else "do"
        raise TableError(
            f"every row must have {sound}.",
            [f"{plural(len(bad), 'row')} of {source.name} {verb} not:", *(_line(b) for b in bad)],
            "mend them, or add --skip-bad to leave these rows out",
        )
    columns = {role: values[keep] for role, values in columns.items()}
    hashes = np.array([fact.sha256 for fact in facts], dtype=object)[keep]
    order = _classes(columns["label"], classes, roles["label"])

    leaks = [
        *_crossing(columns["patient"], columns["split"], "patient"),
        *_crossing(columns["group"], columns["split"], "group"),
    ]
    for leak in leaks:
        warnings.warn(leak, PandermWarning, stacklevel=2)
    card = TableCard(
        name=source.name.split(".")[0],
        csv=str(source.resolve()),
        csv_sha256=sha256_of_file(source),
        images=str(folder),
        sha256=_identity(columns, hashes, order),
        rows=int(keep.sum()),
        roles=roles,
        classes=order,
        counts=_counts(columns["split"], columns["label"], order),
        patients=_distinct(columns["patient"]),
        groups=_distinct(columns["group"]),
        skipped=tuple(bad),
        warnings=tuple(leaks),
        note=note,
    )
    kept_paths = np.array([str(p) for p in paths], dtype=object)[keep]
    return Table(row=rows[keep], path=kept_paths, sha256=hashes, card=card, **columns)


def _images_folder(source: Path, images: Path | str | None) -> Path:
    folder = Path(images).expanduser() if images is not None else source.parent
    if not folder.is_dir():
        raise TableError(
            "the images folder must exist.",
            f"{folder} is {'a file' if folder.exists() else 'not there'}",
            "name the folder that the image column is relative to with --images",
        )
    return folder.resolve()


def _require_unique_images(
    image: Column, folder: Path, rows: npt.NDArray[np.int64], name: str | None
) -> None:
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


def _require_known_splits(split: Column, rows: npt.NDArray[np.int64], name: str | None, source: Path) -> None:
    unknown = sorted({x or "" for x in split} - set(SPLITS))
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


def _other_ending(path: Path) -> str:
    if path.suffix or not path.name:
        return ""
    for ending in (".jpg", ".jpeg", ".png", ".JPG"):
        if path.with_name(path.name + ending).is_file():
            return f"; {path.name}{ending} exists: the column must hold the whole file name"
    return ""


def _line(bad: Skipped) -> str:
    return f"row {bad.row}: {bad.image or '(empty)'}: {bad.reason}"


def _classes(label: Column, stated: Sequence[str] | None, name: str | None) -> tuple[str, ...]:
    present = {x for x in label if x is not None}
    if stated is not None:
        order = tuple(whole_numbers(np.array([str(x) for x in stated], dtype=object)))
        unlisted = sorted(present - set(order))
        if unlisted or len(set(order)) != len(order) or name is None:
            raise TableError(
                "--classes must list every class of the label column, each once.",
                f"not listed: {some(unlisted)}" if unlisted else f"listed: {', '.join(order)}",
            )
        return order
    return in_order(present)


def _crossing(unit: Column, split: Column, role: Literal["patient", "group"]) -> list[str]:
    """Name the patients (or groups) that stand in more than one split, one sentence a pair of splits."""
    members = {name: {u for u, s in zip(unit, split, strict=True) if s == name and u} for name in SPLITS}
    sentences = []
    for i, one in enumerate(SPLITS):
        for other in SPLITS[i + 1 :]:
            both = sorted(members[one] & members[other])
            if both:
                sentences.append(
                    f"a {role} must not be in two splits: {plural(len(both), role)} in both {one} "
                    f"and {other}: {some(both)}. Scores on {other} will look better than they are"
                )
    return sentences


def _counts(split: Column, label: Column, classes: tuple[str, ...]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for name in [s for s in SPLITS if s in set(split)] or [""]:
        here = Counter(label[split == name] if name else label)
        counts[name or "all"] = {c: here[c] for c in classes} if classes else {"": int(here[None])}
    return counts


def _distinct(unit: Column) -> int | None:
    known = {x for x in unit if x is not None}
    return len(known) or None


def _identity(columns: dict[str, Column], hashes: Column, classes: tuple[str, ...]) -> str:
    ordered = [columns[role].tolist() for role in ("image", "split", "label", "patient", "group")]
    return sha256_of_json([list(classes), *ordered, hashes.tolist()])
