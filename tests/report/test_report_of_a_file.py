"""A report of predictions that were read from a user's own file: no table, no encoder, no weights."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_comparison import several
from test_report import Reader
from typer.testing import CliRunner

from panderm.cli import app
from panderm.errors import ParentsError
from panderm.predictions import FileColumns, MultiLabelPredictions, Predictions, read_predictions
from panderm.predictions.card import PredictionsCard, PredictionsFile
from panderm.provenance import Provenance
from panderm.report import Report
from panderm.report.multi_label import MultiLabelReport
from panderm.scores import evaluate


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Score with 60 draws what a report scores by itself."""
    monkeypatch.setattr("panderm.report.evaluate", partial(evaluate, draws=60))


SHA = "5e" * 32


def read_from_a_file(name: str | None = None) -> Predictions:
    rng = np.random.default_rng(0)
    truth = np.array(["nv", "mel"], dtype=object)[(rng.random(80) < 0.4).astype(int)]
    positive = np.clip(0.4 * (truth == "mel") + 0.6 * rng.random(80), 0, 1)
    file = PredictionsFile(
        path="/data/model-x.csv",
        sha256=SHA,
        layout="columns",
        columns={"truth": "dx", "patient": "id"},
        probabilities={"nv": "p_nv", "mel": "p_mel"},
    )
    card = PredictionsCard(
        provenance=Provenance.now(),
        task="predictions of a file",
        method={},
        outcome={},
        classes=("nv", "mel"),
        split="test",
        rows=80,
        file=file,
        name=name,
    )
    none = np.array([None] * 80, dtype=object)
    return Predictions(
        image=np.array([f"image-{i}" for i in range(80)], dtype=object),
        path=none,
        sha256=none,
        patient=np.array([f"p{i // 2}" for i in range(80)], dtype=object),
        group=none,
        truth=np.array(list(truth), dtype=object),
        probabilities=np.column_stack([1 - positive, positive]),
        card=card,
    )


def test_the_page_names_the_file_its_hash_and_its_columns_and_no_weights() -> None:
    page = Report(read_from_a_file(), progress=False).html()
    for told in ("/data/model-x.csv", SHA, "column “p_mel”", "column “id”", "model-x", "no file is named"):
        assert told in page
    for absent in ('id="weights"', 'href="#weights"', "Preprocessing"):
        assert absent not in page


def test_the_users_own_name_for_the_model_heads_the_page() -> None:
    assert "<h1>Model X " in Report(read_from_a_file("Model X"), progress=False).html()


# --- beside others ---


def as_a_file(given: Predictions, path: Path, *, seed: int = 1, named: bool = True) -> Predictions:
    """Write predictions as a user's CSV, rows mixed, without patients, files and hashes, and read it."""
    frame = pd.DataFrame(given.probabilities, columns=[f"p_{name}" for name in given.classes])
    frame.insert(0, "dx", given.truth)
    if named:
        frame.insert(0, "picture", given.image)
        frame = frame.sample(frac=1, random_state=seed)
    frame.to_csv(path, index=False)
    image = "picture" if named else None
    read = read_predictions(path, FileColumns(truth=["dx"], proba=["p_*"], image=image))
    assert isinstance(read, Predictions)
    return read


def hashed(tmp_path: Path) -> list[Predictions]:
    """Return predictions of two encoders, of images that are there, with patients and hashes."""
    return several(2, tmp_path / "images", n=60)


def scored(given: list[Predictions]) -> Report:
    return Report(given, progress=False)


def test_a_file_beside_a_folder_is_matched_by_name_and_drawn_by_its_patients(tmp_path: Path) -> None:
    first, second = hashed(tmp_path)
    file = as_a_file(second, tmp_path / "theirs.csv")
    assert list(file.image) != list(second.image)
    made, both = scored([first, file]), scored([first, second])
    for mine, theirs in ((made.parts[1][1], both.parts[1][1]), (made.parts[0][1], both.parts[0][1])):
        assert mine.unit == theirs.unit == "patient"
        assert mine.scores == theirs.scores
        assert mine.operating == theirs.operating
    assert made.differences == both.differences
    page = made.html()
    assert "2 models" in page
    assert "Matched by name." in page
    assert "B was read from a file, which holds no hash of an image" in page
    assert str(tmp_path / "theirs.csv") in page
    assert file.card.file.sha256 in page
    assert page.count('src="data:image/jpeg') > 1, "pictures are those that the folder knows"
    weights = page.rpartition('id="weights"')[2].partition("</section>")[0]
    assert first.card.embeddings.encoder.weights_sha256 in weights
    assert "theirs" not in weights
    assert made.titles == (first.card.model, "theirs")


def test_whoever_stands_first_the_differences_only_change_their_sign(tmp_path: Path) -> None:
    first, second = hashed(tmp_path)
    file = as_a_file(second, tmp_path / "theirs.csv")
    one, other = (scored(given).differences[0]["auroc"] for given in ([first, file], [file, first]))
    assert other.value == pytest.approx(-one.value)
    assert (other.low, other.high) != (None, None)
    assert "Matched by name." in scored([file, first]).html()


def test_two_files_have_a_page_without_weights(tmp_path: Path) -> None:
    one, two = (as_a_file(p, tmp_path / f"{i}.csv", seed=i) for i, p in enumerate(several(2)))
    page = scored([one, two]).html()
    for absent in ('id="weights"', 'href="#weights"', "Preprocessing", "Not shown the same"):
        assert absent not in page
    for told in ("2 models", "A and B were read from a file", "on all rows of the file"):
        assert told in page
    assert Reader(page).unbalanced == []


def test_rows_known_by_their_numbers_alone_are_told(tmp_path: Path) -> None:
    first, second = several(2)
    one, two = (as_a_file(p, tmp_path / f"{i}.csv", named=False) for i, p in enumerate((first, second)))
    assert "The rows of A and B are known by their numbers in the file alone" in scored([one, two]).html()
    with pytest.raises(ParentsError, match="must be of the same images") as caught:
        scored([first, one])
    assert "name the column with the images' names" in str(caught.value)


def test_what_both_sides_know_must_agree(tmp_path: Path) -> None:
    first, second = hashed(tmp_path)
    file = as_a_file(second, tmp_path / "theirs.csv")
    truth = file.truth.copy()
    truth[7] = "benign" if truth[7] == "melanoma" else "melanoma"
    with pytest.raises(ParentsError, match="must agree in the truth") as caught:
        scored([first, replace(file, truth=truth)])
    assert f"{file.image[7]}: " in str(caught.value)
    patient = np.array([f"other {i}" for i in range(60)], dtype=object)
    with pytest.raises(ParentsError, match="must agree in the patient"):
        scored([first, replace(file, patient=patient)])


def test_scores_of_a_file_that_knows_no_patients_are_refused_beside_those_that_do(tmp_path: Path) -> None:
    first, second = hashed(tmp_path)
    file = as_a_file(second, tmp_path / "theirs.csv")
    scores = [evaluate(given, draws=60, progress=False, scores_only=True) for given in (first, file)]
    assert [one.unit for one in scores] == ["patient", "image"]
    with pytest.raises(ParentsError, match="the same draws of the same units") as caught:
        Report([first, file], scores, progress=False)
    assert "leave the scores out" in str(caught.value)


def test_a_file_of_several_labels_has_its_page(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((70, 2)) < 0.4
    frame = pd.DataFrame({"image": [f"{i}.jpg" for i in range(70)], "who": [f"p{i // 2}" for i in range(70)]})
    for k, name in enumerate(("ulcer", "crust")):
        frame[name] = truth[:, k].astype(int)
        frame[f"p_{name}"] = np.clip(0.3 * truth[:, k] + 0.7 * rng.random(70), 0, 1)
    path = tmp_path / "signs.csv"
    frame.to_csv(path, index=False)
    columns = FileColumns(truth=["ulcer", "crust"], proba=["p_*"], image="image", patient="who")
    given = read_predictions(path, columns)
    assert isinstance(given, MultiLabelPredictions)
    made = MultiLabelReport(given, progress=False)
    page = made.html()
    for told in (str(path), given.card.file.sha256, "column “p_crust”", "<h1>signs</h1>", "all rows of the"):
        assert told in page
    for absent in ('id="weights"', 'href="#weights"', "Preprocessing"):
        assert absent not in page
    assert Reader(page).unbalanced == []
    for name, one in made.scores.per_label.items():
        assert f"{one.scores['auroc'].value:.3f}" in page.partition(f">{name}<")[2][:600]
    out = ["--out", str(tmp_path / "signs.html"), "--quiet"]
    named = ["--truth", "ulcer,crust", "--proba", "p_*", "--image", "image", "--patient", "who"]
    run = CliRunner().invoke(app, ["report", str(path), *named, *out])
    assert run.exit_code == 0, run.output
    assert "<h1>signs</h1>" in (tmp_path / "signs.html").read_text(encoding="utf-8")
