"""Where a student begins: each kind of file, with every tensor of it accounted for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

from panderm.errors import WeightsError
from panderm.models.network import draw_weight
from panderm.pretraining.initial import crops_of, from_plain, read_init
from panderm.pretraining.student import PretrainingModel, Student
from panderm.weights.account import Account

SMALL = Student("small", 64, 2, 1, 1, layer_scale=0.1, mask_ratio=0.25, drop_path=0.0)
SIDE = 48


def model(target: int = 10, seed: int = 0) -> PretrainingModel:
    return PretrainingModel(SMALL, target_dim=target, image_size=SIDE, seed=seed).eval()


def trained() -> PretrainingModel:
    made = model(seed=5)
    with torch.no_grad():
        for name, value in made.named_parameters():
            if not name.endswith("pos_embed"):
                value.copy_(draw_weight(name, value.shape, 1))
    return made


def same(a: PretrainingModel, b: PretrainingModel, start: str = "") -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return all(torch.equal(ours[key], theirs[key]) for key in ours if key.startswith(start))


def file_of(path: Path, state: dict[str, torch.Tensor]) -> Path:
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    return path


def plain(width: int = 64, patch: int = 16) -> VisionTransformer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = VisionTransformer(
            img_size=3 * patch,
            patch_size=patch,
            embed_dim=width,
            depth=2,
            num_heads=width // 64,
            init_values=0.5,
            num_classes=0,
        )
        with torch.no_grad():
            for name, value in made.named_parameters():
                if name.endswith("bias"):
                    value.normal_()
                elif value.ndim > 1:
                    value.mul_(3)
    return made.eval()


def test_a_whole_pretraining_file_goes_on_exactly(tmp_path: Path) -> None:
    source, into = trained(), model()
    begun = read_init(file_of(tmp_path / "whole.safetensors", source.state_dict()), into)
    assert same(source, into)
    assert begun.kind == "pretraining"
    assert begun.filled == len(into.state_dict())
    assert begun.words == (f"{begun.filled} tensors used",)
    assert json.loads(json.dumps(begun.record()))["sha256"] == begun.sha256


def test_another_teacher_s_head_stays_as_drawn_and_is_told(tmp_path: Path) -> None:
    source, into, drawn = trained(), model(target=7), model(target=7)
    begun = read_init(file_of(tmp_path / "whole.safetensors", source.state_dict()), into)
    assert same(source, into, "encoder.")
    assert same(source, into, "regresser.")
    assert same(drawn, into, "decoder.head")
    assert "2 dropped (of another shape)" in begun.words[0]
    assert "2 tensors stay as drawn: decoder.head.weight, decoder.head.bias" in begun.words[1]


@pytest.mark.parametrize("prefix", ["", "encoder."])
def test_an_encoder_alone_fills_the_encoder_exactly(tmp_path: Path, prefix: str) -> None:
    source, into, drawn = trained(), model(), model()
    names = [key for key in source.state_dict() if key.startswith("encoder.")]
    state = {prefix + key.removeprefix("encoder."): source.state_dict()[key] for key in names}
    begun = read_init(file_of(tmp_path / "encoder.safetensors", state), into)
    assert begun.kind == "encoder"
    assert same(source, into, "encoder.")
    assert same(drawn, into, "regresser.")
    assert "stay as drawn" in begun.words[1]


@torch.no_grad()
def test_of_a_plain_transformer_the_key_bias_is_not_missed(tmp_path: Path) -> None:
    network, into = plain(), model()
    network.pos_embed.copy_(into.encoder.pos_embed)  # so that nothing else differs
    begun = read_init(file_of(tmp_path / "plain.safetensors", network.state_dict()), into)
    x = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(into.encode(x), network.forward_features(x), atol=1e-4)
    assert begun.kind == "timm"
    assert "the key bias of 2 blocks left out" in begun.words[0]
    assert "learned positions: the fixed table stays" in begun.words[0]


@torch.no_grad()
def test_a_kernel_of_14_becomes_one_of_16_that_sees_the_same() -> None:
    network, account = plain(patch=14), Account()
    made = from_plain(network.state_dict(), model().state_dict(), account)
    assert made["patch_embed.proj.weight"].shape == (64, 3, 16, 16)
    assert any("patch kernel resized from 14×14 to 16×16" in note for note in account.notes)
    even = torch.ones(1, 3, 16, 16)
    wide = torch.nn.functional.conv2d(even, made["patch_embed.proj.weight"])
    narrow = torch.nn.functional.conv2d(even[..., :14, :14], network.patch_embed.proj.weight)
    assert torch.allclose(wide, narrow, rtol=0.05, atol=0.05)


def test_a_wider_one_is_narrowed_on_crops_and_not_without(tmp_path: Path) -> None:
    path = file_of(tmp_path / "wide.safetensors", plain(width=128, patch=14).state_dict())
    with pytest.raises(WeightsError, match="or be narrowed on images") as found:
        read_init(path, model())
    assert "is 128 wide, the student small 64" in str(found.value)
    crops = np.random.default_rng(0).integers(0, 256, (10, SIDE, SIDE, 3), dtype=np.uint8)
    into, drawn = model(target=128), model(target=128)
    begun = read_init(path, into, crops=lambda: crops)
    assert begun.kind == "narrowed"
    assert "narrowed from 128 to 64 on crops of 10 images" in begun.words[0]
    assert "stay as drawn" in begun.words[-1]
    assert not torch.equal(into.decoder.head.weight, drawn.decoder.head.weight)
    assert same(drawn, into, "regresser.")
    other = model(target=9)
    begun = read_init(path, other, crops=lambda: crops)  # another teacher than what is narrowed
    assert same(into, other, "encoder.")
    assert same(model(target=9), other, "decoder.head")
    assert "of another shape" in begun.words[0]


@pytest.mark.parametrize(("gone", "more"), [("norm.weight", None), (None, "blocks.0.attn.rope")])
def test_what_does_not_fit_is_refused_by_name(tmp_path: Path, gone: str | None, more: str | None) -> None:
    names = [key for key in trained().state_dict() if key.startswith("encoder.")]
    state = {key.removeprefix("encoder."): trained().state_dict()[key] for key in names}
    if gone:
        del state[gone]
    if more:
        state[more] = torch.zeros(1)
    with pytest.raises(WeightsError, match="must fit the student") as found:
        read_init(file_of(tmp_path / "odd.safetensors", state), model())
    assert str(gone or more) in str(found.value)
    with pytest.raises(WeightsError, match="must exist"):
        read_init(tmp_path / "absent.safetensors", model())


def test_crops_are_spread_over_the_source() -> None:
    @dataclass
    class Batch:
        student: torch.Tensor

    asked: list[npt.NDArray[np.int64]] = []

    def feed(groups: object) -> object:
        for group in groups:  # type: ignore[attr-defined]
            asked.append(group)
            good = group[group != 3]  # one cannot be read
            yield Batch(torch.from_numpy(good).to(torch.uint8)[:, None, None, None].expand(-1, 2, 2, 3))

    found = crops_of(feed, 100, most=34)  # type: ignore[arg-type]
    assert found.shape == (33, 2, 2, 3)
    assert [found[0, 0, 0, 0], found[-1, 0, 0, 0]] == [0, 99]
    assert max(len(group) for group in asked) <= 32
    asked.clear()
    assert len(crops_of(feed, 10)) == 9  # type: ignore[arg-type]
