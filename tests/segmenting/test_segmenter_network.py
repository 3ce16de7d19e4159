"""A segmenter's network: which blocks are read of which encoder, what learns, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

import panderm
from panderm.errors import UsageError, WeightsError
from panderm.segmenting.network import SegmenterNetwork, assembled, segmenter_for
from panderm.segmenting.taps import published_taps, taps_of

SIDE = 64


def noise(side: int = SIDE, n: int = 1) -> torch.Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(2))


def small(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=0, **options).eval()


def test_the_published_taps_are_in_proportion() -> None:
    assert published_taps(24) == (7, 11, 15, 23)
    assert published_taps(12) == (3, 5, 7, 11)
    assert published_taps(32) == (10, 15, 20, 31)
    assert published_taps(1) == (0, 0, 0, 0)


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_taps_are_what_the_encoder_says_of_each_patch(pool: Any) -> None:
    encoder = panderm.load_encoder("panderm-tiny", pool=pool, image_size=SIDE)
    taps = taps_of(encoder.network, name="tiny", image_size=SIDE, taps=[2, -1, 2])
    assert (taps.blocks, taps.widths, taps.strides, taps.plain) == ((2, 11, 2), (192,) * 3, (16,) * 3, True)
    with torch.no_grad():
        found = taps(encoder.network, noise(n=2))
    wanted = encoder.tokens(noise(n=2), blocks=[2, -1, 2])
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == (2, 192, 4, 4)
        assert (one.permute(0, 2, 3, 1) - other).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("name", "options", "patch"),
    [
        ("vit_small_patch14_reg4_dinov2", {"img_size": 56, "depth": 3}, 14),
        ("vit_small_patch16_dinov3", {"depth": 3}, 16),
    ],
)
def test_register_tokens_are_no_patches(name: str, options: dict[str, Any], patch: int) -> None:
    """What changes in the first patch of pixels changes most at the first place of the map."""
    side = 4 * patch
    encoder = small(name, **options)
    taps = taps_of(encoder, name=name, image_size=side, taps=[0])
    assert (taps.widths, taps.strides) == ((384,), (patch,))
    pixels = noise(side)
    changed = pixels.clone()
    changed[..., patch : 2 * patch, 2 * patch : 3 * patch] += 3
    with torch.no_grad():
        one, other = (taps(encoder, x)[0] for x in (pixels, changed))
    assert one.shape == (1, 384, 4, 4)
    moved = (one - other).square().sum(1)[0]
    assert int(moved.argmax()) == 1 * 4 + 2


@pytest.mark.parametrize(
    ("name", "widths", "strides"),
    [
        ("resnet18", (64, 128, 256, 512), (4, 8, 16, 32)),
        ("convnext_atto", (40, 80, 160, 320), (4, 8, 16, 32)),
        ("test_vit", (64, 64, 64, 64), (16, 16, 16, 16)),
    ],
)
def test_encoders_of_timm_have_tokens_or_stages(name: str, widths: Any, strides: Any) -> None:
    encoder = small(name, img_size=SIDE) if name == "test_vit" else small(name)
    for decoder in ("linear", "convolutional", "upernet"):
        network, width = assembled(
            encoder, name=name, decoder=decoder, taps=None, width=None, image_size=SIDE, classes=3
        )
        assert network.taps is not None
        assert network.taps.widths == (widths[-1:] if decoder == "linear" else widths)
        assert network.taps.strides == (strides[-1:] if decoder == "linear" else strides)
        assert width == {"linear": None, "convolutional": 128, "upernet": widths[-1]}[decoder]
        with torch.no_grad():
            logits = network.eval()(noise())
        assert (logits.shape, logits.dtype) == ((1, 3, SIDE, SIDE), torch.float32)


@pytest.mark.parametrize("library", ["open_clip", "transformers"])
def test_towers_of_other_libraries_have_tokens(library: str) -> None:
    if library == "open_clip":
        model = pytest.importorskip("open_clip.transformer")
        tower: nn.Module = model.VisionTransformer(SIDE, 16, 32, 3, 2, 2.0, output_dim=16)
    else:
        transformers = pytest.importorskip("transformers")
        config = transformers.Dinov2Config(
            hidden_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=SIDE, patch_size=16
        )
        tower = transformers.Dinov2Model(config)
    network, _ = assembled(
        tower, name=library, decoder="convolutional", taps=None, width=8, image_size=SIDE, classes=2
    )
    assert network.taps is not None
    assert (network.taps.blocks, network.taps.widths) == (published_taps(3), (32,) * 4)
    tower.requires_grad_(requires_grad=True)
    network(noise()).sum().backward()
    learned = [name for name, one in tower.named_parameters() if one.grad is not None]
    assert any("patch" in name or "conv1" in name for name in learned)


def test_a_frozen_encoder_keeps_no_gradient_and_stays_in_evaluation() -> None:
    started = segmenter_for("panderm-tiny", image_size=SIDE)
    network = started.network.train()
    assert network.frozen
    assert not network.encoder.training
    assert network.decoder.training
    assert started.trainable == sum(one.numel() for one in network.decoder.parameters())
    before = {name: one.clone() for name, one in network.encoder.state_dict().items()}
    network(noise()).square().sum().backward()
    assert all(one.grad is None for one in network.encoder.parameters())
    assert all(one.grad is not None for one in network.decoder.parameters())
    assert all(torch.equal(one, before[name]) for name, one in network.encoder.state_dict().items())
    assert started.words == ()


def test_an_encoder_that_learns_gets_a_gradient_everywhere_but_where_no_logit_looks() -> None:
    started = segmenter_for("panderm-tiny", image_size=SIDE, frozen=False, taps=[2, 2, 3, 5], drop_path=0.1)
    network = started.network.train()
    assert not network.frozen
    torch.manual_seed(1)
    network(noise(n=4)).square().sum().backward()
    learning = {name for name, one in network.named_parameters() if one.requires_grad}
    assert {name for name, one in network.named_parameters() if one.grad is not None} == learning
    assert "encoder.pos_embed" not in learning
    assert not any(name.startswith("encoder.blocks.6.") for name in learning)
    assert any("no logit depends on" in word for word in started.words)
    assert any("stochastic depth" in word for word in started.words)
    assert started.layers.depth == 12
    assert started.layers.ids["decoder.conv_seg.weight"] == 13


def test_drawn_weights_follow_their_seed_and_disturb_no_other_draw() -> None:
    torch.manual_seed(7)
    one, two, other = (segmenter_for("panderm-tiny", image_size=SIDE, seed=n).network for n in (3, 3, 4))
    after = torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(after, torch.rand(1))
    same = [
        torch.equal(a, b) for a, b in zip(one.decoder.parameters(), two.decoder.parameters(), strict=True)
    ]
    assert all(same)
    assert not torch.equal(one.decoder.conv_seg.weight, other.decoder.conv_seg.weight)  # type: ignore[union-attr]


def test_the_whole_image_is_seen() -> None:
    """A landscape is squashed, not cut: its left and right ends are in the square."""
    started = segmenter_for("panderm-tiny", image_size=SIDE)
    assert started.preprocess.size == SIDE
    image = torch.zeros(40, 120, 3, dtype=torch.uint8)
    image[:, :12], image[:, -12:] = 255, 200
    pixels = started.preprocess.pixels(image.numpy())
    assert pixels.shape == (SIDE, SIDE, 3)
    assert (pixels[:, 0].min(), pixels[:, -1].max()) == (255, 200)
    made = started.preprocess.normalise(torch.from_numpy(pixels)[None])
    assert made.shape == (1, 3, SIDE, SIDE)
    mean, std = started.preprocess.mean[0], started.preprocess.std[0]
    assert made[0, 0, 0, 0].item() == pytest.approx((1 - mean) / std)


def test_a_unet_is_the_library_s_own(tmp_path: Path) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    started = segmenter_for(decoder="unet", image_size=SIDE, seed=5)
    assert (started.record, started.card, started.backbone, started.taps) == (None, None, "resnet34", ())
    assert "random weights" in started.words[0]
    assert started.trainable == sum(one.numel() for one in started.network.parameters())
    theirs = smp.Unet("resnet34", encoder_weights=None, classes=2).eval()
    names = {"encoder.": "encoder.", "decoder.": "decoder.blocks.", "segmentation_head.": "decoder.head."}
    ours = started.network.eval().state_dict()
    for name in theirs.state_dict():
        start = next(one for one in names if name.startswith(one))
        theirs.state_dict()[name].copy_(ours[names[start] + name.removeprefix(start)])
    with torch.no_grad():
        assert torch.equal(started.network(noise()), theirs(noise()))
    one = segmenter_for(decoder="unet", image_size=32).network.train()  # pooled to 1×1 inside
    one(noise(32)).square().sum().backward()
    assert all(bool(each.isfinite().all()) for each in one.state_dict().values())
    # A backbone's weights from a local file, as timm and torchvision save them.
    backbone = timm.create_model("resnet34").state_dict()
    save_file({name: one.contiguous() for name, one in backbone.items()}, tmp_path / "resnet34.safetensors")
    filled = segmenter_for(decoder="unet", image_size=SIDE, weights=tmp_path / "resnet34.safetensors")
    assert torch.equal(
        filled.network.state_dict()["encoder.layer1.0.conv1.weight"], backbone["layer1.0.conv1.weight"]
    )
    assert "2 dropped (classifier)" in filled.words[0]
    wrong = {name: one.contiguous() for name, one in backbone.items() if "layer4.2" not in name}
    save_file(wrong, tmp_path / "wrong.safetensors")
    with pytest.raises(WeightsError, match="fit resnet34"):
        segmenter_for(decoder="unet", image_size=SIDE, weights=tmp_path / "wrong.safetensors")


class NoTokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.only = nn.Conv2d(3, 4, 8, stride=8)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.only(pixels).mean((2, 3))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image_size": 100}, "multiple of 16 pixels"),
        ({"image_size": 0}, "side of a pixel"),
        ({"decoder": "uppernet"}, "did you mean 'upernet'"),
        ({"taps": [3, 12, 1, 1]}, "0 to 11, or -1 to -12"),
        ({"taps": [1, 2]}, "must read 4 blocks"),
        ({"taps": []}, "found no taps"),
        ({"decoder": "linear", "width": 8}, "no channels of its own"),
        ({"width": 0}, "a channel or more"),
        ({"classes": 1}, "two classes apart"),
        ({"drop_path": 0.2}, "that learns"),
        ({"drop_path": 1.5, "frozen": False}, "less than 1"),
        ({"decoder": "unet", "encoder": "resnet3", "image_size": 64}, "did you mean"),
        ({"decoder": "unet", "encoder": "tu-vit_tiny_patch16_224"}, "Unsupported model downsampling"),
        ({"decoder": "unet", "encoder": None, "image_size": 80}, "multiple of 32"),
        ({"decoder": "unet", "encoder": None, "taps": [1]}, "--taps is of an encoder"),
    ],
)
def test_what_no_segmenter_can_be_is_said(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        segmenter_for(**{"encoder": "panderm-tiny", "image_size": SIDE} | options)


def test_an_encoder_without_maps_is_refused() -> None:
    given = {"decoder": "linear", "taps": None, "width": None, "image_size": SIDE, "classes": 2}
    with pytest.raises(UsageError, match="tokens of patches, or maps of stages"):
        assembled(NoTokens(), name="mine", **given)  # type: ignore[arg-type]
    patch14 = small("vit_small_patch14_dinov2", img_size=56, depth=2)
    with pytest.raises(UsageError, match=r"multiple of the patch of dino, 14 pixels.\n.*64(.|\n)*56 or 70"):
        assembled(patch14, name="dino", **given)  # type: ignore[arg-type]


def test_one_patch_is_no_pyramid() -> None:
    alone = small("vit_small_patch14_dinov2", img_size=14, depth=1)
    given: dict[str, Any] = {"taps": None, "width": None, "image_size": 14, "classes": 2, "name": "dino"}
    assert assembled(alone, decoder="linear", **given)[0](noise(14)).shape == (1, 2, 14, 14)
    with pytest.raises(UsageError, match=r"two patches of dino(.|\n)*28 or more"):
        assembled(alone, decoder="upernet", **given)


def test_autocast_gives_float32_logits_all_the_same() -> None:
    network = segmenter_for("panderm-tiny", image_size=SIDE).network
    assert isinstance(network, SegmenterNetwork)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        logits = network.eval()(noise())
    assert logits.dtype == torch.float32
    assert logits.shape == (1, 2, SIDE, SIDE)
