"""A score that cannot be computed is NaN and comes with a sentence; a wrong call is refused."""

from __future__ import annotations

import numpy as np
import pytest

from panderm.statistics.classification import (
    classification_scores,
    confusion_matrix,
    not_computable,
    not_computable_per_class,
    per_class_scores,
    score_names,
)

NAMES = ("nv", "mel", "df")
NEED_EVERY_CLASS = ["balanced_accuracy", "macro_f1", "auroc_ovo", "auroc_ovr", "average_precision"]
TRUTH = np.array([0, 1, 0, 1, 0])
SCORES = np.array([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8], [0.6, 0.3, 0.1], [0.5, 0.4, 0.1]])


def test_absent_class_is_not_zero_and_not_left_out() -> None:
    scores = classification_scores(TRUTH, SCORES)
    assert [name for name in scores if np.isnan(scores[name][0])] == NEED_EVERY_CLASS
    assert scores["accuracy"][0] == pytest.approx(3 / 5)
    # By hand: nv 2·2/(3+3), mel 2·1/(2+1), weighted by 3 and 2 of 5.
    assert scores["weighted_f1"][0] == pytest.approx(2 / 3)


def test_absent_class_is_named() -> None:
    reasons = not_computable(TRUTH, 3, NAMES)
    assert list(reasons) == NEED_EVERY_CLASS
    assert set(reasons.values()) == {"class 'df' has no row among those scored"}


def test_several_absent_classes_are_named() -> None:
    reasons = not_computable(np.zeros(4, int), 3, NAMES)
    assert reasons["auroc_ovo"] == "classes 'mel', 'df' have no row among those scored"


def test_nothing_to_report_when_every_class_is_there() -> None:
    assert not_computable([0, 1, 2], 3, NAMES, predicted=[0, 0, 0]) == {}


@pytest.mark.parametrize("truth", [[0, 0, 0], [1, 1]])
def test_binary_with_one_class(truth: list[int]) -> None:
    scores = classification_scores(truth, np.tile([0.4, 0.6], (len(truth), 1)))
    for name in ("balanced_accuracy", "macro_f1", "auroc", "average_precision"):
        assert np.isnan(scores[name][0]), name
    reasons = not_computable(truth, 2, ["benign", "malignant"])
    absent = "malignant" if truth[0] == 0 else "benign"
    assert reasons["auroc"] == f"class '{absent}' has no row among those scored"


def test_a_class_missing_from_one_draw_only() -> None:
    weights = np.array([[1, 1, 1], [2, 1, 0], [0, 2, 1]])
    auroc = classification_scores([0, 0, 1], [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], weights)["auroc"]
    np.testing.assert_array_equal(auroc, [1, np.nan, 1])


def test_kappa_is_undefined_only_where_all_agree_on_one_class() -> None:
    certain_of_mel = np.tile([0.1, 0.8, 0.1], (3, 1))
    assert np.isnan(classification_scores([1, 1, 1], certain_of_mel)["quadratic_kappa"][0])
    assert classification_scores([0, 0, 0], certain_of_mel)["quadratic_kappa"][0] == 0
    reasons = not_computable([1, 1, 1], 3, NAMES, predicted=[1, 1, 1])
    assert reasons["quadratic_kappa"] == "every row is of class 'mel' and predicted as 'mel'"
    assert "quadratic_kappa" not in not_computable([0, 0, 0], 3, NAMES, predicted=[1, 1, 1])
    assert "quadratic_kappa" not in not_computable([1, 1, 1], 3, NAMES, predicted=[1, 0, 1])


@pytest.mark.parametrize(
    ("truth", "predicted"),
    [([0, 1, 2], [0, 0, 2]), ([0, 1, 0], [1, 1, 1]), ([2, 2, 2], [2, 2, 2]), ([2, 2], [1, 1])],
)
def test_reasons_are_given_for_exactly_the_scores_that_are_nan(truth, predicted) -> None:
    scores = classification_scores(truth, np.eye(3)[predicted])
    reasons = not_computable(truth, 3, NAMES, predicted=predicted)
    assert [name for name in scores if np.isnan(scores[name][0])] == list(reasons)


@pytest.mark.parametrize("truth", [[0, 1, 2], [0, 1, 0], [2, 2, 2]])
def test_per_class_reasons_are_given_for_exactly_the_nan(truth) -> None:
    scores = per_class_scores(truth, [0, 1, 2], 3)
    reasons = not_computable_per_class(truth, 3, NAMES)
    for name in ("sensitivity", "specificity"):
        unknown = [NAMES[c] for c in range(3) if np.isnan(scores[name][0, c])]
        assert unknown == list(reasons[name])


def test_per_class_reasons_read_well() -> None:
    reasons = not_computable_per_class([2, 2, 2], 3, NAMES)
    assert reasons["sensitivity"]["nv"] == "class 'nv' has no row among those scored"
    assert reasons["specificity"]["df"] == "no row among those scored is of a class other than 'df'"


def test_no_rows_at_all() -> None:
    for weights in (None, np.zeros((2, 0), int)):
        scores = classification_scores([], np.zeros((0, 3)), weights)
        assert all(np.isnan(values).all() for values in scores.values())
    assert not_computable([], 3, NAMES) == dict.fromkeys(score_names(3), "no row was scored")
    assert confusion_matrix([], [], 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 3], np.zeros((2, 3))), r"truth must be in 0\.\.2, found 0\.\.3"),
        (([0, -1], np.zeros((2, 3))), r"truth must be in 0\.\.2, found -1\.\.0"),
        (([0.0, 1.0], np.zeros((2, 3))), "truth must be integer class codes, not float64"),
        (([0, 1, 2], np.zeros((2, 3))), r"truth must be \(2,\), not \(3,\)"),
        (([0, 1], np.zeros(2)), r"probabilities must be \(n, K\) with K >= 2, not \(2,\)"),
        (([0, 0], np.zeros((2, 1))), r"probabilities must be \(n, K\) with K >= 2, not \(2, 1\)"),
        (([0, 1], [[0.5, np.nan], [0.5, 0.5]]), "probabilities must be finite"),
        (([0, 1], np.eye(2), [1, 1]), r"weights must be \(B, 2\) with B >= 1, not \(2,\)"),
        (([0, 1], np.eye(2), [[1, 1, 1]]), r"weights must be \(B, 2\) with B >= 1, not \(1, 3\)"),
        (([0, 1], np.eye(2), np.zeros((0, 2), int)), r"weights must be \(B, 2\) with B >= 1"),
        (([0, 1], np.eye(2), [[0.5, 1.5]]), "weights must be integers, not float64"),
        (([0, 1], np.eye(2), [[1, -1]]), "weights must not be negative"),
    ],
)
def test_a_wrong_call_is_refused(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        classification_scores(*arguments)


def test_other_wrong_calls_are_refused() -> None:
    with pytest.raises(ValueError, match=r"predicted must be \(2,\), not \(3,\)"):
        confusion_matrix([0, 1], [0, 1, 1], 2)
    with pytest.raises(ValueError, match=r"predicted must be in 0\.\.1, found 0\.\.2"):
        per_class_scores([0, 1], [0, 2], 2)
    with pytest.raises(ValueError, match="class_names must be 3 names, not 2"):
        not_computable([0, 1, 2], 3, ["nv", "mel"])
