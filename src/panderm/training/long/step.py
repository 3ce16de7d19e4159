"""One step: a batch in passes, shared out among processes, and one move of the weights."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic

import numpy as np
import torch
from torch import nn

from panderm.errors import DataError, some
from panderm.training.long.average import Average
from panderm.training.long.groups import decay_groups, groups_of
from panderm.training.long.learner import Batch, Learner, Loss
from panderm.training.long.plan import Plan, Positions
from panderm.training.long.schedule import rate_at
from panderm.training.long.together import Together

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_NAMED = 8  # images named where a loss is not finite
_BETAS, _EPS = (0.9, 0.999), 1e-8


@dataclass
class Seen:
    """What a step saw, over all processes.

    Attributes:
        loss: the mean; None where no image could be read.
        parts: other means.
        weight: over how much the means are.
        norm: the gradient's, before it is clipped; None where nothing was learned.
        rate: the learning rate.
        waited: seconds this process waited for images.
        bad: how many images could not be read.
        unreadable: those of this process, each with the reason.
        told: sums over the processes of what the loop wanted to know.
    """

    loss: float | None = None
    parts: dict[str, float] = field(default_factory=dict)
    weight: float = 0.0
    norm: float | None = None
    rate: float = 0.0
    waited: float = 0.0
    bad: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    told: list[float] = field(default_factory=list)


class Stepper(Generic[Batch]):
    """AdamW (Loshchilov and Hutter, ICLR 2019) on a network, step by step.

    Args:
        learner: gives the loss.
        model: the network.
        plan: the numbers.
        together: the processes.
        groups: of parameters that learn in their own way, by their names; by default with weight decay, and
            without.
    """

    def __init__(
        self,
        learner: Learner[Batch],
        model: nn.Module,
        plan: Plan,
        together: Together,
        groups: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        self.learner, self.plan, self.together = learner, plan, together
        self.called = together.wrap(model)
        self.optimizer = torch.optim.AdamW(
            decay_groups(model, decay=plan.decay) if groups is None else groups_of(model, groups),
            lr=plan.rate,
            betas=_BETAS,
            eps=_EPS,
            fused=together.device.type == "cuda",
        )
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        # With float16 a loss is made larger, so that small gradients are not lost; off, it does nothing.
        self.scaler = torch.amp.GradScaler(together.device.type, enabled=plan.precision == "fp16")
        self.average = None if plan.ema is None else Average(model, together, plan.ema)

    def __call__(
        self, step: int, shares: Sequence[Positions], batches: Iterator[Batch], asked: Sequence[float] = ()
    ) -> Seen:
        """Take a step, and say what was seen.

        Args:
            step: from 0, of the whole run.
            shares: what this process sees of it, pass by pass.
            batches: yields the batch of each share that is not empty.
            asked: numbers to be summed over the processes.

        Raises:
            DataError: the loss or its gradient is not finite; the weights are as they were before.
        """
        seen = Seen(rate=self._set_rate(step))
        losses, names = self._passes(step, shares, batches, seen)
        self._meet(step, losses, names, asked, seen)
        if seen.weight:
            self._move(step, names, seen)
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(step + 1)
        return seen

    def _set_rate(self, step: int) -> float:
        plan = self.plan
        rate = rate_at(
            plan.place(step),
            steps=plan.steps,
            warm_up=plan.warm_up_steps,
            peak=plan.rate,
            least=plan.least_rate,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("rate_scale", 1.0)
        return rate

    def _passes(
        self, step: int, shares: Sequence[Positions], batches: Iterator[Batch], seen: Seen
    ) -> tuple[list[Loss], list[list[str]]]:
        world, device = self.together.world, self.together.device
        dtype = _DTYPES.get(self.plan.precision)
        losses, names = [], []
        for p, share in enumerate(shares):
            batch = None
            if len(share):
                since = time.monotonic()
                batch = next(batches)
                seen.waited += time.monotonic() - since
                seen.unreadable += self.learner.unreadable(batch)
            torch.manual_seed(_seed(self.plan.seed, step, p * world + self.together.rank))
            with (
                self.together.last_pass(p == len(shares) - 1),
                torch.autocast(device.type, dtype, enabled=dtype is not None),
            ):
                loss = None if batch is None else self.learner.loss(self.called, batch)
                if loss is None:
                    if world == 1:
                        continue
                    # The others wait for this process in the middle of the network: it counts for nothing.
                    blank = self.learner.loss(self.called, self.learner.blank())
                    assert blank is not None
                    loss = blank._replace(weight=0.0)
                share_of = loss.weight * world / self.plan.batch
                # A loss of nothing must not bring NaN: 0 times infinity is none.
                scaled = loss.mean * share_of if loss.weight else loss.mean.nan_to_num() * 0.0
                self.scaler.scale(scaled).backward()  # type: ignore[no-untyped-call]
            losses.append(loss)
            names.append([] if batch is None else self.learner.names(batch))
        return losses, names

    def _meet(
        self, step: int, losses: list[Loss], names: list[list[str]], asked: Sequence[float], seen: Seen
    ) -> None:
        """Sum what all processes saw: here alone the numbers come from the device."""
        counted = [loss for loss in losses if loss.weight]
        # A process whose images were all bad has seen what is called how.
        called = sorted({name for loss in losses for name in loss.parts})
        values = [
            [float(loss.mean.detach()), *(float(loss.parts[name].detach()) for name in called)]
            for loss in counted
        ]
        weights = [loss.weight for loss in counted]
        sums = [
            sum(w * row[i] for w, row in zip(weights, values, strict=True)) for i in range(1 + len(called))
        ]
        known = [float(sum(weights)), float(len(seen.unreadable)), *asked]
        found = self.together.sum([*known, *sums])
        seen.weight, seen.bad, seen.told = found[0], int(found[1]), found[2 : 2 + len(asked)]
        if not seen.weight:
            return
        means = [value / seen.weight for value in found[len(known) :]]
        if not math.isfinite(means[0]):
            named = [some_names for loss, some_names in zip(losses, names, strict=True) if loss.weight]
            bad = [not math.isfinite(row[0]) for row in values]
            mine = [name for part, is_bad in zip(named, bad, strict=True) if is_bad for name in part]
            raise self._not_finite("loss", step, self.together.gather(mine))
        seen.loss, seen.parts = means[0], dict(zip(called, means[1:], strict=True))

    def _move(self, step: int, names: list[list[str]], seen: Seen) -> None:
        self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        # The passes have divided by the batch as planned, and images were left out, or tokens are counted.
        if seen.weight != self.plan.batch:
            torch._foreach_mul_(gradients, self.plan.batch / seen.weight)
        clip = math.inf if self.plan.clip is None else self.plan.clip
        norm = nn.utils.clip_grad_norm_(self.parameters, clip)
        whole = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        seen.norm = float(whole)
        if not math.isfinite(seen.norm):
            if not self.scaler.is_enabled():
                mine = [name for some_names in names for name in some_names]
                raise self._not_finite("gradient", step, self.together.gather(mine))
            seen.norm = None  # too large a scale: this step is left out, and the scale is halved
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _not_finite(self, what: str, step: int, named: list[list[str]]) -> DataError:
        names = [name for part in named for name in part]
        return DataError(
            f"the {what} of a step must be a number.",
            [f"it is not, in step {step + 1:,}", f"the images: {some(names, _NAMED)}"],
            "look at these images; or lower the learning rate and go on from a checkpoint of before",
        )

    def state(self) -> dict[str, Any]:
        """Return what belongs in a checkpoint besides tensors, JSON-able."""
        return {"scaler": self.scaler.state_dict()} if self.scaler.is_enabled() else {}

    def go_on(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`state` returned."""
        if self.scaler.is_enabled() and "scaler" in state:
            self.scaler.load_state_dict(state["scaler"])


def _seed(seed: int, step: int, run: int) -> int:
    """Return the seed of what a network draws in a pass: dropout, stochastic depth."""
    return int(np.random.SeedSequence([seed, step, run]).generate_state(1, np.uint64)[0] >> 1)
