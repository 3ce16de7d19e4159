"""PanDerm's layout on timm's ``Beit``: build it, fit published weights to it, draw weights for it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.interpolate import RectBivariateSpline
from scipy.optimize import brentq
from timm.layers import gen_relative_position_index, resample_abs_pos_embed
from timm.models.beit import Beit

from panderm.errors import WeightsError
from panderm.models.cards import PATCH, EncoderCard, Pool
from panderm.models.layouts import from_timm, image_tower
from panderm.weights.account import Account, rename_published

TIMM_POOL = {"cls": "token", "mean": "avg"}
# The fixed table stored as float16 is off by 5e-4; another table is off by about 1.
_POSITION_TOLERANCE = 1e-3
_PUBLISHED_SIDE = 14  # patches a side of 224 pixels
_TABLE = "relative_position_bias_table"


def build(card: EncoderCard, pool: Pool | None) -> Any:
    """Build the network of a card in PanDerm's layout, without a classifier, its weights on no device yet.

    Args:
        card: which encoder, at which input size.
        pool: ``cls`` for the linear-probe form (final norm, CLS token), ``mean`` for the fine-tuning form
            (mean of patch tokens, then ``fc_norm``; relative-position tables in every block).
    """
    pool = pool or card.pool or "cls"
    fine_tuning = pool == "mean" and not card.double_norm
    network: Any = Beit(
        device="meta",  # 300 million numbers need not be drawn to be overwritten
        img_size=card.image_size,
        patch_size=PATCH,
        num_classes=0,
        global_pool=TIMM_POOL[pool],
        embed_dim=card.dim or 0,
        depth=card.depth,
        num_heads=card.heads,
        init_values=0.1,
        use_abs_pos_emb=True,
        use_rel_pos_bias=fine_tuning,
        norm_layer=_LayerNorm,
    )
    if card.double_norm and pool == "mean":
        network.norm = _LayerNorm(card.dim or 0, device="meta")
    for block in network.blocks:
        block.attn.k_bias = torch.zeros(card.dim or 0)
        if fine_tuning:
            block.attn.relative_position_index = gen_relative_position_index(
                network.patch_embed.grid_size, class_token=True
            )
    return network


class _LayerNorm(torch.nn.LayerNorm):
    def __init__(self, dim: int, **options: Any) -> None:
        super().__init__(dim, eps=1e-6, **options)


def adapt(
    state: dict[str, torch.Tensor],
    network: Any,
    card: EncoderCard,
    account: Account,
    path: Path,
) -> dict[str, torch.Tensor]:
    """Rename a file's tensors to the network's names; resample position tables to its input size.

    Raises:
        WeightsError: a file in the fine-tuning form for a network in the other, or a position table that is
            not the fixed one.
    """
    expected = network.state_dict()
    state = from_timm(rename_published(image_tower(state, account), account), account)
    tables = [key for key in expected if key.endswith(_TABLE)]
    fine_tuned = any(key.startswith("fc_norm.") or key.endswith(_TABLE) for key in state)
    twice = card.double_norm and "fc_norm.weight" in expected
    if fine_tuned and not tables and not twice:
        raise WeightsError(
            "weights in the fine-tuning form must be loaded in that form.",
            f"{path} holds fc_norm or relative-position tables, which pool='cls' would leave out",
            f'panderm.load_encoder("{card.name}", weights=…, pool="mean"), or --pool mean',
        )
    state = move_norm(state, expected, account)
    if twice and "fc_norm.weight" not in state:  # after fine-tuning the two differ
        state |= {f"fc_{key}": value for key, value in state.items() if key.startswith("norm.")}
        account.notes.append("norm used before the mean and after it")
    if tables and not any(key in state for key in tables):
        for key in tables:
            state[key] = torch.zeros(expected[key].shape)
        account.notes.append(f"{len(tables)} relative-position tables start at zero: the file has none")
    table = state.get("pos_embed")
    if table is not None and table.ndim == 3 and table.shape[-1] == card.dim:
        side = round(max(0, table.shape[1] - 1) ** 0.5)
        if side * side + 1 == table.shape[1]:
            if table.device.type != "meta":
                _require_fixed_positions(table, side, path)
            state["pos_embed"] = _resize_positions(table, side, card.image_size // PATCH, account)
    _resize_relative(state, expected, tables, card.image_size // PATCH, account)
    return state


def move_norm(
    state: dict[str, torch.Tensor], expected: Mapping[str, torch.Tensor], account: Account
) -> dict[str, torch.Tensor]:
    """Use the final norm as ``fc_norm`` where patch tokens are averaged first."""
    if "fc_norm.weight" in expected and "norm.weight" not in expected and "fc_norm.weight" not in state:
        moved = {("fc_" + key if key.startswith("norm.") else key): value for key, value in state.items()}
        if moved.keys() != state.keys():
            account.notes.append("norm used as fc_norm")
        return moved
    return state


def _require_fixed_positions(table: torch.Tensor, side: int, path: Path) -> None:
    fixed = [position_table(table.shape[-1], side)]
    if side != _PUBLISHED_SIDE:  # fine-tuned at another size: the published table, stretched
        fixed.append(_stretched(position_table(table.shape[-1], _PUBLISHED_SIDE), _PUBLISHED_SIDE, side))
    off = min(float((table.float() - one).abs().max()) for one in fixed)
    if not off <= _POSITION_TOLERANCE:
        raise WeightsError(
            "the position table of PanDerm weights must be the fixed sine-cosine one.",
            f"{path}: pos_embed differs from it by up to {off:.3g}",
            "these weights are of another model, or their table was overwritten",
        )


def _resize_positions(table: torch.Tensor, old: int, new: int, account: Account) -> torch.Tensor:
    """Resample the position table bicubically: what was learned at 14×14 is stretched, not extrapolated."""
    if old == new:
        return table
    account.notes.append(f"position table resampled from {old}×{old} to {new}×{new}, bicubic")
    return _stretched(table, old, new)


def _stretched(table: torch.Tensor, old: int, new: int) -> torch.Tensor:
    return torch.as_tensor(resample_abs_pos_embed(table.float(), [new, new], [old, old], 1, antialias=False))


def _resize_relative(
    state: dict[str, torch.Tensor],
    expected: Mapping[str, torch.Tensor],
    tables: list[str],
    side: int,
    account: Account,
) -> None:
    resized = 0
    for key in tables:
        have, want = state.get(key), expected[key]
        if have is None or have.ndim != 2 or have.shape == want.shape or have.shape[1] != want.shape[1]:
            continue
        old = round(max(0, have.shape[0] - 3) ** 0.5)
        if old * old + 3 != have.shape[0] or not old % 2:
            continue
        state[key] = (
            have.new_empty(want.shape) if have.device.type == "meta" else _stretch(have, 2 * side - 1)
        )
        resized += 1
    if resized:
        account.notes.append(f"{resized} relative-position tables resampled to {side}×{side}")


def _stretch(table: torch.Tensor, new: int) -> torch.Tensor:
    """Resample a table of relative positions ((2s - 1)² + 3, heads) to ``new``² + 3 rows.

    A smaller grid needs only the nearer offsets, which stay as they are. For a larger one the old offsets are
    spread in a geometric progression, densest in the middle, so that what is near keeps its bias, and a cubic
    spline fills in (the rule of BEiT, Bao et al. 2022). The last three rows, of the class token, are kept.
    """
    old = round((table.shape[0] - 3) ** 0.5)
    grid = table[:-3].double().reshape(old, old, -1)
    if new <= old:
        cut = (old - new) // 2
        inner = grid[cut : cut + new, cut : cut + new]
    else:
        steps, reach = old // 2, new // 2
        ratio = brentq(lambda q: sum(q**i for i in range(steps)) - reach, 1.0, float(reach))
        far = np.cumsum([ratio**i for i in range(steps)])
        at = np.concatenate([-far[::-1], [0.0], far])
        to = np.clip(np.arange(-reach, reach + 1), at[0], at[-1])
        heads = [RectBivariateSpline(at, at, plane.numpy())(to, to) for plane in grid.unbind(-1)]
        inner = torch.from_numpy(np.stack(heads, axis=-1))
    return torch.cat([inner.reshape(new * new, -1).float(), table[-3:].float()])


def emptied(network: Any) -> Any:
    """Take the weights out of a network that its library has drawn: they are about to be replaced.

    What is computed and not stored in a weights file (buffers that are not persistent) keeps its values.
    """
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, torch.nn.Parameter(parameter.to("meta"), requires_grad=False))
        for name, buffer in list(module.named_buffers(recurse=False)):
            if name not in module._non_persistent_buffers_set:
                setattr(module, name, buffer.to("meta"))
    return network


def pool_of(network: torch.nn.Module) -> str:
    """Say how a network pools: ``cls``, ``mean``, or its library's word for another way."""
    ways = {way: pool for pool, way in TIMM_POOL.items()}
    way = getattr(network, "global_pool", None)
    way = getattr(way, "pool_type", way)  # a module, in convolutional networks
    return ways.get(way, way) if way and isinstance(way, str) else "timm"


def position_table(dim: int, side: int) -> torch.Tensor:
    """Return the fixed sine-cosine position table, float32 (1, 1 + side², dim); the CLS row is zero.

    The token at row r and column c holds [sin(r·ω), cos(r·ω), sin(c·ω), cos(c·ω)] with
    ω_k = 10000^(-k/q), k = 0 … q-1, q = dim / 4: rows first, as in the released weights.
    """
    quarter = dim // 4
    omega = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    angle = torch.arange(side, dtype=torch.float64)[:, None] * omega
    row = angle.repeat_interleave(side, dim=0)
    column = angle.repeat(side, 1)
    tokens = torch.cat([row.sin(), row.cos(), column.sin(), column.cos()], dim=1)
    return torch.cat([torch.zeros(1, dim, dtype=torch.float64), tokens])[None].float()


def draw_weight(name: str, shape: torch.Size, seed: int) -> torch.Tensor:
    """Draw one tensor of a network from its name and a seed: the same numbers on every machine.

    Norm weights are 1 + 0.1 x, layer scales 0.1 + 0.05 x, biases 0.1 x, all others 0.04 x, x standard
    normal.
    """
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) ^ seed)
    x = torch.randn(shape, generator=generator)
    if name.endswith(("norm1.weight", "norm2.weight", "norm.weight")):
        return 1 + 0.1 * x
    if "gamma_" in name:
        return 0.1 + 0.05 * x
    if name.endswith(("bias", "relative_position_bias_table")):
        return 0.1 * x
    return 0.04 * x


def draw_weights(shapes: Mapping[str, torch.Size], seed: int) -> dict[str, torch.Tensor]:
    """Draw a whole state dict of PanDerm's layout; ``pos_embed`` is the fixed table."""
    state = {name: draw_weight(name, shape, seed) for name, shape in shapes.items() if name != "pos_embed"}
    if "pos_embed" in shapes:
        _, tokens, dim = shapes["pos_embed"]
        state["pos_embed"] = position_table(dim, round((tokens - 1) ** 0.5))
    return state
