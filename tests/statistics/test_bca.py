"""BCa intervals against scipy's, the textbook's worked example, and rows that are really left out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from panderm.statistics.bca import acceleration, bca_interval, jackknife
from panderm.statistics.classification import classification_scorer
from panderm.statistics.resampling import bootstrap, percentile_interval

# Table 14.1 of Efron and Tibshirani, "An Introduction to the Bootstrap", 1993: test A of 26 children.
SPATIAL = np.array(
    [
        *(48, 36, 20, 29, 42, 42, 20, 42, 22, 41, 45, 14, 6),
        *(0, 33, 28, 34, 4, 32, 24, 47, 41, 24, 26, 30, 41),
    ]
)


def variance(weights: np.ndarray) -> dict[str, np.ndarray]:
    n = weights.sum(axis=1)
    mean = weights @ SPATIAL / n
    return {"variance": weights @ SPATIAL.astype(float) ** 2 / n - mean**2}


def test_the_textbook_example() -> None:
    """Section 14.3: variance 171.5, acceleration .061, bias .146; 90 % by BCa 115.8 to 259.6."""
    rows = np.arange(26)
    drawn = bootstrap(variance, rows, 20_000, seed=0)["variance"]
    left_out = jackknife(variance, rows).values["variance"]
    value = float(np.var(SPATIAL))
    assert value == pytest.approx(171.5, abs=0.05)
    assert acceleration(left_out) == pytest.approx(0.061, abs=5e-4)
    # The book has 2,000 draws: its bias is good to .03, its ends to a few units.
    assert stats.norm.ppf((drawn < value).mean()) == pytest.approx(0.146, abs=0.06)
    assert bca_interval(drawn, value, left_out, 0.9)[:2] == pytest.approx((115.8, 259.6), abs=4)
    assert percentile_interval(drawn, 0.9)[:2] == pytest.approx((100.8, 233.9), abs=4)


def test_the_same_as_scipy_on_its_draws() -> None:
    rng = np.random.default_rng(2)
    x = rng.lognormal(size=40)
    y = x + rng.exponential(size=40)

    def weighted(weights: np.ndarray) -> dict[str, np.ndarray]:
        n = weights.sum(axis=1)
        mx, my = weights @ x / n, weights @ y / n
        cov = weights @ (x * y) / n - mx * my
        spread = (weights @ x**2 / n - mx**2) * (weights @ y**2 / n - my**2)
        return {"r": cov / np.sqrt(spread)}

    expected = stats.bootstrap(
        (x, y),
        lambda a, b, axis: _correlation(a, b, axis),
        paired=True,
        n_resamples=999,
        method="BCa",
        rng=np.random.default_rng(0),
    )
    value = float(weighted(np.ones((1, 40), dtype=np.int32))["r"][0])
    left_out = jackknife(weighted, np.arange(40)).values["r"]
    low, high, used = bca_interval(expected.bootstrap_distribution, value, left_out)
    assert (low, high) == pytest.approx(expected.confidence_interval, abs=1e-9)
    assert used == 999


def _correlation(a, b, axis):
    a, b = a - a.mean(axis=axis, keepdims=True), b - b.mean(axis=axis, keepdims=True)
    return (a * b).sum(axis=axis) / np.sqrt((a**2).sum(axis=axis) * (b**2).sum(axis=axis))


@pytest.fixture(scope="module")
def patients() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return patient, truth and (n, 2) scores of 40 patients of 1 to 4 images."""
    rng = np.random.default_rng(5)
    patient = np.repeat(np.arange(40), rng.integers(1, 5, 40))
    truth = (patient % 3 == 0).astype(np.int64)
    score = truth + rng.normal(size=40)[patient] + rng.normal(size=len(patient))
    return patient, truth, np.column_stack([-score, score])


@pytest.mark.parametrize("chunk", [None, 7])
def test_leaving_out_is_leaving_rows_out(patients, chunk) -> None:
    patient, truth, scores = patients
    found = jackknife(classification_scorer(truth, scores), patient * 3 + 1, chunk=chunk)
    for one in range(40):
        kept = patient != one
        expected = roc_auc_score(truth[kept], scores[kept, 1])
        assert found.values["auroc"][one] == pytest.approx(expected, abs=1e-12)
    added = 39 / 40 * (found.values["auroc"].mean() - found.values["auroc"])
    expected = (added**3).sum() / (6 * (added**2).sum() ** 1.5)
    assert acceleration(found.values["auroc"]) == pytest.approx(expected, rel=1e-12)


def test_within_strata_each_is_centred_by_itself() -> None:
    """scipy's of two samples: the acceleration of a difference of means."""
    rng = np.random.default_rng(1)
    a, b = rng.exponential(size=12), rng.exponential(size=30)
    both, sample = np.r_[a, b], np.repeat([0, 1], [12, 30])

    def difference(weights: np.ndarray) -> dict[str, np.ndarray]:
        means = [
            weights[:, sample == k] @ both[sample == k] / weights[:, sample == k].sum(axis=1) for k in (0, 1)
        ]
        return {"apart": means[1] - means[0]}

    expected = stats.bootstrap(
        (a, b),
        lambda x, y, axis: y.mean(axis=axis) - x.mean(axis=axis),
        n_resamples=999,
        method="BCa",
        rng=np.random.default_rng(0),
    )
    left = jackknife(difference, np.arange(42), strata=sample)
    found = bca_interval(
        expected.bootstrap_distribution, b.mean() - a.mean(), left.values["apart"], strata=left.strata
    )
    assert found[:2] == pytest.approx(expected.confidence_interval, abs=1e-9)


def test_groups_of_clusters_find_about_the_same_acceleration() -> None:
    x = np.random.default_rng(0).lognormal(size=3_000)

    def mean(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"mean": weights @ x / weights.sum(axis=1)}

    every = jackknife(mean, np.arange(3_000), groups=3_000)
    grouped = jackknife(mean, np.arange(3_000), groups=600)
    assert len(every.values["mean"]) == 3_000
    assert len(grouped.values["mean"]) == 600
    one = acceleration(every.values["mean"])
    assert acceleration(grouped.values["mean"]) == pytest.approx(one, abs=0.004)
    again = jackknife(mean, np.arange(3_000), groups=600)
    np.testing.assert_array_equal(grouped.values["mean"], again.values["mean"])


def test_a_stratum_of_one_cluster_never_leaves() -> None:
    left = jackknife(lambda w: {"n": w.sum(axis=1)}, np.arange(5), strata=np.array([0, 0, 1, 2, 2]))
    assert left.strata.tolist() == [0, 0, 2, 2]
    assert left.values["n"].tolist() == [4, 4, 4, 4]


def test_where_there_is_no_correction_there_is_no_interval() -> None:
    draws, left = np.arange(100.0), np.arange(10.0)
    for value, left_out in ((-1.0, left), (200.0, left), (50.0, np.r_[left, np.nan]), (np.nan, left)):
        low, high, used = bca_interval(draws, value, left_out)
        assert np.isnan(low)
        assert np.isnan(high)
        assert used == 100
    assert np.isnan(bca_interval(np.where(draws < 60, np.nan, draws), 70.0, left)[0])
    # Nothing leans on any one cluster, and half of the draws lie below: these are percentiles.
    assert acceleration(np.full(10, 0.3)) == 0
    assert bca_interval(draws, 49.5, np.full(10, 0.3)) == pytest.approx(percentile_interval(draws))


def test_what_cannot_be_left_out_is_refused() -> None:
    for clusters, more, message in (
        (np.zeros((2, 2), dtype=int), {}, "clusters must be"),
        (np.arange(3), {"groups": 1}, "groups must be"),
        (np.array([0, 0, 1]), {"strata": np.array([0, 1, 1])}, "one stratum"),
    ):
        with pytest.raises(ValueError, match=message):
            jackknife(lambda w: {"n": w.sum(axis=1)}, clusters, **more)
    with pytest.raises(ValueError, match="level"):
        bca_interval([1.0, 2.0], 1.5, [1.0], 1)
