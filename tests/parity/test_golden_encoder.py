"""The published model's own outputs: same names, same positions, same features.

Weights and pixels are drawn here by the rule of the golden files, on purpose without ``panderm``: so the
network, the loading and the package's own drawing are all held against something from outside.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import panderm
from panderm.models.names import find_card
from panderm.models.network import build, draw_weights, position_table

GOLDEN = Path(__file__).parents[1] / "golden"
FEATURE_TOLERANCE = 1e-5  # timm's Beit on another CPU than the published model's
POSITION_TOLERANCE = 1e-6
POSITION_ROWS = [0, 1, 2, 15, 196]
SIZES = {"base": (768, 12, 12), "large": (1024, 24, 16)}  # width, blocks, heads
TABLE_ROWS = 27 * 27 + 3
CLIP_WIDTH = 768  # of the pretraining teacher: any will do


def layout(dim: int, depth: int, heads: int, form: str, classes: int) -> dict[str, tuple[int, ...]]:
    """Every name and shape of the published network, in its linear-probe or fine-tuning form."""
    norm = "norm" if form == "lp" else "fc_norm"
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, dim),
        "pos_embed": (1, 197, dim),
        "patch_embed.proj.weight": (dim, 3, 16, 16),
        "patch_embed.proj.bias": (dim,),
        f"{norm}.weight": (dim,),
        f"{norm}.bias": (dim,),
        "head.weight": (classes, dim),
        "head.bias": (classes,),
    }
    block: dict[str, tuple[int, ...]] = {
        "gamma_1": (dim,),
        "gamma_2": (dim,),
        "norm1.weight": (dim,),
        "norm1.bias": (dim,),
        "norm2.weight": (dim,),
        "norm2.bias": (dim,),
        "attn.q_bias": (dim,),
        "attn.v_bias": (dim,),
        "attn.qkv.weight": (3 * dim, dim),
        "attn.proj.weight": (dim, dim),
        "attn.proj.bias": (dim,),
        "mlp.fc1.weight": (4 * dim, dim),
        "mlp.fc1.bias": (4 * dim,),
        "mlp.fc2.weight": (dim, 4 * dim),
        "mlp.fc2.bias": (dim,),
    }
    if form == "ft":
        block["attn.relative_position_bias_table"] = (TABLE_ROWS, heads)
        block["attn.relative_position_index"] = (197, 197)
    for i in range(depth):
        shapes |= {f"blocks.{i}.{key}": shape for key, shape in block.items()}
    return shapes


def drawn(name: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode()) ^ seed))
    if name.endswith(("norm1.weight", "norm2.weight", "norm.weight", "fc_norm.weight")):
        return 1 + 0.1 * x
    if "gamma_" in name:
        return 0.1 + 0.05 * x
    if name.endswith(("bias", "relative_position_bias_table")):
        return 0.1 * x
    return 0.04 * x


def pixels(n: int, seed: int) -> torch.Tensor:
    return torch.randn((n, 3, 224, 224), generator=torch.Generator().manual_seed(seed))


def sine_cosine(dim: int) -> torch.Tensor:
    """The position table, written out number by number from its definition."""
    q = dim // 4
    table = np.zeros((197, dim))
    for r in range(14):
        for c in range(14):
            for k in range(q):
                omega = 10000 ** (-k / q)
                waves = math.sin(r * omega), math.cos(r * omega), math.sin(c * omega), math.cos(c * omega)
                table[1 + 14 * r + c, [k, q + k, 2 * q + k, 3 * q + k]] = waves
    return torch.from_numpy(table).float()[None]


def relative_index() -> torch.Tensor:
    """BEiT's relative positions: (dr + 13)·27 + (dc + 13) between patches, the last three rows for CLS."""
    row, column = np.divmod(np.arange(196), 14)
    index = np.empty((197, 197), dtype=np.int64)
    index[1:, 1:] = (row[:, None] - row + 13) * 27 + (column[:, None] - column + 13)
    index[0, :], index[:, 0], index[0, 0] = TABLE_ROWS - 3, TABLE_ROWS - 2, TABLE_ROWS - 1
    return torch.from_numpy(index)


def state_of(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, torch.Tensor]:
    """A whole state dict by the golden rule."""
    state = {name: drawn(name, shape, seed) for name, shape in shapes.items() if "position_index" not in name}
    state["pos_embed"] = sine_cosine(shapes["pos_embed"][-1])
    for name in shapes:
        if name.endswith("relative_position_index"):
            state[name] = relative_index()
    return state


def pretraining_leftovers(dim: int) -> dict[str, torch.Tensor]:
    """The 92 tensors of the published Large file that are no encoder, under their published names."""
    linears = {"cross_attn.q": (dim, dim), "cross_attn.k": (dim, dim), "cross_attn.v": (dim, dim)}
    with_bias = {
        "cross_attn.proj": (dim, dim),
        "mlp_cross.fc1": (4 * dim, dim),
        "mlp_cross.fc2": (dim, 4 * dim),
    }
    names: dict[str, tuple[int, ...]] = {}
    for j in range(4):
        block = f"regresser.regressor_blocks.{j}."
        names |= {block + name: (dim,) for name in ("gamma_1_cross", "gamma_2_cross")}
        for norm in ("norm1_q", "norm1_k", "norm1_v", "norm2_cross"):
            names |= {f"{block}{norm}.weight": (dim,), f"{block}{norm}.bias": (dim,)}
        names |= {f"{block}cross_attn.{bias}": (dim,) for bias in ("q_bias", "v_bias")}
        names |= {f"{block}{linear}.weight": shape for linear, shape in linears.items()}
        for linear, shape in with_bias.items():
            names |= {f"{block}{linear}.weight": shape, f"{block}{linear}.bias": shape[:1]}
    names |= {"regresser.norm.weight": (dim,), "regresser.norm.bias": (dim,)}
    names |= {"rd_pos_embed": (1, 197, dim), "mask_token": (1, 1, dim)}
    names |= {"decoder.norm.weight": (dim,), "decoder.norm.bias": (dim,)}
    names |= {"decoder.head.weight": (CLIP_WIDTH, dim), "decoder.head.bias": (CLIP_WIDTH,)}
    return {name: torch.full(shape, 7.0) for name, shape in names.items()}


@dataclass
class Golden:
    """A golden file, the encoder loaded from weights drawn by its rule, and what it makes of the pixels."""

    expected: dict[str, np.ndarray]
    shapes: dict[str, tuple[int, ...]]
    encoder: panderm.Encoder
    features: torch.Tensor


def load_golden(name: str, folder: Path) -> Iterator[Golden]:
    size, form = name.split("_")
    with np.load(GOLDEN / f"{name}.npz") as file:
        expected = dict(file)
    seed = int(expected["seed"])
    shapes = layout(*SIZES[size], form, classes=6 if form == "ft" else 1000)
    state = state_of(shapes, seed)
    if size == "large":
        state = {f"encoder.{name}": value for name, value in state.items() if not name.startswith("head.")}
        state |= pretraining_leftovers(1024)
        assert len(state) == 458
    weights = folder / f"{name}.pth"
    torch.save(state, weights)
    del state
    try:
        encoder = panderm.load_encoder(
            f"panderm-{size}", weights=weights, pool="mean" if form == "ft" else None, device="cpu"
        )
    finally:
        weights.unlink()
    yield Golden(expected, shapes, encoder, encoder.encode(pixels(int(expected["images"]), seed)))


# Large is the same code at another width and depth (test_large_is_laid_out_as_published below).
@pytest.fixture(
    scope="module", params=["base_lp", "base_ft", pytest.param("large_lp", marks=pytest.mark.slow)]
)
def golden(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Golden]:
    yield from load_golden(request.param, tmp_path_factory.mktemp(request.param))


def test_features_are_those_of_the_published_model(golden: Golden) -> None:
    expected = torch.from_numpy(golden.expected["features"])
    assert golden.features.shape == expected.shape
    torch.testing.assert_close(golden.features, expected, rtol=0, atol=FEATURE_TOLERANCE)


def test_logits_follow_from_the_features(golden: Golden) -> None:
    seed, logits = int(golden.expected["seed"]), torch.from_numpy(golden.expected["logits"])
    weight, bias = (drawn(name, golden.shapes[name], seed) for name in ("head.weight", "head.bias"))
    ours = golden.features @ weight.T[:, : logits.shape[1]] + bias[: logits.shape[1]]
    torch.testing.assert_close(ours, logits, rtol=0, atol=FEATURE_TOLERANCE)


def test_names_and_shapes_are_the_published_ones(golden: Golden) -> None:
    assert sorted(golden.shapes) == golden.expected["keys"].tolist()
    network = golden.encoder._network.state_dict()
    ours = {name: tuple(value.shape) for name, value in network.items()}
    beside = ("head.", "relative_position_index")  # a classifier, and what is computed
    assert ours == {k: v for k, v in golden.shapes.items() if not any(word in k for word in beside)}


def test_large_is_laid_out_as_published() -> None:
    """What makes it another network than base: names, shapes, heads and positions."""
    with np.load(GOLDEN / "large_lp.npz") as file:
        keys, positions = file["keys"].tolist(), torch.from_numpy(file["pos_embed"])
    width, depth, heads = SIZES["large"]
    shapes = layout(width, depth, heads, "lp", classes=1000)
    assert sorted(shapes) == keys
    network = build(find_card("panderm-large"), "cls")
    ours = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert ours == {name: shape for name, shape in shapes.items() if not name.startswith("head.")}
    assert len(network.blocks) == depth
    assert {block.attn.num_heads for block in network.blocks} == {heads}
    table = position_table(width, 14)[0, POSITION_ROWS]
    torch.testing.assert_close(table, positions, rtol=0, atol=POSITION_TOLERANCE)


def test_the_whole_file_is_accounted_for(golden: Golden) -> None:
    record = golden.encoder.record
    expected = {
        ("panderm-base", "cls"): "186 tensors used; 2 dropped (classifier)",
        (
            "panderm-base",
            "mean",
        ): "198 tensors used; 2 dropped (classifier); 12 dropped (computed, not learned)",
        ("panderm-large", "cls"): (
            "366 tensors used; 88 dropped (pretraining regressor); 4 dropped (pretraining decoder)"
        ),
    }
    assert record.account == expected[record.name, record.pool]


def test_positions_are_the_published_ones(golden: Golden) -> None:
    table = golden.encoder._network.pos_embed[0]
    expected = torch.from_numpy(golden.expected["pos_embed"])
    torch.testing.assert_close(table[POSITION_ROWS], expected, rtol=0, atol=POSITION_TOLERANCE)


@pytest.mark.parametrize("size", ["base", "large"])
def test_positions_count_rows_first(size: str) -> None:
    dim = SIZES[size][0]
    table = position_table(dim, 14)
    torch.testing.assert_close(table, sine_cosine(dim), rtol=0, atol=POSITION_TOLERANCE)
    below, beside = table[0, 1 + 14 * 1 + 0], table[0, 1 + 14 * 0 + 1]
    assert below[0] == pytest.approx(0.8414710, abs=POSITION_TOLERANCE)
    assert below[dim // 2] == 0
    assert beside[0] == 0
    assert beside[dim // 2] == pytest.approx(0.8414710, abs=POSITION_TOLERANCE)
    assert (table[0, 0] == 0).all()


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_the_package_draws_by_the_same_rule(pool: str) -> None:
    network = build(find_card("random-tiny"), pool)
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    state = draw_weights(shapes, seed=3)
    assert state.keys() == shapes.keys()
    for name, value in state.items():
        expected = sine_cosine(192) if name == "pos_embed" else drawn(name, tuple(shapes[name]), 3)
        torch.testing.assert_close(value, expected, rtol=0, atol=POSITION_TOLERANCE)


def test_relative_positions_are_the_published_ones() -> None:
    network = build(find_card("panderm-base"), "mean")
    for block in network.blocks:
        assert torch.equal(block.attn.relative_position_index, relative_index())
