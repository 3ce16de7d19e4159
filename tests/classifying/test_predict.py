"""New images through a probe and its encoder: numbers, decisions, sets; stops, bad files, wrong use."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import panderm
from panderm.classifying import predictor
from panderm.classifying.calibrated import decide
from panderm.classifying.journal import Journal, journal_path
from panderm.classifying.predict import predict
from panderm.classifying.predicted import Predicted, card_path
from panderm.classifying.tta import turned
from panderm.cli import app
from panderm.data.drawn import DrawnWorld
from panderm.data.left_out import as_table
from panderm.errors import ArtifactError, PandermError, ParentsError, TableError, UsageError
from panderm.fitted import FittedAttentive
from panderm.predictions import Predictions
from panderm.statistics.conformal import prediction_sets


@pytest.fixture(autouse=True)
def one_encoder(small_eye: panderm.Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Load the probe's encoder once: whether it is loaded rightly, the killed run and others see."""

    def load(name: str, **options: Any) -> panderm.Encoder:
        plain = name == "random-tiny" and options["image_size"] == 32 and options["weights"] is None
        return small_eye if plain else panderm.load_encoder(name, **options)

    monkeypatch.setattr(predictor, "load_encoder", load)


@pytest.fixture(scope="module")
def asked_csv(probed: tuple[Path, Predictions], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Names of the test rows, and nothing else."""
    path = tmp_path_factory.mktemp("asked") / "new.csv"
    path.write_text("\n".join(["image", *probed[1].image]) + "\n")
    return path


def cells(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def quiet(*args: Any, **kwargs: Any) -> Predicted:
    return predict(*args, progress=False, **kwargs)


# The numbers


def test_the_same_images_have_the_same_probabilities(
    probed: tuple[Path, Predictions], asked_csv: Path, world: DrawnWorld, tmp_path: Path
) -> None:
    folder, made = probed
    new = quiet(
        folder, asked_csv, tmp_path / "new.csv", images=world.images, at="youden", positive=["melanoma"]
    )
    assert new.image.tolist() == made.image.tolist()
    assert np.abs(new.probabilities - made.probabilities).max() < 1e-6
    rows = cells(tmp_path / "new.csv")
    written = np.array([[float(row[f"p_{name}"]) for name in made.classes] for row in rows])
    assert np.abs(written - made.probabilities).max() < 1e-6
    assert [row["predicted"] for row in rows] == [made.classes[k] for k in made.predicted_codes()]
    # What evaluate reads, once the truth is joined.
    for row, truth in zip(rows, made.truth, strict=True):
        row["truth"] = truth
    with (tmp_path / "joined.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    words = ["evaluate", str(tmp_path / "joined.csv"), "--truth", "truth", "--proba", "p_*", "--draws", "20"]
    done = CliRunner().invoke(app, [*words, "--json", "-q"])
    assert done.exit_code == 0, done.output


def test_a_decision_and_sets_rest_on_the_validation_rows(
    probed: tuple[Path, Predictions], asked_csv: Path, world: DrawnWorld
) -> None:
    folder, made = probed
    held = made.validation
    assert held is not None
    new = quiet(
        folder, asked_csv, images=world.images, at="sensitivity=0.8", positive=["melanoma"], coverage=0.6
    )
    k = made.classes.index("melanoma")
    p, is_melanoma = held.probabilities[:, k], held.truth == "melanoma"
    reached = [t for t in np.unique(p) if (p[is_melanoma] >= t).mean() >= 0.8]
    decision, sets = new.decision(), new.sets()
    assert new.card.decision[0].threshold == max(reached)
    assert decision is not None
    assert sets is not None
    wanted = np.where(new.probabilities[:, k] >= max(reached), "positive", "negative")
    assert decision.tolist() == wanted.tolist()
    by_hand = prediction_sets(held.truth_codes(), held.probabilities, new.probabilities, 0.6, by_class=False)
    assert (sets == by_hand).all()
    each = decide(held, coverage=0.6).sets[1].sets(new.probabilities)
    by_hand = prediction_sets(held.truth_codes(), held.probabilities, new.probabilities, 0.6, by_class=True)
    assert (each == by_hand).all()


def test_views_are_averaged(probed: tuple[Path, Predictions], small_eye: panderm.Encoder) -> None:
    folder, made = probed
    asked = [str(path) for path in made.path[:3]]
    new = quiet(folder, asked, tta="8", exact=True)
    assert made.probe is not None
    rgb = torch.from_numpy(
        np.stack([small_eye.preprocess.pixels(panderm.read_image(path)) for path in asked])
    )
    each = [
        made.probe.probabilities(small_eye.forward_rgb(turned(rgb, k).contiguous()).numpy()) for k in range(8)
    ]
    assert np.abs(new.probabilities - np.mean(each, axis=0)).max() < 1e-6
    assert np.abs(new.probabilities - made.probabilities[:3]).max() > 1e-3
    published = quiet(folder, asked, tta="published", positive=["melanoma"])
    assert published.card.tta == "5 random views, seed 0; mean of logits"
    assert any("several views" in note for note in published.card.notes)


def test_a_probe_of_patch_tokens_is_given_them(
    small_eye: panderm.Encoder, table: panderm.Table, tmp_path: Path
) -> None:
    some = as_table(table.select(np.arange(36)))
    emb = small_eye.embed(some, tmp_path / "tokens.emb", tokens=True, progress=False)
    mean = panderm.probe(emb, pooling="mean", C=0.1, progress=False)
    rng, D, K = np.random.default_rng(0), emb.dim, len(mean.classes)
    shapes = {"query": (2, D), "value.weight": (2, D // 2, D), "value.bias": (D,)}
    shapes |= {"output.weight": (K, D), "output.bias": (K,)}
    learned = {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    looks = FittedAttentive(classes=mean.classes, method={}, inputs={"kind": "tokens"}, learned=learned)
    tokens = emb.select(np.flatnonzero(emb.rows.split == "test")).tokens
    assert tokens is not None
    attentive = replace(mean, fitted=looks, probabilities=looks.probabilities(tokens), validation=None)
    for made in (mean, attentive):
        made.save(tmp_path / "x.pred", overwrite=True)
        asked = [str(path) for path in made.path[:4]]
        new = quiet(tmp_path / "x.pred", asked, batch_size=3)
        assert np.abs(new.probabilities - made.probabilities[:4]).max() < 1e-4  # stored tokens are halves
        with pytest.raises(UsageError, match="--tta is for probes"):
            quiet(tmp_path / "x.pred", asked, tta="2")


def test_several_labels_an_image(small_eye: panderm.Encoder, world: DrawnWorld, tmp_path: Path) -> None:
    rows = cells(world.csv)
    for i, row in enumerate(rows):
        row.update(dark=str(i % 2), round=str(int(row["label"] == "nevus")))
    with (tmp_path / "signs.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    table = panderm.read_table(tmp_path / "signs.csv", images=world.images, progress=False)
    made = panderm.probe_labels(small_eye.embed(table, progress=False), ["dark", "round"], C=0.1)
    made.save(tmp_path / "signs.pred")
    new = quiet(tmp_path / "signs.pred", [str(path) for path in made.path], tmp_path / "new.csv")
    assert np.abs(new.probabilities - made.probabilities).max() < 1e-6
    wanted = [
        "|".join(n for n, p in zip(made.classes, row, strict=True) if p >= 0.5) for row in new.probabilities
    ]
    assert [row["predicted"] for row in cells(tmp_path / "new.csv")] == wanted
    assert new.sets() is None
    with pytest.raises(UsageError, match="need validation rows"):
        quiet(tmp_path / "signs.pred", str(made.path[0]), at="youden")


# Stops, and images that cannot be read


def test_a_run_that_was_killed_ends_with_the_same_bytes(
    probed: tuple[Path, Predictions], world: DrawnWorld, tmp_path: Path
) -> None:
    whole, killed, asked = tmp_path / "whole.csv", tmp_path / "killed.csv", tmp_path / "asked.csv"
    names = sorted(str(path) for path in world.images.iterdir())[:36]
    asked.write_text("\n".join(["image", *names]) + "\n")
    quiet(probed[0], asked, whole, batch_size=4)
    code = (
        "import sys, time\n"
        "from panderm.classifying.journal import Journal\n"
        "from panderm.classifying.predict import predict\n"
        "add = Journal.add\n"
        "def slowly(self, *args):\n"
        "    add(self, *args)\n"
        "    time.sleep(0.2)\n"
        "Journal.add = slowly\n"
        "predict(*sys.argv[1:], batch_size=4, progress=False)\n"
    )
    words = [sys.executable, "-c", code, str(probed[0]), str(asked), str(killed)]
    with subprocess.Popen(words) as process:
        rows = journal_path(killed) / "rows.jsonl"
        while process.poll() is None and (not rows.is_file() or rows.read_bytes().count(b"\n") < 4):
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert not killed.exists()
    with rows.open("ab") as file:
        file.write(b'[["half a li')
    again = quiet(probed[0], asked, killed, batch_size=4)
    assert 12 <= again.resumed < len(again) == 36
    assert killed.read_bytes() == whole.read_bytes()
    assert not journal_path(killed).exists()


def test_a_run_goes_on_with_what_it_began_with(
    probed: tuple[Path, Predictions], asked_csv: Path, world: DrawnWorld, tmp_path: Path
) -> None:
    out = tmp_path / "new.csv"

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "add", stop)
        with pytest.raises(KeyboardInterrupt):
            quiet(probed[0], asked_csv, out, images=world.images)
    with pytest.raises(ParentsError, match="must go on with what it began") as caught:
        quiet(probed[0], asked_csv, out, images=world.images, tta="2")
    assert "tta: then None, now 2 views" in str(caught.value)
    quiet(probed[0], asked_csv, out, images=world.images, tta="2", overwrite=True)
    with pytest.raises(ArtifactError, match="must not exist already"):
        quiet(probed[0], asked_csv, out, images=world.images)


def test_bad_images_are_named_and_may_be_left_out(
    probed: tuple[Path, Predictions], world: DrawnWorld, tmp_path: Path
) -> None:
    folder, out = tmp_path / "new", tmp_path / "new.csv"
    (folder / "below").mkdir(parents=True)
    names = sorted(path.name for path in world.images.iterdir())[:6]
    for name in names:
        (folder / "below" / name).write_bytes((world.images / name).read_bytes())
    (folder / "notes.txt").write_text("not an image")
    Image.open(world.images / names[0]).save(folder / "damaged.png")
    content = bytearray((folder / "damaged.png").read_bytes())
    content[len(content) // 2] ^= 255  # its header and its end are whole
    (folder / "damaged.png").write_bytes(bytes(content))
    with pytest.raises(TableError) as caught:
        quiet(probed[0], folder, out, batch_size=2)
    assert "1 of 7 images is not:" in str(caught.value)
    assert "damaged.png: " in str(caught.value)
    assert "6 other images predicted and kept" in str(caught.value)
    done = quiet(probed[0], folder, out, batch_size=2, skip_bad=True)
    assert done.resumed == len(done) == 6
    (folder / "empty.jpg").write_bytes(b"")
    with pytest.raises(TableError, match="every image must be readable"):
        quiet(probed[0], folder, out, overwrite=True)
    done = quiet(probed[0], folder, out, overwrite=True, skip_bad=True)
    card = json.loads(card_path(out).read_text())
    assert [row["image"] for row in cells(out)] == [f"below/{name}" for name in names]
    assert {one["image"] for one in card["skipped"]} == {"damaged.png", "empty.jpg"}
    assert card["rows"] == len(done) == 6


def test_sources_may_be_of_several_kinds(
    probed: tuple[Path, Predictions], world: DrawnWorld, tmp_path: Path
) -> None:
    one, two = sorted(world.images.iterdir())[:2]
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / two.name).write_bytes(two.read_bytes())
    new = quiet(probed[0], [one, tmp_path / "few", one])
    assert new.image.tolist() == [one.as_posix(), (tmp_path / "few" / two.name).as_posix()]
    assert "1 file was asked for twice: predicted once" in new.card.notes


# Wrong use


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.pred", "IMAGES"], "must be a folder that panderm wrote"),
        (["none.safetensors", "IMAGES"], "a classifier's file must exist"),
        (["PRED", "nowhere"], "images must be folders, files or a CSV"),
        (["PRED", "s3://bucket/a"], "must be on this machine's disks"),
        (["PRED", "EMPTY"], "there must be an image to predict"),
        (["PRED", "IMAGES", "--images", "IMAGES"], "--images is the folder of a table's images"),
        (["PRED", "CSV", "--image-column", "img"], "column 'img' must exist; did you mean 'image'?"),
        (["PRED", "CSV"], "every image must be readable"),
        (["PRED", "IMAGES", "--at", "sens=0.9"], "--at must be an operating point"),
        (["PRED", "IMAGES", "--positive", "melanom"], "--positive must name classes"),
        (["PRED", "IMAGES", "--coverage", "90"], "--coverage must be a share"),
        (["PRED", "IMAGES", "--at", "threshold=0.3"], "needs the classes that count as positive"),
        (["PRED", "IMAGES", "--out", "new.parquet"], "predictions of new images are a CSV"),
        (["PRED", "IMAGES", "--weights", "CSV"], "takes no --weights"),
        (["FILE", "IMAGES"], "a predictor must be X.pred"),
        (["IMAGES", "IMAGES"], "a predictor must be X.pred"),
    ],
)
def test_wrong_use_is_one_message(
    words: list[str],
    said: str,
    probed: tuple[Path, Predictions],
    asked_csv: Path,
    world: DrawnWorld,
    tmp_path: Path,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "own.csv").write_text("truth,p_a,p_b\na,0.4,0.6\nb,0.3,0.7\n")
    named = {"PRED": probed[0], "IMAGES": world.images, "CSV": asked_csv, "EMPTY": tmp_path / "empty"}
    named["FILE"] = tmp_path / "own.csv"
    asked = ["predict", *(str(named.get(word, word)) for word in words)]
    if "--out" not in words:
        asked += ["--out", str(tmp_path / "new.csv")]
    done = CliRunner().invoke(app, [*asked, "-q"])
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "new.csv").exists()


def test_what_the_verb_prints(
    probed: tuple[Path, Predictions], asked_csv: Path, world: DrawnWorld, tmp_path: Path
) -> None:
    words = ["predict", str(probed[0]), str(asked_csv), "--images", str(world.images), "-q"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "a.csv"), "--positive", "melanoma"])
    assert done.exit_code == 0, done.output
    assert "decision: positive is melanoma at a probability of" in done.stdout
    assert "sets asked to hold the truth of 90% of images (one limit, by" in done.stdout
    assert "the encoder's weights are random numbers" in done.stdout
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "b.csv"), "--json"])
    told = json.loads(done.stdout)
    assert told["rows"] == len(probed[1])
    assert sum(told["predicted"].values()) == sum(told["set_sizes"].values()) == told["rows"]
    assert told["left_out"]["thresholds"] == "no class is named positive"


def test_predictions_of_several_probes_cannot_predict(
    small_embedded: panderm.Embeddings, world: DrawnWorld, tmp_path: Path
) -> None:
    panderm.cross_validate(small_embedded, folds=2, C=0.1, out=tmp_path / "folds.pred", progress=False)
    with pytest.raises(PandermError, match="must hold the probe") as caught:
        quiet(tmp_path / "folds.pred", world.images)
    assert "each fold has a probe of its own" in str(caught.value)
