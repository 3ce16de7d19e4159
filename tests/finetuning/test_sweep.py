"""A search over settings: what it runs, what it must not see, what its table says, and what it chooses."""

from __future__ import annotations

import csv
import inspect
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax
from sklearn.metrics import log_loss, roc_auc_score

from panderm.data.drawn import DrawnWorld
from panderm.errors import ArtifactError, UsageError
from panderm.finetuning.finetune import finetune
from panderm.finetuning.grid import as_options, grid_of, settings_of
from panderm.finetuning.sweep import swept
from panderm.predictions import Predictions

GRID = {"lr": [1e-4, 1e-3], "layer_decay": [0.65, 0.75]}
BEST = {"lr": 1e-3, "layer_decay": 0.65}
CLASSES = ("keratosis", "melanoma", "nevus")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> DrawnWorld:
    """Images of nothing, of patients enough for an interval."""
    folder, rng = tmp_path_factory.mktemp("many"), np.random.default_rng(0)
    lines = ["image,label,split,patient_id,lesion_id"]
    for i in range(150):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        split = ("train", "val", "test")[i // 2 % 3]
        lines.append(f"{i}.png,{CLASSES[(i + i // 6) % 3]},{split},P{i // 2},L{i}")
    (folder / "world.csv").write_text("\n".join(lines) + "\n")
    return DrawnWorld(folder / "world.csv", folder, folder, CLASSES, n=150, patients=75)


def asked(world: DrawnWorld, out: Path, **changed: Any) -> dict[str, Any]:
    """All arguments of a call, as finetune hands them on."""
    given = {"table": world.csv, "images": world.images, "encoder": "random-tiny", "sweep": GRID}
    call = inspect.signature(finetune).bind(**given, out=out, repeats=2, draws=200, progress=False)
    call.apply_defaults()
    return {**call.arguments, **changed}


def rows_in(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class Runs:
    """Stands for finetune: says more of the truth, the nearer its settings are to the best."""

    def __init__(self, score: str = "auroc_ovr") -> None:
        self.score, self.calls, self.ends = score, list[dict[str, Any]](), 99

    def __call__(self, **given: Any) -> Any:
        inspect.signature(finetune).bind(**given)
        self.calls.append(given)
        if len(self.calls) > self.ends:
            raise KeyboardInterrupt
        folder = Path(given["out"])
        (folder / "embeddings.emb").mkdir(parents=True, exist_ok=True)
        for name in ("classifier.safetensors", "last.safetensors"):
            (folder / name).write_bytes(b"weights")
        made = predicted(given)
        result = {"score": self.score, "best": 3 + given["seed"], "value": 0.5}
        return SimpleNamespace(folder=folder, card=SimpleNamespace(result=result), predictions=made)


def predicted(given: dict[str, Any]) -> Predictions:
    rows = [row for row in rows_in(given["table"]) if row["split"] == "val"]
    truth = np.array([row["label"] for row in rows], dtype=object)
    rng = np.random.default_rng([given["seed"], 1])
    codes = np.array([CLASSES.index(label) for label in truth])
    sharp = 1.0 + 0.5 * (given["lr"] == BEST["lr"]) + 0.3 * (given["layer_decay"] == BEST["layer_decay"])
    p = softmax(rng.normal(size=(len(rows), 3)) + sharp * np.eye(3)[codes], axis=1)
    none = np.array([None] * len(rows), dtype=object)
    who = {"image": np.array([row["image"] for row in rows], dtype=object), "path": none, "sha256": none}
    patient = np.array([row.get("patient") or row["patient_id"] for row in rows], dtype=object)
    card: Any = None
    return Predictions(
        **who, patient=patient, group=none, truth=truth, probabilities=p, card=card, order=CLASSES
    )


def test_words_of_the_command_line() -> None:
    assert grid_of(["lr=1e-4,5e-4,layer-decay=.65", "freeze=0,6", "sampler=none,balanced"]) == {
        "lr": [1e-4, 5e-4],
        "layer_decay": [0.65],
        "freeze": [0, 6],
        "sampler": ["none", "balanced"],
    }
    assert grid_of(["lora=none,8"]) == {"lora": [None, 8]}
    assert [as_options(one) for one in settings_of(GRID)][:2] == [
        "--lr 0.0001 --layer-decay 0.65",
        "--lr 0.0001 --layer-decay 0.75",
    ]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["layer-decy=.6,.7"], "did you mean '--layer-decay'"),
        (["monitor=loss,auroc"], "found --monitor"),
        (["lr=1e-4,fast"], "found 'fast'"),
        (["epochs=1.5,2"], "found '1.5'"),
        (["1e-4,1e-3"], "found '1e-4'"),
        (["lr=1e-4", "lr=1e-3"], "--lr twice"),
        (["lr=1e-4,"], "found ''"),
    ],
)
def test_words_that_are_no_settings(words: list[str], found: str) -> None:
    with pytest.raises(UsageError) as caught:
        grid_of(words)
    assert found in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "must"),
    [
        ({"lr": 1e-4}, "--lr is given or swept"),
        ({"sweep": {"lr": [1e-4]}, "repeats": 1}, "two settings to choose from"),
        ({"sweep": {"lr": [1e-4, 1e-4]}}, "each once"),
        ({"sweep": {"seed": [1, 2]}}, "must name options"),
        ({"repeats": 0}, "--repeats must be at least 1"),
    ],
)
def test_a_search_that_cannot_be(
    changed: dict[str, Any], must: str, world: DrawnWorld, tmp_path: Path
) -> None:
    runs = Runs()
    with pytest.raises(UsageError, match=must):
        swept(runs, asked(world, tmp_path / "run", **changed))
    assert not runs.calls
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def search(world: DrawnWorld, tmp_path_factory: pytest.TempPathFactory) -> tuple[Runs, Path]:
    runs, out = Runs(), tmp_path_factory.mktemp("search") / "run"
    assert swept(runs, asked(world, out)).folder == out / "final"
    return runs, out


def test_every_setting_is_run_and_the_best_last(search: tuple[Runs, Path], world: DrawnWorld) -> None:
    runs, out = search
    tried = [(one["lr"], one["layer_decay"], one["seed"]) for one in runs.calls]
    assert tried[:-1] == [
        (lr, decay, seed) for lr in (1e-4, 1e-3) for decay in (0.65, 0.75) for seed in (0, 1)
    ]
    assert tried[-1] == (1e-3, 0.65, 0)
    last = runs.calls[-1]
    assert (last["table"], last["out"], last["sweep"]) == (world.csv, out / "final", None)
    assert last["calibrate"] == "temperature"
    assert len({one["out"] for one in runs.calls}) == 9


def test_no_run_of_the_search_can_see_a_test_row(search: tuple[Runs, Path], world: DrawnWorld) -> None:
    runs, out = search
    assert {one["table"] for one in runs.calls[:-1]} == {out / "sweep/rows.csv"}
    whole = {row["image"]: row for row in rows_in(world.csv)}
    held = rows_in(out / "sweep/rows.csv")
    assert {row["split"] for row in held} == {"train", "val"}
    assert len(held) == sum(row["split"] != "test" for row in whole.values())
    for row in held:
        before = whole[row["image"]]
        told = ("split", "label", "patient_id", "lesion_id")
        assert [before[name] for name in told] == [row["split"], row["label"], row["patient"], row["group"]]


def test_weights_of_the_search_make_room(search: tuple[Runs, Path]) -> None:
    _, out = search
    assert not list((out / "sweep").rglob("*.safetensors"))
    assert not list((out / "sweep").rglob("*.emb"))
    assert (out / "final/classifier.safetensors").is_file()


def test_the_table_is_the_mean_of_the_runs(search: tuple[Runs, Path]) -> None:
    """Against scikit-learn; the best first, the others with how far they are behind on the same draws."""
    runs, out = search
    table = rows_in(out / "sweep.csv")
    assert float(table[0]["lr"]) == 1e-3
    wanted: dict[tuple[float, float], list[float]] = {}
    for one in runs.calls[:-1]:
        made = predicted(one)
        value = roc_auc_score(made.truth.astype(str), made.probabilities, multi_class="ovr", labels=CLASSES)
        wanted.setdefault((one["lr"], one["layer_decay"]), []).append(value)
    best = np.mean(wanted[1e-3, 0.65])
    for row in table:
        values = wanted[float(row["lr"]), float(row["layer_decay"])]
        assert float(row["value"]) == pytest.approx(np.mean(values))
        assert float(row["sd_of_repeats"]) == pytest.approx(np.std(values, ddof=1))
        assert [float(x) for x in row["values"].split()] == pytest.approx(values)
        assert float(row["low"]) < float(row["value"]) < float(row["high"])
        assert row["epochs_kept"] == "3 4"
        if row is not table[0]:
            assert float(row["difference"]) == pytest.approx(np.mean(values) - best)
            assert float(row["difference_low"]) <= float(row["difference"]) <= float(row["difference_high"])
    assert [float(row["value"]) for row in table] == sorted(
        (float(row["value"]) for row in table), reverse=True
    )
    assert table[0]["difference"] == ""
    assert {(row["score"], row["unit"], row["draws"]) for row in table} == {("auroc_ovr", "patient", "200")}
    record = json.loads((out / "sweep.json").read_text())
    assert record["chosen"] == BEST
    assert record["grid"] == GRID
    assert record["tried"][0]["settings"] == BEST


def test_of_the_loss_less_is_better(world: DrawnWorld, tmp_path: Path) -> None:
    runs = Runs("loss")
    swept(runs, asked(world, tmp_path / "run", repeats=1, monitor="loss"))
    table = rows_in(tmp_path / "run/sweep.csv")
    losses = {}
    for one in runs.calls[:-1]:
        made = predicted(one)
        losses[one["lr"], one["layer_decay"]] = log_loss(made.truth, made.probabilities, labels=CLASSES)
    found = {(float(row["lr"]), float(row["layer_decay"])): float(row["value"]) for row in table}
    assert found == pytest.approx(losses)
    assert next(iter(found)) == min(losses, key=lambda name: losses[name])
    assert {row["sd_of_repeats"] for row in table} == {""}


def test_a_search_that_was_stopped_goes_on(
    search: tuple[Runs, Path], world: DrawnWorld, tmp_path: Path
) -> None:
    runs, out = Runs(), tmp_path / "run"
    runs.ends = 3
    with pytest.raises(KeyboardInterrupt):
        swept(runs, asked(world, out))
    assert not (out / "sweep.csv").exists()
    again = Runs()
    swept(again, asked(world, out))
    assert (out / "sweep.csv").read_bytes() == (search[1] / "sweep.csv").read_bytes()
    assert (out / "sweep/rows.csv").read_bytes() == (search[1] / "sweep/rows.csv").read_bytes()


def test_other_rows_and_other_folders_are_refused(world: DrawnWorld, tmp_path: Path) -> None:
    out = tmp_path / "run"
    swept(Runs(), asked(world, out))
    with pytest.raises(ArtifactError, match="a search must go on as it began"):
        swept(Runs(), asked(world, out, percent_data=0.5))
    swept(Runs(), asked(world, out, percent_data=0.5, overwrite=True))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("two years of work")
    for overwrite in (False, True):
        with pytest.raises(ArtifactError, match="a search needs a folder of its own"):
            swept(Runs(), asked(world, tmp_path / "mine", overwrite=overwrite))
    assert (tmp_path / "mine/thesis.txt").exists()


def test_several_labels_are_told_as_they_are(world: DrawnWorld, tmp_path: Path) -> None:
    """Also what is not known, and a label whose name another column has."""
    rows = rows_in(world.csv)
    cells = [{"itches": "10"[i % 2], "group": ["1", "", "0"][(i + i // 6) % 3]} for i in range(len(rows))]
    file = tmp_path / "signs.csv"
    names = ("image", "split", "patient_id")
    lines = [
        ",".join([*(row[name] for name in names), *cell.values()])
        for row, cell in zip(rows, cells, strict=True)
    ]
    file.write_text("\n".join([",".join((*names, "itches", "group")), *lines]) + "\n")
    runs = Runs()
    runs.ends = 0
    asks = asked(world, tmp_path / "run", table=file, labels=["itches", "group"], monitor="loss")
    with pytest.raises(KeyboardInterrupt):
        swept(runs, asks)
    call = runs.calls[0]
    assert (call["labels"], call["label"], call["classes"]) == (["itches", "label group"], None, None)
    before = {row["image"]: cell for row, cell in zip(rows, cells, strict=True)}
    held = rows_in(tmp_path / "run/sweep/rows.csv")
    assert [[row["itches"], row["label group"]] for row in held] == [
        list(before[row["image"]].values()) for row in held
    ]


def test_repeats_are_of_a_search(world: DrawnWorld, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--repeats must come with --sweep"):
        finetune(world.csv, tmp_path / "run", encoder="random-tiny", repeats=3)
