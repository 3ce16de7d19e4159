"""How a network is to learn: numbers that decide the result, and what follows from them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from panderm.errors import DataError, UsageError, plural

Precision = Literal["fp32", "bf16", "fp16"]
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """What decides a run, besides its data and its network.

    Attributes:
        images: how many there are.
        epochs: passes over them.
        batch: images a step, over all processes and all their passes.
        rate: learning rate at its height.
        least_rate: the rate it falls to.
        warm_up: epochs in which it rises.
        decay: weight decay.
        clip: the gradient's greatest norm; None: as it is.
        precision: what the network computes in; weights and optimiser are float32 in any case.
        seed: of everything that is drawn.
        ema: the most that stays, in a step, of a moving average of the weights, which is kept beside them
            (:func:`panderm.training.long.average.average_weight`); None: none is kept.
        by_epoch: the rate moves once an epoch, not once a step.
    """

    images: int
    epochs: int
    batch: int
    rate: float
    least_rate: float = 1e-5
    warm_up: float = 0.0
    decay: float = 0.05
    clip: float | None = 3.0
    precision: Precision = "fp32"
    seed: int = 0
    ema: float | None = None
    by_epoch: bool = False

    def __post_init__(self) -> None:
        if self.images < 1:
            raise DataError("a network must have images to learn from.", "found none")
        wrong = {
            "epochs": self.epochs < 1,
            "batch": self.batch < 1,
            "rate": not 0 < self.rate < math.inf,
            "least_rate": not 0 <= self.least_rate <= self.rate,
            "warm_up": not 0 <= self.warm_up <= self.epochs,
            "decay": not 0 <= self.decay < math.inf,
            "clip": self.clip is not None and not self.clip > 0,
            "ema": self.ema is not None and not 0 < self.ema < 1,
        }
        if found := [f"{name} {getattr(self, name)}" for name, bad in wrong.items() if bad]:
            raise UsageError(
                "a run needs at least one epoch and one image a step, a least rate of at most its rate, a "
                "warm-up no longer than the run, a decay of at least 0, a clip above 0 and an ema between 0 "
                "and 1.",
                found,
            )

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of one pass; what is left over, another part each time, waits for the next."""
        return max(1, self.images // self.batch)

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    @property
    def warm_up_steps(self) -> int:
        return round(self.warm_up * self.steps_per_epoch)

    def as_dict(self) -> dict[str, Any]:
        found = asdict(self)
        if self.ema is None:  # a run without an average is the run it was before there was one
            del found["ema"]
        if not self.by_epoch:
            del found["by_epoch"]
        return found

    def place(self, step: int) -> int:
        """Return the step, from 0, whose rate a step has: its own, or that of its epoch's first."""
        return step - step % self.steps_per_epoch if self.by_epoch else step

    def order(self, epoch: int) -> Positions:
        """Return the positions of all images in the order of an epoch: another one each, always the same."""
        return np.random.default_rng([self.seed, epoch]).permutation(self.images)

    def batch_of(self, order: Positions, step: int) -> Positions:
        """Return the positions of a step of an epoch, from 0."""
        return order[step * self.batch : (step + 1) * self.batch]


def passes_of(plan: Plan, *, world: int, at_once: int) -> int:
    """Return into how many passes each process divides its share of a step.

    Raises:
        UsageError: fewer images a step than processes.
    """
    batch = min(plan.batch, plan.images)
    if batch < world:
        raise UsageError(
            "each process must have an image of every step.",
            f"{plural(world, 'process', 'processes')}, a batch of {plural(batch, 'image')}",
            "start fewer processes, or raise the batch size",
        )
    return math.ceil(batch / (world * at_once))


def shares_of(positions: Positions, *, passes: int, rank: int, world: int) -> list[Positions]:
    """Return what one process sees of a step, pass by pass.

    The batch is cut into ``passes * world`` runs whose lengths differ by at most 1; pass p of process r is
    run p · world + r. So one process with two passes sees the runs that two processes with one pass see.
    """
    runs = np.array_split(positions, passes * world)
    return [runs[p * world + rank] for p in range(passes)]
