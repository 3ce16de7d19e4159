"""Models of the SAM family: the library's own answer to the bit, coordinates that arrive, wrong folders."""

from __future__ import annotations

import csv
import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from panderm.cli import app
from panderm.data.masks import read_mask
from panderm.errors import UsageError, WeightsError
from panderm.segmenting.predicting.answers import Answers, PromptedAnswers
from panderm.segmenting.prompted.prompts import prompts_of, read_prompts
from panderm.segmenting.prompted.sam import FAMILY, load_prompted

from tiny_sams import KINDS, hushed, saved  # isort: skip

BOX, POINTS, LABELS = [5, 6, 40, 41], [[10, 10], [60, 5]], [1, 0]


@pytest.fixture(scope="module")
def sams(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: saved(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}


@pytest.fixture(scope="module")
def rgb() -> Any:
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prompted", ["box", "points", "both"])
def test_the_mask_is_the_librarys_own(sams: dict[str, Path], rgb: Any, kind: str, prompted: str) -> None:
    boxes = ["5,6,40,41"] if prompted != "points" else []
    points = ["10,10", "60,5,0"] if prompted != "box" else []
    ours = load_prompted(sams[kind], prompts_of(boxes=boxes, points=points), device="cpu")
    found = ours.probability_of(rgb, "a.jpg")

    network, processor = (getattr(tf, name) for name in FAMILY[kind])
    given: dict[str, Any] = {"input_boxes": [[BOX]]} if boxes else {}
    given |= {"input_points": [[POINTS]], "input_labels": [[LABELS]]} if points else {}
    with hushed(), torch.inference_mode():
        theirs, prepared = network.from_pretrained(sams[kind]).eval(), processor.from_pretrained(sams[kind])
        inputs = prepared(images=rgb, return_tensors="pt", **given)
        sizes = [inputs.pop(key) for key in ("original_sizes", "reshaped_input_sizes") if key in inputs]
        out = theirs(**inputs)
        native = prepared.post_process_masks(out.pred_masks, *sizes, binarize=False)[0][0]
    best = int(out.iou_scores[0, 0].argmax())
    assert out.iou_scores.shape[-1] == 3
    assert found.shape == (50, 70)
    assert found.dtype == np.float32
    assert np.ptp(found) > 1e-4
    assert np.array_equal(found, native[best].sigmoid().numpy())
    cells = ours.cells_of("a.jpg")
    assert cells["iou_estimate"] == round(float(out.iou_scores[0, 0].max()), 6)
    assert cells["prompted_by"] == {"box": "box", "points": "points", "both": "box and points"}[prompted]
    assert tuple(cells) == ours.columns


@pytest.mark.parametrize(
    ("kind", "box", "point"),
    [
        # The longer side becomes 64: 64/70 along x; the shorter one 45.7, so 46: 46/50 along y.
        ("sam", [5 * 64 / 70, 6 * 46 / 50, 40 * 64 / 70, 41 * 46 / 50], [10 * 64 / 70, 10 * 46 / 50]),
        # Both sides become 64.
        ("sam2", [5 * 64 / 70, 6 * 64 / 50, 40 * 64 / 70, 41 * 64 / 50], [10 * 64 / 70, 10 * 64 / 50]),
    ],
)
def test_coordinates_reach_the_network_as_pixels_do(
    sams: dict[str, Path], rgb: Any, kind: str, box: list[float], point: list[float]
) -> None:
    ours = load_prompted(sams[kind], prompts_of(boxes=["5,6,40,41"], points=["10,10"]), device="cpu")
    seen: dict[str, Any] = {}
    encoder = ours._network.prompt_encoder
    encoder.register_forward_pre_hook(lambda _, __, given: seen.update(given), with_kwargs=True)
    ours.probability_of(rgb, "a.jpg")
    assert seen["input_boxes"].flatten().tolist() == pytest.approx(box, rel=1e-6)
    assert seen["input_points"].flatten().tolist() == pytest.approx(point, rel=1e-6)


def test_several_lesions_are_one_mask(sams: dict[str, Path], rgb: Any) -> None:
    texts = ["5,6,40,41", "41,10,69,49"]
    single = [load_prompted(sams["sam2"], prompts_of(boxes=[one]), device="cpu") for one in texts]
    both = load_prompted(sams["sam2"], prompts_of(boxes=texts), device="cpu")
    alone = [one.probability_of(rgb, "a") for one in single]
    assert not np.array_equal(*alone)
    assert np.array_equal(both.probability_of(rgb, "a"), np.maximum(*alone))
    assert both.cells_of("a")["lesions"] == 2
    estimates = [float(one.cells_of("a")["iou_estimate"]) for one in single]
    assert both.cells_of("a")["iou_estimate"] == min(estimates)
    with pytest.raises(KeyError):
        both.cells_of("b")


def test_it_is_a_prompted_answer_and_no_request_is_made(
    sams: dict[str, Path], rgb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a request")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    ours = load_prompted(sams["sam"], prompts_of(whole_image=True), device="cpu")
    assert isinstance(ours, PromptedAnswers)
    assert not isinstance(ours, Answers)
    ours.probability_of(rgb, "a.jpg")
    assert ours.cells_of("a.jpg")["prompted_by"] == "whole image"
    assert ours.told()["kind"] == "sam"


def test_a_folder_that_is_none_is_refused(sams: dict[str, Path], tmp_path: Path) -> None:
    prompts = prompts_of(whole_image=True)
    with pytest.raises(UsageError, match="must be a folder on this machine"):
        load_prompted(tmp_path / "nowhere", prompts)
    with pytest.raises(UsageError, match="of transformers"):
        load_prompted(tmp_path, prompts)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(UsageError, match="of the SAM family"):
        load_prompted(tmp_path, prompts)
    (tmp_path / "config.json").write_text((sams["sam"] / "config.json").read_text())
    (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(WeightsError, match="must be a safetensors file"):
        load_prompted(tmp_path, prompts)
    state = load_file(sams["sam"] / "model.safetensors")
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match="how the model wants its pixels"):
        load_prompted(tmp_path, prompts)


@pytest.mark.parametrize(
    ("what", "says"),
    [("missing", "1 are missing"), ("more", "1 are not of sam"), ("shape", "other shape"), ("cut", "whole")],
)
def test_every_tensor_is_accounted_for(sams: dict[str, Path], tmp_path: Path, what: str, says: str) -> None:
    state = load_file(sams["sam"] / "model.safetensors")
    name = "mask_decoder.iou_token.weight"
    if what == "missing":
        del state[name]
    elif what == "more":
        state["a_head.weight"] = torch.zeros(2)
    elif what == "shape":
        state[name] = torch.zeros(2, 16)
    for one in ("config.json", "processor_config.json"):
        (tmp_path / one).write_text((sams["sam"] / one).read_text())
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    if what == "cut":
        whole = (tmp_path / "model.safetensors").read_bytes()
        (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError) as caught:
        load_prompted(tmp_path, prompts_of(whole_image=True))
    assert says in str(caught.value)


def run(*words: object) -> Any:
    return CliRunner().invoke(app, ["segment", "predict", *map(str, words)])


@pytest.fixture
def pictures(tmp_path: Path, rgb: Any) -> Path:
    """Two images: b.jpg lies on its side, and its EXIF block turns it upright, 50 wide and 70 high."""
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(rgb).save(folder / "a.png")
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(rgb).save(folder / "b.jpg", exif=exif)
    return folder


def test_the_command_reads_prompts_of_the_upright_image(
    sams: dict[str, Path], pictures: Path, tmp_path: Path
) -> None:
    table = tmp_path / "prompts.csv"
    table.write_text("image,x0,y0,x1,y1,x,y,label\na,5,6,40,41,,,\nb,5,6,40,65,,,\nb,,,,,20,60,1\n")
    out = tmp_path / "masks"
    done = run(f"sam:{sams['sam']}", pictures, "--prompts", table, "--out", out, "--quiet", "--json")
    assert done.exit_code == 0, done.output
    with (out / "masks.csv").open() as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert {name: row["prompted_by"] for name, row in rows.items()} == {
        "a.png": "box",
        "b.jpg": "box and points",
    }
    assert (rows["b.jpg"]["width"], rows["b.jpg"]["height"]) == ("50", "70")
    ours = load_prompted(sams["sam"], read_prompts(table), device="cpu")
    seen = np.asarray(Image.open(pictures / "a.png"))
    assert np.array_equal(read_mask(out / "a.png"), ours.probability_of(seen, "a.png") >= 0.5)
    assert float(rows["a.png"]["iou_estimate"]) == pytest.approx(
        float(ours.cells_of("a.png")["iou_estimate"]), rel=1e-5
    )
    card = json.loads((out / "card.json").read_text())
    assert card["answers"]["prompts_sha256"] == read_prompts(table).identity

    # 65 along x is inside of how the file lies, and outside of how it is seen.
    table.write_text("image,x0,y0,x1,y1\na,5,6,40,41\nb,5,6,65,40\n")
    done = run(f"sam:{sams['sam']}", pictures, "--prompts", table, "--out", tmp_path / "no")
    assert done.exit_code == 2
    assert "row 3 of prompts.csv: 5,6,65,40 in b.jpg of 50 x 70 pixels" in done.output
    assert not (tmp_path / "no").exists()


def test_first_masks_are_refined(sams: dict[str, Path], pictures: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.mkdir()
    for name, size in (("a", (50, 70)), ("b", (70, 50))):
        mask = np.zeros(size, bool)
        mask[20:40, 10:30] = name == "a"
        Image.fromarray(mask).save(first / f"{name}.png")
    words = (f"sam:{sams['sam']}", pictures, "--refine", first, "--pad", "0.25", "--quiet")
    refused = run(*words, "--out", tmp_path / "no")
    assert refused.exit_code == 2
    assert "b.jpg (its first mask is empty)" in refused.output
    done = run(*words, "--whole-image", "--out", tmp_path / "masks")
    assert done.exit_code == 0, done.output
    ours = load_prompted(sams["sam"], prompts_of(boxes=["5,15,35,45"]), device="cpu")
    seen = np.asarray(Image.open(pictures / "a.png"))
    assert np.array_equal(read_mask(tmp_path / "masks" / "a.png"), ours.probability_of(seen, "a") >= 0.5)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "must have a prompt"),
        (["--box", "1,2,3"], "--box must be x0,y0,x1,y1"),
        (["--box", "1,2,30,40", "--prompts", "p.csv"], "from one place"),
        (["--box", "1,2,30,40", "--pad", "0.2"], "--pad must come with --refine"),
        (["--box", "1,2,30,40", "--tta", "flips"], "--tta"),
        (["--box", "1,2,30,40", "--saliency", "pca"], "--saliency must come with saliency:ENCODER"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    sams: dict[str, Path], pictures: Path, tmp_path: Path, options: list[str], says: str
) -> None:
    done = run(f"sam:{sams['sam']}", pictures, "--out", tmp_path / "no", *options)
    assert done.exit_code == 2
    assert says in " ".join(done.output.split())


def test_prompts_are_of_prompted_models(pictures: Path, tmp_path: Path) -> None:
    done = run("saliency:random-tiny", pictures, "--out", tmp_path / "no", "--box", "1,2,3,4")
    assert done.exit_code == 2
    assert "--box must come with sam:FOLDER" in done.output
