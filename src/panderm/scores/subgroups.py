"""Scores by subgroup: each level of a column, and its gap to all other rows, on the draws of the whole.

A gap is the level's score minus that of everyone else. Both are computed on every bootstrap draw of the same
patients, so that a patient with images on both sides moves them together. Where a group is too small to say
anything, that is said: it never gets a number that looks fair.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from panderm.data.levels import Levels
from panderm.errors import plural
from panderm.predictions import Predictions
from panderm.progress import Progress
from panderm.scores.folds import fold_codes
from panderm.scores.record import LevelScores, SubgroupColumn, Subgroups
from panderm.scores.resampled import Drawn, Resampling, Statistic
from panderm.scores.score import TOO_FEW, Score
from panderm.statistics.classification import (
    NEED_NO_CLASS,
    classification_scorer,
    not_computable,
    score_names,
)

# In simulation the interval of a gap in AUROC holds the truth in 89 to 94 of 100 studies where a group has 10
# patients of the rarer class; with 5 of them and 60 others, in 83 to 88 (benchmarks/subgroup_intervals.py).
FEWEST_UNITS = 10
_HEADLINES = ("auroc", "auroc_ovo", "balanced_accuracy", "accuracy")
# They need the class at this position; all other scores need every class, or none.
_SIDES = {"sensitivity": 1, "specificity": 0}

Floats = npt.NDArray[np.float64]


def subgroup_score_names(n_classes: int) -> tuple[str, ...]:
    """Return the names of a subgroup's scores: those of the whole and, of two classes, the two sides."""
    return (*score_names(n_classes), *(_SIDES if n_classes == 2 else ()))


def score_subgroups(
    given: Predictions, columns: Mapping[str, Levels], resampling: Resampling, *, progress: bool = False
) -> tuple[SubgroupColumn, ...]:
    """Score every level of every column, and its gap to the other rows.

    A group of fewer than 10 units (patients, lesion groups or images, whichever are resampled) has no score,
    nor has it one that needs a class which fewer than 10 of its units show. Draws are those of the whole.

    Args:
        given: predictions, n rows.
        columns: by name, their levels for these n rows.
        resampling: of the whole.
        progress: show progress on standard error.
    """
    groups = _Groups(given, resampling)
    for levels in columns.values():
        for code in range(len(levels.names)):
            groups.add(levels.codes == code)
            groups.add(levels.codes != code)
    groups.resample(progress=progress)
    return tuple(
        SubgroupColumn(
            column=name,
            levels=tuple(
                groups.level(level, levels.codes == code) for code, level in enumerate(levels.names)
            ),
            cut=levels.cut,
            unseen=levels.unseen,
        )
        for name, levels in columns.items()
    )


def headline(held: Subgroups) -> str:
    """Return the one score to show first: AUROC, else the next of those that have a gap anywhere.

    Scores that need fewer of the classes come later: where groups are small, accuracy may be all there is.
    """
    levels = [level for column in held.columns for level in column.levels]
    asked = [name for name in _HEADLINES if name in levels[0].scores]
    said = (name for name in asked if any(level.gaps[name].value is not None for level in levels))
    return next(said, asked[0])


@dataclass(frozen=True, eq=False)
class _Group:
    """Some rows: how many independent units they have, and why some scores there cannot be."""

    key: str
    rows: npt.NDArray[np.int64]
    clusters: int
    reasons: dict[str, str]


class _Groups:
    """The groups of some predictions, each computed once: of two levels, one is the other's rest."""

    def __init__(self, given: Predictions, resampling: Resampling) -> None:
        self._given = given
        self._engine = resampling
        self._truth = given.truth_codes()
        self._folds = fold_codes(given)
        self._clusters, self._unit = resampling.clusters, resampling.unit
        self._groups: dict[bytes, _Group] = {}
        self._drawn = Drawn(resampling, {}, {})

    def add(self, mask: npt.NDArray[np.bool_]) -> None:
        """Take up the rows of a mask, bool (n,)."""
        if mask.tobytes() in self._groups:
            return
        rows = np.flatnonzero(mask)
        units = len(np.unique(self._clusters[rows]))
        key = f"{len(self._groups)} "
        self._groups[mask.tobytes()] = _Group(key, rows, units, self._reasons(rows, units))

    def resample(self, *, progress: bool) -> None:
        """Score every group on every draw; those of which nothing can be said are passed over."""
        names = subgroup_score_names(self._K)
        asked = [group for group in self._groups.values() if len(group.reasons) < len(names)]
        if not asked:
            return
        scorers = [self._scorer(group.rows) for group in asked]

        def statistic(weights: npt.NDArray[np.int32] | None) -> dict[str, Floats]:
            found: dict[str, Floats] = {}
            for group, scorer in zip(asked, scorers, strict=True):
                own = None if weights is None else np.take(weights.T, group.rows, axis=0).T
                found |= {group.key + name: values for name, values in scorer(own).items()}
            return found

        with Progress(self._engine.steps, "scoring subgroups", "draw", shown=progress) as bar:
            self._drawn = self._engine.drawn(statistic, bar.advance)

    def _score(self, group: _Group, name: str) -> Score:
        if name in group.reasons:
            return Score(None, None, None, group.reasons[name])
        score, truth, rows = self._drawn.score(group.key + name), self._truth, np.zeros_like(self._right)
        rows[group.rows] = True
        if name == "accuracy":
            return self._engine.share(score, self._right, rows)
        if name in _SIDES:
            return self._engine.share(score, self._right, rows & (truth == _SIDES[name]))
        if name == "auroc" and self._folds is None:
            return self._engine.area(score, truth == 1, self._given.probabilities[:, 1], rows)
        return score

    def _gap(self, group: _Group, rest: _Group, name: str) -> Score:
        reason = group.reasons.get(name)
        if reason is None and name in rest.reasons:
            reason = f"all other images: {rest.reasons[name]}"
        if reason is not None:
            return Score(None, None, None, reason)
        gap = self._drawn.minus(self._drawn, rest.key + name, other=group.key + name)
        if gap.value is None:
            return gap
        for whose, one in (("this group", group), ("all other images", rest)):
            own = self._drawn.score(one.key + name)
            if own.low is None:
                why = (own.reason or "").removeprefix("no interval: ")
                return Score(gap.value, None, None, f"no interval: of {whose}, {why}")
        return gap

    def level(self, name: str, mask: npt.NDArray[np.bool_]) -> LevelScores:
        """Return the scores of a group that was resampled, and its gaps to all other rows."""
        group, rest = self._groups[mask.tobytes()], self._groups[(~mask).tobytes()]
        counts = np.bincount(self._truth[group.rows], minlength=self._K)
        names = subgroup_score_names(self._K)
        return LevelScores(
            level=name,
            n=len(group.rows),
            clusters=group.clusters,
            classes={c: int(n) for c, n in zip(self._given.classes, counts, strict=True)},
            scores={one: self._score(group, one) for one in names},
            gaps={one: self._gap(group, rest, one) for one in names},
        )

    @cached_property
    def _K(self) -> int:  # noqa: N802 (the field's letter)
        return len(self._given.classes)

    @cached_property
    def _predicted(self) -> npt.NDArray[np.int64]:
        return self._given.predicted_codes()

    @cached_property
    def _right(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self._predicted == self._truth)

    def _scorer(self, rows: npt.NDArray[np.int64]) -> Statistic:
        folds = None if self._folds is None else self._folds[rows]
        score = classification_scorer(
            self._truth[rows], self._given.probabilities[rows], folds=folds, per_class=True
        )
        names = subgroup_score_names(self._K)

        def scores(weights: npt.NDArray[np.int32] | None) -> dict[str, Floats]:
            found = score(weights)
            return {name: found[name][:, 1] if name in _SIDES else found[name] for name in names}

        return scores

    def _reasons(self, rows: npt.NDArray[np.int64], units: int) -> dict[str, str]:
        """Say which scores of some rows there cannot be, and why: a class absent, or too few to say."""
        names, classes = subgroup_score_names(self._K), self._given.classes
        if not len(rows):
            return dict.fromkeys(names, "there are none")
        shows = [len(np.unique(self._clusters[rows[self._truth[rows] == k]])) for k in range(self._K)]
        folds = None if self._folds is None else self._folds[rows]
        undefined = not_computable(
            self._truth[rows], self._K, classes, predicted=self._predicted[rows], folds=folds
        )
        found = {}
        for name in names:
            needed = [] if name in NEED_NO_CLASS else range(self._K)
            needed = [_SIDES[name]] if name in _SIDES else needed
            absent = [repr(classes[k]) for k in needed if not shows[k]]
            few = [k for k in needed if shows[k] < FEWEST_UNITS]
            if absent:
                found[name] = f"no image of class {' or '.join(absent[:3])}"
            elif units < FEWEST_UNITS:
                found[name] = f"{TOO_FEW}: {plural(units, self._unit)}, and {FEWEST_UNITS} are needed"
            elif few:
                rarest = min(few, key=lambda k: shows[k])
                has = plural(shows[rarest], self._unit)
                found[name] = f"{TOO_FEW}: {has} of class {classes[rarest]!r}, and {FEWEST_UNITS} are needed"
            elif name in undefined:
                found[name] = undefined[name]
        return found
