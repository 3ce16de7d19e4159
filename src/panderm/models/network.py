"""The networks: PanDerm's layout on timm's ``Beit``, and timm's own."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, Literal

import timm
import torch
from timm.layers import gen_relative_position_index
from timm.models.beit import Beit

from panderm.errors import UsageError
from panderm.models.cards import EncoderCard

Pool = Literal["cls", "mean"]
_TIMM_POOL = {"cls": "token", "mean": "avg"}


def build_network(card: EncoderCard, pool: Pool | None) -> Any:
    """Build the network of a card, without a classifier, weights not yet loaded.

    Args:
        card: which encoder.
        pool: ``cls`` for the linear-probe form (final norm, CLS token), ``mean`` for the fine-tuning form
            (mean of patch tokens, then ``fc_norm``; relative-position tables in every block).

    Raises:
        UsageError: this network cannot pool that way or take that input size.
    """
    if card.timm_name is not None:
        return _timm_network(card.timm_name, card.image_size, pool)
    fine_tuning = pool == "mean"
    network: Any = Beit(
        device="meta",  # 300 million numbers need not be drawn to be overwritten
        img_size=card.image_size,
        patch_size=16,
        num_classes=0,
        global_pool=_TIMM_POOL[pool or "cls"],
        embed_dim=card.dim or 0,
        depth=card.depth,
        num_heads=card.heads,
        init_values=0.1,
        use_abs_pos_emb=True,
        use_rel_pos_bias=fine_tuning,
        norm_layer=_LayerNorm,
    )
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


def _timm_network(name: str, image_size: int, pool: Pool | None) -> Any:
    options: dict[str, Any] = {} if pool is None else {"global_pool": _TIMM_POOL[pool]}
    try:
        # timm draws weights, which the file's will replace: not from the caller's random numbers.
        with torch.random.fork_rng(devices=[]):
            try:
                return timm.create_model(
                    name, pretrained=False, num_classes=0, img_size=image_size, **options
                )
            except TypeError:
                # Convolutional networks have no position table, hence no img_size: any size will do.
                return timm.create_model(name, pretrained=False, num_classes=0, **options)
    except (AssertionError, TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"timm:{name} must be able to take {image_size} pixels and pool {pool or 'its own way'}.",
            str(error) or type(error).__name__,
            "choose another --image-size, or leave --image-size and --pool out",
        ) from None


def pool_of(network: torch.nn.Module) -> str:
    """Say how a network pools: ``cls``, ``mean``, or timm's word for another way."""
    ways = {way: pool for pool, way in _TIMM_POOL.items()}
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
