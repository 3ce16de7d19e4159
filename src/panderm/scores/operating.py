"""Operating points: a threshold chosen on validation rows and locked, and what it does on the rows scored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from panderm.errors import UsageError, plural
from panderm.predictions import Predictions
from panderm.scores.positive import as_two, positive_classes
from panderm.scores.resampled import Band, Floats, Resampling, Weights
from panderm.scores.score import Score
from panderm.statistics.operating import (
    Cuts,
    at_prevalence,
    cuts,
    for_cost,
    for_sensitivity,
    for_specificity,
    for_youden,
    net_benefit,
    threshold_scores,
)

Aim = Literal["sensitivity", "specificity", "youden", "cost", "threshold"]


@dataclass(frozen=True)
class Target:
    """What a threshold is to reach.

    Attributes:
        aim: at least this sensitivity or specificity, the largest Youden index, the least cost, or a
            threshold that is given.
        value: in (0, 1) of the first two and of a threshold; of a cost, what a missed positive costs in false
            alarms; None of Youden's.
    """

    aim: Aim
    value: float | None = None

    @classmethod
    def read(cls, text: str) -> Target:
        """Read ``sensitivity=0.95``, ``specificity=0.9``, ``youden``, ``cost=20`` or ``threshold=0.3``.

        Raises:
            UsageError: none of these.
        """
        aim, _, number = text.partition("=")
        try:
            value = float(number) if number else None
        except ValueError:
            value = math.nan
        sound = aim == "youden" and value is None
        if aim in ("sensitivity", "specificity", "threshold"):
            sound = value is not None and 0 < value < 1
        elif aim == "cost":
            sound = value is not None and 0 < value < math.inf
        if not sound:
            raise UsageError(
                "--at must be an operating point.",
                f"found {text!r}",
                "sensitivity=0.95, specificity=0.9, youden, cost=20 or threshold=0.3",
            )
        return cls(cast(Aim, aim), value)

    @property
    def words(self) -> str:
        """What it is in words."""
        if self.aim == "youden":
            return "largest sensitivity + specificity"
        if self.aim == "cost":
            return f"least cost, a missed positive costing {self.value:g} false alarms"
        return f"{self.aim} {'=' if self.aim == 'threshold' else '≥'} {self.value:g}"


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


DEFAULT_TARGETS = (Target("sensitivity", 0.95), Target("specificity", 0.90), Target("youden"))


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
    threshold, chosen, reason = _chosen(target, at)
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


def _chosen(target: Target, at: Cuts | None) -> tuple[float | None, dict[str, float | None], str | None]:
    """Return the threshold of a target, what it did where it was chosen, and why there is none."""
    if target.aim == "threshold":
        return target.value, {"sensitivity": None, "specificity": None}, None
    if at is None:
        return None, {}, "the rows to choose on are of one kind only"
    value = 0.0 if target.value is None else target.value
    found: int | None
    if target.aim == "sensitivity":
        found = for_sensitivity(at, value)
    elif target.aim == "specificity":
        found = for_specificity(at, value)
    else:
        found = for_youden(at) if target.aim == "youden" else for_cost(at, value)
    if found is None:
        return None, {}, f"no threshold reaches {target.words} on the rows to choose on"
    did: dict[str, float | None] = {
        "sensitivity": float(at.sensitivity[found]),
        "specificity": float(at.specificity[found]),
    }
    return float(at.thresholds[found]), did, None


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
