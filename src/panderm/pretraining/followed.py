"""What a run's folder says of it: every step and every look at the student, in the order they happened."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from panderm.errors import ArtifactError
from panderm.provenance import CARD_NAME
from panderm.training.long.journal import JOURNAL_NAME, read_journal

Floats: TypeAlias = npt.NDArray[np.float64]

PICTURES = "pictures"
NUMBERS = ("loss", "cls", "visible", "masked", "rate", "norm", "weight", "seconds", "waited")


@dataclass(frozen=True, eq=False)
class Followed:
    """A run as its card, its journal and its pictures tell it.

    Attributes:
        card: of the run.
        step: int64 (n,), from 1.
        epoch: int64 (n,), from 1, of each step.
        numbers: by name, float64 (n,), NaN where a step has none.
        looks: lines of the epochs after which the student was looked at.
        bad: images that could not be read, with the reason.
        pictures: PNG files, in their order.
    """

    card: Mapping[str, Any]
    step: npt.NDArray[np.int64]
    epoch: npt.NDArray[np.int64]
    numbers: Mapping[str, Floats]
    looks: tuple[Mapping[str, Any], ...]
    bad: Mapping[str, str]
    pictures: tuple[Path, ...]

    @property
    def epochs(self) -> Floats:
        """Passes over all images that were done at the end of each step, (n,)."""
        if not len(self.epoch):
            return np.zeros(0)
        names, first, counts = np.unique(self.epoch, return_index=True, return_counts=True)
        whole = counts.copy()
        if len(whole) > 1:
            whole[-1] = max(whole[-1], whole[0])  # the last one may still be going on
        of = np.searchsorted(names, self.epoch)
        within = np.arange(len(self.epoch)) - first[of] + 1
        return np.asarray(self.epoch - 1 + within / whole[of], dtype=np.float64)

    @property
    def pace(self) -> Floats:
        """Images a second of each step, (n,); of the first steps after a start lower than of others."""
        weight, seconds = self.numbers["weight"], self.numbers["seconds"]
        pace: Floats = np.divide(weight, seconds, out=np.full(len(weight), np.nan), where=seconds > 0)
        return pace

    def mean_of_epoch(self, name: str, epoch: int) -> float:
        """Return the mean of a number over the steps of an epoch; NaN where there is none."""
        values = self.numbers[name][self.epoch == epoch]
        values = values[np.isfinite(values)]
        return float(values.mean()) if len(values) else float("nan")


def follow(run: Path | str) -> Followed:
    """Read what a run wrote so far.

    Raises:
        ArtifactError: no such folder, no card or journal, or one that is damaged.
    """
    folder = Path(run)
    card = folder / CARD_NAME
    journal = folder / JOURNAL_NAME
    for file in (card, journal):
        if not file.is_file():
            raise ArtifactError(
                "a pretraining run must have a card and a journal.",
                f"found no {file}",
                "make it with: panderm pretrain",
            )
    # Column by column: a long run has half a million steps.
    step, epoch = array("q"), array("q")
    numbers = {name: array("d") for name in NUMBERS}
    looks: list[Mapping[str, Any]] = []
    bad: dict[str, str] = {}
    try:
        told = json.loads(card.read_bytes())
        for line in read_journal(journal):
            if "loss" not in line:
                looks.append(line)
                continue
            step.append(line["step"])
            epoch.append(line["epoch"])
            for name, column in numbers.items():
                column.append(_number(line.get(name)))
            bad |= {str(name): str(reason) for name, reason in line.get("unreadable", ())}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError("a run's card and journal must be readable.", f"{folder}: {error!r}") from error
    return Followed(
        card=told,
        step=np.array(step, dtype=np.int64),
        epoch=np.array(epoch, dtype=np.int64),
        numbers={name: np.array(column, dtype=np.float64) for name, column in numbers.items()},
        looks=tuple(looks),
        bad=bad,
        pictures=tuple(sorted((folder / PICTURES).glob("*.png"))),
    )


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
