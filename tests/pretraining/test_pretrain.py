"""The arrow: images and a teacher in, an encoder out; stopped, it goes on; what it is, it says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from typer.testing import CliRunner

import panderm
from panderm.cli import app
from panderm.data.drawn import DrawnWorld
from panderm.errors import ArtifactError, ParentsError
from panderm.pretraining import images as of_images
from panderm.pretraining import watching
from panderm.pretraining.aligning import Aligning
from panderm.pretraining.finished import Pretrained
from panderm.pretraining.recipe import batch_size_for, lr_for, plan_for
from panderm.pretraining.run_card import begin, held_run
from panderm.pretraining.teacher import Teacher
from panderm.training.long.journal import read_journal
from panderm.training.long.learner import Loss

IMAGES, STEPS = 8, 4
ASKED: dict[str, Any] = {
    "student": "tiny",
    "teacher": "random-tiny",
    "epochs": 2,
    "probe_every": 2,
    "batch_size": 4,
    "micro_batch_size": 2,
    "drop_path": 0.2,
    "color_jitter": 0.2,
    "device": "cpu",
    "precision": "fp32",
    "workers": 1,
    "progress": False,
}
WORDS = ["--student", "tiny", "--teacher", "random-tiny", "--epochs", "2", "--batch-size", "4"]
WORDS += ["--micro-batch-size", "2", "--drop-path", "0.2", "--color-jitter", "0.2", "--device", "cpu"]
WORDS += ["--precision", "fp32", "--workers", "1"]

# A student of four steps has learned nothing, and the alarms may say so.
pytestmark = pytest.mark.filterwarnings("ignore:epoch .*:panderm.errors.PandermWarning")


@pytest.fixture(scope="module")
def folder(world: DrawnWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images without labels."""
    made = tmp_path_factory.mktemp("mine") / "images"
    made.mkdir()
    for path in sorted(world.images.iterdir())[:IMAGES]:
        shutil.copy(path, made / path.name)
    return made


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Pretrained:
    """An uninterrupted run."""
    return panderm.pretrain(folder, tmp_path_factory.mktemp("runs") / "run", save_every=2, **ASKED)


def steps_of(run: Path) -> list[dict[str, Any]]:
    lines = [line for line in read_journal(run / "journal.jsonl") if "loss" in line]
    return [{key: value for key, value in line.items() if key not in ("seconds", "waited")} for line in lines]


def tensors_of(path: Path) -> dict[str, bytes]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name).numpy().tobytes() for name in file.keys()}  # noqa: SIM118


def test_it_writes_what_it_says(run: Pretrained) -> None:
    names = {path.name for path in run.folder.iterdir()}
    assert names == {
        *("card.json", "journal.jsonl", "checkpoint", "pictures", "epochs", "report.html"),
        *("pretrained.safetensors", "encoder.safetensors"),
    }
    assert [path.name for path in (run.folder / "epochs").iterdir()] == ["encoder-0002.safetensors"]
    lines = steps_of(run.folder)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert lines[0].keys() >= {"loss", "cls", "visible", "masked", "rate", "norm", "weight"}
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert (run.encoder.stat().st_mode & 0o077) == (run.report.stat().st_mode & 0o077), "as other files"


def test_the_parts_make_up_the_loss(run: Pretrained) -> None:
    """30 of 196 patches are masked of tiny: one mean over 197 tokens."""
    for line in steps_of(run.folder):
        whole = (line["cls"] + 166 * line["visible"] + 30 * line["masked"]) / 197
        assert line["loss"] == pytest.approx(whole, rel=1e-5)


def test_its_card_tells_the_whole_run(run: Pretrained) -> None:
    card = json.loads((run.folder / "card.json").read_text())
    assert card["complete"]
    assert card["source"]["count"] == IMAGES
    assert (card["student"]["name"], card["teacher"]["name"]) == ("tiny", "random-tiny")
    assert card["masks"] == {"kind": "block", "masked": 30, "grid": [14, 14]}
    assert (card["plan"]["batch"], card["settings"]["passes"]) == (4, 2)
    assert card["plan"]["rate"] == pytest.approx(1.5e-3 * (4 / 1920) ** 0.5)
    losses = [line["loss"] for line in steps_of(run.folder)][-2:]
    assert card["result"]["loss"] == pytest.approx(sum(losses) / 2)


def test_its_encoder_is_an_ordinary_one(run: Pretrained, table: panderm.Table) -> None:
    own, whole = panderm.load_encoder(run.encoder), panderm.load_encoder(run.whole)
    few = table.select(list(range(4)))
    vectors = own.embed(few, progress=False).vectors
    assert vectors.shape == (4, 192)
    assert (whole.embed(few, progress=False).vectors == vectors).all()
    assert own.record.name == "run"
    assert tensors_of(run.encoder) == tensors_of(run.folder / "epochs/encoder-0002.safetensors")


def test_stopped_it_is_the_run_that_was_not(
    run: Pretrained, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With stochastic depth, colours, masks and crops: weights and losses byte for byte."""
    loss, left = Aligning.loss, [6]

    def breaks(self: Aligning, model: torch.nn.Module, batch: Any) -> Loss | None:
        left[0] -= 1
        if not left[0]:
            raise OSError("the power went")
        return loss(self, model, batch)

    monkeypatch.setattr(watching, "draw_picture", lambda *_, **__: {})  # takes as long as the run
    monkeypatch.setattr(watching, "write_page", lambda _: None)
    monkeypatch.setattr(Aligning, "loss", breaks)
    with pytest.raises(OSError, match="the power went"):
        panderm.pretrain(folder, tmp_path / "run", checkpoint_minutes=0.0, save_every=2, **ASKED)
    assert not (tmp_path / "run/lock").exists()
    monkeypatch.setattr(Aligning, "loss", loss)
    done = panderm.pretrain(folder, tmp_path / "run", save_every=2, **ASKED)
    assert steps_of(done.folder) == steps_of(run.folder)
    assert tensors_of(done.whole) == tensors_of(run.whole)
    looks = [line for line in read_journal(done.folder / "journal.jsonl") if "loss" not in line]
    assert [line["epoch"] for line in looks] == [2]


def test_other_settings_and_other_images_are_refused(run: Pretrained, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    card = json.loads((tmp_path / "run/card.json").read_text()) | {"complete": False}
    (tmp_path / "run/card.json").write_text(json.dumps(card))
    fewer = tmp_path / "fewer"
    shutil.copytree(folder, fewer)
    next(iter(sorted(fewer.iterdir()))).unlink()
    other = ASKED | {"mask": "random", "seed": 3}
    with pytest.raises(ParentsError, match="must go on as it began") as caught:
        panderm.pretrain(fewer, tmp_path / "run", **other)
    told = "\n".join(caught.value.found)
    for name in (
        "seed: 0 before, 3 now",
        "masks.kind: block before, random now",
        "images.count: 8 before, 7",
    ):
        assert name in told
    assert json.loads((tmp_path / "run/card.json").read_text()) == card, "nothing was changed"


def test_a_finished_run_is_left_alone(run: Pretrained, folder: Path) -> None:
    before = (run.folder / "card.json").read_bytes()
    again = panderm.pretrain(folder, run.folder, save_every=2, **ASKED)
    assert not again.now
    with pytest.raises(ArtifactError, match="a finished run is not changed") as caught:
        panderm.pretrain(folder, run.folder, save_every=2, **(ASKED | {"epochs": 3}))
    assert caught.value.found == ("epochs: 2 before, 3 now",)
    assert (run.folder / "card.json").read_bytes() == before


def test_begun_again_nothing_of_the_old_run_is_left(run: Pretrained, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    assert held_run(tmp_path / "run", overwrite=False) == run.card
    assert held_run(tmp_path / "run", overwrite=True) is None
    begin(tmp_path / "run", run.card, None)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["card.json"]


def test_folders_of_others_are_not_replaced(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="must not exist already"):
        panderm.pretrain(folder, tmp_path, **ASKED)
    with pytest.raises(ArtifactError, match="only a folder that panderm wrote"):
        panderm.pretrain(folder, tmp_path, overwrite=True, **ASKED)


def test_the_command_line(
    run: Pretrained, folder: Path, world: DrawnWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another run's weights, with a bad image, an excluded one, fixed views and a probe.

    The second start seeks what is excluded no more, and the teacher has said all it has to say.
    """
    mine = tmp_path / "images"
    shutil.copytree(folder, mine)
    names = sorted(path.name for path in mine.iterdir())
    (mine / "bad.jpg").write_bytes(b"no image")
    (tmp_path / "not.txt").write_text(f"{names[0]}\n")
    asked: list[int] = []
    targets = Teacher.targets
    monkeypatch.setattr(Teacher, "targets", lambda self, rgb: (asked.append(len(rgb)), targets(self, rgb))[1])
    words = ["pretrain", str(mine), "--out", str(tmp_path / "run"), *WORDS, "-q", "--exclude"]
    words += [str(tmp_path / "not.txt"), "--views", "1", "--probe", str(world.csv)]
    words += ["--probe-images", str(world.images), "--probe-every", "2", "--init", str(run.whole)]
    loss = Aligning.loss
    left = [5]

    def breaks(self: Aligning, model: torch.nn.Module, batch: Any) -> Loss | None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return loss(self, model, batch)

    monkeypatch.setattr(Aligning, "loss", breaks)
    told = CliRunner().invoke(app, [*words, "--checkpoint-minutes", "0"])
    assert told.exit_code == 130
    monkeypatch.setattr(of_images, "leave_out", None)  # called, it would be an error
    asked.clear()
    told = CliRunner().invoke(app, [*words, "--json"])
    assert told.exit_code == 0, told.output
    said = json.loads(told.stdout)
    assert (said["source"]["count"], said["excluded"]["excluded"], said["bad"]) == (IMAGES, 1, 1)
    assert sum(asked) <= IMAGES, "the teacher spoke for the picture alone"
    assert (tmp_path / "run/excluded.csv").read_text().splitlines()[1].split(",")[1] == names[0]
    lines = list(read_journal(tmp_path / "run/journal.jsonl"))
    assert [name for line in lines for name, _ in line.get("unreadable", ())] == ["bad.jpg"]
    assert lines[0]["loss"] < steps_of(run.folder)[0]["loss"]
    assert json.loads((tmp_path / "run/card.json").read_text())["init"]["kind"] == "pretraining"
    probed = next(line["probe"] for line in lines if "probe" in line)
    assert probed["n"] > 0
    assert probed["linear"]["scores"].keys() == probed["knn"]["scores"].keys()
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 0
    assert "finished before" in again.stdout
    words[words.index("--views") + 1] = "2"
    other = CliRunner().invoke(app, words)
    assert other.exit_code == 2
    assert "views: 1 before, 2 now" in other.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--student", "tiny"], "a teacher must be named"),
        (["--teacher", "random-tiny", "--mask-ratio", "1"], "mask ratio"),
        (["--teacher", "random-tiny", "--fsdp"], "fsdp shares a network out"),
        (["--teacher", "random-tiny", "--student", "tiny", "--lr", "-1"], "rate -1"),
        (["--teacher", "random-tiny", "--exclude-patients", "none.txt"], "none.txt"),
    ],
)
def test_what_cannot_be_is_refused(words: list[str], message: str, folder: Path, tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["pretrain", str(folder), "--out", str(tmp_path / "run"), *words, "-q"])
    assert told.exit_code == 2, told.output
    assert message in told.stderr
    assert not (tmp_path / "run").exists(), "nothing is left of a run that never began"


def test_images_none_of_which_can_be_read_are_one_error(tmp_path: Path) -> None:
    """Before anything looks at them: an epoch of nothing has no features."""
    (tmp_path / "bad").mkdir()
    for name in ("a.jpg", "b.png"):
        (tmp_path / "bad" / name).write_text("no image")
    words = [str(tmp_path / "bad"), "--out", str(tmp_path / "run"), *WORDS, "--epochs", "1", "-q"]
    told = CliRunner().invoke(app, ["pretrain", *words])
    assert told.exit_code == 2, told.output
    assert "of 2 images none can be read" in told.stderr
    assert "a.jpg: not an image" in told.stderr


# The recipe


@pytest.mark.parametrize(
    ("images", "batch"),
    [(2_149_706, 1920), (96_000, 1920), (20_000, 384), (3_000, 32), (40, 32), (7, 7)],
)
def test_the_batch_is_the_published_one_or_leaves_fifty_steps(images: int, batch: int) -> None:
    assert batch_size_for(images) == batch


def test_the_published_run_is_the_default_of_its_images() -> None:
    """2.15 million images, 1,920 a step, 500 epochs, 20 of warm-up, 1.5e-3: about 559,500 steps."""
    plan = plan_for(
        2_149_706,
        epochs=500,
        batch_size=None,
        lr=None,
        min_lr=1e-5,
        warmup_epochs=None,
        weight_decay=0.05,
        clip_grad=3.0,
        precision="fp32",
        seed=0,
    )
    assert (plan.batch, plan.rate, plan.warm_up) == (1920, 1.5e-3, 20)
    assert (plan.steps_per_epoch, plan.steps) == (1119, 559_500)
    assert lr_for(480) == pytest.approx(7.5e-4)
