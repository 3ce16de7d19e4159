"""The diagnosis hierarchy, level by level: probabilities of the classes of a group added up."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from panderm.data.diagnoses import LEVELS, SAME_WORDS, find, taxonomies, taxonomy_of
from panderm.errors import TableError, UsageError, some
from panderm.predictions import Predictions
from panderm.scores.folds import fold_codes
from panderm.scores.resampled import Floats, Resampling, Weights
from panderm.scores.score import Score
from panderm.statistics.classification import classification_scorer, score_names

Groups = dict[str, str]  # a class to its group


@dataclass(frozen=True)
class HierarchyLevel:
    """One level.

    Attributes:
        level: its name: diagnosis, group, malignant.
        groups: by group, the classes it is made of.
        left_out: classes that have no group here, with the reason.
        n: rows scored: those whose true class has a group.
        scores: as of the whole; none where there are fewer than two groups.
        per_group: sensitivity by group.
        counts: rows by true group.
    """

    level: str
    groups: dict[str, tuple[str, ...]]
    left_out: dict[str, str]
    n: int
    scores: dict[str, Score]
    per_group: dict[str, Score]
    counts: dict[str, int]


@dataclass(frozen=True)
class Hierarchy:
    """The section "Diagnosis hierarchy": levels, finest first, and whose words the classes are."""

    source: str
    levels: tuple[HierarchyLevel, ...]


def score_hierarchy(given: Predictions, resampling: Resampling, *, hierarchy: Path | str) -> Hierarchy | None:
    """Score every level of a hierarchy.

    The probability of a group is the sum over its classes. Rows whose true class has no group at a level are
    not scored there, and the probabilities of such classes are not counted; both are told.

    Args:
        given: the rows scored.
        resampling: of them.
        hierarchy: the taxonomy of the diagnosis map, or a CSV with a column ``class`` and one a level.

    Raises:
        UsageError: no such taxonomy, or one that knows none of the classes.
        TableError: a CSV that is not there, lacks ``class`` or a level, or names a class twice.
    """
    source, groups, why = _read(given.classes, hierarchy)
    if not any(groups.values()):
        raise UsageError(
            "--hierarchy must have groups for the classes.",
            f"{source} has none for any of: {some(given.classes, 12)}",
            "name the dataset whose words the classes are, or a CSV with a column class and one a level",
        )
    return Hierarchy(source, tuple(_level(given, resampling, name, of, why) for name, of in groups.items()))


def _read(classes: tuple[str, ...], hierarchy: Path | str) -> tuple[str, dict[str, Groups], str]:
    """Return whose groups they are, by level each class's group, and what it means to have none."""
    name = str(hierarchy)
    known = {*taxonomies(), *SAME_WORDS}
    is_file = name.strip().casefold() not in known and (Path(name).suffix == ".csv" or Path(name).is_file())
    if is_file:
        return name, _of_file(Path(name), classes), f"no group in {Path(name).name}"
    try:
        taxonomy = taxonomy_of(name)
    except UsageError as error:
        raise UsageError(
            "--hierarchy must be a CSV that is there, or a known dataset, whose words the classes are.",
            error.found,
            "a CSV has a column class and one a level",
        ) from None
    rows = {label: row for label in classes if (row := find(label, taxonomy)) is not None}
    levels: dict[str, Groups] = {
        level: {label: row.at(level) for label, row in rows.items() if row.at(level)}
        for level in reversed(LEVELS)
    }
    return taxonomy, levels, f"no one answer in the diagnosis map of {taxonomy}"


def _of_file(file: Path, classes: tuple[str, ...]) -> dict[str, Groups]:
    try:
        lines = list(csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TableError("a hierarchy must be a CSV in UTF-8.", f"{file}: {error}") from None
    levels = [name for name in (lines[0] if lines else ()) if name and name != "class"]
    if not levels or "class" not in lines[0]:
        raise TableError(
            "a hierarchy must have a column class and one a level.",
            f"{file} has: {some(list(lines[0])) if lines and None not in lines[0] else 'no rows'}",
            "class,group",
        )
    names = [(line["class"] or "").strip() for line in lines]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise TableError("a hierarchy must name a class once.", f"{file}, more than once: {some(twice)}")
    return {
        level: {
            name: line[level].strip()
            for name, line in zip(names, lines, strict=True)
            if name in classes and (line[level] or "").strip()
        }
        for level in levels
    }


def _level(
    given: Predictions, resampling: Resampling, level: str, of: Mapping[str, str], why: str
) -> HierarchyLevel:
    names = list(dict.fromkeys(of[name] for name in given.classes if name in of))
    groups = {group: tuple(c for c in given.classes if of.get(c) == group) for group in names}
    left_out = {name: why for name in given.classes if name not in of}
    code = np.array([names.index(of[name]) if name in of else -1 for name in given.classes], dtype=np.int64)
    truth = code[given.truth_codes()]
    rows = np.flatnonzero(truth >= 0)
    truth = truth[rows]
    counts = {name: int((truth == k).sum()) for k, name in enumerate(names)}
    if len(names) < 2 or not len(rows):
        return HierarchyLevel(level, groups, left_out, len(rows), {}, {}, counts)
    member = (code[:, None] == np.arange(len(names))).astype(np.float64)
    added = given.probabilities[rows] @ member
    predicted = added.argmax(axis=1)
    folds = fold_codes(given)
    folds = None if folds is None else folds[rows]

    scorer = classification_scorer(truth, added, folds=folds, per_class=True)

    def everything(weights: Weights | None) -> dict[str, Floats]:
        found = scorer(weights)
        sensitivity = found["sensitivity"]
        by_group = {f"{_GROUP}{name}": sensitivity[:, k] for k, name in enumerate(names)}
        return {name: found[name] for name in score_names(len(names))} | by_group

    among = resampling.among(rows)
    missing = {f"{_GROUP}{name}": "no rows of it" for name, n in counts.items() if not n}
    scores = among.scores(everything, missing)
    right = predicted == truth
    scores["accuracy"] = among.share(scores["accuracy"], right, np.ones_like(right))
    per_group = {
        name: among.share(scores.pop(f"{_GROUP}{name}"), right, truth == k) for k, name in enumerate(names)
    }
    if "auroc" in scores and folds is None:
        scores["auroc"] = among.area(scores["auroc"], truth == 1, added[:, 1], np.ones_like(right))
    return HierarchyLevel(level, groups, left_out, len(rows), scores, per_group, counts)


_GROUP = "sensitivity of "
