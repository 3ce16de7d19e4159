"""Which rows are labelled: nested, stratified parts of the training rows, in whole units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from panderm.training.subset import take_part

Rows = npt.NDArray[np.intp]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Subset:
    """The rows labelled at one point of a curve, in one repeat.

    Attributes:
        rows: positions among the training rows, ascending.
        lacking: codes of the classes that have too few rows for it; where there are any, it is not fitted.
    """

    rows: Rows
    lacking: tuple[int, ...] = ()


def nested_parts(
    labels: Integers, units: Integers, percents: Sequence[float], *, repeats: int, seed: int
) -> list[list[Subset]]:
    """Draw nested parts of some rows, stratified by class, in whole units.

    In each repeat the units are shuffled once, by a generator of its own. For each percent, the classes are
    filled from the rarest on: the next unit that holds the class is taken as long as that brings the number
    of its rows nearer to its share. Of each class one unit is taken at least. What a smaller percent took,
    a larger one holds.

    Args:
        labels: (n,) class codes.
        units: (n,) what is labelled together: patients, lesions; numbers of any kind.
        percents: ascending, in (0, 100]; 100 are all rows.
        repeats: draws of labels; the first of many are the same as those of few.
        seed: of the draws, not negative.

    Returns:
        By repeat, then by percent.

    Example:
        >>> labels, units = np.array([0, 0, 1, 1] * 50), np.arange(200)
        >>> parts = nested_parts(labels, units, [10, 50], repeats=3, seed=0)
        >>> [len(subset.rows) for subset in parts[0]]
        [20, 100]
    """
    n, classes = len(labels), np.unique(labels)
    totals = {int(c): int((labels == c).sum()) for c in classes}
    fill = _Filling(labels, units)
    found = []
    for repeat in range(repeats):
        fill.begin(np.random.default_rng([seed, repeat]))
        parts = []
        for percent in percents:
            if percent >= 100:
                parts.append(Subset(np.arange(n, dtype=np.intp)))
                continue
            for c in sorted(totals, key=lambda c: (totals[c], c)):
                fill.up_to(c, percent / 100 * totals[c])
            parts.append(Subset(fill.rows()))
        found.append(parts)
    return found


def nested_shots(
    labels: Integers, units: Integers, shots: Sequence[int], *, repeats: int, seed: int
) -> list[list[Subset]]:
    """Draw k rows of each class, for several k, nested; from different units as long as there are any.

    Args:
        labels: (n,) class codes.
        units: (n,) likewise as in :func:`nested_parts`.
        shots: the k, ascending, 1 or more.
        repeats: draws of labels.
        seed: of the draws.

    Returns:
        By repeat, then by k; ``lacking`` names the classes of fewer than k rows.
    """
    classes = [int(c) for c in np.unique(labels)]
    found = []
    for repeat in range(repeats):
        rng = np.random.default_rng([seed, repeat])
        order = {c: _units_in_turn(np.flatnonzero(labels == c), units, rng) for c in classes}
        parts = []
        for k in shots:
            lacking = tuple(c for c in classes if len(order[c]) < k)
            rows = np.sort(np.concatenate([order[c][:k] for c in classes]))
            parts.append(Subset(rows.astype(np.intp), lacking))
        found.append(parts)
    return found


def published_parts(labels: Integers, percents: Sequence[float]) -> list[list[Subset]]:
    """Take the parts that the published probe takes: one draw of labels, neither stratified nor grouped.

    Args:
        labels: (n,) class codes of the training rows in the order of their table.
        percents: ascending, in (0, 100].

    Returns:
        One repeat, by percent; ``lacking`` names the classes of which nothing was drawn.
    """
    rows, classes = np.arange(len(labels), dtype=np.intp), np.unique(labels)
    parts = []
    for percent in percents:
        taken = take_part(rows, percent / 100)
        drawn = set(labels[taken].tolist())
        parts.append(Subset(taken, tuple(int(c) for c in classes if c not in drawn)))
    return [parts]


class _Filling:
    """Units in a random order, taken class by class."""

    def __init__(self, labels: Integers, units: Integers) -> None:
        _, self._unit = np.unique(units, return_inverse=True)
        _, label = np.unique(labels, return_inverse=True)
        self._code = {int(c): i for i, c in enumerate(np.unique(labels))}
        self._counts = np.zeros((int(self._unit.max()) + 1, len(self._code)), dtype=np.int64)
        np.add.at(self._counts, (self._unit, label), 1)

    def begin(self, rng: np.random.Generator) -> None:
        order = rng.permutation(len(self._counts))
        self._waiting = {c: order[self._counts[order, i] > 0].tolist()[::-1] for c, i in self._code.items()}
        self._taken = np.zeros(len(self._counts), dtype=bool)
        self._held = np.zeros(len(self._code), dtype=np.int64)

    def up_to(self, c: int, share: float) -> None:
        i, waiting = self._code[c], self._waiting[c]
        while waiting:
            unit = waiting[-1]
            if not self._taken[unit]:
                lacks = share - self._held[i]
                if self._held[i] and self._counts[unit, i] - lacks > lacks:
                    return  # nearer to the share without it
                self._taken[unit] = True
                self._held += self._counts[unit]
            waiting.pop()

    def rows(self) -> Rows:
        return np.flatnonzero(self._taken[self._unit])


def _units_in_turn(rows: Rows, units: Integers, rng: np.random.Generator) -> Rows:
    """Return rows in a random order in which no unit comes again before all others have come."""
    shuffled = rng.permutation(rows)
    own = units[shuffled]
    by_unit = np.argsort(own, kind="stable")
    ordered = own[by_unit]
    first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    lengths = np.diff(np.append(first, len(ordered)))
    turn = np.empty(len(rows), dtype=np.int64)
    turn[by_unit] = np.arange(len(rows)) - np.repeat(first, lengths)
    return np.asarray(shuffled[np.argsort(turn, kind="stable")], dtype=np.intp)
