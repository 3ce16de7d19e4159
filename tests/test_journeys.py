"""Journeys: what one verb writes the next one opens, and the ways lead to the same numbers."""

from __future__ import annotations

import csv
import difflib
import json
import math
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

import panderm
from panderm import pipeline
from panderm.cli import app
from panderm.data.drawn import DrawnWorld, draw_world
from panderm.models import load

MULTICLASS = (
    *("accuracy", "balanced_accuracy", "weighted_f1", "macro_f1", "auroc_ovo", "auroc_ovr"),
    *("average_precision", "quadratic_kappa"),
)
BINARY = tuple("auroc" if name == "auroc_ovo" else name for name in MULTICLASS if name != "auroc_ovr")
SCORES_KEYS = {
    *("scores", "per_class", "confusion_matrix", "classes", "n", "clusters", "unit", "draws", "seed"),
    *("level", "method", "interval", "stratified", "split", "predictions"),
    *("calibration", "prediction_sets", "selective", "top_k"),
}


# The real thing: another process for every verb, the encoder as it is. Starting one takes seconds, so one
# imports everything and forks the others; the last test here starts the program itself.

DRIVER = """
import json, os, sys
import torch
torch.set_num_threads(1)  # threads do not survive a fork
import panderm.pipeline, panderm.report
from panderm.cli import main

for line in sys.stdin:
    words = json.loads(line)
    if not (child := os.fork()):
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        sys.argv = ["panderm", *words]
        code = 99
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def walked(world: DrawnWorld, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run `panderm run`, then the four verbs one by one, each in its own process; return what each said."""
    desk = tmp_path_factory.mktemp("walked")
    rows = pd.read_csv(world.csv).groupby(["split", "label"]).head(5)
    rows.to_csv(desk / "skin.csv", index=False)
    table = ["skin.csv", "--images", str(world.images), "--encoder", "random-tiny"]
    said: dict[str, Any] = {"desk": desk, "rows": rows}
    verbs = (
        ["run", *table, "--out", "all", "--draws", "300", "--seed", "7"],
        ["embed", *table, "--out", "skin.emb"],
        ["probe", "skin.emb", "--out", "skin.pred", "--seed", "7"],
        ["evaluate", "skin.pred", "--out", "skin.json", "--draws", "300", "--seed", "7"],
        ["report", "skin.pred", "--scores", "skin.json", "--out", "skin.html"],
    )
    driver = [sys.executable, "-c", DRIVER]
    with subprocess.Popen(
        driver, cwd=desk, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        assert started.stdin is not None
        assert started.stdout is not None
        for words in verbs:
            print(json.dumps([*words, "--json"]), file=started.stdin, flush=True)
            assert started.stdout.readline() == "0\n", (desk / "err").read_text("utf-8")
            out = (desk / "out").read_text("utf-8")
            assert out.count("\n") == 1, "one object on one line, nothing else"
            said[words[0]] = json.loads(out)
            assert isinstance(said[words[0]], dict)
        started.stdin.close()
    return said


def test_run_says_where_everything_lies(walked: dict[str, Any]) -> None:
    said, desk = walked["run"], walked["desk"]
    assert (said["embeddings"], said["predictions"]) == ("all/embeddings.emb", "all/probe.pred")
    assert (said["scores_file"], said["report"]) == ("all/scores.json", "all/report.html")
    for name in ("embeddings", "predictions", "scores_file", "report"):
        assert (desk / said[name]).exists()
    assert (said["encoder"], said["random"]) == ("random-tiny", True)
    assert said["skipped"] == said["warnings"] == []
    assert set(said) == SCORES_KEYS | {
        *("embeddings", "scores_file", "report", "encoder", "random", "skipped", "warnings"),
    }
    assert sorted(p.name for p in (desk / "all").iterdir()) == [
        *("embeddings.emb", "probe.pred", "report.html", "scores.json"),
    ]


def test_evaluate_says_what_the_issue_lists(walked: dict[str, Any]) -> None:
    said = walked["evaluate"]
    assert set(said) == SCORES_KEYS
    assert tuple(said["scores"]) == MULTICLASS
    for score in said["scores"].values():
        if "reason" in score:
            assert (score["low"], score["high"]) == (None, None)
            continue
        assert set(score) == {"value", "low", "high"}
        assert score["low"] <= score["high"]
    assert (said["draws"], said["seed"], said["unit"], said["split"]) == (300, 7, "patient", "test")
    tested = walked["rows"][walked["rows"]["split"] == "test"]
    assert (said["n"], said["clusters"]) == (len(tested), tested["patient_id"].nunique())
    assert 1 < said["clusters"] < said["n"]
    assert said == json.loads((walked["desk"] / "skin.json").read_text("utf-8"))


def test_embed_probe_and_report_say_what_they_made(walked: dict[str, Any]) -> None:
    embed, probe = walked["embed"], walked["probe"]
    assert {k: embed[k] for k in ("embeddings", "rows", "dim", "encoder", "random")} == {
        "embeddings": "skin.emb",
        "rows": len(walked["rows"]),
        "dim": 192,
        "encoder": "random-tiny",
        "random": True,
    }
    assert (probe["predictions"], probe["rows"], probe["split"]) == (
        *("skin.pred", walked["evaluate"]["n"], "test"),
    )
    assert probe["classes"] == ["keratosis", "melanoma", "nevus"]
    assert probe["outcome"]["converged"] is True
    assert walked["report"] == {"report": "skin.html"}


def test_run_and_the_four_verbs_write_the_same(walked: dict[str, Any]) -> None:
    desk = walked["desk"]
    whole = panderm.open_embeddings(desk / "all/embeddings.emb")
    parts = panderm.open_embeddings(desk / "skin.emb")
    np.testing.assert_array_equal(whole.vectors, parts.vectors)
    assert whole.card.identity == parts.card.identity
    ours, theirs = (pq.read_table(desk / p / "predictions.parquet") for p in ("all/probe.pred", "skin.pred"))
    assert ours.equals(theirs)
    assert (desk / "all/scores.json").read_bytes() == (desk / "skin.json").read_bytes()
    pages = [(desk / p).read_text("utf-8").splitlines() for p in ("all/report.html", "skin.html")]
    differ = [
        d[1:] for d in difflib.unified_diff(*pages, lineterm="", n=0) if d[:2] not in ("--", "++", "@@")
    ]
    ran = re.compile(
        r"panderm (run|embed|probe) skin|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC|\d s<|images per second"
    )
    assert not [line for line in differ if not ran.search(line)]


def test_the_page_holds_the_numbers(walked: dict[str, Any]) -> None:
    page = (walked["desk"] / "skin.html").read_text("utf-8")
    for name, score in walked["evaluate"]["scores"].items():
        assert f"{score['value']:.3f}".replace("-", "−") in page, name
    assert "panderm embed skin.csv" in page


def test_every_artifact_remembers_the_command(walked: dict[str, Any]) -> None:
    card = json.loads((walked["desk"] / "skin.pred/card.json").read_text("utf-8"))
    made_by = "panderm probe skin.emb --out skin.pred --seed 7 --json"
    assert card["provenance"]["command"] == made_by
    assert card["embeddings"]["provenance"]["command"].startswith("panderm embed skin.csv --images ")
    assert card["embeddings"]["table"]["csv"] == str(walked["desk"] / "skin.csv")


def test_a_terminal_that_knows_no_dash(walked: dict[str, Any]) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("panderm")), "evaluate", "skin.pred"],
        cwd=walked["desk"],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"\\u2013" in done.stdout


# In this process, with an encoder that takes no time


class ColourMeans(torch.nn.Module):
    """Mean colours of an 8 × 8 grid: 192 numbers an image, as random-tiny has."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(pixels, 8).flatten(1)


def quicken(patch: pytest.MonkeyPatch, encoder: panderm.Encoder) -> None:
    """Give random-tiny a network that takes no time; everything around it stays as it is."""
    eye = panderm.Encoder(ColourMeans(), encoder.preprocess, encoder.record, encoder.account, encoder.device)
    patch.setattr(load, "load_encoder", lambda *_, **__: eye)
    patch.setattr(pipeline, "load_encoder", lambda *_, **__: eye)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, encoder: panderm.Encoder) -> None:
    quicken(monkeypatch, encoder)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None, no_figures: None) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def frame(world: DrawnWorld) -> pd.DataFrame:
    return frame_of(world)


def frame_of(world: DrawnWorld) -> pd.DataFrame:
    return pd.read_csv(world.csv, dtype=str)[["image", "split", "label", "patient_id", "lesion_id"]]


def cli(*words: str | Path) -> dict[str, Any]:
    """Run a verb with --json and return what it said."""
    result = CliRunner().invoke(app, [*map(str, words), "--json"])
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1
    return dict(json.loads(result.stdout))


def run(world: DrawnWorld, out: str, *words: str) -> dict[str, Any]:
    table = ["skin.csv", "--images", str(world.images), "--encoder", "random-tiny", "-q"]
    return cli("run", *table, "--out", out, "--draws", "200", *words)


def numbers(said: dict[str, Any]) -> dict[str, tuple[float, float, float]]:
    return {name: (s["value"], s["low"], s["high"]) for name, s in said["scores"].items()}


def held(folder: str) -> panderm.Predictions:
    return panderm.open_predictions(Path(folder) / "probe.pred")


def test_python_gives_the_numbers_of_the_command_line(
    world: DrawnWorld, desk: Path, frame: pd.DataFrame
) -> None:
    frame.to_csv("skin.csv", index=False)
    said = run(world, "all", "--seed", "3")

    table = panderm.read_table("skin.csv", images=world.images, progress=False)
    embeddings = load.load_encoder("random-tiny").embed(table, "skin.emb", progress=False)
    predictions = panderm.probe(embeddings, test="test", seed=3, out="skin.pred")
    scores = panderm.evaluate(predictions, draws=200, seed=3)
    panderm.Report(predictions, scores).save("skin.html")
    assert scores.as_dict() == {k: said[k] for k in scores.as_dict() if k != "predictions"} | {
        "predictions": predictions.card.identity
    }
    opened = panderm.evaluate("skin.pred", draws=200, seed=3)
    assert opened.as_dict() == scores.as_dict() == panderm.Scores.open("all/scores.json").as_dict()
    whole = panderm.run(
        "skin.csv",
        images=world.images,
        encoder="random-tiny",
        out="whole",
        seed=3,
        draws=200,
        progress=False,
    )
    assert whole.scores.as_dict() == scores.as_dict()
    assert whole.report.stat().st_size > 10_000
    fitted = panderm.LinearProbe(seed=3).fit(embeddings)
    np.testing.assert_allclose(
        fitted.predict_proba(embeddings)[table.split == "test"], predictions.probabilities, atol=1e-12
    )


def test_what_a_user_reads_without_json(world: DrawnWorld, desk: Path, frame: pd.DataFrame) -> None:
    frame.to_csv("skin.csv", index=False)
    words = f"run skin.csv --images {world.images} --encoder random-tiny -q --draws 200 --out all"
    result = CliRunner().invoke(app, words.split())
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["score", "value", "95", "%", "interval"]
    assert [line.split()[0] for line in lines[1:9]] == list(MULTICLASS)
    for line in lines[1:9]:
        assert re.search(r" -?\d\.\d{3}  (-?\d\.\d{3}–\d\.\d{3} *|no interval: .*)$", line)
    assert re.fullmatch(
        r"\d+ images of test; \d+ patients resampled, 200 draws, seed 0; intervals: .*", lines[9]
    )
    assert lines[10:] == [f"report: {desk / 'all/report.html'}"]
    assert result.stderr == ""


FORMS = {
    "semicolon": {"sep": ";"},
    "tab": {"sep": "\t"},
    "byte-order mark": {"encoding": "utf-8-sig"},
    "integers": {"labels": {"keratosis": "0", "melanoma": "1", "nevus": "2"}},
    "floats": {"labels": {"keratosis": "0.0", "melanoma": "1.0", "nevus": "2.0"}},
    "numbers out of order": {"labels": {"keratosis": "2", "melanoma": "10", "nevus": "100"}},
    "words with spaces": {"labels": {"keratosis": "A, b", "melanoma": "Mélanome", "nevus": "Ü <b>x</b>"}},
}


class Plain(NamedTuple):
    """What a run of the table as it is said, and its predictions."""

    said: dict[str, Any]
    predictions: panderm.Predictions


@pytest.fixture(scope="module")
def plain(world: DrawnWorld, encoder: panderm.Encoder, tmp_path_factory: pytest.TempPathFactory) -> Plain:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("plain"))
        quicken(patch, encoder)
        frame_of(world).to_csv("skin.csv", index=False)
        return Plain(run(world, "plain"), held("plain"))


@pytest.mark.parametrize("form", FORMS)
def test_a_table_in_another_form_gives_the_same_numbers(
    world: DrawnWorld, desk: Path, frame: pd.DataFrame, plain: Plain, form: str
) -> None:
    how = dict(FORMS[form])
    labels = how.pop("labels", None)
    if labels:
        frame["label"] = frame["label"].map(labels)
    frame.to_csv("skin.csv", index=False, **how)
    said = run(world, "other")
    assert numbers(said) == numbers(plain.said)
    assert said["confusion_matrix"] == plain.said["confusion_matrix"]
    np.testing.assert_array_equal(held("other").probabilities, plain.predictions.probabilities)
    if labels:
        assert said["classes"] == [label.removesuffix(".0") for label in labels.values()]
        assert "<b>x</b>" not in Path("other/report.html").read_text("utf-8")


def test_roles_by_option_and_absolute_paths(
    world: DrawnWorld, desk: Path, frame: pd.DataFrame, plain: Plain
) -> None:
    other = frame.rename(
        columns={"image": "file", "split": "fold", "label": "dx", "patient_id": "who", "lesion_id": "spot"}
    )
    other["file"] = [str(world.images / name) for name in frame["image"]]
    other["label"] = "not this one"
    other.to_csv("skin.csv", index=False)
    roles = "--image-column file --split-column fold --label dx --patient who --group spot"
    said = cli(
        *f"run skin.csv --encoder random-tiny -q --out other --draws 200 {roles}".split(),
    )
    assert numbers(said) == numbers(plain.said)
    assert held("other").image.tolist() == held("other").path.tolist()


def test_two_classes_have_one_auroc(world: DrawnWorld, desk: Path, frame: pd.DataFrame) -> None:
    frame["binary_label"] = (frame.pop("label") == "melanoma").astype(int)
    frame.to_csv("skin.csv", index=False)
    said = run(world, "all", "--published-csv", "published")
    assert tuple(said["scores"]) == BINARY
    assert said["classes"] == ["0", "1"]
    assert np.shape(said["confusion_matrix"]) == (2, 2)
    turned = run(world, "turned", "--classes", "1,0")
    assert turned["classes"] == ["1", "0"]
    # Symmetric in the two classes; average precision and the like are not.
    assert turned["scores"]["auroc"]["value"] == pytest.approx(said["scores"]["auroc"]["value"], abs=1e-9)
    per_image = pd.read_csv("published/skin.csv")
    assert list(per_image) == ["filename", "true_label", "predicted_label", "probability"]
    pred = held("all")
    np.testing.assert_allclose(per_image["probability"], pred.probabilities[:, 1], rtol=1e-12)
    assert per_image["true_label"].tolist() == [int(x) for x in pred.truth]
    assert Path("published/summary.csv").read_text().splitlines() == [
        "Dataset,W_F1,AUROC,BACC,ACC,AUPR",
        summary_line("skin", said, "auroc"),
    ]


def summary_line(name: str, said: dict[str, Any], auroc: str) -> str:
    order = ("weighted_f1", auroc, "balanced_accuracy", "accuracy", "average_precision")
    return ",".join([name, *(f"{said['scores'][score]['value']:.4f}" for score in order)])


def test_published_files(world: DrawnWorld, desk: Path, frame: pd.DataFrame) -> None:
    frame.to_csv("skin.csv", index=False)
    said = run(world, "all", "--published-csv", "published")
    per_image = pd.read_csv("published/skin.csv")
    pred = held("all")
    columns = [f"probability_class_{k}" for k in range(3)]
    assert list(per_image) == ["filename", "true_label", "predicted_label", *columns]
    assert per_image["filename"].tolist() == pred.image.tolist()
    assert per_image["true_label"].tolist() == pred.truth_codes().tolist()
    assert per_image["predicted_label"].tolist() == pred.predicted_codes().tolist()
    np.testing.assert_allclose(per_image[columns], pred.probabilities, rtol=1e-12)
    first = summary_line("skin", said, "auroc_ovo")
    header = "Dataset,W_F1,AUROC,BACC,ACC,AUPR"
    summary = Path("published/summary.csv")
    assert summary.read_text().splitlines() == [header, first]

    # Another dataset is added; the same one again replaces its own line, if asked to.
    Path("other.csv").write_text(Path("skin.csv").read_text())
    table = f"other.csv --images {world.images} --encoder random-tiny -q --draws 200"
    other = cli(*f"run {table} --recipe paper --out other --published-csv published".split())
    second = summary_line("other", other, "auroc_ovo")
    assert summary.read_text().splitlines() == [header, first, second]
    assert other["scores"] != said["scores"]
    cli("evaluate", "all/probe.pred", "--published-csv", "published", "--overwrite", "--draws", "50")
    assert sorted(summary.read_text().splitlines()[1:]) == sorted([first, second])


def test_a_class_without_test_rows_is_not_computable(
    world: DrawnWorld, desk: Path, frame: pd.DataFrame
) -> None:
    frame[(frame["split"] != "test") | (frame["label"] != "keratosis")].to_csv("skin.csv", index=False)
    said = run(world, "all", "--published-csv", "published")
    missing = {name for name, s in said["scores"].items() if s["value"] is None}
    assert "auroc_ovo" in missing
    assert "accuracy" not in missing
    for name in missing:
        score = said["scores"][name]
        assert (score["low"], score["high"]) == (None, None)
        assert "keratosis" in score["reason"]
    assert said["per_class"]["keratosis"]["sensitivity"]["value"] is None
    assert "not computable" in Path("all/report.html").read_text("utf-8")
    assert ",nan," in Path("published/summary.csv").read_text()


def test_rows_left_out_are_told_everywhere(world: DrawnWorld, desk: Path, frame: pd.DataFrame) -> None:
    frame.loc[3, "image"] = "gone.jpg"
    frame.loc[10, "label"] = ""
    Path("broken.jpg").write_bytes((world.images / frame.loc[20, "image"]).read_bytes()[:500])
    frame.loc[20, "image"] = str(desk / "broken.jpg")
    frame.to_csv("skin.csv", index=False)
    said = run(world, "all", "--skip-bad")
    skipped = said["skipped"]
    assert [bad["row"] for bad in skipped] == [5, 12, 22]
    assert [bad["reason"] for bad in skipped][:2] == ["no such file", "no label"]
    assert skipped[2]["reason"].startswith("damaged (")
    card = json.loads(Path("all/embeddings.emb/card.json").read_text("utf-8"))
    assert card["table"]["skipped"] == skipped
    assert card["rows"] == len(frame) - 3
    page = Path("all/report.html").read_text("utf-8")
    assert "3 rows of the table could not be used" in page
    for bad in skipped:
        assert bad["image"] in page
        assert bad["reason"] in page
    words = f"embed skin.csv --images {world.images} --encoder random-tiny -q --skip-bad --out skin.emb"
    result = CliRunner().invoke(app, words.split())
    assert "left out: 3 rows, listed in skin.emb/card.json" in result.stdout


@pytest.mark.parametrize(
    ("kept", "unit", "role"),
    [
        (["patient_id", "lesion_id"], "patient", "patient_id"),
        (["patient_id"], "patient", "patient_id"),
        (["lesion_id"], "lesion group", "lesion_id"),
        ([], "image", "image"),
    ],
)
def test_the_unit_resampled_is_the_largest_there_is(
    world: DrawnWorld, desk: Path, frame: pd.DataFrame, kept: list[str], unit: str, role: str
) -> None:
    frame[["image", "split", "label", *kept]].to_csv("skin.csv", index=False)
    said = run(world, "all")
    tested = frame[frame["split"] == "test"]
    assert said["unit"] == unit
    assert said["clusters"] == tested[role].nunique()
    assert said["n"] == len(tested)
    page = Path("all/report.html").read_text("utf-8")
    assert f"{said['clusters']} {unit}" in page


def test_a_patient_who_is_not_named_stands_alone(world: DrawnWorld, desk: Path, frame: pd.DataFrame) -> None:
    tested = frame.index[frame["split"] == "test"]
    frame.loc[tested[:4], "patient_id"] = ""
    frame.to_csv("skin.csv", index=False)
    said = run(world, "all")
    assert said["unit"] == "patient"
    assert said["clusters"] == frame.loc[tested[4:], "patient_id"].nunique() + 4


def test_permuted_rows_give_each_image_its_prediction(
    world: DrawnWorld, desk: Path, frame: pd.DataFrame
) -> None:
    """With a given strength; what cross-validation draws depends on the order it meets the rows in."""
    frame.to_csv("skin.csv", index=False)
    frame.sample(frac=1, random_state=5).to_csv("mixed.csv", index=False)
    found = []
    for name in ("skin", "mixed"):
        table = f"{name}.csv --images {world.images} --encoder random-tiny -q"
        cli(*f"embed {table} --out {name}.emb".split())
        cli(*f"probe {name}.emb --C 0.01 --out {name}.pred".split())
        pred = panderm.open_predictions(f"{name}.pred")
        found.append(dict(zip(pred.image, pred.probabilities, strict=True)))
    assert list(found[0]) != list(found[1])
    assert set(found[0]) == set(found[1])
    for image, probabilities in found[0].items():
        np.testing.assert_allclose(found[1][image], probabilities, atol=1e-4)


def test_the_papers_recipe_on_a_part_of_the_data(world: DrawnWorld, desk: Path, frame: pd.DataFrame) -> None:
    frame.to_csv("skin.csv", index=False)
    said = run(world, "half", "--recipe", "paper", "--percent-data", "0.5")
    card = held("half").card
    train = frame[frame["split"] == "train"]
    wanted = train.sample(frac=1, random_state=42).head(int(len(train) * 0.5))
    assert card.method["train rows"] == len(wanted)
    assert card.method["train rows per class"] == wanted["label"].value_counts().sort_index().to_dict()
    assert card.method["percent of training data"] == 50
    assert card.method["recipe"] == "paper"
    assert card.outcome["C"] == pytest.approx(192 * 3 / 100)
    assert numbers(said) != numbers(run(world, "whole", "--recipe", "paper"))
    page = " ".join(Path("half/report.html").read_text("utf-8").split())
    assert "percent of training data" in page


def test_the_strength_is_chosen_on_val_or_by_cross_validation(
    world: DrawnWorld, desk: Path, frame: pd.DataFrame
) -> None:
    frame.to_csv("skin.csv", index=False)
    run(world, "all")
    assert "cross-validation on the training rows" in held("all").card.outcome["C chosen on"]
    said = run(world, "val", "--test", "val")
    assert said["split"] == "val"
    assert said["n"] == (frame["split"] == "val").sum()


def test_run_goes_on_after_its_parts_and_keeps_embeddings_when_overwriting(
    world: DrawnWorld, desk: Path, frame: pd.DataFrame
) -> None:
    frame.to_csv("skin.csv", index=False)
    first = run(world, "all")
    [shard] = Path("all/embeddings.emb").glob("part-*.parquet")
    written = shard.stat().st_mtime_ns
    Path("all/report.html").unlink()
    assert numbers(run(world, "all")) == numbers(first)
    second = run(world, "all", "--recipe", "paper", "--overwrite")
    assert numbers(second) != numbers(first)
    assert shard.stat().st_mtime_ns == written, "the same embeddings are not made again"
    # Another question in the same folder is refused unless asked for, before anything is replaced.
    before = Path("all/probe.pred/card.json").read_bytes()
    Path("all/report.html").unlink()
    words = f"run skin.csv --images {world.images} --encoder random-tiny -q --out all"
    result = CliRunner().invoke(app, words.split())
    assert result.exit_code == 2
    assert "found all/probe.pred" in result.stderr
    assert Path("all/probe.pred/card.json").read_bytes() == before
    # A table that changed makes new embeddings.
    frame.iloc[:-1].to_csv("skin.csv", index=False)
    third = run(world, "all", "--overwrite")
    assert third["n"] in (first["n"], first["n"] - 1)
    assert len(panderm.open_embeddings("all/embeddings.emb")) == len(frame) - 1


def test_demo_twice(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "draw_world", partial(draw_world, size=(120, 90)))
    words = ["demo", "--out", "show", "--n", "60", "-q"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0
    assert "These images are drawn, not photographed" in result.stdout
    first = json.loads(Path("show/scores.json").read_text("utf-8"))
    page = Path("show/report.html").read_text("utf-8")
    assert "drawn by panderm" in page
    assert "Random encoder" in page
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    second = cli(*words, "--overwrite")
    assert second["random"] is True
    assert second["scores"] == first["scores"]
    assert not [p for p in desk.rglob("*") if p.name.endswith((".tmp", ".old"))]


def test_folders_with_spaces_and_letters_of_all_languages(
    world: DrawnWorld, tmp_path: Path, frame: pd.DataFrame, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "Müller & Söhne" / "皮肤 <b>"
    odd.mkdir(parents=True)
    monkeypatch.chdir(odd)
    frame.to_csv("skin.csv", index=False)
    said = run(world, "out put")
    assert Path(said["report"]).is_file()
    page = Path(said["report"]).read_text("utf-8")
    assert "皮肤 <b>" not in page
    assert "皮肤 &lt;b&gt;" in page


def test_no_score_is_a_bare_number(world: DrawnWorld, desk: Path, frame: pd.DataFrame) -> None:
    frame.to_csv("skin.csv", index=False)
    said = run(world, "all")
    blocks = [*said["scores"].values()]
    blocks += [c[side] for c in said["per_class"].values() for side in ("sensitivity", "specificity")]
    for block in blocks:
        assert {"value", "low", "high"} <= set(block)
        if block["low"] is None:
            assert block["reason"]
        else:
            assert all(math.isfinite(block[k]) for k in ("value", "low", "high"))
    assert all(said[k] is not None for k in ("n", "clusters", "unit", "draws", "seed"))
    with Path("skin.csv").open() as file:
        assert said["n"] == sum(row["split"] == "test" for row in csv.DictReader(file))
