"""Which rows learn, which choose, and which nobody looks at before the end; and what each of them shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from panderm.data.cells import cells
from panderm.data.duplicates import clusters
from panderm.data.rows import crossing, crossing_images, described, lesions_of
from panderm.data.split import assign, name_groups, strata_of
from panderm.data.table import COLUMNS, Table
from panderm.errors import DataError, LeakError, UsageError, plural, some
from panderm.storage import sha256_of_json
from panderm.tasks.multi_label import truth_of_labels
from panderm.training.linear_probe import require_labels
from panderm.training.subset import take_part

Positions = npt.NDArray[np.int64]
Labels = Literal["one", "several"]

HELD_OUT = 0.15  # of the training rows, where the table has none to choose on
_FEWEST = 2  # groups, to hold one of them out


@dataclass(frozen=True, eq=False)
class Rows:
    """The parts that a table's rows play.

    Attributes:
        table: all of them.
        classes: K names; of two classes of one label the second is the positive one.
        truth: int8 (n, K): 1 present, 0 absent, -1 not known, of all rows of the table.
        labels: whether an image is of one class or has several labels.
        train: positions that the network learns from.
        val: positions that choose among epochs; no image of ``train`` or ``test``.
        test: positions to be predicted at the end, even none.
        words: how they were divided, for the user.
    """

    table: Table
    classes: tuple[str, ...]
    truth: npt.NDArray[np.int8]
    labels: Labels
    train: Positions
    val: Positions
    test: Positions
    words: tuple[str, ...] = ()

    @property
    def codes(self) -> npt.NDArray[np.int64]:
        """Of one class: the class of each row as a position in ``classes``, int64 (n,)."""
        return np.asarray(self.truth.argmax(axis=1), dtype=np.int64)

    def record(self) -> dict[str, Any]:
        """Return what decides a run: which images, which labels, in which part."""
        return {
            "table": self.table.card.name,
            "sha256": self.table.card.sha256,
            "truth": sha256_of_json([list(self.classes), self.truth.tolist()]),
            "labels": self.labels,
            "classes": list(self.classes),
            **{part: len(getattr(self, part)) for part in ("train", "val", "test")},
            "parts": sha256_of_json([getattr(self, part).tolist() for part in ("train", "val", "test")]),
        }

    def counts(self, part: Positions) -> dict[str, int]:
        """Return how many of some rows show each class."""
        return {name: int((self.truth[part, k] == 1).sum()) for k, name in enumerate(self.classes)}


def rows_of(
    table: Table,
    *,
    labels: Sequence[str] | None = None,
    separator: str | None = None,
    percent_data: float = 1.0,
    seed: int = 0,
    allow_leaks: bool = False,
) -> Rows:
    """Return who learns, who chooses and who is predicted, once it is sure that this can be asked.

    Without rows of ``val`` a part of the training rows is held out to choose on: whole patients, lesions and
    copies of a file at a time, every class in its share.

    Args:
        table: from :func:`panderm.read_table`.
        labels: columns of several labels an image, as of :func:`panderm.probe_labels`.
        separator: likewise.
        percent_data: part of the training rows, as of :func:`panderm.probe`.
        seed: of what is held out.
        allow_leaks: go on where a patient, a lesion or a file stands in two splits.

    Raises:
        LeakError: a patient, a lesion or a file in two splits.
        DataError: no training rows, one class only, a class that is never trained.
        UsageError: no part of the rows.
    """
    if not 0 < percent_data <= 1:
        raise UsageError(
            "--percent-data must be a part of 1, greater than 0.", f"found {percent_data}", "0.1 is 10 %"
        )
    if not allow_leaks:
        refuse_leaks(table)
    if labels:
        classes, truth = truth_of_labels(table, labels, separator)
    else:
        require_labels(table)
        classes = table.classes
        truth = (table.codes()[:, None] == np.arange(len(classes))).astype(np.int8)
    split = table.split
    if table.card.roles["split"] is None:
        train, val, test = np.arange(len(table)), np.empty(0, np.int64), np.empty(0, np.int64)
    else:
        train, val, test = (np.flatnonzero(split == part) for part in ("train", "val", "test"))
    if not len(train):
        raise DataError(
            "the train split must have rows.",
            f"no row of {table.card.name} has the split 'train'",
            "correct the split column, or make one with: panderm split",
        )
    train = take_part(train.astype(np.intp), percent_data).astype(np.int64)
    words = []
    if not len(val):
        of = plural(len(train), "training image")
        train, val = held_out(table, truth, train, seed)
        table = with_split(table, {"train": train, "val": val, "test": test})
        words.append(
            f"no row of val: {plural(len(val), 'image')} of {of} "
            "are held out to choose on, whole patients and lesions at a time"
        )
    found = Rows(
        table=table,
        classes=tuple(classes),
        truth=truth,
        labels="several" if labels else "one",
        train=train,
        val=val,
        test=test,
    )
    _require_trained(found)
    sizes = ", ".join(f"{len(getattr(found, part)):,} {part}" for part in ("train", "val", "test"))
    kind = plural(len(classes), "label") if labels else plural(len(classes), "class", "classes")
    told = f"{table.card.name}: {sizes}; {kind}"
    return Rows(**{**vars(found), "words": (told, *words)})


def refuse_leaks(table: Table) -> None:
    """Raise :class:`LeakError` where a patient, a lesion or a file stands in two splits."""
    if table.card.roles["split"] is None:
        return
    found = [
        *crossing(table.patient, table.split, "patient"),
        *crossing(lesions_of(table.patient, table.group), table.split, "group"),
        *crossing_images(table.image, table.sha256, table.split),
    ]
    if found:
        raise LeakError(
            "no patient, lesion or file may stand in two splits.",
            found,
            "make splits that keep them together with: panderm split; or add --allow-leaks, and say so",
        )


def together(table: Table) -> npt.NDArray[np.int64]:
    """Return a number for each row, int64 (n,), 0 … G − 1: rows of one patient, lesion or file share it."""
    pairs: list[tuple[int, int]] = []
    for column in (table.patient, lesions_of(table.patient, table.group), table.sha256):
        first: dict[str, int] = {}
        pairs += [(first.setdefault(str(x), i), i) for i, x in enumerate(column) if x is not None]
    return clusters(len(table), pairs)


def held_out(
    table: Table, truth: npt.NDArray[np.int8], train: Positions, seed: int
) -> tuple[Positions, Positions]:
    """Return training rows, and those of them that are held out to choose on.

    Whole patients, lesions and copies of a file go together; every class is held out in its share, and none
    so that it is no longer learned.

    Args:
        table: of the rows.
        truth: int8 (n, K) of all its rows: 1 where a row shows a class.
        train: positions of those that may be held out.
        seed: of the draw.

    Raises:
        DataError: one patient alone, or none that can be spared.
    """
    chosen = table.select(train)
    groups = together(chosen)
    if int(groups.max()) + 1 < _FEWEST:
        raise DataError(
            "a table without val rows must have two patients or more, to hold one out and choose on it.",
            f"{table.card.name} has one",
            "give some rows the split val",
        )
    kinds = ["".join(map(str, row)) for row in truth[train].tolist()]
    names = name_groups(groups, [str(image) for image in chosen.image])
    part = assign(strata_of(groups, kinds), names, [1 - HELD_OUT, HELD_OUT], seed=f"choosing {seed}")
    held = part[groups] == 1
    if not held.any():
        held = groups == groups[-1]
    # A class that one patient alone shows must be learned before it can choose anything.
    shown = truth[train] == 1
    for lost in np.flatnonzero(shown.any(axis=0) & ~shown[~held].any(axis=0)):
        held &= ~np.isin(groups, groups[shown[:, lost]])
    if not held.any():
        raise DataError(
            "rows must be held out to choose on, and each class must stay among the training rows.",
            f"{table.card.name}: no patient can be spared",
            "give some rows the split val",
        )
    return train[~held], train[held]


def with_split(table: Table, parts: dict[str, Positions]) -> Table:
    """Return a table whose rows say which part they play, as if its file did."""
    split = np.array(table.split, dtype=object)
    for name, rows in parts.items():
        split[rows] = name
    columns: dict[str, Any] = {name: table.cells(name) for name in COLUMNS} | {"split": cells(split)}
    roles = ("image", "sha256", "split", "label", "patient", "group")
    told = described({role: columns[role] for role in roles}, table.classes)
    told["warnings"] = table.card.warnings
    return Table(row=table.row, card=table.card.model_copy(update=told), **columns)


def _require_trained(rows: Rows) -> None:
    trained = rows.counts(rows.train)
    if rows.labels == "several":
        known = rows.truth[rows.train]
        never = [
            name
            for k, name in enumerate(rows.classes)
            if not ((known[:, k] == 1).any() and (known[:, k] == 0).any())
        ]
        if never:
            raise DataError(
                "every label must be present in some training rows and absent in others.",
                f"not so: {some(never)}",
                "leave these labels out of --labels",
            )
        return
    classes = [name for name, n in trained.items() if n]
    if len(classes) < 2:
        raise DataError(
            "training rows must have at least two classes.",
            f"found only: {some(classes) or 'none'}, in {plural(len(rows.train), 'row')}",
            "check the label column and the split",
        )
    never = [name for name, n in trained.items() if not n]
    if never:
        where = {
            name: [
                f"{plural(n, f'{part} row')}"
                for part in ("val", "test")
                if (n := rows.counts(getattr(rows, part))[name])
            ]
            for name in never
        }
        raise DataError(
            "every class must be among the training rows.",
            [f"{name!r}: {' and '.join(where[name]) or 'no row'}, no training row" for name in never],
            "correct the split, or leave these rows out",
        )
