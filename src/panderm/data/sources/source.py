"""What is known of a public dataset before it is opened: files, licence, classes, published counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from panderm.data.sources.folder import Folder

Unit = Literal["images", "patients", "lesions", "masks"]


@dataclass(frozen=True)
class Count:
    """A number somebody published, and who.

    Several counts of the same thing may be given where publications differ; a table agrees that has one
    of them. A split that is not in the folder is not compared.

    Args:
        n: how many.
        where: who says so, in a few words.
        unit: what was counted.
        split: of one split only.
        label: of one class only.
        verified: False where we could not see the publication itself: shown, never held against a table.
    """

    n: int
    where: str
    unit: Unit = "images"
    split: str | None = None
    label: str | None = None
    verified: bool = True

    @property
    def of(self) -> str:
        """What was counted, in words: ``"train: mel images"``."""
        what = f"{self.label} {self.unit}" if self.label else self.unit
        return f"{self.split}: {what}" if self.split else what


@dataclass(frozen=True)
class File:
    """A file or folder of the official download, under every name it goes by."""

    names: tuple[str, ...]
    what: str
    optional: bool = False


@dataclass(frozen=True, eq=False)
class Prepared:
    """The rows of a dataset, before their files are looked for.

    Attributes:
        rows: one row an image, cells are strings. ``image`` holds an id, a file name or a path as the
            official table has it; ``mask`` likewise. ``label`` is the class's short name, empty where
            nobody published one; ``label_name`` is filled in later. ``split``, ``patient_id``,
            ``lesion_id``, ``age``, ``sex``, ``site``, ``tone``, ``dx_confirm_type``, ``licence`` where they
            are known. All other columns go along under their own names.
        notes: what a user should be told, a sentence each.
    """

    rows: pd.DataFrame
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """One public dataset: what it is, where to get it, and how its official files are read.

    Args:
        name: what ``panderm data prepare`` calls it.
        title: what its authors call it.
        modality: how the pictures were taken.
        address: where to get it. Text for a person: no request is ever made.
        licence: the licence as published; rows may have their own.
        non_commercial: whether the licence forbids commercial use.
        citation: whom to cite.
        files: what the download holds.
        classes: short and long name of every class, in the order of the publication.
        counts: what was published, to be compared with what is found.
        read: from the folder to rows; decides nothing but what the official files say.
        splits: the official split in a few words, None where there is none.
        labels: other columns of the made table that can be a label, each with what it says.
        overlaps: names of datasets that hold some of the same images: never train on one, test on the other.
        note: what a user must know before using it.
    """

    name: str
    title: str
    modality: str
    address: str
    licence: str
    non_commercial: bool
    citation: str
    files: tuple[File, ...]
    classes: tuple[tuple[str, str], ...]
    counts: tuple[Count, ...]
    read: Callable[[Folder], Prepared]
    splits: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    overlaps: tuple[str, ...] = ()
    note: str = ""

    def published(self, unit: Unit) -> int | None:
        """Return how many were published in all, or the sum of the splits; None where nobody says."""
        mine = [c for c in self.counts if c.unit == unit and c.label is None and c.verified]
        whole = next((c.n for c in mine if c.split is None), None)
        by_split = {c.split: c.n for c in reversed(mine) if c.split}
        return whole if whole is not None or not by_split else sum(by_split.values())
