"""Every score is scikit-learn's, and a weight of three is a row repeated three times."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from panderm.statistics.classification import (
    classification_scores,
    confusion_matrix,
    per_class_scores,
    score_names,
)

SAME_NUMBER = 1e-12  # rounding of a few hundred float64 operations

# name: classes, rows, prevalence of each class relative to the next, decimals of the scores (few: many ties)
PROBLEMS = {
    "binary": (2, 150, 1.0, 12),
    "binary, rare, tied": (2, 300, 0.08, 1),
    "three": (3, 120, 1.0, 12),
    "three, rare, tied": (3, 250, 0.3, 1),
    "seven": (7, 400, 0.8, 12),
    "seven, rare, tied": (7, 600, 0.55, 1),
    "seven, all tied": (7, 100, 1.0, 0),
}


def problem(name: str) -> tuple[np.ndarray, np.ndarray]:
    n_classes, n, ratio, decimals = PROBLEMS[name]
    rng = np.random.default_rng(list(PROBLEMS).index(name))
    prevalence = ratio ** np.arange(n_classes)
    truth = rng.choice(n_classes, n, p=prevalence / prevalence.sum())
    truth[:n_classes] = np.arange(n_classes)
    raw = rng.dirichlet(np.ones(n_classes), n) + 0.3 * np.eye(n_classes)[truth]
    if name == "seven, all tied":
        raw[:] = 1 / n_classes
    # Rounded to multiples of a power of two that still sum to one, as scikit-learn's AUROC demands.
    steps = 2 ** max(1, 3 * decimals)
    scores = np.floor(raw / raw.sum(axis=1, keepdims=True) * steps) / steps
    scores[:, -1] = 1 - scores[:, :-1].sum(axis=1)
    return truth, scores


def by_sklearn(truth: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    n_classes = scores.shape[1]
    predicted = scores.argmax(axis=1)
    ranking = (
        {"auroc": metrics.roc_auc_score(truth, scores[:, 1])}
        if n_classes == 2
        else {
            f"auroc_{how}": metrics.roc_auc_score(truth, scores, multi_class=how, average="macro")
            for how in ("ovo", "ovr")
        }
    )
    return {
        "accuracy": metrics.accuracy_score(truth, predicted),
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, predicted),
        "weighted_f1": metrics.f1_score(truth, predicted, average="weighted", zero_division=0),
        "macro_f1": metrics.f1_score(truth, predicted, average="macro", zero_division=0),
        **ranking,
        "average_precision": metrics.average_precision_score(
            truth, scores[:, 1] if n_classes == 2 else scores
        ),
        "quadratic_kappa": metrics.cohen_kappa_score(
            truth, predicted, weights="quadratic", labels=range(n_classes)
        ),
    }


def draws_with_every_class(truth: np.ndarray, count: int) -> np.ndarray:
    rng = np.random.default_rng(99)
    weights = rng.poisson(1.0, (count, len(truth)))
    weights[:, : truth.max() + 1] += 1  # the first rows are one of each class
    return weights


@pytest.mark.parametrize("name", PROBLEMS)
def test_scores_are_those_of_scikit_learn(name: str) -> None:
    truth, scores = problem(name)
    ours = classification_scores(truth, scores)
    theirs = by_sklearn(truth, scores)
    assert tuple(ours) == tuple(theirs) == score_names(scores.shape[1])
    for score, values in ours.items():
        assert values.shape == (1,)
        assert values.dtype == np.float64
        assert values[0] == pytest.approx(theirs[score], abs=SAME_NUMBER), score


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_weight_is_a_number_of_copies(name: str) -> None:
    truth, scores = problem(name)
    weights = draws_with_every_class(truth, 8)
    ours = classification_scores(truth, scores, weights)
    for draw, weight in enumerate(weights):
        rows = np.repeat(np.arange(len(truth)), weight)
        theirs = by_sklearn(truth[rows], scores[rows])
        for score, value in theirs.items():
            assert ours[score][draw] == pytest.approx(value, abs=SAME_NUMBER), score


def test_the_problems_have_ties_between_classes() -> None:
    truth, scores = problem("binary, rare, tied")
    assert set(scores[truth == 1, 1]) & set(scores[truth == 0, 1])


def test_large_problem_in_several_blocks_agrees() -> None:
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 3, 30_000)  # fewer draws than given fit in one block of work
    scores = np.round(rng.dirichlet(np.ones(3), len(truth)), 3)
    scores[:, 2] = 1 - scores[:, 0] - scores[:, 1]
    weights = rng.integers(0, 3, (40, len(truth)), dtype=np.int8)
    ours = classification_scores(truth, scores, weights)
    for draw in (0, 17, 39):
        rows = np.repeat(np.arange(len(truth)), weights[draw])
        for score, value in by_sklearn(truth[rows], scores[rows]).items():
            assert ours[score][draw] == pytest.approx(value, abs=SAME_NUMBER), score


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_confusion_matrix_and_per_class_scores(n_classes: int) -> None:
    rng = np.random.default_rng(n_classes)
    truth, predicted = rng.integers(0, n_classes, (2, 200))
    weights = rng.poisson(1.0, (5, 200))
    many = confusion_matrix(truth, predicted, n_classes, weights)
    per_class = per_class_scores(truth, predicted, n_classes, weights)
    assert many.shape == (5, n_classes, n_classes)
    assert many.dtype == np.int64
    for draw, weight in enumerate(weights):
        rows = np.repeat(np.arange(200), weight)
        theirs = metrics.confusion_matrix(truth[rows], predicted[rows], labels=range(n_classes))
        np.testing.assert_array_equal(many[draw], theirs)
        for c in range(n_classes):
            is_c, called_c = truth[rows] == c, predicted[rows] == c
            assert per_class["sensitivity"][draw, c] == pytest.approx(
                metrics.recall_score(is_c, called_c), abs=SAME_NUMBER
            )
            assert per_class["specificity"][draw, c] == pytest.approx(
                metrics.recall_score(~is_c, ~called_c), abs=SAME_NUMBER
            )


def test_without_weights_there_is_one_matrix() -> None:
    matrix = confusion_matrix([0, 0, 1, 2], [0, 1, 1, 0], 3)
    np.testing.assert_array_equal(matrix, [[1, 1, 0], [0, 1, 0], [1, 0, 0]])
    assert per_class_scores([0, 0, 1, 2], [0, 1, 1, 0], 3)["sensitivity"].tolist() == [[0.5, 1.0, 0.0]]


def test_a_hand_made_ranking() -> None:
    # Positives at .9, .5, .5; negatives at .7, .5: won pairs 2 + (0 + 1/2) + (0 + 1/2) = 3 of 6.
    positive = np.array([0.9, 0.5, 0.5, 0.7, 0.5])
    scores = classification_scores([1, 1, 1, 0, 0], np.column_stack([1 - positive, positive]))
    assert scores["auroc"][0] == pytest.approx(3 / 6)
    assert scores["average_precision"][0] == pytest.approx((1 + 3 / 5 + 3 / 5) / 3)
    assert scores["accuracy"][0] == pytest.approx(2 / 5)  # at .5 the first class is predicted


def test_scores_are_ranked_raw() -> None:
    """Rows that do not sum to one keep their order: nothing is normalised."""
    truth = np.array([0, 1, 0, 1, 1, 0])
    positive = np.array([0.1, 0.4, 0.35, 0.8, 0.3, 0.2])
    expected = metrics.roc_auc_score(truth, positive)
    ours = classification_scores(truth, np.column_stack([np.linspace(5, -3, 6), positive]))
    assert ours["auroc"][0] == pytest.approx(expected, abs=SAME_NUMBER)
