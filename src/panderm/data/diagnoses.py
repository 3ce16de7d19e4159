"""The diagnosis map: what a label of one dataset is called in all others.

``diagnoses.csv`` holds one row a label: taxonomy (which dataset's words), the label as written there,
whether it is malignant, its group, its diagnosis under one name for all datasets, what the dataset's own
authors count it as, a note where that is contested, and whose word it is. A diagnosis has one group and one
malignancy in the whole map. A cell is empty where no one answer fits: such a label is known, and still not
mapped at that level.
"""

from __future__ import annotations

import csv
import difflib
import functools
import importlib.resources
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from panderm.data.columns import Column
from panderm.errors import UsageError, did_you_mean

MAP_VERSION = "1"
Level = Literal["malignant", "group", "diagnosis"]
Indeterminate = Literal["keep", "authors", "benign", "malignant", "empty"]
LEVELS: tuple[Level, ...] = get_args(Level)

# Datasets that use another's words. A dataset with words of its own is called as its taxonomy is.
SAME_WORDS = {
    "ham10000-clean": "ham10000",
    "isic2018": "ham10000",
    "isic2018-task3": "ham10000",
    "bcn20000-isic2019": "isic2019",
    "isic2024": "isic",
    "isic2024-permissive": "isic",
    "mskcc": "isic",
    "hiba": "isic",
    "isic-archive": "isic",
    "derm7pt-clinical": "derm7pt",
    "derm7pt-dermoscopic": "derm7pt",
}


@dataclass(frozen=True)
class Diagnosis:
    """One row of the map; empty strings where no one answer fits the label.

    Attributes:
        taxonomy: whose words these are.
        label: the label as written there.
        malignant: malignant, benign or indeterminate (premalignant, or of uncertain potential).
        group: melanocytic, keratinocytic, vascular, fibrous, inflammatory and so on.
        diagnosis: one name for all datasets.
        authors: what the dataset's own authors count it as.
        note: what is contested, or what else is inside.
        source: whose word it is.
    """

    taxonomy: str
    label: str
    malignant: str
    group: str
    diagnosis: str
    authors: str
    note: str
    source: str

    def at(self, level: Level) -> str:
        """Return the answer at a level, "" where there is none."""
        return str(getattr(self, level))


@dataclass(frozen=True)
class Unmapped:
    """A label without an answer: how many rows have it, why, and the nearest known labels."""

    label: str
    rows: int
    reason: str
    nearest: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contested:
    """A mapped label that its dataset's authors count otherwise than the map does."""

    label: str
    rows: int
    value: str
    authors: str
    note: str


@dataclass(frozen=True, eq=False)
class Mapped:
    """Labels under the map's names.

    Attributes:
        values: object array of n strings, None where a label is empty or not mapped.
        level: the level they were mapped to.
        taxonomies: whose words were read.
        version: the map's version.
        pairs: each label's value and how many rows have it, the most frequent first.
        unmapped: labels without an answer, the most frequent first.
        contested: labels that their authors count otherwise.
        unlabelled: rows whose label was empty to begin with.
    """

    values: Column
    level: Level
    taxonomies: tuple[str, ...]
    version: str
    pairs: tuple[tuple[str, str, int], ...]
    unmapped: tuple[Unmapped, ...]
    contested: tuple[Contested, ...]
    unlabelled: int

    @property
    def counts(self) -> dict[str, int]:
        """How many rows have each value, A to Z."""
        return dict(sorted(Counter(v for v in self.values if v is not None).items()))

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the values, as JSON would have it."""
        return {
            "level": self.level,
            "taxonomies": list(self.taxonomies),
            "map_version": self.version,
            "rows": len(self.values),
            "counts": self.counts,
            "labels": [{"label": a, "value": b, "rows": n} for a, b, n in self.pairs],
            "unmapped": [vars(u) | {"nearest": list(u.nearest)} for u in self.unmapped],
            "contested": [dict(vars(c)) for c in self.contested],
            "unlabelled": self.unlabelled,
        }


@functools.cache
def read_map() -> tuple[Diagnosis, ...]:
    """Return the whole map, in the file's order."""
    text = (importlib.resources.files("panderm.data") / "diagnoses.csv").read_text(encoding="utf-8")
    return tuple(Diagnosis(**row) for row in csv.DictReader(text.splitlines()))


def taxonomies() -> tuple[str, ...]:
    """Return the taxonomies of the map, in its order."""
    return tuple(dict.fromkeys(row.taxonomy for row in read_map()))


def taxonomy_of(name: str) -> str:
    """Return the taxonomy that a dataset's labels are written in.

    Raises:
        UsageError: no such taxonomy or dataset; the message lists them.
    """
    known = (*taxonomies(), *(n for n in SAME_WORDS if n not in taxonomies()))
    wanted = name.strip().casefold()
    if wanted not in known:
        raise UsageError(
            f"labels must be in the words of a known dataset{did_you_mean(name, known)}",
            [f"found {name!r}", f"known: {', '.join(known)}"],
            "name the dataset the labels come from with --from",
        )
    return SAME_WORDS.get(wanted, wanted)


def map_labels(
    labels: Iterable[str | None],
    *,
    taxonomy: str | Sequence[str],
    level: Level = "malignant",
    indeterminate: Indeterminate = "keep",
) -> Mapped:
    """Put labels of one dataset into the words that all share.

    Letter case, and the number and kind of spaces, hyphens and underscores, do not matter; nothing else is
    guessed. The ISIC archive's words form a tree: of a path such as ``Benign::Nevus::Nevus, Spitz`` the
    deepest known part counts, and a subtype (``Basal cell carcinoma, Nodular``) that the map does not have is
    read as what it is a subtype of.

    Args:
        labels: n labels, None or empty where there is none.
        taxonomy: the dataset they come from, one for all or one for each label.
        level: malignant (malignant, benign, indeterminate), group or diagnosis.
        indeterminate: at level malignant, what premalignant and uncertain labels become: ``keep`` leaves
            them a class of their own; ``authors`` takes the word of the dataset's authors where they
            state one; ``benign`` or ``malignant`` counts them so; ``empty`` leaves them without a label.

    Returns:
        The values, and everything that was not mapped, with its rows.

    Raises:
        UsageError: an unknown taxonomy, or ``indeterminate`` at another level than malignant.

    Example:
        >>> mapped = panderm.map_labels(["mel", "NV", "akiec"], taxonomy="ham10000")  # doctest: +SKIP
        >>> list(mapped.values)  # doctest: +SKIP
        ['malignant', 'benign', 'indeterminate']
    """
    if level not in LEVELS:
        raise UsageError(
            f"a level must be one of {', '.join(LEVELS)}{did_you_mean(level, LEVELS)}", f"found {level!r}"
        )
    if indeterminate != "keep" and level != "malignant":
        raise UsageError(
            "indeterminate labels can be counted otherwise at the level malignant only.",
            f"the level is {level}",
            "leave out --indeterminate, or map to malignant",
        )
    texts = [_text(label) for label in labels]
    each = [taxonomy] * len(texts) if isinstance(taxonomy, str) else list(taxonomy)
    if len(each) != len(texts):
        raise UsageError(
            "there must be one taxonomy for all labels, or one for each.",
            f"{len(texts)} labels, {len(each)} taxonomies",
        )
    known = {name: taxonomy_of(name) for name in dict.fromkeys(each)}
    keys = [(known[name], text) for name, text in zip(each, texts, strict=True)]
    times = Counter(key for key in keys if key[1])
    answers = {key: _answer(*key, level, indeterminate) for key in times}
    values = np.array([answers[key][0] if key[1] else None for key in keys], dtype=object)
    ordered = times.most_common()
    return Mapped(
        values=values,
        level=level,
        taxonomies=tuple(dict.fromkeys(known.values())),
        version=MAP_VERSION,
        pairs=tuple((key[1], value, n) for key, n in ordered if (value := answers[key][0]) is not None),
        unmapped=tuple(
            _unmapped(key, n, answers[key][1], level) for key, n in ordered if answers[key][0] is None
        ),
        contested=tuple(
            Contested(key[1], n, value, row.authors, row.note)
            for key, n in ordered
            if (value := answers[key][0]) is not None
            and (row := answers[key][1]) is not None
            and level == "malignant"
            and row.authors not in ("", value)
        ),
        unlabelled=len(texts) - times.total(),
    )


def find(label: str, taxonomy: str) -> Diagnosis | None:
    """Return a label's row of the map, None where the taxonomy does not have it."""
    index = _index(taxonomy)
    if taxonomy != "isic":
        return index.get(_key(label))
    for part in reversed(re.split(r"::?", label)):
        while part:
            row = index.get(_key(part))
            if row is not None:
                return row
            part = part.rpartition(",")[0]
    return None


def _answer(
    taxonomy: str, label: str, level: Level, indeterminate: Indeterminate
) -> tuple[str | None, Diagnosis | None]:
    row = find(label, taxonomy)
    if row is None:
        return None, None
    value = row.at(level)
    if value == "indeterminate" and level == "malignant" and indeterminate != "keep":
        value = (row.authors or value) if indeterminate == "authors" else indeterminate
    return (None if value in ("", "empty") else value), row


def _unmapped(key: tuple[str, str], rows: int, row: Diagnosis | None, level: Level) -> Unmapped:
    taxonomy, label = key
    if row is None:
        names = {_key(r.label): r.label for r in _index(taxonomy).values()}
        near = difflib.get_close_matches(_key(label), list(names), n=2, cutoff=0.6)
        reason = f"{'a number, ' if label.isdigit() else ''}not a label of {taxonomy}"
        return Unmapped(label, rows, reason, tuple(names[n] for n in near))
    if row.at(level):
        return Unmapped(label, rows, "indeterminate, left empty as asked")
    return Unmapped(label, rows, row.note or f"no one {_NOUNS[level]} fits all of it")


_NOUNS = {"malignant": "answer", "group": "group", "diagnosis": "diagnosis"}


@functools.cache
def _index(taxonomy: str) -> dict[str, Diagnosis]:
    return {_key(row.label): row for row in read_map() if row.taxonomy == taxonomy}


def _key(label: str) -> str:
    return re.sub(r"[\s_‐‑–-]+", " ", label).strip().casefold()


def _text(label: str | None) -> str:
    return "" if label is None else str(label).strip()
