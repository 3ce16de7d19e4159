"""The arrow: images with masks and an encoder in, a segmenter out; killed, it goes on."""

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
from panderm.errors import ArtifactError, DataError, LeakError, PandermError, ParentsError, UsageError
from panderm.segmenting.learning import finished, train, watching
from panderm.segmenting.learning.finished import Trained
from panderm.segmenting.learning.learner import Segmenting
from panderm.training.long.journal import read_journal

ASKED: dict[str, Any] = {
    "encoder": "random-tiny",
    "image_size": 32,
    "width": 8,
    "epochs": 2,
    "batch_size": 16,
    "lr": 2e-3,
    "boundary": 0.1,
    "finetune_encoder": True,
    "drop_path": 0.2,
    "ema": 0.9,
    "draws": 50,
    "device": "cpu",
    "precision": "fp32",
}
HERE: dict[str, Any] = {"micro_batch_size": 8, "workers": 1, "progress": False}
KILLED_IN = 5  # the step, of three an epoch
SAME = 1e-4  # of float32 sums in another order

# One process imports everything, and forks those that are killed, or share a run.
DRIVER = """
import json, os, signal, sys
import torch
import panderm
from panderm.embeddings.making.ranks import Ranks
from panderm.segmenting.learning import finished, train, watching
from panderm.segmenting.learning.learner import Segmenting

torch.set_num_threads(1)
table, out, asked, port = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), sys.argv[4]
train.draw_sheet = lambda *_, **__: None
watching.write_png = lambda *_: None
finished.write_page = lambda *_: None

def killed():
    loss, left = Segmenting.loss, [2 * KILLED_IN]
    def stops(self, model, batch):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss(self, model, batch)
    Segmenting.loss = stops
    panderm.train_segmenter(table, out + "/killed", checkpoint_minutes=0.0, **asked)

def shares(rank):
    names = {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank}
    names |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in names.items()}
    panderm.train_segmenter(table, out + "/shared", ranks=Ranks.join(), **asked)

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
    return tmp_path_factory.mktemp("segmented")


@pytest.fixture(scope="module")
def driven(world: DrawnWorld, place: Path) -> subprocess.Popen[str]:
    """A run that is killed, and one of two processes, on their way."""
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    asked: dict[str, Any] = {**ASKED, **HERE, "images": str(world.images), "masks": str(world.masks)}
    words = [sys.executable, "-c", DRIVER, str(world.csv), str(place), json.dumps(asked), str(port)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def run(world: DrawnWorld, place: Path, driven: subprocess.Popen[str]) -> Trained:
    """An uninterrupted run of one process."""
    return trained(world, place / "run")


@pytest.fixture(scope="module")
def codes(driven: subprocess.Popen[str], run: Trained) -> list[int]:
    """How the processes ended."""
    out, error = driven.communicate(timeout=600)
    assert driven.returncode == 0, error
    return list(json.loads(out.splitlines()[-1]))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes long and is tested elsewhere: the sheet, the curves and the page."""
    monkeypatch.setattr(train, "draw_sheet", lambda *_, **__: None)
    monkeypatch.setattr(watching, "write_png", lambda *_: None)
    monkeypatch.setattr(finished, "write_page", lambda *_: None)


def trained(world: DrawnWorld, out: Path, table: Path | None = None, **asked: Any) -> Trained:
    where: dict[str, Any] = {"images": world.images, "masks": world.masks}
    return panderm.train_segmenter(table or world.csv, out, **{**where, **ASKED, **HERE, **asked})


def lines_of(run: Path) -> list[dict[str, Any]]:
    left = ("seconds", "waited")
    return [{k: v for k, v in line.items() if k not in left} for line in read_journal(run / "journal.jsonl")]


def tensors_of(path: Path) -> dict[str, bytes]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name).numpy().tobytes() for name in file.keys()}  # noqa: SIM118


def test_it_writes_what_it_says(run: Trained) -> None:
    assert {path.name for path in run.folder.iterdir()} == {
        *("card.json", "journal.jsonl", "curves.png", "sample-sheet.png", "report.html"),
        *("segmenter.safetensors", "last.safetensors", "val", "test", "val.csv", "test.csv"),
        *("scores.json", "val_scores.json"),
    }
    lines = lines_of(run.folder)
    steps, looks = [x for x in lines if "loss" in x], [x for x in lines if "val" in x]
    assert len(steps) == 6
    assert {"cross_entropy", "dice", "boundary"} <= set(steps[0])
    assert [line["epoch"] for line in looks] == [1, 2]
    assert all(look["val"]["side"] == 32 and look["val"] != look["raw"] for look in looks), "of the average"
    values = [look["val"]["scores"]["jaccard"]["value"] for look in looks]
    assert run.card.result is not None
    assert (run.card.result["best"], run.card.result["value"]) == (
        1 + int(values[1] > values[0]),
        max(values),
    )
    page = run.report.read_text()
    for name in ("masks-scores", "masks-seen", "val", "learning", "training"):
        assert f'<h2 id="{name}">' in page, name
    assert "Random encoder" in page


def test_scores_are_of_the_masks_at_native_size(run: Trained, world: DrawnWorld) -> None:
    """The masks lie beside; who scores them with the verb of scoring gets the same numbers."""
    masks = panderm.read_masks(run.masks_table, progress=False)
    again = panderm.evaluate_masks(masks, draws=ASKED["draws"])
    assert again.as_dict() == run.scores.as_dict()
    assert (run.scores.unit, len(masks)) == (
        "patient",
        int((pd.read_csv(world.csv)["split"] == "test").sum()),
    )
    assert set(map(tuple, masks.size.tolist())) == {(90, 120)}
    segmenter = panderm.load_segmenter(run.folder, device="cpu")
    assert segmenter.record.training["epoch"] == run.card.result["best"]  # type: ignore[index]
    image = f"{masks.image[0]}.jpg"
    made = panderm.predict_masks(
        run.folder, [world.images / image], run.folder.parent / "one", progress=False
    )
    one, two = (made.masks[0].read_bytes(), masks.predicted[0].read_bytes())
    assert one == two


@pytest.mark.usefixtures("quick")
def test_killed_it_is_the_run_that_was_not(
    run: Trained, codes: list[int], world: DrawnWorld, place: Path
) -> None:
    """Killed in a step, by a signal that nobody hears: the same losses, scores and weights to the bit."""
    assert codes[0] == -signal.SIGKILL
    assert len([x for x in lines_of(place / "killed") if "loss" in x]) == KILLED_IN - 1
    with pytest.raises(ParentsError, match=r"rate: 0\.002 before, 0\.001 now"):
        trained(world, place / "killed", lr=1e-3)
    done = trained(world, place / "killed")
    assert lines_of(done.folder) == lines_of(run.folder)
    for name in ("last.safetensors", "segmenter.safetensors"):
        assert tensors_of(done.folder / name) == tensors_of(run.folder / name)
    assert done.scores.as_dict() == run.scores.as_dict()
    assert not trained(world, place / "killed").now
    with pytest.raises(ArtifactError, match="a finished run is not changed"):
        trained(world, place / "killed", epochs=3)


def test_two_processes_learn_as_one(run: Trained, codes: list[int], place: Path) -> None:
    """Steps are shared, and so are the validation images: the pixels of each are counted once."""
    assert codes[1:] == [0, 0]
    ours, theirs = lines_of(run.folder), lines_of(place / "shared")
    losses = [[line["loss"] for line in lines if "loss" in line] for lines in (ours, theirs)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=SAME)
    looks = [[line["val"]["scores"] for line in lines if "val" in line] for lines in (ours, theirs)]
    for one, two in zip(*looks, strict=True):
        for name in ("jaccard", "dice", "loss"):
            np.testing.assert_allclose(two[name]["value"], one[name]["value"], atol=0.01)
    tables = [pd.read_csv(folder / "test.csv") for folder in (run.folder, place / "shared")]
    assert tables[0]["image"].tolist() == tables[1]["image"].tolist(), "no image twice, none left out"
    np.testing.assert_allclose(tables[1]["jaccard"], tables[0]["jaccard"], atol=0.05)


@pytest.mark.usefixtures("quick")
def test_by_the_published_recipe_without_validation_rows(world: DrawnWorld, tmp_path: Path) -> None:
    """All learns at one rate that moves once an epoch; the last masks have one part without holes."""
    frame = pd.read_csv(world.csv)
    frame = pd.concat([frame[frame["split"] == "train"].head(12), frame[frame["split"] == "test"].head(3)])
    frame.to_csv(tmp_path / "table.csv", index=False)
    asked = dict.fromkeys(("batch_size", "lr", "boundary", "finetune_encoder", "drop_path", "ema"))
    run = trained(world, tmp_path / "run", tmp_path / "table.csv", recipe="published", **asked)
    card = run.card
    assert (card.plan["batch"], card.plan["rate"], card.plan["least_rate"]) == (2, 1e-4, 0)
    assert card.plan["by_epoch"]
    assert card.recipe_settings["all_decay"]
    assert card.recipe_settings["largest"]
    assert card.recipe_settings["fill_holes"]
    assert (card.network["decoder"], card.network["frozen encoder"]) == ("upernet", False)
    assert card.rows["val"] > 0, "some training rows were held out"
    assert card.views["hue"] == 0.2
    steps = [line for line in lines_of(run.folder) if "loss" in line]
    assert set(steps[0]) & {"dice", "boundary"} == set()
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1e-4)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2)
    for epoch in (1, 2):
        rates = [line["rate"] for line in steps if line["epoch"] == epoch]
        np.testing.assert_allclose(rates, theirs.get_last_lr()[0], rtol=1e-12)
        optimizer.step()
        theirs.step()


@pytest.mark.usefixtures("quick")
def test_a_frozen_encoder_stays_as_it_was(world: DrawnWorld, tmp_path: Path) -> None:
    """Of few masks each is seen several times; the best epoch comes and the run ends with patience."""
    frame = pd.read_csv(world.csv)
    train_rows = frame[frame["split"] == "train"].head(5)
    few = pd.concat([train_rows, *(frame[frame["split"] == name].head(4) for name in ("val", "test"))])
    few.to_csv(tmp_path / "table.csv", index=False)
    asked: dict[str, Any] = {"epoch_images": 12, "finetune_encoder": None, "drop_path": None, "batch_size": 4}
    asked |= {"lr": 1e-9, "patience": 1, "epochs": 6, "ema": 0}
    run = trained(world, tmp_path / "run", tmp_path / "table.csv", **asked)
    assert run.card.plan["images"] == 12
    assert run.card.result is not None
    assert run.card.result["stopped_early"]
    began = panderm.load_encoder("random-tiny", image_size=32).network.state_dict()
    ours = panderm.load_encoder(run.segmenter).network.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in began.items() if name in ours)
    learner = Segmenting(None, None, None, None, seed=0, device=torch.device("cpu"), places=12)  # type: ignore[arg-type]
    learner.pairs = range(5)  # type: ignore[assignment]
    rows = [learner.rows_of(epoch) for epoch in (0, 0, 1)]
    assert np.array_equal(rows[0], rows[1])  # type: ignore[arg-type]
    assert not np.array_equal(rows[0], rows[2])  # type: ignore[arg-type]
    assert sorted(np.bincount(rows[0])) == [2, 2, 2, 3, 3]  # type: ignore[arg-type]


@pytest.mark.usefixtures("quick")
def test_a_loss_that_is_no_number_names_its_images(
    world: DrawnWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = Segmenting.loss

    def none(self: Segmenting, model: Any, batch: Any) -> Any:
        found = loss(self, model, batch)
        assert found is not None
        return found._replace(mean=found.mean * torch.nan)

    monkeypatch.setattr(Segmenting, "loss", none)
    with pytest.raises(DataError, match="the loss of a step must be a number") as caught:
        trained(world, tmp_path / "run", batch_size=2)
    assert "P0" in str(caught.value), "the images"


WRONG: dict[str, tuple[dict[str, Any], type[PandermError], str]] = {
    "no encoder": ({"encoder": None}, UsageError, "an encoder must be named"),
    "size": ({"image_size": 33}, UsageError, "33"),
    "losses": ({"cross_entropy": 0, "dice": 0, "boundary": 0}, UsageError, "weights of the losses"),
    "part": ({"percent_data": 0}, UsageError, "--percent-data must be a part of 1"),
    "frozen": ({"finetune_encoder": False}, UsageError, "stochastic depth"),
    "epoch": ({"epoch_images": 0}, UsageError, "--epoch-images"),
    "published": ({"recipe": "published", "layer_decay": 0.5}, UsageError, "one rate for all layers"),
    "monitor": ({"monitor": "auroc"}, UsageError, "monitor must be one of jaccard, dice, loss"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_message(case: str, world: DrawnWorld, tmp_path: Path) -> None:
    asked, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        trained(world, tmp_path / "run", **asked)
    assert not (tmp_path / "run").exists()


def test_leaks_and_empty_masks_are_refused(world: DrawnWorld, tmp_path: Path) -> None:
    frame = pd.read_csv(world.csv)
    frame.loc[frame["split"] == "test", "patient_id"] = frame["patient_id"].iloc[0]
    frame.to_csv(tmp_path / "leak.csv", index=False)
    with pytest.warns(panderm.PandermWarning), pytest.raises(LeakError, match="may stand in two splits"):
        trained(world, tmp_path / "run", tmp_path / "leak.csv")
    words = f"segment train {world.csv} --images {world.images} --masks {tmp_path / 'none'} --quiet"
    words += f" --encoder random-tiny --out {tmp_path / 'run'}"
    result = CliRunner().invoke(app, words.split())
    assert result.exit_code == 2
    assert "the folder of the masks must exist" in result.output
