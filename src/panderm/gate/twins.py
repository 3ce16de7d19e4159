"""The same picture under several rows: counted twice, contradicting itself, or on both sides of a split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from panderm.data.columns import Column
from panderm.data.duplicates import clusters, find_pairs
from panderm.errors import plural
from panderm.gate.files import ONE_COLOUR, same_file
from panderm.gate.findings import Finding, Inspected

How = Literal["same pixels", "near", "embeddings"]


@dataclass(frozen=True)
class Twin:
    """Two rows, by position, whose files hold one picture; ``similarity`` is at most 1, and means ``how``."""

    first: int
    second: int
    how: How
    similarity: float


class _Torn(NamedTuple):
    """What it means that the rows of one picture differ in a column."""

    kind: str
    column: Callable[[Inspected], Column]
    title: str
    sentence: str
    hint: str


_TORN = (
    _Torn(
        "duplicates-cross-splits",
        lambda inspected: inspected.split,
        "Duplicates in two splits",
        "{n} in more than one split: what was trained on is tested on, and scores come out too high.",
        "panderm split keeps duplicates together; or remove the rows of one split",
    ),
    _Torn(
        "duplicates-disagree",
        lambda inspected: inspected.label,
        "Duplicates with different labels",
        "{n} under more than one label: at least one of them is wrong.",
        "find out which label is right, and keep that row",
    ),
    _Torn(
        "duplicates-under-two-patients",
        lambda inspected: inspected.patient,
        "One picture under two patients",
        "{n} under more than one patient: rows that belong together are taken as independent.",
        "correct the patient column, or keep one row",
    ),
    _Torn(
        "duplicates-under-two-lesions",
        lambda inspected: inspected.group,
        "One picture under two lesions",
        "{n} under more than one lesion: rows that belong together are taken as independent.",
        "correct the lesion column, or keep one row",
    ),
)


def find_twins(inspected: Inspected, *, progress: bool = True) -> tuple[list[Twin], list[Twin]]:
    """Return the rows whose pictures are equal, or near: re-saved, resized, turned, mirrored.

    The second list are those that may be near: a second look decides. A file that is named twice is looked
    at once, and a picture of one colour not at all: these are other findings.
    """
    first = sorted(rows[0] for rows in same_file(inspected.folder, list(inspected.image)))
    files = [inspected.examined[i] for i in first]
    prints = [one.fingerprint if one.spread >= ONE_COLOUR else None for one in files]
    sure: list[Twin] = []
    perhaps: list[Twin] = []
    for pair in find_pairs(prints, perhaps=True, progress=progress):
        how: How = "same pixels" if pair.kind == "same pixels" else "near"
        twin = Twin(first[pair.first], first[pair.second], how, pair.similarity)
        (perhaps if pair.kind == "perhaps" else sure).append(twin)
    return sure, perhaps


def check_twins(inspected: Inspected, twins: Sequence[Twin]) -> list[Finding]:
    """Return what follows from rows that hold one picture.

    Equal pixels are always a finding. Near pictures are one where they cross splits, carry different labels,
    or stand under two lesions or two patients; otherwise they are a note, since two photographs of one
    lesion, taken within seconds, can be this near.
    """
    equal = _families(inspected, [t for t in twins if t.how == "same pixels"])
    every = _families(inspected, twins)
    found = []
    if equal:
        n = sum(len(rows) for rows in equal)
        found.append(
            Finding.of(
                *("same-pixels", "finding", "duplicates", "Exact duplicates"),
                f"{plural(len(equal), 'picture')} in {plural(n, 'file')} of equal pixels, whatever the "
                "bytes: each counts as often as it is there.",
                "keep one row of each",
                places=[inspected.place(*rows, text=describe(inspected, rows, twins)) for rows in equal],
            )
        )
    near = [rows for rows in every if rows not in equal]
    if near:
        n = sum(len(rows) for rows in near)
        found.append(
            Finding.of(
                *("near-duplicates", "note", "duplicates", "Near-duplicates"),
                f"{plural(len(near), 'picture')} in {plural(n, 'file')}: one photograph saved anew, resized, "
                "turned or mirrored, or two taken within seconds.",
                "look at them on the page; keep each in one split, as panderm split does",
                places=[inspected.place(*rows, text=describe(inspected, rows, twins)) for rows in near],
            )
        )
    for torn in _TORN:
        families = [rows for rows in every if len(_values(torn.column(inspected), rows)) > 1]
        if families:
            places = [inspected.place(*rows, text=describe(inspected, rows, twins)) for rows in families]
            sentence = torn.sentence.format(n=plural(len(families), "picture"))
            found.append(
                Finding.of(torn.kind, "finding", "duplicates", torn.title, sentence, torn.hint, places=places)
            )
    return found


def describe(inspected: Inspected, rows: Sequence[int], twins: Sequence[Twin]) -> str:
    """Say how alike the pictures of some rows are, and where their labels, splits and the like differ."""
    inside = set(rows)
    likeness = [t for t in twins if t.first in inside and t.second in inside]
    least = min(likeness, key=lambda t: t.similarity)
    how = {
        "same pixels": "equal pixels",
        "near": f"similarity {least.similarity:.3f}",
        "embeddings": f"similarity of embeddings {least.similarity:.3f}",
    }[least.how]
    parts = [how]
    for name, column in (
        ("splits", inspected.split),
        ("labels", inspected.label),
        ("patients", inspected.patient),
        ("lesions", inspected.group),
    ):
        values = _values(column, rows)
        if len(values) > 1:
            parts.append(f"{name} {', '.join(values)}")
    return "; ".join(parts)


def _families(inspected: Inspected, twins: Sequence[Twin]) -> list[list[int]]:
    """Return the rows that twins join, each family in order."""
    label = clusters(len(inspected), [(t.first, t.second) for t in twins])
    rows: dict[int, list[int]] = defaultdict(list)
    for i in np.unique([i for t in twins for i in (t.first, t.second)] or [0]):
        rows[int(label[i])].append(int(i))
    return [family for family in rows.values() if len(family) > 1]


def _values(column: Column, rows: Sequence[int]) -> list[str]:
    return sorted({column[i] for i in rows if column[i] is not None})
