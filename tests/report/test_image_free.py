"""The columns alone: the same rows, the same draws, and never a column that is the answer."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from panderm.cli import app
from panderm.data.table import TableCard
from panderm.embeddings import EmbeddingsCard, EncoderRecord
from panderm.errors import DataError, ParentsError, UsageError
from panderm.predictions import Predictions, PredictionsCard
from panderm.provenance import Provenance
from panderm.report import Report
from panderm.report.image_free import score_image_free
from panderm.scores import evaluate
from panderm.storage import sha256_of_file
from panderm.tasks.image_free import image_free, require_columns
from panderm.training.subset import take_part

N = 400
NOW = Provenance(panderm="1", command="python", created="2026-01-02T03:04:05+00:00", versions={}, machine="m")
ENCODER = EncoderRecord(
    name="eye",
    architecture="a",
    dim=4,
    weights=None,
    weights_sha256="0",
    account="",
    random=True,
    pool="cls",
    precision="fp32",
    image_size=224,
    preprocess={},
    licence="",
    citation="",
    source="",
)


def rows(seed: int = 0) -> pd.DataFrame:
    """Return a table: age and site tell a little, sex nothing, ``how`` everything for some nevi."""
    rng = np.random.default_rng(seed)
    melanoma = rng.random(N) < 0.4
    age = np.clip(rng.normal(np.where(melanoma, 62, 48), 14), 18, 95).astype(int)
    how = np.where(melanoma | (rng.random(N) < 0.4), "histology", "follow-up")
    return pd.DataFrame(
        {
            "image": [f"{i}.png" for i in range(N)],
            "split": np.where(np.arange(N) % 5 < 3, "train", "test"),
            "label": np.where(melanoma, "mel", "nv"),
            "patient_id": [f"P{i // 2 % 120}" for i in range(N)],
            "benign_malignant": np.where(melanoma, "malignant", "benign"),
            "age": [str(x) if rng.random() > 0.05 else "" for x in age],
            "sex": rng.choice(["f", "m"], N),
            "site": np.where(rng.random(N) < np.where(melanoma, 0.7, 0.4), "back", "arm"),
            "how": how,
            "width": rng.choice(["600", "1024"], N),
            "mask": [f"{i}_mask.png" for i in range(N)],
        }
    )


def predict(frame: pd.DataFrame, folder: Path, *, percent: float = 100.0, sharp: float = 2.0) -> Predictions:
    """Write the table and return predictions of its test rows, as a probe would have made them."""
    folder.mkdir(exist_ok=True)
    csv = folder / "skin.csv"
    frame.to_csv(csv, index=False)
    counts = {"train": {"mel": 1, "nv": 1}}
    roles = {"image": "image", "label": "label", "split": "split", "patient": "patient_id", "group": None}
    table = TableCard(
        name="skin",
        csv=str(csv),
        csv_sha256=sha256_of_file(csv),
        images=str(folder),
        sha256="2b" * 32,
        rows=len(frame),
        roles=roles,
        classes=("nv", "mel"),
        counts=counts,
        patients=120,
        groups=None,
    )
    embedded = EmbeddingsCard(provenance=NOW, encoder=ENCODER, table=table, rows=len(frame), complete=True)
    test = frame[frame["split"] == "test"]
    truth = (test["label"] == "mel").to_numpy()
    odds = np.random.default_rng(1).normal(size=len(test)) + sharp * truth
    melanoma = 1 / (1 + np.exp(-odds))
    card = PredictionsCard(
        provenance=NOW,
        task="linear probe",
        method={"train split": "train", "percent of training data": percent},
        outcome={},
        classes=("nv", "mel"),
        split="test",
        rows=len(test),
        embeddings=embedded,
    )
    return Predictions(
        image=test["image"].to_numpy(dtype=object),
        path=np.array([str(folder / x) for x in test["image"]], dtype=object),
        sha256=np.array(["0"] * len(test), dtype=object),
        patient=test["patient_id"].to_numpy(dtype=object),
        group=np.full(len(test), None, dtype=object),
        truth=test["label"].to_numpy(dtype=object),
        probabilities=np.column_stack([1 - melanoma, melanoma]),
        card=card,
    )


@pytest.fixture(scope="module")
def predictions(tmp_path_factory: pytest.TempPathFactory) -> Predictions:
    return predict(rows(), tmp_path_factory.mktemp("desk"))


@pytest.fixture(scope="module")
def report(predictions: Predictions) -> Report:
    return Report(predictions, evaluate(predictions, draws=200, seed=3), image_free=True)


def test_columns_are_those_that_describe_and_give_nothing_away(predictions: Predictions) -> None:
    made = image_free(predictions)
    assert made.columns == ("age", "sex", "site")
    assert made.giving_away == ("how",)
    how = made.left_out.pop("how")
    assert how.startswith("gives the answer away: ")
    assert how.endswith(" rows with follow-up")
    assert made.left_out == {
        "image": "names rows or files",
        "split": "the split",
        "label": "the label",
        "patient_id": "names rows or files",
        "benign_malignant": "another name of label: one value a class",
        "width": "measured on the image or its file",
        "mask": "names rows or files",
    }


def test_the_baseline_is_of_the_same_rows_and_knows_what_the_columns_know(predictions: Predictions) -> None:
    made = image_free(predictions)
    ours = made.predictions
    assert ours.image.tolist() == predictions.image.tolist()
    assert ours.truth.tolist() == predictions.truth.tolist()
    np.testing.assert_allclose(ours.probabilities.sum(axis=1), 1)
    frame = rows().set_index("image").loc[predictions.image]
    by_age = roc_auc_score(frame["label"] == "mel", pd.to_numeric(frame["age"]).fillna(50))
    together = roc_auc_score(ours.truth_codes(), ours.probabilities[:, 1])
    assert together > by_age > 0.65
    assert made.with_giving_away is not None
    assert roc_auc_score(ours.truth_codes(), made.with_giving_away.probabilities[:, 1]) > together + 0.05
    assert ours.card.method["train rows"] == 240
    assert ours.card.identity != predictions.card.identity


def test_the_test_rows_are_not_learned_from(tmp_path: Path) -> None:
    """The labels of the test rows are turned round: a baseline that saw them would follow."""
    frame = rows()
    turned = frame.copy()
    test = turned["split"] == "test"
    turned.loc[test, "label"] = np.where(turned.loc[test, "label"] == "mel", "nv", "mel")
    made = [
        image_free(predict(f, tmp_path / n), columns=["age", "site"])
        for f, n in ((frame, "a"), (turned, "b"))
    ]
    np.testing.assert_array_equal(made[0].predictions.probabilities, made[1].predictions.probabilities)


def test_a_part_of_the_training_rows_is_the_same_part(tmp_path: Path) -> None:
    made = image_free(predict(rows(), tmp_path, percent=30), columns=["age"])
    assert made.predictions.card.method["train rows"] == 72
    kept = take_part(np.arange(240), 0.3)
    assert kept.tolist() == sorted(pd.Series(range(240)).sample(frac=1, random_state=42)[:72])


def test_differences_are_paired_and_rest_on_the_same_draws(report: Report) -> None:
    held = report.columns_alone
    assert held is not None
    assert (held.draws, held.seed, held.unit, held.n) == (200, 3, "patient", 160)
    gain = held.gains[0]["auroc"]
    ours, base = report.scores.scores["auroc"], held.scores["auroc"]
    assert ours.value is not None
    assert base.value is not None
    assert gain.value == pytest.approx(ours.value - base.value)
    assert gain.low is not None
    assert gain.high is not None
    assert gain.low < gain.value < gain.high
    assert set(held.gains[0]) == set(report.scores.scores)


def test_the_page_says_the_sentence_and_lists_every_column(report: Report) -> None:
    page = report.html()
    assert '<h2 id="columns">The columns alone</h2>' in page
    assert "Without a look at any image, age, sex and site alone give AUROC 0." in page
    assert "The images add +0." in page
    for said in ("how: left out above, for giving the answer away", "measured on the image or its file"):
        assert said in page
    assert re.search(r"160 images of \d+ patients;\ndifferences are paired", page)
    without = Report(report.predictions, report.scores).html()
    assert "columns alone" not in without.casefold()


@pytest.mark.parametrize(
    ("sharp", "said"),
    [(-1.0, "The probe on the images gives less, −0."), (1.1, "Whether the images add anything")],
)
def test_what_the_images_add_is_said_as_it_is(tmp_path: Path, sharp: float, said: str) -> None:
    made = predict(rows(), tmp_path, sharp=sharp)
    held = score_image_free([made], columns=["age", "site"], draws=200, seed=0)
    assert said in held.sentence(["eye"])


def test_several_are_set_against_the_same_columns(predictions: Predictions, tmp_path: Path) -> None:
    other = predict(rows(), tmp_path, sharp=0.2)
    method = {**other.card.method, "recipe": "paper"}
    other = Predictions(
        **{
            **{
                name: getattr(other, name)
                for name in ("image", "path", "sha256", "patient", "group", "truth")
            },
            "probabilities": other.probabilities,
            "card": other.card.model_copy(
                update={"method": method, "embeddings": predictions.card.embeddings}
            ),
        }
    )
    both = [predictions, other]
    made = Report(both, [evaluate(one, draws=100) for one in both], image_free_columns=["age"])
    assert made.columns_alone is not None
    assert len(made.columns_alone.gains) == 2
    page = made.html()
    assert '<h2 id="columns">The columns alone</h2>' in page
    assert '<th scope="col">B − columns</th>' in page
    assert "Without a look at any image, age alone gives AUROC" in page
    assert set(made.columns_alone.as_dict(made.titles)["gains"]) == set(made.titles)


# What cannot be


def test_a_table_that_has_changed_is_refused(tmp_path: Path) -> None:
    made = predict(rows(), tmp_path)
    csv = Path(made.card.embeddings.table.csv)
    csv.write_text(csv.read_text() + "\n")
    with pytest.raises(
        ParentsError, match="needs the table that the predictions came from, as it was"
    ) as error:
        Report(made, evaluate(made, draws=10), image_free=True)
    assert "has changed: it was" in str(error.value)
    csv.unlink()
    with pytest.raises(ParentsError) as error:
        image_free(made)
    assert f"found no file {csv}" in str(error.value)


def test_the_label_under_any_name_is_refused(predictions: Predictions) -> None:
    for name, why in {
        "label": "the label",
        "split": "the split",
        "image": "the image",
        "patient_id": "the patient",
        "benign_malignant": "another name of label: one value a class",
    }.items():
        with pytest.raises(UsageError) as error:
            image_free(predictions, columns=["age", name])
        assert error.value.found == (f"{name}: {why}",)
    with pytest.raises(UsageError, match="did you mean 'site'"):
        image_free(predictions, columns=["sites"])
    with pytest.raises(UsageError, match="must name a column"):
        score_image_free([predictions], columns=[], draws=10, seed=0)


def test_a_table_without_a_column_to_use_says_why(tmp_path: Path) -> None:
    made = predict(rows()[["image", "split", "label", "patient_id", "how", "width"]], tmp_path)
    with pytest.raises(DataError, match="needs a column that describes") as error:
        require_columns(made.card.embeddings.table)
    assert any(line.startswith("how: gives the answer away") for line in error.value.found)


def test_predictions_of_another_task_are_refused(predictions: Predictions) -> None:
    card = predictions.card.model_copy(update={"method": {}, "task": "screening"})
    other = Predictions(**{**vars(predictions), "card": card})
    with pytest.raises(DataError, match="fitted on the training rows"):
        image_free(other)


# From the command line


def test_report_and_run_offer_it(world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frame = pd.read_csv(world.csv, dtype=str, keep_default_na=False)
    kept = frame.groupby(["split", "label"]).head(4)
    kept.to_csv("skin.csv", index=False)
    base = f"run skin.csv --images {world.images} --encoder random-tiny --draws 50 -q --json"
    refused = CliRunner().invoke(app, [*base.split(), "--out", "no", "--image-free-columns", "colour"])
    assert refused.exit_code == 2
    assert not Path("no").exists()
    column = "tone"
    done = CliRunner().invoke(app, [*base.split(), "--out", "all", "--image-free-columns", column])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.splitlines()[-1])["image_free"]
    assert told["columns"] == [column]
    assert told["scores"]["accuracy"]["low"] is not None
    words = f"report all/probe.pred --image-free-columns {column} --out again.html --json -q"
    again = CliRunner().invoke(app, words.split())
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["image_free"]["columns"] == [column]
    assert "The columns alone" in Path("again.html").read_text("utf-8")
    shutil.move("skin.csv", "gone.csv")
    gone = CliRunner().invoke(app, ["report", "all/probe.pred", "--image-free", "--out", "no.html"])
    assert gone.exit_code == 2
    assert "found no file" in gone.output
    assert not Path("no.html").exists()


def test_padufes_on_its_real_columns(shared: Path, tmp_path: Path) -> None:
    """Every column that was filled in for biopsied lesions only is left out of the baseline."""
    frame = pd.read_csv(shared / "data/padufes20/labels.csv", dtype=str, keep_default_na=False)
    frame = frame.assign(label=np.where(frame["diagnostic"].isin(["MEL", "BCC", "SCC"]), "mel", "nv"))
    made = image_free(predict(frame, tmp_path))
    assert {"age", "region"} <= set(made.columns)
    assert {"biopsed", "smoke", "gender"} <= set(made.giving_away)
    assert made.left_out["mask_frac"] == "measured on the image or its file"
