"""One score as it is kept: a value and its interval, or the reason why there is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

LEVEL = 0.95
METHOD = "percentile bootstrap"
TOO_FEW = "too few to say"


@dataclass(frozen=True)
class Score:
    """A value in its natural range with a 95 % interval; all None, and a reason, where not computable."""

    value: float | None
    low: float | None
    high: float | None
    reason: str | None = None

    @property
    def too_few(self) -> bool:
        """Whether there is no value because the group is too small to say anything."""
        return self.value is None and TOO_FEW in (self.reason or "")

    def as_dict(self) -> dict[str, Any]:
        """Return value, low and high, and the reason where there is one."""
        kept = {"value": self.value, "low": self.low, "high": self.high}
        return kept if self.reason is None else {**kept, "reason": self.reason}

    @classmethod
    def of(
        cls,
        value: float,
        interval: tuple[float, float, int],
        *,
        draws: int,
        reason: str | None,
        clusters: int,
    ) -> Score:
        """Return a score, or why it has no value or no interval.

        Args:
            value: on the rows as they are; not finite where it is not computable.
            interval: low, high and the number of draws it rests on, of ``percentile_interval``.
            draws: how many were made.
            reason: why it is not computable, where it is not.
            clusters: independent units resampled.
        """
        if not np.isfinite(value):
            return cls(None, None, None, reason or "undefined on these rows")
        if clusters == 1:
            return cls(value, None, None, "no interval: there is one unit only to resample")
        low, high, used = interval
        if not np.isfinite(low):
            why = f"no interval: it can be computed in {used} of {draws} draws only"
            return cls(value, None, None, why)
        return cls(value, low, high)


def as_plain(held: Any) -> Any:
    """Return a section of scores as plain numbers, text, lists and None; what is not finite is None.

    Args:
        held: a dataclass, mapping, sequence, array or number, and any of these in any other.
    """
    if isinstance(held, Score):
        return held.as_dict()
    if dataclasses.is_dataclass(held) and not isinstance(held, type):
        return {field.name: as_plain(getattr(held, field.name)) for field in dataclasses.fields(held)}
    if isinstance(held, Mapping):
        return {str(key): as_plain(value) for key, value in held.items()}
    if isinstance(held, np.ndarray):
        return as_plain(held.tolist())
    if isinstance(held, list | tuple):
        return [as_plain(value) for value in held]
    if isinstance(held, np.generic):
        return as_plain(held.item())
    if isinstance(held, float):
        return held if np.isfinite(held) else None
    return held
