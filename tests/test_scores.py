"""Scores: values are scikit-learn's, intervals are the bootstrap's, absences are said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

import panderm
from panderm.errors import ArtifactError, DataError, UsageError
from panderm.scores import Scores, evaluate


@pytest.fixture(scope="module")
def predictions(embeddings: panderm.Embeddings) -> panderm.Predictions:
    return panderm.probe(embeddings)


def rows(predictions: panderm.Predictions, keep: np.ndarray) -> panderm.Predictions:
    columns = {
        name: getattr(predictions, name)[keep]
        for name in ("image", "path", "sha256", "patient", "group", "truth", "probabilities")
    }
    return replace(predictions, **columns)


def test_values_are_scikit_learns(predictions: panderm.Predictions) -> None:
    scores = evaluate(predictions, draws=50).scores
    truth, called = predictions.truth_codes(), predictions.predicted_codes()
    assert scores["accuracy"].value == pytest.approx(accuracy_score(truth, called))
    assert scores["balanced_accuracy"].value == pytest.approx(balanced_accuracy_score(truth, called))
    for way in ("ovo", "ovr"):
        expected = roc_auc_score(truth, predictions.probabilities, multi_class=way)
        assert scores[f"auroc_{way}"].value == pytest.approx(expected)


def test_every_score_has_its_interval_and_what_it_rests_on(predictions: panderm.Predictions) -> None:
    told = evaluate(predictions, draws=300, seed=5).as_dict()
    assert list(told["scores"]) == [
        "accuracy",
        "balanced_accuracy",
        "weighted_f1",
        "macro_f1",
        "auroc_ovo",
        "auroc_ovr",
        "average_precision",
        "quadratic_kappa",
    ]
    for score in told["scores"].values():
        assert score["low"] <= score["value"] <= score["high"]
    assert told["unit"] == "patient"
    assert told["n"] == len(predictions)
    assert told["clusters"] == len(set(predictions.patient)) < told["n"]
    assert (told["draws"], told["seed"], told["level"]) == (300, 5, 0.95)
    assert np.array(told["confusion_matrix"]).sum() == told["n"]


def test_same_seed_same_intervals(predictions: panderm.Predictions) -> None:
    assert evaluate(predictions, draws=100).as_dict() == evaluate(predictions, draws=100).as_dict()
    assert evaluate(predictions, draws=100) != evaluate(predictions, draws=100, seed=1)


def test_an_absent_class_is_not_computable_and_never_zero(predictions: panderm.Predictions) -> None:
    missing = predictions.classes[0]
    told = evaluate(rows(predictions, predictions.truth != missing), draws=50).as_dict()
    for name in ("balanced_accuracy", "macro_f1", "auroc_ovo", "auroc_ovr", "average_precision"):
        assert told["scores"][name]["value"] is None
        assert told["scores"][name]["low"] is None
        assert missing in told["scores"][name]["reason"]
    assert told["scores"]["accuracy"]["value"] > 0
    assert told["per_class"][missing]["sensitivity"]["value"] is None
    assert told["per_class"][missing]["specificity"]["value"] is not None


def test_one_unit_has_no_interval(predictions: panderm.Predictions) -> None:
    alone = replace(predictions, patient=np.full(len(predictions), "P1", dtype=object))
    score = evaluate(alone, draws=20).scores["accuracy"]
    assert score.value is not None
    assert (score.low, score.high) == (None, None)
    assert score.reason == "no interval: there is one unit only to resample"


@pytest.mark.parametrize(
    ("patient", "group", "unit", "clusters"),
    [(True, True, "patient", 3), (False, True, "lesion group", 4), (False, False, "image", 8)],
)
def test_the_unit_is_the_widest_known(
    predictions: panderm.Predictions, *, patient: bool, group: bool, unit: str, clusters: int
) -> None:
    eight = rows(predictions, np.arange(8))
    people = np.array(list("AAABBBCC"), dtype=object)
    lesions = np.array(list("aabbccdd"), dtype=object)
    none = np.full(8, None, dtype=object)
    told = replace(eight, patient=people if patient else none, group=lesions if group else none)
    scores = evaluate(told, draws=10)
    assert (scores.unit, scores.clusters) == (unit, clusters)


def test_written_and_opened_again(predictions: panderm.Predictions, tmp_path: Path) -> None:
    scores = evaluate(rows(predictions, predictions.truth != predictions.classes[0]), draws=20)
    path = scores.save(tmp_path / "scores.json")
    assert Scores.open(path).as_dict() == scores.as_dict() == json.loads(path.read_text("utf-8"))
    with pytest.raises(ArtifactError, match="must not exist already"):
        scores.save(path)
    path.write_text('{"scores": {}}', "utf-8")
    with pytest.raises(ArtifactError, match="must be a file that panderm wrote"):
        Scores.open(path)


def test_nothing_to_score(predictions: panderm.Predictions) -> None:
    with pytest.raises(DataError, match="must have rows"):
        evaluate(rows(predictions, np.zeros(len(predictions), dtype=bool)))
    with pytest.raises(UsageError, match="--draws must be at least 1"):
        evaluate(predictions, draws=0)
