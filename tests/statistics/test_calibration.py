"""Calibration and selective prediction against scikit-learn, simulations and laws."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from panderm.statistics.calibration import (
    bin_codes,
    calibration_error,
    observed_shares,
    proper_scores,
    shift_prior,
    slope_and_intercept,
)
from panderm.statistics.selective import risk_coverage

RNG = np.random.default_rng(0)
P = RNG.beta(1, 2, 400)
Y = (RNG.random(400) < P).astype(int)
W = RNG.integers(0, 4, (3, 400))


def test_scores_are_scikit_learns_with_weights() -> None:
    both = np.column_stack([1 - P, P])
    found = proper_scores(Y, both, W)
    assert found["brier"] == pytest.approx([brier_score_loss(Y, P, sample_weight=w) for w in W])
    assert found["log_loss"] == pytest.approx([log_loss(Y, both, sample_weight=w) for w in W])


def test_shares_are_scikit_learns() -> None:
    shares = observed_shares(Y, bin_codes(P))[0]
    assert shares[np.isfinite(shares)] == pytest.approx(calibration_curve(Y, P, n_bins=10)[0])


def test_the_slope_is_that_of_a_logistic_regression() -> None:
    z = np.log(P / (1 - P))[:, None]
    fits = [LogisticRegression(C=1e10, tol=1e-9, max_iter=500).fit(z, Y, sample_weight=w) for w in W]
    assert slope_and_intercept(Y, P, W)["calibration_slope"] == pytest.approx(
        [f.coef_[0, 0] for f in fits], abs=1e-4
    )
    assert np.isnan(slope_and_intercept(np.ones(400), P)["calibration_slope"][0])


def test_no_error_is_seen_where_there_is_none_and_a_true_one_is() -> None:
    rng = np.random.default_rng(1)
    p = rng.random((100, 500))
    y = rng.random(p.shape) < p
    honest = [calibration_error(a, b)[0] ** 2 for a, b in zip(y, p, strict=True)]
    assert np.mean(honest) < 0.001  # without the correction about 10 bins x 1/6 / 500 = .0033
    off = [calibration_error(rng.random(500) < 0.7 * b, b)[0] ** 2 for b in p]
    assert np.mean(off) == pytest.approx(0.03, abs=0.004)


def test_rows_of_a_patient_do_not_pass_for_strangers() -> None:
    """Honest probabilities, outcomes that patients share: as strangers' rows they would look wrong."""
    rng = np.random.default_rng(4)
    of_rows, of_patients = [], []
    for _ in range(150):
        p, clusters = np.repeat(rng.random(125), 4), np.repeat(np.arange(125), 4)
        shared = np.where(rng.random(500) < 0.7, np.repeat(rng.random(125), 4), rng.random(500))
        y = shared < p
        of_rows.append(calibration_error(y, p)[0] ** 2)
        of_patients.append(calibration_error(y, p, clusters=clusters)[0] ** 2)
    # What is left is that nothing falls below 0: the same as of as many strangers.
    assert np.mean(of_patients) < 0.5 * np.mean(of_rows)
    assert np.mean(of_patients) < 0.0025
    # Of rows that stand alone it is the formula for rows, in draws too: s(1 - s)/(n - 1), twice taken off.
    codes = bin_codes(P)
    for weights, times in ((None, 1), (W, 2)):
        counts = np.ones((1, 400)) if weights is None else weights
        wanted = []
        for w in counts:
            rows = np.bincount(codes, w, 10)
            share, mean = np.bincount(codes, w * Y, 10) / rows, np.bincount(codes, w * P, 10) / rows
            gaps = np.where(rows > 1, (share - mean) ** 2 - times * share * (1 - share) / (rows - 1), 0)
            wanted.append(max(0, (rows * gaps).sum() / rows[rows > 1].sum()) ** 0.5)
        assert calibration_error(Y, P, weights) == pytest.approx(wanted)
        assert calibration_error(Y, P, weights, clusters=np.arange(400)) == pytest.approx(wanted)


def test_rows_weighted_to_other_shares_stand_for_another_place() -> None:
    rng, n = np.random.default_rng(5), 40_000
    truth = (rng.random(n) < 0.4).astype(int)
    x = rng.normal(size=n) + 1.5 * truth
    # At a share of 40 % here, of 5 % there: the same images of each class.
    odds = np.exp(1.5 * x - 1.125)
    here, there = (odds * share / (1 - share) for share in (0.4, 0.05))
    p, q = (np.column_stack([1 / (1 + one), one / (1 + one)]) for one in (here, there))
    strata = (truth, np.array([0.95, 0.05]))
    assert shift_prior(p, [0.6, 0.4], strata[1]) == pytest.approx(q)
    weights = np.where(truth == 1, 0.05 / truth.mean(), 0.95 / (1 - truth.mean()))
    for one in (p, q):
        found = proper_scores(truth, one, strata=strata)
        assert found["log_loss"][0] == pytest.approx(log_loss(truth, one, sample_weight=weights))
        assert found["brier"][0] == pytest.approx(brier_score_loss(truth, one[:, 1], sample_weight=weights))
    assert calibration_error(truth, q[:, 1], strata=strata)[0] < 0.006
    assert calibration_error(truth, p[:, 1], strata=strata)[0] > 0.15
    told = slope_and_intercept(truth, q[:, 1], strata=strata)
    assert told["calibration_slope"][0] == pytest.approx(1, abs=0.05)
    assert told["calibration_intercept"][0] == pytest.approx(0, abs=0.05)
    # In every draw anew; one that lacks a class says nothing.
    draws = np.stack([np.ones(n, dtype=int), 3 * (truth == 1) + (truth == 0), (truth == 1).astype(int)])
    losses = proper_scores(truth, q, draws, strata=strata)["log_loss"]
    assert losses[1] == pytest.approx(losses[0])
    assert np.isnan(losses[2])


def test_a_prior_moved_there_and_back_is_as_it_was() -> None:
    p = np.random.default_rng(2).dirichlet(np.ones(3), 20)
    old, new = [0.2, 0.3, 0.5], [0.6, 0.3, 0.1]
    assert shift_prior(shift_prior(p, old, new), new, old) == pytest.approx(p)
    with pytest.raises(ValueError, match="shares"):
        shift_prior(p, [0, 0.5, 0.5], new)


def test_the_best_order_has_no_excess_and_all_rows_the_whole_risk() -> None:
    wrong = np.array([0, 0, 0, 1, 1])
    best = risk_coverage(wrong, [5, 4, 3, 2, 1], [0.6, 1.0])
    assert best["excess"] == pytest.approx(0)
    assert best["risk"][0] == pytest.approx([0, 0.4])
    equal = risk_coverage(wrong, np.ones(5), [0.5, 1.0])
    assert equal["risk"][0] == pytest.approx([0.4, 0.4])
    twice = risk_coverage(np.repeat(wrong, 2), np.repeat([5, 4, 3, 2, 1], 2), [1.0])
    counted = risk_coverage(wrong, [5, 4, 3, 2, 1], [1.0], np.full((1, 5), 2))
    assert counted["area"] == pytest.approx(twice["area"])
