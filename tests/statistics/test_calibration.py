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
