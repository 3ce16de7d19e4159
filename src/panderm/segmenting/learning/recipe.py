"""The numbers of training a segmenter where none are asked for: the published recipe, and one of today."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import torch

from panderm.errors import UsageError
from panderm.segmenting.network import DecoderName
from panderm.training.long.plan import Plan, Precision

RecipeName = Literal["default", "published"]
Monitor = Literal["jaccard", "dice", "loss"]
MONITORS: tuple[Monitor, ...] = ("jaccard", "dice", "loss")

_BASE_BATCH = 16  # at which the default rate is meant
_FEWEST_STEPS = 20  # an epoch, where there are images enough
_SMALLEST_BATCH = 4
_DECODER_RATE, _ALL_RATE = 1e-3, 3e-4  # of a decoder on a frozen encoder; of both where both learn


@dataclass(frozen=True)
class Settings:
    """The numbers of a run that a recipe gives, each of which can be asked for instead.

    Attributes:
        decoder: what makes a mask of patch tokens.
        finetune_encoder: whether the encoder learns too.
        epochs: passes over the training rows.
        batch_size: images a step; None: follows from how many there are.
        lr: learning rate of the decoder at its height; None: follows from the batch and from what learns.
        min_lr: where it falls to.
        warmup_epochs: in which it rises; None: a part of the epochs.
        warmup_share: which part.
        weight_decay: of AdamW.
        all_decay: biases, norms and positions decay too, as in the published code.
        clip_grad: greatest norm of the gradient; None or 0: as it is.
        layer_decay: of an encoder that learns, factor of the rate from a layer to the one before it.
        drop_path: likewise, stochastic depth of the last block.
        cross_entropy: its weight in the loss.
        dice: of the soft Dice loss.
        boundary: of the boundary loss.
        ema: what stays a step of a moving average of the weights; 0: none is kept.
        monitor: what chooses the epoch.
        by_epoch: the rate moves once an epoch.
        largest: of the masks scored at the end the largest part alone is kept.
        fill_holes: their holes are filled.
    """

    decoder: DecoderName = "convolutional"
    finetune_encoder: bool = False
    epochs: int = 30
    batch_size: int | None = None
    lr: float | None = None
    min_lr: float = 1e-6
    warmup_epochs: float | None = None
    warmup_share: float = 0.05
    weight_decay: float = 0.05
    all_decay: bool = False
    clip_grad: float | None = 1.0
    layer_decay: float = 0.75
    drop_path: float = 0.0
    cross_entropy: float = 1.0
    dice: float = 1.0
    boundary: float = 0.0
    ema: float = 0.998
    monitor: Monitor = "jaccard"
    by_epoch: bool = False
    largest: bool = False
    fill_holes: bool = False

    def decisive(self) -> dict[str, Any]:
        """Return what decides a run and stands neither in its plan nor with its network."""
        names = ("all_decay", "cross_entropy", "dice", "boundary", "largest", "fill_holes")
        found = {name: value for name, value in asdict(self).items() if name in names}
        return found | ({"layer_decay": self.layer_decay} if self.finetune_encoder else {})


DEFAULT = Settings()
PUBLISHED = Settings(
    decoder="upernet",
    finetune_encoder=True,
    epochs=100,
    batch_size=2,
    lr=1e-4,
    min_lr=0.0,
    warmup_share=0.0,
    weight_decay=0.05,
    all_decay=True,
    clip_grad=None,
    layer_decay=1.0,
    drop_path=0.0,
    cross_entropy=1.0,
    dice=0.0,
    boundary=0.0,
    ema=0.0,
    monitor="jaccard",
    by_epoch=True,
    largest=True,
    fill_holes=True,
)


def settings_for(recipe: RecipeName, *, asked: Mapping[str, Any]) -> Settings:
    """Return a recipe's settings with those that were asked for instead; what is None in ``asked`` is not.

    Args:
        recipe: ``default`` or ``published``.
        asked: by name of a setting.

    Raises:
        UsageError: an unknown recipe, or numbers out of their range.
    """
    if recipe not in ("default", "published"):
        raise UsageError(f"recipe must be default or published, not {recipe!r}.")
    found = DEFAULT if recipe == "default" else PUBLISHED
    names = {field.name for field in fields(Settings)}
    found = replace(found, **{k: v for k, v in asked.items() if k in names and v is not None})
    if found.decoder == "unet":  # all of it is new, or learns as a whole
        found = replace(found, finetune_encoder=False, layer_decay=1.0)
    wrong = {
        f"monitor must be one of {', '.join(MONITORS)}": found.monitor not in MONITORS,
        "ema must be from 0 to below 1": not 0 <= found.ema < 1,
        "layer-decay must be above 0 and at most 1": not 0 < found.layer_decay <= 1,
        "drop-path must be from 0 to below 1": not 0 <= found.drop_path < 1,
    }
    if problems := [text for text, bad in wrong.items() if bad]:
        raise UsageError("a recipe's numbers must be in their range.", problems)
    return found


def plan_for(settings: Settings, images: int, *, precision: Precision, seed: int) -> Plan:
    """Return the numbers of the loop; what is None follows from how many images there are.

    Raises:
        UsageError: numbers that cannot be.
    """
    batch = settings.batch_size
    if batch is None:
        batch = min(_BASE_BATCH, max(_SMALLEST_BATCH, images // _FEWEST_STEPS))
    all_learn = settings.finetune_encoder or settings.decoder == "unet"
    rate = lr_for(batch, all_learn=all_learn) if settings.lr is None else settings.lr
    warm_up = (
        settings.epochs * settings.warmup_share if settings.warmup_epochs is None else settings.warmup_epochs
    )
    return Plan(
        images=images,
        epochs=settings.epochs,
        batch=batch,
        rate=rate,
        least_rate=min(settings.min_lr, rate),
        warm_up=warm_up,
        decay=settings.weight_decay,
        clip=settings.clip_grad or None,
        precision=precision,
        seed=seed,
        ema=settings.ema or None,
        by_epoch=settings.by_epoch,
    )


def lr_for(batch: int, *, all_learn: bool) -> float:
    """Return the default learning rate at a batch size: by the square root of its ratio to 16."""
    return (_ALL_RATE if all_learn else _DECODER_RATE) * math.sqrt(batch / _BASE_BATCH)


def micro_batch_for(decoder: DecoderName, device: torch.device) -> int:
    """Return images of one pass of one process, that fit in memory at 224 pixels."""
    if device.type != "cuda":
        return 4 if decoder == "upernet" else 16
    return 16 if decoder == "upernet" else 64
