"""open_clip's image towers: the library's own numbers before the projection, the library's own pixels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import panderm
from panderm.errors import UsageError, WeightsError
from panderm.models import families
from panderm.models.cards import KNOWN, EncoderCard
from panderm.models.families import family_of
from panderm.models.from_open_clip import PANDERM_TOWER, card_of_config, open_clip_card

open_clip = pytest.importorskip("open_clip")
TOLERANCE = 1e-5
VIT = {"layers": 2, "width": 48, "head_width": 12, "patch_size": 16, "image_size": 64}
TRUNK = {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "", "timm_proj": "linear", "image_size": 224}
RESNET = {"layers": [1, 1, 1, 1], "width": 16, "head_width": 32, "image_size": 64}
COCA = VIT | {"attentional_pool": True, "attn_pooler_heads": 4, "attn_pooler_queries": 8, "pool_type": "tok"}
TEXT = {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def whole_model(vision: dict[str, Any], *, quick_gelu: bool = False) -> Any:
    torch.manual_seed(0)
    model = open_clip.CLIP(32, dict(vision), dict(TEXT), quick_gelu=quick_gelu).eval()
    for parameter in model.parameters():  # away from an initialisation near zero
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def folder_for(
    tmp_path: Path, model: Any, vision: dict[str, Any], *, quick_gelu: bool = False, **pixels: Any
) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir(exist_ok=True)
    config = {
        "model_cfg": {"embed_dim": 32, "vision_cfg": vision, "text_cfg": TEXT, "quick_gelu": quick_gelu}
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config | {"preprocess_cfg": pixels}))
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return folder


def load(folder: Path, **options: Any) -> panderm.Encoder:
    return panderm.load_encoder("hf-hub:me/mine", weights=folder, device="cpu", **options)


def noise(side: int) -> torch.Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def before_projection(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """By the library itself: the vector whose product with the projection it returns."""
    visual, seen = model.visual, []
    if hasattr(visual, "trunk"):
        visual.head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        visual(pixels)
    elif hasattr(visual, "attnpool"):
        seen.append(visual(pixels))
    else:
        visual.proj = None
        seen.append(visual(pixels))
    return torch.as_tensor(seen[0]).detach()


@pytest.mark.parametrize("quick_gelu", [False, True])
@pytest.mark.parametrize("vision", [VIT, TRUNK, RESNET, COCA], ids=["vit", "trunk", "resnet", "coca"])
def test_a_vector_is_the_library_s_before_its_projection(
    vision: dict[str, Any], quick_gelu: bool, tmp_path: Path
) -> None:
    model = whole_model(vision, quick_gelu=quick_gelu)
    encoder = load(folder_for(tmp_path, model, vision, quick_gelu=quick_gelu))
    pixels = noise(int(vision["image_size"]))
    expected = before_projection(model, pixels)
    torch.testing.assert_close(encoder.encode(pixels), expected, atol=TOLERANCE, rtol=TOLERANCE)
    assert encoder.dim == expected.shape[1]
    assert "text tower and its scale" in encoder.account.dropped


def test_the_activation_changes_the_numbers(tmp_path: Path) -> None:
    model = whole_model(VIT, quick_gelu=True)
    right = load(folder_for(tmp_path, model, VIT, quick_gelu=True)).encode(noise(64))
    wrong = load(folder_for(tmp_path, model, VIT, quick_gelu=False)).encode(noise(64))
    assert float((right - wrong).abs().max()) > 100 * TOLERANCE


def test_mean_is_of_the_patch_tokens_after_the_norm(tmp_path: Path) -> None:
    model = whole_model(VIT)
    encoder = load(folder_for(tmp_path, model, VIT), pool="mean")
    pixels = noise(64)
    seen: list[torch.Tensor] = []
    model.visual.ln_post.register_forward_hook(lambda _, __, out: seen.append(out))
    model.visual(pixels)
    torch.testing.assert_close(encoder.encode(pixels), seen[0][:, 1:].mean(1), atol=TOLERANCE, rtol=TOLERANCE)
    assert encoder.record.pool == "mean"


@pytest.mark.parametrize("vision", [RESNET, COCA], ids=["resnet", "coca"])
def test_what_pools_with_its_own_attention_cannot_pool_otherwise(
    vision: dict[str, Any], tmp_path: Path
) -> None:
    folder = folder_for(tmp_path, whole_model(vision), vision)
    assert load(folder).record.pool == "attention"
    with pytest.raises(UsageError, match="cannot pool mean"):
        load(folder, pool="mean")


@pytest.mark.parametrize(("vision", "size"), [(VIT, 96), (TRUNK, 64), (RESNET, 96)])
def test_other_sizes_resize_the_position_table(vision: dict[str, Any], size: int, tmp_path: Path) -> None:
    encoder = load(folder_for(tmp_path, whole_model(vision), vision), image_size=size)
    assert any("position table resized" in note for note in encoder.account.notes)
    assert bool(encoder.encode(noise(size)).isfinite().all())


@pytest.mark.parametrize("vision", [VIT, TRUNK], ids=["vit", "trunk"])
def test_tokens_and_attention_can_be_seen(vision: dict[str, Any], tmp_path: Path) -> None:
    encoder = load(folder_for(tmp_path, whole_model(vision), vision))
    side = int(vision["image_size"])
    assert encoder.tokens(noise(side)).shape == (2, side // 16, side // 16, encoder.dim)
    assert encoder.attention(noise(side)).shape[2:] == (side // 16, side // 16)


def test_the_tower_alone_is_enough(tmp_path: Path) -> None:
    model = whole_model(VIT)
    folder = folder_for(tmp_path, model, VIT)
    expected = load(folder).encode(noise(64))
    save_file(
        {key: value.contiguous() for key, value in model.visual.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    alone = load(folder)
    assert torch.equal(alone.encode(noise(64)), expected)
    assert alone.account.dropped == {"projection to the space shared with text": ["proj"]}


def drop(key: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def change(state: dict[str, torch.Tensor]) -> None:
        del state[key]

    return change


def stretch(state: dict[str, torch.Tensor]) -> None:
    state["visual.ln_post.weight"] = torch.ones(50)


def add(state: dict[str, torch.Tensor]) -> None:
    state["visual.extra.weight"] = torch.ones(3)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (drop("visual.conv1.weight"), "1 missing: conv1.weight"),
        (stretch, "of another shape"),
        (add, "cannot be explained: extra.weight"),
    ],
)
def test_a_wrong_file_is_refused(
    change: Callable[[dict[str, torch.Tensor]], None], says: str, tmp_path: Path
) -> None:
    model = whole_model(VIT)
    folder = folder_for(tmp_path, model, VIT)
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    change(state)
    save_file(state, folder / "open_clip_model.safetensors")
    with pytest.raises(WeightsError, match=says):
        load(folder)


@pytest.mark.parametrize("mode", ["shortest", "squash"])
def test_pixels_are_the_library_s(mode: str) -> None:
    config = {"resize_mode": mode, "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.25] * 3}
    model = {"embed_dim": 32, "vision_cfg": VIT | {"image_size": 224}}
    card = card_of_config("hf-hub:me/mine", "me/mine", {"model_cfg": model, "preprocess_cfg": config})
    rgb = np.random.default_rng(0).integers(0, 256, (450, 600, 3), dtype=np.uint8)
    theirs = open_clip.image_transform(
        224, is_train=False, resize_mode=mode, interpolation="bicubic", mean=(0.5,) * 3, std=(0.25,) * 3
    )
    torch.testing.assert_close(card.preprocess(rgb), theirs(Image.fromarray(rgb)), atol=1e-6, rtol=0)


def test_a_tag_brings_its_activation_its_pixels_and_its_address() -> None:
    openai, laion = open_clip_card("open_clip:ViT-B-32/openai"), open_clip_card("open_clip:ViT-B-32")
    assert openai.config is not None
    assert laion.config is not None
    assert (openai.config["quick_gelu"], laion.config["quick_gelu"]) == (True, False)
    assert (openai.dim, openai.depth, openai.heads) == (768, 12, 12)
    assert openai.files[0].where == "timm/vit_base_patch32_clip_224.openai"
    assert openai.files[0].file == "open_clip_model.safetensors"
    assert laion.files == ()
    assert open_clip_card("open_clip:ViT-B-16-SigLIP/webli").preprocess.resize == (224, 224)
    assert EncoderCard.model_validate_json(openai.model_dump_json()) == openai


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("open_clip:ViT-B-33", "did you mean 'ViT-B-32'"),
        ("open_clip:ViT-B-32/openay", "did you mean 'openai'"),
        ("open_clip:ViT-L-14", "do not all take the same pixels"),
        ("open_clip:hf-hub:me/mine", "must be one that open_clip"),
    ],
)
def test_an_unknown_name_is_explained(name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        open_clip_card(name)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_cfg": {"embed_dim": 32, "vision_cfg": {"mystery": 1}}}, "names mystery"),
        ({"model_cfg": {"embed_dim": 32, "vision_cfg": {"timm_model_name": "no_net"}}}, "names no_net"),
        ({"model_cfg": {"embed_dim": 32, "vision_cfg": {"name": "PanDerm_Base"}}}, "dermlip-panderm-base"),
        ({"model_cfg": {"embed_dim": 32}}, "has no embed_dim and vision_cfg"),
        ({"model_cfg": {"embed_dim": 32, "vision_cfg": VIT | {"image_size": [64, 32]}}}, "not square"),
        (
            {"model_cfg": {"embed_dim": 32, "vision_cfg": VIT}, "preprocess_cfg": {"resize_mode": "longest"}},
            "pads images",
        ),
    ],
)
def test_a_tower_panderm_cannot_read_is_explained(config: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        card_of_config("hf-hub:me/mine", "me/mine", config)


def test_dermlip_s_panderm_tower_is_named() -> None:
    config = {"model_cfg": {"embed_dim": 32, "vision_cfg": VIT}}
    with pytest.raises(UsageError, match="--encoder dermlip-panderm-base"):
        card_of_config(f"hf-hub:{PANDERM_TOWER}", PANDERM_TOWER, config)


def test_without_the_library_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(families, "import_module", missing)
    with pytest.raises(UsageError, match=r"pip install 'panderm\[open-clip\]'"):
        open_clip_card("open_clip:ViT-B-32")


@pytest.mark.parametrize("card", KNOWN, ids=lambda card: card.name)
def test_every_known_card_says_the_truth(card: EncoderCard) -> None:
    if card.layout == "transformers":
        pytest.importorskip("transformers")
    network = family_of(card).build(card, None)
    state = dict(network.named_parameters())
    assert all(one.is_meta for one in state.values())
    if card.double_norm:  # one norm in the file, used twice
        state = {key: value for key, value in state.items() if not key.startswith("fc_norm.")}
    assert card.parameters == sum(one.numel() for one in state.values())
    assert card.dim == network.num_features


def test_dermlip_s_panderm_tower_norms_twice(tmp_path: Path) -> None:
    """Block by block: the one norm on every token, the mean of patches, the same norm again."""
    card = next(card for card in KNOWN if card.name == "dermlip-panderm-base")
    size = {"dim": 48, "depth": 2, "heads": 4, "parameters": None}
    small = card.model_copy(update=size)
    (tmp_path / "card.json").write_text(small.model_dump_json())
    network = family_of(small).build(small, None)
    from panderm.models.network import draw_weights

    state = draw_weights({key: value.shape for key, value in network.state_dict().items()}, 3)
    file = {f"visual.{k}": v for k, v in state.items() if not k.startswith("fc_norm.")}
    file["visual.head.weight"], file["logit_scale"] = torch.ones(8, 48), torch.ones(1)
    save_file(file, tmp_path / "tower.safetensors")
    encoder = panderm.load_encoder(
        card=tmp_path / "card.json", weights=tmp_path / "tower.safetensors", device="cpu"
    )
    pixels, net = noise(224), encoder.network
    seen: list[torch.Tensor] = []
    net.blocks[-1].register_forward_hook(lambda _, __, out: seen.append(out))  # type: ignore[index,union-attr]
    found = encoder.encode(pixels)

    def norm(x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        spread = (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return centred / spread * state["norm.weight"] + state["norm.bias"]

    torch.testing.assert_close(found, norm(norm(seen[0])[:, 1:].mean(1)), atol=TOLERANCE, rtol=TOLERANCE)
