"""Scores of several labels are scikit-learn's, over the cells that are known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from panderm.statistics.multi_label import (
    LABEL_SCORES,
    WHOLE_SCORES,
    multi_label_scores,
    not_computable,
)

SAME_NUMBER = 1e-12


def problem(
    n: int = 160, k: int = 4, *, unknown: float = 0.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return truth and probabilities, many of them tied."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, k)) < rng.uniform(0.15, 0.7, k)).astype(np.int8)
    scores = np.round(np.clip(rng.normal(0.4, 0.2, (n, k)) + 0.25 * truth, 0, 1), 1)
    truth[rng.random((n, k)) < unknown] = -1
    return truth, scores


def test_every_score_is_scikit_learns() -> None:
    truth, scores = problem()
    ours = multi_label_scores(truth, scores)
    called = (scores >= 0.5).astype(int)
    report = metrics.classification_report(truth, called, output_dict=True, zero_division=0)
    wanted = {
        "macro_auroc": metrics.roc_auc_score(truth, scores, average="macro"),
        "micro_auroc": metrics.roc_auc_score(truth, scores, average="micro"),
        "macro_average_precision": metrics.average_precision_score(truth, scores, average="macro"),
        "micro_average_precision": metrics.average_precision_score(truth, scores, average="micro"),
        "macro_f1": report["macro avg"]["f1-score"],
        "micro_f1": report["micro avg"]["f1-score"],
        "macro_brier": np.mean(
            [metrics.brier_score_loss(t, s) for t, s in zip(truth.T, scores.T, strict=True)]
        ),
        "subset_accuracy": metrics.accuracy_score(truth, called),
        "hamming_loss": metrics.hamming_loss(truth, called),
    }
    assert set(ours) == {*LABEL_SCORES, *WHOLE_SCORES}
    assert {name: ours[name] for name in WHOLE_SCORES} == pytest.approx(wanted, abs=SAME_NUMBER)


def test_a_label_is_scored_where_it_is_known() -> None:
    truth, scores = problem(unknown=0.3, seed=1)
    ours = multi_label_scores(truth, scores)
    for k in range(truth.shape[1]):
        known = truth[:, k] >= 0
        t, s = truth[known, k], scores[known, k]
        wanted = {
            "auroc": metrics.roc_auc_score(t, s),
            "average_precision": metrics.average_precision_score(t, s),
            "sensitivity": metrics.recall_score(t, s >= 0.5),
            "specificity": metrics.recall_score(t, s >= 0.5, pos_label=0),
            "f1": metrics.f1_score(t, s >= 0.5),
            "brier": metrics.brier_score_loss(t, s),
            "prevalence": t.mean(),
        }
        assert {name: ours[name][0, k] for name in LABEL_SCORES} == pytest.approx(wanted, abs=SAME_NUMBER)
    cells = truth >= 0
    assert ours["hamming_loss"][0] == pytest.approx(((scores >= 0.5) != truth)[cells].mean(), abs=SAME_NUMBER)
    assert ours["micro_auroc"][0] == pytest.approx(
        metrics.roc_auc_score(truth[cells], scores[cells]), abs=SAME_NUMBER
    )
    whole = cells.all(axis=1)
    exact = ((scores >= 0.5) == truth)[whole].all(axis=1).mean()
    assert ours["subset_accuracy"][0] == pytest.approx(exact, abs=SAME_NUMBER)


def test_a_weight_is_a_row_so_many_times() -> None:
    truth, scores = problem(unknown=0.2, seed=2)
    weights = np.random.default_rng(3).integers(0, 4, (5, len(truth)))
    drawn = multi_label_scores(truth, scores, weights)
    for b, times in enumerate(weights):
        rows = np.repeat(np.arange(len(truth)), times)
        repeated = multi_label_scores(truth[rows], scores[rows])
        for name, values in drawn.items():
            np.testing.assert_allclose(values[b], repeated[name][0], atol=SAME_NUMBER, err_msg=name)


def test_what_cannot_be_computed_is_no_number_and_says_why() -> None:
    truth, scores = problem(k=5, seed=4)
    truth[:, 1], truth[:, 2], truth[:, 3] = 0, 1, -1
    names = ("fine", "nowhere", "everywhere", "unseen", "untrained")
    ours = multi_label_scores(truth, scores)
    of_label, whole = not_computable(truth, names, [True, True, True, True, False])
    assert of_label["fine"] == {}
    assert of_label["nowhere"].keys() == {"auroc", "average_precision", "sensitivity", "f1"}
    assert of_label["everywhere"].keys() == {"auroc", "average_precision", "specificity"}
    assert of_label["unseen"].keys() == set(LABEL_SCORES)
    assert of_label["untrained"].keys() == set(LABEL_SCORES) - {"prevalence"}
    assert of_label["nowhere"]["auroc"] == "no image scored has label 'nowhere'"
    assert whole == dict.fromkeys(WHOLE_SCORES, "label 'untrained' was not trained")
    for k, name in enumerate(names[:4]):
        undefined = {score for score in LABEL_SCORES if np.isnan(ours[score][0, k])}
        assert undefined == set(of_label[name]), name
    _, whole = not_computable(truth, names)
    assert {score for score in WHOLE_SCORES if np.isnan(ours[score][0])} == set(whole)


@pytest.mark.parametrize(
    ("truth", "scores", "message"),
    [
        (np.zeros((3, 2), int), np.zeros((3, 1)), "must both be"),
        (np.full((3, 2), 2), np.zeros((3, 2)), "truth must be"),
        (np.zeros((3, 2), int), np.full((3, 2), 1.1), "from 0 to 1"),
        (np.zeros((3, 2), int), np.full((3, 2), np.nan), "from 0 to 1"),
    ],
)
def test_what_is_no_such_problem_is_refused(truth: np.ndarray, scores: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        multi_label_scores(truth, scores)
