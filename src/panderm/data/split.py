"""Rows to parts: no group is ever torn apart, and every class keeps its share as near as the groups allow.

Pure arithmetic. Each group becomes its profile, how many rows it has of each stratum. Groups of one profile
are interchangeable, so the search is over how many of each profile go to each part: largest first into the
part that lacks most, then moves and swaps until none lowers the imbalance. Which of the interchangeable
groups go where is decided by a hash of seed and image names: the order of the rows never matters.

The imbalance of an assignment is the sum over strata s and parts p of w_s · (rows of s in p − share of p ·
rows of s)², with w_s = 1 / rows of s, so that three rows too many weigh more in a class of thirty than in one
of five thousand. Before it counts presence: a class with at least as many groups as there are parts should
stand in each of them. (Where groups hold several classes that can be impossible: two parts and the three
groups AB, BC, CA.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

METHOD = "largest group first, then moves and swaps; sum of squared deviations over rows of the stratum"
_OTHERS = 0.25  # weight of the strata of further columns; those of the label have 1
_SIZE = 0.01  # and of all rows together: it decides between assignments equal by class
_ENOUGH = 1e-9  # a step that lowers the imbalance by less is rounding
_STARTS, _FEW_PROFILES, _FEW_GROUPS = 16, 400, 20_000  # several starts where one takes no time
_MOST_CELLS = 100_000_000  # groups times values of two columns together; of more, each column alone
_PAIRS = 4_000_000  # swaps looked at at once, the most


@dataclass(frozen=True)
class Strata:
    """How many rows each group has of each stratum.

    Attributes:
        counts: int (groups, strata).
        weights: float64 (strata,), see the module.
        classes: int, the first so many strata are the classes of the label.
    """

    counts: npt.NDArray[np.integer[Any]]
    weights: Floats
    classes: int


def strata_of(groups: Ints, label: Sequence[str], others: Sequence[Sequence[str]] = ()) -> Strata:
    """Count the rows of every group by class, by the values of further columns, and by both together.

    Args:
        groups: int64 (n,), the group of each row, 0 … G − 1.
        label: the class of each row; one word for all where there is none.
        others: further columns to balance, each with n values.

    Example:
        >>> strata_of(np.array([0, 0, 1]), ["mel", "nevus", "nevus"]).counts[:, :2].tolist()
        [[1, 1], [0, 1]]
    """
    _, classes = np.unique(np.array(label, dtype=object).astype(str), return_inverse=True)
    columns = [(classes, 1.0)]
    for values in others:
        _, codes = np.unique(np.array(values, dtype=object).astype(str), return_inverse=True)
        _, both = np.unique(classes * (codes.max() + 1) + codes, return_inverse=True)
        columns.append((codes, _OTHERS))
        if (both.max() + 1) * (groups.max() + 1) <= _MOST_CELLS:
            columns.append((both, _OTHERS))
    columns.append((np.zeros(len(groups), dtype=np.int64), _SIZE))
    number = int(groups.max()) + 1
    counts, weights = [], []
    for codes, weight in columns:
        width = int(codes.max()) + 1
        table = np.bincount(groups * width + codes, minlength=number * width).reshape(number, width)
        counts.append(table.astype(np.int32))
        weights.append(weight / table.sum(axis=0))
    return Strata(np.hstack(counts), np.concatenate(weights), int(classes.max()) + 1)


def imbalance(strata: Strata, part: Ints, shares: Sequence[float]) -> tuple[int, float]:
    """Return how far an assignment of groups is from the wanted shares: the smaller, the better.

    Args:
        strata: of G groups.
        part: int64 (G,), the part of each group.
        shares: the wanted share of each part, positive, summing to 1.

    Returns:
        How often a class with at least as many groups as parts is absent from a part, and the sum of
        weighted squared deviations (in rows); compare them in this order.
    """
    held = np.array([strata.counts[part == p].sum(axis=0) for p in range(len(shares))])
    off = held - np.outer(shares, strata.counts.sum(axis=0))
    missing = (held[:, : strata.classes] == 0) & _required(strata, len(shares))
    return int(missing.sum()), float((off**2 @ strata.weights).sum())


def assign(strata: Strata, names: Sequence[str], shares: Sequence[float], *, seed: str) -> Ints:
    """Give every group its part.

    Args:
        strata: of G groups.
        names: a word for each group that does not depend on the order of rows, as of :func:`name_groups`.
        shares: the wanted share of each part, positive, summing to 1.
        seed: another seed gives another assignment, as near to the shares.

    Returns:
        int64 (G,), the part of each group, 0 … P − 1.

    Example:
        >>> strata = strata_of(np.arange(10), ["mel", "nevus"] * 5)
        >>> np.bincount(assign(strata, [str(i) for i in range(10)], [0.6, 0.4], seed="0")).tolist()
        [6, 4]
    """
    profiles, kind = np.unique(strata.counts, axis=0, return_inverse=True)
    copies = np.bincount(kind.ravel(), minlength=len(profiles)).astype(np.int64)
    best: _Search | None = None
    few = len(profiles) <= _FEW_PROFILES and len(names) <= _FEW_GROUPS
    for start in range(_STARTS if few else 1):
        search = _Search(profiles, copies, strata, shares, np.random.default_rng([*seed.encode(), start]))
        search.fill(shake=0.2 if start < _STARTS // 2 else 3.0)
        search.improve()
        if best is None or search.score() < best.score():
            best = search
    assert best is not None
    # Groups of one profile in the order of their hashes; the first to part 0, the next to part 1, …
    drawn = np.array([hashlib.sha256(f"{seed}\0{name}".encode()).digest() for name in names], dtype=object)
    order = np.lexsort((np.argsort(np.argsort(drawn)), kind.ravel()))
    part = np.empty(len(names), dtype=np.int64)
    part[order] = np.repeat(np.tile(np.arange(len(shares)), len(profiles)), best.held.ravel())
    return part


def name_groups(groups: Ints, images: Sequence[str]) -> list[str]:
    """Return for each group the smallest hash of its rows' image names: the same in any order of rows."""
    smallest: list[str] = [""] * (int(groups.max()) + 1)
    for group, image in zip(groups.tolist(), images, strict=True):
        name = hashlib.sha256(image.encode()).hexdigest()
        if not smallest[group] or name < smallest[group]:
            smallest[group] = name
    return smallest


def _required(strata: Strata, parts: int) -> npt.NDArray[np.bool_]:
    enough: npt.NDArray[np.bool_] = (strata.counts[:, : strata.classes] > 0).sum(axis=0) >= parts
    return enough


class _Search:
    """How many groups of each profile go to each part, ``held`` int64 (profiles, parts)."""

    def __init__(
        self,
        profiles: Ints,
        copies: Ints,
        strata: Strata,
        shares: Sequence[float],
        rng: np.random.Generator,
    ) -> None:
        self.profiles, self.copies, self.rng = profiles, copies, rng
        self.weighted = profiles * strata.weights
        self.square = (self.weighted * profiles).sum(axis=1)
        self.targets = np.outer(copies @ profiles, shares)
        self.weights = strata.weights
        self.held = np.zeros((len(copies), len(shares)), dtype=np.int64)
        self.rows = np.zeros(self.targets.shape, dtype=np.int64)
        chosen = np.flatnonzero(_required(strata, len(shares)))
        self.classes = chosen
        self.has = profiles[:, chosen] > 0

    def score(self) -> tuple[int, float]:
        off = self.rows - self.targets
        missing = int((self.rows[self.classes] == 0).sum())
        return missing, float(self.weights @ (off**2).sum(axis=1))

    def put(self, kind: int, part: int, number: int = 1) -> None:
        self.held[kind, part] += number
        self.rows[:, part] += number * self.profiles[kind]

    def fill(self, *, shake: float) -> None:
        """Largest first, each into the part that lacks most; sizes are shaken, so that starts differ."""
        sizes = self.profiles[:, -1] * np.exp(self.rng.normal(0, shake, len(self.profiles)))
        for kind in np.argsort(-sizes, kind="stable").tolist():
            lack = self.weighted[kind] @ (self.rows - self.targets)
            given = [0] * len(lack)
            costs, step = lack.tolist(), float(self.square[kind])
            for _ in range(int(self.copies[kind])):
                part = min(range(len(costs)), key=costs.__getitem__)
                given[part] += 1
                costs[part] += step
            for part, number in enumerate(given):
                if number:
                    self.put(kind, part, number)

    def improve(self) -> None:
        """Move and swap until nothing lowers the imbalance."""
        while self._move() or self._swap():
            pass

    def _move(self) -> bool:
        """Move groups of one profile from one part to another, where that lowers the imbalance most."""
        along = 2 * self.weighted @ (self.rows - self.targets)
        square = self.square[:, None]
        change = (square - along)[:, :, None] + (square + along)[:, None, :]
        rows = self.rows[self.classes]
        last = (self.profiles[:, self.classes, None] == rows) & self.has[:, :, None]
        first = self.has[:, :, None] & (rows == 0)
        lost = last.sum(axis=1)[:, :, None] - first.sum(axis=1)[:, None, :]
        possible = (self.held > 0)[:, :, None] & ~np.eye(len(along[0]), dtype=bool)
        best = _best(lost, change, possible)
        if best is None:
            return False
        kind, source, target = (int(i) for i in np.unravel_index(best, change.shape))
        number = 1
        if lost.flat[best] == 0:  # as many at once as lower the squares, while no class leaves
            curve = 2 * self.square[kind]
            number = max(1, int((curve - change.flat[best]) / (2 * curve)))
            number = min(number, int(self.held[kind, source]))
            own = self.profiles[kind, self.classes]
            if (self.has[kind] & (rows[:, source] <= number * own)).any():
                number = 1
        self.put(kind, source, -number)
        self.put(kind, target, number)
        return True

    def _swap(self) -> bool:
        parts = self.held.shape[1]
        swapped = [self._swap_between(p, q) for p in range(parts) for q in range(p + 1, parts)]
        return any(swapped)

    def _swap_between(self, p: int, q: int) -> bool:
        """Swap the two groups of parts p and q that lower the imbalance most, if any do."""
        ours, theirs = (np.flatnonzero(self.held[:, part]) for part in (p, q))
        if not len(ours) or not len(theirs):
            return False
        if len(ours) * len(theirs) > _PAIRS:
            most = int(_PAIRS**0.5)
            ours, theirs = (self.rng.permutation(x)[:most] for x in (ours, theirs))
        off = self.rows - self.targets
        along = 2 * self.weighted @ (off[:, q] - off[:, p])
        forth, back = 2 * self.square[ours] + along[ours], 2 * self.square[theirs] - along[theirs]
        change = forth[:, None] + back[None, :] - 4 * self.weighted[ours] @ self.profiles[theirs].T
        best = _best(self._lost(p, ours, theirs) + self._lost(q, theirs, ours).T, change)
        if best is None:
            return False
        one, other = np.unravel_index(best, change.shape)
        for kind, source, target in ((int(ours[one]), p, q), (int(theirs[other]), q, p)):
            self.put(kind, source, -1)
            self.put(kind, target, 1)
        return True

    def _lost(self, part: int, going: Ints, coming: Ints) -> Ints:
        """Return by how many classes fewer (or, negative, more) a part holds after each swap."""
        lost = np.zeros((len(going), len(coming)), dtype=np.int64)
        for s in self.classes.tolist():
            now = self.rows[s, part]
            gone = self.profiles[going, s] == now
            if gone.any():
                lost += np.outer(gone, self.profiles[coming, s] == 0)
                lost -= now == 0
        return lost


def _best(lost: Ints, change: Floats, possible: npt.NDArray[np.bool_] | None = None) -> int | None:
    """Return the flat position of the best step, or None: first the fewest classes lost, then the squares."""
    if possible is not None and not possible.any():
        return None
    fewest = lost.min() if possible is None else lost[possible].min()
    if fewest > 0:
        return None
    allowed = lost == fewest if possible is None else (lost == fewest) & possible
    cost = np.where(allowed, change, np.inf)
    best = int(np.argmin(cost))
    return best if fewest < 0 or cost.flat[best] < -_ENOUGH else None
