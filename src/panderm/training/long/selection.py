"""Which epoch is kept: the best by one score of the validation rows, the first of equals; when to stop."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Selection:
    """The best epoch so far, by a score of the validation rows.

    Attributes:
        score: its name in a look's scores; of ``loss`` less is better.
        patience: epochs without a better one after which it is enough; None: never.
        looks: the looks so far: epoch and value, NaN where it cannot be computed.
    """

    score: str
    patience: int | None = None
    looks: list[tuple[int, float]] = field(default_factory=list)

    def hear(self, look: Mapping[str, Any]) -> bool:
        """Hear of an epoch, a journal line with ``epoch`` and ``val``; say whether it is the best so far."""
        before = self.best
        epoch = int(look["epoch"])
        self.looks = [one for one in self.looks if one[0] < epoch]
        held = look["val"]["scores"].get(self.score, {}).get("value")
        self.looks.append((epoch, math.nan if held is None else float(held)))
        return self.best != before or len(self.looks) == 1

    @property
    def best(self) -> int | None:
        """The epoch of the best value, the first of equals; None before any look."""
        return best_of(self.looks, less=self.score == "loss")

    @property
    def value(self) -> float | None:
        """The best value; None where there is none."""
        found = dict(self.looks).get(self.best or 0, math.nan)
        return None if math.isnan(found) else found

    def best_by(self, epoch: int) -> int | None:
        """Return what was the best epoch when one was done."""
        return best_of([one for one in self.looks if one[0] <= epoch], less=self.score == "loss")

    def enough(self, epoch: int) -> bool:
        """Say whether the run ends after an epoch: none of the last ``patience`` was better."""
        best = self.best_by(epoch)
        return self.patience is not None and best is not None and epoch - best >= self.patience


def best_of(looks: Iterable[tuple[int, float]], *, less: bool = False) -> int | None:
    """Return the epoch of the highest value, or the lowest; the first of equals.

    A value that cannot be computed is worse than any that can.

    Example:
        >>> best_of([(1, 0.5), (2, 0.7), (3, 0.7)])
        2
    """
    best: tuple[int, float] | None = None
    for epoch, value in looks:
        worth = -math.inf if math.isnan(value) else (-value if less else value)
        if best is None or worth > best[1]:
            best = (epoch, worth)
    return None if best is None else best[0]
