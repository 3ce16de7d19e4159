"""``card.json`` of a run: what it learns from, how, and what came of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from panderm.errors import ArtifactError
from panderm.provenance import CARD_NAME, Card, read_card
from panderm.storage import new_folder, refuse_existing, write_json
from panderm.training.long.checkpoint import last_checkpoint
from panderm.training.long.loop import require_same

PRETRAINED_NAME, ENCODER_NAME, EXCLUDED_NAME = "pretrained.safetensors", "encoder.safetensors", "excluded.csv"


class RunCard(Card):
    """What a pretraining run is. What decides its result stands in the parts; ``asked`` is the call."""

    kind: Literal["pretraining"] = "pretraining"
    format: Literal[1] = 1
    complete: bool = False
    asked: dict[str, Any] = Field(description="all that was asked for, as given")
    source: dict[str, Any]
    excluded: dict[str, Any] | None
    student: dict[str, Any]
    teacher: dict[str, Any]
    init: dict[str, Any] | None
    plan: dict[str, Any]
    masks: dict[str, Any]
    views: dict[str, Any]
    weights: dict[str, Any]
    probe: dict[str, Any] | None
    settings: dict[str, Any] = Field(description="what does not decide the result")
    result: dict[str, Any] | None = Field(default=None, description="of a complete run: files, losses")

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
    """Return the card of the run a folder holds, which is to go on; None where a new one begins.

    Raises:
        ArtifactError: the folder holds something else, and may not be replaced.
    """
    if overwrite or not folder.exists():
        return None
    if not (folder / CARD_NAME).is_file():
        if folder.is_dir() and not any(folder.iterdir()):
            return None
        refuse_existing(folder, overwrite=False)
    return read_card(folder, RunCard, "a run to go on with", "choose another --out, or add --overwrite")


def begin(folder: Path, card: RunCard, held: RunCard | None) -> None:
    """Make the folder of a run; or see that what it holds is the beginning of this one.

    Raises:
        ParentsError: it was begun with other images or settings; nothing of it is changed.
    """
    if held is None:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        with new_folder(folder, overwrite=True) as new:
            card.write(new)
        return
    saved = last_checkpoint(folder)
    if saved is not None:
        require_same(saved.record["decided"], decided_by(card), folder)
    else:
        for name in ("journal.jsonl", "pictures", "tensorboard"):
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        card.write(folder, overwrite=True)


def as_json(value: dict[str, Any]) -> dict[str, Any]:
    """Return a record as it comes back from a file: lists for tuples."""
    return dict(json.loads(json.dumps(value)))


def decided_by(card: RunCard) -> dict[str, Any]:
    """Return all that decides a run, as its checkpoints name it."""
    return as_json({"plan": card.plan, **card.decided()})


def write_card(folder: Path, card: RunCard) -> None:
    """Replace the card."""
    write_json(folder / CARD_NAME, card.model_dump(mode="json"), overwrite=True)


def require_room(card: RunCard | None, asked: dict[str, Any], folder: Path) -> bool:
    """Say whether a run is complete as asked for; there is nothing to do then.

    Raises:
        ArtifactError: it is complete, and what is asked for now is something else.
    """
    if card is None or not card.complete:
        return False
    differ = sorted(name for name in asked if card.asked.get(name) != asked[name])
    if differ:
        raise ArtifactError(
            "a finished run is not changed.",
            [f"{name}: {card.asked.get(name)} before, {asked[name]} now" for name in differ],
            f"choose another --out, or add --overwrite to lose the run in {folder}",
        )
    return True
