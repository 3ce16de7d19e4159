"""Narrowing: the parts are timm's, nothing is lost where nothing is left out, and little elsewhere."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch.nn import functional

from panderm.data.crops import resized
from panderm.data.drawn import DrawnWorld
from panderm.data.images import read_image
from panderm.errors import UsageError, WeightsError
from panderm.models.network import position_table
from panderm.pretraining.narrowed import narrowed
from panderm.pretraining.plain_vit import PlainViT
from panderm.pretraining.student import PretrainingModel, Student

SIDE = 48
NARROW = Student("narrow", 64, 2, 1, 1, layer_scale=0.1, mask_ratio=0.25, drop_path=0.0)
SAME = Student("same", 128, 2, 2, 1, layer_scale=0.1, mask_ratio=0.25, drop_path=0.0)


def wide(patch: int = 14) -> VisionTransformer:
    """A vision transformer whose numbers are drawn, large enough for its tokens to differ."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = VisionTransformer(
            img_size=3 * patch,
            patch_size=patch,
            embed_dim=128,
            depth=2,
            num_heads=2,
            init_values=0.7,
            num_classes=0,
        )
        with torch.no_grad():
            for name, value in network.named_parameters():
                if value.ndim > 1 and "pos_embed" not in name:
                    value.mul_(4)
                elif name.endswith("bias"):
                    value.normal_(std=0.1)
                elif "norm" in name:
                    value.add_(0.2 * torch.randn(value.shape))
            table = position_table(128, 3)
            network.pos_embed.copy_(table if patch == 16 else table[..., torch.randperm(128)] * 0.3)
    return network.eval()


@pytest.fixture(scope="module")
def crops(world: DrawnWorld) -> npt.NDArray[np.uint8]:
    files = sorted(world.images.iterdir())[:72]
    return np.stack([resized(read_image(file), SIDE, "bicubic") for file in files])


def pixels(rgb: npt.NDArray[np.uint8], size: int) -> torch.Tensor:
    x = torch.from_numpy(rgb).movedim(-1, 1).float()
    x = functional.interpolate(x, (size, size), mode="bicubic", antialias=True).clamp(0, 255) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (x - mean[:, None, None]) / std[:, None, None]


def centred_cosine(found: torch.Tensor, true: torch.Tensor) -> float:
    """Return the mean cosine once the mean token, which anyone could guess, is taken away."""
    mean = true.mean((0, 1))
    return float(functional.cosine_similarity(found - mean, true - mean, dim=-1).mean())


def answers(student: Student, state: dict[str, torch.Tensor], rgb: npt.NDArray[np.uint8]) -> torch.Tensor:
    model = PretrainingModel(student, target_dim=128, image_size=SIDE).eval()
    model.load_state_dict(model.state_dict() | state)
    with torch.no_grad():
        return model.decoder(model.encode(pixels(rgb, SIDE)))


@torch.no_grad()
def test_taken_apart_it_is_timm_s(crops: npt.NDArray[np.uint8]) -> None:
    network = wide()
    parts, x = PlainViT(network.state_dict(), 3), pixels(crops[:3], 42)
    h = parts.embed(x)
    for i in range(2):
        seen, attended, after = parts.attention(i, h)
        weight, bias = parts.reads(i, 1)
        own = functional.layer_norm(h, (128,), eps=1e-6) @ weight.T + bias
        assert torch.allclose(seen, own[..., :256], atol=1e-4)
        assert torch.allclose(attended.sum(-1), torch.ones(3, 2, 10))
        h = parts.mlp(i, after)[2]
    assert torch.allclose(parts.final(h), network.forward_features(x), atol=1e-4)


def test_of_the_same_width_and_positions_nothing_is_lost(crops: npt.NDArray[np.uint8]) -> None:
    network = wide(patch=16)
    made = narrowed(network.state_dict(), SAME, crops[:40])
    with torch.no_grad():
        true = network.forward_features(pixels(crops[40:], SIDE))
    true = functional.normalize(true, dim=-1) * 128**0.5
    assert centred_cosine(answers(SAME, made.state, crops[40:]), true) > 0.97  # images it was not made on
    assert "the fixed position table holds 100.0% of the learned one" in made.words[0]


def test_of_half_the_width_most_is_kept(crops: npt.NDArray[np.uint8]) -> None:
    network = wide()
    made = narrowed(network.state_dict(), NARROW, crops[:56])
    with torch.no_grad():
        true = network.forward_features(pixels(crops[56:], 42))
    true = functional.normalize(true, dim=-1) * 128**0.5
    kept = centred_cosine(answers(NARROW, made.state, crops[56:]), true)
    drawn = PretrainingModel(NARROW, target_dim=128, image_size=SIDE).state_dict()
    plain = {key: value for key, value in drawn.items() if key.startswith("encoder.")}
    assert kept > 0.6
    assert kept > centred_cosine(answers(NARROW, made.state | plain, crops[56:]), true) + 0.2
    assert len(made.words) == 2 + 2 + 1
    assert "of 2," in made.words[2]
    model = PretrainingModel(NARROW, target_dim=128, image_size=SIDE).eval()
    model.load_state_dict(model.state_dict() | made.state)
    with torch.no_grad():
        own = model.encode(pixels(crops[56:], SIDE))[:, 0]
    distances = torch.stack([torch.pdist(own), torch.pdist(true[:, 0])])
    assert torch.corrcoef(distances)[0, 1] > 0.8  # its tokens lie as the wide network's do, before any head
    assert "turned towards the final tokens" in made.words[-2]
    pairs = made.state["encoder.blocks.1.mlp.fc1.weight"][-128:]  # gelu(y) - gelu(-y) is y
    assert torch.equal(pairs, torch.cat([torch.eye(64), -torch.eye(64)]))
    again = narrowed(network.state_dict(), NARROW, crops[:56])
    assert all(torch.equal(made.state[key], again.state[key]) for key in made.state)
    assert made.state.keys() == {k for k in drawn if k.startswith(("encoder.", "decoder."))}
    assert torch.equal(made.state["encoder.pos_embed"], position_table(64, 3))


def test_what_cannot_be_narrowed_is_refused(crops: npt.NDArray[np.uint8]) -> None:
    state = wide().state_dict()
    with pytest.raises(UsageError, match="at least 8 images"):
        narrowed(state, NARROW, crops[:7])
    with pytest.raises(WeightsError, match="3 blocks that is not narrower"):
        narrowed(state, Student("deep", 64, 3, 1, 1, 0.1, 0.25, 0.0), crops[:8])
    with pytest.raises(WeightsError, match="not narrower than 192"):
        narrowed(state, Student("wider", 192, 2, 3, 1, 0.1, 0.25, 0.0), crops[:8])
    with pytest.raises(WeightsError, match="it also has reg_token"):
        narrowed(state | {"reg_token": torch.zeros(1, 4, 128)}, NARROW, crops[:8])
    del state["norm.weight"]
    with pytest.raises(WeightsError, match=r"norm\.weight missing"):
        narrowed(state, NARROW, crops[:8])
