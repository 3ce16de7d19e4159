"""Scores over folds: ranks within a fold, mean and intervals, and what those intervals are worth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from panderm.statistics.classification import classification_scores, not_computable
from panderm.statistics.over_folds import over_folds
from panderm.statistics.within_folds import WithinFolds


def drawn(n: int, K: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % K
    raw = rng.random((n, K)).round(1) + 0.5 * np.eye(K)[truth] + 0.01  # ties are common
    return rng.permutation(truth), raw / raw.sum(axis=1, keepdims=True), rng.integers(0, 4, n)


@pytest.mark.parametrize("K", [2, 4])
def test_ranks_within_folds_agree_with_an_independent_count(K: int) -> None:
    truth, scores, folds = drawn(90, K)
    weights = np.random.default_rng(1).integers(0, 3, (7, 90))
    ours = classification_scores(truth, scores, weights, folds=folds)
    theirs = WithinFolds(truth, scores, folds).auroc(weights)
    assert np.allclose(ours["auroc" if K == 2 else "auroc_ovr"], theirs, atol=1e-12)
    pooled = classification_scores(truth, scores, weights)
    for name in ("accuracy", "balanced_accuracy", "weighted_f1", "macro_f1", "quadratic_kappa"):
        assert np.array_equal(ours[name], pooled[name])


def test_one_vs_one_and_precision_within_folds_by_scikit_learn() -> None:
    truth, scores, folds = drawn(120, 3, seed=3)
    ours = classification_scores(truth, scores, folds=folds)
    pairs = []
    for a in range(3):
        for b in {0, 1, 2} - {a}:
            won = many = 0.0
            for f in range(4):
                rows = (folds == f) & np.isin(truth, [a, b])
                count = float((truth[rows] == a).sum() * (truth[rows] == b).sum())
                won += count * roc_auc_score(truth[rows] == a, scores[rows, a])
                many += count
            pairs.append(won / many)
    assert ours["auroc_ovo"][0] == pytest.approx(np.mean(pairs), abs=1e-12)
    precision = []
    for c in range(3):
        by_fold = [
            (
                (truth[folds == f] == c).sum(),
                average_precision_score(truth[folds == f] == c, scores[folds == f, c]),
            )
            for f in range(4)
        ]
        precision.append(np.average([v for _, v in by_fold], weights=[n for n, _ in by_fold]))
    assert ours["average_precision"][0] == pytest.approx(np.mean(precision), abs=1e-12)


def test_what_a_fold_adds_to_all_its_scores_does_not_matter() -> None:
    truth, scores, folds = drawn(80, 2)
    shifted = scores + np.outer(folds, [0, 3.0])
    before, after = (classification_scores(truth, x, folds=folds)["auroc"] for x in (scores, shifted))
    assert np.array_equal(before, after)
    assert classification_scores(truth, shifted)["auroc"] != classification_scores(truth, scores)["auroc"]
    one = np.zeros(80, dtype=int)
    alone = classification_scores(truth, scores)
    assert {k: v.tolist() for k, v in classification_scores(truth, scores, folds=one).items()} == {
        k: v.tolist() for k, v in alone.items()
    }


def test_two_classes_that_never_share_a_fold() -> None:
    truth, folds = np.array([0, 1, 0, 2, 1, 2]), np.array([0, 0, 1, 1, 2, 2])
    scores = np.full((6, 3), 1 / 3)
    assert np.isfinite(classification_scores(truth, scores, folds=folds)["auroc_ovo"][0])
    folds[4:] = [0, 1]  # 1 and 2 now never meet
    found = classification_scores(truth, scores, folds=folds)
    assert np.isnan(found["auroc_ovo"][0])
    assert np.isfinite(found["auroc_ovr"][0])
    reasons = not_computable(truth, 3, ["a", "b", "c"], folds=folds)
    assert reasons == {"auroc_ovo": "no fold has rows of both 'b' and 'c'"}


def test_mean_and_intervals_by_scipy() -> None:
    values = np.array([0.71, 0.75, 0.69, 0.80, 0.77])
    found = over_folds(values)
    assert (found.mean, found.sd) == pytest.approx((values.mean(), values.std(ddof=1)))
    assert found.se == pytest.approx(stats.sem(values))
    assert (found.low, found.high) == pytest.approx(
        stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    )
    assert found.high_normal == pytest.approx(values.mean() + 1.96 * stats.sem(values))
    assert over_folds(values[::-1]) == pytest.approx(found) or over_folds(values[::-1]).sd == pytest.approx(
        found.sd
    )


def test_folds_that_have_no_score_are_left_out_and_counted() -> None:
    found = over_folds([0.5, np.nan, 0.7])
    assert (found.folds, found.mean, found.reason) == (2, 0.6, "computable in 2 of 3 folds")
    one, none = over_folds([np.nan, 0.7]), over_folds([np.nan, np.nan])
    assert (one.mean, one.low, one.folds) == (0.7, None, 1)
    assert (none.mean, none.folds, none.reason) == (None, 0, "computable in no fold")
    assert over_folds([0.9, 1.0]).high == 1.0
    assert over_folds([-0.9, -1.0], least=-1).low == -1.0


def test_one_point_nine_six_is_too_narrow_where_folds_are_few() -> None:
    """Five folds of a nearest-mean rule on 100 patients, 800 studies: how often is the truth inside."""
    rng = np.random.default_rng(0)
    studies, d, k = 800, 5, 5
    mean = np.zeros(d)
    mean[0] = 0.6
    X = rng.normal(size=(studies, k, 2, 10, d)) + mean * np.array([-1, 1])[:, None, None]
    rest = (X.sum(axis=1, keepdims=True) - X).sum(axis=3) / 10 / (k - 1)  # class means of the other folds
    w = rest[:, :, 1] - rest[:, :, 0]
    bias = -(w * rest.mean(axis=2)).sum(axis=-1)
    side = np.einsum("skcnd,skd->skcn", X, w) + bias[:, :, None, None]
    scores = ((side > 0) == np.array([False, True])[:, None]).mean(axis=(2, 3))
    norm = np.linalg.norm(w, axis=-1)
    truth = np.mean([stats.norm.cdf((w @ mean * s + bias) * s / norm) for s in (-1, 1)])
    found = [over_folds(one) for one in scores]
    student = np.mean([f.low <= truth <= f.high for f in found])  # type: ignore[operator]
    normal = np.mean([f.low_normal <= truth <= f.high_normal for f in found])  # type: ignore[operator]
    assert 0.92 < student < 0.98
    assert normal < 0.915
    assert student - normal > 0.03
