"""A look inside: each patch in its place, the attention that was really paid, nothing left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.layers import apply_rot_embed_cat
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import nn

import panderm
from panderm.errors import DataError, UsageError
from panderm.weights.account import Account

TOLERANCE = 1e-5  # sums in another order
REDUCED_TOLERANCE = 3e-2  # bfloat16 keeps 8 bits


@pytest.fixture(scope="module")
def tiny() -> panderm.Encoder:
    return panderm.load_encoder("random-tiny", device="cpu")


@pytest.fixture(scope="module")
def averaging() -> panderm.Encoder:
    """PanDerm's fine-tuning form: mean of patch tokens, relative-position tables that are not zero."""
    return panderm.load_encoder("random-tiny", pool="mean", device="cpu")


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def look_at(tiny: panderm.Encoder) -> Iterator[Callable[[Any, int], panderm.Encoder]]:
    """Make an encoder of any network: its weights are drawn anew, away from an initialisation near zero."""

    def make(network: Any, side: int) -> panderm.Encoder:
        generator = torch.Generator().manual_seed(3)
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1 or "gamma" in name or "token" in name:
                with torch.no_grad():
                    parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
        record = tiny.record.model_copy(update={"name": "timm:drawn", "image_size": side})
        return panderm.Encoder(network, tiny.preprocess, record, Account(), torch.device("cpu"))

    return make


def vit(**options: Any) -> Any:
    plain: dict[str, Any] = {"img_size": 64, "patch_size": 16, "embed_dim": 48, "depth": 3, "num_heads": 4}
    return VisionTransformer(num_classes=0, **(plain | options))


def eva() -> Any:
    return Eva(
        img_size=64,
        patch_size=16,
        embed_dim=48,
        depth=3,
        num_heads=4,
        num_classes=0,
        use_rot_pos_emb=True,
        ref_feat_shape=(4, 4),
        num_reg_tokens=2,
        qkv_bias=True,
        global_pool="avg",
    )


class Pooled(nn.Module):
    """What a wrapper of another library's network comes to."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        out = self.inner(pixels)
        return getattr(out, "pooler_output", out)


def open_clip_tower(**options: Any) -> nn.Module:
    towers = pytest.importorskip("open_clip.transformer")
    tower = towers.VisionTransformer(64, 16, 48, 3, 4, 4.0, output_dim=32, **options)
    assert isinstance(tower, nn.Module)
    return Pooled(tower)


def transformers_model(family: str, **options: Any) -> nn.Module:
    library = pytest.importorskip("transformers")
    config = getattr(library, f"{family}Config")(
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=96,
        image_size=64,
        patch_size=16,
        **options,
    )
    return Pooled(getattr(library, f"{family}Model")(config))


STACKS: dict[str, Callable[[], Any]] = {
    "vit": vit,
    "registers": lambda: vit(reg_tokens=4, no_embed_class=True, init_values=0.1, qk_norm=True),
    "no class token": lambda: vit(class_token=False, global_pool="avg"),
    "distilled": lambda: timm.models.deit.VisionTransformerDistilled(
        img_size=64, patch_size=16, embed_dim=48, depth=3, num_heads=4, num_classes=0
    ),
    "eva": eva,
    "open_clip": open_clip_tower,
    "transformers ViT": lambda: transformers_model("ViT"),
    "transformers DINOv2 with registers": lambda: transformers_model("Dinov2WithRegisters"),
    "transformers DINOv3": lambda: transformers_model("DINOv3ViT", num_register_tokens=4),
    "transformers CLIP": lambda: transformers_model("CLIPVision"),
    "transformers SigLIP": lambda: transformers_model("SiglipVision"),
}
# Networks whose feature maps shrink from stage to stage, and on how many pixels to try them.
PYRAMIDS = {
    "swinv2_tiny_window8_256": 256,
    "test_convnext": 160,
    "test_resnet": 160,
    "test_efficientnet": 160,
}


# --- tokens ------------------------------------------------------------


def furthest(a: torch.Tensor, b: torch.Tensor) -> tuple[int, ...]:
    """Return row and column of the token that differs most."""
    off = (a - b).norm(dim=-1)[0]
    return tuple(int(i) for i in np.unravel_index(int(off.argmax()), off.shape))


def with_a_spot(blank: torch.Tensor, cells: int, row: int, column: int) -> torch.Tensor:
    step = blank.shape[-1] // cells
    spotted = blank.clone()
    spotted[:, :, row * step : (row + 1) * step, column * step : (column + 1) * step] += 3
    return spotted


def test_a_token_lies_where_its_patch_does(tiny: panderm.Encoder, pixels: torch.Tensor) -> None:
    one = pixels[:1]
    plain = tiny.tokens(one, blocks=[0], norm=False)[0]
    assert plain.shape == (1, 14, 14, 192)
    for row, column in ((0, 13), (3, 11), (12, 1)):
        spotted = tiny.tokens(with_a_spot(one, 14, row, column), blocks=[0], norm=False)[0]
        assert furthest(plain, spotted) == (row, column)


@pytest.mark.parametrize("family", STACKS)
def test_every_family_has_its_tokens_in_place(family: str, look_at: Any) -> None:
    encoder = look_at(STACKS[family](), 64)
    blank = drawn(1, 3, 64, 64)
    plain, last = encoder.tokens(blank, blocks=[0, -1], norm=False)
    assert plain.shape == last.shape == (1, 4, 4, 48)
    spotted = encoder.tokens(with_a_spot(blank, 4, 1, 3), blocks=[0], norm=False)[0]
    assert furthest(plain, spotted) == (1, 3)


@pytest.mark.parametrize("name", PYRAMIDS)
def test_networks_with_stages_give_their_maps(name: str, look_at: Any) -> None:
    side = PYRAMIDS[name]
    network = timm.create_model(name, num_classes=0)
    encoder = look_at(network, side)
    blank = drawn(1, 3, side, side)
    first, last = encoder.tokens(blank, blocks=[0, -1], norm=False)
    assert first.shape[1] > last.shape[1] == encoder.tokens(blank).shape[1]
    assert last.shape[-1] == network.feature_info[-1]["num_chs"]
    cells = 5 if side == 160 else 8
    spotted = encoder.tokens(with_a_spot(blank, cells, 1, 3), blocks=[0], norm=False)[0]
    row, column = furthest(first, spotted)
    assert (row * cells // first.shape[1], column * cells // first.shape[2]) == (1, 3)
    with pytest.raises(UsageError, match=f"has {len(network.feature_info)} stages: 0 to"):
        encoder.tokens(blank, blocks=[99])


@pytest.mark.parametrize("name", ["swinv2_tiny_window8_256", "test_resnet"])
def test_the_mean_of_what_is_averaged_is_the_vector(name: str, look_at: Any) -> None:
    network = timm.create_model(name, num_classes=0)
    encoder = look_at(network, PYRAMIDS[name])
    given = drawn(1, 3, PYRAMIDS[name], PYRAMIDS[name])
    pooled = network.eval()(given).detach()
    scale = float(pooled.abs().max())
    assert torch.allclose(encoder.tokens(given).mean(dim=(1, 2)) / scale, pooled / scale, atol=TOLERANCE)


def test_the_vector_is_made_of_the_tokens(averaging: panderm.Encoder, pixels: torch.Tensor) -> None:
    norm = averaging._network.fc_norm
    raw, normed = averaging.tokens(pixels, norm=False), averaging.tokens(pixels)
    assert torch.allclose(norm(raw.mean(dim=(1, 2))), averaging.encode(pixels), atol=TOLERANCE)
    assert torch.allclose(norm(raw), normed, atol=TOLERANCE)
    assert not torch.allclose(raw, normed, atol=0.1)


def test_all_blocks_share_the_final_norm(tiny: panderm.Encoder, pixels: torch.Tensor) -> None:
    whole = tiny._network.forward_features(pixels)
    assert torch.allclose(tiny.tokens(pixels).flatten(1, 2), whole[:, 1:], atol=TOLERANCE)
    seen: dict[int, torch.Tensor] = {}
    hooks = [
        block.register_forward_hook(lambda _, __, out, i=i: seen.update({i: out[:, 1:]}))
        for i, block in enumerate(tiny._network.blocks)
    ]
    tiny._network(pixels)
    for hook in hooks:
        hook.remove()
    order = [7, -1, 0, 7]
    raw, normed = tiny.tokens(pixels, blocks=order, norm=False), tiny.tokens(pixels, blocks=order)
    for i, block in enumerate(order):
        assert torch.allclose(raw[i].flatten(1, 2), seen[block % 12], atol=TOLERANCE)
        assert torch.allclose(normed[i], tiny._network.norm(raw[i]), atol=TOLERANCE)


def test_tokens_of_open_clip_are_its_own(look_at: Any) -> None:
    encoder = look_at(open_clip_tower(), 64)
    given = drawn(2, 3, 64, 64)
    for norm in (True, False):
        wanted = encoder._network.inner.forward_intermediates(
            given, indices=[0, 2], normalize_intermediates=norm, intermediates_only=True
        )["image_intermediates"]
        for found, one in zip(encoder.tokens(given, blocks=[0, 2], norm=norm), wanted, strict=True):
            assert torch.allclose(found, one.permute(0, 2, 3, 1), atol=TOLERANCE)


def test_tokens_of_transformers_are_its_own(look_at: Any) -> None:
    encoder = look_at(STACKS["transformers DINOv3"](), 64)
    given = drawn(2, 3, 64, 64)
    model = encoder._network.inner
    wanted = model(given, output_hidden_states=True)
    assert torch.allclose(
        encoder.tokens(given).flatten(1, 2), wanted.last_hidden_state[:, 5:], atol=TOLERANCE
    )
    raw = encoder.tokens(given, blocks=[0], norm=False)[0]
    assert torch.allclose(raw.flatten(1, 2), wanted.hidden_states[1][:, 5:], atol=TOLERANCE)


def test_blocks_in_the_order_asked_for(look_at: Any) -> None:
    for family in ("vit", "open_clip"):
        encoder = look_at(STACKS[family](), 64)
        given = drawn(2, 3, 64, 64)
        each = [encoder.tokens(given, blocks=[i])[0] for i in range(3)]
        for i, block in enumerate(picked := [2, 0, 2, -3]):
            assert torch.equal(encoder.tokens(given, blocks=picked)[i], each[block])
        assert not torch.allclose(each[0], each[2], atol=0.1)
        assert encoder.tokens(given, blocks=[]) == []


@pytest.mark.parametrize("block", [3, -4, 1.0, True, "1", None])
def test_a_block_that_is_not_there(block: Any, look_at: Any) -> None:
    encoder = look_at(vit(), 64)
    for ask in (
        lambda: encoder.tokens(drawn(1, 3, 64, 64), blocks=[0, block]),
        lambda: encoder.attention(drawn(1, 3, 64, 64), block=block),
    ):
        with pytest.raises(UsageError, match=r"drawn has 3 blocks: 0 to 2, or -1 to -3 from the end"):
            ask()


def test_blocks_must_be_a_list(look_at: Any) -> None:
    with pytest.raises(UsageError, match=r"must be a list of block numbers"):
        look_at(vit(), 64).tokens(drawn(1, 3, 64, 64), blocks=2)


def test_a_tensor_gives_a_tensor_and_an_array_an_array(look_at: Any) -> None:
    encoder = look_at(vit(), 64)
    given = drawn(2, 3, 64, 64)
    asks: list[Callable[[Any], Any]] = [
        encoder.tokens,
        lambda one: encoder.tokens(one, blocks=[1])[0],
        encoder.attention,
        lambda one: encoder.attention(one, rollout=True),
    ]
    for ask in asks:
        tensor, array = ask(given), ask(given.numpy())
        assert isinstance(tensor, torch.Tensor)
        assert isinstance(array, np.ndarray)
        assert tensor.dtype == torch.float32
        assert array.dtype == np.float32
        np.testing.assert_array_equal(tensor.numpy(), array)
        tensor.requires_grad_().sum().backward()  # a user may train on it


def test_many_images_are_looked_at_in_parts(look_at: Any) -> None:
    encoder = look_at(vit(), 64)
    sizes: list[int] = []
    encoder._network.patch_embed.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    given = drawn(19, 3, 64, 64)
    for ask in (encoder.tokens, encoder.attention, lambda one: encoder.attention(one, rollout=True)):
        sizes.clear()
        whole = ask(given)
        assert sum(sizes) == len(whole) == 19
        assert max(sizes) <= 8
        alone = torch.cat([ask(one[None]) for one in given])
        assert torch.allclose(whole, alone, atol=TOLERANCE)
        none = ask(given[:0])
        assert none.shape == (0, *whole.shape[1:])


def test_attention_never_holds_more_than_it_may(look_at: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("panderm.models.views._PROBABILITIES", 2 * (3 * 4 + 1) * 17**2)
    encoder = look_at(vit(), 64)
    sizes: list[int] = []
    encoder._network.patch_embed.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    encoder.attention(drawn(5, 3, 64, 64))
    assert sizes == [1, 2, 2]


def test_pixels_are_checked_as_for_vectors(tiny: panderm.Encoder) -> None:
    for ask in (tiny.tokens, tiny.attention):
        with pytest.raises(DataError, match=r"normalised floats of shape \(n, 3, 224, 224\)"):
            ask(torch.zeros(1, 3, 64, 64))


def test_numbers_that_are_not_finite_are_refused(look_at: Any) -> None:
    encoder = look_at(vit(), 64)
    given = drawn(2, 3, 64, 64)
    given[1, 0, 0, 0] = float("nan")
    for ask in (encoder.tokens, encoder.attention):
        with pytest.raises(DataError, match=r"must be finite"):
            ask(given)


def test_precision_is_that_of_the_encoder(tiny: panderm.Encoder, pixels: torch.Tensor) -> None:
    reduced = panderm.load_encoder("random-tiny", precision="bf16", device="cpu")
    for full, half in (
        (tiny.tokens(pixels), reduced.tokens(pixels)),
        (tiny.attention(pixels, rollout=True), reduced.attention(pixels, rollout=True)),
    ):
        assert 0 < float((full - half).norm() / full.norm()) < REDUCED_TOLERANCE


def test_a_network_that_panderm_cannot_look_into(look_at: Any) -> None:
    encoder = look_at(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), 2)
    with pytest.raises(UsageError, match=r"timm:drawn has no patch tokens"):
        encoder.tokens(drawn(1, 3, 2, 2))
    with pytest.raises(UsageError, match=r"needs an encoder with a class token"):
        encoder.attention(drawn(1, 3, 2, 2))


def test_a_norm_that_tokens_cannot_go_through(look_at: Any) -> None:
    encoder = look_at(open_clip_tower(attentional_pool=True, attn_pooler_heads=4, attn_pooler_queries=5), 64)
    with pytest.raises(UsageError, match=r"no final norm"):
        encoder.tokens(drawn(1, 3, 64, 64))
    assert encoder.tokens(drawn(1, 3, 64, 64), norm=False).shape == (1, 4, 4, 48)


# --- attention, computed again from the weights ------------------------


def softmax_of(q: torch.Tensor, k: torch.Tensor, bias: torch.Tensor | float = 0.0) -> torch.Tensor:
    q, k = q.double(), k.double()
    return torch.softmax(torch.einsum("nhid,nhjd->nhij", q, k) / q.shape[-1] ** 0.5 + bias, dim=-1)


def inputs_of(encoder: panderm.Encoder, modules: list[Any], given: torch.Tensor) -> list[Any]:
    """Return what each attention module is given while the encoder encodes."""
    seen: list[Any] = []
    hooks = [
        one.register_forward_pre_hook(
            lambda _, args, options: seen.append((args[0], options)), with_kwargs=True
        )
        for one in modules
    ]
    with torch.no_grad():
        encoder._network(given)
    for hook in hooks:
        hook.remove()
    return seen


def heads_of(x: torch.Tensor, weight: torch.Tensor, bias: Any, heads: int) -> torch.Tensor:
    """Return (n, heads, tokens, d) of a projection."""
    out = nn.functional.linear(x, weight, bias)
    return out.unflatten(-1, (heads, -1)).transpose(1, 2)


def beit_attention(attn: Any, x: torch.Tensor, side: int) -> torch.Tensor:
    dim, heads = x.shape[-1], attn.num_heads
    q = heads_of(x, attn.qkv.weight[:dim], attn.q_bias, heads)
    k = heads_of(x, attn.qkv.weight[dim : 2 * dim], None, heads)
    table = attn.relative_position_bias_table
    bias = torch.zeros(heads, side * side + 1, side * side + 1, dtype=torch.float64)
    bias[:, 0, :], bias[:, :, 0], bias[:, 0, 0] = (
        table[-3][:, None].double(),
        table[-2][:, None].double(),
        table[-1].double(),
    )
    for i in range(side * side):
        for j in range(side * side):
            down, right = i // side - j // side, i % side - j % side
            bias[:, 1 + i, 1 + j] = table[(down + side - 1) * (2 * side - 1) + right + side - 1].double()
    return softmax_of(q, k, bias)


def test_attention_of_panderm_with_relative_positions(
    averaging: panderm.Encoder, pixels: torch.Tensor
) -> None:
    attn = averaging._network.blocks[5].attn
    assert float(attn.relative_position_bias_table.detach().abs().max()) > 0.1
    ((x, _),) = inputs_of(averaging, [attn], pixels)
    with torch.no_grad():
        wanted = beit_attention(attn, x, 14)
    found = averaging.attention(pixels, block=5)
    assert found.shape == (2, 3, 14, 14)
    assert torch.allclose(found.flatten(2).double(), wanted[:, :, 0, 1:], atol=1e-7, rtol=TOLERANCE)
    # Over all keys: what is missing is what the class token keeps to itself.
    assert torch.allclose(1 - found.sum(dim=(2, 3)).double(), wanted[:, :, 0, 0], atol=TOLERANCE)
    assert float(found.sum(dim=(2, 3)).max()) < 1


def test_attention_with_registers_and_normed_queries(look_at: Any) -> None:
    encoder = look_at(STACKS["registers"](), 64)
    given = drawn(2, 3, 64, 64)
    for number, block in enumerate(encoder._network.blocks):
        ((x, _),) = inputs_of(encoder, [block.attn], given)
        with torch.no_grad():
            q, k, _ = block.attn.qkv(x).unflatten(-1, (3, 4, 12)).permute(2, 0, 3, 1, 4)
            wanted = softmax_of(block.attn.q_norm(q), block.attn.k_norm(k))[:, :, 0, 5:]
        found = encoder.attention(given, block=number)
        assert found.shape == (2, 4, 4, 4)
        assert torch.allclose(found.flatten(2).double(), wanted, atol=TOLERANCE)


def test_attention_with_rotated_positions(look_at: Any) -> None:
    encoder = look_at(eva(), 64)
    given = drawn(2, 3, 64, 64)
    attn = encoder._network.blocks[1].attn
    ((x, options),) = inputs_of(encoder, [attn], given)
    with torch.no_grad():
        bias = torch.cat([attn.q_bias, attn.k_bias, attn.v_bias])
        q, k, _ = (
            nn.functional.linear(x, attn.qkv.weight, bias).unflatten(-1, (3, 4, 12)).permute(2, 0, 3, 1, 4)
        )
        plain = softmax_of(q, k)[:, :, 0, 3:]
        turned = [
            torch.cat([one[:, :, :3], apply_rot_embed_cat(one[:, :, 3:], options["rope"])], dim=2)
            for one in (q, k)
        ]
        wanted = softmax_of(*turned)[:, :, 0, 3:]
    found = encoder.attention(given, block=1).flatten(2).double()
    assert torch.allclose(found, wanted, atol=TOLERANCE)
    # The class token is not turned but the patches are, so the two must differ.
    assert not torch.allclose(found, plain, atol=1e-3)


def test_attention_of_open_clip(look_at: Any) -> None:
    encoder = look_at(open_clip_tower(), 64)
    given = drawn(2, 3, 64, 64)
    attn = encoder._network.inner.transformer.resblocks[-1].attn
    ((x, _),) = inputs_of(encoder, [attn], given)
    with torch.no_grad():
        q = heads_of(x, attn.in_proj_weight[:48], attn.in_proj_bias[:48], 4)
        k = heads_of(x, attn.in_proj_weight[48:96], attn.in_proj_bias[48:96], 4)
        wanted = softmax_of(q, k)[:, :, 0, 1:]
    assert torch.allclose(encoder.attention(given).flatten(2).double(), wanted, atol=TOLERANCE)


@pytest.mark.parametrize("family", ["transformers ViT", "transformers DINOv3", "transformers CLIP"])
def test_attention_of_transformers(family: str, look_at: Any) -> None:
    encoder = look_at(STACKS[family](), 64)
    given = drawn(2, 3, 64, 64)
    model = encoder._network.inner
    assert model.config._attn_implementation == "sdpa"
    before = model(given).last_hidden_state
    found = encoder.attention(given, block=1)
    assert model.config._attn_implementation == "sdpa"
    assert torch.equal(model(given).last_hidden_state, before)
    model.set_attn_implementation("eager")
    wanted = model(given, output_attentions=True).attentions[1][:, :, 0, -16:]
    assert torch.allclose(found.flatten(2), wanted, atol=TOLERANCE)


def test_rollout_is_the_product_of_all_blocks(averaging: panderm.Encoder, pixels: torch.Tensor) -> None:
    blocks = [block.attn for block in averaging._network.blocks][:3]
    inputs = inputs_of(averaging, blocks, pixels[:1])
    product = torch.eye(197, dtype=torch.float64)
    rows = []
    for attn, (x, _) in zip(blocks, inputs, strict=True):
        with torch.no_grad():
            mean = beit_attention(attn, x, 14)[0].mean(dim=0)
        step = 0.5 * mean + 0.5 * torch.eye(197)
        product = step @ product
        rows.append(product[0, 1:] / product[0, 1:].sum())
    for number, row in enumerate(rows):
        found = averaging.attention(pixels[:1], block=number, rollout=True)
        assert found.shape == (1, 14, 14)
        assert torch.allclose(found.flatten().double(), row, atol=1e-8, rtol=1e-4)
    whole = averaging.attention(pixels, rollout=True)
    assert torch.allclose(whole.sum(dim=(1, 2)), torch.ones(2), atol=TOLERANCE)
    assert not torch.allclose(whole[:1], averaging.attention(pixels[:1], block=2, rollout=True), rtol=0.01)


@pytest.mark.parametrize(
    "family", [name for name in STACKS if name not in ("no class token", "transformers SigLIP")]
)
def test_every_family_with_a_class_token_rolls_out(family: str, look_at: Any) -> None:
    encoder = look_at(STACKS[family](), 64)
    rolled = encoder.attention(drawn(2, 3, 64, 64), rollout=True)
    assert rolled.shape == (2, 4, 4)
    assert torch.allclose(rolled.sum(dim=(1, 2)), torch.ones(2), atol=TOLERANCE)
    assert float(rolled.min()) > 0


@pytest.mark.parametrize(
    ("make", "side"),
    [
        (STACKS["no class token"], 64),
        (STACKS["transformers SigLIP"], 64),
        (lambda: vit(class_token=False, reg_tokens=4, global_pool="avg"), 64),
        (lambda: timm.create_model("test_resnet", num_classes=0), 160),
        (lambda: timm.create_model("swinv2_tiny_window8_256", num_classes=0), 256),
    ],
)
def test_no_class_token_no_attention_map(make: Any, side: int, look_at: Any) -> None:
    with pytest.raises(UsageError, match=r"timm:drawn has none") as caught:
        look_at(make(), side).attention(drawn(1, 3, side, side))
    assert "encoder.tokens(pixels)" in str(caught.value)


def test_a_class_token_that_comes_late(look_at: Any) -> None:
    """XCiT's blocks attend between channels: there is a class token, and no such attention."""
    encoder = look_at(timm.create_model("xcit_nano_12_p16_224", num_classes=0), 224)
    with pytest.raises(UsageError, match=r"does not attend from a class token to all patches"):
        encoder.attention(drawn(1, 3, 224, 224))


# --- nothing is left behind --------------------------------------------


def state_of(network: Any) -> list[tuple[Any, ...]]:
    return [
        (name, getattr(one, "fused_attn", None), len(one._forward_hooks), len(one._forward_pre_hooks))
        for name, one in network.named_modules()
    ]


def test_encode_gives_the_same_bits_afterwards(tiny: panderm.Encoder, pixels: torch.Tensor) -> None:
    before, state = tiny.encode(pixels), state_of(tiny._network)
    assert any(fused for _, fused, *_ in state)
    tiny.attention(pixels)
    tiny.attention(pixels, rollout=True)
    tiny.tokens(pixels, blocks=[0, -1])
    assert torch.equal(tiny.encode(pixels), before)
    assert state_of(tiny._network) == state


def test_the_encoder_is_not_touched_even_during_the_look(look_at: Any) -> None:
    """Another thread may be encoding; and what fails half way leaves nothing to put back."""
    encoder = look_at(vit(), 64)
    original = encoder._network
    during: list[Any] = []

    class Spy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            during.append(state_of(original))
            if len(during) > 1:
                raise RuntimeError("half way")
            return x

    original.norm = Spy()
    state = state_of(original)
    encoder.attention(drawn(1, 3, 64, 64))
    with pytest.raises(RuntimeError, match="half way"):
        encoder.attention(drawn(1, 3, 64, 64), rollout=True)
    assert during == [state, state]
    assert state_of(original) == state


def test_a_look_costs_no_second_copy_of_the_weights(tiny: panderm.Encoder) -> None:
    views = tiny._views()
    ours = {one.data_ptr() for one in tiny._network.parameters()}
    assert {one.data_ptr() for one in views._network.parameters()} == ours
    assert views._network is not tiny._network


def test_a_compiled_network_is_looked_into_uncompiled(look_at: Any) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("it was compiled")

    plain = look_at(vit(), 64)
    compiled = look_at(torch.compile(plain._network, backend=refuse), 64)
    given = drawn(1, 3, 64, 64)
    assert torch.equal(compiled.tokens(given), plain.tokens(given))
    assert torch.equal(compiled.attention(given), plain.attention(given))


# --- a real encoder ----------------------------------------------------


def test_a_real_encoder_looks_at_the_lesion(shared: Path) -> None:
    """DINOv2 was never shown a mask: its class token attends more inside of a drawn lesion than around."""
    encoder = panderm.load_encoder(
        "timm:vit_small_patch14_dinov2",
        weights=shared / "weights/dinov2_vits14.safetensors",
        image_size=224,
        device="cpu",
    )
    y, x = np.mgrid[:224, :224]
    inside = (y - 80) ** 2 + (x - 140) ** 2 < 45**2
    image = np.where(inside[:, :, None], (110, 70, 50), (220, 180, 160)).astype(np.uint8)
    map_ = encoder.attention(encoder.preprocess(image)[None]).mean(dim=1)[0].numpy()
    cells = inside.reshape(16, 14, 16, 14).mean(axis=(1, 3))
    assert map_[cells == 1].mean() > 2 * map_[cells == 0].mean()


@pytest.mark.parametrize("kind", STACKS)
def test_vectors_and_tokens_of_one_pass(kind: str, look_at: Callable[[Any, int], panderm.Encoder]) -> None:
    """The same as of a pass each, and each network with a stack of blocks needs one only."""
    encoder = look_at(STACKS[kind](), 64)
    both = encoder._views().with_vectors(drawn(3, 3, 64, 64))
    assert both is not None
    vectors, tokens = both
    torch.testing.assert_close(tokens, encoder.tokens(drawn(3, 3, 64, 64)), rtol=TOLERANCE, atol=TOLERANCE)
    with torch.inference_mode():
        wanted = encoder.network(drawn(3, 3, 64, 64))
    torch.testing.assert_close(vectors, wanted, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("name", PYRAMIDS)
def test_a_pyramid_needs_a_pass_of_each(name: str, look_at: Callable[[Any, int], panderm.Encoder]) -> None:
    encoder = look_at(timm.create_model(name, pretrained=False, num_classes=0), PYRAMIDS[name])
    assert encoder._views().with_vectors(drawn(1, 3, PYRAMIDS[name], PYRAMIDS[name])) is None
