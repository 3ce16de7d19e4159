"""Numbers of a run where none were asked for: from the published recipe, the student, and how many images."""

from __future__ import annotations

import math

import torch

from panderm.errors import plural
from panderm.pretraining.student import Student
from panderm.training.long.plan import Plan, Precision

# Of PanDerm (Yan et al. 2025): 1.5e-3 at 1,920 images a step, 20 of 500 epochs of warm-up.
PUBLISHED_BATCH, PUBLISHED_LR, WARM_UP = 1920, 1.5e-3, 20 / 500
MIN_LR, DECAY, CLIP = 1e-5, 0.05, 3.0
_FEWEST_STEPS = 50  # an epoch, where there are images enough
_SMALLEST_BATCH = 32
_ON_GPU = {"tiny": 512, "small": 384, "base": 192, "large": 96}
_ON_CPU = 32


def batch_size_for(images: int) -> int:
    """Return images a step: the published 1,920 where an epoch then has 50 steps, fewer of fewer images."""
    found = min(PUBLISHED_BATCH, max(_SMALLEST_BATCH, images // _FEWEST_STEPS))
    return min(images, found - found % _SMALLEST_BATCH)


def lr_for(batch: int) -> float:
    """Return the published learning rate at another batch size: by the square root of their ratio.

    For Adam the noise of its steps then stays the same (Malladi S. et al., NeurIPS 2022).
    """
    return PUBLISHED_LR * math.sqrt(batch / PUBLISHED_BATCH)


def micro_batch_for(student: Student, device: torch.device) -> int:
    """Return images of one pass of one process, that fit in memory."""
    return _ON_GPU.get(student.name, _ON_CPU) if device.type == "cuda" else _ON_CPU


def plan_for(
    images: int,
    *,
    epochs: int,
    batch_size: int | None,
    lr: float | None,
    min_lr: float,
    warmup_epochs: float | None,
    weight_decay: float,
    clip_grad: float | None,
    precision: Precision,
    seed: int,
) -> Plan:
    """Return the numbers of a run; what is None follows from the others.

    Raises:
        UsageError: numbers that cannot be.
    """
    batch = batch_size_for(images) if batch_size is None else batch_size
    rate = lr_for(batch) if lr is None else lr
    return Plan(
        images=images,
        epochs=epochs,
        batch=batch,
        rate=rate,
        least_rate=min(min_lr, rate),
        warm_up=WARM_UP * epochs if warmup_epochs is None else warmup_epochs,
        decay=weight_decay,
        clip=clip_grad,
        precision=precision,
        seed=seed,
    )


def plan_in_words(plan: Plan, *, lr_asked: bool, processes: int, passes: int) -> str:
    """Return one line: epochs, steps, batch, rate."""
    how = (
        ""
        if lr_asked or plan.batch == PUBLISHED_BATCH
        else (f" ({PUBLISHED_LR:g} at {PUBLISHED_BATCH:,} images, by the square root of the batch)")
    )
    shared = [plural(processes, "process", "processes")] if processes > 1 else []
    shared += [plural(passes, "pass", "passes")] if passes > 1 else []
    each = f" in {' of '.join(reversed(shared))}" if shared else ""
    return (
        f"{plural(plan.epochs, 'epoch')} of {plural(plan.steps_per_epoch, 'step')}, "
        f"{plural(min(plan.batch, plan.images), 'image')} a step{each}; learning rate {plan.rate:.3g}{how}, "
        f"{plan.warm_up:g} epochs of warm-up; {plan.precision}"
    )
