"""Teachers: each library's own tokens, at the size that gives the grid, registers left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.layers import resample_abs_pos_embed

from panderm.errors import DataError, UsageError
from panderm.pretraining.teacher import Teacher

TOLERANCE = 3e-3  # patch tokens come in float16
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP = {"layers": 2, "width": 48, "head_width": 12, "patch_size": 16, "image_size": 64}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What files answered is remembered elsewhere."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def noise(side: int, n: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def pixels(rgb: np.ndarray, mean: Any = MEAN, std: Any = STD) -> torch.Tensor:
    x = torch.from_numpy(rgb).movedim(-1, 1).float() / 255
    return (x - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def close(found: torch.Tensor, true: torch.Tensor) -> bool:
    return torch.allclose(found, true, atol=TOLERANCE * float(true.abs().max()))


def timm_teacher(folder: Path, **options: Any) -> tuple[Path, Path, dict[str, Any]]:
    """A small vision transformer as timm writes it, with patches of 14 pixels and four registers."""
    config = {"embed_dim": 32, "depth": 2, "num_heads": 2, "patch_size": 14, "reg_tokens": 4}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = timm.create_model("vit_tiny_patch16_224", img_size=70, num_classes=0, **config)
        for value in network.parameters():
            torch.nn.init.normal_(value, std=0.3)
    save_file(network.state_dict(), folder / "teacher.safetensors")
    card = {
        "name": "mine",
        "architecture": "a ViT with registers",
        "layout": "timm",
        "network": "vit_tiny_patch16_224",
        "config": config,
        "image_size": 70,
        "preprocess": {"resize": 70, "crop": 70, "interpolation": "bicubic", "mean": MEAN, "std": STD},
        "licence": "none",
        "citation": "none",
        "source": "drawn",
    }
    (folder / "card.json").write_text(json.dumps(card | options))
    return folder / "teacher.safetensors", folder / "card.json", config


def test_timm_s_tokens_at_the_size_that_gives_the_grid(tmp_path: Path) -> None:
    weights, card, config = timm_teacher(tmp_path)
    teacher = Teacher.load(None, weights=weights, card=card, grid=(3, 3), device="cpu")
    assert (teacher.image_size, teacher.dim, teacher.grid, teacher.tokens) == (42, 32, (3, 3), "raw")
    network = timm.create_model("vit_tiny_patch16_224", img_size=42, num_classes=0, **config).eval()
    state = load_file(weights)
    prefix = state["pos_embed"].shape[1] - 25
    state["pos_embed"] = resample_abs_pos_embed(state["pos_embed"], [3, 3], [5, 5], prefix, antialias=False)
    network.load_state_dict(state)
    rgb = noise(42, n=11)  # more than one pass
    with torch.no_grad():
        tokens = network.forward_features(pixels(rgb))
    found = teacher.targets(rgb)
    assert found.shape == (11, 10, 32)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert close(found, torch.cat([tokens[:, :1], tokens[:, 5:]], dim=1))  # without its registers
    assert torch.equal(found, teacher.targets(torch.from_numpy(rgb)))
    assert json.loads(json.dumps(teacher.record))["grid"] == [3, 3]
    assert teacher.targets(rgb[:0]).shape == (0, 10, 32)
    with pytest.raises(DataError, match="uint8"):
        teacher.targets(noise(70))


@pytest.mark.parametrize("tokens", [None, "raw"])
def test_a_clip_tower_s_tokens_go_through_its_projection(tmp_path: Path, tokens: Any) -> None:
    library = pytest.importorskip("open_clip")
    text = {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = library.CLIP(24, dict(CLIP), dict(text)).eval()
        for value in model.parameters():
            if value.ndim > 1:
                torch.nn.init.normal_(value, std=0.2)
    config = {"model_cfg": {"embed_dim": 24, "vision_cfg": CLIP, "text_cfg": text}}
    pixel = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config | {"preprocess_cfg": pixel}))
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(state, tmp_path / "open_clip_model.safetensors")
    teacher = Teacher.load("hf-hub:me/mine", weights=tmp_path, grid=(4, 4), tokens=tokens, device="cpu")
    rgb = noise(64)
    model.visual.output_tokens = True
    seen: list[torch.Tensor] = []
    model.visual.transformer.register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.no_grad():
        projected, _ = model.visual(pixels(rgb))
        normed = model.visual.ln_post(seen[0])
        every = normed @ model.visual.proj
    found = teacher.targets(rgb)
    assert teacher.tokens == (tokens or "projected")
    assert found.shape == (2, 17, 48 if tokens == "raw" else 24)
    assert close(found, normed if tokens == "raw" else every)
    if tokens is None:
        assert close(found[:, 0], projected)  # what CLIP itself says of the image
    else:
        assert Teacher.load("hf-hub:me/mine", weights=tmp_path, grid=(6, 6), device="cpu").image_size == 96


def test_of_transformers_too(tmp_path: Path) -> None:
    library = pytest.importorskip("transformers")
    small = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
    small |= {"image_size": 64, "patch_size": 16}
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = library.CLIPModel(
            library.CLIPConfig(vision_config=small, text_config=text | {"vocab_size": 50}, projection_dim=20)
        ).eval()
        for value in model.parameters():
            if value.ndim > 1:
                torch.nn.init.normal_(value, std=0.2)
    model.save_pretrained(tmp_path)
    size = {"height": 64, "width": 64}
    pixel = {
        "image_processor_type": "CLIPImageProcessor",
        "size": size,
        "resample": 3,
        "do_center_crop": False,
    }
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps(pixel | {"image_mean": MEAN, "image_std": STD})
    )
    teacher = Teacher.load("transformers:me/mine", weights=tmp_path, grid=(4, 4), device="cpu")
    assert (teacher.tokens, teacher.dim) == ("projected", 20)
    with torch.no_grad():
        out = model.vision_model(pixel_values=pixels(noise(64)))
        every = model.visual_projection(model.vision_model.post_layernorm(out.last_hidden_state))
    assert close(teacher.targets(noise(64)), every)


def test_panderm_itself_teaches_in_its_own_size() -> None:
    teacher = Teacher.load("random-tiny", grid=(14, 14), device="cpu")
    assert teacher.image_size == 224
    rgb = noise(224, n=1)
    encoder = teacher._encoder
    tokens = encoder.tokens(encoder.preprocess.normalise(torch.from_numpy(rgb)))
    found = teacher.targets(rgb)
    assert close(found[:, 1:], tokens.flatten(1, 2))
    assert close(found[:, 0], encoder.encode(encoder.preprocess.normalise(torch.from_numpy(rgb))))
    assert Teacher.load("random-tiny", grid=(3, 3), device="cpu").image_size == 48


def test_what_cannot_teach_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has none"):
        Teacher.load("random-tiny", tokens="projected", device="cpu")
    with pytest.raises(UsageError, match="projected or raw"):
        Teacher.load("random-tiny", tokens="all", device="cpu")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="square"):
        Teacher.load("random-tiny", grid=(14, 7), device="cpu")
    with pytest.raises(UsageError, match="must give 1×1 patch tokens") as found:
        Teacher.load("random-tiny", grid=(1, 1), device="cpu")
    assert "16 pixels would give 1×1" in str(found.value)
