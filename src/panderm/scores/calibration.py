"""Calibration: whether a probability of .8 is right eight times in ten, before and after recalibration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from panderm.errors import DataError, UsageError, some
from panderm.predictions import Predictions
from panderm.predictions.recalibrated import move
from panderm.predictions.shares import Prior, learnt_shares, stated_shares
from panderm.scores.resampled import Drawn, Resampling, Statistic
from panderm.scores.score import Score
from panderm.statistics.blocks import multiplicities, over_blocks
from panderm.statistics.calibration import (
    BINS,
    Strata,
    at_shares,
    bin_codes,
    calibration_error,
    observed_shares,
    proper_scores,
    shift_prior,
    slope_and_intercept,
)

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Weights = npt.NDArray[np.int32]
_PLAIN = ("ece",)  # of a draw the noise is taken off twice: BCa would compare unlike numbers


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows of about one probability.

    Attributes:
        low, high: edges of the bin.
        n: rows.
        predicted: mean probability; None where there are none.
        observed: share that are so, with its interval.
    """

    low: float
    high: float
    n: int
    predicted: float | None
    observed: Score


@dataclass(frozen=True)
class CalibrationOf:
    """One set of probabilities.

    Attributes:
        of: "as given", "temperature", "isotonic" or "prior shift".
        how: what was fitted on which rows, in words.
        scores: ece (debiased), brier, log_loss, and of two classes calibration_slope and
            calibration_intercept.
        bins: of two classes those of the positive one, else of the most probable class.
        parameters: by name, as the temperature; of folds, of each.
        caution: what speaks against believing it; None where nothing does.
    """

    of: str
    how: str
    scores: dict[str, Score]
    bins: tuple[ReliabilityBin, ...]
    parameters: dict[str, Any]
    caution: str | None = None


@dataclass(frozen=True)
class PriorShift:
    """Probabilities moved to other shares of the classes, and what they are worth there.

    Both sets of probabilities are measured on the rows scored, each class weighted to its share at the place
    that was stated: what would be found there if the images of a class look as they do here.

    Attributes:
        old: by class, the shares that the probabilities were learnt at.
        old_from: where those are from, in words.
        new: by class, the shares stated.
        given: the probabilities as they are, at the new shares; ``accuracy`` and
            ``balanced_accuracy`` among its scores.
        moved: the corrected ones, likewise.
        differences: each score of the corrected ones minus that as given, on the same draws.
        changed: rows whose most probable class is another after the correction.
    """

    old: dict[str, float]
    old_from: str
    new: dict[str, float]
    given: CalibrationOf
    moved: CalibrationOf
    differences: dict[str, Score]
    changed: int


@dataclass(frozen=True)
class Calibration:
    """The section "Calibration".

    Attributes:
        probability: of what, in words: "of mel" or "of the most probable class".
        given: the probabilities as they are.
        recalibrated: after each recalibration fitted on validation rows.
        differences: by its name, each score minus that as given, on the same draws.
        fitted_on: which rows, in words; None where there are none.
        not_fitted: by its name, why a recalibration is not there.
        prior: the probabilities moved to stated shares of the classes, where some were stated.
    """

    probability: str
    given: CalibrationOf
    recalibrated: tuple[CalibrationOf, ...] = ()
    differences: dict[str, dict[str, Score]] | None = None
    fitted_on: str | None = None
    not_fitted: dict[str, str] = field(default_factory=dict)
    prior: PriorShift | None = None


def score_calibration(
    given: Predictions,
    validation: Predictions | None,
    resampling: Resampling,
    *,
    prior: Prior | None = None,
) -> Calibration | None:
    """Measure calibration on the rows scored, and that of recalibrations fitted on validation rows.

    Out-of-fold predictions without validation rows are recalibrated fold by fold, on the other folds.

    Args:
        given: the rows scored.
        validation: rows to fit on.
        resampling: of the rows scored.
        prior: shares of the classes to move the probabilities to.

    Raises:
        UsageError: shares that make no sense, or that the rows scored cannot stand for.
    """
    truth, K = given.truth_codes(), len(given.classes)
    p = given.probabilities
    probability = f"of {given.classes[1]}" if K == 2 else "of the most probable class"
    as_given, first = _measure("as given", "nothing was fitted", truth, p, resampling)
    shifted = None if prior is None else _shifted(given, validation, resampling, prior)
    found: list[CalibrationOf] = []
    differences, lacking, rows = {}, {}, None
    for name in ("temperature", "isotonic"):
        try:
            moved = move(name, given, validation)
        except (DataError, UsageError) as error:
            lacking[name] = _reason(error)
            continue
        rows, q = moved.rows, moved.probabilities
        how = f"{name} fitted on {moved.rows}"
        parameters = moved.parameters if name == "temperature" else {}
        one, drawn = _measure(name, how, truth, q, resampling, parameters, caution=moved.caution)
        found.append(one)
        differences[name] = {score: drawn.minus(first, score) for score in one.scores}
    return Calibration(
        probability,
        as_given,
        tuple(found),
        differences or None,
        rows,
        lacking,
        shifted,
    )


def _reason(error: DataError | UsageError) -> str:
    return f"{error.must.rstrip('.')}: {', '.join(error.found)}"


def _shifted(
    given: Predictions, validation: Predictions | None, resampling: Resampling, prior: Prior
) -> PriorShift:
    """Move probabilities to stated shares, and measure both on rows weighted to these."""
    truth, p, classes = given.truth_codes(), given.probabilities, given.classes
    new, (old, words) = stated_shares(prior, classes), learnt_shares(given, validation)
    absent = [name for k, name in enumerate(classes) if not (truth == k).any()]
    if absent:
        raise UsageError(
            "--prior must give shares to classes that the rows scored have.",
            f"no row scored is of {some(absent)}",
            "leave --prior out, or score rows of all classes",
        )
    q, strata = shift_prior(p, old, new), (truth, new)
    how = f"moved from the shares of {words} to those stated"
    as_given, first = _measure("as given", "nothing was fitted", truth, p, resampling, strata=strata)
    moved, drawn = _measure("prior shift", how, truth, q, resampling, strata=strata)
    return PriorShift(
        old=dict(zip(classes, old.tolist(), strict=True)),
        old_from=words,
        new=dict(zip(classes, new.tolist(), strict=True)),
        given=as_given,
        moved=moved,
        differences={score: drawn.minus(first, score) for score in moved.scores},
        changed=int((p.argmax(axis=1) != q.argmax(axis=1)).sum()),
    )


def _event(truth: Integers, p: Floats) -> tuple[Floats, Floats]:
    """Return what is predicted and its probability: of two classes the positive one, else the top one."""
    if p.shape[1] == 2:
        return (truth == 1).astype(np.float64), p[:, 1]
    return (truth == p.argmax(axis=1)).astype(np.float64), p.max(axis=1)


def _statistic(truth: Integers, p: Floats, resampling: Resampling, strata: Strata | None = None) -> Statistic:
    outcome, probability = _event(truth, p)
    right = (truth == p.argmax(axis=1)).astype(np.float64)

    def numbers(weights: Weights | None) -> dict[str, Floats]:
        error = calibration_error(outcome, probability, weights, clusters=resampling.clusters, strata=strata)
        found = {"ece": error, **proper_scores(truth, p, weights, strata=strata)}
        if p.shape[1] == 2:
            found |= slope_and_intercept(outcome, probability, weights, strata=strata)
        return found if strata is None else found | _right(right, weights, strata)

    return numbers


def _right(right: Floats, weights: Weights | None, strata: Strata) -> dict[str, Floats]:
    """Return how many are called rightly at the stated shares, and of each class alike."""

    def compute(block: Floats) -> dict[str, Floats]:
        even = (strata[0], np.full(len(strata[1]), 1 / len(strata[1])))
        found = {}
        for name, shares in (("accuracy", strata), ("balanced_accuracy", even)):
            counted = at_shares(block, shares)
            found[name] = right @ counted / counted.sum(axis=0)
        return found

    return over_blocks(compute, multiplicities(weights, len(right)), len(right))


def _measure(
    of: str,
    how: str,
    truth: Integers,
    p: Floats,
    resampling: Resampling,
    parameters: dict[str, Any] | None = None,
    *,
    caution: str | None = None,
    strata: Strata | None = None,
) -> tuple[CalibrationOf, Drawn]:
    """Return what is told of some probabilities, and the draws behind it."""
    outcome, probability = _event(truth, p)
    codes, numbers = bin_codes(probability), _statistic(truth, p, resampling, strata)

    def all_of_it(weights: Weights | None) -> dict[str, Floats]:
        shares = observed_shares(outcome, codes, BINS, weights, strata=strata)
        return {**numbers(weights), **{_bin(k): column for k, column in enumerate(shares.T)}}

    drawn = resampling.drawn(all_of_it, plain=_PLAIN)
    counted = at_shares(np.ones((len(truth), 1)), strata)[:, 0]
    bins = []
    for k in range(BINS):
        rows = codes == k
        mean = float(np.average(probability[rows], weights=counted[rows])) if rows.any() else None
        observed = drawn.score(_bin(k), None if rows.any() else "no row is in this bin")
        bins.append(ReliabilityBin(k / BINS, (k + 1) / BINS, int(rows.sum()), mean, observed))
    of_bins = {_bin(k) for k in range(BINS)}
    scores = {name: drawn.score(name) for name in drawn.values if name not in of_bins}
    return CalibrationOf(of, how, scores, tuple(bins), parameters or {}, caution), drawn


def _bin(k: int) -> str:
    return f"bin {k}"
