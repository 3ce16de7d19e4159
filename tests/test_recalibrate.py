"""Probabilities changed after the fact: by what other rows say, and never by the rows scored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.errors import DataError, ParentsError, UsageError
from panderm.predictions import FileColumns, Predictions, read_predictions
from panderm.statistics.calibration import proper_scores, shift_prior

TWO, THREE = ("nevus", "melanoma"), ("nevus", "melanoma", "keratosis")
ARGUMENTS = ["--truth", "dx", "--proba", "p_*", "--image", "image"]


def write(
    file: Path, seed: int, n: int = 400, classes: tuple[str, ...] = TWO, *, sure: float = 3.0, folds: int = 0
) -> Path:
    """Write predictions whose logits are ``sure`` times what they should be, and a fold column if asked."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(len(classes), n)
    z = sure * 1.2 * (rng.normal(size=(n, len(classes))) + 1.2 * np.eye(len(classes))[truth])
    odds = np.exp(z - z.max(axis=1, keepdims=True))
    frame = pd.DataFrame(odds / odds.sum(axis=1, keepdims=True), columns=[f"p_{name}" for name in classes])
    frame["image"] = [f"{seed}_{i}.jpg" for i in range(n)]
    frame["dx"] = [classes[k] for k in truth]
    if folds:
        frame["fold"] = np.arange(n) % folds
    frame.to_csv(file, index=False)
    return file


def read(file: Path, **more: str) -> Predictions:
    found = read_predictions(file, FileColumns(truth=["dx"], proba=["p_*"], image="image", **more))
    assert isinstance(found, Predictions)
    return found


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    write(folder / "test.csv", 0)
    write(folder / "val.csv", 1)
    return folder


def test_a_temperature_undoes_what_was_too_sure(desk: Path) -> None:
    given, held = read(desk / "test.csv"), read(desk / "val.csv")
    made = panderm.recalibrate(given, validation=held)
    record = made.card.recalibration
    assert record is not None
    assert record.parameters["temperature"] == pytest.approx(3, rel=0.25)
    assert (record.of, record.fitted_on) == (given.card.identity, held.card.identity)
    logit = np.log(given.probabilities[:, 1] / given.probabilities[:, 0]) / record.parameters["temperature"]
    assert made.probabilities[:, 1] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)
    before, after = (proper_scores(p.truth_codes(), p.probabilities)["log_loss"][0] for p in (given, made))
    assert after < before - 0.1
    assert (given.predicted_codes() == made.predicted_codes()).all()
    assert made.card.identity != given.card.identity


def test_what_was_written_is_read_by_every_verb(desk: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "honest.pred")
    words = [str(desk / "test.csv"), "--validation", str(desk / "val.csv"), *ARGUMENTS]
    done = CliRunner().invoke(app, ["recalibrate", *words, "--method", "isotonic", "--out", out, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert "usually makes the log loss worse" in told["caution"]
    opened = panderm.open_predictions(out)
    assert opened.card.recalibration is not None
    assert opened.card.recalibration.model_dump(mode="json") == told["recalibration"]
    assert opened.validation is not None
    curve = told["recalibration"]["parameters"]["melanoma"]
    p = pd.read_csv(desk / "test.csv").p_melanoma
    assert opened.probabilities[:, 1] == pytest.approx(np.interp(p, curve["given"], curve["becomes"]))
    done = CliRunner().invoke(app, ["evaluate", out, "--draws", "40", "--json", "-q"])
    scored = json.loads(done.stdout)
    assert scored["operating"]["locked"] is True
    # The curve passes through its own validation rows: sets that rest on them would promise too much.
    assert scored["prediction_sets"]["kinds"] == []
    assert "isotonic" in scored["prediction_sets"]["left_out"]["all"]
    again = CliRunner().invoke(app, ["evaluate", out, "--validation", str(desk / "val.csv"), *ARGUMENTS])
    assert again.exit_code == 2


def test_shares_are_moved_by_bayes_from_where_they_were_learnt(desk: Path) -> None:
    given, held = read(desk / "test.csv"), read(desk / "val.csv")
    made = panderm.recalibrate(given, method="none", validation=held, prior=0.02)
    share = float((held.truth == "melanoma").mean())
    odds = given.probabilities[:, 1] / given.probabilities[:, 0] * (0.02 / 0.98) / (share / (1 - share))
    assert made.probabilities[:, 1] == pytest.approx(odds / (1 + odds))
    back = panderm.recalibrate(made, method="none", prior={"nevus": 1 - share, "melanoma": share})
    assert back.probabilities == pytest.approx(given.probabilities)


def test_balanced_training_and_counted_training_rows_say_where_it_was_learnt(
    embeddings: panderm.Embeddings,
) -> None:
    plain = panderm.probe(embeddings)
    counts = plain.card.method["train rows per class"]
    learnt = np.array([counts[name] for name in plain.classes]) / sum(counts.values())
    K = len(plain.classes)
    new = dict.fromkeys(plain.classes, 1 / K)
    made = panderm.recalibrate(plain, method="none", prior=new)
    assert made.probabilities == pytest.approx(shift_prior(plain.probabilities, learnt, np.full(K, 1 / K)))
    balanced = panderm.probe(embeddings, class_weight="balanced")
    assert panderm.recalibrate(balanced, method="none", prior=new).probabilities == pytest.approx(
        balanced.probabilities
    )


def test_folds_are_changed_by_the_other_folds_alone(tmp_path: Path) -> None:
    given = read(write(tmp_path / "cv.csv", 3, folds=4), fold="fold")
    made = panderm.recalibrate(given)
    record = made.card.recalibration
    assert record is not None
    assert list(record.parameters) == ["fold 0", "fold 1", "fold 2", "fold 3"]
    other = read(tmp_path / "cv.csv", fold="fold")
    own = other.fold == "2"
    # Whatever the truth of a fold's own rows, they are changed alike.
    flipped = np.where(own, np.where(other.truth == "nevus", "melanoma", "nevus"), other.truth)
    again = panderm.recalibrate(Predictions(**{**vars(other), "truth": flipped.astype(object)}))
    assert again.probabilities[own] == pytest.approx(made.probabilities[own])
    assert not np.allclose(again.probabilities[~own], made.probabilities[~own])


def test_three_classes_may_change_their_order_under_isotonic_and_never_under_a_temperature(
    tmp_path: Path,
) -> None:
    given, held = (read(write(tmp_path / f"{i}.csv", i, 300, THREE)) for i in (0, 1))
    stepped = panderm.recalibrate(given, method="isotonic", validation=held)
    assert stepped.probabilities.sum(axis=1) == pytest.approx(1)
    assert (stepped.predicted_codes() != given.predicted_codes()).any()
    soft = panderm.recalibrate(given, validation=held)
    assert (soft.predicted_codes() == given.predicted_codes()).all()


def test_what_makes_no_sense_is_refused(desk: Path, tmp_path: Path) -> None:
    given, held = read(desk / "test.csv"), read(desk / "val.csv")
    with pytest.raises(ParentsError, match="must not be among the rows scored"):
        panderm.recalibrate(given, validation=given)
    with pytest.raises(UsageError, match="needs validation rows"):
        panderm.recalibrate(given)
    with pytest.raises(UsageError, match="something to change"):
        panderm.recalibrate(given, method="none")
    with pytest.raises(UsageError, match="shares of the classes where the probabilities were learnt"):
        panderm.recalibrate(given, method="none", prior=0.1)
    for prior in ({"melanoma": 0.1}, {"nevus": 0.5, "melanoma": 0.4}, {"nevus": 0.5, "melanom": 0.5}, 0.0):
        with pytest.raises(UsageError, match="--prior must"):
            panderm.recalibrate(given, validation=held, prior=prior)
    pd.read_csv(desk / "val.csv").query("dx == 'nevus'").to_csv(tmp_path / "one.csv", index=False)
    with pytest.raises(DataError, match="every class"):
        panderm.recalibrate(given, method="isotonic", validation=read(tmp_path / "one.csv"))
