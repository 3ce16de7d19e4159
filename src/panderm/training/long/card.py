"""``card.json`` of a long run, whatever it learns: what it was asked, what decides it, what came of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from panderm.errors import ArtifactError
from panderm.provenance import CARD_NAME, Card, read_card
from panderm.storage import new_folder, refuse_existing, write_json
from panderm.training.long.checkpoint import last_checkpoint
from panderm.training.long.loop import require_same


class LongRunCard(Card):
    """What a long run is. What decides its result stands in the parts; ``asked`` is the call."""

    complete: bool = False
    asked: dict[str, Any] = Field(description="all that was asked for, as given")
    plan: dict[str, Any]
    settings: dict[str, Any] = Field(description="what does not decide the result")
    result: dict[str, Any] | None = Field(default=None, description="of a complete run: files, losses")

    def decided(self) -> dict[str, Any]:
        """Return what a run that goes on must have in common with its beginning, besides its plan."""
        raise NotImplementedError


RunCardOf = TypeVar("RunCardOf", bound=LongRunCard)


def held_run(folder: Path, form: type[RunCardOf], *, overwrite: bool) -> RunCardOf | None:
    """Return the card of the run a folder holds, which is to go on; None where a new one begins.

    Args:
        folder: of the run, there or not.
        form: the card's.
        overwrite: begin anew in any case.

    Raises:
        ArtifactError: the folder holds something else, and may not be replaced.
    """
    if overwrite or not folder.exists():
        return None
    if not (folder / CARD_NAME).is_file():
        if folder.is_dir() and not any(folder.iterdir()):
            return None
        refuse_existing(folder, overwrite=False)
    return read_card(folder, form, "a run to go on with", "choose another --out, or add --overwrite")


def begin(folder: Path, card: LongRunCard, held: LongRunCard | None, *, fresh: Sequence[str] = ()) -> None:
    """Make the folder of a run; or see that what it holds is the beginning of this one.

    Args:
        folder: of the run.
        card: of the run as it is asked for now.
        held: the card that is there, if any.
        fresh: files and folders that a beginning without a checkpoint leaves nothing of.

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
        for name in ("journal.jsonl", "tensorboard", *fresh):
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        card.write(folder, overwrite=True)


def as_json(value: dict[str, Any]) -> dict[str, Any]:
    """Return a record as it comes back from a file: lists for tuples."""
    return dict(json.loads(json.dumps(value)))


def as_held(card: LongRunCard | None) -> dict[str, Any] | None:
    """Return a card as one process tells it to the others."""
    return None if card is None else card.model_dump(mode="json")


def as_asked(value: Any) -> Any:
    """Return an argument as a card holds it: paths as text."""
    if isinstance(value, list | tuple):
        return [as_asked(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def decided_by(card: LongRunCard) -> dict[str, Any]:
    """Return all that decides a run, as its checkpoints name it."""
    return as_json({"plan": card.plan, **card.decided()})


def write_card(folder: Path, card: LongRunCard) -> None:
    """Replace the card."""
    write_json(folder / CARD_NAME, card.model_dump(mode="json"), overwrite=True)


def require_room(card: LongRunCard | None, asked: dict[str, Any], folder: Path) -> bool:
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
