"""Result tables as numbers: what each row is of, which score, its value and interval, and n."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from panderm.scores import Score

Value = Score | float | int | None


@dataclass(frozen=True)
class Result:
    """One number.

    Attributes:
        of: what it is of, one name for each of the table's keys.
        score: its name, as in ``scores.json``.
        value: with interval, or a number that has none.
        n: what it rests on: rows, unless the table says otherwise.
    """

    of: tuple[str, ...]
    score: str
    value: Value
    n: int | None = None


@dataclass(frozen=True)
class Results:
    """One table.

    Attributes:
        name: of its files.
        title: what it holds, in words.
        keys: what its rows are of: model, class, ...
        rows: its numbers.
        across: what stands side by side where it is printed: ``score`` or one of the keys.
        signed: whether its numbers are differences.
        note: what a reader must know besides.
    """

    name: str
    title: str
    keys: tuple[str, ...]
    rows: tuple[Result, ...]
    across: str = "score"
    signed: bool = False
    note: str = ""


def results(
    name: str,
    title: str,
    keys: tuple[str, ...],
    rows: Iterable[Result],
    *,
    across: str = "score",
    signed: bool = False,
    note: str = "",
) -> list[Results]:
    """Return the table, or nothing where it has no rows."""
    held = tuple(rows)
    return [Results(name, title, keys, held, across, signed, note)] if held else []


def numbers(of: tuple[str, ...], scores: Mapping[str, Value], n: int | None) -> list[Result]:
    """Return one row for each score of the same thing on the same rows."""
    return [Result(of, name, value, n) for name, value in scores.items()]
