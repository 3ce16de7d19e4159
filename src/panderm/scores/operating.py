"""Operating points: a threshold chosen on validation rows and locked, and what it does on the rows scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from panderm.predictions import Predictions
from panderm.scores.resampled import Band, Resampling
from panderm.scores.score import Score

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
        aim, _, value = text.partition("=")
        return cls(aim, float(value) if value else None)  # type: ignore[arg-type]


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
    return None
