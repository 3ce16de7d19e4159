"""A segmenter's file: the network's own numbers and answers, and an error for every other file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

import panderm
from panderm.classifying.file import ClassifierRecord, finetuned_card, read_record, write_classifier
from panderm.cli import app
from panderm.errors import ArtifactError, DataError, UsageError, WeightsError
from panderm.finetuning.network import network_for
from panderm.models.check import check_weights
from panderm.segmenting.file import (
    NAME,
    is_segmenter,
    read_segmenter_record,
    record_of,
    write_segmenter,
)
from panderm.segmenting.network import StartedSegmenter, segmenter_for
from panderm.segmenting.segmenter import load_segmenter
from panderm.weights.checkpoint import SEGMENTER

SIDE = 32


def moved(started: StartedSegmenter) -> StartedSegmenter:
    """Somewhere else than where it started, as after training."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for one in started.network.parameters():
            if one.requires_grad:
                one.add_(0.05 * torch.randn(one.shape, generator=generator))
    started.network.eval()
    return started


def write(started: StartedSegmenter, path: Path, **options: Any) -> Path:
    record = record_of(started, threshold=0.4, training={"epochs": 3})
    given = {"state": started.network.state_dict(), "started": started, "record": record} | options
    write_segmenter(path, **given)
    return path


@pytest.fixture(scope="module")
def started() -> StartedSegmenter:
    return moved(segmenter_for("random-tiny", image_size=SIDE, width=16))


@pytest.fixture(scope="module")
def whole(started: StartedSegmenter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read it, do not change it."""
    return write(started, tmp_path_factory.mktemp("run") / NAME)


def rgb(n: int = 2, side: int = SIDE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (n, side, side, 3), dtype=torch.uint8, generator=generator)


def spoken(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()[SEGMENTER])


def rewritten(path: Path, to: Path, **changes: Any) -> Path:
    """The same file with other tensors or other words, as someone else's program may leave it."""
    with safe_open(path, "pt") as file:
        tensors, words = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    tensors |= changes.get("tensors", {})
    for name in changes.get("without", ()):
        del tensors[name]
    save_file(tensors, to, metadata=words | changes.get("words", {}))
    return to


@pytest.mark.parametrize(
    "options",
    [
        {"decoder": "linear"},
        {"decoder": "convolutional", "width": 16},
        {"decoder": "upernet", "width": 16, "frozen": False},
        {"decoder": "unet", "encoder": None},
    ],
)
def test_a_file_gives_the_network_s_own_answers(options: dict[str, Any], tmp_path: Path) -> None:
    given = moved(segmenter_for(**{"encoder": "random-tiny", "image_size": SIDE} | options))
    write(given, tmp_path / NAME)
    opened = load_segmenter(tmp_path, device="cpu")  # the folder of a run
    with torch.no_grad():
        wanted = given.network(given.preprocess.normalise(rgb())).softmax(1)[:, 1]
    found = opened.probabilities(rgb())
    assert torch.equal(found, wanted)
    assert (found.shape, found.dtype) == ((2, SIDE, SIDE), torch.float32)
    as_array = opened.probabilities(rgb().numpy())
    assert isinstance(as_array, np.ndarray)
    assert np.array_equal(as_array, wanted.numpy())
    assert (opened.size, opened.classes, opened.threshold) == (SIDE, ("skin", "lesion"), 0.4)
    assert opened.record.training == {"epochs": 3}
    assert opened.record.fingerprint is not None
    assert not any(one.requires_grad for one in opened.network.parameters())


def test_the_file_is_the_encoder_s_too(started: StartedSegmenter, whole: Path) -> None:
    encoder = panderm.load_encoder(weights=whole, device="cpu")
    pixels = torch.randn(1, 3, SIDE, SIDE)
    with torch.no_grad():
        assert torch.equal(encoder.network(pixels), started.network.encoder(pixels))
    assert "segmentation decoder, not used by an encoder" in str(encoder.account)
    assert check_weights(whole).ok
    again = segmenter_for(whole, image_size=SIDE, decoder="linear")  # and training may begin from it
    assert again.record is not None
    assert again.record.weights == str(whole.resolve())


def test_an_encoder_that_learned_says_so(tmp_path: Path) -> None:
    tuned = moved(segmenter_for("random-tiny", image_size=SIDE, width=8, frozen=False))
    file = write(tuned, tmp_path / "tuned.safetensors")
    encoder = panderm.load_encoder(weights=file, device="cpu")
    assert encoder.name == "random-tiny-finetuned"
    assert "panderm segment train" in encoder.record.source


def test_a_whole_image_of_any_size_is_asked_of(whole: Path) -> None:
    segmenter = load_segmenter(whole, device="cpu")
    image = np.zeros((45, 100, 3), np.uint8)
    pixels = segmenter.pixels_of(image)
    assert pixels.shape == (SIDE, SIDE, 3)
    assert segmenter.probabilities(pixels[None]).shape == (1, SIDE, SIDE)
    assert segmenter.probabilities(rgb(0)).shape == (0, SIDE, SIDE)
    for wrong in (rgb(1, 16), rgb(1).float(), rgb(1)[0]):
        with pytest.raises(DataError, match=r"uint8 of shape \(n, 32, 32, 3\)"):
            segmenter.probabilities(wrong)


def test_fewer_bits_are_used_only_where_they_agree(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = load_segmenter(whole, device="cpu").probabilities(rgb()).numpy()
    monkeypatch.setattr("panderm.segmenting.segmenter.choose", lambda asked, device: "bf16")
    few = load_segmenter(whole, device="cpu", precision="auto")
    drift = np.abs(few.probabilities(rgb()).numpy() - full).mean()
    assert few.precision == "bf16"
    assert 0 < drift < 0.005
    monkeypatch.setattr("panderm.segmenting.segmenter._DRIFT", drift / 2)
    again = load_segmenter(whole, device="cpu", precision="auto")
    with pytest.warns(panderm.PandermWarning, match="bf16 moves the probabilities .* fp32 is used"):
        found = again.probabilities(rgb()).numpy()
    assert again.precision == "fp32"
    assert np.array_equal(found, full)
    with pytest.raises(UsageError, match="int8"):
        load_segmenter(whole, precision="int8")


def test_a_record_changed_by_hand_is_seen(whole: Path, tmp_path: Path) -> None:
    words = spoken(whole) | {"threshold": 0.1}
    file = rewritten(whole, tmp_path / "x.safetensors", words={SEGMENTER: json.dumps(words)})
    with pytest.raises(WeightsError, match="changed afterwards"):
        load_segmenter(file)
    for wrong, message in (({"decoder": "fcn"}, "decoder"), ({"classes": ["a"]}, "classes")):
        words = spoken(whole) | wrong
        file = rewritten(whole, tmp_path / "x.safetensors", words={SEGMENTER: json.dumps(words)})
        with pytest.raises(WeightsError, match=f"whole and of this version(.|\n)*{message}"):
            load_segmenter(file)


def test_tensors_changed_by_hand_are_seen(whole: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    rewritten(whole, file, tensors={"decoder.conv_seg.bias": torch.ones(2)})
    with pytest.raises(WeightsError, match="decoder in a segmenter's file must be the one"):
        load_segmenter(file)
    rewritten(whole, file, without=["decoder.conv_seg.bias"])
    with pytest.raises(WeightsError, match="decoder in a segmenter's file must be the one"):
        load_segmenter(file)
    rewritten(whole, file, tensors={"cls_token": torch.ones(1, 1, 192)})
    with pytest.raises(WeightsError, match="sha256 is not"):
        load_segmenter(file)


def test_another_answer_is_seen(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a library computes otherwise than it did."""
    monkeypatch.setattr(
        "panderm.segmenting.network.resized",
        lambda x, size: torch.nn.functional.interpolate(x, size=tuple(size)),
    )
    with pytest.raises(WeightsError, match="must answer the self-test"):
        load_segmenter(whole, device="cpu")


@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.99])
def test_a_file_that_is_cut_short_is_refused(whole: Path, tmp_path: Path, part: float) -> None:
    file, data = tmp_path / "x.safetensors", whole.read_bytes()
    file.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(WeightsError, match=r"must (be whole|hold weights)"):
        load_segmenter(file)


def test_other_files_say_what_they_are(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="must exist"):
        load_segmenter(tmp_path / "nothing.safetensors")
    with pytest.raises(WeightsError, match=f"must exist(.|\n)*{NAME}"):
        load_segmenter(tmp_path)
    text = tmp_path / "notes.txt"
    text.write_text("these are no weights at all, " * 9)
    with pytest.raises(WeightsError, match="neither a PyTorch nor a safetensors"):
        load_segmenter(text)

    tuned = network_for("random-tiny", image_size=SIDE, classes=2)
    plain, classifier = tuned.network.plain(), tmp_path / "classifier.safetensors"
    write_classifier(
        classifier,
        encoder=plain.encoder,
        weight=plain.weight,
        bias=plain.bias,
        card=finetuned_card(tuned.card, tuned.record),
        pool=tuned.pool,
        record=ClassifierRecord(classes=("mel", "nv"), began=tuned.record),
        self_test=False,
    )
    with pytest.raises(WeightsError, match=r"is a classifier's(.|\n)*panderm predict"):
        load_segmenter(classifier)
    with pytest.raises(WeightsError, match="a classifier's file must hold an encoder and its head"):
        read_record(whole)
    assert (is_segmenter(whole), is_segmenter(classifier)) == (True, False)

    bare = tmp_path / "bare.safetensors"
    save_file({"weight": torch.ones(2)}, bare)
    with pytest.raises(WeightsError, match="has no record of a decoder"):
        load_segmenter(bare)


def test_an_encoder_alone_is_no_segmenter(tmp_path: Path) -> None:
    from panderm.weights.packaged import packaged

    file = packaged("panderm-tiny")
    assert file is not None
    with pytest.raises(WeightsError, match=r"is an encoder's alone(.|\n)*begins from it"):
        load_segmenter(file)


def test_a_unet_is_no_encoder(tmp_path: Path) -> None:
    file = write(segmenter_for(decoder="unet", image_size=SIDE), tmp_path / NAME, self_test=False)
    with pytest.raises(UsageError, match="is a U-Net's"):
        panderm.load_encoder(weights=file)
    assert read_segmenter_record(file).began is None


def test_what_cannot_be_written_is_refused(started: StartedSegmenter, whole: Path, tmp_path: Path) -> None:
    state = started.network.state_dict()
    with pytest.raises(UsageError, match=r"must end in \.safetensors"):
        write(started, tmp_path / "x.pth")
    with pytest.raises(ArtifactError, match="must not exist"):
        write(started, whole)
    file = tmp_path / "x.safetensors"
    bad = state | {"decoder.conv_seg.bias": torch.tensor([0, float("nan")])}
    with pytest.raises(WeightsError, match="NaN"):
        write(started, file, state=bad)
    fewer = {name: one for name, one in state.items() if name != "decoder.conv_seg.bias"}
    with pytest.raises(UsageError, match=r"tensors of its network(.|\n)*conv_seg\.bias"):
        write(started, file, state=fewer)
    zero = {name: one * 0 if "conv_seg" in name else one for name, one in state.items()}
    with pytest.raises(WeightsError, match="all zero"):
        write(started, file, state=zero)
    record = record_of(started).model_copy(update={"training": {"at": object()}})
    with pytest.raises(UsageError, match="must be JSON"):
        write(started, file, record=record)
    for options in ({"classes": ("a", "b", "c")}, {"threshold": 1.5}, {"classes": ("a", " ")}):
        with pytest.raises(UsageError):
            record_of(started, **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="must name each"):
        record_of(replace(started, classes=3))
    assert list(tmp_path.iterdir()) == []


def test_its_record_is_shown(whole: Path) -> None:
    done = CliRunner().invoke(app, ["models", "show", str(whole)])
    assert done.exit_code == 0
    said = " ".join(done.stdout.split())
    assert "decoder: convolutional on blocks 3, 5, 7, 11, 16 channels" in said
    assert "masks: skin and lesion, from a probability of 0.4" in said
    assert "seen: the whole image, resized to 32×32, bilinear" in said
