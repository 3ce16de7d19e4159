"""Conformal prediction sets: all classes that cannot be ruled out, and how often the truth is among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from panderm.data.columns import in_order
from panderm.errors import PandermError, UsageError, plural
from panderm.predictions import Predictions
from panderm.scores.by_columns import ByColumns
from panderm.scores.resampled import Resampling, Weights
from panderm.scores.score import TOO_FEW, Score
from panderm.statistics.conformal import fewest_rows, prediction_sets, sets_by_group

Flags = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CoverageRow:
    """Some rows: how often the truth is in the set, and how large the sets are.

    Attributes:
        of: "all", a class or a level.
        column: "" of all, "class" of a class, else the column of the level.
        n: rows.
        calibrated: validation rows that the sets of these rest on.
        coverage: share with the truth in the set.
        size: mean classes in a set.
        single: share of sets of one class.
        empty: share of empty sets.
        caution: why nothing is promised of these rows alone; None where it is, or was never asked for.
    """

    of: str
    column: str
    n: int
    calibrated: int
    coverage: Score
    size: Score
    single: Score
    empty: Score
    caution: str | None = None


@dataclass(frozen=True)
class SetsBy:
    """Sets of one kind.

    Attributes:
        by: "all", one threshold for all rows; "class", one for each class; "level", one for each level of a
            column.
        rows: all rows, each class, and each level of the columns asked for.
        sizes: sets by their number of classes.
        column: of "level", which.
    """

    by: str
    rows: tuple[CoverageRow, ...]
    sizes: dict[int, int]
    column: str | None = None


@dataclass(frozen=True)
class PredictionSets:
    """The section "Prediction sets".

    Attributes:
        asked: the coverage asked for.
        fitted_on: which rows, in words.
        n: how many.
        kinds: what was achieved, by kind.
        left_out: by column, why it has no thresholds of its levels; under "all", why there are no sets.
    """

    asked: float
    fitted_on: str
    n: int
    kinds: tuple[SetsBy, ...]
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SetColumns:
    """Columns whose levels sets are told by: of the rows scored, and of the validation rows where known.

    Attributes:
        levels: by column, its levels' names.
        codes: by column, (n,) the level of each row scored.
        held: by column, (m,) that of each validation row, -1 where it is another; without validation rows
            those of the rows scored, which are each other's where they are out of fold.
        left_out: by column, why there is none of these.
    """

    levels: dict[str, tuple[str, ...]]
    codes: dict[str, Codes]
    held: dict[str, Codes]
    left_out: dict[str, str]

    @classmethod
    def of(
        cls,
        by: ByColumns | None,
        validation: Predictions | None,
        *,
        columns: Path | str | None = None,
        image_column: str | None = None,
    ) -> SetColumns:
        """Return the columns that were cut for the rows scored, and look them up for the validation rows.

        Args:
            by: the columns.
            validation: the validation rows.
            columns: as of :meth:`ByColumns.place`.
            image_column: likewise.
        """
        if by is None:
            return cls({}, {}, {}, {})
        names = {name: levels.names for name, levels in by.levels.items()}
        codes = {name: levels.codes for name, levels in by.levels.items()}
        if validation is None:
            return cls(names, codes, codes, {})
        try:
            return cls(names, codes, by.place(validation, columns=columns, image_column=image_column), {})
        except PandermError as error:
            found = f": {error.found[0]}" if error.found else ""
            return cls(names, codes, {}, dict.fromkeys(names, f"of the validation rows, {error.must}{found}"))


def score_prediction_sets(
    given: Predictions,
    validation: Predictions | None,
    resampling: Resampling,
    *,
    coverage: float = 0.9,
    by: SetColumns | None = None,
    fewest_units: int = 1,
) -> PredictionSets | None:
    """Fit conformal sets on validation rows and measure what they cover on the rows scored.

    Out-of-fold predictions without validation rows have sets that rest on the other folds of each fold
    (cross-conformal: Vovk, Ann. Math. Artif. Intell. 2015). What is promised is less then: the truth is in
    the set of 1 - 2·(1 - coverage) of the rows, though in practice of about as many as asked for.

    Args:
        given: the rows scored.
        validation: rows to fit on; without any, and without folds, there are no sets.
        resampling: of the rows scored.
        coverage: share of rows whose set is to hold the truth.
        by: columns whose levels are told too, and have thresholds of their own where validation rows allow.
        fewest_units: a level of fewer independent units has no scores.

    Raises:
        UsageError: a coverage that is no share.
    """
    if not 0 < coverage < 1:
        raise UsageError("--coverage must be a share between 0 and 1.", f"found {coverage:g}", "0.9 is 90 %")
    rests = _Rests.on(given, validation)
    if rests is None:
        return None
    asked = by or SetColumns({}, {}, {}, {})
    made = PredictionSets(coverage, rests.words, len(rests.truth), ())
    changed = given.card.recalibration
    if changed is not None and changed.method == "isotonic" and changed.fitted_on is not None:
        # Steps fitted on these rows pass through them: their scores are no longer like those of other rows.
        why = "isotonic regression was fitted on these validation rows, and sets need rows that nothing was"
        return replace(made, left_out={"all": why})
    measured = _Measured(given, rests, resampling, asked, fewest_rows(coverage), fewest_units)
    kinds = [measured.kind(kind, coverage) for kind in ("all", "class")]
    kinds += [measured.kind("level", coverage, column=column) for column in asked.held]
    return replace(made, kinds=tuple(kinds), left_out=asked.left_out)


@dataclass(frozen=True, eq=False)
class _Rests:
    """The rows that sets rest on, and which of them those of some rows scored do: all, or the other folds."""

    truth: Codes
    probabilities: Floats
    pieces: tuple[tuple[Flags, Flags], ...]
    words: str

    @classmethod
    def on(cls, given: Predictions, validation: Predictions | None) -> _Rests | None:
        if validation is not None and len(validation):
            both = np.ones(len(validation), dtype=np.bool_), np.ones(len(given), dtype=np.bool_)
            words = f"the {validation.card.split} rows"
            return cls(validation.truth_codes(), validation.probabilities, (both,), words)
        if given.fold is None:
            return None
        own = [np.asarray(given.fold == name, dtype=np.bool_) for name in in_order(set(given.fold.tolist()))]
        pieces = tuple((~one, one) for one in own)
        return cls(given.truth_codes(), given.probabilities, pieces, "the other folds of each fold")

    def fewest(self, chosen: Flags | None = None) -> int:
        """Return how many rows sets rest on, of the chosen ones, in the piece that has fewest."""
        return min(int((held if chosen is None else held & chosen).sum()) for held, _ in self.pieces)


class _Measured:
    """The rows scored: what sets of one kind after the other cover of them."""

    def __init__(
        self,
        given: Predictions,
        rests: _Rests,
        resampling: Resampling,
        by: SetColumns,
        needed: int,
        fewest_units: int,
    ) -> None:
        self._truth, self._p, self._rests = given.truth_codes(), given.probabilities, rests
        self._resampling, self._needed = resampling, needed
        self._classes, self._by, self._fewest = given.classes, by, fewest_units

    def kind(self, kind: str, coverage: float, *, column: str | None = None) -> SetsBy:
        """Make sets of one kind and measure them.

        Args:
            kind: all, class or level.
            coverage: asked for.
            column: of level, whose levels have thresholds of their own.
        """
        sets = self._sets(kind, coverage, column)
        size = sets.sum(axis=1)
        of_row = {
            "coverage": sets[np.arange(len(self._truth)), self._truth],
            "size": size,
            "single": size == 1,
            "empty": size == 0,
        }
        rows, groups = [], self._groups(column)
        scores = self._scores(of_row, groups)
        for (name, in_column, mask, code), found in zip(groups, scores, strict=True):
            fitted, caution = self._rests.fewest(), None
            if kind == "class" and in_column == "class":
                fitted = self._rests.fewest(self._rests.truth == code)
                if fitted < self._needed:
                    caution = (
                        f"fewer than the {self._needed} validation rows it takes to rule a class out: in "
                        "every set"
                    )
            elif column is not None and in_column == column:
                own = self._rests.fewest(self._by.held[column] == code)
                fitted = own if own >= self._needed else fitted
                if own < self._needed:
                    caution = (
                        f"fewer than the {self._needed} validation rows that thresholds of a level's own "
                        "take: the sets are those of all rows, and nothing is promised of the level alone"
                    )
            told = dict(zip(of_row, found, strict=True))
            rows.append(CoverageRow(name, in_column, int(mask.sum()), fitted, **told, caution=caution))
        return SetsBy(kind, tuple(rows), {int(n): int((size == n).sum()) for n in np.unique(size)}, column)

    def _sets(self, kind: str, coverage: float, column: str | None) -> Flags:
        made, truth, held = (
            np.zeros(self._p.shape, dtype=np.bool_),
            self._rests.truth,
            self._rests.probabilities,
        )
        for fit, rows in self._rests.pieces:
            given = truth[fit], held[fit], self._p[rows], coverage
            if column is None:
                made[rows] = prediction_sets(*given, by_class=kind == "class")
            else:
                theirs, own = self._by.held[column][fit], self._by.codes[column][rows]
                made[rows] = sets_by_group(*given, held_group=theirs, group=own)
        return made

    def _groups(self, column: str | None) -> list[tuple[str, str, Flags, int]]:
        """Return name, column, rows and position of all rows, each class, and each level that is told."""
        found = [("all", "", np.ones(len(self._truth), dtype=np.bool_), -1)]
        found += [(name, "class", self._truth == k, k) for k, name in enumerate(self._classes)]
        for one, names in self._by.levels.items():
            if column is None or one == column:
                found += [(name, one, self._by.codes[one] == k, k) for k, name in enumerate(names)]
        return found

    def _scores(
        self, of_row: Mapping[str, npt.NDArray[Any]], groups: Sequence[tuple[str, str, Flags, int]]
    ) -> list[list[Score]]:
        """Return the scores of every group, on the same draws; a level of too few units has none."""
        few = {}
        for i, (_, column, mask, _) in enumerate(groups):
            units = len(np.unique(self._resampling.clusters[mask]))
            if column not in ("", "class") and units < self._fewest:
                why = f"{TOO_FEW}: {plural(units, self._resampling.unit)}, and {self._fewest} are needed"
                few[i] = [Score(None, None, None, why)] * len(of_row)
        asked = {i: mask for i, (_, _, mask, _) in enumerate(groups) if i not in few}

        def means(weights: Weights | None) -> dict[str, Floats]:
            counts = np.ones((1, len(self._truth))) if weights is None else weights
            found = {}
            with np.errstate(invalid="ignore"):
                for i, mask in asked.items():
                    own = counts[:, mask].astype(np.float64)
                    rows = own.sum(axis=1)
                    for name, value in of_row.items():
                        found[f"{name} {i}"] = own @ value[mask].astype(np.float64) / rows
            return found

        drawn = self._resampling.scores(means)
        for i, mask in asked.items():
            for name in ("coverage", "single", "empty"):
                drawn[f"{name} {i}"] = self._resampling.share(drawn[f"{name} {i}"], of_row[name], mask)
        return [few.get(i) or [drawn[f"{name} {i}"] for name in of_row] for i in range(len(groups))]
