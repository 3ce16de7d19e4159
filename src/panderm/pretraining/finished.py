"""How a run ends: two files of weights, the card with what came of it, and the page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from panderm.pretraining.page import PAGE_NAME
from panderm.pretraining.run_card import ENCODER_NAME, PRETRAINED_NAME, RunCard, as_json, write_card
from panderm.pretraining.student import PretrainingModel
from panderm.pretraining.watching import Watching
from panderm.pretraining.weights_file import write_encoder, write_pretrained
from panderm.storage import sha256_of_file
from panderm.training.long.loop import Learned


@dataclass(frozen=True)
class Pretrained:
    """A finished run.

    Attributes:
        folder: of the run.
        card: what it was.
        encoder: the student's encoder: ``panderm.load_encoder(run.encoder)``.
        whole: encoder, regressor and head, to go on with.
        report: the page.
        now: whether anything was learned by this call.
    """

    folder: Path
    card: RunCard
    now: bool = True

    @property
    def encoder(self) -> Path:
        return self.folder / ENCODER_NAME

    @property
    def whole(self) -> Path:
        return self.folder / PRETRAINED_NAME

    @property
    def report(self) -> Path:
        return self.folder / PAGE_NAME


def finish(folder: Path, card: RunCard, done: Learned, watching: Watching, name: str) -> RunCard:
    """Write the weights, the card with what came of it, and the page."""
    model = done.model
    assert isinstance(model, PretrainingModel)
    whole, encoder = folder / PRETRAINED_NAME, folder / ENCODER_NAME
    kept = {key: getattr(card, key) for key in ("source", "excluded", "teacher", "init", "plan", "masks")}
    write_pretrained(model, whole, as_json(kept), name=name, overwrite=True)
    write_encoder(model, encoder, name, made_from=whole, overwrite=True)
    losses = watching.last_losses()
    result = {
        "steps": done.steps,
        "loss": losses.get("loss"),
        "losses": losses,
        "bad": len(done.bad),
        "files": {path.name: sha256_of_file(path) for path in (whole, encoder)},
    }
    card = card.model_copy(update={"complete": True, "result": result})
    write_card(folder, card)
    watching.finish()
    return card
