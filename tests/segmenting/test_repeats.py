"""Several runs: which rows each has, what their table says, that they go on; shares of validation rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import panderm
from panderm.data.drawn import DrawnWorld
from panderm.errors import ArtifactError, DataError, UsageError
from panderm.segmenting.learning import finished, repeats, train, watching
from panderm.segmenting.learning.objective import SegmentationLoss
from panderm.segmenting.learning.pairs import pairs_of
from panderm.segmenting.learning.validation import Validation
from panderm.segmenting.network import segmenter_for

TRAINING: dict[str, Any] = {
    "encoder": "random-tiny",
    "image_size": 32,
    "width": 8,
    "epochs": 1,
    "batch_size": 4,
    "draws": 50,
    "device": "cpu",
    "workers": 1,
    "progress": False,
}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "draw_sheet", lambda *_, **__: None)
    monkeypatch.setattr(watching, "write_png", lambda *_: None)
    monkeypatch.setattr(finished, "write_page", lambda *_: None)


def few(world: DrawnWorld, folder: Path) -> Path:
    frame = pd.read_csv(world.csv)
    parts = [frame[frame["split"] == name].head(n) for name, n in (("train", 14), ("val", 3), ("test", 6))]
    pd.concat(parts).to_csv(folder / "few.csv", index=False)
    return folder / "few.csv"


def rows_of(path: Path, split: str) -> set[str]:
    frame = pd.read_csv(path)
    return set(frame.loc[frame["split"] == split, "image"])


@pytest.mark.usefixtures("quick")
def test_parts_of_the_masks_are_nested_and_compared(
    world: DrawnWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, out = few(world, tmp_path), tmp_path / "out"
    training = {**TRAINING, "images": world.images, "masks": world.masks}

    def repeated(**more: Any) -> Any:
        return panderm.repeat_segmenter(table, out, percent=[100, 40], training={**training, **more})

    found = repeated()
    names = ["percent-40_seed-0", "percent-100_seed-0"]
    small, whole = (rows_of(out / "tables" / f"{name}.csv", "train") for name in names)
    assert small < whole == rows_of(table, "train")
    patients = pd.read_csv(table).set_index("image")["patient_id"]
    assert not {patients[name] for name in small} & {patients[name] for name in whole - small}, "whole ones"
    assert [row.runs for row in found.rows] == [(name,) for name in names]
    cards = [json.loads((out / "runs" / name / "card.json").read_text()) for name in names]
    assert {card["plan"]["images"] for card in cards} == {14}, "as many steps"
    each = [pd.read_csv(out / "runs" / name / "test.csv") for name in names]
    for row, frame in zip(found.rows, each, strict=True):
        assert row.scores["jaccard"].value == pytest.approx(frame["jaccard"].mean())
    difference = found.rows[0].against["dice"]
    assert difference.value == pytest.approx(each[0]["dice"].mean() - each[1]["dice"].mean())
    assert not found.rows[1].against
    written = pd.read_csv(out / "repeats.csv")
    assert written["percent"].unique().tolist() == ["40 %", "100 %"]
    assert "One draw of masks" in (out / "repeats.html").read_text()
    assert not (out / "runs" / names[0] / "last.safetensors").exists()

    monkeypatch.setattr(train, "learn", None)  # nothing is learned anew
    assert repeated().as_dict() == found.as_dict()
    with pytest.raises(ArtifactError, match="a finished run is not changed"):
        repeated(lr=1e-5)
    pd.read_csv(table).drop(index=3).to_csv(table, index=False)
    with pytest.raises(ArtifactError, match="must go on as they began"):
        repeated()


@pytest.mark.usefixtures("quick")
def test_folds_test_each_row_once(world: DrawnWorld, tmp_path: Path) -> None:
    table, out = few(world, tmp_path), tmp_path / "out"
    training = {**TRAINING, "images": world.images, "masks": world.masks}
    found = panderm.repeat_segmenter(table, out, folds=2, training=training)
    tested = [rows_of(out / "tables" / f"fold-{k}_seed-0.csv", "test") for k in (1, 2)]
    assert not tested[0] & tested[1]
    assert tested[0] | tested[1] == set(pd.read_csv(table)["image"])
    patients = pd.read_csv(table).set_index("image")["patient_id"]
    assert not {patients[name] for name in tested[0]} & {patients[name] for name in tested[1]}
    each = [pd.read_csv(out / "runs" / f"fold-{k}_seed-0" / "test.csv") for k in (1, 2)]
    assert [row.title for row in found.rows] == ["fold 1", "fold 2", "all folds"]
    whole = found.rows[2]
    assert whole.n == 23
    assert whole.scores["jaccard"].value == pytest.approx(pd.concat(each)["jaccard"].mean())
    assert whole.sd["jaccard"] == pytest.approx(np.std([x["jaccard"].mean() for x in each], ddof=1))
    undefined = pd.concat(each)["hd95"]
    assert whole.scores["hd95"].value == pytest.approx(undefined.mean()) or undefined.isna().all()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"folds": 2, "percent": [50]}, "must not be asked for together"),
        ({"folds": 1}, "--folds must be 2 or more"),
        ({"percent": [0, 50]}, "above 0 and up to 100"),
        ({"seeds": [1, 1]}, "--seeds must be how many"),
        ({"seeds": 0}, "--seeds must be how many"),
        ({"training": {"epoch": 3}}, "options of train_segmenter; did you mean 'epochs'"),
        ({"training": {"percent_data": 0.5}, "folds": 3}, "--percent-data must not come with"),
    ],
)
def test_what_cannot_be_repeated(
    asked: dict[str, Any], message: str, world: DrawnWorld, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        panderm.repeat_segmenter(world.csv, tmp_path / "out", **{"training": {}, **asked})


def test_a_folder_of_other_things_stays(world: DrawnWorld, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(ArtifactError, match="a folder of their own"):
        repeats._begin(tmp_path, {}, overwrite=True)
    assert (tmp_path / "mine.txt").read_text() == "kept"


@pytest.mark.parametrize("processes", [2, 9])
def test_shares_are_the_whole_to_the_bit(processes: int, world: DrawnWorld) -> None:
    """Also where there are more processes than batches, and where pixels are kept from the epoch before."""
    pairs = pairs_of(world.csv, images=world.images, masks=world.masks, progress=False).in_split("val")
    started = segmenter_for("random-tiny", image_size=32, width=8)
    model, loss = started.network.train(), SegmentationLoss(1.0, 1.0, 0.1)

    def validation() -> Validation:
        return Validation(pairs, started.preprocess, loss, batch=4, workers=1, draws=50)

    alone = validation()
    wanted = alone.joined([alone.share(model)])
    assert wanted.shape == (len(pairs), 5)
    assert (wanted[:, :4].sum(axis=1) == 32 * 32).all(), "each pixel once"
    assert model.training
    each = [validation() for _ in range(processes)]
    for _ in range(2):
        shares = [one.share(model, rank=r, world=processes) for r, one in enumerate(each)]
        assert np.array_equal(alone.joined(shares), wanted)
    told = alone.score(wanted)
    tp, fp, fn, _ = wanted[:, :4].T
    jaccard = np.where(tp + fp + fn > 0, tp / np.maximum(tp + fp + fn, 1), 1.0)
    assert told["scores"]["jaccard"]["value"] == pytest.approx(jaccard.mean())
    assert told["scores"]["loss"]["value"] == pytest.approx(wanted[:, 4].mean())
    wanted[1, 4] = np.nan
    with pytest.raises(DataError, match=f"finite loss.*\n.*{pairs.table.image[1]}"):
        alone.joined([[wanted.tolist()]])
    assert torch.is_grad_enabled()
