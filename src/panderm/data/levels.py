"""The cells of a column to levels: values as they are, or bands where they are many numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from panderm.data.columns import Column, whole_numbers
from panderm.errors import TableError, UsageError, did_you_mean, plural, some

EMPTY = "(empty)"
MOST_NUMBERS = 12
MOST_LEVELS = 20
CROSSED = ":"  # as R writes an interaction
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
_AGE = re.compile(r"(^|[^a-z])age($|[^a-z])", re.I)
_OLDEST = 130

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Levels:
    """A column cut into levels.

    Attributes:
        names: the levels that have rows, in order: numbers ascending, else A to Z, empty cells last.
        codes: int64 (n,), position in ``names`` of each row's level.
        cut: how numbers were cut into bands, in words; None where the values stand as they are.
        unseen: values of the whole table that no row has, in order; of bands none. Of two columns crossed,
            the pairs that no row has.
        edges: where numbers were cut, ascending; None where the values stand as they are.
        bands: which band each of ``names`` is, 0 lying below the first edge; empty cells have none.
    """

    names: tuple[str, ...]
    codes: npt.NDArray[np.int64]
    cut: str | None
    unseen: tuple[str, ...] = ()
    edges: tuple[float, ...] | None = None
    bands: tuple[int, ...] = ()

    def place(self, cells: Column) -> npt.NDArray[np.int64]:
        """Return the position in ``names`` of other cells of the same column, int64 (m,).

        Bands stay where they are: nothing is cut anew. A cell of a level that has none of these rows is -1.
        """
        place: dict[object, int] = {name: code for code, name in enumerate(self.names)}
        place |= {float(name): code for code, name in enumerate(self.names) if is_number(name)}
        if self.edges is not None:
            place = {band: code for code, band in enumerate(self.bands)}
        empty = self.names.index(EMPTY) if self.names[-1] == EMPTY else -1
        return np.array(
            [empty if cell is None else self._find(cell, place) for cell in cells], dtype=np.int64
        )

    def _find(self, cell: str, place: Mapping[object, int]) -> int:
        if self.edges is not None:
            found = np.searchsorted(self.edges, float(cell), side="right") if is_number(cell) else None
            return place.get(None if found is None else int(found), -1)
        return place.get(cell, place.get(float(cell), -1) if is_number(cell) else -1)


def columns_of(asked: str, have: Sequence[str], source: str) -> tuple[str, ...]:
    """Return the one column, or the two that are crossed, that a name stands for.

    A column of that very name comes before a crossing: ``sex:age`` is two columns where there is no third.

    Args:
        asked: a column, or two with a colon between them.
        have: the columns of the table.
        source: the name of the table, for what is said about it.

    Raises:
        TableError: neither such a column nor two.
        UsageError: a column crossed with itself.
    """
    if asked in have or CROSSED not in asked:
        return (asked,)  # a column that is not there is told of where it is read
    at = [i for i, sign in enumerate(asked) if sign == CROSSED]
    pairs = [(asked[:i].strip(), asked[i + 1 :].strip()) for i in at]
    pair = next((one for one in pairs if all(name in have for name in one)), pairs[0])
    if pair[0] == pair[1]:
        raise UsageError(
            "--by must cross two different columns.", f"found {asked!r}", f"--by {pair[0] or 'sex'}"
        )
    missing = [f"{name!r}{did_you_mean(name, have)}" for name in pair if name not in have]
    if missing:
        raise TableError(
            f"both columns of the crossing {asked!r} must exist, {pair[0]!r} and {pair[1]!r}.",
            f"{source} has no {' and no '.join(missing)}; it has: {', '.join(have)}",
            "two columns can be crossed, --by sex:age",
        )
    return pair


def cross(first: Levels, other: Levels, *, columns: tuple[str, str], source: str = "the table") -> Levels:
    """Return the pairs of levels of two columns that have rows, in the first's order and then the other's.

    Args:
        first: levels of one column, for n rows.
        other: those of another, for the same rows.
        columns: their names, for what is said about them.
        source: the name of their table, likewise.

    Raises:
        TableError: more than 20 pairs that have rows.

    Example:
        >>> sex = cut_into_levels(np.array(["f", "m", "f"], dtype=object), column="sex")
        >>> age = cut_into_levels(np.array(["31", "40", None], dtype=object), column="age")
        >>> cross(sex, age, columns=("sex", "age")).names
        ('f:31', 'f:(empty)', 'm:40')
    """
    width = len(other.names)
    pairs, codes = np.unique(first.codes * width + other.codes, return_inverse=True)
    names = tuple(f"{first.names[pair // width]}:{other.names[pair % width]}" for pair in pairs)
    if len(names) > MOST_LEVELS:
        sizes = (
            f"column {name!r} has {plural(len(levels.names), 'level')}"
            for name, levels in zip(columns, (first, other), strict=True)
        )
        raise TableError(
            f"a crossing of subgroups must have at most {MOST_LEVELS} pairs that have rows.",
            f"in these rows of {source}, {' and '.join(sizes)}: {len(names)} pairs",
            "cut numbers into fewer bands, as --bands age=40,65, or merge values in a column of their own",
        )
    cuts = [f"{name} {one.cut}" for name, one in zip(columns, (first, other), strict=True) if one.cut]
    there = set(pairs.tolist())
    lacking = [
        f"{a}:{b}"
        for i, a in enumerate(first.names)
        for j, b in enumerate(other.names)
        if i * width + j not in there and EMPTY not in (a, b)
    ]
    unseen = [f"{name} {v}" for name, one in zip(columns, (first, other), strict=True) for v in one.unseen]
    return Levels(names, codes.astype(np.int64), ", ".join(cuts) or None, (*lacking, *unseen))


def cut_into_levels(
    cells: Column,
    *,
    column: str,
    source: str = "the table",
    whole_table: Iterable[str] = (),
    edges: Sequence[float] | None = None,
) -> Levels:
    """Give every cell its level.

    Up to 12 different numbers stand as they are. More are cut: ages (a column with ``age`` in its name and no
    number outside 0 to 130) into decades, others at the quartiles of these cells. A band holds its lower
    edge and not its upper one.

    Args:
        cells: (n,) strings, None where empty; n >= 1.
        column: its name, for what is said about it.
        source: the name of its table, likewise.
        whole_table: the values of the column in all rows of the table, these ones or others.
        edges: where to cut, ascending; what lies below the first is a band of its own.

    Raises:
        TableError: more than 20 values that are not numbers, or edges for such values.

    Example:
        >>> cut_into_levels(np.array(["12", "57", None], dtype=object), column="age", edges=[0, 18]).names
        ('0–17', '18 and over', '(empty)')
    """
    full = np.array([cell is not None for cell in cells], dtype=bool)
    known = cells[full]
    words = sorted({cell for cell in known if not is_number(cell)})
    if edges is not None and words:
        raise TableError(
            "only a column of numbers can be cut into bands.",
            f"column {column!r} of {source} has {plural(len(words), 'value')} that are none: {some(words)}",
            "leave unknown cells empty, or leave the bands of this column out",
        )
    everywhere = set(known) | set(whole_table)
    at: tuple[float, ...] | None = None
    bands: tuple[int, ...] = ()
    if words or not len(known):
        names, codes, cut = (*_as_they_are(known), None)
    else:
        known = whole_numbers(known)
        numbers = {float(cell) for cell in everywhere if is_number(cell)}
        few = len(numbers) <= MOST_NUMBERS
        names, codes, cut, at, bands = _numbers(known, column, edges, as_they_are=few)
    if len(names) > MOST_LEVELS:
        hint = "merge them in a column of their own, and name that one"
        if len(words) <= 3 and edges is None:
            hint = f"numbers are cut into bands where no other value is among them: empty {some(words)}"
        raise TableError(
            f"a column of subgroups must have at most {MOST_LEVELS} different values.",
            f"column {column!r} of {source} has {len(names)} in these rows: {some(names)}",
            "name fewer bands" if edges is not None else hint,
        )
    all_codes = np.full(len(cells), len(names), dtype=np.int64)
    all_codes[full] = codes
    unseen = _unseen(everywhere, names) if cut is None else ()
    return Levels(names if full.all() else (*names, EMPTY), all_codes, cut, unseen, at, bands)


def is_number(cell: str) -> bool:
    """Say whether a cell is a finite number, ``12``, ``-0.5``, ``1e3``."""
    return _NUMBER.fullmatch(cell) is not None and bool(np.isfinite(float(cell)))


def _as_they_are(known: Column) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    names = tuple(sorted(set(known)))
    position = {name: i for i, name in enumerate(names)}
    return names, np.array([position[cell] for cell in known], dtype=np.int64)


def _unseen(everywhere: set[str], names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the values that no name stands for: "1.0" and "1" are the same."""
    seen = set(names) | {float(name) for name in names if is_number(name)}
    left = sorted(x for x in everywhere if x not in seen and not (is_number(x) and float(x) in seen))
    if all(is_number(x) for x in left):
        left.sort(key=float)
    return tuple(whole_numbers(np.array(left, dtype=object)))


def _numbers(
    known: Column, column: str, edges: Sequence[float] | None, *, as_they_are: bool
) -> tuple[tuple[str, ...], npt.NDArray[np.int64], str | None, tuple[float, ...] | None, tuple[int, ...]]:
    values = np.array([float(cell) for cell in known])
    distinct, code = np.unique(values, return_inverse=True)
    if edges is None and as_they_are:
        # The first way in which each number is written, "0.50" or "0.5".
        spelt = {float(cell): cell for cell in reversed(known)}
        return tuple(spelt[value] for value in distinct), code.astype(np.int64), None, None, ()
    if edges is not None:
        at, cut = np.array(sorted(edges), dtype=np.float64), "in bands as asked"
    elif _AGE.search(column) and distinct[0] >= 0 and distinct[-1] <= _OLDEST:
        at, cut = np.arange(0, distinct[-1] + 1, 10, dtype=np.float64), "in decades"
    else:
        at, cut = _quartiles(values, distinct), "at the quartiles of these rows"
    band = np.searchsorted(at, values, side="right")  # 0: below the first edge
    used, codes = np.unique(band, return_inverse=True)
    whole = bool((values == np.floor(values)).all() and (at == np.floor(at)).all())
    names = tuple(_band(at, int(b), whole) for b in used)
    return names, codes.astype(np.int64), cut, tuple(at.tolist()), tuple(used.tolist())


def _quartiles(values: Numbers, distinct: Numbers) -> Numbers:
    at = np.unique(np.quantile(values, [0.25, 0.5, 0.75], method="higher"))
    at = at[at > distinct[0]]
    return at if len(at) else distinct[1:2]


def _band(at: Numbers, band: int, whole: bool) -> str:
    low, high = (at[i] if 0 <= i < len(at) else None for i in (band - 1, band))
    if low is None:
        return f"under {high:.15g}"
    if high is None:
        return f"{low:.15g} and over"
    if not whole:
        return f"{low:.15g} to under {high:.15g}"
    return f"{low:.15g}–{high - 1:.15g}" if high - 1 > low else f"{low:.15g}"
