"""The columns of a split: which part each row is in, once or for each fold; and where that falls short."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from panderm.data.columns import Column
from panderm.data.rows import HELD, SPLITS
from panderm.data.split import assign, name_groups, strata_of
from panderm.errors import DataError, plural, some

Ints = npt.NDArray[np.int64]
_OFF, _CLASS_OFF = 0.02, 0.10  # shares off by more are told: of all rows, of a class


@dataclass(frozen=True)
class Units:
    """The rows to be split.

    Attributes:
        image: their images' names, unique.
        group: int64 (n,), 0 … G − 1: rows of one group stay together.
        label: the class of each, None where there is none.
        others: further columns whose values are balanced.
    """

    image: Column
    group: Ints
    label: Column
    others: tuple[Column, ...] = ()

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True)
class Parts:
    """The parts of n rows.

    Attributes:
        columns: by suffix of the split column ("" for the split itself, "_1" … "_K" for the folds), n words.
        fold: int64 (n,), 1 … K, 0 for rows held back; None where there are no folds.
    """

    columns: dict[str, Column]
    fold: Ints | None


def deal(
    units: Units,
    *,
    test: float,
    val: float,
    folds: int | None = None,
    kept: npt.NDArray[np.bool_] | None = None,
    seed: int = 0,
) -> Parts:
    """Deal rows to train, val and test, or to folds.

    Args:
        units: the rows.
        test: share of all rows for test; with folds, the share held back from all of them.
        val: share of all rows for val; with folds, in each of them, taken from its training rows.
        folds: how many.
        kept: bool (n,), rows that are test whatever the shares: their groups are, whole. ``test`` is then 0.
        seed: another seed deals otherwise, as near to the shares.

    Raises:
        DataError: the rows kept for test leave none to train on.
    """
    part = np.full(len(units), "train", dtype=object)
    free = np.ones(len(units), dtype=bool)
    if kept is not None:
        free = ~np.isin(units.group, np.unique(units.group[kept]))
        part[~free] = "test"
    if folds is None:
        rest = val * len(units) / max(1, free.sum()) if kept is not None else val
        if rest + test >= 1 or not free.any():
            raise DataError(
                "a split must leave rows to train on.",
                f"{plural(int((~free).sum()), 'row')} of {len(units):,} are test with their groups, "
                f"and val takes {val:.0%}",
                "ask for a smaller --val, or leave --keep-test out",
            )
        wanted = [("train", 1 - rest - test), ("val", rest), ("test", test)]
        _deal(units, part, free, wanted, f"{seed}")
        return Parts({"": part}, None)
    if test:
        _deal(units, part, free, [("train", 1 - test), ("test", test)], f"{seed} held")
        free = part != "test"
    fold = np.zeros(len(units), dtype=object)
    _deal(units, fold, free, [(k, 1 / folds) for k in range(1, folds + 1)], f"{seed}")
    columns: dict[str, Column] = {"": part}
    share = val * len(units) / max(1.0, free.sum() * (1 - 1 / folds))
    for k in range(1, folds + 1):
        mine = np.where(free, "train", HELD).astype(object)
        mine[fold == k] = "test"
        learning = free & (fold != k)
        _deal(units, mine, learning, [("train", 1 - share), ("val", share)], f"{seed} val {k}")
        columns[f"_{k}"] = mine
    return Parts(columns, fold.astype(np.int64))


def _deal(
    units: Units, part: Column, rows: npt.NDArray[np.bool_], wanted: Sequence[tuple[object, float]], seed: str
) -> None:
    """Write into ``part`` the part of the chosen rows."""
    wanted = [(name, share) for name, share in wanted if share > 0]
    if not rows.any():
        return
    _, group = np.unique(units.group[rows], return_inverse=True)
    label = [x or "" for x in units.label[rows]]
    strata = strata_of(group, label, [[x or "" for x in other[rows]] for other in units.others])
    names = name_groups(group, units.image[rows].tolist())
    dealt = assign(strata, names, [share for _, share in wanted], seed=seed)
    part[rows] = np.array([name for name, _ in wanted], dtype=object)[dealt][group]


def shortfalls(units: Units, part: Column, wanted: dict[str, float], largest: str) -> list[str]:
    """Say in sentences where parts lack their share of the rows or of a class, or a class altogether.

    Args:
        units: the rows.
        part: the part of each.
        wanted: the share of each part.
        largest: the largest group in words.
    """
    n, found = len(units), []
    held = Counter(part)
    off = [p for p, share in wanted.items() if abs(held[p] - share * n) > max(1.0, _OFF * n)]
    if off:
        told = "; ".join(f"{p} holds {held[p] / n:.0%} of the rows, not {wanted[p]:.0%}" for p in off)
        most = np.bincount(units.group).max() / n
        found.append(f"{told}. The largest group, {largest}, has {most:.0%} and cannot be torn apart")
    away, absent = [], []
    for name in sorted({x for x in units.label if x is not None}):
        mine = units.label == name
        total, here = int(mine.sum()), Counter(part[mine])
        groups = len(np.unique(units.group[mine]))
        gone = [p for p in wanted if not here[p]]
        if gone:
            absent.append(f"class {name} ({plural(groups, 'group')}) is not in {some(gone)}")
        elif not off:
            away += [
                f"class {name}: {p} holds {here[p] / total:.0%}, not {share:.0%}"
                for p, share in wanted.items()
                if abs(here[p] - share * total) > max(2.0, _CLASS_OFF * total)
            ]
    if absent:
        found.append(f"{some(absent)}. Nothing can be said of a class where it is absent")
    if away:
        found.append(f"{some(away)}: groups that hold several of their rows cannot be torn apart")
    return found


def count(units: Units, part: Column, classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return how many rows of each class each part holds; without classes, under the name ""."""
    present = [p for p in (*SPLITS, HELD) if p in set(part)]
    names = classes or [""]
    told = {p: Counter(x or "" for x in units.label[part == p]) for p in present}
    return {p: {name: here[name] for name in names} for p, here in told.items()}
