"""The loop: epochs, steps, checkpoints and the journal; killed at any moment, it goes on as if it never was.

All that is drawn follows from the seed and the place in the run: no generator's state has to be kept, and a
checkpoint is weights, optimiser and one number. On a CPU a run that was stopped is, to the bit, the run that
was not; with another number of processes or passes sums have another order, and the last bits differ.
"""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Generic

import torch
from torch import nn

from panderm.embeddings.making.ranks import Ranks
from panderm.errors import DataError, ParentsError, UsageError, plural
from panderm.progress import Progress, say
from panderm.training.long.checkpoint import Saved, gathered, last_checkpoint, put_back, write_checkpoint
from panderm.training.long.journal import JOURNAL_NAME, Journal, read_journal
from panderm.training.long.learner import Batch, Learner, Watch
from panderm.training.long.plan import Plan, passes_of, shares_of
from panderm.training.long.step import Seen, Stepper
from panderm.training.long.stopping import Stop, stop_after_a_step
from panderm.training.long.together import Sharing, Together

_FORETELL = 20.0  # seconds of steps after which the end can be foretold


@dataclass(frozen=True)
class Learned:
    """How a run ended.

    Attributes:
        model: the network as one process has it, in the first process; None in others.
        steps: of the whole run, as far as it went.
        done_before: steps that were there already.
        losses: of the steps of the last epoch that were taken now.
        seconds: of the steps taken now.
        bad: images that could not be read, with the reason, of the whole run.
        averaged: the network with the moving average for its weights, likewise; None where none was kept.
        stopped_early: whether it was enough before the plan's end.
    """

    model: nn.Module | None
    steps: int
    done_before: int
    losses: list[float]
    seconds: float
    bad: dict[str, str]
    averaged: nn.Module | None = None
    stopped_early: bool = False


def learn(
    learner: Learner[Batch],
    model: nn.Module,
    plan: Plan,
    folder: Path,
    *,
    record: Mapping[str, Any],
    device: torch.device,
    at_once: int,
    groups: Sequence[Mapping[str, Any]] | None = None,
    ranks: Ranks | None = None,
    sharing: Sharing = "ddp",
    checkpoint_minutes: float = 10.0,
    watch: Watch | None = None,
    what: str = "learning",
    progress: bool = True,
) -> Learned:
    """Let a network learn to the end of its plan, from the start or from the last checkpoint in a folder.

    Args:
        learner: gives batches and their loss.
        model: the network, on its device; the same in every process.
        plan: the numbers that decide the run.
        folder: of the run; it exists. ``checkpoint/`` and ``journal.jsonl`` are written there.
        record: what else decides the run, JSON-able: its data, its network, what it learns from.
        device: of this process.
        at_once: images of one pass of one process; a step takes as many passes as it needs.
        groups: of the network's parameters that learn, each with ``names``, ``weight_decay`` and
            ``rate_scale``, by which the plan's rate is multiplied; by default all learn at that rate, biases
            and norms without decay. They decide the run: what made them belongs into ``record``.
        ranks: the processes; None: this one alone.
        sharing: ``ddp``: each process has the network; ``fsdp``: each has a part of it.
        checkpoint_minutes: between two checkpoints; 0: after every step. The last step has one in any case.
        watch: what is done beside.
        what: for the bar.
        progress: show it.

    Returns:
        How it ended.

    Raises:
        DataError: a loss that is no number, or no image that can be read.
        ParentsError: the folder's run has other data or another plan.
        ArtifactError: the disk is full, or a checkpoint damaged.
        KeyboardInterrupt: stopped with Ctrl-C or by a scheduler; a checkpoint was written.
    """
    if sharing == "fsdp" and plan.precision == "fp16":
        raise UsageError(
            "fsdp computes in fp32 or bf16.", "found fp16, whose scale each process would find for itself"
        )
    together = Together(ranks or Ranks(), device, sharing)
    with together.end_for_all(), torch.random.fork_rng(_devices(device)):
        model.train()
        stepper = Stepper(learner, model, plan, together, groups)
        decided = {"plan": plan.as_dict(), **record}
        run = _Run(stepper, model, folder, decided, at_once, checkpoint_minutes, watch or Watch())
        try:
            return run.to_the_end(what, shown=progress and together.lead)
        finally:
            run.close()


class _Run(Generic[Batch]):
    def __init__(
        self,
        stepper: Stepper[Batch],
        model: nn.Module,
        folder: Path,
        decided: dict[str, Any],
        at_once: int,
        minutes: float,
        watch: Watch,
    ) -> None:
        self.stepper, self.model, self.folder = stepper, model, folder
        self.plan, self.together, self.watch = stepper.plan, stepper.together, watch
        self.decided, self.minutes = decided, minutes
        self.passes = passes_of(self.plan, world=self.together.world, at_once=at_once)
        self.bad: dict[str, str] = {}
        self.journal: Journal | None = None
        self.enough = False
        self.step = self._go_on()
        self.kept = self.step  # at which there is a checkpoint, or nothing to keep
        self.clock = time.monotonic()

    def close(self) -> None:
        if self.journal is not None:
            self.journal.close()

    def _go_on(self) -> int:
        """Take up the last checkpoint, where there is one; return how many steps were done."""
        together = self.together
        saved: Saved | None = last_checkpoint(self.folder) if together.lead else None
        told = {"step": saved.step, **saved.record} if saved else None
        told = together.tell(told)
        if told is not None:
            require_same(told["decided"], self.decided, self.folder)
            held = dict(saved.tensors()) if saved else {}
            names = together.tell(sorted(held))

            def take(name: str, like: torch.Tensor) -> torch.Tensor:
                return together.laid_out(held.pop(name) if together.lead else None, like)

            put_back(self.model, self.stepper.optimizer, names, take, self._average)
            self.stepper.go_on(told["stepper"])
        step = int(told["step"]) if told else 0
        if together.lead:
            path = self.folder / JOURNAL_NAME
            self.journal = Journal(path, at=told["journal"] if told else 0)
            for line in read_journal(path):
                self.bad |= dict(line.get("unreadable", ()))
                self.enough = self.enough or bool(line.get("enough"))
            self.watch.began(step)
        self.enough = bool(together.tell(self.enough))
        return step

    @property
    def _average(self) -> Mapping[str, torch.Tensor] | None:
        average = self.stepper.average
        return None if average is None else average.tensors

    def to_the_end(self, what: str, *, shown: bool) -> Learned:
        plan, before, per_epoch = self.plan, self.step, self.plan.steps_per_epoch
        batch = min(plan.batch, plan.images)
        started = time.monotonic()
        losses: list[float] = []
        with (
            stop_after_a_step(shown=shown) as stop,
            Progress(plan.steps * batch, what, "images", done=before * batch, shown=shown) as bar,
        ):
            foretold = not shown
            for epoch in range(before // per_epoch, plan.epochs):
                if self.enough:
                    break
                first, losses = self.step % per_epoch, []
                for seen in self._steps(epoch, first, stop):
                    if seen.loss is not None:
                        losses.append(seen.loss)
                        bar.note(f"epoch {epoch + 1}/{plan.epochs}, loss {seen.loss:.4f}")
                    bar.advance(batch)
                    if not foretold and (seconds := time.monotonic() - started) > _FORETELL:
                        foretold = True
                        self._foretell(seconds / (self.step - before))
        if self.kept != self.step:
            self._keep()
        seconds = time.monotonic() - started
        average, early = self.stepper.average, self.step < plan.steps
        plain, averaged = self.together.plain(), None if average is None else average.network()
        averaged = averaged if self.together.lead else None
        return Learned(plain, self.step, before, losses, seconds, dict(self.bad), averaged, early)

    def _steps(self, epoch: int, first: int, stop: Stop) -> Iterator[Seen]:
        """Take the steps of an epoch, from one on, and all that follows each."""
        plan, order = self.plan, self.plan.order(epoch)
        of_step = [
            shares_of(
                plan.batch_of(order, s),
                passes=self.passes,
                rank=self.together.rank,
                world=self.together.world,
            )
            for s in range(first, plan.steps_per_epoch)
        ]
        learned = first > 0
        batches = iter(
            self.stepper.learner.batches(epoch, [g for shares in of_step for g in shares if len(g)])
        )
        try:
            for shares in of_step:
                since = time.monotonic()
                due = self.together.lead and since - self.clock >= self.minutes * 60
                seen = self.stepper(self.step, shares, batches, (float(stop.asked), float(due)))
                self.step += 1
                self._tell(epoch + 1, seen, time.monotonic() - since)
                learned = learned or seen.loss is not None
                if self.step == (epoch + 1) * plan.steps_per_epoch:
                    if not learned:  # before anything looks at the images
                        raise DataError(
                            "a network must have images to learn from.",
                            [f"of {plural(plan.images, 'image')} none can be read", *_some(self.bad)],
                            "name the folder or table of the right images, or mend these files",
                        )
                    self._look(epoch + 1)
                stopped, due = (bool(value) for value in seen.told)
                if (stopped or due) and self.step < plan.steps:
                    self._keep()
                if stopped and self.step < plan.steps:
                    raise KeyboardInterrupt
                yield seen
        finally:
            if isinstance(batches, Generator):
                batches.close()

    def _tell(self, epoch: int, seen: Seen, seconds: float) -> None:
        new = []
        if seen.bad:
            for part in self.together.gather([list(one) for one in seen.unreadable]):
                for name, reason in part:
                    if name not in self.bad:
                        self.bad[name] = reason
                        new.append([name, reason])
        if self.journal is None:
            return
        line: dict[str, Any] = {"step": self.step, "epoch": epoch, "loss": seen.loss, **seen.parts}
        line |= {"rate": seen.rate, "norm": seen.norm, "weight": seen.weight}
        line |= {"seconds": round(seconds, 4), "waited": round(seen.waited, 4)}
        if seen.bad:
            line["left_out"] = seen.bad
        if new:
            line["unreadable"] = new
        self.journal.write(line)
        self.watch.after_step(line)

    def _look(self, epoch: int) -> None:
        """Let the network be looked at, and hear whether it was enough."""
        wanted, enough = self.watch.wants(epoch), False
        place = {"step": self.step, "epoch": epoch}
        if wanted:
            average = self.stepper.average
            averaged = None if average is None else average.network()
            own = self.together.own()
            parts = self._shares(epoch, own, averaged)
            if own is not None and self.journal is not None:
                self.watch.shared(parts)
                for line in self.watch.after_epoch(epoch, own, averaged):
                    self.journal.write({**place, **line})
            if own is not None:
                own.train()
        if self.journal is not None:
            enough = self.step < self.plan.steps and self.watch.enough(epoch)
            if enough:
                self.journal.write({**place, "enough": True})
            if wanted:
                self.watch.after_lines()
        self.enough = bool(self.together.tell(enough))

    def _shares(self, epoch: int, own: nn.Module | None, averaged: nn.Module | None) -> list[Any]:
        """Let each process that has the network whole do its part of the look."""
        together = self.together
        if together.sharing == "fsdp":
            return [] if own is None else [self.watch.share(epoch, own, averaged, 0, 1)]
        assert own is not None
        return together.gather(self.watch.share(epoch, own, averaged, together.rank, together.world))

    def _keep(self) -> None:
        """Write a checkpoint."""
        tensors = gathered(self.model, self.stepper.optimizer, self.together.whole, self._average)
        if self.journal is not None:
            record = {
                "decided": self.decided,
                "stepper": self.stepper.state(),
                "journal": self.journal.keep(),
            }
            write_checkpoint(self.folder, self.step, tensors, record)
        self.kept, self.clock = self.step, time.monotonic()

    def _foretell(self, seconds: float) -> None:
        left = seconds * (self.plan.steps - self.step)
        until = datetime.now().astimezone() + timedelta(seconds=left)
        day = "" if left < 12 * 3600 else f" on {until:%A, %d %B}"
        say(f"expected end: {until:%H:%M}{day}, in {in_words(left)}")


def require_same(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    """Raise where a run would go on in another way than it began.

    Raises:
        ParentsError: it names what differs.
    """
    was, is_ = dict(_leaves(before)), dict(_leaves(now))
    differ = [name for name in {**was, **is_} if was.get(name) != is_.get(name)]
    if differ:
        raise ParentsError(
            "a run must go on as it began.",
            [f"{name}: {_short(was.get(name))} before, {_short(is_.get(name))} now" for name in differ],
            f"give what {folder} was begun with; or begin again with --overwrite, or in another --out",
        )


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _leaves(below, f"{name}.{key}" if name else str(key))
    else:
        yield name.removeprefix("plan."), list(value) if isinstance(value, tuple) else value


def _short(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{40,}", value):
        return value[:12]
    return "none" if value is None else str(value)


def _some(bad: Mapping[str, str]) -> list[str]:
    return [f"{name}: {reason}" for name, reason in list(bad.items())[:3]]


def in_words(seconds: float) -> str:
    """Return ``"2 h 10 min"``, ``"3 d 4 h"``, ``"40 s"``."""
    for unit, below, size, part in (("d", "h", 86400, 3600), ("h", "min", 3600, 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} {int(seconds % size // part)} {below}"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _devices(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []
