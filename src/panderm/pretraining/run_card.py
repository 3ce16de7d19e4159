"""``card.json`` of a run: what it learns from, how, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from panderm.training.long import card as long
from panderm.training.long.card import LongRunCard
from panderm.training.long.card import as_json as as_json
from panderm.training.long.card import decided_by as decided_by
from panderm.training.long.card import require_room as require_room
from panderm.training.long.card import write_card as write_card

PRETRAINED_NAME, ENCODER_NAME, EXCLUDED_NAME = "pretrained.safetensors", "encoder.safetensors", "excluded.csv"


class RunCard(LongRunCard):
    """What a pretraining run is."""

    kind: Literal["pretraining"] = "pretraining"
    format: Literal[1] = 1
    source: dict[str, Any]
    excluded: dict[str, Any] | None
    student: dict[str, Any]
    teacher: dict[str, Any]
    init: dict[str, Any] | None
    masks: dict[str, Any]
    views: dict[str, Any]
    weights: dict[str, Any]
    probe: dict[str, Any] | None

    def decided(self) -> dict[str, Any]:
        """Return what a run that goes on must have in common with its beginning, besides its plan."""
        teacher = {k: v for k, v in self.teacher.items() if k not in ("precision", "file")}
        return {
            "images": {"sha256": self.source["sha256"], "count": self.source["count"]},
            "student": self.student,
            "teacher": teacher,
            "init": None if self.init is None else self.init.get("sha256"),
            "masks": self.masks,
            "views": self.views,
            "weights": self.weights,
        }


def held_run(folder: Path, *, overwrite: bool) -> RunCard | None:
    """Return the card of the run a folder holds, see :func:`panderm.training.long.card.held_run`."""
    return long.held_run(folder, RunCard, overwrite=overwrite)


def begin(folder: Path, card: RunCard, held: RunCard | None) -> None:
    """Make the folder of a run, or go on with it, see :func:`panderm.training.long.card.begin`."""
    long.begin(folder, card, held, fresh=("pictures",))
