"""Every way we can disappoint a user, as a small tree.

A message says what must hold, what was found and where, and what to do about it:

    TableError: a patient must not be in two splits.
      2 patients are in both train and test: HAM_0001234, HAM_0004321
      hint: name another column with --patient, or correct the split column
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import ClassVar


class PandermError(Exception):
    """Base of all errors meant for a user's eyes.

    Args:
        must: what must hold, one sentence.
        found: what was found and where, one line each.
        hint: what to do.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, must: str, found: str | Iterable[str] = (), hint: str | None = None) -> None:
        self.must = must
        self.found = (found,) if isinstance(found, str) else tuple(found)
        self.hint = hint
        super().__init__(must)

    def __str__(self) -> str:
        lines = [self.must, *(f"  {line}" for line in self.found)]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.must, self.found, self.hint)


class UsageError(PandermError, ValueError):
    """An option or argument that cannot be used as given."""


class TableError(PandermError):
    """The CSV, its columns, its rows, or the images they name."""


class WeightsError(PandermError):
    """A weights file that is not what its name says, or not a weights file at all."""


class ArtifactError(PandermError):
    """A file or folder of ours that is missing, damaged, in the way, or of other parents."""


class ParentsError(ArtifactError):
    """Two artifacts that do not belong together: other encoder, other table, other predictions."""


class DataError(PandermError, ValueError):
    """Numbers that a question cannot be asked of: one class, no rows, values that are not finite."""


class LeakError(DataError):
    """Rows to be scored that are among those that are fitted: a finding, not a wrong use."""

    exit_code = 1


class PandermWarning(UserWarning):
    """Something the user should know that does not stop the work."""


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest option, else ``""``."""
    by_fold = {option.casefold(): option for option in options}
    near = difflib.get_close_matches(word.casefold(), list(by_fold), n=1, cutoff=0.55)
    return f"; did you mean {by_fold[near[0]]!r}?" if near else ""


def some(items: Sequence[object], most: int = 5) -> str:
    """Return the first items separated by commas, and how many more there are."""
    shown = ", ".join(str(item) for item in items[:most])
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"


def plural(n: int, noun: str, nouns: str | None = None) -> str:
    """Return ``"1 image"``, ``"2 images"``, ``"8,783 images"``."""
    return f"{n:,} {noun if n == 1 else nouns or noun + 's'}"


def in_bytes(n: int) -> str:
    """Return ``"1.2 GB"``; a thousand bytes are a kilobyte, as the progress bar counts."""
    for power, unit in ((4, "TB"), (3, "GB"), (2, "MB"), (1, "kB")):
        if n >= 1000**power:
            return f"{n / 1000**power:.1f} {unit}"
    return f"{n} B"
