"""One score as it is kept: a value and its interval, or the reason why there is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from panderm.errors import UsageError

LEVEL = 0.95
TOO_FEW = "too few to say"
SAME = "no interval: it is the same in every draw"
Interval = Literal["percentile", "bca", "analytic"]
METHOD = "percentile bootstrap"
WILSON = "Wilson"
DELONG = "DeLong"
EXACT = "exact (Clopper and Pearson)"
_METHODS: dict[str, str] = {
    "percentile": METHOD,
    "bca": "BCa bootstrap",
    "analytic": f"{WILSON} for shares and {DELONG} for AUROC, else {METHOD}",
}


def intervals_in_words(interval: Interval, *, stratified: bool) -> str:
    """Return how intervals were made, as ``BCa bootstrap, drawn within classes``."""
    return f"{_METHODS[interval]}{', drawn within classes' if stratified else ''}"


def require_interval(interval: str) -> None:
    """Raise :class:`UsageError` where there is no such way to make intervals."""
    if interval not in get_args(Interval):
        raise UsageError("--interval must be percentile, bca or analytic.", f"found {interval!r}")


@dataclass(frozen=True, repr=False)
class Score:
    """A value in its natural range with a 95 % interval; all None, and a reason, where not computable.

    Attributes:
        value: on the rows as they are.
        low: lower end of the interval.
        high: upper end.
        reason: why there is no value or no interval.
        method: how its interval was made, where that is not as most of the same record.
    """

    value: float | None
    low: float | None
    high: float | None
    reason: str | None = None
    method: str | None = None

    def __repr__(self) -> str:
        told = {"value": self.value, "low": self.low, "high": self.high, "reason": self.reason}
        told |= {} if self.method is None else {"method": self.method}
        return f"Score({', '.join(f'{name}={value!r}' for name, value in told.items())})"

    @property
    def too_few(self) -> bool:
        """Whether there is no value because the group is too small to say anything."""
        return self.value is None and TOO_FEW in (self.reason or "")

    def as_dict(self) -> dict[str, Any]:
        """Return value, low and high, and the reason and the method where there is one."""
        kept = {"value": self.value, "low": self.low, "high": self.high}
        further = {"reason": self.reason, "method": self.method}
        return kept | {name: told for name, told in further.items() if told is not None}

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
