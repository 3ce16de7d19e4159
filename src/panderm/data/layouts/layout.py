"""What is found in a folder of another arrangement: rows, and what a user should be told."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas as pd

from panderm.errors import plural, some

# What people call the three splits, as a folder or in a column.
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, eq=False)
class Found:
    """Rows of a table, before it is written.

    Attributes:
        rows: one row an image, cells are strings; ``image`` is relative to the folder of the images.
        notes: what a user should know, a sentence each.
        findings: what is wrong, a sentence each.
    """

    rows: pd.DataFrame
    notes: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()


def printable(text: str) -> str:
    """Return text that a line of a CSV can hold: control characters are replaced by spaces."""
    return _CONTROL.sub(" ", text).strip()


def with_splits(words: list[str]) -> tuple[list[str] | None, list[str]]:
    """Return train, val or test for what people call them, and notes; None where no word says a split.

    Words of another kind make no split at all: rows without one could not be used.
    """
    splits = [SPLIT_NAMES.get(word.strip().casefold(), "") for word in words]
    if not any(splits):
        others = sorted({word for word in words if word})
        return None, [f"no split column: {some(others)} is none of train, val, test"] if others else []
    if all(splits):
        return splits, []
    n = splits.count("")
    others = sorted({word or "none" for word, split in zip(words, splits, strict=True) if not split})
    return None, [f"no split column: {plural(n, 'image')} in neither train, val nor test ({some(others)})"]
