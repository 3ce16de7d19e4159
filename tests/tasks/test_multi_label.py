"""Several labels an image: fitted as scikit-learn would, kept, scored, shown; refused where one is needed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.data.drawn import DrawnWorld
from panderm.data.label_cells import read_label_cells, read_label_lists
from panderm.errors import ArtifactError, DataError, TableError, UsageError
from panderm.predictions import Predictions, PredictionsCard, open_either
from panderm.published import write_published_csv
from panderm.scores import differences
from panderm.tasks.image_free import image_free
from panderm.training.multi_label import LabelledRows, fit_labels
from panderm.training.settings import ProbeSettings
from panderm.training.strength import STRENGTHS

LABELS = ("dark", "large", "<b>scaly</b>", "seldom")


@pytest.fixture(scope="module")
def labelled(
    world: DrawnWorld, encoder: panderm.Encoder, tmp_path_factory: pytest.TempPathFactory
) -> panderm.Embeddings:
    """The drawn world with columns of labels; some cells are not known, one label no training row has."""
    rng = np.random.default_rng(0)
    frame = pd.read_csv(world.csv)
    frame["dark"] = np.where(frame["label"].eq("melanoma") ^ (rng.random(len(frame)) < 0.2), "Yes", "no")
    frame["large"] = np.where(frame["area"] > frame["area"].median(), "1", "0")
    frame.loc[rng.random(len(frame)) < 0.2, "large"] = "unknown"
    frame["<b>scaly</b>"] = np.where(rng.random(len(frame)) < 0.5, "present", "")
    frame.loc[frame["<b>scaly</b>"].eq("") & (rng.random(len(frame)) < 0.7), "<b>scaly</b>"] = "absent"
    frame["seldom"] = np.where(frame["split"].eq("test") & (rng.random(len(frame)) < 0.4), "True", "False")
    frame["findings"] = [
        ";".join(n for n in ("dark", "large") if row[n] in ("Yes", "1")) for _, row in frame.iterrows()
    ]
    folder = tmp_path_factory.mktemp("labelled")
    frame.to_csv(folder / "world.csv", index=False)
    table = panderm.read_table(folder / "world.csv", images=world.images, progress=False)
    return encoder.embed(table, folder / "world.emb", progress=False)


@pytest.fixture(scope="module")
def made(labelled: panderm.Embeddings) -> panderm.MultiLabelPredictions:
    return panderm.probe_labels(labelled, LABELS)


@pytest.fixture(scope="module")
def folder(made: panderm.MultiLabelPredictions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.save(tmp_path_factory.mktemp("kept") / "several.pred")


def rows_of(n: int = 240, k: int = 3, *, seed: int = 0) -> LabelledRows:
    rng = np.random.default_rng(seed)
    world = np.random.default_rng(9)  # the same for every seed
    X = (rng.normal(size=(n, 8)) * world.gamma(1, 1, 8) + 3).astype(np.float32)
    z = (X - 3) @ world.normal(size=(8, k))
    truth = (z + 3 * rng.normal(size=(n, k)) > np.linspace(-1, 3, k)).astype(np.int8)
    truth[rng.random((n, k)) < 0.15] = -1
    images = np.array([f"{i}.jpg" for i in range(n)], dtype=object)
    return LabelledRows(X, truth, tuple("abcdefgh"[:k]), images, np.arange(n) // 2)


def by_scikit_learn(rows: LabelledRows, k: int, C: float, balanced: str | None) -> Callable[..., Any]:
    X = rows.X.astype(np.float64)
    mean = X.mean(axis=0)
    scale = np.sqrt(((X - mean) ** 2).mean())
    known = rows.truth[:, k] >= 0
    model = LogisticRegression(C=C, tol=1e-9, max_iter=5000, class_weight=balanced)
    model.fit((X[known] - mean) / scale, rows.truth[known, k])
    return lambda X: model.predict_proba((X - mean) / scale)[:, 1]


# The fit


@pytest.mark.parametrize("class_weight", ["none", "balanced"])
def test_each_label_is_scikit_learns_on_the_rows_where_it_is_known(class_weight: Any) -> None:
    rows = rows_of()
    fit = fit_labels(ProbeSettings(C=0.3, class_weight=class_weight), rows, None, method={})
    assert fit.outcome["converged"]
    assert fit.outcome["largest gradient"] < 1e-6
    ours = fit.probe.probabilities(rows.X)
    for k in range(3):
        theirs = by_scikit_learn(rows, k, 0.3, None if class_weight == "none" else class_weight)
        np.testing.assert_allclose(ours[:, k], theirs(rows.X), atol=1e-5)


def test_each_strength_is_the_best_on_the_validation_rows() -> None:
    rows, val = rows_of(n=120, k=2), rows_of(n=200, k=2, seed=1)
    chosen = fit_labels(ProbeSettings(), rows, val, method={}).outcome["C"]
    for k, label in enumerate("ab"):
        known = val.truth[:, k] >= 0
        losses = [
            log_loss(val.truth[known, k], by_scikit_learn(rows, k, C, None)(val.X[known]))
            for C in STRENGTHS[2:]
        ]
        best = STRENGTHS[2:].index(chosen[label])
        assert losses[best] == pytest.approx(min(losses), abs=1e-4), label


def test_labels_share_nothing() -> None:
    rows = rows_of()
    alone = replace(rows, truth=rows.truth[:, 1:2], labels=("b",))
    together = fit_labels(ProbeSettings(), rows, None, method={})
    by_itself = fit_labels(ProbeSettings(), alone, None, method={})
    assert together.outcome["C"]["b"] == by_itself.outcome["C"]["b"]
    one, two = together.probe.probabilities(rows.X)[:, 1], by_itself.probe.probabilities(rows.X)[:, 0]
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_no_label_that_can_be_trained_is_refused_with_counts() -> None:
    rows = rows_of()
    with pytest.raises(DataError) as raised:
        fit_labels(ProbeSettings(), replace(rows, truth=np.ones_like(rows.truth)), None, method={})
    assert "'a': present in 240 rows, absent in 0" in str(raised.value)


# The question


def test_unknown_cells_are_counted_and_one_label_is_not_trained(made: panderm.MultiLabelPredictions) -> None:
    frame = pd.read_csv(made.card.embeddings.table.csv)
    train = frame[frame["split"] == "train"]
    counts = made.card.method["train rows per label"]
    assert counts["large"].endswith(f", not known in {train['large'].eq('unknown').sum()}")
    assert set(made.card.outcome["not trained"]) == {"seldom"}
    assert made.trained.tolist() == [True, True, True, False]
    assert (made.probabilities[:, 3] == 0).all()
    test = frame[frame["split"] == "test"]
    wanted = test["<b>scaly</b>"].map({"present": 1, "absent": 0}).fillna(-1)
    np.testing.assert_array_equal(made.truth[:, 2], wanted)
    assert (made.truth[:, 2] == -1).any()


def test_the_labels_of_the_test_rows_do_not_reach_the_fit(
    labelled: panderm.Embeddings, made: panderm.MultiLabelPredictions, monkeypatch: pytest.MonkeyPatch
) -> None:
    from panderm.tasks import multi_label

    honest, test = multi_label.truth_of_labels, labelled.rows.split == "test"

    def turned(*args: Any) -> Any:
        names, truth = honest(*args)
        truth[test] = np.where(truth[test] >= 0, 1 - truth[test], -1)
        return names, truth

    monkeypatch.setattr(multi_label, "truth_of_labels", turned)
    again = panderm.probe_labels(labelled, LABELS)
    assert (again.truth != made.truth).any()
    np.testing.assert_array_equal(again.probabilities, made.probabilities)


def test_a_column_may_list_the_labels(labelled: panderm.Embeddings) -> None:
    listed = panderm.probe_labels(labelled, ["findings"], separator=";", C=1.0)
    assert listed.classes == ("dark", "large")
    frame = pd.read_csv(listed.card.embeddings.table.csv)
    np.testing.assert_array_equal(listed.truth[:, 0], frame[frame["split"] == "test"]["dark"] == "Yes")


@pytest.mark.parametrize(
    ("labels", "options", "error", "message"),
    [
        (["dark", "dark"], {}, UsageError, "each once"),
        ([], {}, UsageError, "found none"),
        (["drak"], {}, UsageError, "did you mean 'dark'"),
        (["dark", "large"], {"separator": ";"}, UsageError, "--separator must be"),
        (["site"], {}, TableError, "a label must be 1 or 0 in every row: column 'site'"),
        (["dark"], {"test": "train"}, UsageError, "must not be scored on the rows"),
        (["dark"], {"percent_data": 0.0}, UsageError, "--percent-data"),
        (["dark"], {"C": 0.0}, UsageError, "C must be greater than 0"),
        (["seldom"], {}, DataError, "rows that have it"),
    ],
)
def test_wrong_questions_are_refused(
    labelled: panderm.Embeddings, labels: list[str], options: dict[str, Any], error: type, message: str
) -> None:
    with pytest.raises(error) as raised:
        panderm.probe_labels(labelled, labels, **options)
    assert message in str(raised.value)


# The cells


def test_cells_in_all_their_spellings() -> None:
    cells = np.array(
        ["1", "1.0", "TRUE", "yes", "Present", "0", "0.0", "False", "NO", "absent", None, "UNK"], object
    )
    found = read_label_cells(cells, np.arange(12) + 2, column="itch", table="t.csv")
    assert found.tolist() == [1] * 5 + [0] * 5 + [-1] * 2
    with pytest.raises(TableError) as raised:
        read_label_cells(np.array(["1", "maybe"], object), np.array([2, 3]), column="itch", table="t.csv")
    assert "row 3: 'maybe'" in str(raised.value)
    names, truth = read_label_lists(np.array([" b ;a", None, "b;;"], object), ";")
    assert names == ("a", "b")
    assert truth.tolist() == [[1, 1], [0, 0], [0, 1]]


def test_the_clinical_columns_of_pad_ufes_20_are_read(shared: Path) -> None:
    csv = shared / "data" / "padufes20" / "labels.csv"
    if not csv.is_file():
        pytest.skip(f"{csv} is not there")
    frame = pd.read_csv(csv, dtype=str, keep_default_na=False)
    for name in ("itch", "grew", "hurt", "changed", "bleed", "elevation"):
        found = read_label_cells(frame[name].to_numpy(object), frame.index.to_numpy(), column=name, table="x")
        assert (found == 1).sum() == frame[name].eq("True").sum() > 10
        assert (found == -1).sum() == frame[name].isin(["UNK", ""]).sum()


# The folder


def test_saved_and_opened_again(made: panderm.MultiLabelPredictions, folder: Path) -> None:
    opened = panderm.open_multi_label(folder)
    np.testing.assert_array_equal(opened.truth, made.truth)
    np.testing.assert_array_equal(opened.probabilities, made.probabilities)
    assert opened.card.labels == "several"
    assert opened.card.identity == made.card.identity
    assert opened.probe is not None
    emb = panderm.open_embeddings(Path(opened.card.embeddings.table.csv).parent / "world.emb")
    test = emb.vectors[emb.rows.split == "test"]
    np.testing.assert_array_equal(opened.probe.probabilities(test), opened.probabilities)
    assert isinstance(open_either(folder), panderm.MultiLabelPredictions)
    told = pq.read_table(folder / "predictions.parquet")["truth"].to_pylist()
    assert told[0][0] in (True, False)
    assert {None} < {cell for row in told for cell in row}


@pytest.mark.parametrize("damage", ["a row less", "1.5", "nan"])
def test_a_damaged_folder_is_refused(
    made: panderm.MultiLabelPredictions, tmp_path: Path, damage: str
) -> None:
    probabilities = made.probabilities.copy()
    if damage != "a row less":
        probabilities[3, 0] = float(damage)
    kept = replace(made, probabilities=probabilities, fitted=None).save(tmp_path / "x.pred")
    if damage == "a row less":
        file = kept / "predictions.parquet"
        pq.write_table(pa.Table.from_batches(pq.read_table(file)[1:].to_batches()), file)
    with pytest.raises(ArtifactError, match="whole, every probability from 0 to 1"):
        panderm.open_multi_label(kept)


def test_predictions_of_one_class_keep_the_identity_they_had(
    labelled: panderm.Embeddings, tmp_path: Path
) -> None:
    one = panderm.probe(labelled, C=1.0)
    assert "labels" not in one.card.decisive()
    kept = one.save(tmp_path / "one.pred")
    told = json.loads((kept / "card.json").read_text())
    del told["labels"], told["fitted_on"]
    (kept / "card.json").write_text(json.dumps(told))  # as an earlier version wrote it
    assert panderm.open_predictions(kept).card.identity == one.card.identity
    with pytest.raises(ArtifactError, match="of several labels an image"):
        panderm.open_multi_label(kept)


ONE_CLASS_ONLY: dict[str, Callable[[Any, Path, Path], Any]] = {
    "open_predictions": lambda _, folder, __: panderm.open_predictions(folder),
    "Report": lambda given, *_: panderm.Report(given),
    "Report of a folder": lambda _, folder, __: panderm.Report(folder),
    "Report of two": lambda given, *_: panderm.Report([given, given]),
    "image_free": lambda given, *_: image_free(given),
    "differences": lambda given, *_: differences([given, given]),
    "published csv": lambda given, _, out: write_published_csv(given, None, out),  # type: ignore[arg-type]
    "export": lambda given, _, out: panderm.export(panderm.load_encoder("random-tiny"), out, probe=given),
}


@pytest.mark.parametrize("asks", ONE_CLASS_ONLY)
def test_who_needs_one_class_says_so_in_one_sentence(
    made: panderm.MultiLabelPredictions, folder: Path, tmp_path: Path, asks: str
) -> None:
    with pytest.raises(ArtifactError, match="this needs predictions of one class an image"):
        ONE_CLASS_ONLY[asks](made, folder, tmp_path / "out")


# The scores


def test_one_label_is_scored_as_two_classes_are(made: panderm.MultiLabelPredictions) -> None:
    k = made.classes.index("dark")
    one = replace(
        made,
        truth=made.truth[:, k : k + 1],
        probabilities=made.probabilities[:, k : k + 1],
        card=made.card.model_copy(update={"classes": ("dark",)}),
    )
    card = PredictionsCard.model_validate(
        made.card.model_dump() | {"classes": ("no", "dark"), "labels": "one"}
    )
    names = {name: getattr(made, name) for name in ("image", "path", "sha256", "patient", "group")}
    two = Predictions(
        **names,
        truth=np.array(["dark" if t else "no" for t in made.truth[:, k]], dtype=object),
        probabilities=np.stack([1 - one.probabilities[:, 0], one.probabilities[:, 0]], axis=1),
        card=card,
    )
    ours = panderm.evaluate(one, draws=200, seed=3, progress=False)
    theirs = panderm.evaluate(two, draws=200, seed=3, progress=False)
    for name in ("auroc", "average_precision"):
        for side in ("value", "low", "high"):
            wanted = getattr(theirs.scores[name], side)
            assert getattr(ours.per_label["dark"].scores[name], side) == pytest.approx(wanted, abs=1e-12)
    assert ours.per_label["dark"].scores["sensitivity"] == theirs.per_class["dark"].sensitivity
    assert ours.scores["subset_accuracy"] == theirs.scores["accuracy"]


def test_scores_are_kept_and_by_is_refused(made: panderm.MultiLabelPredictions, tmp_path: Path) -> None:
    scores = panderm.evaluate(made, draws=50, progress=False)
    kept = scores.save(tmp_path / "scores.json")
    assert panderm.MultiLabelScores.open(kept) == scores
    with pytest.raises(ArtifactError, match="must be a file that panderm wrote"):
        panderm.Scores.open(kept)
    assert scores.per_label["seldom"].scores["auroc"].value is None
    assert scores.scores["macro_auroc"].reason == "label 'seldom' was not trained"
    unknown = (made.truth[:, 1] == -1).sum()
    assert (scores.per_label["large"].n, scores.per_label["large"].unknown) == (len(made) - unknown, unknown)
    with pytest.raises(UsageError, match="one class an image"):
        panderm.evaluate(made, by=["site"])  # type: ignore[call-overload]


# The command line


def test_from_embeddings_to_a_page(labelled: panderm.Embeddings, tmp_path: Path) -> None:
    emb = Path(labelled.rows.card.csv).parent / "world.emb"
    pred, page, scores = tmp_path / "s.pred", tmp_path / "s.html", tmp_path / "s.json"

    def run(*words: object) -> dict[str, Any]:
        done = CliRunner().invoke(app, [*map(str, words), "--json"])
        assert done.exit_code == 0, done.output
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    probed = run("probe", emb, "--labels", ",".join(LABELS), "--out", pred)
    assert probed["labels"] == list(LABELS)
    told = run("evaluate", pred, "--draws", 50, "--out", scores, "-q")
    assert told == json.loads(scores.read_text())
    run("report", pred, "--scores", scores, "--out", page, "-q")
    html = page.read_text()
    assert "&lt;b&gt;scaly&lt;/b&gt;" in html
    assert "<b>scaly" not in html
    assert "label &#39;seldom&#39; was not trained" in html
    printed = CliRunner().invoke(app, ["evaluate", str(pred), "--draws", "50", "-q"])
    assert "–: label 'seldom' was not trained" in printed.output
    for wrong in (
        ["--kind", "knn"],
        ["--recipe", "paper"],
        ["--unit", "patient"],
        ["--calibrate", "temperature"],
    ):
        done = CliRunner().invoke(
            app, ["probe", str(emb), "--labels", "dark", "--out", str(tmp_path / "n"), *wrong]
        )
        assert done.exit_code == 2, wrong
        assert "do not go together" in done.output
    done = CliRunner().invoke(app, ["probe", str(emb), "--separator", ";", "--out", str(tmp_path / "n")])
    assert done.exit_code == 2
