"""Which columns alone predict the label: the linter of a table's metadata, without a look at any picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from panderm.data.columns import Column, in_order, read_column, whole_numbers
from panderm.gate import candidates as of_rows
from panderm.gate.candidates import Candidate, Source
from panderm.gate.column_features import probe_scores
from panderm.gate.cross_validated import (
    DRAWS,
    FEWEST_ROWS,
    FEWEST_UNITS,
    Auroc,
    aurocs,
    column_scores,
    folds_of,
    usable_classes,
)
from panderm.gate.label_names import other_names
from panderm.gate.telling_levels import TellingLevel, telling_levels
from panderm.progress import Progress
from panderm.statistics.resampling import cluster_codes

Verdict = Literal["gives the answer away", "predicts the label", "nothing"]
# By the lower end of the interval.
GIVES_AWAY, PREDICTS = 0.90, 0.60
_TOGETHER = "all columns together"

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LintedColumn:
    """What one column, pattern or fact says of the label.

    Attributes:
        name: ``dx_type``, ``image: last number``, ``file: width``, ``order of the rows``.
        source: column, name, file or order.
        verdict: by the lower end of the interval, and by single values.
        auroc: cross-validated.
        levels: single values that give the answer away.
        sentence: all this for a reader; empty where there is nothing to say.
        others: columns that hold their telling value in exactly the same rows; they are not told of again.
    """

    name: str
    source: Source
    verdict: Verdict
    auroc: Auroc
    levels: tuple[TellingLevel, ...] = ()
    sentence: str = ""
    others: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return what the JSON holds."""
        return {
            "name": self.name,
            "source": self.source,
            "verdict": self.verdict,
            "auroc": self.auroc.as_dict(),
            "levels": [level.as_dict() for level in self.levels],
            "others": list(self.others),
            "sentence": self.sentence,
        }


@dataclass(frozen=True)
class ColumnLint:
    """What the linter found.

    Attributes:
        label: the column that is predicted.
        classes: its classes in order.
        columns: all that was tested, what gives the answer away first, then by AUROC.
        together: all columns of the table that give nothing away and were not measured on the image, at once;
            None where there are none.
        used_together: their names.
        other_names: columns that are the label under another name, and how.
        set_aside: what was not tested as it is, and why.
        left_out: classes with too few rows to be scored.
        reason: why nothing was tested; None where something was.
    """

    label: str
    classes: tuple[str, ...]
    columns: tuple[LintedColumn, ...] = ()
    together: Auroc | None = None
    used_together: tuple[str, ...] = ()
    other_names: dict[str, str] = field(default_factory=dict)
    set_aside: dict[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    reason: str | None = None

    @property
    def giving_away(self) -> tuple[LintedColumn, ...]:
        """What gives the answer away."""
        return tuple(one for one in self.columns if one.verdict == "gives the answer away")

    def of(self, name: str) -> LintedColumn | None:
        """Return what was found of a column; None where it was not tested."""
        return next((one for one in self.columns if one.name == name or name in one.others), None)

    def as_dict(self) -> dict[str, Any]:
        """Return what the JSON holds."""
        return {
            "label": self.label,
            "classes": list(self.classes),
            "columns": [one.as_dict() for one in self.columns],
            "together": None if self.together is None else self.together.as_dict(),
            "used_together": list(self.used_together),
            "other_names": dict(self.other_names),
            "set_aside": dict(self.set_aside),
            "left_out": list(self.left_out),
            "reason": self.reason,
        }


def lint_columns(
    frame: pd.DataFrame,
    *,
    label: str,
    image: str | None = None,
    split: str | None = None,
    patient: str | None = None,
    group: str | None = None,
    facts: Mapping[str, Column] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    each_alone: bool = False,
    progress: bool = False,
) -> ColumnLint:
    """Test which columns of a table predict its label by themselves.

    Every column is tested but the label, its other names, the split and what names rows; of names, the
    patterns are: folder, beginning, end, ending, length, numbers. So are the order of the rows, and facts of
    the files where they are given. An empty cell is a level of its own: that nothing was written down can be
    what tells.

    Each gets a five-fold cross-validated AUROC, patients (or lesions) never torn, with a 95 % interval from
    draws of whole patients. Classes with fewer than 10 rows or 5 patients are left out, and named.

    A column **gives the answer away** where the lower end of its interval is at least .90, where it goes with
    the label one to one and is no name of it, or where a single value all but names the class
    (:func:`panderm.gate.telling_levels.telling_levels`). It **predicts the label** where the lower end is
    above .60, as age does. The order of the rows gives away no more than that the table is sorted.

    Args:
        frame: the cells as strings, as :func:`panderm.data.columns.read_csv` returns them.
        label: column with the class; rows without one are left out.
        image: column that names the files.
        split: column with train, val or test.
        patient: column that says who is in the picture.
        group: column that says which lesion it is.
        facts: of the image files, by name, (n,) strings or None: see :mod:`panderm.gate.file_facts`.
        draws: of the bootstrap.
        seed: of the folds and of the bootstrap.
        each_alone: test the columns that describe one by one, and nothing else: no patterns in names, not the
            order of the rows, not all at once.
        progress: show progress on standard error.

    Example:
        >>> lint = lint_columns(frame, label="dx", image="image", group="lesion_id")  # doctest: +SKIP
        >>> print(lint.giving_away[0].sentence)  # doctest: +SKIP
        dx_type gives the answer away: 2,964 of 2,964 rows with dx_type=follow_up are nv ...
    """
    labels = whole_numbers(read_column(frame, label))
    classes = in_order({x for x in labels if x is not None})
    place = {c: i for i, c in enumerate(classes)}
    every = np.array([place.get(x, -1) for x in labels], dtype=np.int64)
    units, unit = cluster_codes(read_column(frame, patient), read_column(frame, group), len(frame))
    kept = usable_classes(every, units)
    rows = np.isin(every, kept)
    clusters = np.unique(units[rows], return_inverse=True)[1].astype(np.int64)
    codes = np.searchsorted(kept, every[rows]).astype(np.int64)
    folds = folds_of(codes, clusters, seed) if len(kept) > 1 else None
    left_out = tuple(c for c in classes if place[c] not in kept)
    if folds is None:
        few = f"fewer than two classes of {label} have {FEWEST_ROWS} rows of {FEWEST_UNITS} {unit}s"
        return ColumnLint(label, classes, left_out=left_out, reason=few)

    asked = {name: role for role, name in (("split", split), ("label", label)) if name}
    described, names, aside = of_rows.gather(frame, asked, [x for x in (image, patient, group) if x])
    tested = [*described]
    if not each_alone:
        tested += [*names, *of_rows.file_candidates(facts or {}), of_rows.row_order(len(frame))]
    tested = [one for one in (one.select(rows) for one in of_rows.without_twins(tested)) if not one.constant]
    shown = tuple(classes[c] for c in kept)
    renamed, perfect = other_names(tested, codes, shown, label)
    tested = [one for one in tested if one.name not in renamed]

    scores = {}
    with Progress(len(tested), "columns that predict the label", "columns", shown=progress) as bar:
        for one in tested:
            scores[one.name] = column_scores(one, codes, folds, len(kept))
            bar.advance()
    measured = aurocs(scores, codes, folds, clusters, unit, draws=draws, seed=seed)
    spoken = _spoken(shown, [one for one in described if one.name in renamed], every, kept)
    linted = [
        _judged(
            one, measured[one.name], _levels_of(one, codes, spoken, clusters), label, perfect.get(one.name)
        )
        for one in tested
    ]
    linted = sorted(_merged(linted, {one.name: one for one in tested}), key=_weight)
    told = {
        name for one in linted if one.verdict == "gives the answer away" for name in (one.name, *one.others)
    }
    fair = [one for one in tested if one.source == "column" and one.name not in told]
    fair = [one for one in fair if not of_rows.OF_THE_IMAGE.search(one.name)]
    together = None
    if fair and not each_alone:
        at_once = probe_scores(fair, codes, folds, len(kept))
        together = aurocs({_TOGETHER: at_once}, codes, folds, clusters, unit, draws=draws, seed=seed)[
            _TOGETHER
        ]
    used = () if together is None else tuple(one.name for one in fair)
    return ColumnLint(label, classes, tuple(linted), together, used, renamed, aside, left_out)


def _levels_of(
    one: Candidate, codes: Integers, classes: tuple[str, ...], clusters: Integers
) -> list[TellingLevel]:
    """Return the telling values; of numbers in an order, as of rows or names, there are none to speak of."""
    if one.source == "order" or (one.source == "name" and one.numbers is not None):
        return []
    levels, names = one.levels()
    return telling_levels(levels, names, codes, classes, clusters) if names else []


def _judged(
    one: Candidate, auroc: Auroc, levels: list[TellingLevel], label: str, perfect: str | None
) -> LintedColumn:
    low = auroc.low if auroc.low is not None else 0.0
    if one.source == "order":
        sentence = (
            f"the rows stand in an order that goes with {label}: their place alone predicts it, {auroc}; "
            "rows must be shuffled before they are parted by place"
        )
        verdict: Verdict = "predicts the label" if low > PREDICTS else "nothing"
        return LintedColumn(one.name, one.source, verdict, auroc, (), sentence if low > PREDICTS else "")
    alone = f"alone it predicts {label} with {auroc}"
    if perfect or levels or low >= GIVES_AWAY:
        why = [perfect] if perfect else [level.sentence(one.name) for level in levels[:3]]
        told = "; ".join([*[w for w in why if w], alone])
        sentence = f"{one.name} gives the answer away: {told}"
        return LintedColumn(one.name, one.source, "gives the answer away", auroc, tuple(levels), sentence)
    if low > PREDICTS:
        sentence = f"{one.name} alone predicts {label}: {auroc}"
        return LintedColumn(one.name, one.source, "predicts the label", auroc, (), sentence)
    return LintedColumn(one.name, one.source, "nothing", auroc)


def _merged(linted: Sequence[LintedColumn], values: Mapping[str, Candidate]) -> list[LintedColumn]:
    """Tell once of columns whose telling values stand in the same rows, as of a form not filled in."""
    first: dict[bytes, LintedColumn] = {}
    others: dict[str, list[str]] = {}
    kept = []
    for one in linted:
        # Only where the value is all that gives the column away.
        only_level = one.levels and (one.auroc.low or 0) < GIVES_AWAY
        key = b""
        if only_level:
            held = values[one.name].values
            wanted = {level.level for level in one.levels}
            key = np.array([(v if v is not None else of_rows.EMPTY) in wanted for v in held]).tobytes()
        if key and key in first:
            others[first[key].name].append(one.name)
            continue
        if key:
            first[key], others[one.name] = one, []
        kept.append(one)
    return [_with_others(one, others.get(one.name, [])) for one in kept]


def _with_others(one: LintedColumn, others: list[str]) -> LintedColumn:
    if not others:
        return one
    sentence = f"{one.sentence}; in the same rows: {', '.join(others)}"
    return LintedColumn(one.name, one.source, one.verdict, one.auroc, one.levels, sentence, tuple(others))


def _weight(one: LintedColumn) -> tuple[int, float]:
    order = ("gives the answer away", "predicts the label", "nothing")
    return order.index(one.verdict), -(one.auroc.value or 0)


def _spoken(
    classes: tuple[str, ...], renamed: Sequence[Candidate], codes: Integers, kept: Integers
) -> tuple[str, ...]:
    """Return classes as a reader knows them: ``5 (nv)`` where another column has names for numbers."""
    if not all(c.isdecimal() for c in classes):
        return classes
    for one in renamed:
        names = []
        for code in kept:
            known = {v for v in one.values[codes == code] if v is not None}
            names.append(next(iter(known)) if len(known) == 1 else "")
        if all(names) and len(set(names)) == len(names) and not any(name.isdecimal() for name in names):
            return tuple(f"{c} ({name})" for c, name in zip(classes, names, strict=True))
    return classes
