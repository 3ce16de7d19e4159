"""The diagnosis hierarchy: probabilities of a group are added up, and what has no group is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, recall_score, roc_auc_score

import panderm
from panderm.errors import TableError, UsageError
from panderm.scores.hierarchy import score_hierarchy
from panderm.scores.resampled import Resampling

CLASSES = ("mel", "nv", "bcc", "df")


@pytest.fixture(scope="module")
def given(embeddings: panderm.Embeddings) -> panderm.Predictions:
    one = panderm.probe(embeddings)
    rng = np.random.default_rng(0)
    n = len(one)
    truth = np.array(CLASSES, dtype=object)[np.arange(n) % 4]
    card = one.card.model_copy(update={"classes": CLASSES})
    return replace(one, truth=truth, probabilities=rng.dirichlet(np.ones(4), n), card=card, validation=None)


def resampled(n: int) -> Resampling:
    return Resampling(np.arange(n), "image", 50, 0)


def test_a_level_is_what_scikit_learn_says_of_the_sums(given: panderm.Predictions) -> None:
    scored = score_hierarchy(given, resampled(len(given)), hierarchy="ham10000")
    assert scored is not None
    level = scored.levels[-1]
    assert level.level == "malignant"
    assert level.groups == {"malignant": ("mel", "bcc"), "benign": ("nv", "df")}
    benign = given.probabilities[:, [1, 3]].sum(axis=1)
    truth = np.isin(given.truth, ["nv", "df"])
    called = benign > 0.5
    assert level.scores["accuracy"].value == pytest.approx(accuracy_score(truth, called), abs=1e-12)
    assert level.scores["auroc"].value == pytest.approx(roc_auc_score(truth, benign), abs=1e-12)
    assert level.per_group["benign"].value == pytest.approx(recall_score(truth, called), abs=1e-12)


def test_a_class_without_a_group_is_told_and_its_rows_are_not_scored(
    given: panderm.Predictions, tmp_path: Path
) -> None:
    file = tmp_path / "groups.csv"
    file.write_text("class,kind\nmel,dark\nnv,dark\nbcc,pale\ndf,\n")
    scored = score_hierarchy(given, resampled(len(given)), hierarchy=file)
    assert scored is not None
    (level,) = scored.levels
    assert list(level.left_out) == ["df"]
    assert level.n == int((given.truth != "df").sum())
    assert level.counts["pale"] == int((given.truth == "bcc").sum())


@pytest.mark.parametrize("text", ["", "class\nmel\n", "kind\ndark\n", "class,kind\nmel,a\nmel,b\n"])
def test_a_file_that_is_no_hierarchy_is_refused(
    given: panderm.Predictions, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "groups.csv"
    file.write_text(text)
    with pytest.raises(TableError, match="a hierarchy must"):
        score_hierarchy(given, resampled(len(given)), hierarchy=file)


def test_words_that_are_not_the_classes_are_refused(given: panderm.Predictions, tmp_path: Path) -> None:
    file = tmp_path / "groups.csv"
    file.write_text("class,kind\nother,dark\n")
    with pytest.raises(UsageError, match="must have groups for the classes"):
        score_hierarchy(given, resampled(len(given)), hierarchy=file)
    with pytest.raises(UsageError, match="known dataset"):
        score_hierarchy(given, resampled(len(given)), hierarchy="nowhere")
