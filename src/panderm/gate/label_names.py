"""Columns that are the label under another name: they give the answer away by what they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from panderm.data.columns import Column
from panderm.gate.candidates import Candidate

Relation = Literal["same", "coarser", "finer"]
# A finer name has levels of its own, each with rows enough to be no accident.
_ROWS_A_LEVEL = 5
_WORDS = re.compile(
    r"dx(?!_?type)|diag|label|class|target|malign|benign|melanom|nev[iu]|cancer(?!_history)|carcinom|keratos"
    r"|lesion_?type|disease|condition|patholog(?!ist)|histolog|ground_?truth|partition|category|outcome",
    re.IGNORECASE,
)
_DIAGNOSES = frozenset(
    {
        *("benign", "malignant", "melanoma", "nevus", "naevus", "indeterminate", "keratosis", "carcinoma"),
        *("mel", "nv", "nev", "bcc", "scc", "ack", "ak", "akiec", "sek", "sk", "bkl", "df", "vasc"),
    }
)


def relation(values: Column, codes: npt.NDArray[np.int64]) -> Relation | None:
    """Say how a column's values and the classes determine each other, over the rows that have both.

    Args:
        values: (n,) strings, None where empty.
        codes: (n,) class codes; -1 where there is no label.

    Returns:
        ``same``: one value a class, one class a value. ``coarser``: the class tells the value, as
        malignant or benign. ``finer``: the value tells the class, in several values a class. None: neither,
        or more than a tenth of the rows have no value.
    """
    both = np.array([v is not None for v in values]) & (codes >= 0)
    n = int(both.sum())
    if n < 2 * _ROWS_A_LEVEL or n < 0.9 * int((codes >= 0).sum()):
        return None
    names, level = np.unique([str(v) for v in values[both]], return_inverse=True)
    pairs = np.unique(np.column_stack([level, codes[both]]), axis=0)
    levels, classes, met = len(names), len(np.unique(codes[both])), len(pairs)
    if levels < 2 or classes < 2:
        return None
    if met == levels == classes:
        return "same"
    if met == classes:
        return "coarser"
    if met == levels and n >= _ROWS_A_LEVEL * levels:
        return "finer"
    return None


def speaks_of_diagnosis(name: str, values: Column, classes: tuple[str, ...]) -> bool:
    """Say whether a column that goes with the label also sounds like one: by its name, or by its values.

    A camera that took every melanoma determines the label too, and is no name of it.
    """
    known = {str(v).casefold() for v in values if v is not None}
    words = {word for value in known for word in re.findall(r"[^\W\d_]+", value)}
    own = {c.casefold() for c in classes if not c.isdecimal()}
    called = re.search(_WORDS, name) is not None or any(len(c) > 2 and c in name.casefold() for c in own)
    return called or bool(words & _DIAGNOSES) or bool(known & own)


def other_names(
    columns: Sequence[Candidate], codes: npt.NDArray[np.int64], classes: tuple[str, ...], label: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Part columns that go with the label exactly into its other names and those that give it away.

    Args:
        columns: of the same n rows.
        codes: (n,) class codes.
        classes: their names.
        label: the label's own column.

    Returns:
        By column: how it is the label under another name; and how it goes with the label while it is none.
    """
    names, perfect = {}, {}
    for one in columns:
        if one.source == "order" or (one.source == "name" and one.numbers is not None):
            continue
        found = relation(one.values, codes)
        if found is None:
            continue
        if one.source != "file" and speaks_of_diagnosis(one.name, one.values, classes):
            names[one.name] = _NAMED[found].format(label=label)
        else:
            perfect[one.name] = _PERFECT[found].format(label=label)
    return names, perfect


_NAMED = {
    "same": "another name of {label}: one value a class",
    "coarser": "a coarser name of {label}: each class has one value",
    "finer": "a finer name of {label}: each value has one class",
}
_PERFECT = {
    "same": "it goes with {label} one to one",
    "coarser": "each class of {label} has one value of it",
    "finer": "each value of it has one class of {label}",
}
