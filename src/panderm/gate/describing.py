"""Which columns of a table describe the patient or the lesion, and do not give the answer away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from panderm.data.columns import read_column, whole_numbers
from panderm.data.table import TableCard
from panderm.errors import UsageError
from panderm.gate.candidates import OF_THE_IMAGE, Candidate, candidate, gather
from panderm.gate.columns import ColumnLint, lint_columns
from panderm.gate.label_names import other_names

_LINT_DRAWS = 500
_NAMES_ROWS = "; its patterns are tested"
MUST_DESCRIBE = "{option} must name columns that describe the patient or the lesion."


@dataclass(frozen=True)
class Describing:
    """The columns of a table, parted by what a probe may learn from them.

    Attributes:
        usable: they describe, and give nothing away.
        left_out: by name, why any other column is not among these; in words.
        giving_away: those of ``left_out`` that describe and give the answer away.
    """

    usable: tuple[str, ...]
    left_out: dict[str, str]
    giving_away: tuple[str, ...]


def describing_columns(frame: pd.DataFrame, card: TableCard, *, seed: int = 0) -> Describing:
    """Part all columns of a table.

    Usable are all but the label and its other names, the split, what names rows or files, what was measured
    on the image, and what gives the answer away (:func:`panderm.gate.columns.lint_columns`, asked of all
    rows, as ``panderm check`` does).

    Args:
        frame: the cells as strings.
        card: of the table, which has a label.
        seed: of the linter's folds and draws.
    """
    described, left_out = _described(frame, card)
    lint = _lint(frame, card, described, seed)
    usable, giving = [], []
    for one in described:
        found = lint.of(one.name)
        if one.name in lint.other_names:
            left_out[one.name] = lint.other_names[one.name]
        elif OF_THE_IMAGE.search(one.name):
            left_out[one.name] = "measured on the image or its file"
        elif found is not None and found.verdict == "gives the answer away":
            left_out[one.name] = "gives the answer away" + _telling(found.levels)
            giving.append(one.name)
        else:
            usable.append(one.name)
    return Describing(tuple(usable), left_out, tuple(giving))


def require_no_label(frame: pd.DataFrame, card: TableCard, names: Sequence[str], *, option: str) -> None:
    """Raise :class:`UsageError` where an option names the label under any name, or another role's column.

    Args:
        frame: the cells as strings; every name is there once.
        card: of the table, which has a label.
        names: the columns that are named.
        option: what names them, for the message.
    """
    described = [candidate(name, "column", read_column(frame, name)) for name in dict.fromkeys(names)]
    wrong, _ = _exact(described, frame, card)
    wrong |= {name: f"the {role}" for role, name in card.roles.items() if name and role != "group"}
    found = [f"{name}: {wrong[name]}" for name in names if name in wrong]
    if found or not names:
        raise UsageError(MUST_DESCRIBE.format(option=option), found or "found none")


def leaks(
    frame: pd.DataFrame,
    card: TableCard,
    names: Sequence[str],
    *,
    option: str,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, str]:
    """Return which of some columns are the label under another name or give the answer away, and how.

    Args:
        frame: the cells as strings; every name is there once.
        card: of the table, which has a label.
        names: the columns that are named.
        option: what names them, for the message.
        seed: of the linter's folds and draws.
        progress: show progress on standard error.

    Raises:
        UsageError: no column, one with a role (image, label, split, patient, lesion), one that is the same in
            every row, or one that names rows rather than describes them.
    """
    wrong = {name: f"the {_ROLES[role]}" for role, name in card.roles.items() if name in names}
    asked = [name for name in dict.fromkeys(names) if name not in wrong]
    kept = [name for name in dict.fromkeys([*asked, *card.roles.values()]) if name]
    described, aside = _described(frame[kept], card)
    wrong |= {name: _NO_USE.get(why, why) for name, why in aside.items() if name in asked}
    if wrong or not names:
        why = [f"{name}: {wrong[name]}" for name in dict.fromkeys(names) if name in wrong]
        raise UsageError(MUST_DESCRIBE.format(option=option), why or "found none")
    lint = _lint(frame[kept], card, described, seed, each_alone=True, progress=progress)
    found: dict[str, str] = {}
    for name in asked:
        one = lint.of(name)
        if name in lint.other_names:
            found[name] = lint.other_names[name]
        elif one is not None and one.verdict == "gives the answer away":
            found[name] = one.sentence.removeprefix(f"{name} ") if one.name == name else f"as {one.name} does"
    return found


_ROLES = {"image": "image", "label": "label", "split": "split", "patient": "patient", "group": "lesion"}
_NO_USE = {"names rows or files": "names rows or files, or holds free text: nearly every cell differs"}


def _described(frame: pd.DataFrame, card: TableCard) -> tuple[list[Candidate], dict[str, str]]:
    """Return the columns that describe, and why any other does not."""
    roles = card.roles
    asked = {name: role for role in ("split", "label") if (name := roles[role])}
    named = [name for role in ("image", "patient", "group") if (name := roles[role])]
    described, _, aside = gather(frame, asked, named)
    return described, {name: why.removesuffix(_NAMES_ROWS) for name, why in aside.items()}


def _lint(
    frame: pd.DataFrame,
    card: TableCard,
    described: Sequence[Candidate],
    seed: int,
    *,
    each_alone: bool = False,
    progress: bool = False,
) -> ColumnLint:
    """Return what the linter says, or of few rows at least the columns that go with the label exactly."""
    roles = card.roles
    label = roles["label"]
    assert label is not None  # there is something to predict
    lint = lint_columns(
        frame,
        label=label,
        image=roles["image"],
        split=roles["split"],
        patient=roles["patient"],
        group=roles["group"],
        draws=_LINT_DRAWS,
        seed=seed,
        each_alone=each_alone,
        progress=progress,
    )
    if lint.reason is None:
        return lint
    renamed, perfect = _exact(described, frame, card)
    return ColumnLint(label, lint.classes, other_names=renamed | perfect, left_out=lint.left_out)


def _exact(
    described: Sequence[Candidate], frame: pd.DataFrame, card: TableCard
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the other names of the label, and the columns that go with it exactly and are none."""
    labels = whole_numbers(read_column(frame, card.roles["label"]))
    place = {name: i for i, name in enumerate(card.classes)}
    codes = np.array([place.get(x, -1) for x in labels], dtype=np.int64)
    return other_names(described, codes, card.classes, str(card.roles["label"]))


def _telling(levels: Sequence[Any]) -> str:
    return f": {levels[0].held:,} of {levels[0].rows:,} rows with {levels[0].level}" if levels else ""
