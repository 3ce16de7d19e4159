"""Columns beside the image: encoded by the training rows, weighed on held-out rows, never the answer."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.data.table import Table, TableCard
from panderm.embeddings import Embeddings, EmbeddingsCard, EncoderRecord
from panderm.errors import PandermWarning, ParentsError, UsageError
from panderm.predictions import Predictions
from panderm.probing.answer import predict
from panderm.probing.columns import WithColumns, weighed
from panderm.probing.inputs import Vectors, from_record
from panderm.provenance import Provenance
from panderm.report import Report
from panderm.report.several.titles import titles
from panderm.scores.with_columns import score_with_columns
from panderm.storage import sha256_of_file
from panderm.tasks.with_columns import ProbedWithColumns, folders, probe_with

N, D = 1200, 24
NOW = Provenance(panderm="1", command="python", created="2026-01-02T03:04:05+00:00", versions={}, machine="m")


def world(folder: Path, *, seed: int = 0) -> Embeddings:
    """Write a table and return embeddings of its rows, in which some of the label can be seen.

    ``age`` and ``site`` tell what the image does not; ``coin`` tells nothing; ``how`` gives the answer away.
    """
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    seen, asked = rng.normal(size=N), rng.normal(size=N)
    melanoma = 1.2 * seen + 1.2 * asked + rng.logistic(size=N) > 0.5
    label = np.where(melanoma, "mel", "nv")
    frame = pd.DataFrame(
        {
            "image": [f"{i}.png" for i in range(N)],
            "split": np.array(["train", "train", "train", "val", "test", "test"])[np.arange(N) // 4 % 6],
            "label": label,
            "patient_id": [f"P{i // 4}" for i in range(N)],
            "age": [str(round(50 + 12 * a)) if rng.random() > 0.05 else "" for a in asked],
            "site": np.where(asked + rng.normal(size=N) > 0, "back", "arm"),
            "coin": rng.choice(["a", "b", "c"], N),
            "dice": [f"{x:.3f}" for x in rng.normal(size=N)],
            "how": np.where(melanoma | (rng.random(N) < 0.4), "histology", "follow-up"),
            "diagnosis": np.where(melanoma, "malignant", "benign"),
            "note": [f"text {i}" for i in range(N)],
            "same": "x",
        }
    )
    # Three of the numbers show it, and all are small, as those of embeddings may be.
    vectors = 0.01 * rng.normal(size=(N, D)) * np.linspace(2, 0.2, D)
    vectors[:, :3] += 0.02 * seen[:, None]
    return embedded(frame, folder, vectors.astype(np.float32))


def embedded(frame: pd.DataFrame, folder: Path, vectors: Any) -> Embeddings:
    csv = folder / "skin.csv"
    frame.to_csv(csv, index=False)
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
        counts={"train": {"mel": 1, "nv": 1}},
        patients=N // 4,
        groups=None,
    )
    encoder = EncoderRecord(
        name="eye",
        architecture="a",
        dim=D,
        weights=None,
        weights_sha256="0",
        account="",
        random=False,
        pool="cls",
        precision="fp32",
        image_size=224,
        preprocess={},
        licence="",
        citation="",
        source="",
    )
    card = EmbeddingsCard(provenance=NOW, encoder=encoder, table=table, rows=len(frame), complete=True)
    columns = {name: frame[name].to_numpy(dtype=object) for name in ("image", "split", "label")}
    rows = Table(
        row=np.arange(2, len(frame) + 2),
        path=np.array([str(folder / x) for x in frame["image"]], dtype=object),
        sha256=np.array(["0"] * len(frame), dtype=object),
        patient=frame["patient_id"].to_numpy(dtype=object),
        group=np.full(len(frame), None, dtype=object),
        card=table,
        **columns,
    )
    return Embeddings(vectors, rows, card)


def changed(emb: Embeddings, folder: Path, split: str, **cells: Any) -> Embeddings:
    """Return the same embeddings of a table with other cells in one split."""
    folder.mkdir()
    frame = pd.read_csv(emb.card.table.csv, dtype=str, keep_default_na=False)
    for name, value in cells.items():
        frame.loc[frame["split"] == split, name] = value
    return embedded(frame, folder, emb.vectors.copy())


@pytest.fixture(scope="module")
def emb(tmp_path_factory: pytest.TempPathFactory) -> Embeddings:
    return world(tmp_path_factory.mktemp("desk"))


@pytest.fixture(scope="module")
def made(emb: Embeddings) -> ProbedWithColumns:
    return probe_with(emb, ["age", "site"], progress=False)


def rows_of(emb: Embeddings, split: str) -> Any:
    return np.flatnonzero(emb.rows.split == split)


def auroc(given: Predictions) -> float:
    return float(roc_auc_score(given.truth == "mel", given.probabilities[:, 1]))


# What the probe sees


def test_the_image_stays_as_it_is_and_columns_are_scaled_to_it(emb: Embeddings) -> None:
    train, test = rows_of(emb, "train"), rows_of(emb, "test")
    once = WithColumns(["site", "age"], images=Vectors()).fit(emb, train)
    thrice = WithColumns(["site", "age"], images=Vectors(), weight=3.0).fit(emb, train)
    alone = WithColumns(["site", "age"], images=None).fit(emb, train).of(emb, test)
    X = once.of(emb, test)
    assert np.array_equal(X[:, :D], emb.vectors[test])
    spread = np.sqrt(emb.vectors[train].astype(float).var(axis=0).mean())
    assert np.allclose(X[:, D:], alone * spread, rtol=1e-5)
    assert np.allclose(thrice.of(emb, test)[:, D:], 3 * X[:, D:], rtol=1e-5)
    # Embeddings in other units change nothing in how dear a column is.
    large = Embeddings(emb.vectors * 1000, emb.rows, emb.card)
    assert np.allclose(
        WithColumns(["site", "age"], images=Vectors()).fit(large, train).of(large, test), 1000 * X
    )


def test_what_is_learned_is_learned_from_training_rows(emb: Embeddings, tmp_path: Path) -> None:
    train = rows_of(emb, "train")
    before = json.dumps(WithColumns(["age", "site"], images=Vectors()).fit(emb, train).record())
    for split, same in (("test", True), ("val", True), ("train", False)):
        other = changed(emb, tmp_path / split, split, age="old", site="moon")
        other.vectors[rows_of(emb, split)] += 7 if same else 0
        after = json.dumps(WithColumns(["age", "site"], images=Vectors()).fit(other, train).record())
        assert (after == before) == same


def test_what_a_probe_saw_is_kept_with_it(emb: Embeddings, made: ProbedWithColumns, tmp_path: Path) -> None:
    made.save(tmp_path / "with.pred")
    for folder, given in zip(
        folders(tmp_path / "with.pred"), (made.images, made.columns, made.both), strict=True
    ):
        opened = panderm.open_predictions(folder)
        assert opened.card.identity == given.card.identity
        assert np.allclose(predict(opened.probe, emb, rows_of(emb, "test")), given.probabilities, atol=1e-12)
    record = json.loads(json.dumps(made.both.probe.inputs))
    again = from_record(record)
    assert isinstance(again, WithColumns)
    assert json.dumps(again.record()) == json.dumps(made.both.probe.inputs)


def test_stray_words_in_a_column_of_numbers_are_told(emb: Embeddings, tmp_path: Path) -> None:
    other = changed(emb, tmp_path / "stray", "test", age="45 to 50")
    with pytest.warns(
        PandermWarning, match="age: 400 cells of 1,200 hold no number and count as empty: 45 to 50"
    ):
        probe_with(other, ["age"], C=0.1, progress=False)


# What it is good for


def test_columns_that_tell_help_as_much_as_late_fusion(emb: Embeddings, made: ProbedWithColumns) -> None:
    """Independent given the label, images and columns are best multiplied: odds add up."""
    images, columns = (
        np.log(p.probabilities[:, 1] / p.probabilities[:, 0]) for p in (made.images, made.columns)
    )
    late = float(roc_auc_score(made.both.truth == "mel", images + columns))
    assert auroc(made.both) > max(auroc(made.images), auroc(made.columns)) + 0.04
    assert auroc(made.both) > late - 0.01
    tried = made.both.card.outcome["log loss of inputs"]
    assert list(tried) == list(weighed(["age"], Vectors()))
    assert made.both.card.outcome["inputs"] == min(tried, key=tried.__getitem__)


def test_columns_that_tell_nothing_do_little_harm(emb: Embeddings, made: ProbedWithColumns) -> None:
    noise = probe_with(emb, ["coin", "dice"], progress=False)
    assert abs(auroc(noise.columns) - 0.5) < 0.1
    assert auroc(noise.both) > auroc(noise.images) - 0.01
    assert np.array_equal(noise.images.probabilities, made.images.probabilities)


def test_the_rows_that_are_scored_have_no_say(emb: Embeddings, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    test = rows_of(emb, "test")
    cells = {"site": rng.choice(["moon", "sea"], len(test)), "label": rng.permutation(emb.rows.label[test])}
    other = changed(emb, tmp_path / "test", "test", **cells)
    other.vectors[test] += 7
    made, again = (probe_with(one, ["site"], C=0.1, progress=False) for one in (emb, other))
    for part in ("both", "images", "columns"):
        was, now = (getattr(one, part).probe.tensors() for one in (made, again))
        assert all(np.array_equal(was[name], now[name]) for name in was)
    assert made.both.card.outcome["log loss of inputs"] == again.both.card.outcome["log loss of inputs"]


def test_images_alone_are_the_probe_as_it_always_was(emb: Embeddings, made: ProbedWithColumns) -> None:
    plain = panderm.probe(emb, progress=False)
    assert plain.card.identity == made.images.card.identity
    assert np.array_equal(plain.probabilities, made.images.probabilities)
    for one in (made.both, made.columns):
        assert one.card.method["columns"] == ["age", "site"]
        assert one.card.method["train rows"] == plain.card.method["train rows"]
        assert np.array_equal(one.image, plain.image)
        assert one.card.outcome["C chosen on"] == plain.card.outcome["C chosen on"]


def test_other_probes_take_columns_too(emb: Embeddings) -> None:
    made = probe_with(emb, ["age", "site"], kind="knn", k=9, progress=False)
    assert auroc(made.both) > auroc(made.images) + 0.02


# Scored side by side


def test_differences_are_paired_and_add_up(made: ProbedWithColumns) -> None:
    told = score_with_columns(made.both, made.images, made.columns, draws=300, seed=1)
    gained, over, apart = (told.differences[f"{a} − {b}"]["auroc"] for a, b in PAIRS)
    values = {name: one.scores["auroc"].value for name, one in told.scores.items()}
    assert values["both"] == pytest.approx(auroc(made.both))
    assert gained.value == pytest.approx(values["both"] - values["images"])
    assert over.value - apart.value == pytest.approx(gained.value)
    assert 0 < gained.low < gained.value < gained.high
    # What makes a draw hard for both cancels: the interval is narrower than that of two sets of rows.
    both, images = (told.scores[name].scores["auroc"] for name in ("both", "images"))
    apart_anyhow = np.hypot(both.high - both.low, images.high - images.low)
    assert gained.high - gained.low < apart_anyhow
    none = score_with_columns(made.images, made.images, made.columns, draws=50)
    assert set(none.differences["both − images"]["auroc"].as_dict().values()) == {0.0}


PAIRS = (("both", "images"), ("both", "columns"), ("images", "columns"))


def test_the_page_says_which_is_which(made: ProbedWithColumns) -> None:
    three = [made.both, made.images, made.columns]
    called = ["images and columns", "images alone", "columns alone"]
    assert titles([one.card for one in three]) == called
    assert titles([one.card for one in reversed(three)]) == called[::-1]
    larger = made.images.card.model_copy(update={"embeddings": renamed(made.images.card.embeddings, "lens")})
    assert titles([made.both.card, made.columns.card, larger]) == ["eye and columns", "columns alone", "lens"]
    page = Report(three, [panderm.evaluate(one, draws=20) for one in three], progress=False).html()
    assert all(title in page for title in called)


def renamed(card: EmbeddingsCard, name: str) -> EmbeddingsCard:
    return card.model_copy(update={"encoder": card.encoder.model_copy(update={"name": name})})


# What is refused


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (["age", "label"], "label: the label"),
        (["split"], "split: the split"),
        (["image"], "image: the image"),
        (["patient_id"], "patient_id: the patient"),
        (["same"], "same: the same in every row"),
        (["note"], "note: names rows or files, or holds free text: nearly every cell differs"),
        (["diagnosis"], "diagnosis: another name of label: one value a class"),
        (["how"], "how: gives the answer away: "),
        ([], "found none"),
    ],
)
def test_columns_that_are_the_answer_or_describe_nothing(
    emb: Embeddings, columns: list[str], found: str
) -> None:
    with pytest.raises(UsageError, match="must name columns that describe") as error:
        probe_with(emb, columns, progress=False)
    assert len(error.value.found) == 1
    assert error.value.found[0].startswith(found)
    leaky = {"diagnosis", "how"} & set(columns)
    assert ("--allow-leaky-columns" in (error.value.hint or "")) == bool(leaky)
    if not leaky:
        with pytest.raises(UsageError):
            probe_with(emb, columns, allow_leaky_columns=True, progress=False)


def test_leaks_may_be_allowed_and_are_then_told(emb: Embeddings) -> None:
    with pytest.warns(PandermWarning, match="how: gives the answer away"):
        made = probe_with(emb, ["how", "age"], allow_leaky_columns=True, C=0.1, progress=False)
    assert list(made.leaks) == ["how"]
    assert made.both.card.method["leaky columns"] == made.leaks
    assert auroc(made.columns) > 0.85


def test_what_does_not_go_together(emb: Embeddings, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'age'"):
        probe_with(emb, ["agee"], progress=False)
    with pytest.raises(UsageError, match="--with and --kind attentive"):
        probe_with(emb, ["age"], kind="attentive", progress=False)
    gone = replace_csv(emb, tmp_path / "gone.csv")
    with pytest.raises(ParentsError, match="as it was"):
        probe_with(gone, ["age"], progress=False)


def replace_csv(emb: Embeddings, path: Path) -> Embeddings:
    table = emb.card.table.model_copy(update={"csv": str(path)})
    rows = replace(emb.rows, card=table)
    return Embeddings(emb.vectors, rows, emb.card.model_copy(update={"table": table}))


# From the command line


def test_the_verb(embeddings: Embeddings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    base = ["probe", str(embeddings.path), "--quiet", "--out", "with.pred"]
    done = CliRunner().invoke(app, [*base, "--with", "tone,site", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["columns"] == ["tone", "site"]
    assert set(told["parts"]) == set(told["scores"]) == {"both", "images", "columns"}
    assert list(told["differences"]) == [f"{a} − {b}" for a, b in PAIRS]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "with-columns.pred",
        "with-images.pred",
        "with.pred",
    ]
    shutil.rmtree("with.pred")
    refused = CliRunner().invoke(app, [*base, "--with", "tone"])
    assert refused.exit_code == 2
    assert "with-images.pred" in refused.output
    again = CliRunner().invoke(app, [*base, "--with", "tone", "site", "--overwrite"])
    assert again.exit_code == 0, again.output
    assert "both − images" in again.output
    leaky = CliRunner().invoke(app, [*base, "--with", "tone", "--with", "label", "--overwrite"])
    assert leaky.exit_code == 2
    assert "label: the label" in leaky.output
    alone = CliRunner().invoke(app, [*base, "--allow-leaky-columns", "--overwrite"])
    assert alone.exit_code == 2
    assert "--with" in alone.output
