"""External validation: one table's probe on another's rows, labels matched, nothing shared."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.data.common_labels import common_labels, find_taxonomy, read_label_map
from panderm.errors import DataError, LeakError, ParentsError, TableError, UsageError
from panderm.tasks.external import probe_external
from panderm.tasks.image_free import image_free

HAM = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")


def column(*labels: str) -> np.ndarray:
    return np.array(labels, dtype=object)


def elsewhere(
    emb: panderm.Embeddings, rows: np.ndarray, names: dict[str, str] | None = None
) -> panderm.Embeddings:
    """Some rows of embeddings as another hospital would have them: other names, other words."""
    table = emb.rows.select(rows)

    def renamed(values: np.ndarray) -> np.ndarray:
        return np.array([f"there-{x}" for x in values], dtype=object)

    label = np.array([(names or {}).get(x, x) for x in table.label], dtype=object)
    columns = {name: renamed(getattr(table, name)) for name in ("image", "sha256", "patient", "group")}
    card = emb.card.table.model_copy(
        update={"name": "there", "csv": "/there/lesions.csv", "sha256": "f" * 64}
    )
    other = replace(table, **columns, label=label, card=card)
    return panderm.Embeddings(emb.vectors[rows], other, emb.card.model_copy(update={"table": card}))


@pytest.fixture(scope="module")
def there(embeddings: panderm.Embeddings) -> panderm.Embeddings:
    return elsewhere(embeddings, np.flatnonzero(embeddings.rows.split == "test"))


def test_the_same_rows_under_other_names_get_the_same_answers(
    embeddings: panderm.Embeddings, there: panderm.Embeddings, tmp_path: Path
) -> None:
    made = probe_external(embeddings, there, out=tmp_path / "ext.pred", progress=False)
    own = panderm.probe(embeddings, progress=False)
    # Products of other sizes are summed in another order.
    assert np.allclose(made.probabilities, own.probabilities, rtol=0, atol=1e-12)
    assert made.truth.tolist() == own.truth.tolist()
    opened = panderm.open_predictions(tmp_path / "ext.pred")
    assert opened.card.fitted_on.table.csv == embeddings.card.table.csv
    assert opened.card.embeddings.table.csv == "/there/lesions.csv"
    assert opened.card.identity not in (
        own.card.identity,
        probe_external(embeddings, there, seed=1).card.identity,
    )
    assert opened.probe is not None
    html = panderm.Report(opened, panderm.evaluate(opened, draws=20)).html()
    assert "The probe was fitted on" in html
    assert "Embeddings that were fitted" in html
    with pytest.raises(DataError, match="image-free baseline"):
        image_free(opened)


def test_probabilities_of_classes_that_are_one_are_summed(
    embeddings: panderm.Embeddings, there: panderm.Embeddings, tmp_path: Path
) -> None:
    words = tmp_path / "map.csv"
    words.write_text("theirs,ours\nkeratosis,keratosis\n")
    made = probe_external(
        embeddings,
        there,
        level="malignant",
        taxonomy="isic",
        test_taxonomy="isic",
        label_map=words,
        progress=False,
    )
    own = panderm.probe(embeddings, progress=False)
    place = {c: own.classes.index(c) for c in own.classes}
    assert made.classes == ("benign", "keratosis", "malignant")
    assert np.allclose(made.probabilities[:, 0], own.probabilities[:, place["nevus"]])
    assert np.allclose(made.probabilities[:, 2], own.probabilities[:, place["melanoma"]])
    found = common_labels(
        HAM, column("benign", "malignant"), level="malignant", taxonomy="ham10000", test_taxonomy="isic2020"
    )
    P = np.random.default_rng(0).dirichlet(np.ones(7), 5)
    given, none = found.probabilities(P)
    benign, malignant = P[:, [2, 3, 5, 6]].sum(axis=1), P[:, [1, 4]].sum(axis=1)
    assert np.allclose(given, np.c_[benign, malignant] / (benign + malignant)[:, None])
    assert (found.classes, found.absent, none) == (("benign", "malignant"), ("indeterminate",), 0)
    only = np.eye(7)[[0]]
    assert found.probabilities(only)[0].tolist() == [[0.5, 0.5]]


def test_classes_that_were_never_trained_are_left_out_and_counted(embeddings: panderm.Embeddings) -> None:
    rows = np.flatnonzero(embeddings.rows.split == "test")
    there = elsewhere(embeddings, rows, {"keratosis": "wart"})
    with (
        pytest.warns(panderm.PandermWarning, match="are left out, as the probe was never trained"),
        pytest.warns(panderm.PandermWarning, match="are divided by their sum"),
    ):
        made = probe_external(embeddings, there, progress=False)
    warts = int((embeddings.rows.label[rows] == "keratosis").sum())
    assert len(made) == len(rows) - warts
    assert made.classes == ("nevus", "melanoma") or made.classes == ("melanoma", "nevus")
    assert made.card.method["left out of scoring"] == {"wart": f"{warts} (never trained)"}
    assert np.allclose(made.probabilities.sum(axis=1), 1)
    with pytest.warns(panderm.PandermWarning, match="left out"):
        kept = probe_external(embeddings, there, keep_absent=True, progress=False)
    assert set(kept.classes) == set(embeddings.rows.classes)
    order = [kept.classes.index(c) for c in made.classes]
    both = kept.probabilities[:, order]
    assert np.allclose(both / both.sum(axis=1, keepdims=True), made.probabilities)


def test_one_class_only_is_predicted_and_has_no_score(embeddings: panderm.Embeddings) -> None:
    rows = np.flatnonzero((embeddings.rows.split == "test") & (embeddings.rows.label == "nevus"))
    made = probe_external(embeddings, elsewhere(embeddings, rows), progress=False)
    scores = panderm.evaluate(made, draws=20)
    assert len(made.classes) == 3
    assert scores.scores["auroc_ovo"].value is None
    assert scores.scores["accuracy"].value is not None


def test_another_encoder_is_refused_by_name(
    embeddings: panderm.Embeddings, there: panderm.Embeddings
) -> None:
    def by(**changed: object) -> panderm.Embeddings:
        record = there.card.encoder.model_copy(update=changed)
        return panderm.Embeddings(
            there.vectors, there.rows, there.card.model_copy(update={"encoder": record})
        )

    with pytest.raises(ParentsError, match="by the encoder it was fitted on") as raised:
        probe_external(embeddings, by(precision="bf16"), progress=False)
    assert raised.value.found[-1] == "they differ in: precision"
    assert probe_external(embeddings, by(weights="/elsewhere/w.pth"), progress=False)


@pytest.mark.parametrize(
    ("name", "what"), [("sha256", "image file"), ("patient", "patient"), ("group", "lesion")]
)
def test_what_both_tables_hold_is_a_finding(
    embeddings: panderm.Embeddings, there: panderm.Embeddings, name: str, what: str
) -> None:
    values = getattr(there.rows, name).copy()
    values[0] = getattr(embeddings.rows, name)[embeddings.rows.split == "train"][0]
    shared = panderm.Embeddings(there.vectors, replace(there.rows, **{name: values}), there.card)
    with pytest.raises(LeakError) as raised:
        probe_external(embeddings, shared, progress=False)
    assert raised.value.exit_code == 1
    assert f"{what}: 1 in both" in raised.value.found[1]
    assert there.rows.image[0] in raised.value.found[-1]
    made = probe_external(embeddings, shared, allow_overlap=True, progress=False)
    assert made.card.method["overlap"].startswith(f"{what}: 1 in both")


def test_no_class_in_common(embeddings: panderm.Embeddings) -> None:
    rows = np.flatnonzero(embeddings.rows.split == "test")
    there = elsewhere(embeddings, rows, {c: f"{c} x" for c in embeddings.rows.classes})
    with pytest.raises(DataError, match="a class in common") as raised:
        probe_external(embeddings, there, progress=False)
    assert "nevus" in raised.value.found[0]
    assert "nevus x" in raised.value.found[1]


def test_whose_words_labels_are() -> None:
    assert find_taxonomy(HAM, "diagnosis", "/d/ham.csv", "--taxonomy") == "ham10000"
    assert find_taxonomy(["nevus", "melanoma"], "diagnosis", "", "--taxonomy")
    with pytest.raises(UsageError, match="known dataset") as raised:
        find_taxonomy(["nevus", "sunspot"], "diagnosis", "", "--test-taxonomy")
    assert "sunspot" in raised.value.found[0]
    found = common_labels(HAM, column("nevus", "melanoma"), level="diagnosis", names=("/d/ham.csv", ""))
    assert found.classes == ("nevus", "melanoma")  # of two, the malignant one is the positive one
    pad = common_labels(HAM, column("ACK", "BCC", "MEL", "NEV", "SCC", "SEK"), level="diagnosis")
    assert pad.left_out == {"SCC": (1, "squamous cell carcinoma: never trained")}
    assert pad.absent == ("dermatofibroma", "vascular lesion")


def test_the_words_of_real_tables_are_found(shared: Path) -> None:
    def labels(file: str, name: str) -> tuple[np.ndarray, str]:
        path = shared / "data" / file
        with path.open(newline="") as opened:
            return column(*(row[name] for row in csv.DictReader(opened))), str(path)

    ham, at = labels("ham10000/ham_clean.csv", "dx")
    for file, name, left in (("isic_uda1/labels.csv", "dx", 0), ("padufes20/labels.csv", "diagnostic", 10)):
        theirs, there = labels(file, name)
        found = common_labels(sorted(set(ham)), theirs, level="diagnosis", names=(at, there))
        assert sum(n for n, _ in found.left_out.values()) == left
        assert {"nevus", "melanoma"} <= set(found.classes)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("a,nevus,x\n", "3 cells"),
        ("a,nevuss\n", "'nevuss' is no class of the probe; did you mean 'nevus'?"),
        ("theirs,ours\nc,nevus\n", "'c' is no label of the table"),
        ("a,nevus\na,melanoma\n", "'a' again"),
        ("theirs,ours\n", "no row"),
        ("", "no row"),
    ],
)
def test_a_label_map_that_is_wrong(tmp_path: Path, text: str, wrong: str) -> None:
    file = tmp_path / "map.csv"
    file.write_text(text)
    with pytest.raises(TableError) as raised:
        read_label_map(file, ["a", "b"], ["nevus", "melanoma"])
    assert any(wrong in line for line in raised.value.found)


def test_a_label_map(tmp_path: Path) -> None:
    file = tmp_path / "map.csv"
    for text in ("a,nevus\nb,\n", "\ufefflabel,class\r\na,nevus\r\nb,\r\n\r\n"):
        file.write_text(text, encoding="utf-8")
        assert read_label_map(file, ["a", "b"], ["nevus", "melanoma"]) == {"a": "nevus", "b": None}
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TableError, match="CSV of two columns"):
        read_label_map(file, ["a"], ["nevus"])


def test_the_command_line(embeddings: panderm.Embeddings, tmp_path: Path) -> None:
    folder, out = str(embeddings.path), tmp_path / "x.pred"
    ask = ["probe", folder, "--out", str(out), "-q"]
    leak = CliRunner().invoke(app, [*ask, "--test-on", folder, "--test-split", "train"])
    assert leak.exit_code == 1
    assert "rows to be scored must not be among those that are fitted" in leak.output
    assert not out.exists()
    for wrong in (
        ["--level", "malignant"],
        ["--test-on", folder, "--test-split", "tset"],
        ["--test-on", folder, "--allow-overlap", "--taxonomy", "isic"],
    ):
        assert CliRunner().invoke(app, [*ask, *wrong]).exit_code == 2
    done = CliRunner().invoke(app, [*ask, "--test-on", folder, "--test-split", "test", "--allow-overlap"])
    assert done.exit_code == 0, done.output
    assert "labels matched: by name" in done.output
