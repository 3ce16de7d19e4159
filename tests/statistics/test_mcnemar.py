"""McNemar's test and the margin: published and independent values, laws, and their rate of false alarms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import binom, binomtest, chi2
from statsmodels.stats.contingency_tables import mcnemar as other_mcnemar

from panderm.statistics.mcnemar import clustered_mcnemar, mcnemar
from panderm.statistics.non_inferiority import non_inferiority


def rights(
    only_first: int, only_other: int, both: int = 5, neither: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    counts = (only_first, only_other, both, neither)
    return (
        np.repeat([True, False, True, False], counts),
        np.repeat([False, True, True, False], counts),
    )


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (0, 6), (4, 4), (12, 5), (1, 30)])
def test_exact_and_mid_p_are_those_of_statsmodels_and_of_counting(b: int, c: int) -> None:
    found = mcnemar(*rights(b, c))
    assert (found.only_first, found.only_other) == (b, c)
    assert found.exact == pytest.approx(other_mcnemar([[5, b], [c, 3]], exact=True).pvalue)
    if b + c:
        assert found.exact == pytest.approx(binomtest(b, b + c).pvalue)
        # By definition: what is further out, and half of what is as far.
        chance = binom.pmf(np.arange(b + c + 1), b + c, 0.5)
        apart = np.abs(np.arange(b + c + 1) - (b + c) / 2)
        seen = abs(b - (b + c) / 2)
        assert found.mid_p == pytest.approx(chance[apart > seen].sum() + chance[apart == seen].sum() / 2)


def test_one_row_a_cluster_is_the_test_without_clusters() -> None:
    one, two = rights(12, 5)
    found = clustered_mcnemar(one, two, np.arange(len(one)))
    plain = other_mcnemar([[5, 12], [5, 3]], exact=False, correction=False)
    assert found.durkalski == pytest.approx(plain.pvalue)
    assert found.discordant == 17
    assert 0 < found.obuchowski - found.durkalski < 0.02  # (m - 1) / m of its statistic


def test_obuchowski_is_the_paired_difference_over_its_cluster_variance() -> None:
    rng = np.random.default_rng(4)
    clusters = rng.integers(0, 30, 120)
    one, two = rng.random(120) < 0.7, rng.random(120) < 0.6
    names = np.unique(clusters)
    m, n = len(names), len(one)
    pooled = (one.mean() + two.mean()) / 2
    # Variances and covariance of the two proportions as written in the paper, under the null hypothesis.
    first, other = (
        np.array([x[clusters == k].sum() - (clusters == k).sum() * pooled for k in names]) for x in (one, two)
    )
    factor = m / (m - 1) / n**2
    variance = factor * ((first**2).sum() + (other**2).sum() - 2 * (first * other).sum())
    expected = chi2.sf((one.mean() - two.mean()) ** 2 / variance, 1)
    assert clustered_mcnemar(one, two, clusters).obuchowski == pytest.approx(expected)


def test_rows_written_twice_are_no_more_evidence() -> None:
    one, two = rights(12, 5)
    ids = np.arange(len(one))
    once = clustered_mcnemar(one, two, ids)
    twice = clustered_mcnemar(np.tile(one, 2), np.tile(two, 2), np.tile(ids, 2))
    assert twice == once
    assert mcnemar(np.tile(one, 2), np.tile(two, 2)).exact < mcnemar(one, two).exact / 2


def test_swapped_and_shuffled_give_the_same_p() -> None:
    rng = np.random.default_rng(1)
    one, two, ids = rng.random(60) < 0.8, rng.random(60) < 0.6, rng.integers(0, 20, 60)
    order = rng.permutation(60)
    assert clustered_mcnemar(two, one, ids) == clustered_mcnemar(one, two, ids)
    there = clustered_mcnemar(one, two, ids)
    again = clustered_mcnemar(one[order], two[order], 100 - ids[order])
    assert again.obuchowski == pytest.approx(there.obuchowski)
    assert again.durkalski == pytest.approx(there.durkalski)
    assert mcnemar(two, one).exact == mcnemar(one, two).exact
    assert clustered_mcnemar(one, one, ids).obuchowski == 1.0 == mcnemar(one, one).mid_p


@pytest.mark.parametrize(
    "given", [([], []), ([True], [True, False]), (np.ones((2, 2)), np.ones((2, 2)))], ids=str
)
def test_what_is_no_pair_of_columns_is_refused(given: tuple[object, object]) -> None:
    with pytest.raises(ValueError, match="both must be"):
        mcnemar(*given)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="clusters must be"):
        clustered_mcnemar([True], [False], [1, 2])


def test_false_alarms_are_few_where_patients_are_told_and_many_where_not() -> None:
    rng = np.random.default_rng(0)
    alarms = {"clustered": 0, "plain": 0}
    studies = 400
    ids = np.repeat(np.arange(60), 6)
    for _ in range(studies):
        # Each patient suits one of the two predictors better, none on the whole.
        taste = np.repeat(rng.normal(0, 1.5, 60), 6)
        one = rng.normal(0.8 + taste, 1) > 0
        two = rng.normal(0.8 - taste, 1) > 0
        alarms["clustered"] += clustered_mcnemar(one, two, ids).obuchowski < 0.05
        alarms["plain"] += mcnemar(one, two).mid_p < 0.05
    assert 0.02 < alarms["clustered"] / studies < 0.085
    assert alarms["plain"] / studies > 0.2


def test_the_margin_agrees_with_the_interval() -> None:
    draws = np.random.default_rng(0).normal(-0.01, 0.01, 4000)
    low, high = np.quantile(draws, [0.025, 0.975])
    for margin, lower in itertools.product((0.005, 0.02, 0.028, 0.031, 0.1), (False, True)):
        found = non_inferiority(draws, margin, low=low, high=high, lower_is_better=lower)
        assert found.holds == ((high < margin) if lower else (low > -margin))
        assert found.p is not None
        assert abs(found.p - 0.025) < 0.001 or found.holds == (found.p < 0.025)
    assert non_inferiority(draws, 0.02, low=None, high=None).p is None
    for margin in (0.0, -0.1, np.nan):
        with pytest.raises(ValueError, match="above 0"):
            non_inferiority(draws, margin, low=low, high=high)
