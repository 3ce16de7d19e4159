"""Calibration: whether a probability of .8 is right eight times in ten, before and after recalibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from panderm.errors import DataError
from panderm.predictions import Predictions
from panderm.scores.resampled import Resampling, Statistic
from panderm.scores.score import Score
from panderm.statistics.calibration import (
    BINS,
    bin_codes,
    calibration_error,
    observed_shares,
    proper_scores,
    slope_and_intercept,
)
from panderm.statistics.temperature import fit_temperature

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Weights = npt.NDArray[np.int32]
_LEAST = 1e-15


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
        parameters: by name, as the temperature.
    """

    of: str
    how: str
    scores: dict[str, Score]
    bins: tuple[ReliabilityBin, ...]
    parameters: dict[str, float]


@dataclass(frozen=True)
class Calibration:
    """The section "Calibration".

    Attributes:
        probability: of what, in words: "of mel" or "of the most probable class".
        given: the probabilities as they are.
        recalibrated: after each recalibration fitted on validation rows.
        differences: by its name, each score minus that as given, on the same draws.
        fitted_on: which rows, in words; None where there are none.
    """

    probability: str
    given: CalibrationOf
    recalibrated: tuple[CalibrationOf, ...] = ()
    differences: dict[str, dict[str, Score]] | None = None
    fitted_on: str | None = None


def score_calibration(
    given: Predictions, validation: Predictions | None, resampling: Resampling
) -> Calibration | None:
    """Measure calibration on the rows scored, and that of recalibrations fitted on validation rows."""
    truth, K = given.truth_codes(), len(given.classes)
    p = given.probabilities
    probability = f"of {given.classes[1]}" if K == 2 else "of the most probable class"
    as_given = _measure("as given", "nothing was fitted", truth, p, resampling, {})
    if validation is None or validation.classes != given.classes or not len(validation):
        return Calibration(probability, as_given)
    on = f"{len(validation)} validation rows"
    held, codes = validation.probabilities, validation.truth_codes()
    moved: dict[str, tuple[Floats, dict[str, float]]] = {}
    try:
        value = fit_temperature(_logs(held), codes).value
        moved["temperature"] = (_softened(p, value), {"temperature": value})
    except DataError:
        pass  # these rows leave it without a best value
    if len(np.unique(codes)) == K:
        moved["isotonic"] = (_isotonic(held, codes, p), {})
    first = _statistic(truth, p)
    return Calibration(
        probability,
        as_given,
        tuple(
            _measure(name, f"{name} fitted on {on}", truth, q, resampling, parameters)
            for name, (q, parameters) in moved.items()
        ),
        {name: resampling.differences(first, _statistic(truth, q)) for name, (q, _) in moved.items()},
        on,
    )


def _event(truth: Integers, p: Floats) -> tuple[Floats, Floats]:
    """Return what is predicted and its probability: of two classes the positive one, else the top one."""
    if p.shape[1] == 2:
        return (truth == 1).astype(np.float64), p[:, 1]
    return (truth == p.argmax(axis=1)).astype(np.float64), p.max(axis=1)


def _statistic(truth: Integers, p: Floats) -> Statistic:
    outcome, probability = _event(truth, p)

    def numbers(weights: Weights | None) -> dict[str, Floats]:
        found = {"ece": calibration_error(outcome, probability, weights), **proper_scores(truth, p, weights)}
        return found if p.shape[1] > 2 else found | slope_and_intercept(outcome, probability, weights)

    return numbers


def _measure(
    of: str, how: str, truth: Integers, p: Floats, resampling: Resampling, parameters: dict[str, float]
) -> CalibrationOf:
    outcome, probability = _event(truth, p)
    codes = bin_codes(probability)

    def shares(weights: Weights | None) -> dict[str, Floats]:
        return {str(k): column for k, column in enumerate(observed_shares(outcome, codes, BINS, weights).T)}

    observed = resampling.scores(shares, {str(k): "no row is in this bin" for k in range(BINS)})
    bins = []
    for k in range(BINS):
        rows = codes == k
        mean = float(probability[rows].mean()) if rows.any() else None
        bins.append(ReliabilityBin(k / BINS, (k + 1) / BINS, int(rows.sum()), mean, observed[str(k)]))
    return CalibrationOf(of, how, resampling.scores(_statistic(truth, p)), tuple(bins), parameters)


def _logs(p: Floats) -> Floats:
    return np.asarray(np.log(np.clip(p, _LEAST, 1)), dtype=np.float64)


def _softened(p: Floats, temperature: float) -> Floats:
    z = _logs(p) / temperature
    q = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(q / q.sum(axis=1, keepdims=True), dtype=np.float64)


def _isotonic(held: Floats, codes: Integers, p: Floats) -> Floats:
    """Fit each class against the rest and let rows sum to 1; of two classes the positive one only."""
    from sklearn.isotonic import IsotonicRegression

    K = p.shape[1]
    fitted = [
        IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        .fit(held[:, k], codes == k)
        .predict(p[:, k])
        for k in ((1,) if K == 2 else range(K))
    ]
    q = np.column_stack([1 - fitted[0], fitted[0]] if K == 2 else fitted)
    total = q.sum(axis=1, keepdims=True)
    return np.where(total > 0, q / np.where(total > 0, total, 1), p)
