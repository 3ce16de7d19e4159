"""DeLong's variance against placements counted pair by pair, scikit-learn's AUROC, and coverage."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from panderm.statistics.delong import delong, delong_interval, delong_test


def drawn(n: int = 60, models: int = 3, seed: int = 0, ties: bool = True):
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.4
    scores = rng.normal(size=(models, n)) + rng.normal(size=n) + truth
    return truth, scores.round(1) if ties else scores


def by_pairs(truth, scores):
    """The 1988 paper word for word: kernels of all pairs, their means by row, covariances of these."""
    first, other = scores[:, truth], scores[:, ~truth]
    kernel = (first[:, :, None] > other[:, None]) + 0.5 * (first[:, :, None] == other[:, None])
    by_first, by_other = kernel.mean(axis=2), kernel.mean(axis=1)
    covariance = np.cov(by_first) / first.shape[1] + np.cov(by_other) / other.shape[1]
    return kernel.mean(axis=(1, 2)), covariance


def test_auroc_and_covariance_are_those_of_all_pairs_and_of_scikit_learn():
    truth, scores = drawn()
    auroc, covariance = delong(truth, scores)
    expected, of_pairs = by_pairs(truth, scores)
    np.testing.assert_allclose(auroc, expected, atol=1e-12)
    np.testing.assert_allclose(auroc, [roc_auc_score(truth, row) for row in scores], atol=1e-12)
    np.testing.assert_allclose(covariance, of_pairs, atol=1e-12)


def test_only_the_order_of_scores_matters_and_reversing_them_mirrors():
    truth, scores = drawn()
    auroc, covariance = delong(truth, scores)
    same = delong(truth, np.exp(scores))
    mirrored = delong(~truth, scores)
    np.testing.assert_allclose(same[1], covariance, atol=1e-15)
    np.testing.assert_allclose(mirrored[0], 1 - auroc, atol=1e-12)
    np.testing.assert_allclose(mirrored[1], covariance, atol=1e-12)


def test_clusters_of_one_row_are_no_clusters_and_copies_add_nothing():
    truth, scores = drawn(400, ties=False)
    alone = delong(truth, scores)[1]
    singly = delong(truth, scores, np.arange(400))[1]
    np.testing.assert_allclose(singly, alone, atol=1e-12)
    copied = delong(np.tile(truth, 4), np.tile(scores, 4), np.tile(np.arange(400), 4))[1]
    np.testing.assert_allclose(copied, alone, rtol=0.02)


def test_intervals_cover_with_and_without_clusters():
    rng = np.random.default_rng(3)
    expected = 0.7601  # Phi(1 / sqrt(2)) for normals one apart
    found = {"rows": 0, "clusters": 0, "rows taken as independent": 0}
    for _ in range(400):
        patient = np.repeat(np.arange(40), 4)
        truth = rng.random(160) < 0.5
        plain = rng.normal(size=160) + truth
        shared = np.sqrt(0.7) * rng.normal(size=40)[patient] + np.sqrt(0.3) * rng.normal(size=160)
        by_patient = (rng.random(40) < 0.5)[patient]
        for name, of, scores, clusters in (
            ("rows", truth, plain, None),
            ("clusters", by_patient, shared + by_patient, patient),
            ("rows taken as independent", by_patient, shared + by_patient, None),
        ):
            auroc, covariance = delong(of, scores, clusters)
            low, high = delong_interval(auroc[0], covariance[0, 0])
            found[name] += low <= expected <= high
    assert 0.92 <= found["rows"] / 400 <= 0.98
    assert 0.90 <= found["clusters"] / 400 <= 0.98
    assert found["rows taken as independent"] / 400 < 0.85


def test_two_models_are_tested_in_pairs():
    truth, scores = drawn(200, 2)
    one = delong_test(truth, scores[0], scores[1])
    back = delong_test(truth, scores[1], scores[0])
    assert one.difference == pytest.approx(-back.difference)
    assert one.p == pytest.approx(back.p)
    assert (one.low <= 0 <= one.high) == (one.p >= 0.05)
    assert delong_test(truth, scores[0], np.exp(scores[0])).p == 1.0


def test_what_cannot_be_told_is_nan_and_what_is_no_input_is_refused():
    assert np.isnan(delong([1, 0, 0], [3.0, 1, 2])[1]).all()
    assert np.isnan(delong_interval(1.0, 0.0)).all()
    for truth, scores, why in (
        ([1, 1], [1.0, 2], "both classes"),
        ([1, 0], [1.0, np.nan], "finite"),
        ([1, 0], [1.0], "scores"),
    ):
        with pytest.raises(ValueError, match=why):
            delong(truth, scores)
