"""A learner that costs nothing: numbers instead of images, a network of two layers with dropout."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from panderm.training.long.learner import Loss
from panderm.training.long.plan import Plan, Positions


class Numbers:
    """Learns to add four numbers up; what it draws follows from seed, epoch and position."""

    def __init__(
        self,
        plan: Plan,
        *,
        dropout: bool = True,
        bad: Collection[int] = (),
        infinite: int | None = None,
        pause: float = 0.0,
    ) -> None:
        self.plan, self.dropout, self.bad, self.infinite, self.pause = plan, dropout, bad, infinite, pause

    def batches(self, epoch: int, groups: Sequence[Positions]) -> Iterator[Few]:
        for group in groups:
            good = np.array([i for i in group if i not in self.bad], dtype=np.int64)
            drawn = [np.random.default_rng([self.plan.seed, epoch, i]).normal(size=4) for i in good]
            X = torch.tensor(np.array(drawn).reshape(-1, 4), dtype=torch.float32)
            yield Few(good, X, tuple((f"{i}.jpg", "damaged") for i in group if i in self.bad))

    def loss(self, model: nn.Module, batch: Few) -> Loss | None:
        time.sleep(self.pause)
        if not len(batch.X):
            return None
        model.train(self.dropout)
        errors = (model(batch.X)[:, 0] - batch.X.sum(1)).square()
        if self.infinite in batch.positions:
            errors = errors * torch.inf
        return Loss(errors.mean(), len(errors), {"half": errors.mean().detach() / 2})

    def blank(self) -> Few:
        return Few(np.zeros(1, dtype=np.int64), torch.zeros(1, 4), ())

    def names(self, batch: Few) -> list[str]:
        return [f"{i}.jpg" for i in batch.positions]

    def unreadable(self, batch: Few) -> tuple[tuple[str, str], ...]:
        return batch.bad


@dataclass
class Few:
    """A batch: the numbers of those that can be read, and the others' names."""

    positions: Positions
    X: torch.Tensor
    bad: tuple[tuple[str, str], ...]


def network() -> nn.Module:
    """Two blocks in a list, as those of a transformer are, and dropout."""
    torch.manual_seed(1)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([nn.Linear(4, 32), nn.Linear(32, 32)])
            self.drop = nn.Dropout(0.1)
            self.head = nn.Linear(32, 1)
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, X: torch.Tensor) -> torch.Tensor:
            for block in self.blocks:
                X = self.drop(torch.nn.functional.gelu(block(X)))
            made: torch.Tensor = self.head(X)
            return made

    return Network()
