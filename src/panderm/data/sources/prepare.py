"""From an official download to our table, with every count compared to the published one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from panderm.data.columns import whole_numbers
from panderm.data.sources.folder import IMAGE_ENDINGS, Folder
from panderm.data.sources.known import named
from panderm.data.sources.source import Count, Prepared, Source
from panderm.data.table import SPLITS
from panderm.errors import TableError, plural, some
from panderm.progress import Progress
from panderm.storage import new_file, refuse_existing

_OURS = (
    *("image", "label", "label_name", "split", "patient_id", "lesion_id", "mask"),
    *("age", "sex", "site", "tone", "dx_confirm_type", "source", "licence"),
)
_NOT_KNOWN = {"unknown", "nan", "none", "na", "n/a"}


@dataclass(frozen=True)
class Compared:
    """A published count beside what is there: in the official table, and of that with its file on disk."""

    of: str
    published: tuple[Count, ...]
    in_table: int
    on_disk: int
    here: bool

    @property
    def agrees(self) -> bool | None:
        """Whether the table has one of the published numbers; None where that cannot be said."""
        sure = [count.n for count in self.published if count.verified]
        return self.in_table in sure if sure and self.here else None


@dataclass(frozen=True)
class Preparation:
    """What became of an official download.

    Attributes:
        source: the dataset.
        csv: the table that was written.
        images: the folder its image column is relative to.
        rows: how many rows were written.
        split: whether the official split is in it.
        counts: published counts beside what was found.
        missing: ids in the official table without a file; their rows are in the table unless ``skipped``.
        missing_masks: names of masks without a file.
        skipped: whether the rows of missing images were left out.
        unlabelled: rows without a label.
        unmapped: labels that the publication does not list, and how many rows each.
        unused: folders with image files that the table does not name, and how many each.
        read: the official tables that were read.
        notes: what a user should know, a sentence each.
    """

    source: Source
    csv: Path
    images: Path
    rows: int
    split: bool
    counts: tuple[Compared, ...]
    missing: tuple[str, ...]
    missing_masks: tuple[str, ...]
    skipped: bool
    unlabelled: int
    unmapped: dict[str, int]
    unused: dict[str, int]
    read: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def findings(self) -> list[str]:
        """What is not as published, a sentence each; empty where all is well."""
        found = []
        for one in self.counts:
            if one.agrees is False:
                said = " or ".join(f"{c.n:,} ({c.where})" for c in one.published if c.verified)
                found.append(f"{one.of}: published {said}, found {one.in_table:,}")
        if self.missing and not self.skipped:
            verb = "is" if len(self.missing) == 1 else "are"
            found.append(
                f"{plural(len(self.missing), 'image')} of the official table {verb} not below "
                f"{self.images}: {some(self.missing)}"
            )
        if self.missing_masks:
            masks = plural(len(self.missing_masks), "mask")
            found.append(f"{masks} not there: {some(self.missing_masks)}")
        if self.unlabelled == self.rows and self.source.classes:
            found.append("not one row has a label: is the official table as it was downloaded?")
        if self.unmapped:
            told = ", ".join(f"{name} ({n:,})" for name, n in self.unmapped.items())
            found.append(f"labels that were not published for this dataset, kept as they are: {told}")
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON would have it."""
        return {
            "name": self.source.name,
            "csv": str(self.csv),
            "images": str(self.images),
            "rows": self.rows,
            "split": self.split,
            "counts": [
                {
                    "of": one.of,
                    "published": [
                        {"n": c.n, "where": c.where, "verified": c.verified} for c in one.published
                    ],
                    "in_table": one.in_table,
                    "on_disk": one.on_disk,
                    "here": one.here,
                    "agrees": one.agrees,
                }
                for one in self.counts
            ],
            "missing": list(self.missing),
            "missing_masks": list(self.missing_masks),
            "skipped": self.skipped,
            "unlabelled": self.unlabelled,
            "unmapped": self.unmapped,
            "unused": self.unused,
            "read": list(self.read),
            "notes": list(self.notes),
            "licence": self.source.licence,
            "non_commercial": self.source.non_commercial,
            "citation": self.source.citation,
            "findings": self.findings,
        }


def prepare(
    name: str,
    folder: Path | str,
    *,
    out: Path | str,
    skip_missing: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> Preparation:
    """Turn the official files of a public dataset into a table that every verb reads.

    Nothing is downloaded and no image is opened. Rows keep the order of the official table.

    Args:
        name: one of those that ``panderm data list`` shows.
        folder: where the download was unpacked, in whatever arrangement.
        out: the CSV to write; its image column is relative to ``folder``.
        skip_missing: leave out rows whose image is not there. By default they stay, as a finding, so that
            nothing goes missing in silence.
        overwrite: replace a table that exists.
        progress: show progress on standard error.

    Returns:
        What was written and what differs from the publication.

    Raises:
        UsageError: no dataset of this name.
        TableError: an official table is not there or is not one; the message says what was looked for.

    Example:
        >>> done = panderm.prepare("ham10000", "downloads/ham", out="ham.csv")  # doctest: +SKIP
        >>> done.findings  # doctest: +SKIP
        []
    """
    source, csv = named(name), Path(out)
    refuse_existing(csv, overwrite=overwrite)
    with Progress(4, f"preparing {name}", "steps", shown=progress) as bar:
        below = Folder(folder)
        bar.advance()
        prepared = source.read(below)
        bar.advance()
        rows, missing, masks = _joined(prepared, below)
        present = rows.pop("present").to_numpy(dtype=bool)
        counts = _compare(source, rows, present)
        rows = _named(rows, source, below)
        if skip_missing:
            _require_some(present, below)
            rows = rows[present]
        bar.advance()
        _write(rows, csv, overwrite=overwrite)
        bar.advance()
    labels = Counter(rows["label"]) if "label" in rows else Counter({"": len(rows)})
    known = {short for short, _ in source.classes}
    return Preparation(
        source=source,
        csv=csv,
        images=below.root,
        rows=len(rows),
        split="split" in rows,
        counts=counts,
        missing=tuple(missing),
        missing_masks=tuple(masks),
        skipped=skip_missing,
        unlabelled=labels.pop("", 0),
        unmapped={label: n for label, n in sorted(labels.items()) if known and label not in known},
        unused=_unused(rows, below),
        read=tuple(below.read),
        notes=(*prepared.notes, *below.notes),
    )


def _require_some(present: npt.NDArray[np.bool_], below: Folder) -> None:
    if not present.any():
        raise TableError(
            "at least one image of the official table must be there.",
            f"none of {plural(len(present), 'image')} is below {below.root}, which holds "
            f"{plural(below.images, 'image file')}",
            "unpack the images of the dataset into that folder",
        )


def _joined(prepared: Prepared, below: Folder) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Return rows whose image and mask are files below the folder; and the names that have none."""
    rows = prepared.rows.reset_index(drop=True)
    asked = [str(name).strip() for name in rows["image"]]
    files = [below.image(name) for name in asked]
    # A whole path leaves no choice.
    twice = sorted({n for n, f in zip(asked, files, strict=True) if n != f and below.times(n) > 1})
    if twice:
        n = plural(len(twice), "image")
        below.notes.append(f"{n} found in several folders or formats, of which one is taken: {some(twice)}")
    _require_once(asked, files, below)
    missing = [name for name, file in zip(asked, files, strict=True) if file is None]
    if missing and below.packed():
        below.notes.append(f"{some(below.packed())}: packed, and not looked into")
    rows["image"] = [file or _guessed(name) for name, file in zip(asked, files, strict=True)]
    rows["present"] = [file is not None for file in files]
    no_mask: list[str] = []
    if "mask" in rows:
        wanted = [str(name).strip() for name in rows["mask"]]
        masks = [below.image(name) if name else None for name in wanted]
        if any(masks):
            no_mask = [n for n, mask in zip(wanted, masks, strict=True) if n and mask is None]
            rows["mask"] = [mask or "" for mask in masks]
        else:
            rows = rows.drop(columns="mask")
            below.notes.append("no masks are there: the table has no mask column")
    return rows, missing, no_mask


def _require_once(asked: Sequence[str], files: Sequence[str | None], below: Folder) -> None:
    times = Counter(file or name for name, file in zip(asked, files, strict=True))
    repeated = [name for name, n in times.items() if n > 1]
    if repeated:
        raise TableError(
            "an official table must name every image once.",
            f"{plural(len(repeated), 'image')} of {' and '.join(below.read) or below.root} named more "
            f"than once: {some(repeated)}",
            "download the table again: this one has been changed",
        )


def _guessed(name: str) -> str:
    return name if name.lower().endswith(IMAGE_ENDINGS) else f"{name}.jpg"


def _named(rows: pd.DataFrame, source: Source, below: Folder) -> pd.DataFrame:
    """Return the rows with our columns first: names of classes, source and licence filled in, all tidy."""
    rows = rows.copy()
    if "split" in rows and rows["split"].nunique() == 1:
        only = rows.pop("split").iloc[0]
        below.notes.append(f"only the {only} part is here: no split column; panderm split makes one")
    if "label" in rows:
        long = dict(source.classes)
        rows["label_name"] = [long.get(label, label) for label in rows["label"]]
    rows["source"] = source.name
    if "licence" not in rows:
        rows["licence"] = source.licence
    for column in ("age", "sex", "site"):
        if column in rows:
            low = rows[column].str.strip()
            rows[column] = low.where(~low.str.lower().isin(_NOT_KNOWN), "")
    if "age" in rows:
        ages = np.array([age or None for age in rows["age"]], dtype=object)
        rows["age"] = [age or "" for age in whole_numbers(ages)]
    if "sex" in rows:
        rows["sex"] = rows["sex"].str.lower()
    first = [column for column in _OURS if column in rows]
    rows = rows[[*first, *(column for column in rows if column not in first)]]
    empty = [c for c in rows if c not in ("image", "label") and not (rows[c] != "").any()]
    return rows.drop(columns=empty)


def _compare(source: Source, rows: pd.DataFrame, present: npt.NDArray[np.bool_]) -> tuple[Compared, ...]:
    groups: dict[str, list[Count]] = {}
    for count in source.counts:
        groups.setdefault(count.of, []).append(count)
    splits = set(rows["split"]) if "split" in rows else set()
    compared = []
    for of, counts in groups.items():
        one = counts[0]
        chosen = np.ones(len(rows), dtype=bool)
        if one.split is not None:
            chosen &= (rows["split"] == one.split).to_numpy() if "split" in rows else False
        if one.label is not None:
            chosen &= (rows["label"] == one.label).to_numpy() if "label" in rows else False
        here = one.split is None or one.split in splits
        in_table, on_disk = (_how_many(rows[mask], one.unit) for mask in (chosen, chosen & present))
        compared.append(Compared(of, tuple(counts), in_table, on_disk, here))
    return tuple(compared)


def _how_many(rows: pd.DataFrame, unit: str) -> int:
    if unit == "images":
        return len(rows)
    column = {"patients": "patient_id", "lesions": "lesion_id", "masks": "mask"}[unit]
    if column not in rows:
        return 0
    known = rows[column][rows[column] != ""]
    return len(known) if unit == "masks" else known.nunique()


def _unused(rows: pd.DataFrame, below: Folder) -> dict[str, int]:
    used = {*rows["image"], *rows.get("mask", ())}
    left = Counter(file.rpartition("/")[0] or "." for file in below.images_below() if file not in used)
    return dict(left.most_common())


def _write(rows: pd.DataFrame, csv: Path, *, overwrite: bool) -> None:
    unknown = sorted(set(rows["split"]) - set(SPLITS)) if "split" in rows else []
    assert not unknown, unknown
    with new_file(csv, overwrite=overwrite) as temporary:
        rows.to_csv(temporary, index=False, encoding="utf-8", lineterminator="\n")
