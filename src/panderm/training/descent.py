"""Gradient descent with an early stop: several candidates at once, each batch read once for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from panderm.errors import DataError, plural, some
from panderm.progress import Progress
from panderm.training.features import Features, require_finite
from panderm.training.row_weights import row_weights
from panderm.training.settings import ClassWeight

Weights = dict[str, torch.Tensor]
Forward = Callable[..., torch.Tensor]
FIXED = frozenset({"mean", "scale"})
"""Weights that are measured, not learned."""
DROPOUT = 0.1
WARM_UP = 0.05  # of all steps, in which the rate rises


@dataclass(frozen=True)
class Candidate:
    """Where a descent begins, and how.

    Attributes:
        start: weights by name; of these ``mean`` and ``scale`` stay as they are.
        rate: AdamW's learning rate, at its height.
        decay: its decoupled weight decay, of what is no bias (Loshchilov and Hutter, ICLR 2019).
        named: what sets it apart, for the card.
    """

    start: Weights
    rate: float
    decay: float
    named: dict[str, Any]


@dataclass
class Found:
    """Where a descent has arrived.

    Attributes:
        weights: those of least held-out log loss; without held-out rows the last.
        epoch: the epoch, from 1, after which they were so.
        loss: the mean log loss of the held-out rows there; infinite without any.
        stopped: why it went no further.
    """

    weights: Weights
    epoch: int = 0
    loss: float = math.inf
    stopped: str = ""


@dataclass(frozen=True)
class Schedule:
    """How long a descent may be.

    Attributes:
        batch: rows a step.
        epochs: passes over the rows until the rate has fallen to 0, along a cosine.
        patience: epochs without a smaller held-out loss after which it stops.
        last: the epoch after which it stops in any case; None: ``epochs``.
    """

    batch: int
    epochs: int
    patience: int
    last: int | None = None


def schedule_for(n: int, *, batch: int, steps: int) -> Schedule:
    """Return a schedule of about so many steps for n rows: from 10 to 100 epochs; few rows, small batches."""
    batch = max(16, min(batch, n // 16))
    epochs = min(100, max(10, steps * batch // n))
    return Schedule(batch, epochs, max(3, epochs // 8))


class Rows:
    """Rows that are read batch by batch, and may lie in files.

    Args:
        features: the rows.
        classes: what their codes are positions in.
        class_weight: with the rows' weights, how much each counts: 1 on average.
        device: where they go.
        dtype: of what they become.
    """

    def __init__(
        self,
        features: Features,
        classes: tuple[str, ...],
        class_weight: ClassWeight,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.features = features
        self._codes = features.codes(classes)
        counts = row_weights(features, class_weight)
        self._counts = counts / counts.mean()
        self._device, self._dtype = device, dtype

    def __len__(self) -> int:
        return len(self.features)

    def read(self, rows: npt.NDArray[Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return X, codes and how much each counts; tokens (n, h, w, D) come as (n, h·w, D).

        Raises:
            DataError: NaN or infinite values; the images are named.
        """
        X = np.asarray(self.features.X[rows])
        require_finite(X, self.features.images[rows])
        x = torch.from_numpy(X).to(self._device).to(self._dtype)
        codes = torch.from_numpy(self._codes[rows]).to(self._device)
        counts = torch.from_numpy(self._counts[rows]).to(self._device, self._dtype)
        return x.flatten(1, 2) if x.ndim == 4 else x, codes, counts

    def in_turn(self, size: int) -> Iterator[npt.NDArray[Any]]:
        """Yield positions in order, batch by batch."""
        yield from np.array_split(np.arange(len(self)), math.ceil(len(self) / size))


class Descent:
    """One function of weights, fitted to rows by AdamW.

    Args:
        forward: (X, weights, drop) to logits (n, K).
        train: rows to fit.
        schedule: how long.
        seed: of the order of the rows, and of dropout.
        progress: show a bar.
    """

    def __init__(
        self, forward: Forward, train: Rows, schedule: Schedule, *, seed: int, progress: bool = False
    ) -> None:
        self._forward, self._train, self._schedule = forward, train, schedule
        self._seed, self._progress = seed, progress

    def run(self, candidates: Sequence[Candidate], held: Rows | None) -> list[Found]:
        """Return where each candidate arrives; without held-out rows after the last epoch.

        Raises:
            DataError: values that are not finite, before or during the fit; the images are named.
        """
        plan, n = self._schedule, len(self._train)
        last = plan.last or plan.epochs
        per_epoch = math.ceil(n / plan.batch)
        order, step = np.random.default_rng(self._seed), 0
        runs = [_Run(one, self._seed) for one in candidates]
        what = f"fitting {plural(len(runs), 'candidate')}"
        with Progress(last * n, what, "image", shown=self._progress) as bar:
            for epoch in range(1, last + 1):
                going = [run for run in runs if not run.found.stopped]
                if not going:
                    break
                for rows in np.array_split(order.permutation(n), per_epoch):
                    self._step(going, rows, _height(step, per_epoch * plan.epochs))
                    bar.advance(len(rows))
                    step += 1
                losses = self._losses(going, held) if held else [math.inf] * len(going)
                for run, loss in zip(going, losses, strict=True):
                    run.note(epoch, loss, plan.patience if held else last)
        for run in runs:
            run.found.stopped = run.found.stopped or f"the end of {plural(last, 'epoch')}"
        return [run.found for run in runs]

    def gradient_norm(self, weights: Weights) -> float:
        """Return the length of the gradient of the mean training loss, without decay and dropout."""
        learned = {k: w.clone().requires_grad_(k not in FIXED) for k, w in weights.items()}
        for rows in self._train.in_turn(self._schedule.batch):
            X, codes, counts = self._train.read(rows)
            loss = _loss(self._forward(X, learned), codes, counts) * (len(rows) / len(self._train))
            loss.backward()  # type: ignore[no-untyped-call]
        return math.sqrt(sum(float((w.grad**2).sum()) for w in learned.values() if w.grad is not None))

    def _step(self, going: list[_Run], rows: npt.NDArray[Any], height: float) -> None:
        X, codes, counts = self._train.read(rows)
        for run in going:
            run.optimizer.zero_grad(set_to_none=True)
            loss = _loss(self._forward(X, run.weights, run.drop), codes, counts)
            if not torch.isfinite(loss):
                named = some([str(x) for x in self._train.features.images[rows]])
                raise DataError(
                    "the fit must stay with finite numbers.",
                    f"the loss of a batch was {float(loss)}; its images: {named}",
                    "look at these images, embed them again, or leave them out",
                )
            loss.backward()  # type: ignore[no-untyped-call]
            for group in run.optimizer.param_groups:
                group["lr"] = height * run.candidate.rate
            run.optimizer.step()

    def _losses(self, going: list[_Run], held: Rows) -> list[float]:
        sums = np.zeros(len(going))
        with torch.inference_mode():
            for rows in held.in_turn(self._schedule.batch):
                X, codes, counts = held.read(rows)
                sums += [
                    float(_loss(self._forward(X, run.weights), codes, counts)) * len(rows) for run in going
                ]
        return [float(x) for x in sums / len(held)]


class _Run:
    """A candidate on its way."""

    def __init__(self, candidate: Candidate, seed: int) -> None:
        self.candidate = candidate
        self.weights = {k: w.clone().requires_grad_(k not in FIXED) for k, w in candidate.start.items()}
        learned = {k: w for k, w in self.weights.items() if k not in FIXED}
        groups = [
            {"params": [w for w in learned.values() if w.ndim > 1], "weight_decay": candidate.decay},
            {"params": [w for w in learned.values() if w.ndim == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=candidate.rate, fused=True)
        self._noise = torch.Generator(next(iter(learned.values())).device).manual_seed(seed)
        self.found = Found({})

    def drop(self, x: torch.Tensor) -> torch.Tensor:
        """Return x with some numbers 0, by the run's own noise, and the others as much larger."""
        kept = torch.rand(x.shape, generator=self._noise, device=x.device, dtype=x.dtype) >= DROPOUT
        return x * kept / (1 - DROPOUT)

    def note(self, epoch: int, loss: float, patience: int) -> None:
        """Keep the weights where no held-out loss was smaller, or stop after so many epochs without."""
        if loss < self.found.loss or math.isinf(loss):
            kept = {name: value.detach().clone() for name, value in self.weights.items()}
            self.found = Found(kept, epoch, loss)
        elif epoch - self.found.epoch >= patience:
            self.found.stopped = f"no smaller held-out loss in {plural(patience, 'epoch')}"


def _loss(logits: torch.Tensor, codes: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    each = torch.nn.functional.cross_entropy(logits, codes, reduction="none")
    return (each * counts).mean()


def _height(step: int, steps: int) -> float:
    """Return the part of the rate in [0, 1]: a short rise, then a cosine that falls to 0."""
    rise = (step + 1) / max(1.0, WARM_UP * steps)
    return min(1.0, rise) * 0.5 * (1 + math.cos(math.pi * step / steps))
