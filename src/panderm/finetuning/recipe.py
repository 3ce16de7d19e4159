"""The numbers of fine-tuning where none are asked for: the published recipe, and one of today."""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import torch

from panderm.errors import PandermWarning, UsageError, plural
from panderm.training.long.plan import Plan, Precision

RecipeName = Literal["default", "published"]
Monitor = Literal["balanced_accuracy", "accuracy", "macro_recall", "auroc", "loss"]
Balance = Literal["none", "balanced"]
Head = Literal["probe", "drawn"]
HEADS: tuple[Head, ...] = ("probe", "drawn")
MONITORS: tuple[Monitor, ...] = ("balanced_accuracy", "accuracy", "macro_recall", "auroc", "loss")

_BASE_BATCH = 64  # at which the default rate is meant
_FEWEST_STEPS = 20  # an epoch, where there are images enough
_SMALLEST_BATCH = 8


@dataclass(frozen=True)
class Settings:
    """The numbers of a run that a recipe gives, each of which can be asked for instead.

    Attributes:
        epochs: passes over the training rows.
        batch_size: images a step; None: follows from how many there are.
        lr: learning rate of the last layer at its height; None: follows from the batch.
        min_lr: where it falls to.
        warmup_epochs: in which it rises; None: a part of the epochs.
        warmup_share: which part.
        weight_decay: of AdamW.
        clip_grad: greatest norm of the gradient; None: as it is.
        layer_decay: factor of the rate from a layer to the one before it.
        drop_path: stochastic depth of the last block.
        head: where the head begins: as a linear ``probe``, or ``drawn`` near zero.
        mixup: alpha of mixup; 0: none.
        cutmix: alpha of CutMix; 0: none.
        smoothing: of labels.
        ema: what stays a step of a moving average of the weights; 0: none is kept.
        sampler: ``balanced`` draws each class as often as any other.
        class_weight: ``balanced`` weighs the loss of each class alike.
        monitor: what chooses the epoch.
        tta: views of an image when the test rows are predicted.
    """

    epochs: int = 30
    batch_size: int | None = None
    lr: float | None = None
    min_lr: float = 1e-6
    warmup_epochs: float | None = None
    warmup_share: float = 0.1
    weight_decay: float = 0.05
    clip_grad: float | None = 1.0
    layer_decay: float = 0.75
    drop_path: float = 0.1
    head: Head = "probe"
    mixup: float = 0.2
    cutmix: float = 0.0
    smoothing: float = 0.0
    ema: float = 0.998
    sampler: Balance = "none"
    class_weight: Balance = "none"
    monitor: Monitor = "auroc"
    tta: str | None = None

    def decisive(self) -> dict[str, Any]:
        """Return what decides a run and does not stand in its plan."""
        names = ("layer_decay", "head", "mixup", "cutmix", "smoothing", "sampler", "class_weight")
        return {name: value for name, value in asdict(self).items() if name in names}


DEFAULT = Settings()
PUBLISHED = Settings(
    epochs=50,
    batch_size=128,
    lr=5e-4,
    min_lr=1e-6,
    warmup_share=10 / 50,
    weight_decay=0.05,
    clip_grad=None,
    layer_decay=0.65,
    drop_path=0.2,
    head="drawn",
    mixup=0.8,
    cutmix=1.0,
    smoothing=0.1,
    ema=0.0,
    sampler="balanced",
    class_weight="none",
    monitor="accuracy",
    tta="published",
)


def settings_for(recipe: RecipeName, *, classes: int, several: bool, asked: dict[str, Any]) -> Settings:
    """Return a recipe's settings with those that were asked for instead; what is None in ``asked`` is not.

    Args:
        recipe: ``default`` or ``published``.
        classes: how many there are.
        several: whether an image has several labels.
        asked: by name of a setting.

    Raises:
        UsageError: an unknown recipe, or settings that do not go together.
    """
    if recipe not in ("default", "published"):
        raise UsageError(f"recipe must be default or published, not {recipe!r}.")
    found = DEFAULT if recipe == "default" else PUBLISHED
    if recipe == "published":
        found = _published_for(found, classes=classes, several=several)
    if several and recipe == "default":
        found = replace(found, mixup=0.0)
    names = {field.name for field in fields(Settings)}
    found = replace(found, **{k: v for k, v in asked.items() if k in names and v is not None})
    _require_sense(found, several=several)
    return found


def _published_for(found: Settings, *, classes: int, several: bool) -> Settings:
    """Return the published recipe where it is well defined; say what is done where it is not."""
    if several:
        _say("the published recipe knows one class an image: several labels learn unmixed, without sampler")
        return replace(found, mixup=0.0, cutmix=0.0, smoothing=0.0, sampler="none", monitor="auroc")
    if classes == 2:
        _say(
            "the published code cannot validate two classes; the AUROC, which it means to, chooses the epoch"
        )
        return replace(found, monitor="auroc")
    return found


def _say(text: str) -> None:
    warnings.warn(text, PandermWarning, stacklevel=4)


def _require_sense(found: Settings, *, several: bool) -> None:
    if found.head not in HEADS:
        raise UsageError(f"head must be probe or drawn, not {found.head!r}.")
    if found.monitor not in MONITORS:
        raise UsageError(f"monitor must be one of {', '.join(MONITORS)}, not {found.monitor!r}.")
    wrong = {
        "mixup and cutmix must not be negative": min(found.mixup, found.cutmix) < 0,
        "smoothing must be from 0 to below 1": not 0 <= found.smoothing < 1,
        "ema must be from 0 to below 1": not 0 <= found.ema < 1,
        "layer-decay must be above 0 and at most 1": not 0 < found.layer_decay <= 1,
        "drop-path must be from 0 to below 1": not 0 <= found.drop_path < 1,
    }
    if problems := [text for text, bad in wrong.items() if bad]:
        raise UsageError("a recipe's numbers must be in their range.", problems)
    if several and found.sampler != "none":
        raise UsageError(
            "several labels an image learn without a sampler.",
            "an image has no one class to draw it by",
            "leave --sampler out; --class-weight balanced weighs presence and absence alike",
        )
    if found.sampler == "balanced" and found.class_weight == "balanced":
        raise UsageError(
            "classes are balanced by the sampler or by the loss.",
            "found both: a rare class would count twice",
            "leave --sampler or --class-weight out",
        )
    if several and found.monitor in ("balanced_accuracy", "accuracy", "macro_recall"):
        raise UsageError(
            "several labels an image are chosen by auroc or loss.", f"found --monitor {found.monitor}"
        )


def plan_for(settings: Settings, images: int, *, precision: Precision, seed: int) -> Plan:
    """Return the numbers of the loop; what is None follows from how many images there are.

    Raises:
        UsageError: numbers that cannot be.
    """
    batch = settings.batch_size
    if batch is None:
        batch = min(_BASE_BATCH, max(_SMALLEST_BATCH, images // _FEWEST_STEPS))
    rate = lr_for(batch) if settings.lr is None else settings.lr
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
    )


def lr_for(batch: int) -> float:
    """Return the default learning rate at a batch size: by the square root of its ratio to 64."""
    return 3e-4 * math.sqrt(batch / _BASE_BATCH)


def micro_batch_for(dim: int, device: torch.device) -> int:
    """Return images of one pass of one process, that fit in memory at 224 pixels."""
    if device.type != "cuda":
        return 16 if dim >= 768 else 32
    return 64 if dim >= 1024 else 128 if dim >= 768 else 256


def plan_in_words(plan: Plan, *, processes: int, passes: int) -> str:
    """Return one line: epochs, steps, batch, rate."""
    parts = f"{plural(processes, 'process', 'processes')}, {plural(passes, 'pass', 'passes')} each"
    how = f" ({parts})" if processes * passes > 1 else ""
    return (
        f"{plural(plan.epochs, 'epoch')} of {plural(plan.steps_per_epoch, 'step')}, "
        f"{plural(plan.batch, 'image')} a step{how}; learning rate {plan.rate:.3g}, "
        f"warm-up {plural(plan.warm_up_steps, 'step')}; {plan.precision}"
    )
