"""Operating points: a threshold chosen on validation rows and locked, and what it does on the rows scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from panderm.errors import plural
from panderm.predictions import Predictions
from panderm.predictions.positive import as_two, positive_classes
from panderm.scores.resampled import Band, Floats, Resampling, Weights
from panderm.scores.score import Score
from panderm.statistics.operating import (
    Cuts,
    at_prevalence,
    cuts,
    net_benefit,
    threshold_scores,
)
from panderm.statistics.targets import DEFAULT_TARGETS, reach
from panderm.statistics.targets import Target as Target


@dataclass(frozen=True)
class AtPrevalence:
    """What sensitivity and specificity mean among so many positives (Bayes)."""

    prevalence: float
    ppv: Score
    npv: Score
    number_needed_to_biopsy: Score


@dataclass(frozen=True)
class OperatingPoint:
    """One threshold and what it does.

    Attributes:
        target: what it was to reach.
        threshold: a row is called positive where the probability is so high or higher; None where none
            reaches the target.
        reason: why there is none.
        chosen: sensitivity and specificity there, on the rows that chose it.
        tp, fp, fn, tn: rows scored.
        scores: sensitivity, specificity, ppv, npv, called_positive, number_needed_to_biopsy, youden,
            likelihood_ratio_positive, likelihood_ratio_negative.
        at: ppv, npv and number needed to biopsy at stated prevalences.
    """

    target: Target
    threshold: float | None
    reason: str | None
    chosen: dict[str, float | None]
    tp: int
    fp: int
    fn: int
    tn: int
    scores: dict[str, Score]
    at: tuple[AtPrevalence, ...] = ()


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit by threshold probability (Vickers and Elkin, 2006), with those of all and none."""

    thresholds: tuple[float, ...]
    model: Band
    everyone: Band


@dataclass(frozen=True)
class DiagnosisRow:
    """One diagnosis of the rows scored: how many of them each operating point calls positive.

    Attributes:
        diagnosis: as the column has it.
        n, clusters: rows and independent units of it.
        positive: whether it counts as positive; None where its rows differ.
        called: share called positive at each operating point, in their order.
    """

    diagnosis: str
    n: int
    clusters: int
    positive: bool | None
    called: tuple[Score, ...]


@dataclass(frozen=True)
class Operating:
    """The section "Operating points".

    Attributes:
        positive: the classes that count as positive.
        chosen_on: which rows chose the thresholds, in words.
        locked: whether those are other rows than the ones scored.
        n, positives: rows that chose, and positives among them.
        points: in the order asked for.
        decision: net benefit.
        diagnoses: by diagnosis, where a column names them.
    """

    positive: tuple[str, ...]
    chosen_on: str
    locked: bool
    n: int
    positives: int
    points: tuple[OperatingPoint, ...]
    decision: DecisionCurve | None = None
    diagnoses: tuple[DiagnosisRow, ...] = ()


def score_operating(
    given: Predictions,
    validation: Predictions | None,
    resampling: Resampling,
    *,
    positive: Sequence[str] | None = None,
    targets: Sequence[Target] | None = None,
    prevalence: Sequence[float] = (),
    diagnoses: Sequence[str | None] | None = None,
) -> Operating | None:
    """Choose thresholds on validation rows, and score them on others; None where no class is positive.

    Args:
        given: the rows scored.
        validation: rows that choose; None where there are none.
        resampling: of the rows scored.
        positive: classes whose probabilities are added up; by default the second of two.
        targets: what to reach; by default sensitivity .95, specificity .90 and Youden's index.
        prevalence: shares of positives to tell PPV and NPV at.
        diagnoses: (n,) the diagnosis of each row scored.
    """
    classes = positive_classes(given, positive)
    if classes is None:
        return None
    rows = given if validation is None else validation
    truth, probability = as_two(given, classes)
    chosen_truth, chosen_probability = as_two(rows, classes)
    if not 0 < truth.sum() < len(truth):
        return None
    locked = validation is not None
    found = plural(len(rows), "row")
    where = f"{found} of {rows.card.split}" if locked else "the rows scored"
    asked = tuple(targets or DEFAULT_TARGETS)
    both = 0 < chosen_truth.sum() < len(chosen_truth)
    at = cuts(chosen_truth, chosen_probability) if both else None
    points = tuple(
        _point(target, at, truth, probability, resampling, prevalence=prevalence) for target in asked
    )
    thresholds = _GRID
    bands = resampling.bands(lambda weights: net_benefit(truth, probability, thresholds, weights))
    return Operating(
        positive=classes,
        chosen_on=where,
        locked=locked,
        n=len(rows),
        positives=int(chosen_truth.sum()),
        points=points,
        decision=DecisionCurve(tuple(thresholds.tolist()), bands["model"], bands["everyone"]),
        diagnoses=_by_diagnosis(diagnoses, points, truth, probability, resampling),
    )


_GRID = np.round(np.arange(0.01, 1.0, 0.01), 2)
_EMPTY = "(empty)"


def _point(
    target: Target,
    at: Cuts | None,
    truth: npt.NDArray[np.bool_],
    probability: Floats,
    resampling: Resampling,
    *,
    prevalence: Sequence[float],
) -> OperatingPoint:
    reached = reach(target, at)
    threshold, chosen, reason = reached.threshold, reached.did, reached.reason
    if threshold is None:
        return OperatingPoint(target, None, reason, {}, 0, 0, 0, 0, {}, ())
    called = probability >= threshold
    cells = [int((a & b).sum()) for a, b in ((truth, called), (~truth, called), (truth, ~called))]
    tp, fp, fn = cells

    def everything(weights: Weights | None) -> dict[str, npt.NDArray[Any]]:
        found: dict[str, npt.NDArray[Any]] = dict(threshold_scores(truth, probability, threshold, weights))
        for share in prevalence:
            told = at_prevalence(found["sensitivity"], found["specificity"], share)
            found |= {f"{name} at {share:g}": value for name, value in told.items()}
        return found

    scores = resampling.scores(everything, _undefined(tp, fp, fn, len(truth) - tp - fp - fn))
    everyone = np.ones_like(truth)
    shares = {"sensitivity": (called, truth), "specificity": (~called, ~truth), "ppv": (truth, called)}
    shares |= {"npv": (~truth, ~called), "called_positive": (called, everyone)}
    scores |= {name: resampling.share(scores[name], *of) for name, of in shares.items()}
    stated = tuple(
        AtPrevalence(
            float(share),
            *(scores.pop(f"{name} at {share:g}") for name in ("ppv", "npv", "number_needed_to_biopsy")),
        )
        for share in prevalence
    )
    return OperatingPoint(
        target, threshold, None, chosen, tp, fp, fn, len(truth) - tp - fp - fn, scores, stated
    )


def _undefined(tp: int, fp: int, fn: int, tn: int) -> dict[str, str]:
    reasons = {}
    if not tp + fp:
        reasons["ppv"] = "no row is called positive"
    if not tp:
        reasons["number_needed_to_biopsy"] = "no positive row is called so"
    if not fn + tn:
        reasons["npv"] = "every row is called positive"
    if not fp:
        reasons["likelihood_ratio_positive"] = "there is no false alarm: it is infinite"
    if not tn:
        reasons["likelihood_ratio_negative"] = "every negative row is called positive: it is infinite"
    return reasons


def _by_diagnosis(
    diagnoses: Sequence[str | None] | None,
    points: Sequence[OperatingPoint],
    truth: npt.NDArray[np.bool_],
    probability: Floats,
    resampling: Resampling,
) -> tuple[DiagnosisRow, ...]:
    if diagnoses is None:
        return ()
    names = np.array([name or _EMPTY for name in diagnoses], dtype=object)
    found = []
    for name in sorted(set(names)):
        rows = np.flatnonzero(names == name)
        kinds = set(truth[rows].tolist())
        among = resampling.among(rows)
        called = []
        for point in points:
            if point.threshold is None:
                called.append(Score(None, None, None, point.reason))
                continue
            above = probability[rows] >= point.threshold
            share = among.scores(partial(_share, above.astype(np.float64)))["share"]
            called.append(among.share(share, above, np.ones_like(above)))
        positive = kinds.pop() if len(kinds) == 1 else None
        found.append(DiagnosisRow(name, len(rows), among.units, positive, tuple(called)))
    return tuple(found)


def _share(of: Floats, weights: Weights | None) -> dict[str, npt.NDArray[Any]]:
    counts = np.ones((1, len(of))) if weights is None else weights
    return {"share": counts @ of / counts.sum(axis=1)}
