"""The scores of one class an image, and the differences between those of several predictors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from panderm.errors import DataError, ParentsError, plural, some
from panderm.predictions import Predictions, require_one_class
from panderm.progress import Progress
from panderm.scores.by_columns import ByColumns
from panderm.scores.folds import fold_codes, score_folds
from panderm.scores.record import ClassScores, Scores, Subgroups
from panderm.scores.resampled import Drawn, Resampling
from panderm.scores.score import Interval, Score
from panderm.scores.subgroups import FEWEST_UNITS, score_subgroups
from panderm.statistics.classification import (
    classification_scorer,
    confusion_matrix,
    not_computable,
    not_computable_per_class,
    score_names,
)

DRAWS = 2000
_PER_CLASS = ("sensitivity", "specificity")


def score_rows(
    given: Predictions,
    *,
    by: ByColumns | None = None,
    interval: Interval = "percentile",
    stratified: bool = False,
    draws: int = DRAWS,
    seed: int = 0,
    progress: bool = True,
) -> Scores:
    """Score predictions of one class an image: the scores of the whole, of each class, group and fold.

    Args:
        given: the rows scored.
        by: columns whose levels are scored as subgroups too.
        interval: how intervals are made, as of :func:`panderm.evaluate`.
        stratified: draw units within the classes that they show.
        draws: bootstrap draws.
        seed: of the bootstrap.
        progress: show progress on standard error.

    Raises:
        DataError: nothing to score.
        UsageError: no draws, a negative seed, or an unknown interval.
    """
    engine = resampling_of(given, interval=interval, stratified=stratified, draws=draws, seed=seed)
    truth, predicted = given.truth_codes(), given.predicted_codes()
    classes, K = given.classes, len(given.classes)
    with Progress(engine.steps, "scoring", "draw", shown=progress) as bar:
        drawn, reasons = _drawn(given, engine, bar.advance)
    class_reasons = not_computable_per_class(truth, K, classes)
    scores = {name: drawn.score(name, reasons.get(name)) for name in score_names(K)}
    every = np.ones(len(given), dtype=np.bool_)
    scores["accuracy"] = engine.share(scores["accuracy"], predicted == truth, every)
    if "auroc" in scores and given.fold is None:
        scores["auroc"] = engine.area(scores["auroc"], truth == 1, given.probabilities[:, 1], every)
    per_class = {}
    for k, name in enumerate(classes):
        own, called = truth == k, predicted == k
        both = {side: drawn.score(side, class_reasons[side].get(name), k) for side in _PER_CLASS}
        both["sensitivity"] = engine.share(both["sensitivity"], called, own)
        both["specificity"] = engine.share(both["specificity"], ~called, ~own)
        per_class[name] = ClassScores(n=int(own.sum()), **both)
    return Scores(
        scores=scores,
        per_class=per_class,
        confusion=confusion_matrix(truth, predicted, K),
        classes=classes,
        n=len(given),
        clusters=engine.units,
        unit=engine.unit,
        draws=draws,
        seed=seed,
        split=given.card.split,
        predictions=given.card.identity,
        subgroups=None if by is None else _subgroups(given, by, engine, progress=progress),
        folds=score_folds(given),
        row=str(given.card.method.get("unit", "image")),
        interval=interval,
        stratified=stratified,
    )


def resampling_of(
    given: Predictions, *, interval: Interval, stratified: bool, draws: int, seed: int
) -> Resampling:
    """Return how the units of predictions are drawn, and their intervals made.

    Args:
        given: of one class an image.
        interval: as of :func:`panderm.evaluate`.
        stratified: draw units within the rarest class that they show.
        draws: bootstrap draws.
        seed: of the bootstrap.

    Raises:
        DataError: no rows.
        UsageError: no draws, a negative seed, or an unknown interval.
    """
    if not len(given):
        raise DataError("predictions must have rows to be scored.", "found none")
    shown = given.truth_codes()[:, None] == np.arange(len(given.classes)) if stratified else None
    return Resampling.of(given, draws=draws, seed=seed, interval=interval, within=shown)


def _drawn(
    given: Predictions, engine: Resampling, advance: Callable[[int], None] | None = None
) -> tuple[Drawn, dict[str, str]]:
    """Return every score on the rows as they are and on every draw, and why some cannot be computed."""
    truth, folds = given.truth_codes(), fold_codes(given)
    statistic = classification_scorer(truth, given.probabilities, folds=folds, per_class=True)
    reasons = not_computable(
        truth, len(given.classes), given.classes, predicted=given.predicted_codes(), folds=folds
    )
    return engine.drawn(statistic, advance), reasons


def _subgroups(given: Predictions, asked: ByColumns, engine: Resampling, *, progress: bool) -> Subgroups:
    scored = score_subgroups(given, asked.levels, engine, progress=progress)
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
    difference, percentiles of the draws: what makes a draw hard for both cancels.

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
    engine = resampling_of(predictions[0], interval="percentile", stratified=False, draws=draws, seed=seed)
    first, why = _drawn(predictions[0], engine)
    found = []
    for given in predictions[1:]:
        other, why_not = _drawn(given, engine)
        found.append(
            {
                name: other.minus(first, name, why.get(name) or why_not.get(name))
                for name in score_names(len(given.classes))
            }
        )
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
