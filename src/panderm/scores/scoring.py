"""The scores of one class an image, and the differences between those of several predictors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from panderm.errors import DataError, ParentsError, UsageError, plural, some
from panderm.predictions import Predictions, require_one_class
from panderm.scores.by_columns import ByColumns
from panderm.scores.folds import fold_codes, score_folds
from panderm.scores.record import ClassScores, Scores, Subgroups
from panderm.scores.resampled import Resampling
from panderm.scores.score import LEVEL, Score
from panderm.scores.subgroups import FEWEST_UNITS, score_subgroups
from panderm.statistics.classification import (
    classification_scores,
    confusion_matrix,
    not_computable,
    not_computable_per_class,
    per_class_scores,
)
from panderm.statistics.resampling import bootstrap, cluster_codes, paired_interval, percentile_interval

DRAWS = 2000
_PER_CLASS = ("sensitivity", "specificity")


def score_rows(
    given: Predictions,
    *,
    by: ByColumns | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    progress: bool = True,
) -> Scores:
    """Score predictions of one class an image: the scores of the whole, of each class, group and fold.

    Args:
        given: the rows scored.
        by: columns whose levels are scored as subgroups too.
        draws: bootstrap draws.
        seed: of the bootstrap.
        progress: show progress on standard error.

    Raises:
        DataError: nothing to score.
        UsageError: no draws, or a negative seed.
    """
    drawn = _draw(given, draws, seed)
    values, resampled, units = drawn.values, drawn.resampled, drawn.clusters
    truth, predicted = given.truth_codes(), given.predicted_codes()
    classes, K = given.classes, len(given.classes)
    class_reasons = not_computable_per_class(truth, K, classes)
    scores = {
        name: _score(float(values[name][0]), resampled[name], drawn.reasons.get(name), units)
        for name in values
        if name not in _PER_CLASS
    }
    per_class = {}
    engine = Resampling(*cluster_codes(given.patient, given.group, len(given)), draws, seed)
    for k, name in enumerate(classes):
        own, called = truth == k, predicted == k
        both = {
            side: _score(
                float(values[side][0, k]), resampled[side][:, k], class_reasons[side].get(name), units
            )
            for side in _PER_CLASS
        }
        both["sensitivity"] = engine.share(both["sensitivity"], called, own)
        both["specificity"] = engine.share(both["specificity"], ~called, ~own)
        per_class[name] = ClassScores(n=int(own.sum()), **both)
    return Scores(
        scores=scores,
        per_class=per_class,
        confusion=confusion_matrix(truth, predicted, K),
        classes=classes,
        n=len(given),
        clusters=units,
        unit=drawn.unit,
        draws=draws,
        seed=seed,
        split=given.card.split,
        predictions=given.card.identity,
        subgroups=None if by is None else _subgroups(given, by, draws, seed, progress=progress),
        folds=score_folds(given),
        row=str(given.card.method.get("unit", "image")),
    )


def _subgroups(given: Predictions, asked: ByColumns, draws: int, seed: int, *, progress: bool) -> Subgroups:
    scored = score_subgroups(given, asked.levels, draws=draws, seed=seed, progress=progress)
    return Subgroups(
        columns=tuple(replace(one, error=asked.errors.get(one.column)) for one in scored),
        file=asked.file,
        sha256=asked.sha256,
        image_column=asked.image_column,
        fewest_units=FEWEST_UNITS,
    )


def differences(
    predictions: Sequence[Predictions], *, draws: int = DRAWS, seed: int = 0
) -> tuple[dict[str, Score], ...]:
    """Return how far every score of the others lies from that of the first, on the same draws.

    Both are scored on every bootstrap draw of the same patients, and the 95 % interval is that of their
    difference: what makes a draw hard for both cancels.

    Args:
        predictions: of the same rows, two or more; the first is the one the others are compared with.
        draws: bootstrap draws, as in :func:`evaluate`.
        seed: of the bootstrap; with the same, the scores' own intervals rest on the same draws.

    Returns:
        For each of the others, by name of the score: its value minus the first's, in [-1, 1] (kappa: in
        [-2, 2]), and the interval of that difference.

    Raises:
        ParentsError: predictions of other rows.
    """
    require_same_rows(predictions)
    first = _draw(predictions[0], draws, seed)
    found = []
    for given in predictions[1:]:
        other = _draw(given, draws, seed)
        found.append({name: _difference(name, first, other) for name in other.scores})
    return tuple(found)


def require_same_rows(predictions: Sequence[Predictions], names: Sequence[str] = ()) -> None:
    """Raise :class:`ParentsError` naming both where predictions are not of the same rows in the same order.

    Args:
        predictions: to be shown side by side.
        names: what the user calls them, for the message; by default their encoders' names.
    """
    for given in predictions:
        require_one_class(given)
    called = list(names) or [given.card.model for given in predictions]
    for name, given in list(zip(called, predictions, strict=True))[1:]:
        differ = _rows_differ(predictions[0], given)
        if differ:
            raise ParentsError(
                "predictions side by side must be of the same images, in the same order.",
                [f"{called[0]}: {_rows(predictions[0])}", f"{name}: {_rows(given)}", differ],
                "embed and probe one table with each encoder, and score the same split",
            )


def _rows(given: Predictions) -> str:
    return f"{plural(len(given), 'row')} of {given.card.split}, from {given.card.source}"


def _rows_differ(ours: Predictions, theirs: Predictions) -> str | None:
    if ours.classes != theirs.classes:
        return f"their classes differ: {some(ours.classes)}, and {some(theirs.classes)}"
    if len(ours) != len(theirs):
        return "they differ in the number of rows"
    one_probe = [given.fold is None for given in (ours, theirs)]
    if any(one_probe) and not all(one_probe):
        return "some are out of fold, the others by one probe"
    # The truth and the units too: by them the same images would be scored or drawn in another way.
    for column in ("image", "sha256", "truth", "patient", "group", *([] if any(one_probe) else ["fold"])):
        one, two = getattr(ours, column), getattr(theirs, column)
        at = np.flatnonzero(one != two)
        if len(at):
            what = "file" if column == "sha256" else column
            return f"they differ in the {what} of row {at[0] + 1:,}: {one[at[0]]} and {two[at[0]]}"
    return None


@dataclass(frozen=True)
class _Drawn:
    """Every score of one set of predictions, on its rows as they are and on every draw of them."""

    values: dict[str, npt.NDArray[np.float64]]
    resampled: dict[str, npt.NDArray[np.float64]]
    reasons: dict[str, str]
    clusters: int
    unit: str

    @property
    def scores(self) -> list[str]:
        return [name for name in self.values if name not in _PER_CLASS]


def _draw(given: Predictions, draws: int, seed: int) -> _Drawn:
    if draws < 1 or seed < 0:
        raise UsageError("--draws must be at least 1 and --seed not negative.", f"found {draws} and {seed}")
    if not len(given):
        raise DataError("predictions must have rows to be scored.", "found none")
    truth, predicted = given.truth_codes(), given.predicted_codes()
    classes, K = given.classes, len(given.classes)
    clusters, unit = cluster_codes(given.patient, given.group, len(given))
    folds = fold_codes(given)

    def all_scores(weights: npt.NDArray[np.int32] | None) -> dict[str, npt.NDArray[np.float64]]:
        return {
            **classification_scores(truth, given.probabilities, weights, folds=folds),
            **per_class_scores(truth, predicted, K, weights),
        }

    return _Drawn(
        values=all_scores(None),
        resampled=bootstrap(all_scores, clusters, draws, seed),
        reasons=not_computable(truth, K, classes, predicted=predicted, folds=folds),
        clusters=int(clusters.max()) + 1,
        unit=unit,
    )


def _difference(name: str, first: _Drawn, other: _Drawn) -> Score:
    value = float(other.values[name][0] - first.values[name][0])
    one, two = (drawn.resampled[name] for drawn in (first, other))
    reason = first.reasons.get(name) or other.reasons.get(name)
    interval = paired_interval(one, two, LEVEL)
    return Score.of(value, interval, draws=len(one), reason=reason, clusters=first.clusters)


def _score(value: float, draws: npt.NDArray[np.float64], reason: str | None, clusters: int) -> Score:
    interval = percentile_interval(draws, LEVEL)
    return Score.of(value, interval, draws=len(draws), reason=reason, clusters=clusters)
