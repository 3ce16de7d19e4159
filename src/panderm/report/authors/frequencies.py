"""Shares as natural frequencies: ``75 of 100 (65 to 85)``, never more certain than the number behind them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from panderm.scores import Score


def of_100(value: float, *, fine: bool = False) -> str:
    """Return a share as a number of 100.

    Whole, but where rounding would say none or all of what is not: ``0.4``, ``99.6``, and beyond what one
    decimal can tell, ``under 0.1`` and ``over 99.9``.

    Args:
        value: a share, in [0, 1].
        fine: with a decimal, whatever it is.
    """
    hundred = 100 * value
    whole = f"{hundred:.0f}"
    if value in (0, 1) or (whole not in ("0", "100") and not fine):
        return whole
    finer = f"{hundred:.1f}"
    if finer == "0.0":
        return "under 0.1"
    return "over 99.9" if finer == "100.0" else finer


def hundred(score: Score | None, *, others: bool = False, note: str = "", fine: bool = False) -> str | None:
    """Return ``"75 (65 to 85)"``, a share of 100 with its interval; None where there is no value.

    Args:
        score: a share.
        others: tell the share that is left, 1 minus the score.
        note: what else stands within the brackets.
        fine: with a decimal.
    """
    if score is None or score.value is None:
        return None
    value, low, high = score.value, score.low, score.high
    if others:
        value, low, high = 1 - value, None if high is None else 1 - high, None if low is None else 1 - low
    told = partial(of_100, fine=fine)
    between = _none(score) if low is None or high is None else f"{told(low)} to {told(high)}"
    return f"{told(value)} ({'; '.join(filter(None, (between, note)))})"


def plainly(score: Score | None, digits: int = 2) -> str | None:
    """Return ``"0.91 (0.62 to 1.30)"``, any score with its interval; None where there is no value."""
    if score is None or score.value is None:
        return None
    low, high = score.low, score.high
    between = _none(score) if low is None or high is None else f"{_at(low, digits)} to {_at(high, digits)}"
    return f"{_at(score.value, digits)} ({between})"


def quoted(names: Sequence[str], joint: str = "or") -> str:
    """Return ``“mel”``, ``“bcc” or “mel”``, ``“bcc”, “mel” or “scc”``."""
    told = [f"“{name}”" for name in names]
    return told[0] if len(told) == 1 else f"{', '.join(told[:-1])} {joint} {told[-1]}"


def _none(score: Score) -> str:
    why = (score.reason or "").removeprefix("no interval").removeprefix(": ")
    return f"no interval: {why}" if why else "no interval"


def _at(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else f"{0:.{digits}f}"
