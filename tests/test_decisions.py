"""What is decided on validation rows and told of others: through the verb, on files of predictions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.predictions import FileColumns, Predictions, read_predictions
from panderm.statistics.delong import delong_test

THREE = ("nevus", "melanoma", "basal cell carcinoma")


def write(file: Path, seed: int, n: int = 90, classes: tuple[str, ...] = ("nevus", "melanoma")) -> Path:
    rng = np.random.default_rng(seed)
    truth = rng.choice(len(classes), n)
    truth[: len(classes)] = range(len(classes))
    odds = np.exp(rng.normal(size=(n, len(classes))) + 1.5 * np.eye(len(classes))[truth])
    frame = pd.DataFrame(odds / odds.sum(axis=1, keepdims=True), columns=[f"p_{name}" for name in classes])
    frame["image"] = [f"{seed}_{i}.jpg" for i in range(n)]
    frame["patient"] = [f"{seed}_{i // 2}" for i in range(n)]
    frame["dx"] = [classes[k] for k in truth]
    frame["finer"] = [f"{classes[k]} {i % 2}" for i, k in enumerate(truth)]
    frame.to_csv(file, index=False)
    return file


OPTIONS = ["--truth", "dx", "--proba", "p_*", "--patient", "patient", "--image", "image", "--draws", "60"]


def run(*words: str) -> tuple[int, dict, str]:
    done = CliRunner().invoke(app, ["evaluate", *words, *OPTIONS, "--json", "-q"])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, json.loads(done.stdout), done.stderr


def test_thresholds_come_from_validation_rows_and_are_counted_on_the_others(tmp_path: Path) -> None:
    test, val = write(tmp_path / "test.csv", 0), write(tmp_path / "val.csv", 1)
    code, told, _ = run(
        str(test), "--validation", str(val), "--at", "sensitivity=0.9", "--diagnosis", "finer"
    )
    assert code == 0
    held = told["operating"]
    assert (held["positive"], held["locked"], held["n"]) == (["melanoma"], True, 90)
    (point,) = held["points"]
    scored, chose = pd.read_csv(test), pd.read_csv(val)
    at = point["threshold"]
    positives = chose.loc[chose.dx == "melanoma", "p_melanoma"]
    assert (positives >= at).mean() >= 0.9
    assert (positives > at).mean() < 0.9  # no higher threshold reaches it
    called, true = scored.p_melanoma >= at, scored.dx == "melanoma"
    assert [point[k] for k in ("tp", "fp", "fn", "tn")] == [
        int(x.sum()) for x in (called & true, called & ~true, ~called & true, ~called & ~true)
    ]
    assert point["scores"]["sensitivity"]["value"] == pytest.approx(called[true].mean())
    for row in held["diagnoses"]:
        rows = scored.finer == row["diagnosis"]
        assert (row["n"], row["called"][0]["value"]) == (rows.sum(), pytest.approx(called[rows].mean()))
    assert {one["of"] for one in told["calibration"]["recalibrated"]} == {"temperature", "isotonic"}
    assert "usually makes the log loss worse" in told["calibration"]["recalibrated"][1]["caution"]
    assert told["prediction_sets"]["kinds"][0]["rows"][0]["calibrated"] == 90


def test_the_positive_class_of_two_is_that_of_every_score(tmp_path: Path) -> None:
    test, val = write(tmp_path / "test.csv", 0), write(tmp_path / "val.csv", 1)
    scored, found = pd.read_csv(test), {}
    for name in ("nevus", "melanoma"):
        code, told, _ = run(str(test), "--validation", str(val), "--positive", name, "--at", "youden")
        assert (code, told["classes"][1]) == (0, name)
        precision = average_precision_score(scored.dx == name, scored[f"p_{name}"])
        assert told["scores"]["average_precision"]["value"] == pytest.approx(precision)
        assert told["calibration"]["probability"] == f"of {name}"
        assert told["operating"]["positive"] == [name]
        found[name] = told
    one, other = found["nevus"], found["melanoma"]
    assert one["predictions"] == other["predictions"]
    assert one["scores"]["auroc"]["value"] == pytest.approx(other["scores"]["auroc"]["value"])
    assert one["per_class"] == other["per_class"]
    assert np.array_equal(np.flip(one["confusion_matrix"]), other["confusion_matrix"])


def test_a_page_has_the_positive_class_of_its_scores(tmp_path: Path) -> None:
    columns = FileColumns(truth=("dx",), proba=("p_*",), patient="patient", image="image")
    given = read_predictions(write(tmp_path / "test.csv", 0), columns)
    assert isinstance(given, Predictions)
    turned = given.in_order(given.classes[::-1])
    assert turned.card.identity == given.card.identity
    assert turned.in_order(given.classes).probabilities.tolist() == given.probabilities.tolist()
    with pytest.raises(ValueError, match="in some order"):
        given.in_order(("nevus", "mole"))
    saved = panderm.open_predictions(turned.save(tmp_path / "turned.pred"))
    assert saved.classes == given.classes
    assert np.allclose(saved.probabilities, given.probabilities, atol=0)
    first = given.classes[0]
    scores = panderm.evaluate(given, positive=[first], draws=20, progress=False)
    report = panderm.Report(given, scores)
    assert report.predictions.classes == scores.classes == turned.classes
    assert f"The positive class is <strong>“{first}”</strong>" in report.html()


def test_without_validation_rows_nothing_is_called_locked(tmp_path: Path) -> None:
    _, told, _ = run(str(write(tmp_path / "test.csv", 0)))
    assert told["operating"]["locked"] is False
    assert told["calibration"]["recalibrated"] == []
    assert set(told["calibration"]["not_fitted"]) == {"temperature", "isotonic"}
    assert "needs validation rows" in told["calibration"]["not_fitted"]["isotonic"]
    assert "prediction_sets" not in told


def test_a_fit_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    frame = pd.read_csv(write(tmp_path / "val.csv", 1))
    frame[frame.dx == "nevus"].to_csv(tmp_path / "one.csv", index=False)
    test = str(write(tmp_path / "test.csv", 0))
    _, told, _ = run(test, "--validation", str(tmp_path / "one.csv"))
    why = told["calibration"]["not_fitted"]["isotonic"]
    assert "and none of melanoma" in why
    done = CliRunner().invoke(app, ["evaluate", test, "--validation", str(tmp_path / "one.csv"), *OPTIONS])
    assert "isotonic not fitted: " in done.stdout
    # What is recorded is shown: thresholds where they were chosen, and what recalibration changed.
    done = CliRunner().invoke(app, ["evaluate", test, "--validation", str(tmp_path / "val.csv"), *OPTIONS])
    shown = " ".join(done.stdout.split())
    assert "the same thresholds on 90 rows of all" in shown
    assert "temperature, less as given" in shown
    assert "validation rows coverage" in shown


def test_out_of_fold_rows_are_each_others_validation_rows(tmp_path: Path) -> None:
    """By hand: the set of a row rests on the rows of the other folds; so does its temperature."""
    frame = pd.read_csv(write(tmp_path / "cv.csv", 3, n=200))
    frame["fold"] = np.arange(200) // 2 % 4
    frame.to_csv(tmp_path / "cv.csv", index=False)
    _, told, _ = run(str(tmp_path / "cv.csv"), "--fold", "fold")
    strange = np.where(frame.dx == "melanoma", frame.p_nevus, frame.p_melanoma)
    covered = []
    for i in range(200):
        others = strange[frame.fold != frame.fold[i]]
        covered.append((1 + (others >= strange[i]).sum()) / (1 + len(others)) >= 0.1 - 1e-12)
    first = told["prediction_sets"]["kinds"][0]["rows"][0]
    assert (first["calibrated"], first["coverage"]["value"]) == (150, pytest.approx(np.mean(covered)))
    assert told["prediction_sets"]["fitted_on"] == "the other folds of each fold"
    by_fold = told["calibration"]["recalibrated"][0]["parameters"]
    assert list(by_fold) == ["fold 0", "fold 1", "fold 2", "fold 3"]
    assert told["operating"]["locked"] is False


def test_stated_shares_are_measured_on_rows_weighted_to_them(tmp_path: Path) -> None:
    test, val = write(tmp_path / "test.csv", 0), write(tmp_path / "val.csv", 1)
    code, told, _ = run(str(test), "--validation", str(val), "--prior", "melanoma=0.1,nevus=0.9")
    assert code == 0
    frame, prior = pd.read_csv(test), told["calibration"]["prior"]
    learnt = float((pd.read_csv(val).dx == "melanoma").mean())
    assert (prior["old"]["melanoma"], prior["old_from"]) == (pytest.approx(learnt), "the validation rows")
    odds = frame.p_melanoma / frame.p_nevus * (0.1 / 0.9) / (learnt / (1 - learnt))
    moved, true = odds / (1 + odds), (frame.dx == "melanoma").to_numpy()
    weights = np.where(true, 0.1 / true.mean(), 0.9 / (1 - true.mean()))
    for side, p in (("given", frame.p_melanoma), ("moved", moved)):
        scores = prior[side]["scores"]
        right = np.average((p >= 0.5) == true, weights=weights)
        assert scores["accuracy"]["value"] == pytest.approx(right)
        brier = np.average((p - true) ** 2, weights=weights)
        assert scores["brier"]["value"] == pytest.approx(brier)
    assert prior["changed"] == int(((moved >= 0.5) != (frame.p_melanoma >= 0.5)).sum())


def test_malignant_classes_are_added_up(tmp_path: Path) -> None:
    file = write(tmp_path / "three.csv", 0, classes=THREE)
    _, told, _ = run(str(file), "--positive", "malignant", "--at", "threshold=0.5")
    frame = pd.read_csv(file)
    called = frame["p_melanoma"] + frame["p_basal cell carcinoma"] >= 0.5
    assert told["operating"]["positive"] == list(THREE[1:])
    assert told["operating"]["points"][0]["tp"] == int((called & (frame.dx != "nevus")).sum())
    assert set(told["top_k"]) == {"top_2_accuracy"}


@pytest.mark.parametrize(
    ("words", "must"),
    [
        (["--positive", "melanom"], "did you mean 'melanoma'?"),
        (["--positive", "nevus", "--positive", "melanoma", "--positive", THREE[2]], "must leave a class"),
        (["--at", "sensitivity=95"], "--at must be an operating point"),
        (["--at", "youden"], "--at must come with --positive"),
        (["--prevalence", "2", "--positive", "melanoma"], "--prevalence must be a share"),
        (["--coverage", "90"], "--coverage must be a share"),
        (["--prior", "0.02"], "--prior must name the share of every class"),
        (["--prior", "nevus=.9,melanoma=.2"], "no share of: basal cell carcinoma"),
        (["--prior", "nevus=.8,melanoma=.1,basal cell carcinoma=.1"], "where the probabilities were learnt"),
        (["--prior", "much"], "--prior must name each class once"),
        (["--diagnosis", "fine", "--positive", "melanoma"], "did you mean 'finer'?"),
        (["--hierarchy", "ham"], "--hierarchy must be a CSV that is there"),
        (["--validation", "three.csv"], "must not be among the rows scored"),
        (["--validation", "two.csv"], "classes"),
    ],
)
def test_what_makes_no_sense_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], must: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("two.csv"), 2)
    code, told, said = run(str(write(Path("three.csv"), 0, classes=THREE)), *words)
    assert code == 2
    assert told["error"]["must"]
    assert must in said


def test_scores_are_read_back_as_they_were(tmp_path: Path) -> None:
    columns = FileColumns(truth=["dx"], proba=["p_*"], patient="patient", image="image")
    given, held = (read_predictions(write(tmp_path / f"{i}.csv", i, classes=THREE), columns) for i in (0, 1))
    assert isinstance(given, Predictions)
    assert isinstance(held, Predictions)
    prior = dict(zip(THREE, (0.8, 0.15, 0.05), strict=True))
    made = panderm.evaluate(
        given, validation=held, positive=["melanoma"], prevalence=[0.02], prior=prior, draws=40
    )
    assert made.calibration is not None
    assert made.calibration.prior is not None
    assert made.operating is not None
    again = panderm.Scores.open(made.save(tmp_path / "scores.json"))
    assert again.as_dict() == made.as_dict()
    assert again.operating == made.operating
    assert again.prediction_sets == made.prediction_sets


def test_all_found_is_no_certainty(tmp_path: Path) -> None:
    _, told, _ = run(str(write(tmp_path / "test.csv", 0)), "--at", "threshold=0.000001")
    frame = pd.read_csv(tmp_path / "test.csv")
    positive = frame.dx == "melanoma"
    found = told["operating"]["points"][0]["scores"]["sensitivity"]
    patients = frame.patient[positive].nunique()
    assert (found["value"], found["high"]) == (1, 1)
    assert found["low"] == pytest.approx(0.025 ** (1 / patients))  # Clopper and Pearson, n of n


def test_files_are_compared_and_reported_by_their_columns(tmp_path: Path) -> None:
    first = write(tmp_path / "first.csv", 0)
    frame = pd.read_csv(first)
    other = np.random.default_rng(1).random(len(frame))
    frame.assign(p_melanoma=other, p_nevus=1 - other).to_csv(tmp_path / "other.csv", index=False)
    named = [word for word in OPTIONS if word not in ("--draws", "60")]
    files = [str(first), str(tmp_path / "other.csv")]
    few = ["--draws", "60", "--permutations", "60", "--score", "auroc", "--json", "-q"]
    done = CliRunner().invoke(app, ["compare", *files, *named, *few])
    assert done.exit_code == 0, done.output
    (pair,) = json.loads(done.stdout)["pairs"]
    assert pair["tests"][0]["name"] == "DeLong, clustered (Obuchowski)"
    positive = (frame.dx == "melanoma").to_numpy()
    clusters = frame.patient.astype("category").cat.codes.to_numpy()
    tested = delong_test(positive, pd.read_csv(first).p_melanoma, other, clusters)
    assert pair["tests"][0]["p"] == pytest.approx(tested.p)
    assert pair["difference"]["value"] == pytest.approx(tested.difference)
    page = tmp_path / "page.html"
    done = CliRunner().invoke(app, ["report", files[0], *named, "--out", str(page), "-q"])
    assert done.exit_code == 0, done.output
    assert "first.csv" in page.read_text("utf-8")
