"""What is decided on validation rows and told of others: through the verb, on files of predictions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
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
    assert told["prediction_sets"]["kinds"][0]["rows"][0]["calibrated"] == 90


def test_without_validation_rows_nothing_is_called_locked(tmp_path: Path) -> None:
    _, told, _ = run(str(write(tmp_path / "test.csv", 0)))
    assert told["operating"]["locked"] is False
    assert told["calibration"]["recalibrated"] == []
    assert "prediction_sets" not in told


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
    made = panderm.evaluate(given, validation=held, positive=["melanoma"], prevalence=[0.02], draws=40)
    assert made.operating is not None
    again = panderm.Scores.open(made.save(tmp_path / "scores.json"))
    assert again.as_dict() == made.as_dict()
    assert again.operating == made.operating


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
