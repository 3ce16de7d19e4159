"""The network that is fine-tuned: what learns, at which rate, and what it answers."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

import panderm
from panderm.errors import UsageError
from panderm.finetuning.layers import decay_groups_by_layer, layer_of
from panderm.finetuning.network import ClassifierNetwork, Started, network_for, prepare
from panderm.models import network as layout
from panderm.models.cards import EncoderCard
from panderm.models.names import find_card

SIDE = 32


def pixels(n: int = 2, side: int = SIDE) -> torch.Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(3))


def small(folder: Path, **options: Any) -> Started:
    """Three blocks in PanDerm's layout, from a file without tables of relative positions."""
    own = {"name": "mine", "dim": 48, "depth": 3, "heads": 3, "files": ()}
    card = find_card("panderm-base", image_size=SIDE).model_copy(update=own)
    shapes = {name: one.shape for name, one in layout.build(card, "cls").state_dict().items()}
    save_file(layout.draw_weights(shapes, 1), folder / "mine.safetensors")
    (folder / "mine.json").write_text(card.model_dump_json())
    return network_for(
        weights=folder / "mine.safetensors", card=folder / "mine.json", **{"classes": 3} | options
    )


def of_timm(folder: Path, name: str, **options: Any) -> Started:
    path = folder / f"{name}.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        save_file({k: v.contiguous() for k, v in timm.create_model(name).state_dict().items()}, path)
    return network_for(f"timm:{name}", weights=path, classes=3, **options)


def learn(network: ClassifierNetwork, x: torch.Tensor, steps: int = 1) -> None:
    network.train()
    groups = decay_groups_by_layer(network, decay=0.05, layer_decay=0.65)
    optimizer = torch.optim.SGD([{"params": g["params"], "lr": 0.01 * g["rate_scale"]} for g in groups])
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), torch.arange(len(x)) % 3).backward()
        optimizer.step()
    network.eval()


def without_numbers(name: str, classes: int = 6) -> tuple[ClassifierNetwork, EncoderCard]:
    card = find_card(name)
    network = ClassifierNetwork(layout.build(card, "mean"), card.dim or 0, classes)
    prepare(network, card)
    return network, card


@pytest.mark.parametrize(
    ("name", "numbers", "scales", "least"),
    [("panderm-large", 303_411_718, 26, 2.103e-5), ("panderm-base", 85_766_598, 14, 3.697e-3)],
)
def test_numbers_that_learn_and_rates_are_the_published_ones(
    name: str, numbers: int, scales: int, least: float
) -> None:
    network, card = without_numbers(name)
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == numbers
    groups = decay_groups_by_layer(network, decay=0.05, layer_decay=0.65)
    found = sorted({group["rate_scale"] for group in groups})
    assert (len(found), found[-1]) == (scales, 1.0)
    assert found[0] == pytest.approx(least, rel=2e-4)
    assert layer_of(network).depth == card.depth
    assert sum(len(group["params"]) for group in groups) == sum(p.requires_grad for p in network.parameters())


def test_what_decays() -> None:
    network, _ = without_numbers("random-tiny")
    groups = decay_groups_by_layer(network, decay=0.05, layer_decay=0.75)
    decays = {name: group["weight_decay"] for group in groups for name in group["names"]}
    assert {0.0, 0.05} == set(decays.values())
    assert "encoder.pos_embed" not in decays
    assert decays["encoder.cls_token"] == 0
    assert decays["encoder.blocks.3.attn.relative_position_bias_table"] == 0.05
    for name, parameter in network.named_parameters():
        if name in decays and name != "encoder.cls_token":
            assert (decays[name] > 0) == (parameter.ndim > 1), name
    rates = {name: group["rate_scale"] for group in groups for name in group["names"]}
    assert rates["encoder.patch_embed.proj.weight"] == pytest.approx(0.75**13)
    assert rates["encoder.blocks.0.norm1.bias"] == pytest.approx(0.75**12)
    assert rates["encoder.blocks.11.mlp.fc2.weight"] == pytest.approx(0.75)
    assert rates["encoder.fc_norm.weight"] == rates["head.bias"] == 1


@pytest.mark.parametrize(
    ("name", "depth", "first", "last"),
    [
        ("resnet18", 8, "conv1.weight", "layer4.1.conv2.weight"),
        ("convnext_atto", 12, "stem.0.weight", "stages.3.blocks.1.mlp.fc2.weight"),
        ("swin_tiny_patch4_window7_224", 12, "patch_embed.proj.weight", "layers.3.blocks.1.mlp.fc2.weight"),
        ("efficientnet_b0", 16, "conv_stem.weight", "blocks.6.0.conv_pw.weight"),
        ("vit_small_patch14_reg4_dinov2", 12, "reg_token", "blocks.11.ls2.gamma"),
        ("eva02_tiny_patch14_224", 12, "pos_embed", "blocks.11.mlp.fc2.weight"),
    ],
)
def test_layers_of_timm(name: str, depth: int, first: str, last: str) -> None:
    with torch.device("meta"):
        encoder = timm.create_model(name, num_classes=0)
    layers = layer_of(ClassifierNetwork(encoder, 4, 2))
    assert layers.depth == depth
    assert set(layers.ids.values()) == set(range(depth + 2))
    assert layers.ids[f"encoder.{first}"] == 0
    assert layers.ids[f"encoder.{last}"] == depth
    assert layers.ids["head.weight"] == depth + 1


def test_stages_whose_order_nobody_says_are_one_layer() -> None:
    with torch.device("meta"):
        encoder = timm.create_model("pit_ti_224", num_classes=0)
    layers = layer_of(ClassifierNetwork(encoder, 4, 2))
    assert layers.depth == 0
    assert {layers.ids[name] for name in layers.ids if name.startswith("encoder.")} == {0}
    assert "one rate" in layers.told


def test_the_head_is_drawn_small_and_from_the_seed() -> None:
    one, same, other = (ClassifierNetwork(nn.Identity(), 768, 7, seed=seed).head for seed in (5, 5, 6))
    assert torch.equal(one.weight, same.weight)
    assert not torch.equal(one.weight, other.weight)
    assert float(one.weight.detach().std()) == pytest.approx(0.02 * 0.001, rel=0.1)
    assert not one.bias.any()


def test_an_encoder_is_the_one_that_is_loaded() -> None:
    started = network_for("random-tiny", image_size=SIDE, classes=3)
    encoder = panderm.load_encoder("random-tiny", pool="mean", image_size=SIDE, device="cpu")
    with torch.no_grad():
        found = started.network.eval().encoder(pixels())
    torch.testing.assert_close(found, encoder.encode(pixels()), atol=1e-5, rtol=1e-5)
    assert (started.pool, started.record.pool, started.preprocess) == ("mean", "mean", encoder.preprocess)
    assert "random weights" in started.words[0]
    assert started.trainable == sum(p.numel() for p in started.network.parameters() if p.requires_grad)


def test_the_head_is_computed_in_float32(tmp_path: Path) -> None:
    network = small(tmp_path).network.eval()
    network.head.weight.data.normal_()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        vectors, logits = network.encoder(pixels()), network(pixels())
    assert logits.dtype == torch.float32
    with torch.no_grad():
        assert torch.equal(logits, network.head(vectors.float()))


def test_tables_start_at_zero_and_learn_and_positions_do_not(tmp_path: Path) -> None:
    network = small(tmp_path).network
    before = {name: one.detach().clone() for name, one in network.named_parameters()}
    tables = [name for name in before if name.endswith("relative_position_bias_table")]
    assert len(tables) == 3
    assert not any(before[name].any() for name in tables)
    network.head.weight.data.normal_()
    learn(network, pixels())
    after = dict(network.named_parameters())
    assert all(after[name].any() for name in tables)
    assert [name for name in before if torch.equal(before[name], after[name])] == ["encoder.pos_embed"]


def test_paths_are_dropped_the_deeper_the_likelier_and_in_training_only(tmp_path: Path) -> None:
    network = small(tmp_path, drop_path=0.5).network
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in network.encoder.blocks]
    assert rates == [0, 0.25, 0.5]
    network.head.weight.data.normal_()
    x = pixels(8)
    assert torch.equal(network.eval()(x), network(x))
    assert not torch.equal(network.train()(x), network(x))


def test_what_is_frozen_stays_and_so_do_its_running_means(tmp_path: Path) -> None:
    network = of_timm(tmp_path, "test_resnet", image_size=SIDE, freeze=2).network
    ids = layer_of(network).ids
    before = {name: one.clone() for name, one in network.state_dict().items()}
    network.head.weight.data.normal_()
    learn(network, pixels(4), steps=2)
    for name, one in network.state_dict().items():
        if name == "head.weight":
            continue
        place = ids.get(re.sub(r"running_mean|running_var|num_batches_tracked", "weight", name), 0)
        assert torch.equal(one, before[name]) == (place <= 2), name


def test_frozen_blocks_of_a_transformer_keep_their_norms(tmp_path: Path) -> None:
    started = small(tmp_path, freeze=2, drop_path=0.5)
    own = {name for name, one in started.network.named_parameters() if one.requires_grad}
    assert {name for name in own if not name.startswith("encoder.blocks.2.")} == {
        "encoder.fc_norm.weight",
        "encoder.fc_norm.bias",
        "head.weight",
        "head.bias",
    }
    assert any("first 2" in word for word in started.words)
    assert not started.network.train().encoder.blocks[1].drop_path1.training
    assert started.network.encoder.blocks[2].drop_path1.training


@pytest.mark.parametrize("kind", ["panderm", "test_vit"])
def test_lora_learns_in_its_matrices_and_is_added_to_the_weights(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    start = partial(small, tmp_path) if kind == "panderm" else partial(of_timm, tmp_path, kind)
    plain, started = start(seed=4), start(seed=4, lora=2, freeze=1)
    network, x = started.network, pixels(3, started.record.image_size)
    torch.testing.assert_close(network.eval()(x), plain.network.eval()(x), atol=1e-6, rtol=1e-5)
    own = {name for name, one in network.named_parameters() if one.requires_grad}
    assert {name.rpartition(".")[0] for name in own if ".lora_" not in name} == {"head"}
    depth = started.layers.depth
    assert len(own) == 2 + 2 * 4 * (depth - 1)  # qkv, proj, fc1, fc2 of every block but the first
    assert {layer_of(network).ids[name] for name in own} == set(range(2, depth + 2))

    network.head.weight.data.normal_()
    network.train()(x).square().mean().backward()
    # An adapter that the network goes past would have no gradient.
    grads = [one.grad for name, one in network.named_parameters() if "lora_B" in name]
    assert all(one is not None and one.any() for one in grads)
    network.zero_grad()
    learn(network, x, steps=3)
    merged = network.plain()
    assert merged.encoder.keys() == plain.network.encoder.state_dict().keys()
    plain.network.encoder.load_state_dict(merged.encoder)
    plain.network.head.load_state_dict({"weight": merged.weight, "bias": merged.bias})
    torch.testing.assert_close(plain.network.eval()(x), network(x), atol=1e-4, rtol=1e-4)
    changed = merged.encoder["blocks.1.attn.qkv.weight"]
    assert not torch.equal(changed, start(seed=4).network.encoder.state_dict()["blocks.1.attn.qkv.weight"])


def test_what_no_logit_depends_on_is_left_alone(tmp_path: Path) -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(3, 4), nn.Parameter(torch.ones(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.used(x.mean(dim=(2, 3))))

    network = ClassifierNetwork(Idle(), 4, 2)
    words = prepare(network, find_card("timm:resnet18"))
    assert not network.encoder.idle.requires_grad
    assert network.encoder.used.weight.requires_grad
    assert any("idle" in word for word in words)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"freeze": 4}, "3 blocks"),
        ({"freeze": -1}, "0 or more"),
        ({"drop_path": 1.0}, "less than 1"),
        ({"lora": 0}, "rank"),
        ({"lora": 4, "freeze": 3}, "linear layers"),
        ({"classes": 0}, "a class"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=says):
        small(tmp_path, **options)


def test_what_a_network_does_not_have_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    with pytest.raises(UsageError, match="linear layers"):
        of_timm(tmp_path, "test_resnet", image_size=SIDE, lora=2)
    network, _ = without_numbers("random-tiny")
    with pytest.raises(UsageError, match="at most 1"):
        decay_groups_by_layer(network, decay=0.05, layer_decay=1.5)
    with pytest.raises(UsageError, match="weight decay"):
        decay_groups_by_layer(network, decay=-1, layer_decay=0.5)
    with pytest.raises(UsageError, match="learn"):
        decay_groups_by_layer(network.requires_grad_(requires_grad=False), decay=0, layer_decay=0.5)
