"""A classifier's file: the network's numbers and answers, and an error for every other file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

import panderm
from panderm.classifying.classifier import load_classifier
from panderm.classifying.file import (
    NAME,
    ClassifierRecord,
    amend_classifier,
    finetuned_card,
    is_classifier,
    read_record,
    write_classifier,
)
from panderm.cli import app
from panderm.errors import ArtifactError, UsageError, WeightsError
from panderm.finetuning.network import ClassifierNetwork, Started, network_for
from panderm.models import network as layout
from panderm.models.cards import Pool
from panderm.models.check import check_weights
from panderm.models.names import find_card
from panderm.weights.checkpoint import CLASSIFIER

SIDE = 32
CLASSES = ("akiec", "mel", "nv")


def pixels(side: int = SIDE) -> torch.Tensor:
    return torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(3))


def moved(started: Started) -> Started:
    """Somewhere else than where it started, as after fine-tuning."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in started.network.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn_like(parameter))
        started.network.head.weight.normal_()
    started.network.eval()
    return started


def write(started: Started, path: Path, record: dict[str, Any] | None = None, **options: Any) -> Path:
    plain = started.network.plain()
    write_classifier(
        path,
        encoder=plain.encoder,
        weight=plain.weight,
        bias=plain.bias,
        card=finetuned_card(started.card, started.record),
        pool=started.pool,
        record=ClassifierRecord(**{"classes": CLASSES, "began": started.record} | (record or {})),
        **options,
    )
    return path


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Started:
    return moved(of_panderm(tmp_path_factory.mktemp("mine")))


@pytest.fixture(scope="module")
def whole(started: Started, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read it, do not change it."""
    record = {"training": {"epochs": 3}, "temperature": 1.5}
    return write(started, tmp_path_factory.mktemp("run") / NAME, record)


def copied(whole: Path, folder: Path) -> Path:
    path = folder / "mine.safetensors"
    path.write_bytes(whole.read_bytes())
    return path


def of_panderm(folder: Path, *, double_norm: bool = False, pool: Pool | None = None) -> Started:
    """Two blocks in PanDerm's layout, from a file in its linear-probe form."""
    card = find_card("dermlip-panderm-base" if double_norm else "panderm-base", image_size=SIDE)
    card = card.model_copy(update={"name": "mine", "dim": 48, "depth": 2, "heads": 3, "files": ()})
    shapes = {name: one.shape for name, one in layout.build(card, "cls").state_dict().items()}
    save_file(layout.draw_weights(shapes, 1 + double_norm), folder / "mine.safetensors")
    (folder / "mine.json").write_text(card.model_dump_json())
    return network_for(weights=folder / "mine.safetensors", card=folder / "mine.json", classes=3, pool=pool)


def of_timm(name: str) -> Callable[[Path], Started]:
    def start(folder: Path) -> Started:
        torch.manual_seed(0)
        state = {key: one.contiguous() for key, one in timm.create_model(name).state_dict().items()}
        save_file(state, folder / "weights.safetensors")
        return network_for(f"timm:{name}", weights=folder / "weights.safetensors", classes=3)

    return start


def at_another_size(folder: Path) -> Started:
    """Trained at 224 pixels: its position table is stretched, and the file must be opened all the same."""
    return network_for("panderm-tiny", image_size=SIDE, classes=3)


def random_tiny(folder: Path) -> Started:
    return network_for("random-tiny", image_size=SIDE, classes=3)


@pytest.mark.parametrize(
    "start",
    [
        random_tiny,
        at_another_size,
        partial(of_panderm, pool="cls"),
        partial(of_panderm, double_norm=True),
        of_timm("test_vit"),
        of_timm("test_resnet"),
        of_timm("test_convnext"),
    ],
    ids=["drawn", "stretched", "cls", "double norm", "vit", "resnet", "convnext"],
)
def test_a_file_answers_as_the_network_did(start: Callable[[Path], Started], tmp_path: Path) -> None:
    started = moved(start(tmp_path))
    classifier = load_classifier(write(started, tmp_path / NAME), device="cpu")
    x = pixels(started.record.image_size)
    with torch.no_grad():
        expected = started.network(x).double().numpy()
    assert abs(expected).max() > 0.1
    assert classifier.logits(x) == pytest.approx(expected, abs=1e-5, rel=1e-5)
    assert "2 dropped (classifier head, not used by an encoder)" in str(classifier.encoder.account)


def test_a_run_s_folder_is_opened_and_calibrated(whole: Path, started: Started) -> None:
    classifier = load_classifier(whole.parent, device="cpu")
    with torch.no_grad():
        expected = started.network(pixels()).double().numpy() / 1.5
    assert classifier.logits(pixels()) == pytest.approx(expected, abs=1e-5, rel=1e-5)
    probabilities = classifier.probabilities(pixels())
    assert probabilities == pytest.approx(torch.softmax(torch.tensor(expected), 1).numpy(), abs=1e-5)
    assert classifier.classes == CLASSES
    assert classifier.encoder.name == "mine-finetuned"
    assert classifier.encoder.preprocess == started.preprocess
    assert classifier.record.training == {"epochs": 3}
    assert classifier.record.began == started.record
    assert is_classifier(whole)


def test_its_encoder_is_a_weights_file_like_any_other(whole: Path, started: Started, tmp_path: Path) -> None:
    encoder = panderm.load_encoder(whole, device="cpu")
    with torch.no_grad():
        expected = started.network.encoder(pixels())
    torch.testing.assert_close(encoder.encode(pixels()), expected, atol=1e-5, rtol=1e-5)
    fits = check_weights(whole)
    assert "classifier head" in str(fits)
    header = panderm.convert(whole, tmp_path / "encoder.safetensors")
    assert header.card.name == "mine-finetuned"
    assert not is_classifier(tmp_path / "encoder.safetensors")
    again = network_for(whole, classes=5)
    with torch.no_grad():
        torch.testing.assert_close(again.network.eval().encoder(pixels()), expected, atol=1e-5, rtol=1e-5)
    assert again.network.head.out_features == 5
    assert finetuned_card(again.card, again.record).name == "mine-finetuned"


def test_a_file_is_shown_with_its_head(whole: Path) -> None:
    shown = CliRunner().invoke(app, ["models", "show", str(whole)])
    assert shown.exit_code == 0
    for line in (
        "head: .*softmax, 3 classes: akiec, mel, nv",
        "calibration: .*temperature 1.5",
        "pooling: .*mean",
    ):
        assert re.search(line, shown.stdout), line
    assert "drawn at random" not in shown.stdout


def test_a_record_can_be_amended_and_nothing_else(whole: Path, tmp_path: Path) -> None:
    path = copied(whole, tmp_path)
    before = load_classifier(path, device="cpu").logits(pixels())
    shift = (0.0, 1.0, -1.0)
    amended = amend_classifier(path, temperature=3.0, thresholds={"mel": 0.2}, prior_shift=shift)
    assert read_record(path) == amended
    assert (amended.thresholds, amended.training) == ({"mel": 0.2}, {"epochs": 3})
    after = load_classifier(path, device="cpu").logits(pixels())
    assert after == pytest.approx((before * 1.5 + shift) / 3, abs=1e-9)
    with safe_open(path, "pt") as one, safe_open(whole, "pt") as other:
        assert all(torch.equal(one.get_tensor(name), other.get_tensor(name)) for name in other.keys())  # noqa: SIM118
    for change in ({"temperature": 0.0}, {"thresholds": {"scc": 0.5}}, {"classes": ("a",)}, {"colour": 1}):
        with pytest.raises(UsageError, match="record"):
            amend_classifier(path, **change)
    assert read_record(path) == amended


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"classes": ("a", "a")}, "different names"),
        ({"classes": ("a", " ")}, "different names"),
        ({"classes": ("a",)}, "two classes"),
        ({"prior_shift": (0.1,)}, "prior_shift"),
        ({"thresholds": {"mel": 1.2}}, "thresholds"),
        ({"temperature": float("nan")}, "temperature"),
    ],
)
def test_an_unsound_record_is_refused(fields: dict[str, Any], says: str, started: Started) -> None:
    with pytest.raises(ValidationError, match=says):
        ClassifierRecord(**{"classes": CLASSES, "began": started.record} | fields)


def test_one_class_on_its_own_has_a_sigmoid(tmp_path: Path) -> None:
    started = of_panderm(tmp_path)
    started = moved(replace(started, network=ClassifierNetwork(started.network.encoder, 48, 1)))
    path = write(started, tmp_path / NAME, {"classes": ("mel",), "link": "sigmoid"}, self_test=False)
    classifier = load_classifier(path, device="cpu")
    with torch.no_grad():
        expected = torch.sigmoid(started.network(pixels()).double()).numpy()
    assert classifier.probabilities(pixels()) == pytest.approx(expected, abs=1e-5)


def rewritten(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, str]], None]) -> None:
    with safe_open(path, "pt") as file:
        words = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(tensors, words)
    save_file(tensors, path, metadata=words)


def other_classes(tensors: dict[str, torch.Tensor], words: dict[str, str]) -> None:
    told = ClassifierRecord.model_validate_json(words[CLASSIFIER])
    told = told.model_copy(update={"classes": (*CLASSES, "scc")})
    words[CLASSIFIER] = told.model_copy(update={"sha256": told.own_sha256()}).model_dump_json()


def by_hand(tensors: dict[str, torch.Tensor], words: dict[str, str]) -> None:
    words[CLASSIFIER] = json.dumps(json.loads(words[CLASSIFIER]) | {"temperature": 9.0})


def later_version(tensors: dict[str, torch.Tensor], words: dict[str, str]) -> None:
    words[CLASSIFIER] = json.dumps(json.loads(words[CLASSIFIER]) | {"format": 2})


def other_head(tensors: dict[str, torch.Tensor], words: dict[str, str]) -> None:
    tensors["head.bias"] = tensors["head.bias"] + 1


def no_bias(tensors: dict[str, torch.Tensor], words: dict[str, str]) -> None:
    del tensors["head.bias"]


def half(tensors: dict[str, torch.Tensor], words: dict[str, str]) -> None:
    tensors["head.weight"] = tensors["head.weight"].half()


def other_encoder(tensors: dict[str, torch.Tensor], words: dict[str, str]) -> None:
    tensors["fc_norm.bias"] = tensors["fc_norm.bias"] + 1


def no_record(tensors: dict[str, torch.Tensor], words: dict[str, str]) -> None:
    del words[CLASSIFIER]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (other_classes, "head of 4 classes"),
        (by_hand, "changed afterwards"),
        (later_version, "this version"),
        (other_head, "sha256"),
        (no_bias, "head of 3 classes"),
        (half, "float32"),
        (other_encoder, "tensors that were written"),
    ],
)
def test_a_file_that_is_not_as_it_was_written_is_refused(
    change: Callable[..., None], says: str, whole: Path, tmp_path: Path
) -> None:
    path = copied(whole, tmp_path)
    rewritten(path, change)
    with pytest.raises(WeightsError, match=says):
        load_classifier(path, device="cpu")


def test_other_files_are_refused(whole: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole.read_bytes()[:-1000])
    encoder = copied(whole, tmp_path)
    rewritten(encoder, no_record)
    text = tmp_path / "words.safetensors"
    text.write_text("no weights")
    for path, says in [
        (cut, "must be whole"),
        (encoder, "no record of a head"),
        (text, "must hold an encoder and its head"),
        (tmp_path, "must exist"),
        (tmp_path / "nothing.safetensors", "must exist"),
    ]:
        with pytest.raises(WeightsError, match=says):
            load_classifier(path)


def test_what_cannot_be_written_is_refused(whole: Path, started: Started, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="exist"):
        write(started, whole)
    with pytest.raises(UsageError, match="safetensors"):
        write(started, tmp_path / "classifier.pth")
    with pytest.raises(UsageError, match="head of 2 classes"):
        write(started, tmp_path / NAME, {"classes": ("a", "b")})
    with pytest.raises(UsageError, match="JSON"):
        write(started, tmp_path / NAME, {"training": {"loss": object()}})
    (tmp_path / "mine").mkdir()
    bad = of_panderm(tmp_path / "mine")
    bad.network.encoder.fc_norm.bias.data[3] = torch.nan
    with pytest.raises(WeightsError, match="finite"):
        write(bad, tmp_path / NAME)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
