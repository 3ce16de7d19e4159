"""What must hold of every score, whatever the rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from panderm.statistics.classification import classification_scores, confusion_matrix, per_class_scores

ROUNDING = 1e-12

unhurried = settings(deadline=None)  # a busy machine is not a broken law


@st.composite
def rows(draw: st.DrawFn, *, classes: tuple[int, int] = (2, 5)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, probabilities and three weightings, often tied, unbalanced and with classes missing."""
    n_classes = draw(st.integers(*classes))
    n = draw(st.integers(1, 25))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    steps = draw(st.sampled_from([2, 5, 1000]))
    truth = np.minimum(rng.geometric(draw(st.sampled_from([0.3, 0.5, 0.7])), n) - 1, n_classes - 1)
    scores = rng.integers(0, steps + 1, (n, n_classes)) / steps
    weights = rng.integers(0, 4, (3, n))
    return truth, scores, weights


def same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert list(left) == list(right)
    for name in left:
        np.testing.assert_allclose(left[name], right[name], atol=ROUNDING, equal_nan=True, err_msg=name)


@unhurried
@given(rows(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(problem, random) -> None:
    truth, scores, weights = problem
    order = list(range(len(truth)))
    random.shuffle(order)
    same(
        classification_scores(truth, scores, weights),
        classification_scores(truth[order], scores[order], weights[:, order]),
    )


@unhurried
@given(rows())
def test_every_row_twice_says_nothing_new(problem) -> None:
    truth, scores, weights = problem
    once = classification_scores(truth, scores, weights)
    same(once, classification_scores(truth, scores, 2 * weights))
    same(once, classification_scores(np.tile(truth, 2), np.tile(scores, (2, 1)), np.tile(weights, 2)))


@unhurried
@given(rows())
def test_a_row_of_weight_zero_is_not_there(problem) -> None:
    truth, scores, weights = problem
    kept = weights[0] > 0
    same(
        classification_scores(truth, scores, weights[:1]),
        classification_scores(truth[kept], scores[kept], weights[:1, kept]),
    )


@unhurried
@given(rows())
def test_draws_do_not_see_each_other(problem) -> None:
    truth, scores, weights = problem
    together = classification_scores(truth, scores, weights)
    for draw in range(len(weights)):
        alone = classification_scores(truth, scores, weights[draw : draw + 1])
        same({name: values[draw : draw + 1] for name, values in together.items()}, alone)


@unhurried
@given(rows(classes=(2, 2)), st.sampled_from([np.exp, lambda s: s**3 - 7, lambda s: 1e6 * s]))
def test_a_monotone_transform_leaves_the_ranking(problem, transform: Callable) -> None:
    truth, scores, weights = problem
    before = classification_scores(truth, scores, weights)
    after = classification_scores(truth, transform(scores), weights)
    for name in ("auroc", "average_precision"):
        np.testing.assert_allclose(before[name], after[name], atol=ROUNDING, equal_nan=True)


@unhurried
@given(rows(classes=(2, 2)))
def test_the_reversed_score_has_the_complementary_auroc(problem) -> None:
    truth, scores, weights = problem
    before = classification_scores(truth, scores, weights)["auroc"]
    after = classification_scores(truth, -scores, weights)["auroc"]
    np.testing.assert_allclose(before, 1 - after, atol=ROUNDING, equal_nan=True)


@unhurried
@given(rows())
def test_scores_stay_in_their_ranges(problem) -> None:
    truth, scores, weights = problem
    for name, values in classification_scores(truth, scores, weights).items():
        lowest = -1 if name == "quadratic_kappa" else 0
        known = values[~np.isnan(values)]
        assert (known >= lowest - ROUNDING).all(), name
        assert (known <= 1 + ROUNDING).all(), name


@unhurried
@given(rows())
def test_exactly_the_absent_classes_make_scores_unknown(problem) -> None:
    truth, scores, weights = problem
    n_classes = scores.shape[1]
    values = classification_scores(truth, scores, weights)
    for draw, weight in enumerate(weights):
        counted = np.bincount(truth, weight, n_classes)
        for name in values:
            if name in ("accuracy", "weighted_f1"):
                assert np.isnan(values[name][draw]) == (counted.sum() == 0)
            elif name != "quadratic_kappa":
                assert np.isnan(values[name][draw]) == (counted == 0).any(), name
        predicted = scores.argmax(axis=1)[weight > 0]
        one_class = len({*truth[weight > 0], *predicted}) < 2
        assert np.isnan(values["quadratic_kappa"][draw]) == one_class


@unhurried
@given(rows())
def test_balanced_accuracy_is_the_mean_sensitivity(problem) -> None:
    truth, scores, weights = problem
    predicted = scores.argmax(axis=1)
    sensitivity = per_class_scores(truth, predicted, scores.shape[1], weights)["sensitivity"]
    balanced = classification_scores(truth, scores, weights)["balanced_accuracy"]
    np.testing.assert_allclose(balanced, sensitivity.mean(axis=1), atol=ROUNDING, equal_nan=True)


@unhurried
@given(rows())
def test_a_perfect_ranking_scores_one(problem) -> None:
    truth, scores, weights = problem
    perfect = np.eye(scores.shape[1])[truth]
    for name, values in classification_scores(truth, perfect, weights).items():
        np.testing.assert_allclose(values[~np.isnan(values)], 1, atol=ROUNDING, err_msg=name)


@unhurried
@given(rows())
def test_confusion_counts_every_row_once(problem) -> None:
    truth, scores, weights = problem
    n_classes = scores.shape[1]
    matrix = confusion_matrix(truth, scores.argmax(axis=1), n_classes, weights)
    np.testing.assert_array_equal(matrix.sum(axis=(1, 2)), weights.sum(axis=1))
    for draw, weight in enumerate(weights):
        np.testing.assert_array_equal(matrix[draw].sum(axis=1), np.bincount(truth, weight, n_classes))
