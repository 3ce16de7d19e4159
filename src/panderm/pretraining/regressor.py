"""The regressor: from what the student saw to what it did not, by cross-attention."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from panderm.pretraining.blocks import EPS, Mlp, add

PUBLISHED_HEADS = 12  # of every published regressor, whatever its width


@dataclass(frozen=True)
class RegressorShape:
    """The form of a regressor.

    Attributes:
        dim: width of its tokens; where it is not the encoder's, a Linear and a LayerNorm go before it.
        depth: blocks.
        heads: of its cross-attention.
        head_dim: width of one; heads × head_dim need not be ``dim`` (12 × 85 = 1,020 for a width of 1,024 in
            the published code).
        layer_scale: where its γ start.
    """

    dim: int
    depth: int
    heads: int
    head_dim: int
    layer_scale: float = 0.1


class CrossAttention(nn.Module):
    """Multi-head attention of one sequence over another; q and v have a bias, k has none."""

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads, inner = heads, heads * head_dim
        self.q_bias = nn.Parameter(torch.empty(inner))
        self.v_bias = nn.Parameter(torch.empty(inner))
        self.q = nn.Linear(dim, inner, bias=False)
        self.k = nn.Linear(dim, inner, bias=False)
        self.v = nn.Linear(dim, inner, bias=False)
        self.proj = nn.Linear(inner, dim)

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        q = nn.functional.linear(query, self.q.weight, self.q_bias)
        k = nn.functional.linear(key, self.k.weight)
        v = nn.functional.linear(value, self.v.weight, self.v_bias)
        q, k, v = (each.view(*each.shape[:2], self.heads, -1).transpose(1, 2) for each in (q, k, v))
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        made: torch.Tensor = self.proj(mixed)
        return made


class RegressorBlock(nn.Module):
    """One step of the mask stream z over the visible patches' latents v, with their positions p.

    z ← z + γ₁ · attention(LN_q(z + p_z), LN_k([v, z] + [p_v, p_z]), LN_v([v, z])); then z ← LN(z), from which
    the residual goes on, and z ← z + γ₂ · MLP(z). The names end in ``_cross`` in the published files.
    """

    def __init__(self, shape: RegressorShape) -> None:
        super().__init__()
        self.norm1_q = nn.LayerNorm(shape.dim, eps=EPS)
        self.norm1_k = nn.LayerNorm(shape.dim, eps=EPS)
        self.norm1_v = nn.LayerNorm(shape.dim, eps=EPS)
        self.cross_attn = CrossAttention(shape.dim, shape.heads, shape.head_dim)
        self.norm2_cross = nn.LayerNorm(shape.dim, eps=EPS)
        self.mlp_cross = Mlp(shape.dim)
        self.gamma_1_cross = nn.Parameter(torch.empty(shape.dim))
        self.gamma_2_cross = nn.Parameter(torch.empty(shape.dim))

    def forward(
        self,
        z: torch.Tensor,
        visible: torch.Tensor,
        placed: torch.Tensor,
        positions: torch.Tensor,
    ) -> torch.Tensor:
        """Return the next mask stream.

        Args:
            z: mask stream, (B, M, D).
            visible: latents of the visible patches, (B, V, D).
            placed: the same with their positions added.
            positions: of the masked patches, (B, M, D).
        """
        query = z + positions
        key = self.norm1_k(torch.cat((placed, query), dim=1))
        value = self.norm1_v(torch.cat((visible, z), dim=1))
        z = add(z, self.cross_attn(self.norm1_q(query), key, value), self.gamma_1_cross, None)
        z = self.norm2_cross(z)
        return add(z, self.mlp_cross(z), self.gamma_2_cross, None)


class Regressor(nn.Module):
    """The latents of masked patches from those of visible ones: blocks that update only the mask stream.

    ``norm`` stands in the published files and is used by nothing; it stays as it is, without a gradient.
    """

    def __init__(self, shape: RegressorShape) -> None:
        super().__init__()
        self.regressor_blocks = nn.ModuleList(RegressorBlock(shape) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.dim, eps=EPS).requires_grad_(requires_grad=False)
        self.checkpointed = False

    def forward(
        self,
        queries: torch.Tensor,
        visible: torch.Tensor,
        masked_positions: torch.Tensor,
        visible_positions: torch.Tensor,
    ) -> torch.Tensor:
        """Return the latents of the masked patches, (B, M, D).

        Args:
            queries: where the mask stream starts, (B, M, D).
            visible: latents of the visible patches, without CLS, (B, V, D).
            masked_positions: (B, M, D).
            visible_positions: (B, V, D).
        """
        placed = visible + visible_positions
        z = queries
        for block in self.regressor_blocks:
            if self.checkpointed and torch.is_grad_enabled():
                z = checkpoint(block, z, visible, placed, masked_positions, use_reentrant=False)
            else:
                z = block(z, visible, placed, masked_positions)
        return z
