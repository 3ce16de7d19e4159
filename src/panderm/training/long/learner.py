"""What the loop must be told by whoever lets something learn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import nn

from panderm.training.long.plan import Positions

Batch = TypeVar("Batch")


class Loss(NamedTuple):
    """The loss of one pass.

    Attributes:
        mean: 0-d, differentiable: the mean over ``weight``.
        weight: over how many images, tokens or pixels the mean is; passes and processes count by it.
        parts: other means over the same weight, for the journal.
    """

    mean: torch.Tensor
    weight: float
    parts: dict[str, torch.Tensor] = {}  # noqa: RUF012 (never changed)


class Learner(Protocol[Batch]):
    """Gives batches and their loss. What it draws must follow from the seed, the epoch and the position."""

    def batches(self, epoch: int, groups: Sequence[Positions]) -> Iterator[Batch]:
        """Yield one batch for each group of positions, in their order; no group is empty."""

    def loss(self, model: nn.Module, batch: Batch) -> Loss | None:
        """Return the loss of a batch, by ``model(…)``; None where nothing of it could be read."""

    def blank(self) -> Batch:
        """Return a batch of one image that counts for nothing: all processes must take part in a pass."""

    def names(self, batch: Batch) -> list[str]:
        """Return the names of a batch's images, for a message."""

    def unreadable(self, batch: Batch) -> Sequence[tuple[str, str]]:
        """Return the images of a batch that were left out, each with the reason."""


class Watch:
    """What is done beside the learning; this one does nothing.

    All of it happens in the first process only, but ``share``, and ``wants``, which all must answer alike.
    """

    def began(self, step: int) -> None:
        """Hear from which step on the run goes."""

    def after_step(self, line: dict[str, Any]) -> None:
        """Hear what the journal says of a step."""

    def wants(self, epoch: int) -> bool:  # noqa: ARG002
        """Say whether the network is wanted after an epoch, counted from 1."""
        return False

    def share(
        self,
        epoch: int,  # noqa: ARG002
        model: nn.Module,  # noqa: ARG002
        averaged: nn.Module | None,  # noqa: ARG002
        rank: int,  # noqa: ARG002
        world: int,  # noqa: ARG002
    ) -> Any:
        """Do one process's part of a look, where each has the network whole; return it, JSON-able.

        Args:
            epoch: as of :meth:`after_epoch`, as are both networks.
            model: in each process.
            averaged: likewise.
            rank: of this process; 0 of 1 where the network is shared out, and the first one looks alone.
            world: how many divide the look.
        """
        return None

    def shared(self, parts: Sequence[Any]) -> None:
        """Hear all processes' parts, in their order, before :meth:`after_epoch`."""

    def after_epoch(
        self,
        epoch: int,  # noqa: ARG002
        model: nn.Module,  # noqa: ARG002
        averaged: nn.Module | None,  # noqa: ARG002
    ) -> list[dict[str, Any]]:
        """Look at the network after an epoch, and return lines for the journal.

        Args:
            epoch: from 1.
            model: the network as one process has it; its weights are not to be changed.
            averaged: the same with the moving average for its weights, ready to be looked at; None where
                none is kept. Not to be changed either.
        """
        return []

    def enough(self, epoch: int) -> bool:  # noqa: ARG002
        """Say whether a run ends with this epoch, before its plan does; asked after every one but the last.

        The answer must follow from what the journal says: a run that goes on asks again only of epochs that
        its checkpoint did not see.
        """
        return False

    def after_lines(self) -> None:
        """Hear that the lines of an epoch stand in the journal; also that it was the last, if it is."""
