"""Predictions to scores: every number with an interval, its n, the unit resampled and the seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import overload

from panderm.errors import UsageError, some
from panderm.predictions import MultiLabelPredictions, Predictions, open_either
from panderm.predictions.positive import positive_classes
from panderm.predictions.shares import Prior
from panderm.predictions.validation_rows import validation_rows
from panderm.scores.by_columns import read_by_columns, read_cells_of
from panderm.scores.calibration import score_calibration
from panderm.scores.hierarchy import score_hierarchy
from panderm.scores.multi_label import MultiLabelScores, evaluate_labels
from panderm.scores.operating import Target, score_operating
from panderm.scores.prediction_sets import SetColumns, score_prediction_sets
from panderm.scores.record import Scores
from panderm.scores.score import Interval
from panderm.scores.scoring import DRAWS, resampling_of, score_rows
from panderm.scores.selective import score_selective
from panderm.scores.subgroups import FEWEST_UNITS
from panderm.scores.top_k import score_top_k

COVERAGE = 0.9


@overload
def evaluate(
    predictions: Predictions,
    *,
    validation: Predictions | Path | str | None = None,
    positive: Sequence[str] | None = None,
    at: Sequence[Target | str] | None = None,
    prevalence: Sequence[float] | None = None,
    diagnosis: str | None = None,
    hierarchy: Path | str | None = None,
    coverage: float = COVERAGE,
    prior: Prior | None = None,
    by: Sequence[str] | None = None,
    columns: Path | str | None = None,
    image_column: str | None = None,
    bands: Mapping[str, Sequence[float]] | None = None,
    scores_only: bool = False,
    interval: Interval = "percentile",
    stratified: bool = False,
    draws: int = DRAWS,
    seed: int = 0,
    progress: bool = True,
) -> Scores: ...


@overload
def evaluate(
    predictions: Predictions | MultiLabelPredictions | Path | str,
    *,
    validation: Predictions | Path | str | None = None,
    positive: Sequence[str] | None = None,
    at: Sequence[Target | str] | None = None,
    prevalence: Sequence[float] | None = None,
    diagnosis: str | None = None,
    hierarchy: Path | str | None = None,
    coverage: float = COVERAGE,
    prior: Prior | None = None,
    by: Sequence[str] | None = None,
    columns: Path | str | None = None,
    image_column: str | None = None,
    bands: Mapping[str, Sequence[float]] | None = None,
    scores_only: bool = False,
    interval: Interval = "percentile",
    stratified: bool = False,
    draws: int = DRAWS,
    seed: int = 0,
    progress: bool = True,
) -> Scores | MultiLabelScores: ...


def evaluate(
    predictions: Predictions | MultiLabelPredictions | Path | str,
    *,
    validation: Predictions | Path | str | None = None,
    positive: Sequence[str] | None = None,
    at: Sequence[Target | str] | None = None,
    prevalence: Sequence[float] | None = None,
    diagnosis: str | None = None,
    hierarchy: Path | str | None = None,
    coverage: float = COVERAGE,
    prior: Prior | None = None,
    by: Sequence[str] | None = None,
    columns: Path | str | None = None,
    image_column: str | None = None,
    bands: Mapping[str, Sequence[float]] | None = None,
    scores_only: bool = False,
    interval: Interval = "percentile",
    stratified: bool = False,
    draws: int = DRAWS,
    seed: int = 0,
    progress: bool = True,
) -> Scores | MultiLabelScores:
    """Score predictions; every score comes with a 95 % interval.

    Patients are resampled where they are known, else lesion groups, else images. A score that needs a
    class without rows is not computable; its reason says so. Of predictions that are out of fold, AUROC and
    average precision rank the rows of one fold only, and ``folds`` holds the scores of each fold too.
    Those of several labels an image get :class:`panderm.MultiLabelScores`.

    Args:
        predictions: Predictions, the folder that holds them, or a CSV; of one class an image, or of several
            labels.
        validation: predictions of other rows by the same predictor: thresholds, recalibration and prediction
            sets come from them. By default those that ``probe`` keeps beside the ones to score.
        positive: classes that count as positive, their probabilities added up; by default the second of two.
            Of two classes the one named is the positive one of every score, and comes second.
            ``malignant`` stands for all that are so in the diagnosis map.
        at: operating points, as ``"sensitivity=0.95"``, ``"specificity=0.9"``, ``"youden"``, ``"cost=20"`` or
            ``"threshold=0.3"``; by default the first three.
        prevalence: shares of positives at which PPV and NPV are told.
        diagnosis: column with the diagnosis of each image, for the share called positive among each.
        hierarchy: the taxonomy of the diagnosis map whose words the classes are, or a CSV of groups: scores
            level by level.
        coverage: what the prediction sets are to hold, in (0, 1).
        prior: shares of the classes at another place, by class; of two classes the share of the second is
            enough. The probabilities are moved there, and measured on rows weighted to these shares.
        by: columns whose levels are scored as subgroups too, each with its gap to all other rows.
        columns: the table that has them, joined by the images' names; by default the one that was embedded.
        image_column: its column with the images' names; by default as in the table that was embedded.
        bands: by column, where to cut its numbers, ascending: ``{"age": [30, 50, 70]}``. By default up to 12
            different numbers stand as they are, ages are cut into decades, others at their quartiles.
        scores_only: leave out operating points, calibration, prediction sets and selective prediction.
        interval: how intervals are made. ``percentile``: the middle 95 % of the draws; ``bca``: these,
            corrected for bias and skew; ``analytic``: Wilson's for shares and DeLong's for the AUROC of two
            classes, both by whole patients, and percentiles for all other scores. Each score tells where it
            differs.
        stratified: draw patients within the rarest class that they show, so that no draw of two classes
            loses one: takes the mix of classes as given.
        draws: bootstrap draws; 1,000 or more for numbers to publish.
        seed: of the bootstrap; the same seed gives the same intervals.
        progress: show progress on standard error.

    Raises:
        DataError: nothing to score.
        UsageError: options that do not go together.
        ParentsError: the table that was embedded is gone, or another file now.
        TableError: a column or an image that is not in it, or a column of too many values.

    Example:
        >>> panderm.evaluate("probe.pred").scores["auroc_ovo"]  # doctest: +SKIP
        Score(value=0.977, low=0.962, high=0.988, reason=None)
    """
    given = open_either(predictions) if isinstance(predictions, Path | str) else predictions
    _require_by(
        [*(by or ()), *([diagnosis] if diagnosis else [])],
        {"columns": columns, "image-column": image_column, "bands": bands},
    )
    if isinstance(given, MultiLabelPredictions):
        asked_of_one = {
            "by": by,
            "validation": validation,
            "positive": positive,
            "at": at,
            "prevalence": prevalence,
            "diagnosis": diagnosis,
            "hierarchy": hierarchy,
            "prior": prior,
        }
        _refuse_of_labels(given, asked_of_one)
        return evaluate_labels(
            given, interval=interval, stratified=stratified, draws=draws, seed=seed, progress=progress
        )
    if scores_only and prior is not None:
        raise UsageError(
            "--prior must come without --scores-only.", "calibration is left out", "leave one of them out"
        )
    given = _positive_last(given, positive)
    asked = None
    if by:
        asked = read_by_columns(given, by, columns=columns, image_column=image_column, bands=bands)
    scored = score_rows(
        given,
        by=asked,
        interval=interval,
        stratified=stratified,
        draws=draws,
        seed=seed,
        progress=progress,
    )
    if scores_only:
        return scored
    held = validation_rows(given, _in_order(validation, given.classes))
    resampling = resampling_of(given, interval=interval, stratified=stratified, draws=draws, seed=seed)
    targets = [_target(one) for one in at or ()]
    _require_positive(given, positive, {"at": at, "prevalence": prevalence, "diagnosis": diagnosis})
    cells = None
    if diagnosis is not None:
        cells = read_cells_of(given, [diagnosis], columns=columns, image_column=image_column).columns[
            diagnosis
        ]
    return replace(
        scored,
        operating=score_operating(
            given,
            held,
            resampling,
            positive=positive,
            targets=targets,
            prevalence=_shares(prevalence),
            diagnoses=None if cells is None else cells.tolist(),
        ),
        calibration=score_calibration(given, held, resampling, prior=prior),
        prediction_sets=score_prediction_sets(
            given,
            held,
            resampling,
            coverage=coverage,
            by=SetColumns.of(asked, held, columns=columns, image_column=image_column),
            fewest_units=FEWEST_UNITS,
        ),
        selective=score_selective(given, resampling),
        hierarchy=None if hierarchy is None else score_hierarchy(given, resampling, hierarchy=hierarchy),
        top_k=score_top_k(given, resampling),
    )


def _positive_last(given: Predictions, positive: Sequence[str] | None) -> Predictions:
    """Return predictions of two classes with the positive one second, as every score of two takes it."""
    named = positive_classes(given, positive)
    if named is None or len(given.classes) != 2:
        return given
    return given.in_order((*(name for name in given.classes if name not in named), *named))


def _in_order(
    validation: Predictions | Path | str | None, classes: Sequence[str]
) -> Predictions | Path | str | None:
    """Return validation rows with their classes as those of the rows scored, where they are the same."""
    held = open_either(validation) if isinstance(validation, Path | str) else validation
    if isinstance(held, Predictions) and sorted(held.classes) == sorted(classes):
        return held.in_order(classes)
    return validation


def _refuse_of_labels(given: MultiLabelPredictions, asked: Mapping[str, object]) -> None:
    """Raise :class:`UsageError` where what is asked is of one class an image only."""
    for name, value in asked.items():
        if value:
            raise UsageError(
                f"--{name} must be of predictions of one class an image.",
                f"these have several labels: {some(given.classes)}",
                f"leave --{name} out: labels are scored one by one, and together",
            )


def _require_positive(
    given: Predictions, positive: Sequence[str] | None, asked: Mapping[str, object]
) -> None:
    """Raise :class:`UsageError` where operating points are asked for and no class is positive."""
    alone = [name for name, value in asked.items() if value]
    if alone and not positive and len(given.classes) > 2:
        raise UsageError(
            f"--{alone[0]} must come with --positive where there are more than two classes.",
            f"there are: {some(given.classes, 12)}",
            "--positive mel, or --positive malignant",
        )


def _target(asked: Target | str) -> Target:
    return asked if isinstance(asked, Target) else Target.read(asked)


def _shares(prevalence: Sequence[float] | None) -> tuple[float, ...]:
    for share in prevalence or ():
        if not 0 < share < 1:
            raise UsageError(
                "--prevalence must be a share between 0 and 1.", f"found {share:g}", "2 % is .02"
            )
    return tuple(prevalence or ())


def _require_by(by: Sequence[str] | None, others: Mapping[str, object]) -> None:
    alone = [f"--{name}" for name, value in others.items() if value]
    if alone and not by:
        raise UsageError(f"{alone[0]} must come with --by.", "found no --by", "name a column: --by sex")
