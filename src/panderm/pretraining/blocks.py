"""The encoder's transformer block, and what it shares with the regressor's: attention, MLP, residuals."""

from __future__ import annotations

import torch
from torch import nn

EPS = 1e-6  # of every LayerNorm


class Attention(nn.Module):
    """Multi-head self-attention: one product makes q, k and v; q and v have a bias, k has none.

    A bias on the keys adds the same to all scores of a query, which softmax does not see.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_bias = nn.Parameter(torch.empty(dim))
        self.v_bias = nn.Parameter(torch.empty(dim))
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, n, dim = x.shape
        bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        qkv = nn.functional.linear(x, self.qkv.weight, bias).view(b, n, 3, self.heads, dim // self.heads)
        q, k, v = (each.transpose(1, 2) for each in qkv.unbind(2))
        mixed: torch.Tensor = nn.functional.scaled_dot_product_attention(q, k, v)
        made: torch.Tensor = self.proj(mixed.transpose(1, 2).reshape(b, n, dim))
        return made


class Mlp(nn.Module):
    """Linear, GELU, Linear; four times as wide inside."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.fc2(nn.functional.gelu(self.fc1(x)))
        return made


def add(
    x: torch.Tensor, branch: torch.Tensor, gamma: torch.Tensor, kept: torch.Tensor | None
) -> torch.Tensor:
    """Return x + kept · gamma · branch: a residual with its LayerScale and its stochastic depth.

    Args:
        x: (B, N, D).
        branch: (B, N, D).
        gamma: (D,), the LayerScale.
        kept: (B,), 0 where an image's branch is dropped and else 1 / (1 - rate); None keeps all.
    """
    scale = gamma if kept is None else kept[:, None, None] * gamma
    return torch.addcmul(x, branch.to(x.dtype), scale.to(x.dtype))


class Block(nn.Module):
    """A pre-norm block: x + γ₁ · attention(LN(x)), then x + γ₂ · MLP(LN(x))."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=EPS)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=EPS)
        self.mlp = Mlp(dim)
        self.gamma_1 = nn.Parameter(torch.empty(dim))
        self.gamma_2 = nn.Parameter(torch.empty(dim))

    def forward(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Return (B, N, D) tokens of the same.

        Args:
            x: (B, N, D).
            kept: (2, B), stochastic depth of the two branches; None keeps all.
        """
        first, second = (None, None) if kept is None else (kept[0], kept[1])
        x = add(x, self.attn(self.norm1(x)), self.gamma_1, first)
        return add(x, self.mlp(self.norm2(x)), self.gamma_2, second)
