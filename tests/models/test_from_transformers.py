"""Vision models of transformers: the library's own numbers from the files it writes, and its own pixels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import panderm
from panderm.errors import UsageError, WeightsError
from panderm.models import families
from panderm.models.from_transformers import card_of_config
from panderm.models.names import find_card
from panderm.models.transformers_pixels import preprocess_of

transformers = pytest.importorskip("transformers")
TOLERANCE = 1e-5
SMALL: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "image_size": 64,
    "patch_size": 16,
}
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
TEXT |= {"vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
PIXELS: dict[str, Any] = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": 64, "width": 64},
    "resample": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.25, 0.25, 0.25],
}
STAGES = {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2}
# Each kind: configuration, the class that is saved, and where its vector is in what the library returns.
KINDS: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "clip": ("CLIPConfig", {"vision_config": SMALL, "text_config": TEXT}, "CLIPModel", "pooler"),
    "siglip": ("SiglipConfig", {"vision_config": SMALL, "text_config": TEXT}, "SiglipModel", "pooler"),
    "vit": ("ViTConfig", SMALL, "ViTForImageClassification", "cls"),
    "deit": ("DeiTConfig", SMALL, "DeiTForImageClassificationWithTeacher", "cls"),
    "dinov2": ("Dinov2Config", SMALL, "Dinov2ForImageClassification", "pooler"),
    "giant dinov2": ("Dinov2Config", SMALL | {"use_swiglu_ffn": True}, "Dinov2Model", "pooler"),
    "registers": ("Dinov2WithRegistersConfig", SMALL, "Dinov2WithRegistersModel", "pooler"),
    "dinov3": ("DINOv3ViTConfig", SMALL, "DINOv3ViTModel", "pooler"),
    "beit": (
        "BeitConfig",
        SMALL | {"use_relative_position_bias": True},
        "BeitForImageClassification",
        "pooler",
    ),
    "swin": (
        "SwinConfig",
        {"image_size": 64, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4},
        "SwinForImageClassification",
        "pooler",
    ),
    "convnext": ("ConvNextConfig", STAGES, "ConvNextForImageClassification", "pooler"),
    "resnet": (
        "ResNetConfig",
        STAGES | {"embedding_size": 8},
        "ResNetForImageClassification",
        "pooler",
    ),
}


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def model_of(kind: str) -> Any:
    config, options, model, _ = KINDS[kind]
    torch.manual_seed(0)
    made = getattr(transformers, model)(getattr(transformers, config)(**options)).eval()
    for parameter in made.parameters():  # away from an initialisation near zero
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return made


def folder_for(tmp_path: Path, model: Any, **pixels: Any) -> Path:
    folder = tmp_path / "weights"
    model.save_pretrained(folder)  # the names that published files have
    (folder / "preprocessor_config.json").write_text(json.dumps(PIXELS | pixels))
    return folder


def load(folder: Path, **options: Any) -> panderm.Encoder:
    return panderm.load_encoder("transformers:me/mine", weights=folder, device="cpu", **options)


def noise(side: int = 64) -> torch.Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def vision_of(model: Any) -> Any:
    return getattr(model, "vision_model", None) or getattr(model, model.base_model_prefix, model)


@pytest.mark.parametrize("kind", KINDS)
def test_a_vector_is_the_library_s(kind: str, tmp_path: Path) -> None:
    model = model_of(kind)
    encoder = load(folder_for(tmp_path, model))
    vision = model if kind == "dinov3" else vision_of(model)
    with torch.no_grad():
        out = vision(pixel_values=noise())
    expected = out.last_hidden_state[:, 0] if KINDS[kind][3] == "cls" else out.pooler_output.flatten(1)
    torch.testing.assert_close(encoder.encode(noise()), expected, atol=TOLERANCE, rtol=TOLERANCE)
    assert encoder.dim == expected.shape[1]


def test_mean_of_a_clip_tower_goes_through_its_norm(tmp_path: Path) -> None:
    model = model_of("clip")
    encoder = load(folder_for(tmp_path, model), pool="mean")
    with torch.no_grad():
        tower = model.vision_model
        tokens = tower(pixel_values=noise()).last_hidden_state
        expected = tower.post_layernorm(tokens)[:, 1:].mean(1)
    torch.testing.assert_close(encoder.encode(noise()), expected, atol=TOLERANCE, rtol=TOLERANCE)
    assert encoder.record.pool == "mean"


@pytest.mark.parametrize("kind", ["siglip", "swin", "convnext"])
def test_no_class_token_no_cls(kind: str, tmp_path: Path) -> None:
    folder = folder_for(tmp_path, model_of(kind))
    with pytest.raises(UsageError, match="no class token"):
        load(folder, pool="cls")


@pytest.mark.parametrize("kind", ["vit", "clip", "siglip", "dinov2", "registers", "dinov3"])
def test_other_sizes_are_as_the_library_resizes(kind: str, tmp_path: Path) -> None:
    model = model_of(kind)
    encoder = load(folder_for(tmp_path, model), image_size=96)
    vision = model if kind == "dinov3" else vision_of(model)
    options = {"interpolate_pos_encoding": True} if kind in ("vit", "clip", "siglip") else {}
    with torch.no_grad():
        out = vision(pixel_values=noise(96), **options)
    expected = out.last_hidden_state[:, 0] if kind == "vit" else out.pooler_output
    torch.testing.assert_close(encoder.encode(noise(96)), expected, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("kind", ["clip", "siglip", "vit", "dinov2", "dinov3"])
def test_tokens_can_be_seen(kind: str, tmp_path: Path) -> None:
    encoder = load(folder_for(tmp_path, model_of(kind)))
    assert encoder.tokens(noise()).shape == (2, 4, 4, 48)
    if kind != "siglip":
        assert encoder.attention(noise()).shape == (2, 4, 4, 4)


def test_a_loaded_network_can_learn(tmp_path: Path) -> None:
    # The library keeps BEiT's positions for all of its networks: made in inference mode, they would stop it.
    network = load(folder_for(tmp_path, model_of("beit"))).network.train().requires_grad_()
    network(noise()).square().mean().backward()
    table = next(p for name, p in network.named_parameters() if name.endswith("position_bias_table"))
    assert table.grad is not None
    assert table.grad.any()


def test_the_pickled_file_gives_the_same(tmp_path: Path) -> None:
    folder = folder_for(tmp_path, model_of("clip"))
    expected = load(folder).encode(noise())
    state = load_file(folder / "model.safetensors")
    state["vision_model.embeddings.position_ids"] = torch.arange(17)[None]  # as older files have it
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    encoder = load(folder)
    assert torch.equal(encoder.encode(noise()), expected)
    assert encoder.account.dropped["computed, not learned"] == ["vision_model.embeddings.position_ids"]


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("vision_model.post_layernorm.bias", None, "1 missing: model.post_layernorm.bias"),
        ("vision_model.post_layernorm.bias", torch.ones(50), "of another shape"),
        ("vision_model.extra", torch.ones(3), "cannot be explained: model.extra"),
        ("other.extra", torch.ones(3), "cannot be explained"),
    ],
)
def test_a_wrong_file_is_refused(key: str, value: torch.Tensor | None, says: str, tmp_path: Path) -> None:
    folder = folder_for(tmp_path, model_of("clip"))
    state = load_file(folder / "model.safetensors")
    state.pop(key, None)
    if value is not None:
        state[key] = value
    save_file(state, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=says):
        load(folder)


@pytest.mark.parametrize(
    ("processor", "options"),
    [
        ("CLIPImageProcessor", {}),
        ("ViTImageProcessor", {}),
        ("SiglipImageProcessor", {}),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 224}}),
        ("DINOv3ViTImageProcessor", {}),
    ],
)
def test_pixels_are_the_library_s(processor: str, options: dict[str, Any]) -> None:
    theirs = getattr(transformers, processor)(**options)
    ours = preprocess_of("mine", json.loads(theirs.to_json_string()))
    base = np.random.default_rng(0).integers(0, 256, (15, 20, 3), dtype=np.uint8)
    rgb = np.asarray(Image.fromarray(base).resize((600, 450), Image.Resampling.BICUBIC))
    expected = theirs(Image.fromarray(rgb), return_tensors="pt")["pixel_values"][0]
    level = 1 / 255 / min(ours.std)
    assert ours(rgb).shape == expected.shape
    off = (ours(rgb) - expected).abs() / level
    # Theirs is resized by torch, ours by Pillow, each rounding after both passes: seldom they are 2 apart.
    assert float(off.max()) <= 2.01
    assert float((off > 1.01).float().mean()) < 1e-4


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"do_pad": True}, "do_pad"),
        ({"do_rescale": False}, "do_rescale"),
        ({"rescale_factor": 1 / 127.5}, "rescale_factor"),
        ({"size": {"height": 64, "width": 32}}, "not square"),
        ({"size": {"shortest_edge": 64}}, "must become squares"),
        ({"size": None}, "does not say size"),
        ({"resample": 4}, "filter 4"),
        ({"do_center_crop": True, "crop_size": 96}, "pads images"),
        ({"image_mean": [0.5, 0.5]}, "three numbers"),
    ],
)
def test_pixels_panderm_cannot_make_are_explained(change: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        preprocess_of("mine", PIXELS | change)


def test_without_normalisation_pixels_stay_between_0_and_1() -> None:
    made = preprocess_of("mine", PIXELS | {"do_normalize": False})
    pixels = made(np.full((80, 80, 3), 255, np.uint8))
    assert torch.equal(pixels, torch.ones(3, 64, 64))


def test_a_model_without_pixels_or_of_another_kind_is_explained() -> None:
    with pytest.raises(UsageError, match=r"no preprocessor_config\.json"):
        card_of_config("transformers:me/mine", "me/mine", {"model_type": "vit"} | SMALL, None)
    with pytest.raises(UsageError, match="model_type bert"):
        card_of_config("transformers:me/mine", "me/mine", {"model_type": "bert"}, PIXELS)
    wrong = {"model_type": "vit"} | SMALL | {"hidden_size": "wide"}
    with pytest.raises(UsageError, match="must be one of vit"):
        card_of_config("transformers:me/mine", "me/mine", wrong, PIXELS)


@pytest.mark.parametrize("name", ["suinleelab/monet", "google/medsiglip-448"])
def test_known_ids_need_no_configuration(name: str) -> None:
    card = find_card(f"transformers:{name}")
    assert (card.name, card.files[0].where) == (f"transformers:{name}", name)
    assert card.config is not None


def test_without_the_library_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(families, "import_module", missing)
    with pytest.raises(UsageError, match=r"pip install 'panderm\[transformers\]'"):
        card_of_config("transformers:me/mine", "me/mine", {"model_type": "vit"} | SMALL, PIXELS)
