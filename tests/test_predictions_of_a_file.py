"""Predictions read from a CSV: the published layouts, validation rows, labels, and files that are refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.errors import PandermError, PandermWarning
from panderm.predictions import FileColumns, MultiLabelPredictions, Predictions, open_either, read_predictions
from panderm.published import write_published_csv

DX = FileColumns(truth=["dx"], proba=["p_*"])


def written(folder: Path, text: str) -> Path:
    file = folder / "preds.csv"
    file.write_text(text, encoding="utf-8")
    return file


@settings(max_examples=40, deadline=None)  # a busy machine is not a broken law
@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(1, 30))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, seed: int, K: int, n: int
) -> None:
    rng = np.random.default_rng(seed)
    p, truth = rng.dirichlet(np.ones(K), n), rng.integers(0, K, n)
    frame = pd.DataFrame(p, columns=[f"p_c{k}" for k in range(K)]).assign(dx=[f"c{k}" for k in truth])
    file = tmp_path_factory.getbasetemp() / "round.csv"
    frame.to_csv(file, index=False, sep=";")
    read = read_predictions(file, DX)
    assert isinstance(read, Predictions)
    np.testing.assert_array_equal(read.probabilities, p)
    np.testing.assert_array_equal(read.truth_codes(), truth)


@pytest.mark.parametrize("K", [2, 12])
def test_the_published_layouts_need_no_options(tmp_path: Path, K: int) -> None:
    rng = np.random.default_rng(0)
    p, truth = rng.dirichlet(np.ones(K), 40), rng.integers(0, K, 40)
    frame = pd.DataFrame({"filename": [f"{i}.jpg" for i in range(40)], "true_label": truth})
    frame["predicted_label"] = p.argmax(axis=1)
    for k in range(K) if K > 2 else [1]:
        frame[f"probability_class_{k}" if K > 2 else "probability"] = p[:, k]
    frame.to_csv(tmp_path / "ham.csv", index=False)
    read = open_either(tmp_path / "ham.csv")
    assert isinstance(read, Predictions)
    assert read.classes == tuple(str(k) for k in range(K))
    np.testing.assert_allclose(read.probabilities, p, atol=1e-12)
    np.testing.assert_array_equal(read.truth_codes(), truth)
    assert read.card.outcome == {}


def test_the_published_files_that_are_written_are_read_back(
    embeddings: panderm.Embeddings, tmp_path: Path
) -> None:
    """Without options, with the same scores: the file has no patients, so that intervals may differ."""
    made = panderm.probe(embeddings)
    scores = panderm.evaluate(made, scores_only=True, draws=20, progress=False)
    images, _ = write_published_csv(made, scores, tmp_path / "published")
    read = read_predictions(images)
    assert isinstance(read, Predictions)
    assert read.probabilities == pytest.approx(made.probabilities)
    assert (read.truth_codes() == made.truth_codes()).all()
    assert read.card.outcome == {}
    again = panderm.evaluate(read, scores_only=True, draws=20, progress=False)
    for name, score in scores.scores.items():
        assert again.scores[name].value == pytest.approx(score.value), name
    assert (again.confusion == scores.confusion).all()


def test_validation_rows_lie_beside_and_subgroups_come_from_the_file(tmp_path: Path) -> None:
    rows = [
        f"{i},{'mel' if i % 3 else 'nv'},{0.1 + i % 7 / 10:.1f},{'val' if i % 4 == 0 else 'test'},s{i % 2}"
        for i in range(80)
    ]
    file = written(tmp_path, "\n".join(["id,dx,p_mel,part,site", *rows]) + "\n")
    words = ["--truth", "dx", "--proba", "p_*", "--patient", "id", "--split-column", "part", "--by", "site"]
    done = CliRunner().invoke(app, ["evaluate", str(file), *words, "--draws", "20", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["n"] == 60
    assert [level["n"] for level in told["subgroups"]["columns"][0]["levels"]] == [20, 40]
    assert told["operating"]["n"] == 20


def test_several_columns_of_truth_are_several_labels(tmp_path: Path) -> None:
    file = written(tmp_path, "itch,hair,p_hair,p_itch\n1,0,.2,.7\n,1,.9,.4\n")
    read = read_predictions(file, FileColumns(truth=["itch", "hair"], proba=["p_*"]))
    assert isinstance(read, MultiLabelPredictions)
    assert read.truth.tolist() == [[1, 0], [-1, 1]]
    assert read.probabilities.tolist() == [[0.7, 0.2], [0.4, 0.9]]


def test_rounding_is_divided_out_and_told(tmp_path: Path) -> None:
    file = written(tmp_path, "dx,p_a,p_b,p_c\na,.333,.333,.333\n")
    with pytest.warns(PandermWarning, match="divided by their sum"):
        read = read_predictions(file, DX)
    assert read.probabilities.sum() == pytest.approx(1)
    assert read.card.outcome["rows divided by their sum"] == 1


@pytest.mark.parametrize(
    ("text", "columns", "told"),
    [
        ("", DX, "at least one row"),
        ("dx,p_a,p_b\n", DX, "at least one row"),
        ("dx,p_a,p_b\na,20,80\n", DX, "percentages"),
        ("dx,p_a,p_b\na,-3,4\n", DX, "logits"),
        ("dx,p_a,p_b\na,.5,.6\n", DX, "sum to 1"),
        ("dx,p_a,p_b\na,,1\n", DX, "must be a number"),
        ("dx,p_a,p_b\na,nan,1\n", DX, "must be a number"),
        ("dx,p_a,p_b\n,0,1\n", DX, "filled in every row"),
        ("dx,p_a,p_b\nc,0,1\n", DX, "one of the classes"),
        ("dx,q_a,q_b\na,0,1\n", DX, "one pattern with one star"),
        ("dx,p_a,p_b\na,0,1\n", None, "--truth dx"),
        ("dx,p\na,.4\nb,.6\n", FileColumns(truth=["dx"], proba=["p"]), "--classes"),
        ("dx,i,p_a,p_b\na,x,0,1\na,x,1,0\n", FileColumns(truth=["dx"], proba=["p_*"], image="i"), "once"),
        ("dx,s,p_a,p_b\na,x,0,1\n", FileColumns(truth=["dx"], proba=["p_*"], split_column="s"), "have rows"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_why(
    tmp_path: Path, text: str, columns: FileColumns | None, told: str
) -> None:
    with pytest.raises(PandermError) as error:
        read_predictions(written(tmp_path, text), columns)
    assert told in str(error.value)
    assert error.value.exit_code == 2
