"""The arrow: labelled images and an encoder in, a classifier out; killed, it goes on; what it is, it says."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.data.drawn import DrawnWorld
from panderm.errors import ArtifactError, DataError, LeakError, PandermWarning, ParentsError, UsageError
from panderm.finetuning import finetune as arrow
from panderm.finetuning import finished, watching
from panderm.finetuning.finished import Finetuned
from panderm.finetuning.first_head import begin_as_probe
from panderm.finetuning.rows import rows_of
from panderm.predictions import MultiLabelPredictions, Predictions
from panderm.training.long.journal import read_journal

# All that is drawn: order, rows of the sampler, views, mixes, stochastic depth; 3 steps an epoch.
ASKED: dict[str, Any] = {
    "encoder": "random-tiny",
    "image_size": 32,
    "epochs": 2,
    "batch_size": 16,
    "lr": 2e-3,
    "mixup": 0.8,
    "cutmix": 1.0,
    "smoothing": 0.1,
    "drop_path": 0.2,
    "sampler": "balanced",
    "prior_correction": True,
    "ema": 0.9,
    "draws": 50,
    "device": "cpu",
    "precision": "fp32",
}
HERE: dict[str, Any] = {"micro_batch_size": 8, "workers": 1, "progress": False}
KILLED_IN = 5  # the step
SAME = 1e-4  # of float32 sums in another order

# One process imports everything, and forks those that are killed, or share a run.
DRIVER = """
import json, os, signal, sys
import torch
import panderm
from panderm.embeddings.making.ranks import Ranks
from panderm.finetuning import finetune as arrow, finished, watching
from panderm.finetuning.learner import Classifying

torch.set_num_threads(1)
table, out, asked, port = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), sys.argv[4]
arrow.draw_sheet = lambda *_, **__: None
watching.write_png = lambda *_: None

def killed():
    loss, left = Classifying.loss, [2 * KILLED_IN]
    def stops(self, model, batch):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss(self, model, batch)
    Classifying.loss = stops
    panderm.finetune(table, out + "/killed", checkpoint_minutes=0.0, **asked)

def shares(rank):
    names = {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank}
    names |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in names.items()}
    class Page:
        def save(self, path, overwrite):
            path.write_text("")
    finished.report_of = lambda *_, **__: Page()
    panderm.finetune(table, out + "/shared", ranks=Ranks.join(), **asked)

def forked(what, *given):
    child = os.fork()
    if child:
        return child
    code = 3
    try:
        what(*given)
        code = 0
    finally:
        sys.stdout.flush()
        os._exit(code)

children = [forked(killed), forked(shares, 0), forked(shares, 1)]
print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]))
""".replace("KILLED_IN", str(KILLED_IN))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As the driver's runs have: with another number of threads sums have another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("finetuned")


@pytest.fixture(scope="module")
def driven(world: DrawnWorld, place: Path) -> subprocess.Popen[str]:
    """A run that is killed, and one of two processes, on their way."""
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    asked: dict[str, Any] = {**ASKED, **HERE, "images": str(world.images)}
    words = [sys.executable, "-c", DRIVER, str(world.csv), str(place), json.dumps(asked), str(port)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def run(world: DrawnWorld, place: Path, driven: subprocess.Popen[str]) -> Finetuned:
    """An uninterrupted run of one process, whose head is seen to begin as a probe."""
    begun: list[bool] = []

    def spied(network: Any, *given: Any, **options: Any) -> None:
        drawn = network.head.weight.clone()
        begin_as_probe(network, *given, **options)
        begun.append(not torch.equal(network.head.weight, drawn))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrow, "begin_as_probe", spied)
        done = panderm.finetune(world.csv, place / "run", images=world.images, tta="2", **ASKED, **HERE)
    assert begun == [True]
    return done


@pytest.fixture(scope="module")
def codes(driven: subprocess.Popen[str], run: Finetuned) -> list[int]:
    """How the processes ended."""
    out, error = driven.communicate(timeout=600)
    assert driven.returncode == 0, error
    return list(json.loads(out.splitlines()[-1]))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes long and is tested elsewhere: the sheet, and the page."""

    class Page:
        def save(self, path: Path, *, overwrite: bool) -> None:
            path.write_text("")

    monkeypatch.setattr(arrow, "draw_sheet", lambda *_, **__: None)
    monkeypatch.setattr(watching, "write_png", lambda *_: None)
    monkeypatch.setattr(finished, "report_of", lambda *_, **__: Page())


def lines_of(run: Path) -> list[dict[str, Any]]:
    left = ("seconds", "waited")
    return [{k: v for k, v in line.items() if k not in left} for line in read_journal(run / "journal.jsonl")]


def tensors_of(path: Path) -> dict[str, bytes]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name).numpy().tobytes() for name in file.keys()}  # noqa: SIM118


def test_it_writes_what_it_says(run: Finetuned) -> None:
    assert {path.name for path in run.folder.iterdir()} == {
        *("card.json", "journal.jsonl", "curves.png", "sample-sheet.png", "scores.json", "report.html"),
        *("classifier.safetensors", "last.safetensors", "embeddings.emb", "val.pred", "test.pred"),
        *("tta.pred", "tta.json"),
    }
    lines = lines_of(run.folder)
    steps, looks = [x for x in lines if "loss" in x], [x for x in lines if "val" in x]
    assert [line["step"] for line in steps] == [1, 2, 3, 4, 5, 6]
    assert [line["epoch"] for line in looks] == [1, 2]
    assert all(look["val"]["n"] == 10 and look["raw"]["n"] == 10 for look in looks), "each row once"
    values = [look["val"]["scores"]["auroc_ovr"]["value"] for look in looks]
    assert run.card.result is not None
    assert (run.card.result["best"], run.card.result["value"]) == (
        1 + int(values[1] > values[0]),
        max(values),
    )
    page = run.report.read_text()
    assert all(f'<h2 id="{name}">' in page for name in ("learning", "views", "fine-tuning", "scores"))


def test_the_file_says_what_the_predictions_say(run: Finetuned, world: DrawnWorld) -> None:
    classifier, made = panderm.load_classifier(run.folder), run.predictions
    assert isinstance(made, Predictions)
    assert made.validation is not None
    assert (len(made), len(made.validation), made.card.split) == (21, 10, "test")
    pixels = [
        classifier.encoder.preprocess(panderm.read_image(world.images / name)) for name in made.image[:3]
    ]
    import torch

    found = classifier.probabilities(torch.stack(pixels))
    np.testing.assert_allclose(found, made.probabilities[:3], rtol=2e-4, atol=1e-6)
    assert classifier.record.temperature == classifier.head.temperature > 0
    assert len(classifier.record.prior_shift) == 3, "what the sampler did is undone"
    assert made.probe is not None
    emb = panderm.open_embeddings(run.embeddings)
    assert len(emb) == 90
    assert emb.card.encoder.weights_sha256 == classifier.encoder.record.weights_sha256
    assert run.scores.as_dict()["n"] == 21
    assert run.tta is not None
    assert {pair.score for pair in run.tta.pairs} == {"auroc_ovr", "balanced_accuracy", "accuracy"}


def test_what_is_scored_is_the_average(run: Finetuned) -> None:
    last = lines_of(run.folder)[-1]
    assert last["val"]["scores"]["loss"] != last["raw"]["scores"]["loss"]


@pytest.mark.usefixtures("quick")
def test_killed_it_is_the_run_that_was_not(
    run: Finetuned, codes: list[int], world: DrawnWorld, place: Path
) -> None:
    """Killed in a step, by a signal that nobody hears: the same losses, scores and weights to the bit."""
    assert codes[0] == -signal.SIGKILL
    assert len([x for x in lines_of(place / "killed") if "loss" in x]) == KILLED_IN - 1
    done = panderm.finetune(world.csv, place / "killed", images=world.images, **ASKED, **HERE)
    assert lines_of(done.folder) == lines_of(run.folder)
    for name in ("last.safetensors", "classifier.safetensors"):
        assert tensors_of(done.folder / name) == tensors_of(run.folder / name)
    np.testing.assert_array_equal(done.predictions.probabilities, run.predictions.probabilities)
    again = panderm.finetune(world.csv, place / "killed", images=world.images, **ASKED, **HERE)
    assert not again.now
    with pytest.raises(ArtifactError, match="a finished run is not changed"):
        panderm.finetune(world.csv, place / "killed", images=world.images, **{**ASKED, "epochs": 3}, **HERE)


def test_two_processes_learn_as_one(run: Finetuned, codes: list[int], place: Path) -> None:
    assert codes[1:] == [0, 0]
    ours, theirs = lines_of(run.folder), lines_of(place / "shared")
    losses = [[line["loss"] for line in lines if "loss" in line] for lines in (ours, theirs)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=SAME)
    made = panderm.open_predictions(place / "shared" / "test.pred")
    assert list(made.image) == list(run.predictions.image), "no image twice, none left out"
    np.testing.assert_allclose(made.probabilities, run.predictions.probabilities, atol=0.02)


@pytest.mark.usefixtures("quick")
def test_of_two_classes_by_the_published_recipe(world: DrawnWorld, tmp_path: Path) -> None:
    """Which the published code cannot; and a run that is stopped early."""
    frame = pd.read_csv(world.csv)
    frame["binary_label"] = (frame["label"] != "nevus").astype(int)
    frame.drop(columns="label").to_csv(tmp_path / "two.csv", index=False)
    asked: dict[str, Any] = {
        "encoder": "random-tiny",
        "image_size": 32,
        "recipe": "published",
        "epochs": 3,
        "tta": "none",
    }
    asked |= {"batch_size": 16, "patience": 1, "lr": 1e-8, "draws": 50, "device": "cpu"}
    with pytest.warns(PandermWarning, match="cannot validate two classes"):
        done = panderm.finetune(tmp_path / "two.csv", tmp_path / "run", images=world.images, **asked, **HERE)
    assert done.card.result is not None
    # At this rate nothing changes: the first of equals is kept, and one more epoch is enough.
    assert (done.card.result["best"], done.card.result["stopped_early"]) == (1, True)
    assert (done.card.result["steps"], done.card.selection["score"]) == (6, "auroc")
    assert done.predictions.classes == ("0", "1")
    threshold = done.card.result["calibration"]["thresholds"]
    assert all(one["positive"] == ["1"] for one in threshold)
    assert done.card.views["rotate"] == 45
    assert "ema" not in done.card.plan


@pytest.mark.usefixtures("quick")
def test_of_several_labels_without_validation_rows(world: DrawnWorld, tmp_path: Path) -> None:
    frame = pd.read_csv(world.csv)
    frame["dark"], frame["mole"] = (frame["label"] == "melanoma").astype(int), frame["label"] == "nevus"
    frame["mole"] = frame["mole"].astype(int).astype(object)
    frame.loc[::7, "mole"] = ""
    frame[frame["split"] != "val"].to_csv(tmp_path / "signs.csv", index=False)
    asked: dict[str, Any] = {
        "encoder": "random-tiny",
        "image_size": 32,
        "epochs": 1,
        "batch_size": 16,
        "draws": 50,
    }
    asked |= {
        "class_weight": "balanced",
        "lora": None,
        "freeze": 2,
        "device": "cpu",
        "labels": ["dark", "mole"],
    }
    done = panderm.finetune(tmp_path / "signs.csv", tmp_path / "run", images=world.images, **asked, **HERE)
    made = done.predictions
    assert isinstance(made, MultiLabelPredictions)
    assert made.classes == ("dark", "mole")
    assert (made.truth == -1).any()
    assert panderm.load_classifier(done.folder).record.link == "sigmoid"
    assert done.card.network["frozen blocks"] == 2
    held = panderm.open_multi_label(done.folder / "val.pred")
    trained = done.card.rows["train"]
    assert len(held) + trained == 59
    assert any("held out" in text for text in done.card.settings["words"])
    who = frame.set_index("image")["patient_id"]
    emb = panderm.open_embeddings(done.embeddings).rows
    learned = {who[name] for name in emb.image[emb.split == "train"]}
    assert not learned & {who[name] for name in held.image}


def test_leaks_are_refused(world: DrawnWorld, tmp_path: Path) -> None:
    frame = pd.read_csv(world.csv)
    frame.loc[0, "split"] = "test"
    frame.to_csv(tmp_path / "leak.csv", index=False)
    with pytest.warns(PandermWarning, match="must not be in two splits"):
        table = panderm.read_table(tmp_path / "leak.csv", images=world.images, decode=False, progress=False)
    with pytest.raises(LeakError, match="no patient, lesion or file may stand in two splits"):
        rows_of(table)
    assert len(rows_of(table, allow_leaks=True).test) == 22


def test_a_class_that_is_never_trained_is_refused(world: DrawnWorld, tmp_path: Path) -> None:
    frame = pd.read_csv(world.csv)
    frame = frame[(frame["split"] != "train") | (frame["label"] != "melanoma")]
    frame.to_csv(tmp_path / "none.csv", index=False)
    table = panderm.read_table(tmp_path / "none.csv", images=world.images, decode=False, progress=False)
    with pytest.raises(DataError, match="every class must be among the training rows"):
        rows_of(table)


def test_a_run_goes_on_only_as_it_began(
    run: Finetuned, codes: list[int], world: DrawnWorld, place: Path
) -> None:
    card = json.loads((run.folder / "card.json").read_text())
    assert card["complete"]
    half = place / "half"
    half.mkdir()
    (half / "card.json").write_text(json.dumps(card | {"complete": False, "result": None}))
    from panderm.training.long.checkpoint import write_checkpoint

    decided = {"plan": card["plan"], "rows": card["rows"], "settings": card["recipe_settings"]}
    write_checkpoint(half, 3, {}, {"decided": decided, "stepper": {}, "journal": 0})
    with pytest.raises(ParentsError, match=r"smoothing: 0.1 before, 0.3 now"):
        panderm.finetune(world.csv, half, images=world.images, **{**ASKED, "smoothing": 0.3}, **HERE)


WRONG = {
    "no encoder": ([], "an encoder must be named"),
    "both balances": (
        ["--encoder", "random-tiny", "--sampler", "balanced", "--class-weight", "balanced"],
        "by the sampler or by the loss",
    ),
    "nothing to correct": (["--encoder", "random-tiny", "--prior-correction"], "found neither"),
    "views": (["--encoder", "random-tiny", "--tta", "3"], "--tta must be"),
    "separator": (["--encoder", "random-tiny", "--separator", ";"], "--separator must come with --labels"),
    "blocks": (["--encoder", "random-tiny", "--freeze", "99"], "must have the blocks"),
    "layer decay": (["--encoder", "random-tiny", "--layer-decay", "2"], "layer-decay must be above 0"),
    "labels": (["--encoder", "random-tiny", "--labels", "nose"], "--labels must name columns"),
    "a score of several labels": (
        ["--encoder", "random-tiny", "--labels", "event", "--monitor", "accuracy"],
        "chosen by auroc or loss",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_message(case: str, world: DrawnWorld, tmp_path: Path) -> None:
    words, told = WRONG[case]
    common = [
        str(world.csv),
        "--images",
        str(world.images),
        "--out",
        str(tmp_path / "run"),
        "--device",
        "cpu",
    ]
    done = CliRunner().invoke(app, ["finetune", *common, *words, "--quiet"])
    assert done.exit_code == 2, done.output
    assert told in done.output
    assert "Traceback" not in done.output
    assert not (tmp_path / "run").exists()


def test_a_monitor_without_its_class_is_refused_or_replaced() -> None:
    from panderm.finetuning.selection import chosen_by

    words = {"several": False, "asked": True}
    with pytest.raises(UsageError, match="needs validation rows of every class"):
        chosen_by("auroc", ("a", "b", "c"), ["c"], **words)
    score, told = chosen_by("auroc", ("a", "b", "c"), ["c"], **{**words, "asked": False})
    assert score == "loss"
    assert "no validation row shows c" in told[0]
    assert chosen_by("auroc", ("a", "b"), [], **words) == ("auroc", [])


@pytest.mark.usefixtures("quick")
def test_run_puts_it_beside_the_probe(world: DrawnWorld, tmp_path: Path) -> None:
    asked: dict[str, Any] = {
        "encoder": "random-tiny",
        "image_size": 32,
        "device": "cpu",
        "draws": 50,
        "progress": False,
    }
    done = panderm.run(
        world.csv, images=world.images, out=tmp_path / "run", finetune=True, finetune_epochs=1, **asked
    )
    assert [part.title for part in done.parts] == ["random-tiny", "random-tiny-finetuned"]
    probe, tuned = done.parts
    assert list(probe.predictions.image) == list(tuned.predictions.image)
    assert "balanced_accuracy" in done.differences[0]
    assert (tuned.folder / tuned.predictions_name).is_dir()
    assert "random-tiny-finetuned" in done.report.read_text()
    with pytest.raises(UsageError, match="must come with --finetune"):
        panderm.run(world.csv, images=world.images, out=tmp_path / "other", finetune_epochs=1, **asked)
