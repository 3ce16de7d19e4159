"""Label efficiency from embeddings to a folder: the right numbers, a run that goes on, parents, the page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.cli.several import _are_numbers, joined
from panderm.embeddings import Embeddings
from panderm.errors import ArtifactError, DataError, ParentsError, UsageError
from panderm.report.curve.curve import FILES
from panderm.scores.label_efficiency import LabelEfficiency, Reach
from panderm.statistics.label_efficiency import Crossing
from panderm.tasks import curve as task

FEW = {"C": 1.0, "draws": 200, "progress": False}


@pytest.fixture(scope="module")
def better(embeddings: Embeddings) -> Embeddings:
    """Embeddings of the same rows that know the classes: some noise around a place for each."""
    rng = np.random.default_rng(0)
    places = rng.normal(size=(len(embeddings.rows.classes), 8))
    X = places[embeddings.rows.codes()] + 0.7 * rng.normal(size=(len(embeddings), 8))
    encoder = embeddings.card.encoder.model_copy(update={"name": "<better>", "dim": 8})
    card = embeddings.card.model_copy(update={"encoder": encoder})
    return Embeddings(X.astype(np.float32), embeddings.rows, card)


@pytest.fixture(scope="module")
def both(
    embeddings: Embeddings, better: Embeddings, tmp_path_factory: pytest.TempPathFactory
) -> tuple[LabelEfficiency, Path]:
    out = tmp_path_factory.mktemp("curves") / "curve"
    return panderm.curve([better, embeddings], percent=[20, 50], repeats=3, out=out, **FEW), out


def test_with_all_labels_it_is_the_probe(embeddings: Embeddings, both: tuple[LabelEfficiency, Path]) -> None:
    scores = panderm.evaluate(panderm.probe(embeddings, C=1.0), draws=200)
    last = both[0].of("random-tiny")[-1]
    for name, score in scores.scores.items():
        spread = last.spreads[name]
        assert spread.mean == pytest.approx(score.value)
        # One draw of labels: all doubt is that of the test rows, on the draws of evaluate.
        interval = [np.nan if end is None else end for end in (score.low, score.high)]
        assert spread.total == pytest.approx(interval, nan_ok=True)
        assert np.isnan(spread.sd_labels)


def test_the_published_subset_is_the_published_probe(embeddings: Embeddings) -> None:
    found = panderm.curve(
        embeddings, percent=[50], published_subset=True, recipe="paper", **FEW | {"C": None}
    )
    value = panderm.evaluate(panderm.probe(embeddings, recipe="paper", percent_data=0.5), draws=1)
    assert found.points[0][0].values["accuracy"] == (value.scores["accuracy"].value,)
    assert found.repeats == 1


def test_files_hold_every_point(both: tuple[LabelEfficiency, Path], embeddings: Embeddings) -> None:
    found, out = both
    assert {path.name for path in out.iterdir()} == {*FILES, "fits"}
    points = pd.read_csv(out / "curve.csv")
    # Two encoders; 20 % and 50 % three times, all once.
    assert len(points) == 2 * 7 * len(found.points[0][0].values)
    classes = points[[f"rows of {c}" for c in found.classes]]
    assert (classes.sum(axis=1) == points["rows"]).all()
    assert (classes > 0).all(axis=None)
    summary = pd.read_csv(out / "summary.csv")
    one = summary[
        (summary.encoder == "<better>") & (summary.labels == "20 %") & (summary.score == found.score)
    ]
    values = points[
        (points.encoder == "<better>") & (points.labels == "20 %") & (points.score == found.score)
    ]["value"]
    assert one["mean"].item() == pytest.approx(values.mean(), abs=1e-6)
    assert one["sd_labels"].item() == pytest.approx(values.std(), abs=1e-6)
    card = json.loads((out / "curve.json").read_text())
    assert card["kind"] == "label efficiency"
    assert [c["encoder"]["name"] for c in card["embeddings"]] == ["<better>", "random-tiny"]
    assert card["result"]["training_rows"] == int((embeddings.rows.split == "train").sum())


def test_every_encoder_is_given_the_same_rows_and_whole_patients(
    embeddings: Embeddings, better: Embeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[tuple[str, ...]]] = {}
    real = task.answer

    def answer(emb: Embeddings, asked: object, *args: object, **kwargs: object) -> object:
        names = tuple(emb.rows.image[asked.train])  # type: ignore[attr-defined]
        seen.setdefault(emb.card.encoder.name, []).append(names)
        return real(emb, asked, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(task, "answer", answer)
    panderm.curve([embeddings, better], percent=[30], repeats=2, workers=1, **FEW)
    assert set(seen["random-tiny"]) == set(seen["<better>"])
    assert len(set(seen["random-tiny"])) == 3
    rows = embeddings.rows
    train = rows.split == "train"
    for names in seen["random-tiny"]:
        inside = np.isin(rows.image, names)
        assert not set(rows.patient[inside]) & set(rows.patient[train & ~inside])


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_and_ends_the_same(embeddings: Embeddings, tmp_path: Path) -> None:
    words = ["--percent", "20", "50", "--repeats", "6", "--C", "1", "--draws", "50", "--score", "accuracy"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "panderm", "curve", str(embeddings.path), *words, "--out", str(killed)]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        limit = time.monotonic() + 200
        while len(list(killed.glob("fits/*.safetensors"))) < 3 and time.monotonic() < limit:
            time.sleep(0.002)
    finally:
        run.kill()
        run.wait()
    kept = {path: path.stat().st_mtime_ns for path in killed.glob("fits/*.safetensors")}
    assert 3 <= len(kept) < 13
    assert not (killed / "curve.json").exists()
    asked = {"percent": [20, 50], "repeats": 6, "C": 1, "draws": 50, "score": "accuracy", "progress": False}
    again = panderm.curve(embeddings.path, out=killed, **asked)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert again.points == panderm.curve(embeddings, out=whole, **asked).points
    # No fit was asked for under another name than that under which it was kept.
    files = [sorted(path.name for path in folder.glob("fits/*.safetensors")) for folder in (killed, whole)]
    assert files[0] == files[1]
    for name in ("curve.csv", "summary.csv"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


def test_a_damaged_fit_is_made_again(
    both: tuple[LabelEfficiency, Path], tmp_path: Path, better: Embeddings
) -> None:
    asked = {"percent": [50], "repeats": 2, "out": tmp_path / "c", **FEW}
    first = panderm.curve(better, **asked)
    files = sorted((tmp_path / "c/fits").glob("*.safetensors"))
    files[0].write_bytes(files[0].read_bytes()[:-9])
    files[1].write_bytes(files[2].read_bytes())  # of another question
    assert panderm.curve(better, **asked).points == first.points


def test_other_parents_are_refused(embeddings: Embeddings, better: Embeddings, tmp_path: Path) -> None:
    out = tmp_path / "c"
    asked = {"percent": [50], "repeats": 1, "out": out, **FEW}
    panderm.curve(better, **asked)
    with pytest.raises(ParentsError, match="these embeddings") as told:
        panderm.curve(embeddings, **asked)
    assert "<better>" in str(told.value)
    with pytest.raises(ParentsError, match="recipe"):
        panderm.curve(better, recipe="paper", **asked)
    # More may come to what is there; with --overwrite something else takes its place.
    assert len(panderm.curve([better, embeddings], **asked).titles) == 2
    assert panderm.curve(embeddings, overwrite=True, **asked).titles == ("random-tiny",)
    assert len(list((out / "fits").glob("*.safetensors"))) == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").touch()
    with pytest.raises(ArtifactError, match="must be new"):
        panderm.curve(better, **asked | {"out": tmp_path / "mine", "overwrite": True})


def test_a_question_that_is_refused_leaves_and_replaces_nothing(
    embeddings: Embeddings, better: Embeddings, tmp_path: Path
) -> None:
    out = tmp_path / "c"
    fewer = better.select(np.arange(len(better) - 1))
    with pytest.raises(ParentsError, match="same table and rows"):
        panderm.curve([embeddings, fewer], out=out, **FEW)
    assert not out.exists()
    panderm.curve(better, percent=[50], repeats=1, out=out, **FEW)
    there = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    with pytest.raises(ParentsError, match="same table and rows"):
        panderm.curve([embeddings, fewer], out=out, overwrite=True, **FEW)
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == there


def test_embeddings_of_other_rows_are_refused(embeddings: Embeddings, better: Embeddings) -> None:
    fewer = better.select(np.arange(len(better) - 1))
    with pytest.raises(ParentsError, match="same table and rows"):
        panderm.curve([embeddings, fewer], **FEW)
    rows = better.rows
    other = Embeddings(better.vectors, replace(rows, split=rows.split[::-1]), better.card)
    with pytest.raises(ParentsError, match="same table and rows"):
        panderm.curve([embeddings, other], **FEW)
    with pytest.raises(UsageError, match="must differ"):
        panderm.curve([embeddings, embeddings], **FEW)


def test_a_class_of_too_few_rows_is_named(embeddings: Embeddings) -> None:
    found = panderm.curve(embeddings, shots=[1, 2, 1000], repeats=2, **FEW)
    assert [point.value for point in found.points[0]] == [1, 2, np.inf]
    assert re.search(r"class '.+' has \d+ training rows only", found.cannot[1000])
    assert [sum(found.points[0][1].classes[0].values())] == [2 * len(found.classes)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"percent": [0, 10]}, "--percent must be greater"),
        ({"percent": [101]}, "--percent must be greater"),
        ({"shots": []}, "--shots must be greater"),
        ({"repeats": 0}, "--repeats"),
        ({"score": "acuracy"}, "--score must be one"),
        ({"shots": [1], "published_subset": True}, "exclude each other"),
        ({"test": "train"}, "must not be scored on the rows"),
        ({"use_val": True, "C": None}, "--use-val needs 100 val rows"),
    ],
)
def test_a_question_that_cannot_be_asked(
    embeddings: Embeddings, options: dict[str, object], message: str
) -> None:
    with pytest.raises((UsageError, DataError), match=message):
        panderm.curve(embeddings, **FEW | options)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("a.emb --percent 1 5 10 --out c", "a.emb --percent 1,5,10 --out c"),
        ("--percent 1,5 b.emb", "--percent 1,5 b.emb"),
        ("--shots 1 2 a.emb --percent 5", "--shots 1,2 a.emb --percent 5"),
        ("--seed 3 --percent", "--seed 3 --percent"),
        ("--percent=1,5 7", "--percent=1,5 7"),
    ],
)
def test_numbers_after_an_option_are_its_own(given: str, read: str) -> None:
    assert joined(given.split(), ("--percent", "--shots"), _are_numbers) == read.split()


def test_the_command_as_the_help_shows_it(embeddings: Embeddings, tmp_path: Path) -> None:
    line = f"curve {embeddings.path} --percent 25 50 100 --repeats 2 --C 1 --draws 50 --out {tmp_path / 'c'}"
    said = CliRunner().invoke(app, line.split())
    assert said.exit_code == 0, said.output
    assert "25 %" in said.output
    assert "curve.html" in said.output
    told = CliRunner().invoke(app, [*line.split(), "--json"])
    assert [one["labels"] for one in json.loads(told.stdout)["encoders"][0]["points"]] == [
        "25 %",
        "50 %",
        "100 %",
    ]
    wrong = CliRunner().invoke(app, ["curve", str(embeddings.path), "--percent", "x", "--out", "c"])
    assert wrong.exit_code == 2
    assert "must be followed by numbers" in wrong.output


def test_the_page_asks_for_nothing_and_says_all(both: tuple[LabelEfficiency, Path]) -> None:
    found, out = both
    page = (out / "curve.html").read_text("utf-8")
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)
    assert "<script" not in page
    assert "<better>" not in page  # a name is text, never markup
    assert page.count('<svg class="strip"') == 0
    assert 'aria-labelledby="curves-title' in page
    for sentence in found.sentences():
        written = sentence.replace("<", "&lt;").replace(">", "&gt;")
        assert written.replace(" %", "\N{NO-BREAK SPACE}%") in page
    assert "drawn at random" in page


def test_what_is_said_of_each_kind_of_crossing(both: tuple[LabelEfficiency, Path]) -> None:
    found = both[0]
    first = found.points[0][0].percent

    def said(value: float, low: float, high: float, at_first: int = 0, never: int = 0) -> str:
        return found.sentence(Reach("A", "B", 0.6, Crossing(value, low, high, 100, at_first, never)))

    assert said(30, 25, 60) == (
        "A with 30 % of the labels equals B with all of them (balanced accuracy 0.600); "
        "95 % interval 25 % to 60 %."
    )
    assert "to never; in 7 of 100 draws it never does." in said(30, 25, np.inf, never=7)
    assert f"at most {first:.3g} % to 60 %" in said(30, first, 60, at_first=9)
    assert "the fewest tried, already equals B" in said(first, first, 60, at_first=80)
    assert "so it is in 80 of 100 draws" in said(first, first, 60, at_first=80)
    assert said(np.inf, 60, np.inf, never=90).startswith("A does not reach B with all labels")
    assert said(np.inf, 60, np.inf, never=90).endswith("it does in 10 of 100 draws.")
    assert "cannot be computed" in said(np.nan, np.nan, np.nan)
