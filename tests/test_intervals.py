"""How intervals are made: percentiles, BCa or by formula, within classes or not, and that files tell it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import panderm
from panderm.errors import UsageError
from panderm.predictions import FileColumns, read_predictions
from panderm.scores import Scores, evaluate
from panderm.scores.score import Interval
from panderm.statistics.bca import bca_interval, jackknife
from panderm.statistics.classification import classification_scorer
from panderm.statistics.delong import delong, delong_interval
from panderm.statistics.proportions import clustered_interval
from panderm.statistics.resampling import bootstrap, percentile_interval


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> panderm.Predictions:
    """Return 60 rows of 30 patients, two classes; both images of a patient are of one class."""
    rng, file = np.random.default_rng(8), tmp_path_factory.mktemp("two") / "two.csv"
    malignant = np.repeat(rng.permutation(30) < 12, 2)
    shift = rng.normal(size=30).repeat(2) + 0.5 * rng.normal(size=60)
    chance = 1 / (1 + np.exp(-(2.0 * malignant - 1 + shift)))
    with file.open("w", newline="", encoding="utf-8") as opened:
        write = csv.writer(opened).writerow
        write(["image", "patient_id", "label", "p_benign", "p_malignant"])
        for i, (sick, p) in enumerate(zip(malignant, chance, strict=True)):
            write([f"{i}.jpg", f"P{i // 2}", "malignant" if sick else "benign", 1 - p, p])
    columns = FileColumns(truth=("label",), proba=("p_*",), patient="patient_id", image="image")
    return read_predictions(file, columns)


def test_bca_is_that_of_the_draws(two: panderm.Predictions) -> None:
    plain = evaluate(two, draws=200, scores_only=True)
    told = evaluate(two, interval="bca", draws=200, scores_only=True)
    scorer = classification_scorer(two.truth_codes(), two.probabilities)
    clusters = np.arange(60) // 2
    drawn = bootstrap(scorer, clusters, 200, 0)
    left_out = jackknife(scorer, clusters).values
    for name, score in told.scores.items():
        assert score.value == plain.scores[name].value
        expected = bca_interval(drawn[name], score.value, left_out[name])
        assert (score.low, score.high) == pytest.approx(expected[:2], abs=1e-12), name
        assert (plain.scores[name].low, plain.scores[name].high) == percentile_interval(drawn[name])[:2]
        assert score.method is None
    assert told.as_dict()["method"] == "BCa bootstrap"


def test_analytic_is_by_formula_where_there_is_one(two: panderm.Predictions) -> None:
    told = evaluate(two, interval="analytic", draws=50, scores_only=True)
    truth, right = two.truth_codes(), two.predicted_codes() == two.truth_codes()
    clusters = np.arange(60) // 2
    area, variance = delong(truth, two.probabilities[:, 1], clusters)
    one = told.scores["auroc"]
    assert (one.low, one.high) == pytest.approx(delong_interval(float(area[0]), float(variance[0, 0])))
    assert one.method == "DeLong"
    shares = {"accuracy": (told.scores["accuracy"], right >= 0)}
    shares["sensitivity"] = (told.per_class["malignant"].sensitivity, truth == 1)
    shares["specificity"] = (told.per_class["malignant"].specificity, truth == 0)
    for name, (score, of) in shares.items():
        expected = clustered_interval(right[of], clusters[of], exact=False)
        assert (score.low, score.high) == pytest.approx(expected), name
        assert score.method == "Wilson"
    assert told.scores["quadratic_kappa"].method == "percentile bootstrap"
    assert told.scores["quadratic_kappa"].low == evaluate(two, draws=50).scores["quadratic_kappa"].low


def test_within_classes_no_draw_loses_one(two: panderm.Predictions) -> None:
    """Of two patients with a melanoma one draw in seven has none of them."""
    few = replace(two, truth=np.where(np.arange(60) < 4, "malignant", "benign").astype(object))
    told = evaluate(few, stratified=True, draws=100, scores_only=True)
    assert told.stratified
    assert told.intervals_in_words == "percentile bootstrap, drawn within classes"
    strata = np.where(np.arange(60) < 4, 1, 0)
    scorer = classification_scorer(few.truth_codes(), few.probabilities)
    drawn = bootstrap(scorer, np.arange(60) // 2, 100, 0, strata=strata)["auroc"]
    assert np.isfinite(drawn).all()
    assert not np.isfinite(bootstrap(scorer, np.arange(60) // 2, 100, 0)["auroc"]).all()
    score = told.scores["auroc"]
    assert (score.low, score.high) == percentile_interval(drawn)[:2]


def test_what_no_draw_changes_is_no_point(two: panderm.Predictions) -> None:
    """All called benign: balanced accuracy is .5 and kappa 0 in every draw; shares have exact intervals."""
    chance = np.linspace(0.1, 0.4, 60)
    blind = replace(two, probabilities=np.column_stack([1 - chance, chance]))
    for interval in ("percentile", "bca", "analytic"):
        told = evaluate(blind, interval=interval, stratified=True, draws=50, scores_only=True)
        for name, value in (("balanced_accuracy", 0.5), ("quadratic_kappa", 0.0)):
            score = told.scores[name]
            assert (score.value, score.low, score.high) == (pytest.approx(value), None, None), interval
            assert score.reason == "no interval: it is the same in every draw"
        # Within classes the number of malignant never changes, and nor does the accuracy.
        for score in (told.scores["accuracy"], told.per_class["benign"].sensitivity):
            assert score.low < score.high
            assert score.method == ("Wilson" if interval == "analytic" else "exact (Clopper and Pearson)")


@pytest.mark.parametrize("interval", ["bca", "analytic"])
def test_the_choice_is_kept_and_older_files_open(
    two: panderm.Predictions, interval: Interval, tmp_path: Path
) -> None:
    scores = evaluate(two, interval=interval, stratified=True, draws=30)
    path = scores.save(tmp_path / "scores.json")
    opened = Scores.open(path)
    assert (opened.interval, opened.stratified) == (interval, True)
    assert opened.as_dict() == scores.as_dict()
    held = json.loads(path.read_text("utf-8"))
    for name in ("interval", "stratified"):
        del held[name]
    path.write_text(json.dumps(held), "utf-8")
    assert Scores.open(path).intervals_in_words == "percentile bootstrap"


def test_an_interval_that_there_is_not(two: panderm.Predictions) -> None:
    with pytest.raises(UsageError, match="--interval must be percentile, bca or analytic"):
        evaluate(two, interval="normal")  # type: ignore[arg-type]
