"""Pretraining files: ours go where theirs go, theirs go on here, and every tensor is accounted for."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import panderm
from panderm.errors import ArtifactError, UsageError, WeightsError
from panderm.models import cards
from panderm.models.cards import PATCH
from panderm.models.network import draw_weight
from panderm.pretraining.regressor import RegressorShape
from panderm.pretraining.student import PretrainingModel, Student, find_student
from panderm.pretraining.weights_file import (
    WORDS,
    read_pretrained,
    regressor_of,
    student_preprocess,
    write_encoder,
    write_pretrained,
)

State = dict[str, torch.Tensor]
SMALL = Student("48x2", 48, 2, 3, 2, layer_scale=0.1, mask_ratio=0.5, drop_path=0.0)
RECORD = {"teacher": {"name": "timm:vit_small_patch14_dinov2"}, "epochs": 3}
MEBIBYTE = 1 << 20


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What files answered is remembered elsewhere."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def model_of(width: int | None = None, *, student: Student = SMALL, seed: int = 0) -> PretrainingModel:
    shape = RegressorShape(width, 2, 3, 5) if width else None
    model = PretrainingModel(student, target_dim=10, regressor=shape, image_size=224, seed=seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if not name.endswith("pos_embed"):
                value.copy_(draw_weight(name, value.shape, seed))
    return model.eval()


def answer(model: PretrainingModel) -> torch.Tensor:
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(196) % 2 == 0).expand(2, -1)
    with torch.no_grad():
        return model(pixels, mask)


def same(left: State, right: State) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


# Ours


@pytest.mark.parametrize("width", [None, 32])
def test_a_model_is_read_as_it_was_written(tmp_path: Path, width: int | None) -> None:
    model, path = model_of(width), tmp_path / "pretrained.safetensors"
    write_pretrained(model, path, RECORD)
    again, initial = read_pretrained(path)
    assert same(again.state_dict(), model.state_dict())
    assert initial.filled == len(model.state_dict())
    assert (again.student, again.regressor_shape) == (model.student, model.regressor_shape)
    assert torch.equal(answer(again.eval()), answer(model))
    assert regressor_of(path) == model.regressor_shape
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()[WORDS])["record"] == RECORD
    assert same(load_file(path), model.state_dict())


def test_an_encoder_is_taken_out_of_a_whole_file(tmp_path: Path) -> None:
    model, path = model_of(), tmp_path / "pretrained.safetensors"
    write_pretrained(model, path, RECORD, name="ours")
    encoder = panderm.load_encoder(weights=path)
    assert encoder.name == "ours"
    assert encoder.account.used == 36
    left = {key for keys in encoder.account.dropped.values() for key in keys}
    assert left == {key for key in model.state_dict() if not key.startswith("encoder.")}
    pixels = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert torch.allclose(encoder.network(pixels), model.encode(pixels)[:, 0], atol=1e-5)
    # The fine-tuning form begins from it too: a mean of patches, and tables of relative positions.
    tuned = panderm.load_encoder(weights=path, pool="mean")
    with torch.no_grad():
        mean = tuned.network.fc_norm(tuned.network.forward_features(pixels)[:, 1:].mean(1))
        assert torch.allclose(tuned.network(pixels), mean, atol=1e-5)


@pytest.mark.parametrize(("half", "tolerance"), [(False, 1e-5), (True, 5e-3)])
def test_the_encoder_is_an_ordinary_weights_file(tmp_path: Path, half: bool, tolerance: float) -> None:
    model, path = model_of(), tmp_path / "encoder.safetensors"
    whole = tmp_path / "pretrained.safetensors"
    write_pretrained(model, whole, RECORD)
    header = write_encoder(model, path, "mine", licence="ours", source="a run", made_from=whole, half=half)
    encoder = panderm.load_encoder(weights=path)
    assert (encoder.name, encoder.dim, encoder.record.licence) == ("mine", 48, "ours")
    assert header.source_name == "pretrained.safetensors"
    assert header.card.fingerprint is not None
    assert not encoder.account.dropped
    pixels = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert torch.allclose(encoder.network(pixels), model.encode(pixels)[:, 0], atol=tolerance)
    found = panderm.convert(path, tmp_path / "timm.safetensors", to="timm")
    assert found.card.name == "mine"
    state = load_file(path)
    assert {value.dtype for value in state.values()} == {torch.float16 if half else torch.float32}
    # Another number is seen.
    state["norm.bias"][0] += 1
    with safe_open(path, "pt") as file:
        save_file(state, path, metadata=file.metadata())
    with pytest.raises(WeightsError, match="must hold the tensors that were written"):
        panderm.load_encoder(weights=path)


def test_pixels_are_made_as_for_imagenet(tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    write_encoder(model_of(), path, "mine")
    made = panderm.load_encoder(weights=path).preprocess
    assert (made.resize, made.crop, made.interpolation) == (256, 224, "bicubic")
    assert made.std == (0.229, 0.224, 0.225)
    assert student_preprocess(160).resize == 183
    assert student_preprocess(448).resize == 512


def test_a_tiny_encoder_fits_into_a_package(tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    header = write_encoder(PretrainingModel("tiny", target_dim=384), path, "panderm-tiny", half=True)
    assert path.stat().st_size < 12 * MEBIBYTE
    assert header.card.parameters == 5_526_720
    assert panderm.load_encoder(weights=path).network(torch.randn(1, 3, 224, 224)).shape == (1, 192)


def test_a_smaller_input_is_kept(tmp_path: Path) -> None:
    model = PretrainingModel(SMALL, target_dim=10, image_size=96)
    write_pretrained(model, tmp_path / "p.safetensors", {})
    write_encoder(model, tmp_path / "e.safetensors", "small one")
    assert read_pretrained(tmp_path / "p.safetensors")[0].image_size == 96
    assert panderm.load_encoder(weights=tmp_path / "e.safetensors").record.image_size == 96


# Theirs: the layout of the published files, their numbers drawn, in a file of theirs


def theirs(model: PretrainingModel, *, extra: bool = True) -> State:
    """A published file's tensors: names of the method, and what its training kept beside them."""
    state = {key: draw_weight(key, value.shape, 7) for key, value in model.state_dict().items()}
    state |= {key: value for key, value in model.state_dict().items() if key.endswith("pos_embed")}
    if extra:
        state |= {"teacher.conv1.weight": torch.randn(8, 3, 14, 14), "teacher.proj": torch.randn(8, 10)}
        state |= {"alignment_encoder.norm.bias": torch.randn(48)}
    return state


def as_pth(state: State, path: Path) -> Path:
    torch.save({"model": state, "epoch": 499, "optimizer": {"state": {}}}, path.with_suffix(".pth"))
    return path.with_suffix(".pth")


def as_flat(state: State, path: Path) -> Path:
    torch.save(state, path.with_suffix(".pth"))
    return path.with_suffix(".pth")


def as_safetensors(state: State, path: Path) -> Path:
    save_file(state, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


@pytest.mark.parametrize("write", [as_pth, as_flat, as_safetensors])
@pytest.mark.parametrize("width", [None, 36])
def test_a_published_file_goes_on_here(
    tmp_path: Path, width: int | None, write: Callable[[State, Path], Path]
) -> None:
    """With a regressor as wide as the encoder, and with one behind a projection."""
    shape = RegressorShape(width, 4, 12, 3) if width else None
    like = PretrainingModel(SMALL, target_dim=10, regressor=shape)
    state = theirs(like)
    path = write(state, tmp_path / "checkpoint-499")
    model, initial = read_pretrained(path)
    assert same(model.state_dict(), {key: state[key] for key in like.state_dict()})
    assert ("encoder_to_regresser.weight" in model.state_dict()) == (width is not None)
    assert model.regressor_shape.heads == 12
    assert (model.student.dim, model.student.depth, model.target_dim) == (48, 2, 10)
    assert initial.filled == len(like.state_dict())
    words = " ".join(initial.words)
    assert f"{initial.filled} tensors used" in words
    assert "3 dropped" in words or ("2 dropped" in words and "1 dropped" in words)


def test_published_regressors_have_twelve_heads_whatever_their_width(tmp_path: Path) -> None:
    """Of a width of 1,024 that is 12 × 85 = 1,020 inside."""
    student = find_student("large")
    assert (student.regressor.heads, student.regressor.head_dim) == (12, 85)
    uneven = Student("64x2", 64, 2, 1, 3, 0.1, 0.5, 0.0)
    model = PretrainingModel(uneven, target_dim=10)
    path = as_safetensors(theirs(model), tmp_path / "uneven")
    assert model.regresser.regressor_blocks[0].cross_attn.q.weight.shape == (60, 64)
    assert regressor_of(path) == RegressorShape(64, 3, 12, 5)
    assert regressor_of(path, heads=5) == RegressorShape(64, 3, 5, 12)
    with pytest.raises(UsageError, match="must divide"):
        regressor_of(path, heads=7)


def test_a_head_for_another_teacher_is_drawn_anew(tmp_path: Path) -> None:
    path = as_safetensors(theirs(PretrainingModel(SMALL, target_dim=10)), tmp_path / "p")
    model, initial = read_pretrained(path, target_dim=16)
    assert model.decoder.head.weight.shape == (16, 48)
    assert "2 tensors stay as drawn: decoder.head.weight, decoder.head.bias" in " ".join(initial.words)
    without = {k: v for k, v in load_file(path).items() if not k.startswith("decoder.")}
    path = as_safetensors(without, tmp_path / "without")
    with pytest.raises(UsageError, match="must be given"):
        read_pretrained(path)
    assert "4 tensors stay as drawn" in " ".join(read_pretrained(path, target_dim=16)[1].words)


def test_a_published_file_of_a_known_size_is_that_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``load_encoder("panderm-large")`` of a pretraining file, and of ours under their names."""
    small = tuple(
        c.model_copy(update={"dim": 48, "depth": 2, "heads": 1}) if c.name == "panderm-large" else c
        for c in cards.KNOWN
    )
    monkeypatch.setattr(cards, "KNOWN", small)
    model = model_of()
    path = as_pth(dict(model.state_dict()) | theirs(model), tmp_path / "panderm_ll_data6_checkpoint-499")
    encoder = panderm.load_encoder("panderm-large", weights=path)
    assert encoder.account.used == 36
    # Beside the encoder's 36: the rest of the model and the wrapper's two other entries.
    assert sum(len(keys) for keys in encoder.account.dropped.values()) == len(theirs(model)) - 36 + 2
    loaded, _ = read_pretrained(path)
    pixels = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert torch.allclose(encoder.network(pixels), loaded.encode(pixels)[:, 0], atol=1e-5)


def test_ours_fits_the_readers_of_the_published_files(tmp_path: Path) -> None:
    """The published probe strips ``encoder.`` anywhere and takes what it finds; tuning keeps it."""
    model, path = model_of(), tmp_path / "p.safetensors"
    write_pretrained(model, path, RECORD)
    network = panderm.load_encoder(weights=path).network
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    stripped = {key.replace("encoder.", ""): tuple(value.shape) for key, value in load_file(path).items()}
    assert {key: stripped.get(key) for key in wanted} == wanted
    kept = {k.removeprefix("encoder."): v for k, v in load_file(path).items() if k.startswith("encoder.")}
    assert kept.keys() == wanted.keys()


# What cannot be


def test_an_encoder_alone_is_no_model_to_go_on_with(tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    write_encoder(model_of(), path, "mine")
    assert regressor_of(path) is None
    with pytest.raises(WeightsError, match="must hold an encoder and a regressor"):
        read_pretrained(path)


def test_a_tensor_that_is_missing_or_strange_is_named(tmp_path: Path) -> None:
    state = theirs(model_of(), extra=False)
    missing = {k: v for k, v in state.items() if k != "encoder.blocks.1.gamma_2"}
    with pytest.raises(WeightsError, match=r"blocks\.1\.gamma_2"):
        read_pretrained(as_safetensors(missing, tmp_path / "missing"))
    gone = {k: v for k, v in state.items() if k != "regresser.regressor_blocks.1.norm1_k.bias"}
    with pytest.raises(WeightsError, match=r"regressor_blocks\.1\.norm1_k\.bias"):
        read_pretrained(as_safetensors(gone, tmp_path / "gone"))
    with pytest.raises(WeightsError, match="odd"):
        read_pretrained(as_safetensors(state | {"encoder.odd": torch.zeros(3)}, tmp_path / "odd"))


def test_words_that_are_damaged_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    save_file(theirs(model_of()), path, metadata={WORDS: '{"student": 3}'})
    with pytest.raises(WeightsError, match="says of itself"):
        read_pretrained(path)


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    model, path = model_of(), tmp_path / "p.safetensors"
    write_pretrained(model, path, RECORD)
    with pytest.raises(ArtifactError):
        write_pretrained(model, path, RECORD)
    with pytest.raises(ArtifactError):
        write_encoder(model, path, "mine")
    write_pretrained(model_of(seed=1), path, RECORD, overwrite=True)
    assert same(read_pretrained(path)[0].state_dict(), model_of(seed=1).state_dict())
    with pytest.raises(UsageError, match="safetensors"):
        write_encoder(model, tmp_path / "e.pth", "mine")
    assert sorted(file.name for file in tmp_path.iterdir() if file.is_file()) == ["p.safetensors"]


@pytest.mark.parametrize("record", [{"loss": math.nan}, {"paths": {1, 2}}, {"x": np.float32(1)}])
def test_a_record_must_be_json(tmp_path: Path, record: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="must be JSON"):
        write_pretrained(model_of(), tmp_path / "p.safetensors", record)


def test_patches_are_of_sixteen_pixels() -> None:
    assert model_of().encoder.patch_embed.proj.kernel_size == (PATCH, PATCH)
