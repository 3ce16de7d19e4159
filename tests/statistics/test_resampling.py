"""Clusters move together, a seed is a seed, and an interval knows what it rests on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from panderm.statistics.classification import classification_scorer, classification_scores
from panderm.statistics.resampling import (
    bootstrap,
    class_strata,
    cluster_bootstrap,
    cluster_codes,
    percentile_interval,
)

unhurried = settings(deadline=None)  # a busy machine is not a broken law


def column(*values: object) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def weights_of(clusters, draws: int, seed: int, chunk: int | None = None) -> np.ndarray:
    return np.concatenate(list(cluster_bootstrap(clusters, draws, seed, chunk)))


def test_patients_come_first() -> None:
    codes, unit = cluster_codes(column("b", "a", "b", "a"), column("x", "x", "x", "x"), 4)
    assert unit == "patient"
    assert codes.tolist() == [0, 1, 0, 1]


def test_one_known_patient_is_enough_and_the_unknown_stand_alone() -> None:
    codes, unit = cluster_codes(column(None, "a", None, "a"), None, 4)
    assert unit == "patient"
    assert codes.tolist() == [0, 1, 2, 1]


def test_lesion_groups_when_no_patient_is_known() -> None:
    for patient in (None, column(None, None, None)):
        codes, unit = cluster_codes(patient, column("x", None, "x"), 3)
        assert unit == "lesion group"
        assert codes.tolist() == [0, 1, 0]


def test_images_when_nothing_is_known() -> None:
    for nothing in (None, column(None, None, None)):
        codes, unit = cluster_codes(nothing, nothing, 3)
        assert unit == "image"
        assert codes.tolist() == [0, 1, 2]


def test_a_patient_called_none_or_nought_is_a_patient() -> None:
    codes, _ = cluster_codes(column("None", None, "0", "None"), None, 4)
    assert codes.tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize(
    ("patient", "group", "message"),
    [
        (column("a", "b"), None, r"patient must be \(3,\), not \(2,\)"),
        (None, column("a", "b", "c", "d"), r"lesion group must be \(3,\), not \(4,\)"),
        (column("a", np.nan, "b"), None, "patient must hold str or None, not nan"),
        (column(1, 2, 3), None, "patient must hold str or None, not 1"),
    ],
)
def test_wrong_columns_are_refused(patient, group, message) -> None:
    with pytest.raises(ValueError, match=message):
        cluster_codes(patient, group, 3)


clusterings = st.lists(st.integers(-3, 6), min_size=1, max_size=30).map(np.array)


@unhurried
@given(clusterings, st.integers(1, 25), st.integers(0, 2**40), st.integers(1, 30))
def test_chunks_are_only_packaging(clusters, draws, seed, chunk) -> None:
    whole = weights_of(clusters, draws, seed)
    assert whole.shape == (draws, len(clusters))
    np.testing.assert_array_equal(whole, weights_of(clusters, draws, seed, chunk))


@unhurried
@given(clusterings, st.integers(0, 2**40))
def test_rows_of_a_cluster_move_together_and_as_many_clusters_are_drawn(clusters, seed) -> None:
    weights = weights_of(clusters, 20, seed)
    names, first = np.unique(clusters, return_index=True)
    for name, row in zip(names, first, strict=True):
        assert (weights[:, clusters == name] == weights[:, [row]]).all()
    np.testing.assert_array_equal(weights[:, first].sum(axis=1), len(names))


def test_a_seed_decides_everything() -> None:
    clusters = np.arange(50) // 3
    first = weights_of(clusters, 30, seed=7)
    np.testing.assert_array_equal(first, weights_of(clusters, 30, seed=7))
    np.testing.assert_array_equal(first[:10], weights_of(clusters, 10, seed=7))
    assert (first != weights_of(clusters, 30, seed=8)).any()
    assert len(np.unique(first, axis=0)) == 30


def test_labels_of_clusters_need_not_be_consecutive() -> None:
    near, far = np.array([0, 0, 1, 2]), np.array([-5, -5, 40, 900])
    np.testing.assert_array_equal(weights_of(near, 9, 1), weights_of(far, 9, 1))


def test_one_row_per_cluster_is_the_ordinary_bootstrap() -> None:
    n, draws = 40, 4000
    weights = weights_of(np.arange(n), draws, 0)
    assert (weights.sum(axis=1) == n).all()
    # Multinomial: mean 1, variance 1 - 1/n; five standard errors of each.
    assert abs(weights.mean(axis=0) - 1).max() < 5 / np.sqrt(draws)
    assert abs(weights.var() - (1 - 1 / n)) < 5 * np.sqrt(2 / (n * draws))
    assert (weights == 0).mean() == pytest.approx((1 - 1 / n) ** n, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], 0, 0), "draws must be at least 1, not 0"),
        (([0, 1], 1, -1), "seed must not be negative, not -1"),
        (([0, 1], 1, 0, 0), "chunk must be at least 1, not 0"),
        (([[0, 1]], 1, 0), r"clusters must be \(n,\) integers with n >= 1, not int64 \(1, 2\)"),
        (([0.0, 1.0], 1, 0), r"clusters must be \(n,\) integers with n >= 1, not float64 \(2,\)"),
        ((np.array([], int), 1, 0), "n >= 1"),
    ],
)
def test_a_wrong_bootstrap_is_refused_at_the_call(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        cluster_bootstrap(*arguments)


def test_bootstrap_joins_the_chunks_of_a_statistic() -> None:
    rng = np.random.default_rng(3)
    truth, scores = rng.integers(0, 3, 60), rng.dirichlet(np.ones(3), 60)
    clusters = np.arange(60) // 4
    sizes = []

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        sizes.append(len(weights))
        return {**classification_scores(truth, scores, weights), "rows": weights}

    drawn = bootstrap(statistic, clusters, 25, 11, chunk=10)
    assert sizes == [10, 10, 5]
    np.testing.assert_array_equal(drawn["rows"], weights_of(clusters, 25, 11))
    whole = classification_scores(truth, scores, weights_of(clusters, 25, 11))
    for name, values in whole.items():
        np.testing.assert_allclose(drawn[name], values, atol=1e-12, err_msg=name)


def test_bootstrap_refuses_a_statistic_that_forgets_the_draws() -> None:
    with pytest.raises(ValueError, match=r"mean must be \(4, \.\.\.\), one per draw, not \(\)"):
        bootstrap(lambda weights: {"mean": weights.mean()}, [0, 1, 2], 4, 0)


def test_percentiles() -> None:
    low, high, used = percentile_interval(np.arange(1001.0))
    assert (low, high, used) == pytest.approx((25, 975, 1001))
    assert percentile_interval(np.arange(11.0), level=0.8) == pytest.approx((1, 9, 11))


def test_draws_that_are_not_finite_are_left_out_and_counted() -> None:
    draws = np.array([3.0, np.nan, 1.0, np.inf, 2.0])
    assert percentile_interval(draws, level=0.5) == pytest.approx((1.5, 2.5, 3))


@pytest.mark.parametrize(
    ("draws", "used"),
    [([], 0), ([np.nan, np.nan], 0), ([1.0], 1), ([1.0, 2.0, np.nan, np.nan, np.nan], 2)],
)
def test_too_few_finite_draws_give_no_interval(draws, used) -> None:
    low, high, counted = percentile_interval(np.array(draws, dtype=float))
    assert np.isnan(low)
    assert np.isnan(high)
    assert counted == used


def test_exactly_half_is_enough() -> None:
    low, high, used = percentile_interval([5.0, np.nan, 5.0, np.nan])
    assert (low, high, used) == (5, 5, 2)


@pytest.mark.parametrize("level", [0, 1, -0.5, 95, np.nan])
def test_a_level_is_between_nought_and_one(level) -> None:
    with pytest.raises(ValueError, match="level must be between 0 and 1"):
        percentile_interval([1.0, 2.0], level)


def test_percentiles_are_of_one_score() -> None:
    with pytest.raises(ValueError, match=r"draws must be \(B,\), not \(2, 2\)"):
        percentile_interval(np.zeros((2, 2)))


def test_the_threads_change_no_number() -> None:
    rng = np.random.default_rng(4)
    truth, scores, clusters = rng.integers(0, 3, 90), rng.dirichlet(np.ones(3), 90), np.arange(90) // 2
    scorer = classification_scorer(truth, scores)
    done: list[int] = []
    one = bootstrap(scorer, clusters, 50, 1, chunk=4, threads=1)
    many = bootstrap(scorer, clusters, 50, 1, chunk=4, threads=5, advance=done.append)
    assert done == [4] * 12 + [2]
    for name, values in one.items():
        np.testing.assert_array_equal(values, many[name], err_msg=name)


# Strata

SHOWN = np.array(  # seven rows of five clusters, three classes
    [[1, 0, 0], [0, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 0]], dtype=bool
)
OF = np.array([0, 0, 1, 2, 2, 3, 4])


def test_a_stratum_is_the_rarest_class_shown() -> None:
    # Class 0 is shown by three clusters, class 1 by two, class 2 by one; cluster 4 shows none.
    assert class_strata(OF, SHOWN).tolist() == [1, 1, 0, 2, 2, 1, 3]


def test_draws_within_strata_keep_their_clusters() -> None:
    strata = class_strata(OF, SHOWN)
    weights = np.concatenate(list(cluster_bootstrap(OF, 300, 0, strata=strata)))
    first = np.array([0, 2, 3, 5, 6])  # a row of each cluster
    for stratum, size in enumerate([1, 2, 1, 1]):
        assert (weights[:, first[strata[first] == stratum]].sum(axis=1) == size).all()
    assert (weights[:, 0] == weights[:, 1]).all()
    assert set(weights[:, 0]) == {0, 1, 2}
    assert (weights[:, [2, 3, 6]] == 1).all()
    for chunk in (1, 7, 300):
        again = np.concatenate(list(cluster_bootstrap(OF, 300, 0, chunk, strata=strata)))
        np.testing.assert_array_equal(weights, again)


@unhurried
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=2, max_size=30), st.integers(0, 99))
def test_no_draw_within_strata_loses_one_of_two_classes(rows, seed) -> None:
    clusters, positive = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    shown = np.column_stack([~positive, positive])
    strata = class_strata(clusters, shown)
    for weights in cluster_bootstrap(clusters, 20, seed, strata=strata):
        for k in (0, 1):
            if shown[:, k].any():
                assert (weights[:, shown[:, k]].sum(axis=1) > 0).all()


def test_every_cluster_of_a_stratum_is_drawn_alike_often() -> None:
    strata = np.repeat([7, -2], [3, 30])
    weights = np.concatenate(list(cluster_bootstrap(np.arange(33), 4_000, 3, strata=strata)))
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.08)  # five standard errors


def test_strata_that_part_a_cluster_are_refused() -> None:
    with pytest.raises(ValueError, match="every cluster must lie in one stratum"):
        cluster_bootstrap(np.array([0, 0, 1]), 2, 0, strata=np.array([0, 1, 1]))
    with pytest.raises(ValueError, match=r"strata must be \(3,\) integers"):
        cluster_bootstrap(np.array([0, 0, 1]), 2, 0, strata=np.array([0.5, 1, 1]))
    with pytest.raises(ValueError, match=r"shown \(n, K\)"):
        class_strata(np.array([0, 0, 1]), np.array([True, False, True]))
