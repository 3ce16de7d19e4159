"""Thresholds and what they do: by hand, by brute force, against scikit-learn, and laws."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, roc_curve

from panderm.statistics.operating import (
    at_prevalence,
    cuts,
    for_cost,
    for_sensitivity,
    for_specificity,
    for_youden,
    net_benefit,
    threshold_scores,
)


def problem(n: int, seed: int, decimals: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.3
    truth[:2] = True, False
    score = 1 / (1 + np.exp(-(rng.normal(size=n) + 1.2 * truth)))
    return truth, np.round(score, decimals)


@pytest.mark.parametrize("seed", range(20))
def test_cuts_are_the_points_of_scikit_learns_roc_curve(seed: int) -> None:
    truth, score = problem(60, seed, decimals=1 + seed % 3)
    found = cuts(truth, score)
    fpr, tpr, thresholds = roc_curve(truth, score, drop_intermediate=False)
    assert found.thresholds == pytest.approx(thresholds[1:])
    assert found.sensitivity == pytest.approx(tpr[1:])
    assert found.specificity == pytest.approx(1 - fpr[1:])


@pytest.mark.parametrize("seed", range(20))
def test_chosen_thresholds_are_the_best_of_all(seed: int) -> None:
    truth, score = problem(40, seed)
    at = cuts(truth, score)
    every = [(t, (score[truth] >= t).mean(), (score[~truth] < t).mean()) for t in np.unique(score)]
    chosen = for_sensitivity(at, 0.9)
    assert chosen is not None
    assert at.thresholds[chosen] == max(t for t, se, _ in every if se >= 0.9)
    specific = for_specificity(at, 0.8)
    reached = [t for t, _, sp in every if sp >= 0.8]
    assert (None if specific is None else at.thresholds[specific]) == (min(reached) if reached else None)
    youden = for_youden(at)
    assert at.sensitivity[youden] + at.specificity[youden] == pytest.approx(
        max(se + sp for _, se, sp in every)
    )
    cost = [7 * (truth & (score < t)).sum() + (~truth & (score >= t)).sum() for t in at.thresholds]
    assert cost[for_cost(at, 7)] == min(cost)


def test_a_specificity_that_none_reaches_is_none() -> None:
    assert for_specificity(cuts(np.array([True, False]), np.array([0.5, 0.5])), 0.9) is None


@pytest.mark.parametrize("seed", range(5))
def test_counts_agree_with_scikit_learn_on_repeated_rows(seed: int) -> None:
    truth, score = problem(50, seed)
    weights = np.random.default_rng(seed).integers(0, 3, (4, 50))
    found = threshold_scores(truth, score, 0.6, weights)
    for b, times in enumerate(weights):
        rows = np.repeat(np.arange(50), times)
        tn, fp, fn, tp = confusion_matrix(truth[rows], score[rows] >= 0.6, labels=[False, True]).ravel()
        assert found["sensitivity"][b] == pytest.approx(tp / (tp + fn))
        assert found["specificity"][b] == pytest.approx(tn / (tn + fp))
        assert found["ppv"][b] == pytest.approx(tp / (tp + fp))
        assert found["npv"][b] == pytest.approx(tn / (tn + fn))
        assert found["number_needed_to_biopsy"][b] == pytest.approx((tp + fp) / tp)
        assert found["called_positive"][b] == pytest.approx((tp + fp) / len(rows))


def test_predictive_values_at_their_own_prevalence_are_those_counted() -> None:
    truth, score = problem(200, 3)
    own = threshold_scores(truth, score, 0.5)
    told = at_prevalence(own["sensitivity"], own["specificity"], truth.mean())
    for name in ("ppv", "npv", "number_needed_to_biopsy"):
        assert told[name] == pytest.approx(own[name])


def test_predictive_values_by_hand() -> None:
    told = at_prevalence([0.9], [0.8], 0.02)  # .018 found and .196 false alarms
    assert told["ppv"][0] == pytest.approx(0.018 / 0.214)
    assert told["number_needed_to_biopsy"][0] == pytest.approx(0.214 / 0.018)
    assert told["npv"][0] == pytest.approx(0.784 / 0.786)


def test_net_benefit_by_brute_force() -> None:
    truth, score = problem(80, 1)
    at = np.array([0.05, 0.2, 0.5, 0.9])
    weights = np.random.default_rng(0).integers(0, 4, (3, 80))
    found = net_benefit(truth, score, at, weights)
    for b, times in enumerate(weights):
        for k, t in enumerate(at):
            tp, fp = (times * (truth & (score >= t))).sum(), (times * (~truth & (score >= t))).sum()
            assert found["model"][b, k] == pytest.approx((tp - t / (1 - t) * fp) / times.sum())
            share = (times * truth).sum() / times.sum()
            assert found["everyone"][b, k] == pytest.approx(share - t / (1 - t) * (1 - share))


def test_what_is_infinite_or_undefined_is_not_a_number() -> None:
    truth, score = np.array([True, False]), np.array([0.9, 0.1])
    found = threshold_scores(truth, score, 0.5)
    assert np.isnan(found["likelihood_ratio_positive"][0])
    assert np.isnan(threshold_scores(truth, score, 0.95)["ppv"][0])
    with pytest.raises(ValueError, match="both kinds"):
        cuts(np.array([True, True]), [0.1, 0.2])
    with pytest.raises(ValueError, match="finite"):
        cuts(np.array([True, False]), [np.nan, 0.2])
    with pytest.raises(ValueError, match="ascend"):
        net_benefit(truth, score, [0.5, 0.2])
    with pytest.raises(ValueError, match="prevalence"):
        at_prevalence([1.0], [1.0], 1.0)
