"""Which images with masks learn, which choose, and which nobody looks at before the end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from panderm.errors import DataError, UsageError, plural
from panderm.finetuning.rows import held_out, refuse_leaks, with_split
from panderm.segmenting.learning.pairs import Pairs
from panderm.storage import sha256_of_json
from panderm.training.subset import take_part

Positions = npt.NDArray[np.int64]
PARTS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts that images with masks play.

    Attributes:
        pairs: all of them.
        train: positions that the network learns from.
        val: positions that choose among epochs.
        test: positions to be predicted at the end, even none.
        words: how they were divided, for the user.
    """

    pairs: Pairs
    train: Positions
    val: Positions
    test: Positions
    words: tuple[str, ...] = ()

    @property
    def scored(self) -> str:
        """The part that a run's scores are of: ``test``, or ``val`` where there is none."""
        return "test" if len(self.test) else "val"

    def of(self, part: str) -> Pairs:
        """Return the pairs of a part."""
        positions: Positions = getattr(self, part)
        return self.pairs.select(positions)

    def record(self) -> dict[str, Any]:
        """Return what decides a run: which images, which masks, in which part."""
        return {
            "table": self.pairs.table.card.name,
            "sha256": self.pairs.table.card.sha256,
            "pairs": self.pairs.identity,
            **{part: len(getattr(self, part)) for part in PARTS},
            "parts": sha256_of_json([getattr(self, part).tolist() for part in PARTS]),
        }


def parts_of(pairs: Pairs, *, percent_data: float = 1.0, seed: int = 0, allow_leaks: bool = False) -> Parts:
    """Return who learns, who chooses and who is predicted, once it is sure that this can be asked.

    Without rows of ``val`` a part of the training rows is held out to choose on: whole patients, lesions and
    copies of a file at a time.

    Args:
        pairs: images with masks.
        percent_data: part of the training rows, as of :func:`panderm.probe`; larger parts hold smaller ones.
        seed: of what is held out.
        allow_leaks: go on where a patient, a lesion or a file stands in two splits.

    Raises:
        LeakError: a patient, a lesion or a file in two splits.
        DataError: no training rows, or none with anything inside its mask.
        UsageError: no part of the rows.
    """
    if not 0 < percent_data <= 1:
        raise UsageError(
            "--percent-data must be a part of 1, greater than 0.", f"found {percent_data}", "0.1 is 10 %"
        )
    table = pairs.table
    if not allow_leaks:
        refuse_leaks(table)
    if table.card.roles["split"] is None:
        train, val, test = np.arange(len(table)), np.empty(0, np.int64), np.empty(0, np.int64)
    else:
        train, val, test = (np.flatnonzero(table.split == part) for part in PARTS)
    if not len(train):
        raise DataError(
            "the train split must have rows.",
            f"no row of {table.card.name} has the split 'train'",
            "correct the split column, or make one with: panderm split",
        )
    whole = len(train)
    train = take_part(train.astype(np.intp), percent_data).astype(np.int64)
    if not len(train):
        raise DataError(
            "a part of the training rows must have a row.",
            f"{percent_data:g} of {plural(whole, 'row')} are none",
            "raise --percent-data",
        )
    words = (
        [] if percent_data == 1 else [f"{len(train):,} of {plural(whole, 'training row')} are learned from"]
    )
    if not len(val):
        of = plural(len(train), "training image")
        train, val = held_out(table, np.ones((len(table), 1), dtype=np.int8), train, seed)
        table = with_split(table, {"train": train, "val": val, "test": test})
        pairs = replace(pairs, table=table)
        words.append(
            f"no row of val: {plural(len(val), 'image')} of {of} are held out to choose on, whole patients "
            "and lesions at a time"
        )
    if not pairs.inside[train].any():
        raise DataError(
            "some training masks must have something inside.",
            f"all {plural(len(train), 'mask')} are empty",
            "check the masks: white, or 1, is inside",
        )
    sizes = ", ".join(f"{len(part):,} {name}" for name, part in zip(PARTS, (train, val, test), strict=True))
    return Parts(pairs, train, val, test, (f"{table.card.name}: {sizes}", *words))
