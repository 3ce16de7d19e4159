"""What a threshold is to reach, and the one that reaches it on the rows that choose."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast

from panderm.errors import UsageError
from panderm.statistics.operating import Cuts, for_cost, for_sensitivity, for_specificity, for_youden

Aim = Literal["sensitivity", "specificity", "youden", "cost", "threshold"]


@dataclass(frozen=True)
class Target:
    """What a threshold is to reach.

    Attributes:
        aim: at least this sensitivity or specificity, the largest Youden index, the least cost, or a
            threshold that is given.
        value: in (0, 1) of the first two and of a threshold; of a cost, what a missed positive costs in false
            alarms; None of Youden's.
    """

    aim: Aim
    value: float | None = None

    @classmethod
    def read(cls, text: str) -> Target:
        """Read ``sensitivity=0.95``, ``specificity=0.9``, ``youden``, ``cost=20`` or ``threshold=0.3``.

        Raises:
            UsageError: none of these.
        """
        aim, _, number = text.partition("=")
        try:
            value = float(number) if number else None
        except ValueError:
            value = math.nan
        sound = aim == "youden" and value is None
        if aim in ("sensitivity", "specificity", "threshold"):
            sound = value is not None and 0 < value < 1
        elif aim == "cost":
            sound = value is not None and 0 < value < math.inf
        if not sound:
            raise UsageError(
                "--at must be an operating point.",
                f"found {text!r}",
                "sensitivity=0.95, specificity=0.9, youden, cost=20 or threshold=0.3",
            )
        return cls(cast(Aim, aim), value)

    @property
    def words(self) -> str:
        """What it is in words."""
        if self.aim == "youden":
            return "largest sensitivity + specificity"
        if self.aim == "cost":
            return f"least cost, a missed positive costing {self.value:g} false alarms"
        return f"{self.aim} {'=' if self.aim == 'threshold' else '≥'} {self.value:g}"

    @property
    def text(self) -> str:
        """What :meth:`read` reads."""
        return self.aim if self.value is None else f"{self.aim}={self.value:g}"


DEFAULT_TARGETS = (Target("sensitivity", 0.95), Target("specificity", 0.90), Target("youden"))


@dataclass(frozen=True)
class Reached:
    """The threshold of a target.

    Attributes:
        threshold: a row is called positive where its probability is so high or higher; None: there is none.
        did: sensitivity and specificity there, on the rows that chose it; None of a threshold that was given.
        reason: why there is none.
    """

    threshold: float | None
    did: dict[str, float | None]
    reason: str | None = None


def reach(target: Target, at: Cuts | None) -> Reached:
    """Return the threshold of a target.

    Args:
        target: what it is to reach.
        at: what every threshold does on the rows that choose; None where they are of one kind only.
    """
    if target.aim == "threshold":
        return Reached(target.value, {"sensitivity": None, "specificity": None})
    if at is None:
        return Reached(None, {}, "the rows to choose on are of one kind only")
    value = 0.0 if target.value is None else target.value
    found: int | None
    if target.aim == "sensitivity":
        found = for_sensitivity(at, value)
    elif target.aim == "specificity":
        found = for_specificity(at, value)
    else:
        found = for_youden(at) if target.aim == "youden" else for_cost(at, value)
    if found is None:
        return Reached(None, {}, f"no threshold reaches {target.words} on the rows to choose on")
    did = {"sensitivity": float(at.sensitivity[found]), "specificity": float(at.specificity[found])}
    return Reached(float(at.thresholds[found]), {**did})
